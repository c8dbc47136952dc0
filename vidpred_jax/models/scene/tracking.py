"""Objects carried whole: what observed fusion pictures show of each label, and that moved."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, UInt8

from vidpred_jax.data.fusion import decode
from vidpred_jax.models.ops import exact_einsum, shift
from vidpred_jax.models.scene.rotation import WHOLE, estimate_rotation, rotate_codes
from vidpred_jax.models.scene.trajectories import velocities

_AGE = 0.0471  # An older picture of an object is better if so much more is seen, a frame.


@struct.dataclass
class Objects:
    """Objects of a clip as observed, one for each label but the background.

    shape: (b, k, 2, h, w), its plain and its white pixels, 0 or 1, where it was seen best. offset:
    (b, k, 2), from there to where it is in the newest picture, in pixels. center: (b, k, 2), there.
    velocities: (b, k, 2, 2), pixels a frame: the usual one, and that of late (see `paths.velocities`).
    radius: (b, k), pixels from its centre to what is furthest. size: (b, k), pixels. rotation: (b, k),
    radians a frame. age: (b, k), frames since it was seen best.
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
    def start(self):
        """What `paths.Trajectories` asks for first."""
        return self.velocities, self.center, self.radius

    def along(self, path: Float[Array, "b k t 2"]):
        """Their centres where they were seen best, and how far they are from there along their paths."""
        return self.center - self.offset, self.offset[:, :, None] + path

    def moved(self, path: Float[Array, "b k t 2"], angle: Float[Array, "b k t"]):
        """The shapes along their paths, turned: plain and white pixels, each a list of masks (b, t, h, w)."""
        codes = self.shape[:, :, 0] + 2 * self.shape[:, :, 1]
        moved = rotate_codes(codes, *self.along(path), angle)
        return [list(jnp.moveaxis(moved == code, 1, 0)) for code in (1, 2)]


@functools.partial(jax.jit, static_argnames="labels")
def observe(clip: Float[Array, "b t h w 3"], labels: int) -> Objects:
    """The objects of fusion pictures, labels counting the background. No gradient reaches them.

    An object is kept as the picture shows it where most of it is in sight, a newer one before one that
    shows little more: what others or the border hide now is remembered. One that the newest picture
    does not show, and no later label hides there, has left.
    """
    edges, found, masks = read(clip, labels)
    centers, sizes = _centers(masks)
    age = jnp.arange(clip.shape[1] - 1.0, -1, -1).reshape(-1, 1)
    best = jnp.argmax(sizes / jnp.maximum(sizes.max(1, keepdims=True), 1.0) - _AGE * age, 1)
    of_best = lambda x: jnp.take_along_axis(
        x, best.reshape(len(x), 1, -1, *[1] * (x.ndim - 3)), axis=1
    )[:, 0]
    shape, origin = of_best(masks), of_best(centers)
    open_to = _open_to(found, labels)
    offsets = _track(shape, origin, open_to, centers)
    moved = shift(shape[:, :, None], offsets[:, -1][:, :, None])[:, :, 0, 0]
    hidden = (moved * ~open_to[:, -1]).sum((2, 3)) > moved.sum((2, 3)) / 2
    here = (sizes[:, -1] > 0) | hidden
    shape &= here[..., None, None]
    # An outline is white, and often taken for background: what touches an object is its own.
    outline = edges[:, :, None] & (masks | (found[:, :, None] == 0))
    white = of_best(outline) & widen(shape)
    reach = [jnp.arange(side) - origin[..., i, None] for i, side in enumerate(shape.shape[2:])]
    reach = jnp.square(reach[0])[..., :, None] + jnp.square(reach[1])[..., None, :]
    radius = jnp.sqrt(jnp.where(shape, reach, 0.0).max((2, 3)))
    rotation = estimate_rotation(masks, centers, sizes)
    return Objects(
        shape=jnp.stack([shape & ~white, white], 2).astype(jnp.uint8),
        offset=offsets[:, -1],
        center=origin + offsets[:, -1],
        velocities=velocities(offsets),
        radius=radius,
        size=of_best(sizes) * here,
        rotation=rotation,
        age=age[best, 0],
    )


@jax.jit
def trajectory_error(
    path: Float[Array, "b k t 2"], objects: Objects, coming: Float[Array, "b t h w 3"]
) -> Float[Array, " b"]:
    """How far paths lead from the centres of labels in the pictures that came, in sides of a picture.

    Where less is in sight of an object than there is of it, its centre misleads and counts less.
    """
    k, h, w = path.shape[1], *coming.shape[2:4]
    centers, sizes = (x.swapaxes(1, 2) for x in _centers(read(coming, k + 1)[2]))
    weight = _weight(sizes, objects.size[..., None])
    away = (objects.center[:, :, None] + path - centers) / jnp.array([h, w])
    distance = jnp.sqrt(jnp.square(away).sum(-1) + 1e-6)
    return (weight * distance).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)


@jax.jit
def rotation_error(
    angle: Float[Array, "b k"], objects: Objects, coming: Float[Array, "b t h w 3"]
) -> Float[Array, " b"]:
    """How far from what labels turn in pictures that came an angle between the first and last of them
    leads, at the objects' outermost, in sides of a picture. What is not in sight counts less.
    """
    k, t = angle.shape[1], coming.shape[1]
    masks = read(coming, k + 1)[2]
    centers, sizes = _centers(masks)
    away = (
        (angle - estimate_rotation(masks, centers, sizes) * (t - 1))
        * objects.radius
        / max(coming.shape[2:4])
    )
    weight = _weight(sizes, objects.size[:, None]).mean(1)
    distance = jnp.sqrt(jnp.square(away) + 1e-6)
    return (weight * distance).sum(1) / jnp.maximum(weight.sum(1), 1.0)


def _weight(sizes, size):
    """What objects of a size have to say in errors where they are seen so large: 0 to 1."""
    return jnp.minimum(sizes / jnp.maximum(size, 1.0), 1.0) ** WHOLE * (size > 0)


def read(
    clip: Float[Array, "b t h w 3"], labels: int
) -> tuple[Bool[Array, "b t h w"], Int[Array, "b t h w"], Bool[Array, "b t k h w"]]:
    """Edges and labels of fusion pictures, and the places of each label but the background's."""
    edges, found = decode(jax.lax.stop_gradient(clip.astype(jnp.float32)), labels)
    return edges, found, found[:, :, None] == _numbers(labels)


def track(
    shape: Bool[Array, "b k h w"],
    origin: Float[Array, "b k 2"],
    found: Int[Array, "b t h w"],
    masks: Bool[Array, "b t k h w"],
) -> Float[Array, "b t k 2"]:
    """How far shapes, their centres at origin, are moved in pictures of which `read` gave the rest."""
    return _track(shape, origin, _open_to(found, masks.shape[2] + 1), _centers(masks)[0])


def away(
    expected: Bool[Array, "b k t h w"],
    found: Int[Array, "b t h w"],
    masks: Bool[Array, "b t k h w"],
) -> Float[Array, "b k t 2"]:
    """How far, in pixels, it is from the middle of what should be seen of shapes to that of their labels
    there and next to it; labels further away have no say, for more of an object may come to light.
    """
    expected = expected.swapaxes(1, 2)
    there, _ = _centers(masks & widen(expected))
    return (there - _centers(expected & _open_to(found, masks.shape[2] + 1))[0]).swapaxes(1, 2)


def _open_to(found, labels):
    """Where each label may be (b, t, k, h, w): later ones hide it where they are."""
    return found[:, :, None] <= _numbers(labels)


def _numbers(labels):
    return jnp.arange(1, labels).reshape(-1, 1, 1)


def _centers(masks):
    """Centres (b, t, k, 2) in pixels and sizes (b, t, k) of masks (b, t, k, h, w)."""
    rows, columns = (masks.astype(jnp.float32).sum(axis) for axis in (4, 3))
    size = rows.sum(3)
    y, x = (
        exact_einsum("btkn,n->btk", part, np.arange(part.shape[-1])) for part in (rows, columns)
    )
    return jnp.stack([y, x], -1) / jnp.maximum(size, 1.0)[..., None], size


def widen(masks: Bool[Array, "*b h w"]) -> Bool[Array, "*b h w"]:
    """Masks with the pixels that touch them."""
    padded = jnp.pad(masks, [(0, 0)] * (masks.ndim - 2) + [(1, 1), (1, 1)])
    rows = padded[..., :-2, :] | padded[..., 1:-1, :] | padded[..., 2:, :]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


def _track(shape, origin, open_to, centers):
    """How far a shape (b, k, h, w), its centre at origin (b, k, 2), is moved in pictures whose pixels
    `open_to` (b, t, k, h, w) it may show: offsets (b, t, k, 2), by the centres (b, t, k, 2) of what is in
    sight of it.

    What others or the border hide moves the centre of the rest: of the shape, moved and cut off alike,
    it must be the same. Where nothing is in sight it is where it was before, or first.
    """
    offsets, seen = centers - origin[:, None], centers.sum(-1) > 0
    for _ in range(2):
        planes = shape[:, :, None].astype(jnp.uint8)
        moved = shift(planes, offsets.swapaxes(1, 2), nearest=False)[:, :, :, 0].swapaxes(1, 2)
        expected, size = _centers(moved * open_to)
        told = seen & (size > 0)
        offsets += jnp.where(told[..., None], centers - expected, 0.0)
    time = jnp.arange(seen.shape[1]).reshape(-1, 1)
    last = jax.lax.cummax(jnp.where(seen, time, -1), axis=1)
    last = jnp.where(last < 0, jnp.argmax(seen, 1)[:, None], last)
    return jnp.take_along_axis(offsets, last[..., None], 1)
