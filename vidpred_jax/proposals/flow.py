"""Optical flow without parameters, and its extrapolation. `ops.py` defines what a flow is."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidpred_jax.ops import blur, resize, sum_channels, warp

MOST_AHEAD = 63  # Frames over which motion is extrapolated.
# Of `track`: window in pixels at every level, damping where there is no texture, and the difference
# above which a pixel is an outlier. Chosen on DAVIS's train list by PSNR at t+1.
_TRACK_WINDOW, _TRACK_DAMPING, _TRACK_NOISE = 3.0, 0.01, 0.05


def check_levels(levels: int, height: int, width: int, field: str) -> None:
    """Raises ValueError, naming `field`, if pictures of height x width have no such pyramid."""
    space = 2 ** max(levels - 1, 0)
    if levels < 0 or height % space or width % space:
        raise ValueError(
            f"a picture of {height} x {width} does not fit {field} ({levels}): sides must be multiples of "
            f"{space}"
        )


def _halve(x):
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def track(
    previous: Float[Array, "b h w c"], newest: Float[Array, "b h w c"], levels: int
) -> Float[Array, "b h w 2"]:
    """Optical flow in pixels: `warp(previous, flow)` is close to `newest`. For textured pictures in
    [-1, 1], whose size passes `check_levels`; no gradient.

    Least squares over Gaussian windows (Lucas and Kanade 1981), coarse to fine over a pyramid of `levels`
    resolutions, with three steps at each, reweighted against outliers and damped towards the local mean
    flow.
    """
    pyramid = [(previous, newest)]
    for _ in range(levels - 1):
        pyramid.append(tuple(map(_halve, pyramid[-1])))
    b, h, w, _ = pyramid[-1][0].shape
    flow = jnp.zeros((b, h, w, 2))
    for previous, newest in reversed(pyramid):
        size = previous.shape[1:3]
        if flow.shape[1:3] != size:
            flow = 2 * resize(flow, *size)
        step = lambda _, flow, pair=(previous, newest): _least_squares(*pair, flow)
        flow = jax.lax.fori_loop(0, 3, step, flow)
    return jax.lax.stop_gradient(flow)


def _least_squares(previous, newest, flow):
    """One Gauss-Newton step of every window's flow."""
    moved = warp(previous, flow)
    error = newest - moved
    dy, dx = _slopes((newest + moved) / 2)
    mean = lambda x: sum_channels(x) / x.shape[-1]
    weight = jax.lax.rsqrt(mean(jnp.square(error)) + _TRACK_NOISE**2)
    products = (dy * dy, dx * dx, dy * dx, dy * error, dx * error)
    sums = weight * jnp.concatenate([mean(product) for product in products], -1)
    yy, xx, yx, ye, xe = jnp.moveaxis(blur(sums, _TRACK_WINDOW), -1, 0)
    pull = _TRACK_DAMPING * (blur(flow, 2 * _TRACK_WINDOW) - flow)
    yy, xx, ye, xe = yy + _TRACK_DAMPING, xx + _TRACK_DAMPING, ye + pull[..., 0], xe + pull[..., 1]
    step = jnp.stack([xx * ye - yx * xe, yy * xe - yx * ye], -1) / (yy * xx - yx * yx)[..., None]
    return flow + jnp.clip(step, -1.5, 1.5)


def _slopes(x):
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    return (x[:, 2:, 1:-1] - x[:, :-2, 1:-1]) / 2, (x[:, 1:-1, 2:] - x[:, 1:-1, :-2]) / 2


def extrapolate(
    flow: Float[Array, "b h w 2"], steps_ahead: Float[Array, "b t"], coarse: int = 2, most: int = MOST_AHEAD
) -> Float[Array, "b t h w 2"]:
    """The displacement over `steps_ahead` frames, each pixel traced back through a constant flow field.

    steps_ahead: whole numbers; those beyond `most` count as `most`, at most MOST_AHEAD. By doubling: the
    displacement over m + n frames is that over m plus that over n at the place it leads to. Its
    deviation from a straight line is computed at 1/coarse of the resolution, which costs little.
    """
    (b, t), (h, w) = steps_ahead.shape, flow.shape[1:3]
    each = lambda x: jnp.repeat(x, t, 0)
    steps = jnp.minimum(steps_ahead, most).reshape(b * t, 1, 1, 1)
    power = resize(flow, h // coarse, w // coarse) / coarse
    small = each(power)

    # A loop: unrolled, XLA:CPU would merge the steps and compute each a hundred times over.
    def double(bit, displacements):
        power, total = displacements
        reached = each(power) + warp(total, each(power))
        total = jnp.where(steps.astype(jnp.int32) >> bit & 1, reached, total)
        return power + warp(power, power), total

    _, total = jax.lax.fori_loop(0, most.bit_length(), double, (power, jnp.zeros_like(small)))
    bend = resize(total - steps * small, h, w) * coarse
    return (steps * each(flow) + bend).reshape(b, t, h, w, 2)
