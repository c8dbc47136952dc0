"""Flicker: how much of a prediction changes that the true motion does not explain."""

import concurrent.futures
import itertools

import cv2
import numpy as np


def true_flow(target: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Where each pixel of a true frame was in the frame before: (n, t, h, w, 2), (dx, dy) pixels.

    target: (n, t, h, w, 3) in [0, 255]; last: (n, h, w, 3), the newest observed frame, which comes
    before step 1. Farneback's flow (OpenCV), as of the `flow` baseline.
    """
    return _each(_flow_of_clip, target, last)


def warp_error(pred: np.ndarray, flow: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean absolute difference between each frame and the one before, moved along the true flow.

    pred: (n, t, h, w, 3) in [0, 255]; flow: of `true_flow`. In [0, 1], (n, t). The truth's own
    figure is not 0: read a prediction's beside it. After Lai et al. 2018.
    """
    return _each(_error_of_clip, pred, flow, last)


def _each(function, *arrays):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(function, *arrays)))


def _flow_of_clip(target, last):
    frames = np.concatenate([last[None], target])
    frames = frames.astype(np.float32).round().clip(0, 255).astype(np.uint8)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    return np.stack(
        [
            cv2.calcOpticalFlowFarneback(after, before, None, 0.5, 4, 21, 5, 7, 1.5, 0)
            for before, after in itertools.pairwise(grey)
        ]
    )


def _error_of_clip(pred, flow, last):
    height, width = last.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames = np.concatenate([last[None], pred]).astype(np.float32)
    errors = []
    for step, (dx, dy) in enumerate(np.moveaxis(flow, -1, 1)):
        before = cv2.remap(frames[step], x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        errors.append(np.abs(frames[step + 1] - before).mean() / 255)
    return np.float32(errors)
