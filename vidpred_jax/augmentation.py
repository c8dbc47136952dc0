"""What may be done to a training window: crops, still or wandering, flips, speeds, time's direction."""

import dataclasses

import cv2
import numpy as np

from vidpred_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be done to a training window; all off for evaluation.

    crop: smallest side of a random crop, as a share of the clip's (1: no crop). Clips are kept at
        the size at which the smallest crop is the model's.
    camera: share of the windows over which the crop wanders, as a hand-held camera would.
    speeds: every n-th frame, n drawn from these. reverse: time may run backwards.
    transpose: h and w may swap, for square clips.
    """

    flip: bool = False
    flip_vertical: bool = False
    transpose: bool = False
    reverse: bool = False
    crop: float = 1.0
    camera: float = 0.0
    speeds: tuple[int, ...] = (1,)

    def __post_init__(self):
        if not 0 <= self.camera <= 1:
            raise InputError(f"data.augmentation.camera ({self.camera}) must be 0 to 1")
        if self.camera and self.crop == 1:
            raise InputError(
                f"data.augmentation.camera ({self.camera}) needs data.augmentation.crop below 1"
            )
        if not 0 < self.crop <= 1:
            raise InputError(f"data.augmentation.crop ({self.crop}) must be above 0 and at most 1")
        if not self.speeds or min(self.speeds) < 1:
            raise InputError(
                f"data.augmentation.speeds ({self.speeds}) must be whole numbers from 1 on"
            )


def augment(window: dict, options: Augmentation, rng: np.random.Generator) -> dict:
    """The same random crop and flips for every array (t, h, w, ...) of the window."""
    num_frames, height, width = next(iter(window.values())).shape[:3]
    cut = lambda x: x
    if options.crop < 1:
        share = rng.uniform(options.crop, 1)
        sides = [max(int(size * share), 1) for size in (height, width)]
        rooms = [size - side for size, side in zip((height, width), sides, strict=True)]
        if options.camera and rng.random() < options.camera:
            corners = np.stack([_wander(rng, num_frames, room) for room in rooms], -1)
            cut = lambda x: np.stack([_cut(*pair, sides) for pair in zip(x, corners, strict=True)])
        else:
            top, left = (int(rng.integers(room + 1)) for room in rooms)
            cut = lambda x: x[:, top : top + sides[0], left : left + sides[1]]
    flips = []
    if options.flip and rng.random() < 0.5:
        flips.append(lambda x: x[:, :, ::-1])
    if options.flip_vertical and rng.random() < 0.5:
        flips.append(lambda x: x[:, ::-1])
    if options.transpose and height == width and rng.random() < 0.5:
        flips.append(lambda x: x.swapaxes(1, 2))
    found = {}
    for name, array in window.items():
        array = cut(array)
        for flip in flips:
            array = flip(array)
        found[name] = np.ascontiguousarray(array)
    return found


def _wander(rng, num_frames: int, room: int) -> np.ndarray:
    """Where a crop starts in each frame, 0 to `room` pixels: at a steady velocity, to which comes one
    that changes within 1 to 20 frames. Both are 1/30 to 1 pixel a frame.
    """
    steady, shaking = np.exp(rng.uniform(np.log(1 / 30), 0, 2))
    kept = np.exp(-1 / np.exp(rng.uniform(0, np.log(20))))
    velocity = np.empty(num_frames)
    velocity[0] = rng.normal()
    for t, change in enumerate(rng.normal(size=num_frames - 1), start=1):
        velocity[t] = kept * velocity[t - 1] + np.sqrt(1 - kept**2) * change
    path = np.cumsum(steady * rng.normal() + shaking * velocity)
    path -= path.min()
    if path.max() > room:
        path *= room / path.max()
    return np.clip(path + rng.uniform() * (room - path.max()), 0, room)


def _cut(picture, corner, sides):
    """(height, width) = sides of a picture from (y, x) on, to parts of a pixel."""
    matrix = np.float64([[1, 0, corner[1]], [0, 1, corner[0]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        picture, matrix, sides[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
