"""What choices made with the truth would reach: bounds for predictors that make them without it.

python benchmarks/oracles.py --data=davis --split=test --stride=8

Each oracle maps context frames uint8 (c, h, w, 3) and the true ones (horizon, h, w, 3) to float32 frames
(horizon, h, w, 3) in [0, 255], every frame chosen by its squared error. No limit for frames made otherwise.
"""

import cv2
import numpy as np
from absl import flags

from vidpred_jax.cli import common
from vidpred_jax.data import pipeline
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import compare
from vidpred_jax.metrics import summary
from vidpred_jax.proposals import naive
from vidpred_jax.types import CONTEXT, HORIZON

_REACH = 40  # Pixels.
_BLURS = (1.0, 2.0, 4.0, 8.0, 16.0)


def best_baseline(context: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best of the naive baselines."""
    found = [function(context, len(truth)) for function in naive.BASELINES.values()]
    return np.stack([_nearest(frames, true) for *frames, true in zip(*found, truth, strict=True)])


def best_shift(context: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The last frame, as it is or under one of five Gaussians (sigma 1 to 16), at the best shift by
    whole pixels, up to 40 each way; the border replicated.
    """
    last = context[-1].astype(np.float32)
    sources = [last, *(cv2.GaussianBlur(last, (0, 0), sigma) for sigma in _BLURS)]
    sources = [cv2.copyMakeBorder(x, *(_REACH,) * 4, cv2.BORDER_REPLICATE) for x in sources]
    return np.stack([_nearest([_shifted(x, true) for x in sources], true) for true in truth])


def _shifted(source, true):
    """The part of `source`, larger than the true frame, that is most like it."""
    error = cv2.matchTemplate(source, true.astype(np.float32), cv2.TM_SQDIFF)
    y, x = np.unravel_index(error.argmin(), error.shape)
    return source[y : y + true.shape[0], x : x + true.shape[1]]


def _nearest(frames, true):
    errors = [np.square(frame - true.astype(np.float32)).mean() for frame in frames]
    return frames[int(np.argmin(errors))].astype(np.float32)


ORACLES = {f.__name__: f for f in (best_baseline, best_shift)}


def predictors(context: int) -> dict:
    """Oracles with the interface of `compare.compare`, which must show them `frames` to the end."""
    split = lambda e: (e["frames"][:context], e["frames"][context:])
    return {
        name: lambda seen, oracle=oracle: {"frames": np.stack([oracle(*split(e)) for e in seen])}
        for name, oracle in ORACLES.items()
    }


def main(_):
    source = registry.open_split(_DATA.value, _SPLIT.value, data_dir=_DATA_DIR.value)
    sizes = {"num_frames": CONTEXT + HORIZON, "wanted": [(_SIDE.value, _SIDE.value)]}
    shown_truth = predictors(CONTEXT)
    table = compare.compare(
        pipeline.evaluation_windows(source, **sizes, stride=_STRIDE.value),
        {**shown_truth, **naive.predictors(HORIZON)},
        context=CONTEXT,
        sees=dict.fromkeys(shown_truth, ("frames",)),
        log=print,
    )
    print(summary.format_table(summary.summarize(table.clips, table.values)))


if __name__ == "__main__":
    _DATA = flags.DEFINE_string("data", "sprites", "Prepared data set.")
    _DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where data sets are.")
    _SPLIT = flags.DEFINE_string("split", "test", "Split to measure on.")
    _STRIDE = flags.DEFINE_integer("stride", CONTEXT + HORIZON, "Frames between windows.", 1)
    _SIDE = flags.DEFINE_integer("resolution", 128, "Side of the frames.", 11)
    common.run(main)
