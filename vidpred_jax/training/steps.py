"""One-device train steps. Both stages are the same step around another forward pass.

A forward pass is `forward(g_params, state, batch, key, axis_name) -> Forward`. Random choices are
drawn per example from its global number, so the number of devices does not change them; dropout
alone draws per device.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from vidpred_jax.data import fusion
from vidpred_jax.inference import rollout
from vidpred_jax.training import losses, parallel
from vidpred_jax.training.state import ema_rate, has_updated

GAN_LOSSES = {
    "bce": (losses.bce_d, losses.bce_g),
    "hinge": (losses.hinge_d, losses.hinge_g),
    "lsgan": (losses.lsgan_d, losses.lsgan_g),
}


@struct.dataclass
class Forward:
    """pred, target, condition: (n, [t], h, w, c) in [-1, 1], the last as the discriminator's input.

    trajectory: (n,), a loss of its own for parameters that get no gradient from pred, or None.
    """

    pred: Any
    target: Any
    condition: Any
    batch_stats: Any
    trajectory: Any = None


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Generator's loss: l1 * L1 + psnr * (-PSNR / 10 dB) + ssim * (1 - SSIM) + adversarial * GAN loss
    of kind `gan` + matching * L1 between the discriminator's features of both frames + trajectory * the
    error of extrapolated object positions, where a network tracks objects.
    """

    l1: float = 1.0
    psnr: float = 0.0
    ssim: float = 0.0
    adversarial: float = 0.0
    matching: float = 0.0
    trajectory: float = 0.1
    gan: str = "bce"

    def __post_init__(self):
        if self.gan not in GAN_LOSSES:
            raise ValueError(f"loss.gan ({self.gan!r}) must be one of {tuple(GAN_LOSSES)}")
        if self.matching and not self.adversarial:
            raise ValueError(
                f"loss.matching ({self.matching}) needs loss.adversarial above 0: a discriminator"
            )


def example_keys(key, n, axis_name):
    """A key for each example of this device, by its global number."""
    numbers = parallel.first_example(n, axis_name) + jnp.arange(n)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)


def dropout_key(key, n, axis_name):
    """This device's key for dropout, no example's: `fold_in` is one-to-one, and those are below 2**31."""
    first = parallel.first_example(n, axis_name)
    return jax.random.fold_in(key, jnp.uint32(2**31) + jnp.uint32(first))


def draw_steps(keys, length, horizon: int, targets_per_clip: int, power: float = 0.0):
    """`targets_per_clip` distinct steps of each clip, from 0 (the first after the context): (b, targets).

    keys: of `example_keys`. length: (b,), how many of the `horizon` steps are the clip's, the rest
    repeats its last frame and is not drawn; `targets_per_clip` or more. Step k, from 1, is drawn in
    proportion to k ** -power.
    """
    steps = jnp.arange(horizon)
    chance = jnp.where(steps < length[:, None], (steps + 1.0) ** -power, 0.0)
    draw = lambda key, p: jax.random.choice(
        jax.random.fold_in(key, 1), horizon, (targets_per_clip,), replace=False, p=p
    )
    return jax.vmap(draw)(keys, chance)


def fusion_forward(model, max_unroll: int = 0, field: str = "fusion"):
    """Stage 1: 16 fusion pictures -> the same clip `shift` later (its last `outputs` frames).

    field: `frames` for a network that predicts those directly.

    max_unroll: each example first runs a random 0 to `max_unroll` steps on the model's own output,
    without gradient, so that the net learns to mend what it will be fed (pushforward; Brandstetter
    et al. 2022). batch[field]: uint8 (b, context + shift * (1 + max_unroll) or more, h, w, 3).
    """
    context, shift = model.context, model.shift

    def forward(g_params, state, batch, key, axis_name):
        video = fusion.to_float(batch[field])
        b = video.shape[0]
        window, done = video[:, :context], jnp.zeros(b, jnp.int32)
        if max_unroll:
            keys = example_keys(key, b, axis_name)
            done = jax.vmap(lambda k: jax.random.randint(k, (), 0, max_unroll + 1))(keys)
            predict = rollout.make_rollout(model, shift * max_unroll)
            fed = predict(jax.lax.stop_gradient(g_params), window)
            history = jnp.concatenate([window, fed], 1)
            newest = jax.vmap(lambda h, i: jax.lax.dynamic_slice_in_dim(h, i, context))
            window = jax.lax.stop_gradient(newest(history, shift * done))
        observed = model.observe(video[:, :context])
        memory = {} if observed is None else {"observed": observed, "frame_offset": shift * done}
        pred = model.apply({"params": g_params}, window, **memory)
        first = shift * (1 + done) + context - model.outputs
        target = jax.vmap(lambda v, i: jax.lax.dynamic_slice_in_dim(v, i, model.outputs))(
            video, first
        )
        condition = jnp.broadcast_to(window[:, -1:], target.shape)
        trajectory = None
        if observed is not None:
            trajectory = model.trajectory_error(g_params, observed, video[:, context:])
        return Forward(pred, target, condition, state.batch_stats["g"], trajectory)

    return forward


def translator_forward(
    model,
    *,
    context=16,
    targets_per_clip=4,
    step_sampling_power=1.0,
    predictor=None,
    predicted_fraction=0.0,
    quantize_labels=0,
):
    """Stage 2: fusion pictures at `targets_per_clip` random steps after the context -> their RGB frames.

    Step k is drawn in proportion to k ** -step_sampling_power, up to the clip's last frame. The
    references are the last `model.reference_frames` frames of the context. With probability
    `predicted_fraction` a clip's fusion pictures are the stage-1 network's own rollout
    (`predictor`, with the parameters `state.frozen`), as at prediction; else they are the true ones.
    """

    def forward(g_params, state, batch, key, axis_name):
        frames, pictures = fusion.to_float(batch["frames"]), fusion.to_float(batch["fusion"])
        b, t = frames.shape[:2]
        keys = example_keys(key, b, axis_name)
        # Near steps more often: their errors are small, and so is their share of the loss.
        steps = draw_steps(
            keys, batch["length"] - context, t - context, targets_per_clip, step_sampling_power
        )
        if predictor is not None and predicted_fraction:
            predict = rollout.make_rollout(predictor, t - context, quantize_labels=quantize_labels)
            predicted = predict(state.frozen, pictures[:, :context], needed=steps.max() + 1)
            predicted = jnp.concatenate([pictures[:, :context], predicted], 1)
            use = jax.vmap(lambda k: jax.random.bernoulli(k, predicted_fraction))(keys)
            shown = jnp.where(use[:, None, None, None, None], predicted, pictures)
            shown = jax.lax.stop_gradient(shown)
        else:
            shown = pictures
        steps += context
        pick = jax.vmap(lambda video, i: video[i])
        condition, target = pick(shown, steps), pick(frames, steps)
        seen = rollout.references(
            frames[:, :context], pictures[:, :context], model.reference_frames
        )
        pred, updated = model.apply(
            {"params": g_params, "batch_stats": state.batch_stats["g"]},
            condition,
            seen,
            steps - context + 1.0,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(key, b, axis_name)},
        )
        return Forward(pred, target, condition, updated.get("batch_stats", {}))

    return forward


def make_train_step(forward, discriminator, tx, weights: LossWeights, *, seed=0, ema_decay=0.999):
    """A step `(state, batch, *, axis_name=None) -> (state, metrics)`.

    Generator and discriminator are updated at once: one forward pass, one vjp, two cotangents. The
    moving average moves where `tx` moves the generator's parameters.
    """
    d_loss_fn, g_loss_fn = GAN_LOSSES[weights.gan]
    flat = lambda x: x.reshape(-1, *x.shape[-3:])

    def judge(d_params, state, out):
        """Per-example (g_loss, d_loss, matching) of one pass over real and predicted frames.

        Means over the scales of the discriminator.
        """
        pair = jnp.concatenate([flat(out.target), flat(out.pred)])
        condition = jnp.tile(flat(out.condition), (2, 1, 1, 1))
        scales, updated = discriminator.apply(
            {"params": d_params, "batch_stats": state.batch_stats["d"]},
            condition,
            pair,
            mutable=["batch_stats"],
            method="activations",
        )
        g_loss = d_loss = matching = 0.0
        for *features, logits in scales:
            real, fake = jnp.split(logits, 2)
            g_loss += g_loss_fn(fake) / len(scales)
            d_loss += d_loss_fn(real, fake) / len(scales)
            for feature in features:
                real, fake = jnp.split(feature.astype(jnp.float32), 2)
                matching += losses.l1(fake, real) / (len(features) * len(scales))
        return g_loss, d_loss, matching, updated.get("batch_stats", {})

    def step(state, batch, *, axis_name=None):
        """One update on one device; `axis_name=None` means alone."""
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_fn(g_params, d_params):
            out = forward(g_params, state, batch, key, axis_name)
            metrics = {"l1": losses.l1(out.pred, out.target).mean()}
            g_loss = weights.l1 * metrics["l1"]
            if weights.psnr:
                metrics["psnr"] = losses.psnr(out.pred, out.target).mean()
                g_loss -= weights.psnr * metrics["psnr"] / 10
            if weights.ssim:
                metrics["ssim_loss"] = losses.ssim_loss(out.pred, out.target).mean()
                g_loss += weights.ssim * metrics["ssim_loss"]
            d_loss, d_stats = jnp.zeros(()), state.batch_stats["d"]
            if out.trajectory is not None:
                metrics["trajectory"] = out.trajectory.mean()
                g_loss += weights.trajectory * metrics["trajectory"]
            if weights.adversarial:
                g_gan, d_gan, matching, d_stats = judge(d_params, state, out)
                metrics["g_gan"], metrics["d_loss"] = g_gan.mean(), d_gan.mean()
                g_loss += weights.adversarial * metrics["g_gan"]
                if weights.matching:
                    metrics["matching"] = matching.mean()
                    g_loss += weights.matching * metrics["matching"]
                d_loss = metrics["d_loss"]
            metrics["loss"] = g_loss
            return (g_loss, d_loss), (metrics, {"g": out.batch_stats, "d": d_stats})

        _, vjp, (metrics, batch_stats) = jax.vjp(
            loss_fn, state.params["g"], state.params["d"], has_aux=True
        )
        one, zero = jnp.ones(()), jnp.zeros(())
        grads = {"g": vjp((one, zero))[0], "d": vjp((zero, one))[1]}
        if axis_name:
            grads, metrics, batch_stats = jax.lax.pmean((grads, metrics, batch_stats), axis_name)
        metrics["grad_norm"] = optax.global_norm(grads["g"])
        params, opt_state = {}, {}
        for name in ("g", "d"):
            updates, opt_state[name] = tx.update(
                grads[name], state.opt_state[name], state.params[name]
            )
            params[name] = optax.apply_updates(state.params[name], updates)
        metrics["param_norm"] = optax.global_norm(params)  # Of what is saved: it must be finite.
        updated = has_updated(opt_state["g"])
        rate = jnp.where(updated, 1 - ema_rate(state.updates, ema_decay), 0.0)
        state = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=optax.incremental_update(params["g"], state.ema, rate),
            updates=state.updates + updated,
        )
        return state, metrics

    return step


def skip_nonfinite(step):
    """The step, but where a metric is not finite the state stays as it was, all but its number."""

    def guarded(state, batch, *, axis_name=None):
        new, metrics = step(state, batch, axis_name=axis_name)
        finite = jnp.stack([jnp.isfinite(value).all() for value in metrics.values()]).all()
        unchanged = state.replace(step=new.step)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, unchanged), metrics

    return guarded
