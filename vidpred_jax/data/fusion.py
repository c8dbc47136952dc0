"""Fusion pictures: an edge map drawn over a palette-coloured segmentation map, and the inverse.

The paper shows fusion pictures but gives no formula. Inferred from its published pictures:
Canny at native resolution, DAVIS's palette, `clip(seg + edge, 0, 255)`, then a bilinear resize.
"""

import dataclasses
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vidpred_jax.types import InputError

# Inverse: no palette entry below 16 is brighter than 128 in all channels; a full edge is 255.
EDGE_THRESHOLD = 0.5
_DIGIT = 5  # Bits that count to 25.
_RIDGES = 3  # Ridges are looked for among so many times as many of the steepest pixels as edges are wanted.


def make_palette(num_colors: int = 256) -> np.ndarray:
    """DAVIS's (and PASCAL VOC's) colours, uint8 (num_colors, 3): label bits spread over RGB."""
    labels = np.arange(num_colors)
    colors = np.zeros((num_colors, 3), np.uint8)
    for shift in range(8):
        for channel in range(3):
            bit = (labels >> (3 * shift + channel)) & 1
            colors[:, channel] |= (bit << (7 - shift)).astype(np.uint8)
    return colors


PALETTE = make_palette()


@dataclasses.dataclass(frozen=True)
class EdgeRule:
    """How a frame's edges are computed, from that frame alone, by the Canny detector.

    canny: its low and high threshold, inferred from the paper's pictures. density: instead, the share of the
    frame that are edges: the steepest of its ridges of the gradient, fewer where it has fewer. At fixed
    thresholds a dark or soft film has none.
    """

    canny: tuple[float, float] = (300.0, 350.0)
    density: float = 0.0

    def __post_init__(self):
        low, high = self.canny
        if not 0 <= low <= high <= 2040:  # No gradient of 8-bit pixels is larger.
            raise InputError(f"canny ({low}, {high}) must be LOW, HIGH: 0 <= LOW <= HIGH <= 2040")
        if not 0 <= self.density <= 1:
            raise InputError(f"density of edges ({self.density}) must be 0 to 1")

    def apply(self, frames: np.ndarray) -> np.ndarray:
        """Edges of uint8 RGB (t, h, w, 3) at their own resolution: uint8 (t, h, w), 0 or 255."""
        grey = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames)
        return np.stack([self._steepest(f) if self.density else cv2.Canny(f, *self.canny) for f in grey])

    def _steepest(self, grey):
        """Canny's edges at the one threshold that leaves the share."""
        x, y = (cv2.Sobel(grey, cv2.CV_16S, dx, 1 - dx, borderType=cv2.BORDER_REPLICATE) for dx in (1, 0))
        slope = cv2.add(cv2.absdiff(x, 0), cv2.absdiff(y, 0))
        wanted = max(round(self.density * grey.size), 1)
        # Where both of Canny's thresholds are one, its edges are the ridges above it. Among steep pixels
        # they are found in half the time; where those are too few, among all.
        some = slope[::4, ::4].ravel()
        most = min(round(_RIDGES * self.density * some.size), some.size - 1)
        low = float(np.partition(some, -1 - most)[-1 - most])
        ridges = cv2.Canny(x, y, low, low)
        if low and cv2.countNonZero(ridges) < wanted:
            ridges = cv2.Canny(x, y, 0, 0)
        slopes = slope[ridges > 0]
        if len(slopes) > wanted:
            least = float(np.partition(slopes, -wanted)[-wanted])
            ridges = cv2.bitwise_and(ridges, cv2.compare(slope, least, cv2.CMP_GE))
        return ridges

    def to_json(self) -> dict:
        return {"density": self.density} if self.density else {"canny": list(self.canny)}

    @classmethod
    def from_json(cls, found) -> "EdgeRule":
        """Raises InputError for what `to_json` does not give."""
        match found:
            case {"canny": [float(low), float(high)]} if len(found) == 1:
                return cls((low, high))
            case {"density": float(density)} if len(found) == 1 and density:
                return cls(density=density)
        raise InputError(
            f'the edge rule {str(found)[:100]} must be {{"canny": [LOW, HIGH]}} or {{"density": SHARE}}'
        )


def render(edges: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fusion pictures uint8 (..., h, w, 3) of edges and labels, both uint8 (..., h, w)."""
    # Adding 255 and clipping at 255 is a maximum; this form needs no wider integer.
    labels, colored = np.ascontiguousarray(labels), (*labels.shape, 3)
    repeat = lambda x: cv2.merge([x.reshape(-1, x.shape[-1])] * 3)
    colors = cv2.LUT(repeat(labels), PALETTE[None])
    return cv2.max(colors, repeat(np.ascontiguousarray(edges))).reshape(colored)


def resize(pictures: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize (paper, inferred) of uint8 (t, h, w, 3)."""
    if pictures.shape[1:3] == (height, width):
        return pictures
    return np.stack([cv2.resize(p, (width, height), interpolation=cv2.INTER_LINEAR) for p in pictures])


def stack_planes(edges: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Edges and labels, both uint8 (t, h, w), as uint8 (t, h, w, 2)."""
    return np.stack([edges, labels], -1)


def resize_planes(planes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize of uint8 (t, h, w, 2): edges by area, as a share of each pixel; labels to the nearest."""
    if planes.shape[1:3] == (height, width):
        return planes
    size = (width, height)
    edges = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in planes[..., 0]]
    labels = [cv2.resize(p, size, interpolation=cv2.INTER_NEAREST_EXACT) for p in planes[..., 1]]
    return stack_planes(np.stack(edges), np.stack(labels))


def resize_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Area resize of RGB frames uint8 (t, h, w, 3): the evaluation protocol's."""
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames])


def to_float(pictures):
    """uint8 [0, 255] -> float32 [-1, 1]."""
    return pictures.astype(jnp.float32) / 127.5 - 1.0


def to_255(pictures):
    """float [-1, 1] -> float [0, 255], neither clipped nor rounded."""
    return (pictures + 1.0) * 127.5


def quantize(pictures):
    """float [0, 255] -> uint8, clipped and rounded: never wraps around."""
    module = jnp if isinstance(pictures, jax.Array) else np
    return module.clip(module.round(pictures), 0, 255).astype(np.uint8)


def to_uint8(pictures):
    """float [-1, 1] -> uint8 [0, 255]."""
    return quantize(to_255(pictures))


def _label_distances(planes, num_labels: int) -> Float[Array, "k *b h w"]:
    # A resized edge is a mixture of white and its label's colour: the nearest mixture decides.
    # Labels come first: XLA:CPU is fast along rows of pictures, slow along a few labels.
    colors = to_float(PALETTE[:num_labels].astype(np.float32)).T
    colors = colors.reshape(*colors.shape, *[1] * planes[0].ndim)
    white = 1 - colors
    length = np.square(white).sum(0)
    away = [plane - color for plane, color in zip(planes, colors, strict=True)]
    along = sum(a * b for a, b in zip(away, white, strict=True))
    share = jnp.clip(along / length, 0, 1)
    return sum(jnp.square(a) for a in away) + share * (share * length - 2 * along)


def decode(
    pictures: Float[Array, "*b h w 3"], num_labels: int = 4
) -> tuple[Bool[Array, "*b h w"], Int[Array, "*b h w"]]:
    """Edges and labels of fusion pictures in [-1, 1]: the inverse of `render`.

    An edge is white in every channel and hides its label: there the label is the majority of the
    non-edge pixels in the 5 x 5 neighbourhood. Elsewhere it is the nearest of the first
    `num_labels` palette colours and their mixtures with white: a faint edge is no label.
    """
    planes = [pictures[..., i] for i in range(3)]
    edges = functools.reduce(jnp.minimum, planes) > EDGE_THRESHOLD
    nearest = jnp.argmin(_label_distances(planes, num_labels), 0)
    votes = _count_nearby(nearest, ~edges, min(num_labels, len(PALETTE)))
    return edges, jnp.where(edges, jnp.argmax(votes, 0), nearest)


def _count_nearby(labels, shown, num_labels: int) -> Int[Array, "k *b h w"]:
    """How many of the `shown` pixels in a place's 5 x 5 neighbourhood have each label.

    Four counts, 25 at most, are digits of one number below 2 ** 24: their sum is exact in float32.
    """
    height, width = labels.shape[-2:]
    counts = []
    for first in range(0, num_labels, 4):
        digits = labels - first
        told = shown & (digits >= 0) & (digits < 4)
        number = jnp.where(told, 1 << _DIGIT * jnp.clip(digits, 0, 3), 0).astype(jnp.float32)
        total = jnp.einsum(
            "yh,...hw,xw->...yx", _box(height), number, _box(width), precision=jax.lax.Precision.HIGHEST
        )
        total = jnp.round(total).astype(jnp.int32)
        few = min(num_labels - first, 4)
        counts += [total >> _DIGIT * digit & (1 << _DIGIT) - 1 for digit in range(few)]
    return jnp.stack(counts)


@functools.lru_cache(maxsize=32)
def _box(size: int) -> np.ndarray:
    offsets = np.arange(size)
    return (np.abs(offsets[:, None] - offsets) <= 2).astype(np.float32)
