"""Scene cuts within the observed frames: only what follows the last one tells what comes."""

import cv2
import numpy as np

_SIDE = 64  # At which frames are compared: noise and small motion do not count.
# A cut: the mean absolute difference (0 to 1) to the frame before is above _LEAST, and above _TIMES the
# median of all and _STILL. tests/test_cuts.py: on 14 real clips none is found, where they are joined most.
_LEAST, _TIMES, _STILL = 0.08, 3.5, 0.005


def last(frames: np.ndarray) -> int:
    """The first frame after the last scene cut of uint8 (t, h, w, 3) frames; 0 without one.

    Where frames are repeated, only changes count in the median.
    """
    if len(frames) < 2:
        return 0
    small = [cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for frame in frames]
    changes = np.abs(np.diff(np.stack(small).astype(np.float32) / 255, axis=0)).mean((1, 2, 3))
    moving = changes[changes > _STILL / 2]
    usual = np.median(moving if len(moving) >= 3 else changes)
    found = changes > max(_LEAST, _TIMES * (usual + _STILL))
    return int(np.flatnonzero(found)[-1]) + 1 if found.any() else 0


def hold(x: np.ndarray, cut: int) -> np.ndarray:
    """An array (t, ...) with what is at `cut` in place of all before it."""
    return np.concatenate([np.repeat(x[cut : cut + 1], cut, 0), x[cut:]])


def leave_out(element: dict, context: int) -> dict:
    """The same with the first frame after the last cut in place of the observed ones before it.

    element: arrays (t, ...), `frames` and what goes with them, of which the first `context` are observed.
    """
    cut = last(element["frames"][:context])
    return {field: hold(x, cut) for field, x in element.items()} if cut else element
