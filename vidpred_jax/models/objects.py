"""Objects carried whole: the labels of the newest fusion picture, each moved along a path of its own."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax.fusion import PALETTE, decode, to_float

_SEEN = range(-7, 0, 2)  # Input pictures whose labels tell an object's velocity.


class ObjectMotion(nn.Module):
    """Fusion pictures and features -> the newest picture with its objects moved (ours).

    An object's path is its velocity, from the centres of its label in the last pictures, and what a
    small network adds that sees its place, velocity and size and the features under it: it can turn
    at a wall. What moves as a whole neither fades nor frays when it is fed back.

    labels: labels told apart, background included; later ones hide earlier ones. outputs: frames.
    """

    labels: int
    outputs: int
    features: int = 64

    @nn.compact
    def __call__(
        self, clip: Float[Array, "b t h w 3"], features: Float[Array, "b y x f"]
    ) -> Float[Array, "b {self.outputs} h w 3"]:
        """features: at 1/n of the clip's resolution."""
        b, _, h, w, _ = clip.shape
        seen = clip[:, _SEEN.start :: _SEEN.step].astype(jnp.float32)
        edges, labels = decode(seen, self.labels)
        objects = jnp.arange(1, self.labels).reshape(-1, 1, 1)
        masks = (labels[:, :, None] == objects).astype(jnp.float32)
        centers, size = _centers(masks)
        velocity = _slope(centers, size)
        masks, center, size = masks[:, -1], centers[:, -1], size[:, -1]
        n = h // features.shape[1]
        coarse = jnp.einsum("yh,bkhw,xw->bkyx", _pool(h, n), masks, _pool(w, n))
        under = jnp.einsum("bkyx,byxf->bkf", coarse, features.astype(jnp.float32))
        under = under / jnp.maximum(coarse.sum((2, 3)), 1e-3)[..., None]
        extent = jnp.array([h, w])
        known = [under, center / extent - 0.5, velocity / extent * 16, size[..., None] / (h * w)]
        x = nn.silu(nn.Dense(self.features, name="hidden")(jnp.concatenate(known, -1)))
        init = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        turn = nn.Dense(2 * self.outputs, kernel_init=init, name="turn")(x)
        ahead = jnp.arange(1.0, self.outputs + 1)[:, None]
        turn = turn.reshape(b, self.labels - 1, self.outputs, 2)
        path = (velocity[:, :, None] + turn * extent / 64) * ahead
        # Snapped: what is carried keeps its outline, and leaves nothing of it behind.
        return _carry(edges[:, -1], masks, path)


def _pool(size, n):
    """(size / n, size): a matrix that takes the mean of n neighbours."""
    return np.repeat(np.eye(size // n, dtype=np.float32), n, 1) / n


def _centers(masks):
    """Centres (b, t, k, 2) in pixels and sizes (b, t, k) of masks (b, t, k, h, w)."""
    rows, columns = masks.sum(4), masks.sum(3)
    size = rows.sum(3)
    y, x = (part @ jnp.arange(float(part.shape[-1])) for part in (rows, columns))
    return jnp.stack([y, x], -1) / jnp.maximum(size, 1.0)[..., None], size


def _slope(centers, size):
    """Pixels per frame (b, k, 2): least squares over the pictures, weighed by size; 0 if unknown."""
    time = jnp.array(_SEEN, jnp.float32)[None, :, None]
    weight = size / jnp.maximum(size.sum(1, keepdims=True), 1.0)
    late = time - (weight * time).sum(1, keepdims=True)
    spread = (weight * late**2).sum(1)
    slope = (weight * late)[..., None] * centers
    return jnp.where(spread > 1, 1 / jnp.maximum(spread, 1.0), 0.0)[..., None] * slope.sum(1)


def _carry(edges, masks, path):
    """Clean fusion pictures (b, t, h, w, 3) whose objects are moved along path (b, k, t, 2).

    edges: (b, h, w). masks: (b, k, h, w), of the labels but the background. Where an object was and
    none comes, it is black.
    """
    k = masks.shape[1]
    colors = to_float(jnp.asarray(PALETTE[: k + 1])) + 1  # Above black.
    white = masks * edges[:, None]
    moved = _shift(jnp.stack([masks - white, white], 2), path)
    # Split: the gradient of a split is one concatenation, that of indices a sum of padded parts.
    plain, edge = (
        [label[:, 0, :, 0] for label in jnp.split(part, k, 1)] for part in jnp.split(moved, 2, 3)
    )
    background = 1 - masks.sum(1)
    white = background * edges
    still = background - white
    channels = []
    for channel in range(3):
        shown = (still * colors[0, channel] + 2 * white)[:, None]
        for color, a, b in zip(colors[1:, channel], plain, edge, strict=True):
            shown = shown * (1 - a - b) + a * color + 2 * b
        channels.append(shown)
    return jnp.stack(channels, -1) - 1


def _shift(planes, offset):
    """planes (b, k, n, h, w) of zeros and ones, moved by offset (b, k, t, 2) pixels: (b, k, t, n, h, w).

    Bilinear, with zeros from outside. Whole pixels by slices, which cost a third of what products with
    matrices that shift do, and as much less in their gradient.
    """
    n, *size = planes.shape[2:]
    limit = jnp.array(size, jnp.float32)
    offset = jnp.clip(offset, -limit, limit)  # Further away nothing of it is seen.
    whole = jnp.floor(offset)
    down, right = ((offset - whole)[..., i, None, None, None] for i in range(2))
    # As bytes: it is nine times as large.
    around = [(0, 0)] * 3 + [(length + 1, length) for length in size]
    padded = jnp.pad(planes.astype(jnp.uint8), around)
    cut = lambda plane, at: jax.lax.dynamic_slice(
        plane, (0, at[0], at[1]), (n, *(length + 1 for length in size))
    )
    cut = jax.vmap(jax.vmap(jax.vmap(cut, (None, 0))))
    found = cut(padded, (limit - whole).astype(jnp.int32)).astype(jnp.float32)
    rows = found[..., 1:, :] * (1 - down) + found[..., :-1, :] * down
    return rows[..., 1:] * (1 - right) + rows[..., :-1] * right
