"""Pixels of objects: cut out of observed frames, moved, and drawn over the background.

Pixels on an outline are split into object and background, and positions are exact to a fraction of a
pixel. Ours, after matting with a known background (Smith and Blinn 1996).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vidpred_jax.ops import blur
from vidpred_jax.proposals.scene.background import Background
from vidpred_jax.proposals.scene.rotation import rotate
from vidpred_jax.proposals.scene.tracking import Objects, dilate

_COLOR_RADIUS = 1 / 25  # Of a side: the blur that extends an object's colour to its outline.
_MIN_CONTRAST = 0.1  # Squared distance of colours below which alpha falls back to the label.


@jax.jit
def cut_out(
    frames: Float[Array, "b n h w 3"], labels: Int[Array, "b n h w"], objects: Objects, background: Background
) -> Float[Array, "b k 4 h w"]:
    """Each object's alpha, 0 to 1, and its colour times alpha, from the frame where it is most visible; no
    gradient.

    labels: of the frames, in which `objects` and `background` were observed.
    """
    frames, objects, background = jax.lax.stop_gradient((frames.astype(jnp.float32), objects, background))
    b, k, _, h, w = objects.shape.shape
    place = (frames.shape[1] - 1 - objects.age).astype(jnp.int32).reshape(b, k, 1, 1, 1)
    frame = jnp.take_along_axis(frames, place, axis=1)
    labels = jnp.take_along_axis(labels, place[..., 0], axis=1)
    behind = background.frames(-background.pans[:, 1:] * objects.age[..., None])
    own_label = jnp.arange(1, k + 1).reshape(-1, 1, 1)
    shape = (labels == own_label) & (objects.size > 0)[..., None, None]
    valid = shape | dilate(shape) & (labels == 0)
    inside = ~dilate(~shape)
    outline = valid & ~inside
    # The colour at an outline is that of the nearby inside.
    weight = inside[..., None]
    near = jnp.concatenate([weight * frame, weight.astype(jnp.float32)], -1).reshape(-1, h, w, 4)
    near = blur(near, max(h, w) * _COLOR_RADIUS).reshape(b, k, h, w, 4)
    color, has_color = near[..., :3] / jnp.maximum(near[..., 3:], 1e-3), near[..., 3] > 1e-3
    contrast = color - behind
    alpha = ((frame - behind) * contrast).sum(-1) + _MIN_CONTRAST * shape
    alpha = jnp.clip(alpha / (jnp.square(contrast).sum(-1) + _MIN_CONTRAST), 0, 1)
    alpha = jnp.where(outline & has_color, alpha, shape.astype(jnp.float32))[..., None]
    premultiplied = jnp.clip(frame - (1 - alpha) * behind, -alpha, alpha)
    return jnp.moveaxis(jnp.concatenate([alpha, premultiplied], -1), -1, 2)


def draw(
    cutouts: Float[Array, "b k 4 h w"],
    objects: Objects,
    trajectory: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
    behind: Float[Array, "b t h w 3"],
) -> Float[Array, "b t h w 3"]:
    """Objects, moved along their trajectories and rotated, over `behind`, later labels over earlier ones.

    The gradient reaches trajectory, angle and `behind`.
    """
    moved = rotate(cutouts, *objects.placement(trajectory), angle)
    for planes in jnp.moveaxis(moved, (1, 3), (0, -1)):
        alpha, color = jnp.split(planes, [1], -1)
        behind = behind * (1 - alpha) + color
    return behind
