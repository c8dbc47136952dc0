"""Pixels of objects: cut out of observed frames, and drawn where fusion pictures have their labels.

Pixels on an outline are split into object and background, and positions are exact to a fraction of a
pixel. Ours, after matting with a known background (Smith and Blinn 1996).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from vidpred_jax.models.ops import blur
from vidpred_jax.models.scene import tracking
from vidpred_jax.models.scene.background import Background
from vidpred_jax.models.scene.rotation import rotate, rotate_codes
from vidpred_jax.models.scene.tracking import Objects, dilate

_COLOR_RADIUS = 1 / 25  # Of a side: the blur that extends an object's colour to its outline.
_MIN_CONTRAST = 0.1  # Squared distance of colours below which alpha falls back to the label.
# Fusion pictures have whole pixels. A trajectory is followed if labels are no more pixels away from it.
_MAX_ROUNDING = 0.6


@struct.dataclass
class Cutouts:
    """planes: (b, k, 4, h, w), an object's alpha, 0 to 1, and its colour times alpha. shape: (b, k, h, w),
    its label's mask. valid: (b, k, h, w), where planes hold the object's own pixels.
    """

    planes: Float[Array, "b k 4 h w"]
    shape: Bool[Array, "b k h w"]
    valid: Bool[Array, "b k h w"]


@jax.jit
def cut_out(
    frames: Float[Array, "b n h w 3"],
    pictures: Float[Array, "b n h w 3"],
    objects: Objects,
    background: Background,
) -> Cutouts:
    """The pixels of objects, each from the frame where it is most visible; no gradient.

    pictures: the frames' fusion pictures, which `objects` and `background` were observed in.
    """
    frames, pictures, objects, background = jax.lax.stop_gradient(
        (frames.astype(jnp.float32), pictures, objects, background)
    )
    b, k, _, h, w = objects.shape.shape
    place = (frames.shape[1] - 1 - objects.age).astype(jnp.int32).reshape(b, k, 1, 1, 1)
    frame, picture = (jnp.take_along_axis(x, place, axis=1) for x in (frames, pictures))
    behind = background.frames(-background.pans[:, 1:] * objects.age[..., None])
    labels, own_label = tracking.decode_masks(picture, k + 1)[1], jnp.arange(1, k + 1)
    shape = (labels == own_label.reshape(-1, 1, 1)) & (objects.size > 0)[..., None, None]
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
    planes = jnp.moveaxis(jnp.concatenate([alpha, premultiplied], -1), -1, 2)
    return Cutouts(planes, shape, valid)


def draw(
    cutouts: Cutouts,
    objects: Objects,
    trajectory: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
    pictures: Float[Array, "b t h w 3"],
    behind: Float[Array, "b t h w 3"],
    flat: Float[Array, "b t h w 3"],
) -> Float[Array, "b t h w 3"]:
    """Frames of fusion pictures: objects over `behind`, later labels over earlier ones.

    Each object is moved along its trajectory and rotated by the angle; where its label in the picture is
    elsewhere, it is moved there. Pixels of its label that it has no pixels for are `flat`. The gradient
    reaches trajectory, angle and `behind`.
    """
    k = trajectory.shape[1]
    _, labels, masks = tracking.decode_masks(pictures, k + 1)
    origin, offset = objects.placement(trajectory)
    still = jax.lax.stop_gradient
    expected = (
        rotate_codes(cutouts.shape.astype(jnp.uint8), origin, still(offset), still(angle)) == 1
    )
    error = tracking.displacement_error(expected, labels, masks)
    tracked = tracking.track(cutouts.shape, origin, labels, masks).swapaxes(1, 2)
    offset = jnp.where((jnp.abs(error).max(-1) < _MAX_ROUNDING)[..., None], offset, tracked)
    moved = jnp.moveaxis(rotate(cutouts.planes, origin, offset, angle), 3, -1)
    valid = rotate_codes(cutouts.valid.astype(jnp.uint8), origin, still(offset), still(angle))
    for i in range(k):
        mask = masks[:, :, i]
        behind = jnp.where((mask & (valid[:, i] == 0))[..., None], flat, behind)
        alpha, color = jnp.split(jnp.where(dilate(mask)[..., None], moved[:, i], 0.0), [1], -1)
        behind = behind * (1 - alpha) + color
    return behind
