"""Flicker: how much of a prediction changes that the true motion does not explain."""

import cv2
import numpy as np


def warp_error(pred: np.ndarray, target: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean absolute difference between each frame and the one before, moved along the true flow.

    pred, target: (n, t, h, w, 3) in [0, 255]; last: (n, h, w, 3), the newest observed frame, which
    comes before step 1. In [0, 1], (n, t). Flow is Farneback's between true frames (OpenCV), so the
    truth's own figure is not 0: read a prediction's beside it. After Lai et al. 2018.
    """
    return np.stack([_clip(*clip) for clip in zip(pred, target, last, strict=True)])


def _clip(pred, target, last):
    errors = []
    height, width = last.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames = np.concatenate([last[None], target]).round().clip(0, 255).astype(np.uint8)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    shown = np.concatenate([last[None], pred]).astype(np.float32)
    for step in range(len(target)):
        flow = cv2.calcOpticalFlowFarneback(
            grey[step + 1], grey[step], None, 0.5, 4, 21, 5, 7, 1.5, 0
        )
        before = cv2.remap(
            shown[step],
            x + flow[..., 0],
            y + flow[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        errors.append(np.abs(shown[step + 1] - before).mean() / 255)
    return np.float32(errors)
