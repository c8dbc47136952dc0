"""Which runs a training goes on from, and what may change between two starts of one."""

import pytest
from saved import write_run
from smoke import get_config

from vidpred_jax.config import parse
from vidpred_jax.training import earlier, resume
from vidpred_jax.types import InputError


def test_a_stage_2_that_needs_stage_1_says_so(tmp_path):
    config = parse(get_config("translator", "data", predicted_fraction=0.5))
    with pytest.raises(InputError, match=r"predicted_fraction \(0.5\) needs a fusion run: none"):
        earlier.fill_in(config, tmp_path / "t")
    write_run(tmp_path / "a", "fusion", 9, get_config("fusion", "data"))
    assert earlier.fill_in(config, tmp_path / "t")["fusion_run"] == str(tmp_path / "a")
    # A run that resumes keeps the stage-1 run it began with.
    write_run(tmp_path / "t", "translator", 1, earlier.fill_in(config, tmp_path / "t"))
    write_run(tmp_path / "b", "fusion", 1, get_config("fusion", "data"))
    assert earlier.fill_in(config, tmp_path / "t")["fusion_run"] == str(tmp_path / "a")
    assert earlier.fill_in(config, tmp_path / "u")["fusion_run"] == str(tmp_path / "b")
    # It goes on where stage 1 was moved to; a workdir of the other stage is refused, not resumed.
    moved = {**earlier.fill_in(config, tmp_path / "t"), "fusion_run": "moved"}
    resume.check_resumable(moved, tmp_path / "t")
    with pytest.raises(InputError, match="stage was 'fusion', is 'translator'"):
        resume.check_resumable(earlier.fill_in(config, tmp_path / "b"), tmp_path / "b")


def test_another_config_is_refused_field_by_field(tmp_path):
    write_run(tmp_path / "a", "fusion", 9, get_config("fusion", "data"))
    same = parse(get_config("fusion", "moved", log_every=7, optimizer__learning_rate=0.5))
    resume.check_resumable(same, tmp_path / "a")
    other = {**same, "seed": 1, "model": {**same["model"], "widths": [8, 9]}}
    with pytest.raises(
        InputError, match=r"config: model.widths was \[8, 8\], is \[8, 9\]; seed was 0, is 1; ch"
    ):
        resume.check_resumable(other, tmp_path / "a")


def test_a_field_that_a_run_did_not_know_has_its_default(tmp_path):
    config = get_config("fusion", "data")
    before = {k: v for k, v in config.items() if k not in ("context", "precision")}
    before["optimizer"] = {k: v for k, v in config["optimizer"].items() if k != "accumulate"}
    write_run(tmp_path / "a", "fusion", 9, before)
    resume.check_resumable(parse(config), tmp_path / "a")
    with pytest.raises(InputError, match="context was 16, is 10; precision was 'float32', is 'tf"):
        changed = {**config, "context": 10, "precision": "tf32"}
        resume.check_resumable(parse(changed), tmp_path / "a")
    write_run(tmp_path / "b", "fusion", 9, {**config, "self_fed": 1})
    with pytest.raises(InputError, match="workdir '.*b': self_fed was removed: use max_unroll"):
        resume.check_resumable(parse(config), tmp_path / "b")


def test_only_a_run_of_a_constant_rate_can_be_extended(tmp_path):
    for schedule in ("cosine", "constant"):
        config = get_config("fusion", "data", optimizer__schedule=schedule)
        write_run(tmp_path / schedule, "fusion", 4, config)
        longer = parse({**config, "num_steps": 8})
        resume.check_resumable(parse(config), tmp_path / schedule)
        if schedule == "constant":
            resume.check_resumable(longer, tmp_path / schedule)
            continue
        message = (
            "num_steps was 4, is 8: the rate of optimizer.schedule='cosine' ends at num_steps; a run "
            "of optimizer.schedule='constant' can be extended"
        )
        with pytest.raises(InputError, match=message):
            resume.check_resumable(longer, tmp_path / schedule)
        longer["optimizer"]["warmup_steps"] = 9
        with pytest.raises(InputError, match="optimizer.warmup_steps was 50, is 9"):
            resume.check_resumable(longer, tmp_path / schedule)
