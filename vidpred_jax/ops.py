"""Warping, blurring, shifting and resizing of pictures; no parameters.

A flow is backward and in pixels, (dy, dx): from a pixel to its origin in the source.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

# Added before rounding down. Centres of masks are often at half pixels, where .5 would leave the
# direction to rounding errors.
HALF = 0.51


@jax.custom_vjp
def warp(picture: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> Float[Array, "b h w c"]:
    """Backward warp: out(y, x) = picture((y, x) + flow(y, x)), bilinear, border replicated.

    Differentiable in reverse mode only. The gradient of a flow that leads outside is zero.
    """
    return plain_warp(picture, flow)


def plain_warp(picture, flow):
    """`warp` with the gradients of JAX, in forward mode as well."""
    places, (dy, dx), _ = _source(flow)
    (a, b), (c, d) = _corners(picture, places)
    upper, lower = a * (1 - dx) + b * dx, c * (1 - dx) + d * dx
    return upper * (1 - dy) + lower * dy


def _warp_forward(picture, flow):
    return plain_warp(picture, flow), (picture, flow)


def _warp_backward(residuals, g):
    picture, flow = residuals
    places, (dy, dx), inside = _source(flow)
    # Gathered again: keeping the pixels of the forward pass would take four pictures of memory.
    (left, right), _ = _corners(_next(picture, 1) - picture, places)
    (upper, _), (lower, _) = _corners(_next(picture, 2) - picture, places)
    down = sum_channels(g * (left * (1 - dx) + right * dx))
    right = sum_channels(g * (upper * (1 - dy) + lower * dy))
    shares = ((1 - dy) * (1 - dx), (1 - dy) * dx), (dy * (1 - dx), dy * dx)
    _, spread = jax.vjp(lambda picture: _corners(picture, places), picture)
    given = tuple(tuple((g * share).astype(picture.dtype) for share in row) for row in shares)
    return *spread(given), (jnp.concatenate([down, right], -1) * inside).astype(flow.dtype)


def cubic_warp(picture: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> Float[Array, "b h w c"]:
    """As `warp`, by the cubic kernel of OpenCV (Keys 1981 with a = -.75): pictures stay sharper than under
    bilinear interpolation; values may overshoot a little.
    """
    height, width, channels = picture.shape[1:]
    # Of each pixel the four side by side that start left of it; rows are padded above and below.
    padded = jnp.pad(picture, ((0, 0), (1, 2), (1, 2), (0, 0)), mode="edge")
    strips = jnp.concatenate([padded[:, :, i : i + width] for i in range(4)], -1)
    here = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
    there = jnp.clip(here + flow, 0, jnp.array([height - 1, width - 1]))
    first = jnp.floor(there)
    down, across = ([_cubic(x + 1 - i) for i in range(4)] for x in jnp.split(there - first, 2, -1))
    top, left = first[..., 0].astype(jnp.int32), first[..., 1].astype(jnp.int32)
    rows, total = jnp.arange(len(picture))[:, None, None] * (height + 3) + top, 0.0
    for i, share in enumerate(down):
        found = jnp.take(strips.reshape(-1, 4 * channels), (rows + i) * width + left, axis=0, mode="clip")
        total += share * sum(x * part for x, part in zip(across, jnp.split(found, 4, -1), strict=True))
    return total


def _cubic(x):
    x, a = jnp.abs(x), -0.75
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, a * (((x - 5) * x + 8) * x - 4)
    return jnp.where(x <= 1, near, jnp.where(x < 2, far, 0.0))


def translate(pictures: Float[Array, "b n h w k"], ways: Float[Array, "b n 2"]) -> Float[Array, "b n h w k"]:
    """Each picture moved by its way (dy, dx) in pixels: bilinear, border replicated."""
    b, n, h, w, k = pictures.shape
    flow = jnp.broadcast_to(-ways.reshape(b * n, 1, 1, 2), (b * n, h, w, 2))
    return plain_warp(pictures.reshape(b * n, h, w, k), flow).reshape(b, n, h, w, k)


def nearest_warp(picture: Float[Array, "b h w c"], flow: Float[Array, "b h w 2"]) -> Float[Array, "b h w c"]:
    """As `warp`, with the pixel nearest to each origin. No gradient."""
    return plain_warp(picture, jnp.floor(jax.lax.stop_gradient(flow) + HALF))


def _source(flow):
    """Origins of pixels: (index of the pixel up and left of each, counted over the whole batch,
    (b, h, w); its distances down and right from there, (b, h, w, 1) each; whether it is inside,
    (b, h, w, 2)).
    """
    n, height, width, _ = flow.shape
    here = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1)
    last = jnp.array([height - 1, width - 1])
    there = here + flow
    source = jnp.clip(there, 0, last)
    first = jnp.clip(jnp.floor(source), 0, jnp.maximum(last - 1, 0))
    top, left = first[..., 0].astype(jnp.int32), first[..., 1].astype(jnp.int32)
    places = (jnp.arange(n)[:, None, None] * height + top) * width + left
    return places, jnp.split(source - first, 2, -1), (there >= 0) & (there <= last)


def _next(picture, axis):
    """The next pixel along an axis; the last is repeated."""
    last = jax.lax.slice_in_dim(picture, picture.shape[axis] - 1, None, axis=axis)
    return jnp.concatenate([jax.lax.slice_in_dim(picture, 1, None, axis=axis), last], axis)


def _corners(picture, places):
    """The pixels at `places`, right of them, below, and below right: two rows of two."""
    _, height, width, channels = picture.shape
    right, below = int(width > 1), width * (height > 1)  # Else the pixel itself.
    pixels = picture.reshape(-1, channels)
    at = lambda move: jnp.take(pixels, places + move, axis=0, mode="clip")
    return (at(0), at(right)), (at(below), at(below + right))


warp.defvjp(_warp_forward, _warp_backward)


def sum_channels(x: Float[Array, "*b c"]) -> Float[Array, "*b 1"]:
    """x.sum(-1, keepdims=True) of few channels: XLA:CPU's own takes several times as long."""
    return sum(jnp.split(x, x.shape[-1], -1))


def blur(x: Float[Array, "b h w c"], sigma: float) -> Float[Array, "b h w c"]:
    """Gaussian blur, renormalised at the border; sigma in pixels."""
    rows, columns = (_gaussian_matrix(size, sigma) for size in x.shape[1:3])
    return jnp.einsum("yh,bhwc,xw->byxc", rows, x, columns)


def blur_planes(x: Float[Array, "*b h w"], sigma: float) -> Float[Array, "*b h w"]:
    """As `blur`, of planes: two matrix products without transposed copies."""
    rows, columns = (_gaussian_matrix(size, sigma) for size in x.shape[-2:])
    return rows @ (x @ columns.T)


@functools.lru_cache(maxsize=64)
def _gaussian_matrix(size: int, sigma: float) -> np.ndarray:
    places = np.arange(size)
    near = np.exp(-0.5 * np.square((places[:, None] - places) / sigma))
    return (near / near.sum(1, keepdims=True)).astype(np.float32)


def resize(flow: Float[Array, "b _ _ k"], height: int, width: int) -> Float[Array, "b h w k"]:
    """As `jax.image.resize` (linear), by two matrix products; the unit of flows stays the same."""
    b, h, w, k = flow.shape
    columns = np.kron(_resize_matrix(w, width).T, np.eye(k, dtype=np.float32))
    rows = flow.reshape(b * h, w * k) @ columns
    each = jnp.broadcast_to(_resize_matrix(h, height), (b, height, h))
    flow = each @ rows.reshape(b, h, width * k)
    return flow.reshape(b, height, width, k)


@functools.lru_cache(maxsize=64)
def _resize_matrix(size: int, new: int) -> np.ndarray:
    """(new, size): a row holds the weights of one new pixel; a wider triangle when downsampling."""
    places = (np.arange(new) + 0.5) * size / new - 0.5
    distances = np.abs(places[:, None] - np.arange(size)) / max(size / new, 1.0)
    near = np.maximum(1 - distances, 0)
    return (near / near.sum(1, keepdims=True)).astype(np.float32)


def shift(
    planes: Shaped[Array, "b k n h w"], offset: Float[Array, "b k t 2"], nearest: bool = True
) -> Float[Array, "b k t n h w"]:
    """Planes, float32, translated by an offset of pixels down and right; zeros enter.

    nearest: rounds offsets (halves up), so outlines stay sharp and one-pixel lines whole. Otherwise
    bilinear.
    """
    n, *size = planes.shape[2:]
    limit = jnp.array(size, jnp.float32)
    offset = jnp.clip(offset, -limit, limit)  # Beyond, nothing is visible.
    if nearest:
        offset = jnp.floor(offset + HALF)
    # A rest of -.01 to .99: at whole pixels, which are common, rounding errors change nothing.
    whole = jnp.floor(offset + 0.01)
    around = [(0, 0)] * 3 + [(length + 1, length) for length in size]
    padded = jnp.pad(planes, around)

    def cut(more):
        one = lambda plane, at: jax.lax.dynamic_slice(
            plane, (0, at[0], at[1]), (n, *(length + more for length in size))
        )
        found = jax.vmap(jax.vmap(jax.vmap(one, (None, 0))))(padded, start)
        return found.astype(jnp.float32)

    start = (limit + 1 - whole).astype(jnp.int32)
    if nearest:
        return cut(0)
    start -= 1
    found = cut(1)
    down, right = ((offset - whole)[..., i, None, None, None] for i in range(2))
    rows = found[..., 1:, :] * (1 - down) + found[..., :-1, :] * down
    return rows[..., 1:] * (1 - right) + rows[..., :-1] * right


def exact_einsum(form, *parts):
    """einsum at full precision: half precision would move positions by pixels."""
    return jnp.einsum(form, *parts, precision=jax.lax.Precision.HIGHEST)
