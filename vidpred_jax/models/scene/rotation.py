"""How shapes turn: told from their moments, and shapes drawn turned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from vidpred_jax.models.ops import HALF, exact_einsum, move_by, plain_warp

_MOMENTS = range(2, 7)  # A shape that is the same after an m-th of a turn has the m-th, if any.
_EVERY = 2  # Frames between those that are looked at.
_MOST, _STEP = 0.1, 0.0005  # The fastest turn that is found, and how finely, in radians a frame.
WHOLE = 8  # The power of its share in sight that an object has a say with.
_LEAST = 0.08  # A rounder shape does not turn: what its moments then tell is pixels.
_MORE = 1.001  # Times as alike as unturned they must be, or the last bit would decide.


def estimate_rotation(
    masks: Bool[Array, "b t k h w"],
    centers: Float[Array, "b t k 2"],
    sizes: Float[Array, "b t k"],
) -> Float[Array, "b k"]:
    """Radians a frame, from across to down, at which the moments of masks turn most alike. No gradient.

    centers, sizes: of the masks, in pixels. What is not wholly in sight misleads and counts less.
    """
    some = lambda x: x[:, (x.shape[1] - 1) % _EVERY :: _EVERY]
    masks, centers, sizes = some(masks), some(centers), some(sizes)
    size = jnp.maximum(sizes.max(1), 1.0)
    weight = (sizes / size[:, None]) ** WHOLE
    down, right = (
        jnp.arange(float(side)) - centers[..., i, None] for i, side in enumerate(masks.shape[3:])
    )
    places = jax.lax.complex(*jnp.broadcast_arrays(right[..., None, :], down[..., None]))
    places /= jnp.sqrt(size / np.pi)[:, None, :, None, None]
    power, moments = jnp.where(masks, places, 0.0), []
    for _ in _MOMENTS:
        power *= places
        moments.append(power.sum((3, 4)))
    moments = jnp.stack(moments, -1) * (weight / jnp.maximum(sizes, 1.0))[..., None]
    back = jnp.asarray(_turned_back(moments.shape[1]))
    alike = exact_einsum("btkm,gtm->gbkm", moments, back)
    alike = jnp.sqrt(jnp.square(jnp.abs(alike)).sum(-1)) / jnp.maximum(weight.sum(1), 1.0)
    found, best = jnp.asarray(_speeds())[jnp.argmax(alike, 0)], alike.max(0)
    told = (best > _LEAST) & (best > _MORE * alike[0])  # The first speed is none.
    return jax.lax.stop_gradient(jnp.where(told, found, 0.0))


def _speeds():
    """Slow ones first: of those alike the slowest is found."""
    found = np.arange(0, _MOST + _STEP / 2, _STEP, dtype=np.float32)
    return np.stack([found, -found], 1).ravel()


@functools.lru_cache(maxsize=8)
def _turned_back(frames):
    """By which moments (g, t, m) that turn at each speed are turned back."""
    time = _EVERY * np.arange(frames)
    angles = _speeds()[:, None, None] * time[:, None] * np.array(_MOMENTS)
    return np.exp(-1j * angles).astype(np.complex64)


def rotate(
    planes: Float[Array, "b k n h w"],
    center: Float[Array, "b k 2"],
    offset: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
) -> Float[Array, "b k t n h w"]:
    """Planes turned about their centres and moved by offsets, in pixels; bilinear, zeros from outside. The
    gradient reaches offset and angle alone.
    """
    return move_by(_rotated, jnp.concatenate([offset, angle[..., None]], -1), planes, center)


def _rotated(numbers, planes, center):
    b, k, n, h, w = planes.shape
    t = numbers.shape[2]
    here, source = _sources(h, w, center, numbers[..., :2], numbers[..., 2], 1)
    flow = jnp.stack([part - place for part, place in zip(source, here, strict=True)], -1)
    # With a border of zeros.
    picture = jnp.pad(planes, [(0, 0)] * 3 + [(1, 1), (1, 1)])
    picture = jnp.repeat(jnp.moveaxis(picture, 2, -1)[:, :, None], t, 2)
    flat = lambda a: a.reshape(b * k * t, *a.shape[3:])
    found = plain_warp(flat(picture), flat(flow))[:, 1:-1, 1:-1]
    return jnp.moveaxis(found.reshape(b, k, t, h, w, n), -1, 3)


def rotate_codes(
    codes: UInt8[Array, "b k h w"],
    center: Float[Array, "b k 2"],
    offset: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
) -> UInt8[Array, "b k t h w"]:
    """As `rotate`, each pixel the nearest one."""
    b, k, h, w = codes.shape
    source = _sources(h, w, center, offset, angle, 0)[1]
    y, x = (jnp.ceil(part - HALF).astype(jnp.int32) for part in source)
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    first = h * w * jnp.arange(b * k).reshape(b, k, 1, 1, 1)
    places = jnp.where(inside, first + y * w + x, 0)
    return jnp.where(inside, jnp.take(codes.reshape(-1), places, mode="clip"), 0)


def _sources(h, w, center, offset, angle, border):
    """The places (y, x) of pixels, and where what comes there was (b, k, t, h, w, each)."""
    here = [jnp.arange(-float(border), side + border) for side in (h, w)]
    here = jnp.meshgrid(*here, indexing="ij")
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    (y, x), to = (center[:, :, None, i] for i in range(2)), center[:, :, None] + offset
    y, x = y - cos * to[..., 0] + sin * to[..., 1], x - sin * to[..., 0] - cos * to[..., 1]
    # As products: XLA:CPU would work out sines for each pixel.
    grid = jnp.stack([*here, jnp.ones_like(here[0])])
    rows = jnp.stack([jnp.stack([cos, -sin, y], -1), jnp.stack([sin, cos, x], -1)])
    return here, exact_einsum("sbktn,nhw->sbkthw", rows, grid)
