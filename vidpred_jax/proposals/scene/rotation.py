"""Rotation of shapes: estimated from their moments, and rendered."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from vidpred_jax.ops import HALF, exact_einsum, plain_warp

_ORDERS = range(2, 7)  # A shape with m-fold symmetry has moments of order m, if any.
_FRAME_STRIDE = 2  # Every second frame is used.
_MAX_SPEED, _SPEED_STEP = 0.1, 0.0005  # Speeds that are tried, in radians per frame.
VISIBILITY_POWER = 8  # An object's weight is the visible share of its size to this power.
_MIN_MOMENT = 0.08  # The moments of rounder shapes come from their pixels: no rotation.
_MIN_GAIN = 1.001  # Less above the similarity without rotation is rounding error.


def estimate_rotation(
    masks: Bool[Array, "b t k h w"], centers: Float[Array, "b t k 2"], sizes: Float[Array, "b t k"]
) -> Float[Array, "b k"]:
    """Radians per frame, from the x axis to the y axis, that align the moments of the masks best.

    centers, sizes: of the masks, in pixels. Partly occluded masks have less weight. No gradient.
    """
    subset = lambda x: x[:, (x.shape[1] - 1) % _FRAME_STRIDE :: _FRAME_STRIDE]
    masks, centers, sizes = subset(masks), subset(centers), subset(sizes)
    size = jnp.maximum(sizes.max(1), 1.0)
    weight = (sizes / size[:, None]) ** VISIBILITY_POWER
    y, x = (jnp.arange(float(side)) - centers[..., i, None] for i, side in enumerate(masks.shape[3:]))
    places = jax.lax.complex(*jnp.broadcast_arrays(x[..., None, :], y[..., None]))
    places /= jnp.sqrt(size / np.pi)[:, None, :, None, None]
    power, moments = jnp.where(masks, places, 0.0), []
    for _ in _ORDERS:
        power *= places
        moments.append(power.sum((3, 4)))
    moments = jnp.stack(moments, -1) * (weight / jnp.maximum(sizes, 1.0))[..., None]
    phases = jnp.asarray(_inverse_phases(moments.shape[1]))
    similarity = exact_einsum("btkm,gtm->gbkm", moments, phases)
    similarity = jnp.sqrt(jnp.square(jnp.abs(similarity)).sum(-1))
    similarity /= jnp.maximum(weight.sum(1), 1.0)
    speed, best = jnp.asarray(_speeds())[jnp.argmax(similarity, 0)], similarity.max(0)
    significant = (best > _MIN_MOMENT) & (best > _MIN_GAIN * similarity[0])  # [0]: no rotation.
    return jax.lax.stop_gradient(jnp.where(significant, speed, 0.0))


def _speeds():
    """Candidate speeds, slow ones first: the slowest of equally good ones is chosen."""
    speeds = np.arange(0, _MAX_SPEED + _SPEED_STEP / 2, _SPEED_STEP, dtype=np.float32)
    return np.stack([speeds, -speeds], 1).ravel()


@functools.lru_cache(maxsize=8)
def _inverse_phases(frames):
    """Factors (g, t, m) that rotate the moments of each frame back, for each speed."""
    time = _FRAME_STRIDE * np.arange(frames)
    angles = _speeds()[:, None, None] * time[:, None] * np.array(_ORDERS)
    return np.exp(-1j * angles).astype(np.complex64)


def rotate(
    planes: Float[Array, "b k n h w"],
    center: Float[Array, "b k 2"],
    offset: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
) -> Float[Array, "b k t n h w"]:
    """Planes rotated about their centers and moved by offsets, in pixels; bilinear, zeros from outside.

    The gradient reaches offset and angle alone.
    """
    planes, center = jax.lax.stop_gradient((planes, center))
    b, k, n, h, w = planes.shape
    t = angle.shape[2]
    grid, source = _sources(h, w, center, offset, angle, 1)
    flow = jnp.stack([part - place for part, place in zip(source, grid, strict=True)], -1)
    # With a border of zeros.
    picture = jnp.pad(planes, [(0, 0)] * 3 + [(1, 1), (1, 1)])
    picture = jnp.repeat(jnp.moveaxis(picture, 2, -1)[:, :, None], t, 2)
    flat = lambda a: a.reshape(b * k * t, *a.shape[3:])
    warped = plain_warp(flat(picture), flat(flow))[:, 1:-1, 1:-1]
    return jnp.moveaxis(warped.reshape(b, k, t, h, w, n), -1, 3)


def rotate_codes(
    codes: UInt8[Array, "b k h w"],
    center: Float[Array, "b k 2"],
    offset: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
) -> UInt8[Array, "b k t h w"]:
    """As `rotate`, with the nearest pixel instead of bilinear interpolation."""
    b, k, h, w = codes.shape
    source = _sources(h, w, center, offset, angle, 0)[1]
    y, x = (jnp.ceil(part - HALF).astype(jnp.int32) for part in source)
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    first = h * w * jnp.arange(b * k).reshape(b, k, 1, 1, 1)
    places = jnp.where(inside, first + y * w + x, 0)
    return jnp.where(inside, jnp.take(codes.reshape(-1), places, mode="clip"), 0)


def _sources(h, w, center, offset, angle, border):
    """The pixel grid (y, x), and the source coordinates of each pixel: two of (b, k, t, h, w)."""
    grid = [jnp.arange(-float(border), side + border) for side in (h, w)]
    grid = jnp.meshgrid(*grid, indexing="ij")
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    (y, x), to = (center[:, :, None, i] for i in range(2)), center[:, :, None] + offset
    y, x = y - cos * to[..., 0] + sin * to[..., 1], x - sin * to[..., 0] - cos * to[..., 1]
    # As a product: XLA:CPU would compute sines for each pixel.
    coordinates = jnp.stack([*grid, jnp.ones_like(grid[0])])
    rows = jnp.stack([jnp.stack([cos, -sin, y], -1), jnp.stack([sin, cos, x], -1)])
    return grid, exact_einsum("sbktn,nhw->sbkthw", rows, coordinates)
