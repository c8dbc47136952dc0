"""What stage 2 is given of its references: how far labels have moved, and the background behind objects."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vidpred_jax import ops

_GAPS = (1, 1, 3, 8)  # Frames between those that are compared, of one step of `velocity` each.


def describe(
    maps: Float[Array, "b t h w c"],
    newest: Float[Array, "b h w c"],
    steps_ahead: Float[Array, "b t"],
    pan: Float[Array, "b 2"],
) -> Float[Array, "b t h w 3"]:
    """For each pixel of a map: the backward flow of its label to the newest reference in pixels (dy, dx), and
    whether that label is in both maps, 0 to 1 (its flow is 0 where it is not).

    The flow leads from a label's centre in the map to its centre in `newest`; that of the background
    (label 0) is -pan * steps_ahead. maps, newest: planes, one of edges and one for each label.
    """
    labels, seen = maps[..., 1:], newest[..., 1:]
    h, w = maps.shape[2:4]
    grid = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), -1).astype(jnp.float32)
    size, seen_size = labels.sum((2, 3))[..., None], seen.sum((1, 2))[:, None, :, None]
    center = ops.exact_einsum("bthwl,hwk->btlk", labels, grid) / jnp.maximum(size, 1e-3)
    before = ops.exact_einsum("bhwl,hwk->blk", seen, grid)[:, None] / jnp.maximum(seen_size, 1e-3)
    both = jnp.minimum(size, 1) * jnp.minimum(seen_size, 1)
    way = (before - center).at[:, :, 0].set(-pan[:, None] * steps_ahead[..., None])
    return ops.exact_einsum("bthwl,btlk->bthwk", labels, jnp.concatenate([way * both, both], -1))


def velocity(frames: Float[Array, "b n h w 3"], background: Float[Array, "b n h w"]) -> Float[Array, "b 2"]:
    """The constant velocity of the background in pixels a frame (dy, dx), 0 where it has no texture.

    Least-squares steps of Lucas and Kanade (1981) between frames `_GAPS` apart, each from the estimate of
    the last. For up to about a pixel a frame.
    """
    inner = jnp.pad(jnp.ones((frames.shape[2] - 4, frames.shape[3] - 4, 1)), ((2, 2), (2, 2), (0, 0)))
    joined = jnp.concatenate([frames, _clear(background) * inner], -1)
    found = jnp.zeros((len(frames), 2))
    for gap in _GAPS:
        if gap >= frames.shape[1]:
            break
        ages = jnp.full(frames.shape[1] - gap, float(gap))
        moved = carry(joined[:, :-gap], found, ages)
        newer, there = joined[:, gap:], moved[..., :-1]
        weight = (moved[..., -1:] * newer[..., -1:])[..., None]  # 1 where both show the background.
        slopes = jnp.stack([jnp.roll(there, -1, i) - jnp.roll(there, 1, i) for i in (2, 3)], -1) / 2
        inside = (1, 2, 3, 4)
        square = (weight[..., None] * slopes[..., :, None] * slopes[..., None, :]).sum(inside)
        least = 1e-4 * weight.sum((*inside, 5))[:, None, None] + 1e-6
        error = (weight * slopes * (there - newer[..., :-1])[..., None]).sum(inside)
        found += jnp.linalg.solve(square + least * jnp.eye(2), error[..., None])[..., 0] / gap
    return found


def behind(
    frames: Float[Array, "b n h w 3"], background: Float[Array, "b n h w"], pan: Float[Array, "b 2"]
) -> Float[Array, "b h w 4"]:
    """The background at the newest frame, each pixel from the last frame that shows it; whether any does."""
    clear = _clear(background)
    ages = jnp.arange(frames.shape[1])[::-1].astype(jnp.float32)
    aligned = carry(jnp.concatenate([frames * clear, clear], -1), pan, ages)[:, ::-1]  # Newest first.
    aligned *= aligned[..., -1:] > 0.999  # Of four pixels that are all background.
    hidden = jnp.cumprod(1 - aligned[..., -1:], 1)
    before = jnp.concatenate([jnp.ones_like(hidden[:, :1]), hidden[:, :-1]], 1)
    return (before * aligned).sum(1)


def _clear(background):
    """Background without the pixels beside an object, which hold some of its colour: (b, n, h, w, 1)."""
    return 1 - nn.max_pool(1 - background[..., None], (1, 3, 3), padding="SAME")


def carry(
    pictures: Float[Array, "b n h w k"], pan: Float[Array, "b 2"], steps: Float[Array, "*_ n"]
) -> Float[Array, "b n h w k"]:
    """Each picture moved on by so many steps of `pan` pixels, bilinear; zeros enter."""
    ways = pan[:, None] * jnp.broadcast_to(steps, pictures.shape[:2])[..., None]
    padded = jnp.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return ops.translate(padded, ways)[:, :, 1:-1, 1:-1]
