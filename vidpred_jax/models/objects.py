"""Objects carried whole: what observed fusion pictures show of each label, and that moved and drawn."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, UInt8

from vidpred_jax.fusion import EDGE_THRESHOLD, PALETTE, decode, to_float
from vidpred_jax.models.paths import exact_einsum, velocities

_AGE = 0.0471  # An older picture of an object is better if so much more is seen, a frame.
_WHOLE = 8  # The power of its share in sight that an object has a say in errors with.
# Centres of masks are often at half pixels, where the last bit would decide: the border is next to them.
_HALF = 0.51


@struct.dataclass
class Objects:
    """Objects of a clip as observed, one for each label but the background.

    shape: (b, k, 2, h, w), its plain and its white pixels, 0 or 1, where it was seen best. offset:
    (b, k, 2), from there to where it is in the newest picture, in pixels. center: (b, k, 2), there.
    velocities: (b, k, 2, 2), pixels a frame: the usual one, and that of late (see `paths.velocities`).
    radius: (b, k), pixels from its centre to what is furthest. size: (b, k), pixels.
    """

    shape: UInt8[Array, "b k 2 h w"]
    offset: Float[Array, "b k 2"]
    center: Float[Array, "b k 2"]
    velocities: Float[Array, "b k 2 2"]
    radius: Float[Array, "b k"]
    size: Float[Array, "b k"]

    @property
    def start(self):
        """What `paths.Paths` asks for first."""
        return self.velocities, self.center, self.radius


def observe(clip: Float[Array, "b t h w 3"], labels: int) -> Objects:
    """The objects of fusion pictures, labels counting the background. No gradient reaches them.

    An object is kept as the picture shows it where most of it is in sight, a newer one before one that
    shows little more: what others or the border hide now is remembered. One that the newest picture
    does not show, and no later label hides there, has left.
    """
    edges, found, masks = _decode(clip, labels)
    centers, sizes = _centers(masks)
    age = jnp.arange(clip.shape[1] - 1.0, -1, -1).reshape(-1, 1)
    best = jnp.argmax(sizes / jnp.maximum(sizes.max(1, keepdims=True), 1.0) - _AGE * age, 1)
    of_best = lambda x: jnp.take_along_axis(
        x, best.reshape(len(x), 1, -1, *[1] * (x.ndim - 3)), axis=1
    )[:, 0]
    shape, origin = of_best(masks), of_best(centers)
    # Later labels hide earlier ones: where they are, an object may be or not.
    open_to = found[:, :, None] <= _numbers(labels)
    offsets = _track(shape, origin, open_to, centers)
    moved = _shift(shape[:, :, None], offsets[:, -1][:, :, None])[:, :, 0, 0]
    hidden = (moved * ~open_to[:, -1]).sum((2, 3)) > moved.sum((2, 3)) / 2
    here = (sizes[:, -1] > 0) | hidden
    shape &= here[..., None, None]
    # An outline is white, and often taken for background: what touches an object is its own.
    outline = edges[:, :, None] & (masks | (found[:, :, None] == 0))
    white = of_best(outline) & _widen(shape)
    reach = [jnp.arange(side) - origin[..., i, None] for i, side in enumerate(shape.shape[2:])]
    reach = jnp.square(reach[0])[..., :, None] + jnp.square(reach[1])[..., None, :]
    return Objects(
        shape=jnp.stack([shape & ~white, white], 2).astype(jnp.uint8),
        offset=offsets[:, -1],
        center=origin + offsets[:, -1],
        velocities=velocities(offsets),
        radius=jnp.sqrt(jnp.where(shape, reach, 0.0).max((2, 3))),
        size=of_best(sizes) * here,
    )


def path_error(
    path: Float[Array, "b k t 2"], objects: Objects, coming: Float[Array, "b t h w 3"]
) -> Float[Array, " b"]:
    """How far paths lead from the centres of labels in the pictures that came, in sides of a picture.

    Where less is in sight of an object than there is of it, its centre misleads and counts less.
    """
    k, h, w = path.shape[1], *coming.shape[2:4]
    centers, sizes = (x.swapaxes(1, 2) for x in _centers(_decode(coming, k + 1)[2]))
    size = objects.size[..., None]
    weight = jnp.minimum(sizes / jnp.maximum(size, 1.0), 1.0) ** _WHOLE * (size > 0)
    away = (objects.center[:, :, None] + path - centers) / jnp.array([h, w])
    distance = jnp.sqrt(jnp.square(away).sum(-1) + 1e-6)
    return (weight * distance).sum((1, 2)) / jnp.maximum(weight.sum((1, 2)), 1.0)


def draw(
    objects: Objects, path: Float[Array, "b k t 2"], newest: Float[Array, "b h w 3"]
) -> Float[Array, "b {path.shape[2]-1} h w 3"]:
    """Clean fusion pictures: the edges of the newest one, and the objects over them. No gradient.

    path: from where the objects were observed, first to where they are in `newest`, then to where they
    come, one more than the pictures. Where they leave and none comes, it is black.
    What is moved whole neither fades nor frays.
    """
    k = path.shape[1]
    moved = jax.lax.stop_gradient(_shift(objects.shape, objects.offset[:, :, None] + path))
    plain, edge = (
        [label[:, 0, :, 0] for label in jnp.split(part, k, 1)] for part in jnp.split(moved, 2, 3)
    )  # Of each object (b, t, h, w).
    before = sum(a[:, :1] + b[:, :1] for a, b in zip(plain, edge, strict=True))
    edges = (newest.min(-1)[:, None] > EDGE_THRESHOLD) & (before == 0)
    colors = to_float(jnp.asarray(PALETTE[: k + 1])) + 1  # Above black.
    channels = []
    for channel in range(3):
        shown = jnp.where(edges, 2.0, colors[0, channel])
        for color, a, b in zip(colors[1:, channel], plain, edge, strict=True):
            shown = shown * (1 - a[:, 1:] - b[:, 1:]) + a[:, 1:] * color + 2 * b[:, 1:]
        channels.append(shown)
    return jnp.stack(channels, -1) - 1


def move_pixels(
    frame: Float[Array, "b h w 3"],
    picture: Float[Array, "b h w 3"],
    pictures: Float[Array, "b t h w 3"],
    labels: int,
) -> tuple[Float[Array, "b t h w 3"], Bool[Array, "b t h w"]]:
    """The pixels that objects have in a frame, moved as whole as their labels have moved from its fusion
    picture to others; and where in those it is known. Bilinear; no gradient.
    """
    _, found, masks = _decode(pictures, labels)
    shape = _decode(picture[:, None], labels)[2][:, 0]
    origin, centers = _centers(shape[:, None])[0], _centers(masks)[0]
    open_to = found[:, :, None] <= _numbers(labels)
    offsets = _track(shape, origin[:, 0], open_to, centers).swapaxes(1, 2)
    shape = shape[:, :, None].astype(jnp.float32)
    planes = jnp.concatenate([shape, shape * jnp.moveaxis(frame, -1, 1)[:, None]], 2)
    moved = jax.lax.stop_gradient(_shift(planes, offsets, nearest=False)).swapaxes(1, 2)
    known = masks & (moved[:, :, :, 0] > 1 - _HALF)  # (b, t, k, h, w), at most one of k.
    moved = moved / jnp.maximum(moved[:, :, :, :1], 0.5)
    pixels = jnp.where(known[:, :, :, None], moved, 0.0).sum(2)
    return jnp.moveaxis(pixels[:, :, 1:], 2, -1), known.any(2)


def _decode(clip, labels):
    """Edges and labels (b, t, h, w) of fusion pictures, and each label's places (b, t, k, h, w)."""
    edges, found = decode(jax.lax.stop_gradient(clip.astype(jnp.float32)), labels)
    return edges, found, found[:, :, None] == _numbers(labels)


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


def _widen(masks):
    """Masks (..., h, w) with the pixels that touch them."""
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
        moved = _shift(planes, offsets.swapaxes(1, 2), nearest=False)[:, :, :, 0].swapaxes(1, 2)
        expected, size = _centers(moved * open_to)
        told = seen & (size > 0)
        offsets += jnp.where(told[..., None], centers - expected, 0.0)
    time = jnp.arange(seen.shape[1]).reshape(-1, 1)
    last = jax.lax.cummax(jnp.where(seen, time, -1), axis=1)
    last = jnp.where(last < 0, jnp.argmax(seen, 1)[:, None], last)
    return jnp.take_along_axis(offsets, last[..., None], 1)


def _shift(planes, offset, nearest=True):
    """planes (b, k, n, h, w), moved by offset (b, k, t, 2) pixels: float32 (b, k, t, n, h, w).

    Zeros come from outside. By whole pixels, if to the nearest (half ones: to the next): outlines stay
    sharp, and lines of one pixel whole. Otherwise bilinear.
    """
    n, *size = planes.shape[2:]
    limit = jnp.array(size, jnp.float32)
    offset = jnp.clip(offset, -limit, limit)  # Further away nothing of it is seen.
    if nearest:
        offset = jnp.floor(offset + _HALF)
    # Not at whole pixels, common as they are, does the last bit decide: what is left is -.01 to .99.
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
