"""Objects carried whole: what the observed fusion pictures show of each label, moved along its own path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, UInt8

from vidpred_jax.fusion import EDGE_THRESHOLD, PALETTE, decode, to_float

_LENGTHS = (5, 4, 6, 8, 11, 16)  # Pictures that a velocity is told from; the first: that of late.
_LATE = 0
_NOISE = 0.1  # Of an object's place, in pixels.
_AGE = 0.0471  # An older picture of an object is better if so much more is seen, a frame.
_WHOLE = 8  # The power of its share in sight that an object has a say in errors with.
# Centres of masks are often at half pixels, where the last bit would decide: the border is next to them.
_HALF = 0.51
_QUICK = 10.0  # Under Adam, how many times faster than others the numbers here are learned.


@struct.dataclass
class Objects:
    """Objects of a clip as observed, one for each label but the background.

    shape: (b, k, 2, h, w), its plain and its white pixels, 0 or 1, where it was seen best. offset:
    (b, k, 2), from there to where it is in the newest picture, in pixels. center: (b, k, 2), there.
    velocities: (b, k, 2, 2), pixels a frame: the usual one, and that of late (see `_velocities`).
    radius: (b, k), pixels from its centre to what is furthest. size: (b, k), pixels.
    """

    shape: UInt8[Array, "b k 2 h w"]
    offset: Float[Array, "b k 2"]
    center: Float[Array, "b k 2"]
    velocities: Float[Array, "b k 2 2"]
    radius: Float[Array, "b k"]
    size: Float[Array, "b k"]


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
        velocities=_velocities(offsets),
        radius=jnp.sqrt(jnp.where(shape, reach, 0.0).max((2, 3))),
        size=of_best(sizes) * here,
    )


class ObjectMotion(nn.Module):
    """Observed objects -> where they will be (ours).

    Six numbers are learned: how far each velocity is trusted and how fast it dies out, and how near to
    the border objects turn back, in their radius. More would learn scenes by heart.
    """

    @nn.compact
    def __call__(self, objects: Objects, ahead: Float[Array, "b t"]) -> Float[Array, "b k t 2"]:
        """Pixels from where each object is in the newest observed picture to where it is `ahead` frames
        after it."""

        def number(name, *start):
            init = nn.initializers.constant(jnp.array(start) / _QUICK)
            return _QUICK * self.param(name, init, (len(start),))

        # The last share stands still.
        trust = jax.nn.softmax(number("trust", 1.0, 1.0, -1.0))[:-1]
        decay = jax.nn.softplus(number("decay", -3.0, -3.0)) + 1e-4
        decay = decay[:, None]
        frames = (
            -jnp.expm1(-decay * ahead[:, None]) / decay
        )  # As long at the first speed: (b, v, t).
        path = _einsum("v,bkvc,bvt->bktc", trust, objects.velocities, frames)
        inset = number("wall", 0.5) * objects.radius
        return _reflect(path, objects.center, inset, jnp.array(objects.shape.shape[3:]) - 1.0)


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


def _einsum(form, *parts):
    """Of places, which half precision would blur by pixels."""
    return jnp.einsum(form, *parts, precision=jax.lax.Precision.HIGHEST)


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
    y, x = (_einsum("btkn,n->btk", part, np.arange(part.shape[-1])) for part in (rows, columns))
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


def _velocities(offsets):
    """Pixels a frame (b, k, 2, 2) from places (b, t, k, 2): the usual velocity, and that of late, the
    slope of the line nearest to the newest places.

    The usual one is the slope of the stretch of the way that tells it best, long and straight, down and
    across for themselves; where that ended before the newest picture, at a wall say, in the direction of
    the last two steps (0 if they cancel out).
    """
    slopes, rests, steadiness, at_end = _stretches(offsets.shape[1])
    found = _einsum("st,btkc->sbkc", slopes, offsets)
    bent = jnp.square(_einsum("sut,btkc->sbukc", rests, offsets)).sum(2)
    doubt = (bent + _NOISE**2) / steadiness
    best = jnp.argmin(doubt, 0)
    usual = jnp.take_along_axis(found, best[None], 0)[0]
    newest = offsets[:, -1] - offsets[:, -3]
    usual = jnp.where(jnp.asarray(at_end)[best], usual, jnp.abs(usual) * jnp.sign(newest))
    late = _einsum("t,btkc->bkc", slopes[_LATE], offsets)
    return jnp.stack([usual, late], 2)


@functools.lru_cache(maxsize=8)
def _stretches(frames: int):
    """Stretches of a way of so many places, the newest ones first: for each the weights (s, t) of its
    slope; the weights (s, t, t) of the root mean square's parts of what a line leaves of it; how
    sharply it tells a slope (s,); whether it is the newest (s,).
    """
    slopes, rests, steadiness, at_end = [], [], [], []
    for length in _LENGTHS:
        for end in range(frames, length - 1, -1):
            inside = (np.arange(frames) < end) & (np.arange(frames) >= end - length)
            time = np.where(inside, np.arange(frames) - (end - (length + 1) / 2), 0.0)
            spread = np.square(time).sum()
            line = np.outer(time, time) / spread + np.outer(inside, inside) / length
            slopes.append(time / spread)
            rests.append((np.diag(inside.astype(float)) - line) / np.sqrt(length))
            steadiness.append(spread)
            at_end.append(end == frames)
    slopes, rests, steadiness = (np.asarray(x, np.float32) for x in (slopes, rests, steadiness))
    return slopes, rests, steadiness.reshape(-1, 1, 1, 1), np.array(at_end)


def _reflect(path, center, inset, extent):
    """Paths (b, k, t, 2) from centres (b, k, 2) that turn back where less than `inset` (b, k) is left to
    the border, at 0 or `extent` (2). Where a centre is beyond that already, it turns there.
    """
    low = jnp.minimum(inset[..., None], center)
    high = jnp.maximum(extent - inset[..., None], center)
    low, room = low[:, :, None], jnp.maximum(high - low, 1.0)[:, :, None]
    along = (center[:, :, None] + path - low) % (2 * room)
    return low + jnp.where(along < room, along, 2 * room - along) - center[:, :, None]


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
