"""Background of a clip: the camera's pan over it, and a mosaic of what objects do not occlude."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from vidpred_jax.ops import blur, resize, shift, translate
from vidpred_jax.proposals.scene import tracking

# Rounds of the pan's estimation: the last frame is compared with those so many frames before it, in so
# many iterations.
_ROUNDS = (((1, 2), 4), ((3, 4), 3), ((6, 8), 3), ((9, 11, 13, 15), 3))
_RECENT = 4  # Frames of the recent pan.
# Difference above which pixels have less weight, and damping, which keeps the pan at 0 without texture.
_OF_EDGES, _OF_FRAMES = (0.3, 0.01), (0.05, 0.001)
_MOSAIC_STRIDE = 2  # Frames between those that the mosaic is made from.
_FEW_EDGES = 16  # Edge pixels at which the weight of a pan's error is one half.


@struct.dataclass
class Background:
    """planes: (b, c, h, w), the mosaic as in the last frame, without objects. observed: (b, h, w), where
    any frame shows it. pans: (b, 2, 2), pixels per frame, up to 4: over the whole clip, and the recent one.
    """

    planes: Float[Array, "b c h w"]
    observed: Bool[Array, "b h w"]
    pans: Float[Array, "b 2 2"]

    def edges(self, displacement: Float[Array, "b t 2"]) -> Bool[Array, "b t h w"]:
        """The first plane moved by displacements, rounded to whole pixels. No gradient."""
        moved = shift(self.planes[:, None, :1], jax.lax.stop_gradient(displacement)[:, None])
        return moved[:, 0, :, 0] > 0.5

    def frames(self, displacement: Float[Array, "b t 2"]) -> Float[Array, "b t h w c"]:
        """The planes moved by displacements in pixels: bilinear, border replicated. The gradient reaches
        the displacements alone.
        """
        planes = jax.lax.stop_gradient(jnp.moveaxis(self.planes, 1, -1))
        return translate(jnp.repeat(planes[:, None], displacement.shape[1], 1), displacement)


def observe(
    planes: Float[Array, "b t c h w"], visible: Bool[Array, "b t h w"], lines: bool = False
) -> Background:
    """The background of planes in [-1, 1], which show it where `visible`; it is 0 where it never is.

    What newer frames occlude comes from older ones, moved by the pan; lines by whole pixels. No gradient.
    """
    planes, weight = jax.lax.stop_gradient(planes), visible.astype(jnp.float32)
    pans = _pans(planes.mean(2), weight, _OF_EDGES if lines else _OF_FRAMES)
    layers = jnp.concatenate([planes, jnp.ones_like(planes[:, :, :1])], 2) * weight[:, :, None]
    ages = np.arange(0, min(planes.shape[1], _ROUNDS[-1][0][-1] + 1), _MOSAIC_STRIDE)
    moved = jnp.stack([_pan_over(pans, age) * age for age in ages], 1)
    layers = shift(layers[:, -1 - ages], moved[:, :, None], lines)[:, :, 0]
    mosaic, observed = layers[:, 0, :-1], visible[:, -1]
    for older in range(1, len(ages)):
        valid = layers[:, older, -1] > 0.99
        mosaic = jnp.where((valid & ~observed)[:, None], layers[:, older, :-1], mosaic)
        observed |= valid
    return Background(mosaic, observed, jnp.stack([pans[-1], _pan_over(pans, _RECENT)], 1))


@functools.partial(jax.jit, static_argnames="num_labels")
def observe_edges(
    edges: Float[Array, "b t h w"], labels: Int[Array, "b t h w"], num_labels: int
) -> Background:
    """The edges, 0 or 1, of the background, without those that touch an object."""
    edges, visible = _behind(edges, labels, num_labels)
    return observe(edges[:, :, None], visible, lines=True)


@functools.partial(jax.jit, static_argnames="num_labels")
def observe_frames(
    frames: Float[Array, "b t h w 3"], labels: Int[Array, "b t h w"], num_labels: int
) -> Background:
    """The background of RGB frames, visible where no object is labelled. The mosaic is filled with a blur
    of itself where no frame shows it.
    """
    visible = _visible(labels, num_labels)
    background = observe(jnp.moveaxis(frames.astype(jnp.float32), -1, 2), visible)
    layers = [background.planes, background.observed[:, None]]
    layers = jnp.moveaxis(jnp.concatenate(layers, 1).astype(jnp.float32), 1, -1)
    layers = blur(layers, max(frames.shape[2:4]) / 16)
    smooth = jnp.moveaxis(layers[..., :-1] / jnp.maximum(layers[..., -1:], 1e-3), -1, 1)
    planes = jnp.where(background.observed[:, None], background.planes, smooth)
    return background.replace(planes=planes)


@functools.partial(jax.jit, static_argnames="num_labels")
def pan_error(
    displacement: Float[Array, "b 2"],
    edges: Float[Array, "b t h w"],
    labels: Int[Array, "b t h w"],
    num_labels: int,
) -> Float[Array, " b"]:
    """Error of the displacement from the first to the last of future edges and labels, in picture sides.

    Pictures with few edges have less weight.
    """
    edges, visible = _behind(edges, labels, num_labels)
    t, size = labels.shape[1], jnp.array(labels.shape[2:4])
    actual = _pans(edges, visible.astype(jnp.float32), _OF_EDGES)[-1] * (t - 1)
    count = edges.sum((2, 3)).min(1)
    distance = jnp.sqrt(jnp.square((displacement - actual) / size).sum(-1) + 1e-6)
    return count / (count + _FEW_EDGES) * distance


def _behind(edges, labels, num_labels):
    """Edges of the background, and where it is visible: (b, t, h, w)."""
    visible = _visible(labels, num_labels)
    return ((jax.lax.stop_gradient(edges) > 0.5) & visible).astype(jnp.float32), visible


def _visible(labels, num_labels):
    return (labels == 0) & ~tracking.dilate(tracking.masks_of(labels, num_labels).any(2))


def _pans(planes, weight, limits):
    """Pans (b, 2), pixels per frame, after each round: over few frames, then over more and more.

    planes, weight: (b, t, h, w); planes show the background where weight is 1. Estimated at half the
    resolution.
    """
    t, (h, w) = planes.shape[1], planes.shape[2:]
    picture = lambda x: x.reshape(-1, h, w, 1)
    half = lambda x: resize(picture(x), h // 2, w // 2).reshape(-1, t, h // 2, w // 2)
    planes, visible = half(planes), half(weight) > 0.99
    size = jnp.array([h / (h // 2), w / (w // 2)])
    pan, pans = jnp.zeros((len(planes), 2)), []
    for spans, iterations in _ROUNDS:
        spans = np.array([span for span in spans if span < t])
        if len(spans):
            step = lambda _, pan, spans=spans: pan + _step(planes, visible, pan, spans, limits)
            pan = jax.lax.fori_loop(0, iterations, step, pan)
            pans.append(pan * size)
    return pans or [pan]


def _pan_over(pans, frames):
    """The pan of the first round that covers so many frames."""
    first = next(i for i, (spans, _) in enumerate(_ROUNDS) if max(spans) >= frames)
    return pans[min(first, len(pans) - 1)]


def _step(planes, visible, pan, spans, limits):
    """A step of least squares (Lucas and Kanade 1981), one for all pixels, reweighted against outliers."""
    (noise, damping), newest, older = limits, planes[:, -1:], -1 - spans
    layers = jnp.stack([planes[:, older], visible[:, older].astype(jnp.float32)], 2)
    time = jnp.asarray(spans, jnp.float32)
    moved, valid = jnp.split(shift(layers, (pan[:, None] * time[:, None])[:, :, None], False)[:, :, 0], 2, 2)
    moved, valid = moved[:, :, 0], (valid[:, :, 0] > 0.99) & visible[:, -1:]
    error = newest - moved
    middle = jnp.pad((newest + moved) / 2, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="edge")
    dy = (middle[..., 2:, 1:-1] - middle[..., :-2, 1:-1]) / 2
    dx = (middle[..., 1:-1, 2:] - middle[..., 1:-1, :-2]) / 2
    weight = valid * jax.lax.rsqrt(jnp.square(error) + noise**2)
    mean = lambda x, power: ((weight * x).mean((2, 3)) * time**power).sum(1)
    yy, xx, yx = mean(dy * dy, 2) + damping, mean(dx * dx, 2) + damping, mean(dy * dx, 2)
    ye, xe = -mean(dy * error, 1), -mean(dx * error, 1)
    step = jnp.stack([xx * ye - yx * xe, yy * xe - yx * ye], -1) / (yy * xx - yx * yx)[:, None]
    return jnp.clip(step, -1 / spans.max(), 1 / spans.max())
