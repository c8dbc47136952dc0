"""Where objects go: velocities from the places where they were seen, and what becomes of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.models.ops import exact_einsum

_LENGTHS = (5, 4, 6, 8, 11, 16)  # Pictures that a velocity is told from; the first: that of late.
_NOISE = 0.1  # Of an object's place, in pixels.
_LR_MULTIPLIER = 10.0  # Under Adam, how many times faster than others the numbers here are learned.


class Trajectories(nn.Module):
    """Where objects will be, from where they were seen (ours).

    Six numbers are learned: how far each velocity is trusted and how fast it dies out, and how near to
    the border objects turn back, in their radius. More would learn scenes by heart.

    trust, decay: where the first two start.
    """

    trust: tuple[float, float, float] = (1.0, 1.0, -1.0)
    decay: float = -3.0

    @nn.compact
    def __call__(
        self,
        velocities: Float[Array, "b k 2 2"],
        center: Float[Array, "b k 2"],
        radius: Float[Array, "b k"],
        ahead: Float[Array, "b t"],
        size: tuple[int, int],
    ) -> Float[Array, "b k t 2"]:
        """Pixels from the centres to where they are `ahead` frames later.

        velocities: pixels a frame, of `velocities`. center, radius: pixels. size: of the pictures.
        """
        path = _follow(self, velocities, ahead, self.trust, self.decay)
        inset = scalar_param(self, "wall", 0.5) * radius
        return _reflect(path, center, inset, jnp.array(size) - 1.0)


class Rotation(nn.Module):
    """How far objects will have turned (ours): three numbers are learned, as of `Trajectories`."""

    @nn.compact
    def __call__(
        self, rotation: Float[Array, "b k"], age: Float[Array, "b k"], ahead: Float[Array, "b t"]
    ) -> Float[Array, "b k t"]:
        """Radians from what was seen `age` frames before to `ahead` frames later.

        rotation: radians a frame; what was seen of it is trusted as far as what is to come.
        """
        trust = jax.nn.softmax(scalar_param(self, "trust", 2.0, -2.0))[0]
        frames = age[..., None] + _lasting(scalar_param(self, "decay", -5.0), ahead[:, None])
        return trust * rotation[..., None] * frames


class Pan(nn.Module):
    """Where the background will be (ours): five learned numbers, as in `Trajectories` without walls."""

    @nn.compact
    def __call__(
        self, pans: Float[Array, "b 2 2"], ahead: Float[Array, "b t"]
    ) -> Float[Array, "b t 2"]:
        """Pixels that it will have moved `ahead` frames later; pans: pixels a frame."""
        return _follow(self, pans[:, None], ahead, (2.0, 0.0, -2.0), -5.0)[:, 0]


def scalar_param(module, name, *start):
    init = nn.initializers.constant(jnp.array(start) / _LR_MULTIPLIER)
    return _LR_MULTIPLIER * module.param(name, init, (len(start),))


def _follow(module, velocities, ahead, trust, decay):
    """Trajectories (b, k, t, c) at decaying velocities (b, k, v, c), weighted by trust.

    trust, decay: initial values of the learned numbers.
    """
    # The last share stands still.
    trust = jax.nn.softmax(scalar_param(module, "trust", *trust))[:-1]
    decay = scalar_param(module, "decay", *[decay] * velocities.shape[2])[:, None]
    frames = _lasting(decay, ahead[:, None])  # (b, v, t)
    return exact_einsum("v,bkvc,bvt->bktc", trust, velocities, frames)


def _lasting(decay, ahead):
    """The frames that the way until `ahead` would take at the first speed, which dies out."""
    decay = jax.nn.softplus(decay) + 1e-4
    return -jnp.expm1(-decay * ahead) / decay


def velocities(offsets: Float[Array, "b t k 2"]) -> Float[Array, "b k 2 2"]:
    """Pixels a frame, from places in t pictures, 4 or more: the usual velocity, and that of late, the
    slope of the line nearest to the newest places.

    The usual one is the slope of the stretch of the way that tells it best, long and straight, down and
    across for themselves; where that ended before the newest picture, at a wall say, in the direction of
    the last two steps (0 if they cancel out).
    """
    slopes, rests, steadiness, at_end = _stretches(offsets.shape[1])
    found = exact_einsum("st,btkc->sbkc", slopes, offsets)
    bent = jnp.square(exact_einsum("sut,btkc->sbukc", rests, offsets)).sum(2)
    doubt = (bent + _NOISE**2) / steadiness
    best = jnp.argmin(doubt, 0)
    usual = jnp.take_along_axis(found, best[None], 0)[0]
    newest = offsets[:, -1] - offsets[:, -3]
    usual = jnp.where(jnp.asarray(at_end)[best], usual, jnp.abs(usual) * jnp.sign(newest))
    late = exact_einsum("t,btkc->bkc", slopes[0], offsets)
    return jnp.stack([usual, late], 2)


@functools.lru_cache(maxsize=8)
def _stretches(frames: int):
    """Stretches of a way of so many places, the newest ones first: for each the weights (s, t) of its
    slope; the weights (s, t, t) of the root mean square's parts of what a line leaves of it; how
    sharply it tells a slope (s,); whether it is the newest (s,).
    """
    slopes, rests, steadiness, at_end = [], [], [], []
    for length in _LENGTHS:
        for end in range(frames, length - 1, -1):
            inside = (np.arange(frames) < end) & (np.arange(frames) >= end - length)
            time = np.where(inside, np.arange(frames) - (end - (length + 1) / 2), 0.0)
            spread = np.square(time).sum()
            line = np.outer(time, time) / spread + np.outer(inside, inside) / length
            slopes.append(time / spread)
            rests.append((np.diag(inside.astype(float)) - line) / np.sqrt(length))
            steadiness.append(spread)
            at_end.append(end == frames)
    slopes, rests, steadiness = (np.asarray(x, np.float32) for x in (slopes, rests, steadiness))
    return slopes, rests, steadiness.reshape(-1, 1, 1, 1), np.array(at_end)


def _reflect(path, center, inset, extent):
    """Trajectories (b, k, t, 2) from centres (b, k, 2), reflected `inset` (b, k) pixels from the border.

    The border is at 0 and `extent` (2). A centre already beyond it reflects where it is.
    """
    low = jnp.minimum(inset[..., None], center)
    high = jnp.maximum(extent - inset[..., None], center)
    low, room = low[:, :, None], jnp.maximum(high - low, 1.0)[:, :, None]
    along = (center[:, :, None] + path - low) % (2 * room)
    return low + jnp.where(along < room, along, 2 * room - along) - center[:, :, None]
