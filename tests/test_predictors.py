"""What an evaluation measures: contexts and sizes agreed on, what runs were trained on."""

import jax
import numpy as np
import pytest

from vidpred_jax.data import sizes
from vidpred_jax.evaluation import predictors
from vidpred_jax.inference import predictor
from vidpred_jax.proposals import naive
from vidpred_jax.types import InputError


class _Run(predictor.Predictor):
    """Predicts the newest frame, again and again."""

    def __init__(self, height, width, context=16, data=()):
        self.size, self.context, self.device = (height, width), context, None
        self.configs = [{"data": each} for each in data]

    def predict_batch(self, elements, horizon, exact=False):
        frames = [np.repeat(e["frames"][-1:], horizon, 0) for e in elements]
        return np.stack([e["fusion"][:horizon] for e in elements]), np.stack(frames)


def test_rows_of_each_clarity():
    """Of runs that have a choice; others stay as they are."""
    loaded = predictors.load(["none"], ["real", "sprites"])
    at = lambda asked: {n: run.clarity for n, run in predictors.at_clarities(loaded, asked).items()}
    assert at(None) == {"real, clarity 0": 0, "real, clarity 1": 1, "sprites": None}
    assert at([".30", "1"]) == {"real, clarity 0.3": 0.3, "real, clarity 1": 1, "sprites": None}
    alone = {"sprites": loaded["sprites"]}
    assert predictors.at_clarities(alone, None) == alone
    for asked, told in {
        ("0", "0.0"): "--clarity=0,0.0 names 0 twice",
        ("high",): "--clarity: 'high' is no number",
        ("2",): r"clarity \(2.0\) must be a number from 0 to 1",
        ("nan",): r"clarity \(nan\) must be",
    }.items():
        with pytest.raises(InputError, match=told):
            predictors.at_clarities(loaded, list(asked))
    with pytest.raises(InputError, match="--clarity=1: no run has a choice; the weights real do"):
        predictors.at_clarities(alone, ["1"])


def test_sizes_of_runs():
    common = predictors.common_size
    assert common({}, None) == (128, 128)
    assert common({}, "32x64") == (32, 64)
    assert common({"a": _Run(64, 32)}, None) == (64, 32)
    mixed = {"a": _Run(64, 96), "b": _Run(32, 32)}
    assert common(mixed, "32") == (32, 32)
    assert sizes.seen_by((32, 32), predictors.sizes_seen(mixed)) == [(32, 32), (64, 96)]
    with pytest.raises(InputError, match="run 'b' predicts 32 x 32, less than 96 x 64"):
        sizes.seen_by(common(mixed, None), predictors.sizes_seen(mixed))
    with pytest.raises(InputError, match="--resolution=8 is 8 x 8; both sides must be 11 to 8192"):
        common({}, "8")
    with pytest.raises(InputError, match="run 'u@h/b' holds no checkpoint"):
        predictors.load(["a=u@h/b,u@h/c"], [])
    with pytest.raises(InputError, match="b@64 is no run folder, nor one of the weights"):
        predictors.load(["a=b@64"], [])


def test_contexts_of_runs():
    common, run = predictors.common_context, _Run(32, 32, context=10)
    assert (common({}, None), common({}, 5), common({"a": run}, None)) == (16, 5, 10)
    with pytest.raises(InputError, match="--context=5, runs observe 'a' 10 frames; they must be"):
        common({"a": run}, 5)
    with pytest.raises(InputError, match="runs observe 'a' 10, 'b' 16 frames; they must be equal"):
        common({"a": run, "b": _Run(32, 32)}, None)


def test_a_run_that_sees_frames_of_another_size_is_measured_at_the_common_one():
    """By hand: of a frame of four columns two by two, the means; of 20 windows, in their order."""
    run = _Run(2, 4)
    assert sizes.seen_by((1, 2), predictors.sizes_seen({"a": run})) == [(1, 2), (2, 4)]
    fine = np.array([[0, 10, 20, 40], [1, 3, 5, 9]], np.uint8)[..., None].repeat(3, -1)
    elements = [
        {
            "frames": np.zeros((16, 1, 2, 3), np.uint8),
            "frames 2 x 4": np.stack([fine + 2 * i] * 16),
            "fusion 2 x 4": np.zeros((16, 2, 4, 3), np.uint8),
        }
        for i in range(20)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictors, "_PIXELS", 3 * 2 * 4)  # Three windows at a time.
        patch.setattr(_Run, "platform", "gpu")
        found = predictors.predict(run, elements, 3)
    jax.tree.map(np.testing.assert_array_equal, found, predictors.predict(run, elements, 3))
    means = np.array([14 / 4, 74 / 4])
    expected = np.stack([means + 2 * i for i in range(20)])
    np.testing.assert_allclose(found["frames"][:, 2, 0, :, 0], expected, atol=0.5)
    assert set(found) == {"frames"}  # Its fusion pictures are of another size than the truth's.
    own = [{"frames": fine[None], "fusion": np.full((16, 2, 4, 3), i, np.uint8)} for i in (3, 4)]
    assert predictors.predict(run, own, 3)["fusion"][:, 0, 0, 0, 0].tolist() == [3, 4]


def test_unknown_baselines():
    with pytest.raises(InputError, match="--baselines: 'flow@64' is not one of copy_last"):
        naive.predictors(3, ["copy_last", "flow@64"])


def test_clips_that_any_stage_was_trained_on_are_in_sample():
    data = {
        "old": {"name": "mine", "split": "train"},
        "both": {"name": "mine", "split": "train+validation"},
        "else": {"name": "other", "split": "train+validation"},
    }

    def kind(split, *stages):
        run = _Run(32, 32, data=[data[stage] for stage in stages])
        return predictors.table_kind({"ours": run}, "mine", split)

    assert kind("train", "old") == kind("train+validation", "old") == "in-sample"
    assert kind("validation", "old", "both") == kind("train", "both") == "in-sample"
    assert kind("validation", "old", "else") == "validation"
    assert kind("test", "old", "both") == kind("train", "else") == "held-out"
    assert predictors.table_kind({}, "mine", "train") == "held-out"
