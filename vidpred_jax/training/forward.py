"""The forward pass of each role on one device, as the train step takes it.

Random choices are drawn per example from its global number, so the number of devices does not change
them; dropout alone draws per device.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vidpred_jax.data import fusion
from vidpred_jax.inference import proposing, rollout
from vidpred_jax.models import losses
from vidpred_jax.training import parallel


@struct.dataclass
class Forward:
    """output, target, condition: (n, [t], h, w, c), of the generator, what it should be, and what it was
    given that the discriminator is given too. terms: (n,) each, losses that are not of the output alone.
    """

    output: Any
    target: Any
    condition: Any
    batch_stats: Any
    terms: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ForwardPass:
    """run: `(g_params, state, batch, key, axis_name) -> Forward`. terms: `(output, target) -> losses`, (n,)
    each by the names of `config.Loss`. show: of an output, what the discriminator is shown.
    """

    run: Callable
    terms: Callable
    show: Callable = lambda output: output


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


def proposal_forward(network, names, *, context, targets_per_clip=4, step_sampling_power=1.0, min_future):
    """A proposal's own forecast of `targets_per_clip` random steps after the context.

    names: of the terms of the loss. min_future: frames after the context that every clip has. batch: `frames`
    and `planes` of context and future.
    """

    def forward(g_params, state, batch, key, axis_name):
        frames = fusion.to_float(batch["frames"])
        keys = example_keys(key, len(frames), axis_name)
        length, horizon = batch["length"] - context, frames.shape[1] - context
        at = draw_steps(keys, length, horizon, targets_per_clip, step_sampling_power)
        window = proposing.window_of(batch, batch["frames"].shape[1])
        variables = {"params": g_params}
        seen = window.until(context)
        observed = network.apply(variables, seen, method="observe")
        found = network.apply(variables, observed, at + 1.0, method="propose")
        target, terms = jax.vmap(lambda video, i: video[i])(frames, at + context), {}
        if hasattr(network.module, "fit_error") and "trajectory" in names:
            future = jax.tree.map(lambda x: x[:, context : context + min_future], window)
            terms["trajectory"] = network.apply(variables, observed, future, method="fit_error")
        return Forward(found.frames, target, target, state.batch_stats["g"], terms)

    return ForwardPass(forward, functools.partial(losses.of_pictures, names=names))


def proposals_of(system, frozen, batch, dropout: float, keys):
    """(forecast, kept) of the clips of a batch: `(steps_ahead) -> forecasts` of the system's proposals, and
    for each clip whether it keeps them; None where there are none. With probability `dropout` it does not.
    """
    if not system.proposals:
        return lambda steps_ahead: {}, None
    window = proposing.window_of(batch, system.context)
    params = frozen["propose"]
    observed = jax.lax.stop_gradient(proposing.observe(system.proposals, params, window))
    forecast = lambda steps: proposing.propose(system.proposals, params, observed, steps)
    draw = lambda key: jax.random.bernoulli(jax.random.fold_in(key, 2), 1 - dropout)
    return forecast, jax.vmap(draw)(keys)


def predict_forward(network, system, names, *, max_unroll: int = 0, proposal_dropout: float = 0.0):
    """Stage 1: the observed maps -> the same maps `shift` later (the last `outputs` of them).

    names: of the terms of the loss. max_unroll: each example first runs a random 0 to `max_unroll` steps on
    the model's own output, without gradient, so that the net learns to mend what it will be fed
    (pushforward; Brandstetter et al. 2022). batch: the array of the maps' form, uint8 (b, context +
    shift * (1 + max_unroll) or more, h, w, c), and what proposals observe. proposal_dropout: see
    `proposals_of`.
    """
    context, shift, form, outputs = (network.context, network.shift, network.form, network.module.outputs)

    def forward(g_params, state, batch, key, axis_name):
        video = form.encode(batch[form.field])
        b = video.shape[0]
        keys = example_keys(key, b, axis_name)
        forecast, kept = proposals_of(system, state.frozen, batch, proposal_dropout, keys)
        window, done = video[:, :context], jnp.zeros(b, jnp.int32)
        if max_unroll:
            done = jax.vmap(lambda k: jax.random.randint(k, (), 0, max_unroll + 1))(keys)
            fed = rollout.roll_maps(
                network, jax.lax.stop_gradient(g_params), window, shift * max_unroll, forecast, kept
            )
            history = jnp.concatenate([window, fed], 1)
            newest = jax.vmap(lambda h, i: jax.lax.dynamic_slice_in_dim(h, i, context))
            window = jax.lax.stop_gradient(newest(history, shift * done))
        steps_ahead = shift * done[:, None] + jnp.arange(1.0, shift + 1)
        raw = network.raw_maps(g_params, window, forecast(steps_ahead), kept)
        first = shift * (1 + done) + context - outputs
        target = jax.vmap(lambda v, i: jax.lax.dynamic_slice_in_dim(v, i, outputs))(video, first)
        condition = jnp.broadcast_to(window[:, -1:], target.shape)
        return Forward(raw, target, condition, state.batch_stats["g"])

    based = bool(system.proposals)
    terms = functools.partial(form.losses, names=names, based=based)
    return ForwardPass(forward, terms, functools.partial(form.activate, based=based))


def translate_forward(
    network,
    system,
    names,
    *,
    targets_per_clip=4,
    step_sampling_power=1.0,
    predicted_fraction=0.0,
    proposal_dropout=0.0,
):
    """Stage 2: maps at `targets_per_clip` random steps after the context -> their RGB frames.

    With probability `predicted_fraction` a clip's maps are those of prediction, the stage-1 network's own
    rollout or without one the proposals'; else they are the true ones. names: of the terms of the loss.
    step_sampling_power: see `draw_steps`. proposal_dropout: see `proposals_of`.
    """
    context, form = network.context, network.form

    def forward(g_params, state, batch, key, axis_name):
        frames, true_maps = fusion.to_float(batch["frames"]), form.encode(batch[form.field])
        b, t = frames.shape[:2]
        keys = example_keys(key, b, axis_name)
        # Near steps more often: their errors are small, and so is their share of the loss.
        steps = draw_steps(
            keys, batch["length"] - context, t - context, targets_per_clip, step_sampling_power
        )
        forecast, kept = proposals_of(system, state.frozen, batch, proposal_dropout, keys)
        shown, observed = true_maps, true_maps[:, :context]
        use = jax.vmap(lambda k: jax.random.bernoulli(k, predicted_fraction))(keys)
        use = use[:, None, None, None, None]
        if system.predict is not None and predicted_fraction:
            predicted = rollout.roll_maps(
                system.predict,
                state.frozen["predict"]["params"],
                observed,
                t - context,
                forecast,
                kept,
                needed=steps.max() + 1,
            )
            predicted = jnp.concatenate([observed, predicted], 1)
            shown = jax.lax.stop_gradient(jnp.where(use, predicted, true_maps))
        pick = jax.vmap(lambda video, i: video[i])
        condition, target = pick(shown, steps + context), pick(frames, steps + context)
        forecasts = forecast(steps + 1.0)
        if system.predict is None and forecasts:
            condition = jnp.where(use, proposing.proposed_maps(form, forecasts), condition)
        seen = rollout.references(frames[:, :context], observed, network.reference_frames)
        raw, updated = network.raw_frames(
            {"params": g_params, "batch_stats": state.batch_stats["g"]},
            condition,
            seen,
            steps + 1.0,
            forecasts,
            kept,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(key, b, axis_name)},
        )
        # Beyond the range of frames, a clipped sum would get no gradient.
        pred = jnp.tanh(raw) if network.squash else raw
        return Forward(pred, target, condition, updated.get("batch_stats", {}))

    return ForwardPass(forward, functools.partial(losses.of_pictures, names=names))
