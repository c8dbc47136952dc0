"""Prediction of any horizon: a network fed with its own output, inside one loop."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def roll(
    advance: Callable, keep: Callable, clip: jax.Array | None, shift: int, horizon: int, needed=None
) -> Any:
    """What is kept of `horizon` steps, `shift` of them at each call; b and t are its first axes.

    advance: `(window, call) -> (new maps (b, shift, ...), others)`. keep: `(new maps, others, call) -> tree
    of (b, shift, ...)`. clip: the observed maps (b, t, ...), on which the window moves on; None where
    nothing is fed back. needed: how many steps are wanted (None: all); those of later calls stay 0.
    Memory beyond what is kept does not grow with the horizon.
    """

    def step(window, call):
        new, others = advance(window, call)
        if window is None:
            return None, keep(new, others, call)
        longer = jnp.concatenate([window[:, shift:], new], 1)
        # Read back from the window, as a slice from its end on is: XLA:CPU would otherwise compute the
        # maps once for the window and once for what is kept.
        new = jax.lax.dynamic_slice_in_dim(longer, longer.shape[1] + call, shift, axis=1)
        return longer[:, -window.shape[1] :], keep(new, others, call)

    def feed(call, carry):
        window, kept = carry
        window, found = step(window, call)
        return window, jax.tree.map(functools.partial(_place, start=call * shift), kept, found)

    shapes = jax.eval_shape(lambda window: step(window, 0)[1], clip)
    kept = jax.tree.map(lambda x: jnp.zeros((x.shape[0], horizon, *x.shape[2:]), x.dtype), shapes)
    calls = -(-(horizon if needed is None else needed) // shift)
    return jax.lax.fori_loop(0, calls, feed, (clip, kept))[1]


def steps_ahead(call, shift: int, b: int) -> jax.Array:
    """The steps (b, shift) of a call."""
    return jnp.tile(call * shift + jnp.arange(1.0, shift + 1), (b, 1))


def roll_maps(network, params, clip: jax.Array, horizon: int, forecast, kept=None, needed=None):
    """The maps (b, horizon, h, w, c) of a network that is fed with its own output.

    forecast: `(steps ahead) -> forecasts`, as of `proposing.propose`. kept: as of `proposing.add`.
    """

    def advance(window, call):
        forecasts = forecast(steps_ahead(call, network.shift, len(clip)))
        return network.predict(params, window, forecasts, kept), None

    keep = lambda new, others, call: new
    return roll(advance, keep, clip, network.shift, horizon, needed)


def references(frames, maps, n: int):
    """The last n observed frames with their maps: (b, n, h, w, 3 + c); n may be 0."""
    t = frames.shape[1]
    return jnp.concatenate([frames[:, t - n :], maps[:, t - n :]], -1)


def _place(kept, new, start):
    """`kept` (b, t, ...) with `new` (b, n, ...) from frame `start` on; what goes beyond t is cut."""
    length, n = kept.shape[1], min(new.shape[1], kept.shape[1])
    new, at = new[:, :n], jnp.minimum(start, length - n)
    if length % n:  # Where the last frames would reach beyond the end, those before stay.
        before = jax.lax.dynamic_slice_in_dim(kept, at, n, axis=1)
        over = start - at
        fresh = (jnp.arange(n) >= over).reshape(1, n, *[1] * (new.ndim - 2))
        new = jnp.where(fresh, jnp.roll(new, over, axis=1), before)
    return jax.lax.dynamic_update_slice_in_dim(kept, new, at, axis=1)
