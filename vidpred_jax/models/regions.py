"""What stage 2 is told of each label: how its region looked in the references, and how far it has moved."""

import jax.numpy as jnp
from jaxtyping import Array, Float

CHANNELS = 6


def describe(
    maps: Float[Array, "b t h w c"], references: Float[Array, "b n h w _"]
) -> Float[Array, "b t h w 6"]:
    """At each pixel of a map, of its label: the mean colour of that label in all references (3); the way,
    in pixels (dy, dx), from its centre in the map to its centre in the newest reference (2), which is a
    backward flow; and whether it is seen in both, 0 to 1. 0 of a label that is not.

    maps: planes, one of edges and one for each label. references: RGB frames with such maps behind, oldest
    first. Means over regions are those of pix2pixHD's features (Wang et al. 2018); centres are ours.
    """
    labels, (frames, seen) = maps[..., 1:], jnp.split(references, [3], -1)
    seen = seen[..., 1:]
    h, w = maps.shape[2:4]
    grid = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), -1).astype(jnp.float32)
    area = lambda x, axes: x.sum(axes)[..., None]
    mean = lambda total, size: total / jnp.maximum(size, 1e-3)
    color = mean(jnp.einsum("bnhwl,bnhwk->blk", seen, frames), area(seen, (1, 2, 3)))
    size, newest_size = area(labels, (2, 3)), area(seen[:, -1], (1, 2))[:, None]
    center = mean(jnp.einsum("bthwl,hwk->btlk", labels, grid), size)
    newest_center = mean(jnp.einsum("bhwl,hwk->blk", seen[:, -1], grid)[:, None], newest_size)
    both = jnp.minimum(size, 1) * jnp.minimum(newest_size, 1)
    color = jnp.broadcast_to(color[:, None], (*center.shape[:-1], 3))
    found = jnp.concatenate([color, (newest_center - center) * both, both], -1)
    return jnp.einsum("bthwl,btlk->bthwk", labels, found)
