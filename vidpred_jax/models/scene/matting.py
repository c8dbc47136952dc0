"""The pixels of objects: cut out of observed frames, and drawn where fusion pictures have their labels.

Outlines are soft: what a pixel of an outline shows of the object, and what of the background, is told
apart, and the places of objects are known to parts of a pixel. Ours, after matting with a known
background (Smith and Blinn 1996).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from vidpred_jax.models.ops import blur
from vidpred_jax.models.scene import tracking
from vidpred_jax.models.scene.background import Background
from vidpred_jax.models.scene.rotation import rotate, rotate_codes
from vidpred_jax.models.scene.tracking import Objects, widen

_NEARBY = 1 / 25  # Of a side: how far from an outline an object's colour is looked for.
_LEAST = 0.1  # The squared distance of colours from which on they tell what covers a pixel.
# Pixels by which a fusion picture, which shows whole ones, may have a label elsewhere than its path leads,
# and the path is believed.
_ROUNDED = 0.6


@struct.dataclass
class Pixels:
    """planes: (b, k, 4, h, w), what share of a pixel an object covers, 0 to 1, and its colour times that.
    shape: (b, k, h, w), where its label was. known: (b, k, h, w), where planes tell what there is of it.
    """

    planes: Float[Array, "b k 4 h w"]
    shape: Bool[Array, "b k h w"]
    known: Bool[Array, "b k h w"]


@jax.jit
def cut_out(
    frames: Float[Array, "b n h w 3"],
    pictures: Float[Array, "b n h w 3"],
    observed: Objects,
    background: Background,
) -> Pixels:
    """Those of observed objects, each from the frame that shows it best; no gradient.

    pictures: the frames' fusion pictures, in which `observed` and `background` were found.
    """
    frames, pictures, observed, background = jax.lax.stop_gradient(
        (frames.astype(jnp.float32), pictures, observed, background)
    )
    b, k, _, h, w = observed.shape.shape
    place = (frames.shape[1] - 1 - observed.age).astype(jnp.int32).reshape(b, k, 1, 1, 1)
    frame, picture = (jnp.take_along_axis(x, place, axis=1) for x in (frames, pictures))
    behind = background.frames(-background.pans[:, 1:] * observed.age[..., None])
    found, label = tracking.read(picture, k + 1)[1], jnp.arange(1, k + 1).reshape(-1, 1, 1)
    shape = (found == label) & (observed.size > 0)[..., None, None]
    known = shape | widen(shape) & (found == 0)
    inside = ~widen(~shape)
    outline = known & ~inside
    # Its colour is that of what is inside, nearby.
    some = inside[..., None]
    near = jnp.concatenate([some * frame, some.astype(jnp.float32)], -1).reshape(-1, h, w, 4)
    near = blur(near, max(h, w) * _NEARBY).reshape(b, k, h, w, 4)
    color, told = near[..., :3] / jnp.maximum(near[..., 3:], 1e-3), near[..., 3] > 1e-3
    away = color - behind
    share = ((frame - behind) * away).sum(-1) + _LEAST * shape
    share = jnp.clip(share / (jnp.square(away).sum(-1) + _LEAST), 0, 1)
    share = jnp.where(outline & told, share, shape.astype(jnp.float32))[..., None]
    own = jnp.clip(frame - (1 - share) * behind, -share, share)
    planes = jnp.moveaxis(jnp.concatenate([share, own], -1), -1, 2)
    return Pixels(planes, shape, known)


def draw(
    pixels: Pixels,
    observed: Objects,
    path: Float[Array, "b k t 2"],
    angle: Float[Array, "b k t"],
    pictures: Float[Array, "b t h w 3"],
    behind: Float[Array, "b t h w 3"],
    flat: Float[Array, "b t h w 3"],
) -> Float[Array, "b t h w 3"]:
    """Frames of fusion pictures: objects over what is behind, later labels over earlier ones.

    Each is where its path leads, or, where the picture has its label elsewhere, there; turned by an angle.
    Where pixels of it were never seen, they are `flat`. The gradient reaches path, angle and `behind`.
    """
    k = path.shape[1]
    _, found, masks = tracking.read(pictures, k + 1)
    origin, offset = observed.along(path)
    still = jax.lax.stop_gradient
    expected = (
        rotate_codes(pixels.shape.astype(jnp.uint8), origin, still(offset), still(angle)) == 1
    )
    away = tracking.away(expected, found, masks)
    shown = tracking.track(pixels.shape, origin, found, masks).swapaxes(1, 2)
    offset = jnp.where((jnp.abs(away).max(-1) < _ROUNDED)[..., None], offset, shown)
    moved = jnp.moveaxis(rotate(pixels.planes, origin, offset, angle), 3, -1)
    known = rotate_codes(pixels.known.astype(jnp.uint8), origin, still(offset), still(angle))
    for i in range(k):
        mask = masks[:, :, i]
        behind = jnp.where((mask & (known[:, i] == 0))[..., None], flat, behind)
        share, own = jnp.split(jnp.where(widen(mask)[..., None], moved[:, i], 0.0), [1], -1)
        behind = behind * (1 - share) + own
    return behind
