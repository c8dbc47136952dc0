"""The train step of one device, around the forward pass of any role."""

import functools

import jax
import jax.numpy as jnp
import optax

from vidpred_jax.config import Loss
from vidpred_jax.models import losses
from vidpred_jax.training.state import ema_rate, has_updated

GAN_LOSSES = {
    "bce": (losses.bce_d, losses.bce_g),
    "hinge": (losses.hinge_d, losses.hinge_g),
    "lsgan": (losses.lsgan_d, losses.lsgan_g),
}


def make_train_step(forward, discriminator, tx, weights: Loss, *, d_tx=None, seed=0, ema_decay=0.999):
    """A step `(state, batch, *, axis_name=None) -> (state, metrics)`.

    forward: a `ForwardPass`. tx, d_tx: optimizers of generator and discriminator; d_tx None: tx. Both are
    updated at once, after one forward pass. The moving average moves where `tx` moves the generator's
    parameters. Beside a discriminator the metrics hold `share_NAME`, each term's part of the norms of the
    weighted gradients at the generator's output.
    """
    d_loss_fn, g_loss_fn = GAN_LOSSES[weights.gan]
    optimizers = {"g": tx, "d": d_tx or tx}
    flat = lambda x: x.reshape(-1, *x.shape[-3:])
    gan_weights = {"g_gan": weights.adversarial, "matching": weights.matching}
    gan_weights = {name: weight for name, weight in gan_weights.items() if weight}

    def judge(d_params, output, state, out):
        """({name: mean} of what the discriminator finds in one pass over real and predicted frames, updated
        statistics). Means over its scales.
        """
        pair = jnp.concatenate([flat(out.target), flat(forward.show(output))])
        condition = jnp.tile(flat(out.condition), (2, 1, 1, 1))
        scales, updated = discriminator.apply(
            {"params": d_params, "batch_stats": state.batch_stats["d"]},
            condition,
            pair,
            mutable=["batch_stats"],
        )
        g_loss = d_loss = matching = 0.0
        for *features, logits in scales:
            real, fake = jnp.split(logits, 2)
            g_loss += g_loss_fn(fake) / len(scales)
            d_loss += d_loss_fn(real, fake) / len(scales)
            for feature in features:
                real, fake = jnp.split(feature.astype(jnp.float32), 2)
                matching += losses.l1(fake, real) / (len(features) * len(scales))
        found = {"g_gan": g_loss.mean(), "d_loss": d_loss.mean()}
        if weights.matching:
            found["matching"] = matching.mean()
        return found, updated.get("batch_stats", {})

    def step(state, batch, *, axis_name=None):
        """One update on one device; `axis_name=None` means alone."""
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def generate(g_params):
            out = forward.run(g_params, state, batch, key, axis_name)
            return (out.output, {n: x.mean() for n, x in out.terms.items()}), out

        (output, beside), pull, out = jax.vjp(generate, state.params["g"], has_aux=True)
        of_output = lambda x: {n: v.mean() for n, v in forward.terms(x, out.target).items()}
        metrics, pull_terms = jax.vjp(of_output, output)
        at_output = {n: pull_terms(_only(n, metrics, weights.terms))[0] for n in metrics}
        metrics, grads = {**metrics, **beside}, {"d": state.params["d"]}
        d_stats = state.batch_stats["d"]
        if weights.adversarial:
            given = functools.partial(judge, state=state, out=out)
            judged, pull_judged, d_stats = jax.vjp(given, state.params["d"], output, has_aux=True)
            grads["d"] = pull_judged(_only("d_loss", judged))[0]
            for name in gan_weights:
                at_output[name] = pull_judged(_only(name, judged, gan_weights))[1]
            metrics.update(judged)
        own = {name: jnp.asarray(weights.terms[name], x.dtype) for name, x in beside.items()}
        (grads["g"],) = pull((sum(at_output.values()), own))
        all_weights = {**weights.terms, **gan_weights}
        metrics["loss"] = sum(w * metrics[name] for name, w in all_weights.items() if name in metrics)
        squares = {n: jnp.square(x).sum() for n, x in at_output.items()}
        batch_stats = {"g": out.batch_stats, "d": d_stats}
        if axis_name:
            given = grads, metrics, batch_stats, squares
            grads, metrics, batch_stats, squares = jax.lax.pmean(given, axis_name)
        if weights.adversarial:
            norms = {name: jnp.sqrt(x) for name, x in squares.items()}
            total = sum(norms.values()) + 1e-12
            metrics.update({f"share_{name}": norm / total for name, norm in norms.items()})
        metrics["grad_norm"] = optax.global_norm(grads["g"])
        params, opt_state = {}, {}
        for name, optimizer in optimizers.items():
            updates, opt_state[name] = optimizer.update(
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


def _only(name, values, weights=None):
    """Cotangents that leave one of the values, at its weight."""
    weight = 1.0 if weights is None else weights.get(name, 0.0)
    return {n: jnp.full_like(x, weight if n == name else 0.0) for n, x in values.items()}


def skip_nonfinite(step):
    """The step, but where a metric is not finite the state stays as it was, all but its number."""

    def guarded(state, batch, *, axis_name=None):
        new, metrics = step(state, batch, axis_name=axis_name)
        finite = jnp.stack([jnp.isfinite(value).all() for value in metrics.values()]).all()
        unchanged = state.replace(step=new.step)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, unchanged), metrics

    return guarded
