"""The train step of one device, around the forward pass of any role."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from vidpred_jax.models import losses
from vidpred_jax.training.state import ema_rate, has_updated

GAN_LOSSES = {
    "bce": (losses.bce_d, losses.bce_g),
    "hinge": (losses.hinge_d, losses.hinge_g),
    "lsgan": (losses.lsgan_d, losses.lsgan_g),
}


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Generator's loss, the sum of its weighted terms. Of pictures: l1; psnr, which is -PSNR / 10 dB; ssim,
    which is 1 - SSIM. Of planes: edges and labels, cross-entropies in nats. adversarial: the GAN loss of
    kind `gan`; matching: L1 between the discriminator's features of both frames. trajectory: the error of
    extrapolated objects, where a proposal tracks them.
    """

    l1: float = 1.0
    psnr: float = 0.0
    ssim: float = 0.0
    edges: float = 1.0
    labels: float = 1.0
    adversarial: float = 0.0
    matching: float = 0.0
    trajectory: float = 0.0
    gan: str = "bce"

    def __post_init__(self):
        if self.gan not in GAN_LOSSES:
            raise ValueError(f"loss.gan ({self.gan!r}) must be one of {tuple(GAN_LOSSES)}")
        if self.matching and not self.adversarial:
            raise ValueError(
                f"loss.matching ({self.matching}) needs loss.adversarial above 0: a discriminator"
            )

    @property
    def terms(self) -> dict[str, float]:
        """The weights above 0 of the terms of `Forward`; L1 is always among them, to be logged."""
        names = ("psnr", "ssim", "edges", "labels", "trajectory")
        return {"l1": self.l1, **{name: w for name in names if (w := getattr(self, name))}}


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
            metrics = {name: term.mean() for name, term in out.terms.items()}
            g_loss = sum(weights.terms[name] * value for name, value in metrics.items())
            d_loss, d_stats = jnp.zeros(()), state.batch_stats["d"]
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
