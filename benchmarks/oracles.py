"""What choices made with the truth would reach: bounds for those made without it (ours).

python benchmarks/oracles.py --data=davis --split=test --stride=8

Each maps context frames uint8 (c, h, w, 3) and the true ones (horizon, h, w, 3) to float32 frames
(horizon, h, w, 3) in [0, 255], every frame chosen by its least squared error. No limit for frames
made otherwise, such as by motion that differs by place.
"""

import concurrent.futures
from collections.abc import Iterable

import cv2
import numpy as np
from absl import flags

from vidpred_jax.cli import common
from vidpred_jax.data import pipeline
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import compare
from vidpred_jax.metrics import summary
from vidpred_jax.proposals import naive
from vidpred_jax.proposals.naive import BASELINES
from vidpred_jax.types import CONTEXT, HORIZON

_REACH = 40  # Pixels.
_BLURS = (1.0, 2.0, 4.0, 8.0, 16.0)


def bound_naive(context: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best of the naive predictors."""
    found = [function(context, len(truth)) for function in BASELINES.values()]
    return np.stack([_nearest(frames, true) for *frames, true in zip(*found, truth, strict=True)])


def bound_shift(context: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The last frame, as it is or under one of five Gaussians (sigma 1 to 16), at the best shift by
    whole pixels, up to 40 each way; the border replicated.
    """
    last = context[-1].astype(np.float32)
    sources = [last, *(cv2.GaussianBlur(last, (0, 0), sigma) for sigma in _BLURS)]
    border = (_REACH,) * 4
    sources = [cv2.copyMakeBorder(x, *border, cv2.BORDER_REPLICATE) for x in sources]
    return np.stack([_nearest([_shifted(x, true) for x in sources], true) for true in truth])


def bound_blend(context: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`bound_shift`, `mean_context`, `blur`, `flow_blur` and a constant, at the best weights for the
    whole frame.
    """
    parts = [BASELINES[name](context, len(truth)) for name in ("mean_context", "blur", "flow_blur")]
    parts = [bound_shift(context, truth), *parts, np.ones_like(truth)]
    frames = []
    for *columns, true in zip(*parts, truth, strict=True):
        columns = np.stack([x.ravel() for x in columns], 1).astype(np.float64)
        weights = np.linalg.lstsq(columns, true.ravel(), rcond=None)[0]
        frames.append((columns @ weights).reshape(true.shape))
    return np.clip(np.stack(frames), 0, 255).astype(np.float32)


def _shifted(source, true):
    """The part of `source`, larger than the true frame, that is most like it."""
    true = true.astype(np.float32)
    error = cv2.matchTemplate(source, true, cv2.TM_SQDIFF)
    y, x = np.unravel_index(error.argmin(), error.shape)
    return source[y : y + true.shape[0], x : x + true.shape[1]]


def _nearest(frames, true):
    errors = [np.square(frame - true.astype(np.float32)).mean() for frame in frames]
    return frames[int(np.argmin(errors))].astype(np.float32)


BOUNDS = {f.__name__: f for f in (bound_naive, bound_shift, bound_blend)}


def predictors(context: int, names: Iterable[str] = tuple(BOUNDS)) -> dict:
    """Bounds with the interface of `evaluate.compare`, which must let them see `frames` to the end."""

    def batched(function):
        def predict(seen):
            with concurrent.futures.ThreadPoolExecutor() as pool:  # OpenCV works without the GIL.
                split = [(e["frames"][:context], e["frames"][context:]) for e in seen]
                return {"frames": np.stack(list(pool.map(lambda pair: function(*pair), split)))}

        return predict

    return {name: batched(BOUNDS[name]) for name in names}


def main(_):
    context, horizon, side = CONTEXT, HORIZON, _RESOLUTION.value
    source = registry.open_split(_DATA.value, _SPLIT.value, data_dir=_DATA_DIR.value)
    windows = pipeline.evaluation_windows(
        source, num_frames=context + horizon, height=side, width=side, stride=_STRIDE.value
    )
    shown_truth = predictors(context)
    table = compare.compare(
        windows,
        {**shown_truth, **naive.predictors(horizon)},
        context=context,
        sees=dict.fromkeys(shown_truth, ("frames",)),
        log=print,
    )
    print(summary.format_table(summary.summarize(table.clips, table.values)))


if __name__ == "__main__":
    _DATA = flags.DEFINE_string("data", "sprites", "Prepared data set.")
    _DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where data sets are.")
    _SPLIT = flags.DEFINE_string("split", "test", "Split to measure on.")
    _STRIDE = flags.DEFINE_integer("stride", CONTEXT + HORIZON, "Frames between windows.", 1)
    _RESOLUTION = flags.DEFINE_integer("resolution", 128, "Side of the frames.", 11)
    common.run(main)
