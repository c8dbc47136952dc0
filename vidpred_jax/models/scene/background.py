"""The background of a clip: how a camera pans over it, and all that was seen of it behind its objects."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from vidpred_jax.models.ops import blur, move_by, plain_warp, resize, shift
from vidpred_jax.models.scene import tracking

# How many frames before the newest are held against it, nearer ones first, and how often.
_ROUNDS = (((1, 2), 4), ((3, 4), 3), ((6, 8), 3), ((9, 11, 13, 15), 3))
_LATE = 4  # Frames over which the pan is that of late.
# The difference from which on a pixel counts less, and what holds a pan back where nothing tells it.
_OF_EDGES, _OF_FRAMES = (0.3, 0.01), (0.05, 0.001)
_EVERY = 2  # Frames between those that the background is put together from.
_FEW = 16  # Pixels of edges, of which half is believed of a pan.


@struct.dataclass
class Background:
    """planes: (b, c, h, w), as the newest frame would show them without its objects. known: (b, h, w),
    where. pans: (b, 2, 2), by how many pixels a frame it moves, up to 4: over the whole clip, and of late.
    """

    planes: Float[Array, "b c h w"]
    known: Bool[Array, "b h w"]
    pans: Float[Array, "b 2 2"]

    def edges(self, path: Float[Array, "b t 2"]) -> Bool[Array, "b t h w"]:
        """Its first plane moved along a path, in pixels, to the nearest whole ones. No gradient."""
        moved = shift(self.planes[:, None, :1], jax.lax.stop_gradient(path)[:, None])
        return moved[:, 0, :, 0] > 0.5

    def frames(self, path: Float[Array, "b t 2"]) -> Float[Array, "b t h w c"]:
        """Its planes moved along a path, bilinear; what comes in at the border is as the border is. The
        gradient reaches the path alone.
        """
        return move_by(_along, path, jnp.moveaxis(self.planes, 1, -1))


def _along(path, planes):
    (b, t), (h, w) = path.shape[:2], planes.shape[1:3]
    flow = jnp.broadcast_to(-path.reshape(b * t, 1, 1, 2), (b * t, h, w, 2))
    return plain_warp(jnp.repeat(planes, t, 0), flow).reshape(b, t, h, w, -1)


def observe(
    planes: Float[Array, "b t c h w"], shown: Bool[Array, "b t h w"], lines: bool = False
) -> Background:
    """The background of planes in [-1, 1] that show it where `shown`; elsewhere it is 0 and not known.

    What newer frames hide is taken from older ones, moved as the camera was, lines by whole pixels.
    No gradient.
    """
    planes, visible = jax.lax.stop_gradient(planes), shown.astype(jnp.float32)
    pans = _pans(planes.mean(2), visible, _OF_EDGES if lines else _OF_FRAMES)
    both = jnp.concatenate([planes, jnp.ones_like(planes[:, :, :1])], 2) * visible[:, :, None]
    ages = np.arange(0, min(planes.shape[1], _ROUNDS[-1][0][-1] + 1), _EVERY)
    moved = jnp.stack([_over(pans, age) * age for age in ages], 1)
    both = shift(both[:, -1 - ages], moved[:, :, None], lines)[:, :, 0]
    found, known = both[:, 0, :-1], shown[:, -1]
    for older in range(1, len(ages)):
        there = both[:, older, -1] > 0.99
        found = jnp.where((there & ~known)[:, None], both[:, older, :-1], found)
        known |= there
    return Background(found, known, jnp.stack([pans[-1], _over(pans, _LATE)], 1))


@functools.partial(jax.jit, static_argnames="labels")
def observe_edges(clip: Float[Array, "b t h w 3"], labels: int) -> Background:
    """That of fusion pictures: its edges, 0 or 1; those that touch an object are not its own."""
    edges, shown = _of_pictures(clip, labels)
    return observe(edges[:, :, None], shown, lines=True)


@functools.partial(jax.jit, static_argnames="labels")
def observe_frames(
    frames: Float[Array, "b t h w 3"], pictures: Float[Array, "b t h w 3"], labels: int
) -> Background:
    """That of RGB frames, whose fusion pictures tell where they show it; where none does, it is smooth."""
    _, shown = _of_pictures(pictures, labels)
    found = observe(jnp.moveaxis(frames.astype(jnp.float32), -1, 2), shown)
    both = jnp.concatenate([found.planes, found.known[:, None]], 1).astype(jnp.float32)
    both = blur(jnp.moveaxis(both, 1, -1), max(frames.shape[2:4]) / 16)
    smooth = jnp.moveaxis(both[..., :-1] / jnp.maximum(both[..., -1:], 1e-3), -1, 1)
    return found.replace(planes=jnp.where(found.known[:, None], found.planes, smooth))


@functools.partial(jax.jit, static_argnames="labels")
def trajectory_error(
    path: Float[Array, "b 2"], coming: Float[Array, "b t h w 3"], labels: int
) -> Float[Array, " b"]:
    """How far from the pan over pictures that came a path between the first and last of them leads, in
    sides of a picture. Where they have few edges it counts less.
    """
    edges, shown = _of_pictures(coming, labels)
    t, size = coming.shape[1], jnp.array(coming.shape[2:4])
    came = _pans(edges, shown.astype(jnp.float32), _OF_EDGES)[-1] * (t - 1)
    few = edges.sum((2, 3)).min(1)
    distance = jnp.sqrt(jnp.square((path - came) / size).sum(-1) + 1e-6)
    return few / (few + _FEW) * distance


def _of_pictures(clip, labels):
    """Edges of the background and where it is in sight (b, t, h, w)."""
    edges, found, masks = tracking.read(clip, labels)
    shown = (found == 0) & ~tracking.widen(masks.any(2))
    return (edges & shown).astype(jnp.float32), shown


def _pans(planes, shown, limits):
    """Pixels a frame (b, 2) of planes (b, t, h, w) that show the background where `shown` is 1, over few
    frames, and over more and more. Found at half the resolution.
    """
    t, (h, w) = planes.shape[1], planes.shape[2:]
    picture = lambda x: x.reshape(-1, h, w, 1)
    half = lambda x: resize(picture(x), h // 2, w // 2).reshape(-1, t, h // 2, w // 2)
    planes, shown = half(planes), half(shown) > 0.99
    size = jnp.array([h / (h // 2), w / (w // 2)])
    pan, pans = jnp.zeros((len(planes), 2)), []
    for spans, times in _ROUNDS:
        spans = np.array([span for span in spans if span < t])
        if len(spans):
            step = lambda _, pan, spans=spans: pan + _step(planes, shown, pan, spans, limits)
            pan = jax.lax.fori_loop(0, times, step, pan)
            pans.append(pan * size)
    return pans or [pan]


def _over(pans, frames):
    """Of the pans of rounds, that over the fewest frames that reach back so far."""
    reaching = next(i for i, (spans, _) in enumerate(_ROUNDS) if max(spans) >= frames)
    return pans[min(reaching, len(pans) - 1)]


def _step(planes, shown, pan, spans, limits):
    """A step of least squares (Lucas and Kanade 1981), one for all pixels, reweighed against outliers."""
    (noise, damping), newest, older = limits, planes[:, -1:], -1 - spans
    both = jnp.stack([planes[:, older], shown[:, older].astype(jnp.float32)], 2)
    time = jnp.asarray(spans, jnp.float32)
    moved, there = jnp.split(
        shift(both, (pan[:, None] * time[:, None])[:, :, None], False)[:, :, 0], 2, 2
    )
    moved, known = moved[:, :, 0], (there[:, :, 0] > 0.99) & shown[:, -1:]
    error = newest - moved
    middle = jnp.pad((newest + moved) / 2, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    dy = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    dx = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    weight = known * jax.lax.rsqrt(jnp.square(error) + noise**2)
    mean = lambda x, power: ((weight * x).mean((2, 3)) * time**power).sum(1)
    yy, xx, yx = mean(dy * dy, 2) + damping, mean(dx * dx, 2) + damping, mean(dy * dx, 2)
    ye, xe = -mean(dy * error, 1), -mean(dx * error, 1)
    step = jnp.stack([xx * ye - yx * xe, yy * xe - yx * ye], -1) / (yy * xx - yx * yx)[:, None]
    return jnp.clip(step, -1 / spans.max(), 1 / spans.max())
