"""Velocities of objects and background from the observed frames, and their extrapolation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.ops import exact_einsum

_LENGTHS = (5, 4, 6, 8, 11, 16)  # Frames that a velocity is fitted to; the first: the recent one.
_NOISE = 0.1  # Of an object's position, in pixels.
_LR_MULTIPLIER = 10.0  # With Adam, the parameters here learn so many times faster than others.


class Trajectories(nn.Module):
    """Extrapolates the positions of objects (ours).

    Six learned parameters: the weight of each velocity, how fast each decays, and how near to the
    border, in units of their radius, objects are reflected. More would overfit to the training scenes.
    """

    @nn.compact
    def __call__(
        self,
        velocities: Float[Array, "b k 2 2"],
        center: Float[Array, "b k 2"],
        radius: Float[Array, "b k"],
        steps_ahead: Float[Array, "b t"],
        size: tuple[int, int],
    ) -> Float[Array, "b k t 2"]:
        """Displacements of the centers, in pixels, `steps_ahead` frames later.

        velocities: pixels per frame, as of `velocities`. center, radius: pixels. size: of the pictures.
        """
        trajectory = _extrapolate(self, velocities, steps_ahead, (1.0, 1.0, -1.0), -3.0)
        inset = scalar_param(self, "wall", 0.5) * radius
        return _reflect(trajectory, center, inset, jnp.array(size) - 1.0)


class Rotation(nn.Module):
    """Extrapolates the rotation of objects (ours), with three learned parameters as in `Trajectories`."""

    @nn.compact
    def __call__(
        self, rotation: Float[Array, "b k"], age: Float[Array, "b k"], steps_ahead: Float[Array, "b t"]
    ) -> Float[Array, "b k t"]:
        """Radians from the frame `age` frames ago to the one `steps_ahead` frames later.

        rotation: radians per frame. Only the future part decays; both have the same weight.
        """
        trust = jax.nn.softmax(scalar_param(self, "trust", 2.0, -2.0))[0]
        future = _decayed_time(scalar_param(self, "decay", -5.0), steps_ahead[:, None])
        return trust * rotation[..., None] * (age[..., None] + future)


class Pan(nn.Module):
    """Extrapolates the background's motion (ours): as `Trajectories`, without walls, 5 parameters."""

    @nn.compact
    def __call__(
        self, pans: Float[Array, "b 2 2"], steps_ahead: Float[Array, "b t"]
    ) -> Float[Array, "b t 2"]:
        """Displacement in pixels `steps_ahead` frames later; pans: pixels per frame."""
        return _extrapolate(self, pans[:, None], steps_ahead, (2.0, 0.0, -2.0), -5.0)[:, 0]


def scalar_param(module, name, *start):
    init = nn.initializers.constant(jnp.array(start) / _LR_MULTIPLIER)
    return _LR_MULTIPLIER * module.param(name, init, (len(start),))


def _extrapolate(module, velocities, steps_ahead, trust, decay):
    """Displacements (b, k, t, c) at decaying velocities (b, k, v, c), weighted by trust.

    trust, decay: initial values of the learned parameters.
    """
    # The last weight is that of velocity 0.
    trust = jax.nn.softmax(scalar_param(module, "trust", *trust))[:-1]
    decay = scalar_param(module, "decay", *[decay] * velocities.shape[2])[:, None]
    frames = _decayed_time(decay, steps_ahead[:, None])  # (b, v, t)
    return exact_einsum("v,bkvc,bvt->bktc", trust, velocities, frames)


def _decayed_time(decay, steps_ahead):
    """Displacement after `steps_ahead` frames, in units of the initial speed, which decays."""
    decay = jax.nn.softplus(decay) + 1e-4
    return -jnp.expm1(-decay * steps_ahead) / decay


def velocities(offsets: Float[Array, "b t k 2"]) -> Float[Array, "b k 2 2"]:
    """Two velocities (pixels per frame) per object from its positions in 4 or more frames.

    (0) The least-squares slope over the window of 4 to 16 frames that fits best, for y and x
    separately. If the window ends before the last frame, at a wall say, it takes the sign of the last
    two steps (0 if they cancel out). (1) The slope over the last 5 frames.
    """
    slopes, residuals, spread, is_newest = _windows(offsets.shape[1])
    fits = exact_einsum("st,btkc->sbkc", slopes, offsets)
    error = jnp.square(exact_einsum("sut,btkc->sbukc", residuals, offsets)).sum(2)
    best = jnp.argmin((error + _NOISE**2) / spread, 0)
    long = jnp.take_along_axis(fits, best[None], 0)[0]
    direction = jnp.sign(offsets[:, -1] - offsets[:, -3])
    long = jnp.where(jnp.asarray(is_newest)[best], long, jnp.abs(long) * direction)
    recent = exact_einsum("t,btkc->bkc", slopes[0], offsets)
    return jnp.stack([long, recent], 2)


@functools.lru_cache(maxsize=8)
def _windows(frames: int):
    """All windows of consecutive frames, the newest of each length first.

    For each the weights (s, t) of its slope; the weights (s, t, t) of its residuals from the fitted
    line, divided by the root of its length; the sum of squares of its times (s, 1, 1, 1); whether it
    ends at the newest frame (s,).
    """
    slopes, residuals, spreads, is_newest = [], [], [], []
    for length in _LENGTHS:
        for end in range(frames, length - 1, -1):
            inside = (np.arange(frames) < end) & (np.arange(frames) >= end - length)
            time = np.where(inside, np.arange(frames) - (end - (length + 1) / 2), 0.0)
            spread = np.square(time).sum()
            line = np.outer(time, time) / spread + np.outer(inside, inside) / length
            slopes.append(time / spread)
            residuals.append((np.diag(inside.astype(float)) - line) / np.sqrt(length))
            spreads.append(spread)
            is_newest.append(end == frames)
    slopes, residuals, spreads = (np.asarray(x, np.float32) for x in (slopes, residuals, spreads))
    return slopes, residuals, spreads.reshape(-1, 1, 1, 1), np.array(is_newest)


def _reflect(trajectory, center, inset, extent):
    """Trajectories (b, k, t, 2) from centers (b, k, 2), reflected `inset` (b, k) pixels from the border.

    The border is at 0 and `extent` (2). A center already beyond it reflects where it is.
    """
    low = jnp.minimum(inset[..., None], center)
    high = jnp.maximum(extent - inset[..., None], center)
    low, room = low[:, :, None], jnp.maximum(high - low, 1.0)[:, :, None]
    position = (center[:, :, None] + trajectory - low) % (2 * room)
    position = jnp.where(position < room, position, 2 * room - position)
    return low + position - center[:, :, None]
