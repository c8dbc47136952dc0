"""Which step of a run is used: the best by its validation, the newest where there was none."""

import json

import chex
import pytest
from saved import META, damage, make_state, save_steps, template

from vidpred_jax import processes
from vidpred_jax.checkpoints import export, restore, save
from vidpred_jax.types import DamagedWarning, InputError

QUALITY = {1: 10.0, 2: 30.0, 3: 20.0, 4: 5.0}


def used(folder) -> tuple[int, int]:
    """The steps whose meta and arrays prediction takes."""
    meta = restore.read_meta(folder)["data_state"]["next_index"]
    found = restore.restore_inference(folder, template())
    chex.assert_trees_all_equal(found["ema"], make_state(0, float(found["step"]))["inference"]["ema"])
    return meta, int(found["step"])


def test_prediction_takes_the_best_step_and_training_the_newest(tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4, psnr=QUALITY)
    assert restore.steps(tmp_path) == [2, 3, 4]
    assert used(tmp_path) == (2, 2) and restore.best_step(tmp_path) == 2
    assert restore.read_meta(tmp_path, 3)["data_state"] == {"next_index": 3}
    found, _ = save.Checkpointer(tmp_path).restore(make_state(0))
    assert int(found["inference"]["step"]) == 4


def test_without_validation_the_newest_is_taken(tmp_path):
    save_steps(tmp_path / "none", 3, 5)
    assert used(tmp_path / "none") == (5, 5)
    save_steps(tmp_path / "one", 3, 5, psnr={3: -4.0})  # Of any quality.
    assert used(tmp_path / "one") == (3, 3)
    save_steps(tmp_path / "equal", 3, 5, psnr={3: 9.0, 5: 9.0})
    assert used(tmp_path / "equal") == (5, 5)
    for content in ("[]", '{"psnr": "x"}', '{"psnr": NaN}', "[" * 9999, "{"):
        (tmp_path / "one" / "checkpoints" / "3" / "metrics" / "metrics").write_text(content)
        assert used(tmp_path / "one") == (5, 5)


@pytest.mark.parametrize("item", ["inference", "meta"])
def test_of_a_damaged_best_step_neither_its_meta_nor_its_arrays_are_used(item, tmp_path):
    save_steps(tmp_path, 1, 2, 3, 4, psnr={2: 30.0, 3: 20.0})
    assert used(tmp_path) == (2, 2)
    damage(tmp_path / "checkpoints" / "2" / item)
    with pytest.warns(DamagedWarning, match="checkpoints/2 is damaged; step 3 is used instead"):
        assert used(tmp_path) == (3, 3)
    for step in (3, 4):
        damage(tmp_path / "checkpoints" / str(step) / item)
    with pytest.raises(InputError, match="checkpoint .*/2 is damaged"):
        restore.best_step(tmp_path)


def test_process_0_chooses_for_all(tmp_path, monkeypatch):
    save_steps(tmp_path, 3, 5, psnr={3: 9.0})
    sent = []
    monkeypatch.setattr(processes, "from_main", lambda choose: sent.append(choose()) or 5)
    assert used(tmp_path) == (5, 5) and set(sent) == {3}


def test_the_best_step_is_exported(tmp_path):
    config = {"stage": "fusion", "data": {"data_dir": "here"}}
    save_steps(tmp_path / "run", 1, 2, 3, 4, psnr=QUALITY, config=config)
    export.export(tmp_path / "run", tmp_path / "best")
    export.export(tmp_path / "run", tmp_path / "last", 4)
    assert restore.steps(tmp_path / "best") == [2] and restore.steps(tmp_path / "last") == [4]
    assert used(tmp_path / "best") == (2, 2)
    damage(tmp_path / "run" / "checkpoints" / "2" / "inference")
    with pytest.raises(InputError, match="checkpoint .*/2 is damaged"):
        export.export(tmp_path / "run", tmp_path / "damaged", 2)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (None, r"format 1, which vidpred_jax 0.1 reads; this is 0\.[\d.]+ and reads format 3"),
        (1, "was made by format 1, which vidpred_jax 0.1 reads"),
        (4, "was made by format 4, which a later vidpred_jax reads"),
        ([], "is damaged or does not fit"),
    ],
)
def test_another_format_is_refused(number, message, tmp_path):
    save_steps(tmp_path, 3, 5)
    for step in (3, 5):
        file = tmp_path / "checkpoints" / str(step) / "meta" / "metadata"
        meta = {**json.loads(file.read_text()), "format": number, "digests": {}}
        file.write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))
    for read in (restore.read_meta, restore.best_step):
        with pytest.raises(InputError, match=message):
            read(tmp_path)
    assert META["format"] == 3


def test_arrays_that_would_not_fit_memory_are_not_read(tmp_path, monkeypatch):
    save_steps(tmp_path, 3, 5)
    monkeypatch.setattr(restore, "_MOST_VALUES", 9)  # Six weights, three biases and the step.
    with pytest.raises(InputError, match="5' has 10 parameters; at most 9 are read"):
        restore.best_step(tmp_path)
