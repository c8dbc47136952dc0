"""What an evaluation measures: short contexts filled, sizes agreed on, what runs were trained on."""

import numpy as np
import pytest

from vidpred_jax import checkpoint, evaluated_runs
from vidpred_jax.types import InputError


def test_a_context_of_ten_frames_is_mirrored_to_sixteen():
    frames = np.arange(14, dtype=np.uint8).reshape(14, 1, 1, 1)  # Ten observed, four of the future.
    (element,) = evaluated_runs.fill_context([{"clip": "a", "start": 0, "frames": frames}], 10)
    order = [6, 5, 4, 3, 2, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    assert element["frames"].ravel().tolist() == order and element["clip"] == "a"
    (least,) = evaluated_runs.fill_context([{"frames": frames[:9]}], evaluated_runs.LEAST_CONTEXT)
    assert len(least["frames"]) == 16
    whole = [{"frames": np.zeros((16, 1, 1, 1), np.uint8)}]
    assert evaluated_runs.fill_context(whole, 16) is whole


class _Run:
    def __init__(self, height, width):
        self.height, self.width = height, width


def test_sizes_of_runs():
    assert evaluated_runs.common_size({}, None) == (128, 128)
    assert evaluated_runs.common_size({}, "32x64") == (32, 64)
    assert evaluated_runs.common_size({"a": _Run(64, 32)}, None) == (64, 32)
    with pytest.raises(InputError, match="run 'b' predicts 64 x 64, not 32 x 32"):
        evaluated_runs.common_size({"a": _Run(32, 32), "b": _Run(64, 64)}, None)


def test_clips_that_any_stage_was_trained_on_are_in_sample(monkeypatch):
    data = {
        "old": {"name": "mine"},
        "both": {"name": "mine", "split": "train+validation"},
        "else": {"name": "other", "split": "train+validation"},
    }
    monkeypatch.setattr(checkpoint, "read_meta", lambda run: {"config": {"data": data[run]}})

    def kind(split, *stages):
        run = _Run(32, 32)
        run.runs = stages
        return evaluated_runs.table_kind({"ours": run}, "mine", split)

    assert kind("train", "old") == kind("train+validation", "old") == "in-sample"
    assert kind("validation", "old", "both") == kind("train", "both") == "in-sample"
    assert kind("validation", "old", "else") == "validation"
    assert kind("test", "old", "both") == kind("train", "else") == "held-out"
    assert evaluated_runs.table_kind({}, "mine", "train") == "held-out"
