"""Validation while a run trains: on which windows, and what is shown of them."""

import types

import numpy as np
import pytest
from smoke import get_config

from vidpred_jax.data import pipeline
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.training import validation


@pytest.mark.parametrize(("stride", "starts"), [(0, [0]), (8, [0, 8, 16])])
def test_clips_are_counted_not_windows(stride, starts, data_dir):
    """All windows of the first clips: of 48 frames, three of 32 begin every 8."""
    config = get_config(
        "fusion", data_dir, evaluation__clips=2, evaluation__horizon=16, evaluation__stride=stride
    )
    lines = []
    found = validation.windows(config, lines.append)
    builder = registry.open_builder("sprites", data_dir=data_dir, config="tiny", log=lines.append)
    names = [clips.name(example) for example in list(clips.Source(builder, "validation"))[:2]]
    assert [(clip, start) for clip, start, _ in found] == [(n, s) for n in names for s in starts]
    assert lines[-1] == f"validation: {len(found)} windows of 32 frames, of 2 clips"
    assert all(element["frames"].shape == (32, 32, 32, 3) for _, _, element in found)


def test_short_clips_are_not_counted(data_dir, monkeypatch):
    """Of the clips of 48, 40 and 48 frames that stand for the split's, the second is too short."""
    config = get_config("fusion", data_dir, evaluation__clips=2, evaluation__horizon=32)
    examples = [
        {"name": name.encode(), "num_frames": length}
        for name, length in (("a", 48), ("b", 40), ("c", 48), ("d", 48))
    ]
    given = {}
    monkeypatch.setattr(clips, "Source", lambda builder, split: examples)
    monkeypatch.setattr(
        pipeline, "evaluation_windows", lambda source, **options: given.update(options) or []
    )
    validation.windows(config, lambda line: None)
    assert given["only"] == {"a", "c"}


def test_validation_shows_what_it_predicts_of_the_first_windows():
    """Though they are predicted in two batches, of sixteen and one."""
    picture = np.zeros((18, 16, 16, 3), np.uint8)
    windows = [(f"clip {i}", 0, {"frames": picture, "fusion": picture + i}) for i in range(17)]
    # Brighter than the newest picture seen, each by its own share.
    predict = lambda state, seen: np.stack([2 * x["fusion"][-2:] for x in seen])
    made = types.SimpleNamespace(field="fusion", predict=predict, beside={})
    for show in (3, 17):
        summary, shown = validation.validate(made, {}, windows, show)
        assert [(x == 2 * i).all() for i, x in enumerate(shown)] == show * [True]
        assert summary["ours"]["psnr"]["mean"] < summary["copy_last"]["psnr"]["mean"]
    assert validation.validate(made, {}, []) == ({}, [])
