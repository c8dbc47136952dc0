"""The train step of stage 3: first the reference, then the pair beside it.

Both earlier stages are frozen and run inside the step, so that it is trained on what it will mend.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from vidpred_jax.config import Optimizer, SharpeningLoss
from vidpred_jax.data import fusion
from vidpred_jax.inference import rollout
from vidpred_jax.metrics import similarity
from vidpred_jax.models import accompanying, losses
from vidpred_jax.models.accompanying import Translated
from vidpred_jax.training import forward
from vidpred_jax.training.state import TrainState, ema_rate, has_updated, make_optimizer


def make_translate(system, *, targets_per_clip, predicted_fraction=1.0):
    """`(frozen, batch, key, axis_name) -> Translated`, at `targets_per_clip` random steps of each clip.

    system: of stages 1 and 2. frozen: its `variables`. With probability `predicted_fraction` a clip's maps
    are stage 1's own rollout, else the true ones.
    """
    context, form, translator = system.context, system.form, system.translate

    def translate(frozen, batch, key, axis_name=None):
        frames, maps = fusion.to_float(batch["frames"]), form.encode(batch[form.field])
        horizon = frames.shape[1] - context
        keys = forward.example_keys(key, len(frames), axis_name)
        forecast, _ = forward.proposals_of(system, frozen, batch, 0.0, keys)
        observed, shown = maps[:, :context], maps[:, context:]
        if predicted_fraction:
            params = frozen["predict"]["params"]
            rolled = rollout.roll_maps(system.predict, params, observed, horizon, forecast)
            use = jax.vmap(lambda k: jax.random.bernoulli(k, predicted_fraction))(keys)
            shown = jnp.where(use[:, None, None, None, None], rolled, shown)
        at = forward.draw_steps(keys, batch["length"] - context, horizon, targets_per_clip)
        pick = jax.vmap(lambda video, i: video[i])
        shown, target, ahead = pick(shown, at), pick(frames[:, context:], at), at + 1.0
        seen = rollout.references(frames[:, :context], observed, translator.reference_frames)
        found = translator.translate(frozen["translate"], shown, seen, ahead, forecast(ahead))
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        parts = map(flat, (found, form.render(shown), ahead, target))
        return jax.lax.stop_gradient(Translated(*parts))

    return translate


def make_update(stack, optimizers, loss, *, reference_steps: int, ema_decay=0.99):
    """`(state, translated, axis_name) -> (state, metrics)`: one update of p, or of a and b.

    The first `reference_steps` steps train p, the rest the pair.
    optimizers: {stack: optax transformation}. loss: of `make_loss`.
    """

    def level_losses(found, target, scale):
        pred, target = (accompanying.at_scale(x, scale) for x in (found, target))
        return loss(pred, target)

    def reference_loss(params, x: Translated):
        found = stack.apply({"params": params["p"]}, x.frame, x.fusion, x.steps_ahead)
        parts = [level_losses(f, x.target, s).mean() for f, s in zip(found, stack.scales, strict=True)]
        return sum(parts) / len(parts), {"behind": jnp.ones(()), "psnr": _psnr(found[-1], x)}

    def pair_loss(params, x: Translated):
        passes = accompanying.run_pair(stack, params, x.frame, x.fusion, x.steps_ahead, x.target)
        total = 0.0
        for done, scale in zip(passes, stack.scales, strict=True):
            share = accompanying.pair_weights(done["quality"])
            for name in ("a", "b"):
                total += (share * level_losses(done["frames"][name], x.target, scale)).mean()
        share = jnp.stack([accompanying.behind(done["quality"]).mean() for done in passes]).mean()
        psnr = _psnr(passes[-1]["passed"], x)
        return total / (2 * len(passes)), {"behind": share, "psnr": psnr}

    def update(state, x: Translated, axis_name=None):
        params, start = state.params["g"], state.step == reference_steps
        begun = accompanying.start_pair(params)
        params = jax.tree.map(functools.partial(jnp.where, start), begun, params)
        gradient = lambda f: jax.value_and_grad(f, has_aux=True)
        first = state.step < reference_steps
        # One branch is computed; the gradient of what it does not train is zero.
        losses_of = gradient(reference_loss), gradient(pair_loss)
        (value, metrics), grads = jax.lax.cond(first, *losses_of, params, x)
        metrics = {"loss": value, **metrics}
        if axis_name:
            grads, metrics = jax.lax.pmean((grads, metrics), axis_name)
        metrics["grad_norm"] = optax.global_norm(grads)
        new, opt_state, updated = {}, {}, {}
        for name in params:
            updates, moved = optimizers[name].update(grads[name], state.opt_state["g"][name], params[name])
            trained = first if name == "p" else ~first
            keep = functools.partial(jax.tree.map, functools.partial(jnp.where, trained))
            new[name] = keep(optax.apply_updates(params[name], updates), params[name])
            opt_state[name] = keep(moved, state.opt_state["g"][name])
            updated[name] = has_updated(moved)
        metrics["param_norm"] = optax.global_norm(new)
        # The averages of the pair begin with it.
        average = jax.tree.map(functools.partial(jnp.where, start), params, state.ema)
        updated = jnp.where(first, updated["p"], updated["a"])  # b's are a's.
        rate = jnp.where(updated, 1 - ema_rate(state.updates, ema_decay), 0.0)
        state = state.replace(
            step=state.step + 1,
            params={**state.params, "g": new},
            opt_state={**state.opt_state, "g": opt_state},
            ema=optax.incremental_update(new, average, rate),
            updates=state.updates + updated,
        )
        return state, metrics

    return update


def _psnr(pred, x: Translated):
    return accompanying.level_psnr(pred, x.target, 1).mean()


def make_train_step(translate, update, *, seed=0):
    """A step `(state, batch, *, axis_name=None) -> (state, metrics)` on one device."""

    def step(state, batch, *, axis_name=None):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        return update(state, translate(state.frozen, batch, key, axis_name), axis_name)

    return step


def make_loss(weights: SharpeningLoss):
    """Weighted L1, 1 - SSIM and local sharpness: `(pred, target) -> (n,)`.

    Without SSIM at scales where pictures are smaller than its window.
    """

    def loss(pred, target):
        found = weights.l1 * losses.l1(pred, target)
        if weights.ssim and min(pred.shape[1:3]) >= len(similarity.GAUSSIAN):
            found += weights.ssim * losses.ssim_loss(pred, target)
        if weights.sharpness:
            found += weights.sharpness * losses.sharpness(pred, target)
        return found

    return loss


def make_training(key, stack, size, *, loss, optimizer, num_steps, reference_steps, ema_decay, frozen=None):
    """(a fresh TrainState, its update as of `make_update`).

    loss, optimizer: those groups of a config. frozen: for `make_translate`.
    """
    frame, ahead = jnp.zeros((1, *size, 3)), jnp.ones(1)
    names, make = accompanying.STACKS, jax.jit(stack.init)
    keys = jax.random.split(key, len(names))
    params = {n: make(k, frame, frame, ahead)["params"] for n, k in zip(names, keys, strict=True)}
    lengths = {n: reference_steps if n == "p" else num_steps - reference_steps for n in names}
    optimizers = {n: make_optimizer(Optimizer(**optimizer), max(k, 1)) for n, k in lengths.items()}
    first = TrainState(
        step=jnp.zeros((), jnp.int32),
        params={"g": params, "d": {}},
        batch_stats={"g": {}, "d": {}},
        opt_state={"g": {n: optimizers[n].init(params[n]) for n in names}, "d": {}},
        ema=jax.tree.map(jnp.copy, params),
        frozen=frozen if frozen is not None else {},
        updates=jnp.zeros((), jnp.int32),
    )
    loss = make_loss(SharpeningLoss(**loss))
    update = make_update(stack, optimizers, loss, reference_steps=reference_steps, ema_decay=ema_decay)
    return first, update
