"""Naive predictors: what a model must beat.

Each maps context frames uint8 (t, h, w, 3) to `horizon` frames (horizon, h, w, 3), uint8 (float32
in [0, 255] for `mean_context`), by the definitions of the evaluation protocol.
"""

import concurrent.futures
from collections.abc import Iterable

import cv2
import numpy as np

from vidpred_jax.types import InputError


def copy_last(context: np.ndarray, horizon: int) -> np.ndarray:
    """The last observed frame, again and again."""
    return np.repeat(context[-1:], horizon, 0)


def mean_context(context: np.ndarray, horizon: int) -> np.ndarray:
    """The mean of the observed frames, not rounded."""
    return np.repeat(context.mean(0, dtype=np.float32)[None], horizon, 0)


def blur(context: np.ndarray, horizon: int) -> np.ndarray:
    """The last frame under a Gaussian that widens by the step: sigma 1 + .4 k."""
    return _blur_by_step(copy_last(context, horizon), 1.0, 0.4)


def flow(context: np.ndarray, horizon: int) -> np.ndarray:
    """The last frame moved on along the last optical flow (Farneback), k times at step k."""
    previous, last = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in context[-2:])
    field = cv2.calcOpticalFlowFarneback(last, previous, None, 0.5, 4, 21, 5, 7, 1.5, 0)
    height, width = last.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack(
        [
            cv2.remap(
                context[-1],
                x + k * field[..., 0],
                y + k * field[..., 1],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            for k in range(1, horizon + 1)
        ]
    )


def flow_blur(context: np.ndarray, horizon: int) -> np.ndarray:
    """`flow` under a Gaussian of sigma .5 + .3 k."""
    return _blur_by_step(flow(context, horizon), 0.5, 0.3)


def _blur_by_step(frames, start, growth):
    return np.stack([cv2.GaussianBlur(f, (0, 0), start + growth * k) for k, f in enumerate(frames, start=1)])


BASELINES = {f.__name__: f for f in (copy_last, mean_context, blur, flow, flow_blur)}


def predictors(horizon: int, names: Iterable[str] = tuple(BASELINES)) -> dict:
    """Naive baselines with the interface of `compare.compare`. Raises InputError for an unknown name."""

    def batched(name):
        if name not in BASELINES:
            raise InputError(f"--baselines: {name!r} is not one of {', '.join(BASELINES)}")

        def predict(seen):
            with concurrent.futures.ThreadPoolExecutor() as pool:  # OpenCV works without the GIL.
                found = pool.map(lambda e: BASELINES[name](e["frames"], horizon), seen)
                return {"frames": np.stack(list(found))}

        return predict

    return {name: batched(name) for name in names}


def copied(horizon: int, seen: list[dict]) -> dict:
    """`copy_last` as a predictor of frames and of fusion pictures."""
    return {field: np.stack([copy_last(e[field], horizon) for e in seen]) for field in ("frames", "fusion")}
