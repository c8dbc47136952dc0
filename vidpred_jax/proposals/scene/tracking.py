"""Objects in observed edges and labels: one for each label, its shape, position and velocities."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vidpred_jax.ops import exact_einsum, shift
from vidpred_jax.proposals.scene.rotation import VISIBILITY_POWER, estimate_rotation, rotate_codes
from vidpred_jax.proposals.scene.trajectories import velocities

_AGE_PENALTY = 0.0471  # Share of an object that must be visible in addition, per frame of age.


@struct.dataclass
class Objects:
    """Objects of an observed clip, one for each label but the background.

    shape: (b, k, 2, h, w), its pixels, and its edges with those around it, 0 or 1, in the frame where the
    object is most visible. offset: (b, k, 2), displacement in pixels from there to the last frame. center:
    (b, k, 2), in the last frame. velocities: (b, k, 2, 2), pixels per frame (see
    `trajectories.velocities`). radius: (b, k), pixels from the center to the farthest pixel. size: (b, k),
    pixels. rotation: (b, k), radians per frame. age: (b, k), frames from where it is most visible to the
    last.
    """

    shape: UInt8[Array, "b k 2 h w"]
    offset: Float[Array, "b k 2"]
    center: Float[Array, "b k 2"]
    velocities: Float[Array, "b k 2 2"]
    radius: Float[Array, "b k"]
    size: Float[Array, "b k"]
    rotation: Float[Array, "b k"]
    age: Float[Array, "b k"]

    @property
    def motion(self):
        """The first arguments of `trajectories.Trajectories`."""
        return self.velocities, self.center, self.radius

    def placement(self, trajectory: Float[Array, "b k t 2"]):
        """The centers of the stored shapes, and their displacements from there along a trajectory."""
        return self.center - self.offset, self.offset[:, :, None] + trajectory

    def render(self, trajectory: Float[Array, "b k t 2"], angle: Float[Array, "b k t"]):
        """The shapes moved and rotated: pixels and edges, each a list of masks (b, t, h, w)."""
        codes = self.shape[:, :, 0] + 2 * self.shape[:, :, 1]
        moved = rotate_codes(codes, *self.placement(trajectory), angle)
        return [list(jnp.moveaxis(moved & bit > 0, 1, 0)) for bit in (1, 2)]


@functools.partial(jax.jit, static_argnames="num_labels")
def observe(edges: Float[Array, "b t h w"], labels: Int[Array, "b t h w"], num_labels: int) -> Objects:
    """The objects of 4 or more frames; num_labels counts the background. No gradient.

    Each object is stored from the frame where it is most visible; of about equal ones, the newest. An
    object absent from the last frame and not occluded there is dropped.
    """
    edges, masks = jax.lax.stop_gradient(edges) > 0.5, masks_of(labels, num_labels)
    centers, sizes = _centers(masks)
    age = jnp.arange(labels.shape[1] - 1.0, -1, -1).reshape(-1, 1)
    visibility = sizes / jnp.maximum(sizes.max(1, keepdims=True), 1.0)
    best = jnp.argmax(visibility - _AGE_PENALTY * age, 1)
    of_best = lambda x: jnp.take_along_axis(x, best.reshape(len(x), 1, -1, *[1] * (x.ndim - 3)), axis=1)[:, 0]
    shape, origin = of_best(masks), of_best(centers)
    free = _not_occluded(labels, num_labels)
    offsets = _track(shape, origin, free, centers)
    moved = shift(shape[:, :, None], offsets[:, -1][:, :, None])[:, :, 0, 0]
    occluded = (moved * ~free[:, -1]).sum((2, 3)) > moved.sum((2, 3)) / 2
    present = (sizes[:, -1] > 0) | occluded
    shape &= present[..., None, None]
    # Outlines are often labelled background: one that touches an object belongs to it.
    outline = edges[:, :, None] & (masks | (labels[:, :, None] == 0))
    outline = of_best(outline) & dilate(shape)
    distance = [jnp.arange(side) - origin[..., i, None] for i, side in enumerate(shape.shape[2:])]
    distance = jnp.square(distance[0])[..., :, None] + jnp.square(distance[1])[..., None, :]
    return Objects(
        shape=jnp.stack([shape, outline], 2).astype(jnp.uint8),
        offset=offsets[:, -1],
        center=origin + offsets[:, -1],
        velocities=velocities(offsets),
        radius=jnp.sqrt(jnp.where(shape, distance, 0.0).max((2, 3))),
        size=of_best(sizes) * present,
        rotation=estimate_rotation(masks, centers, sizes),
        age=age[best, 0],
    )


@jax.jit
def trajectory_error(
    trajectory: Float[Array, "b k t 2"], objects: Objects, future: Int[Array, "b t h w"]
) -> Float[Array, " b"]:
    """Distance of extrapolated object positions from those in future labels, in picture sides.

    Partly visible objects have less weight: their centers are off.
    """
    k, h, w = trajectory.shape[1], *future.shape[2:4]
    centers, sizes = (x.swapaxes(1, 2) for x in _centers(masks_of(future, k + 1)))
    weight = _visibility_weight(sizes, objects.size[..., None])
    difference = (objects.center[:, :, None] + trajectory - centers) / jnp.array([h, w])
    distance = jnp.sqrt(jnp.square(difference).sum(-1) + 1e-6)
    return (weight * distance).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)


@jax.jit
def rotation_error(
    angle: Float[Array, "b k"], objects: Objects, future: Int[Array, "b t h w"]
) -> Float[Array, " b"]:
    """Error of the extrapolated rotation (radians) from the first to the last of future labels.

    In picture sides, at the objects' farthest pixels. Partly visible objects have less weight.
    """
    k, t = angle.shape[1], future.shape[1]
    masks = masks_of(future, k + 1)
    centers, sizes = _centers(masks)
    difference = angle - estimate_rotation(masks, centers, sizes) * (t - 1)
    difference = difference * objects.radius / max(future.shape[2:4])
    weight = _visibility_weight(sizes, objects.size[:, None]).mean(1)
    distance = jnp.sqrt(jnp.square(difference) + 1e-6)
    return (weight * distance).sum(1) / jnp.maximum(weight.sum(1), 1.0)


def _visibility_weight(sizes, size):
    """Weights, 0 to 1, of objects of a size of which `sizes` pixels are visible."""
    return jnp.minimum(sizes / jnp.maximum(size, 1.0), 1.0) ** VISIBILITY_POWER * (size > 0)


def masks_of(labels: Int[Array, "b t h w"], num_labels: int) -> Bool[Array, "b t k h w"]:
    """A mask of each label but the background."""
    return labels[:, :, None] == _object_labels(num_labels)


def _not_occluded(labels, num_labels):
    """Where each label may be (b, t, k, h, w): later labels occlude it."""
    return labels[:, :, None] <= _object_labels(num_labels)


def _object_labels(num_labels):
    return jnp.arange(1, num_labels).reshape(-1, 1, 1)


def _centers(masks):
    """Centers (b, t, k, 2) in pixels and sizes (b, t, k) of masks (b, t, k, h, w)."""
    rows, columns = (masks.astype(jnp.float32).sum(axis) for axis in (4, 3))
    size = rows.sum(3)
    y, x = (exact_einsum("btkn,n->btk", part, np.arange(part.shape[-1])) for part in (rows, columns))
    return jnp.stack([y, x], -1) / jnp.maximum(size, 1.0)[..., None], size


def dilate(masks: Bool[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """Masks with the pixels that touch them."""
    padded = jnp.pad(masks, [(0, 0)] * (masks.ndim - 2) + [(1, 1), (1, 1)])
    rows = padded[..., :-2, :] | padded[..., 1:-1, :] | padded[..., 2:, :]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


def _track(shape, origin, free, centers):
    """Displacements (b, t, k, 2) of shapes (b, k, h, w) with centers at origin (b, k, 2).

    free: (b, t, k, h, w), where later labels do not occlude. centers: (b, t, k, 2), of the visible
    parts. Occlusion and the border shift those: the shape, moved and cut off alike, must have the same
    center. Where nothing is visible, the displacement is that of the frame before, or the first one.
    """
    offsets, visible = centers - origin[:, None], centers.sum(-1) > 0
    for _ in range(2):
        planes = shape[:, :, None].astype(jnp.uint8)
        moved = shift(planes, offsets.swapaxes(1, 2), nearest=False)[:, :, :, 0].swapaxes(1, 2)
        expected, size = _centers(moved * free)
        valid = visible & (size > 0)
        offsets += jnp.where(valid[..., None], centers - expected, 0.0)
    time = jnp.arange(visible.shape[1]).reshape(-1, 1)
    last = jax.lax.cummax(jnp.where(visible, time, -1), axis=1)
    last = jnp.where(last < 0, jnp.argmax(visible, 1)[:, None], last)
    return jnp.take_along_axis(offsets, last[..., None], 1)
