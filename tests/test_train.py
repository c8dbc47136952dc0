"""Training whole: resume equals unbroken, smoke presets run, the presets trace."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from smoke import get_config, restored

import vidpred_jax
from vidpred_jax import train
from vidpred_jax.checkpoints import restore
from vidpred_jax.data import pipeline
from vidpred_jax.inference import loading
from vidpred_jax.training import experiment, resume
from vidpred_jax.types import InputError, Interrupted, UserError


def test_a_run_leaves_what_it_promises(trained):
    for stage in ("fusion", "translator", "accompanying"):
        names = {f.name for f in (trained / stage).iterdir()}
        assert names == {".lock", "checkpoints", "config.json", "metrics.jsonl", "samples", "tensorboard"}
        lines = [json.loads(x) for x in (trained / stage / "metrics.jsonl").read_text().splitlines()]
        assert [x["step"] for x in lines] == [2, 4, 4]
        beside = {"translator"} if stage == "accompanying" else set()
        assert set(lines[-1]["evaluation"]) == {"ours", "copy_last", *beside}
        assert len(lines[-1]["evaluation"]["ours"]["psnr"]["per_step"]) == 32
        meta = restore.read_meta(trained / stage)
        assert meta["config"] == json.loads((trained / stage / "config.json").read_text())
        assert {"fingerprint", "versions", "data_state", "stage"} <= set(meta)


@pytest.mark.parametrize("network", ["pix2pixhd", "simvp"])
def test_other_networks_train_go_on_and_predict(network, trained, tmp_path, data_dir, clip):
    fields = {} if network == "simvp" else {"predicted_fraction": 0.0}
    fields |= {"optimizer__schedule": "constant"}  # A cosine's run cannot be extended.
    config = get_config(network, data_dir, evaluation__clips=1, **fields)
    train.train({**config, "num_steps": 2}, tmp_path, log=lambda line: None)
    lines = []
    found = train.train(config, tmp_path, log=lines.append)
    assert any(line.startswith("resuming") and "at step 2" in line for line in lines)
    assert np.isfinite(found["ours"]["psnr"]["mean"])
    element = pipeline.to_batch_element(clip, (32, 32))
    if network == "simvp":
        predictor = loading.load(tmp_path)
        with pytest.raises(InputError, match="predict no frames; runs of stages 1 and 2 do"):
            loading.load(trained / "fusion")
    else:
        predictor = vidpred_jax.load(trained / "fusion", tmp_path)
    pictures, frames = predictor.predict_batch([{k: v[:16] for k, v in element.items()}], 18)
    assert (pictures is None) == (network == "simvp")
    assert frames.shape == (1, 18, 32, 32, 3) and frames.dtype == np.uint8 and frames.std() > 0


@pytest.mark.parametrize(
    ("stage", "kind"), [("fusion", "muon"), ("translator", "adam"), ("accompanying", "adam")]
)
def test_resume_equals_unbroken_bit_for_bit(stage, kind, trained, tmp_path, data_dir, monkeypatch):
    """Though the clock jumps by up to a year."""
    extra = {"predicted_fraction": 0.5, "fusion_run": str(trained / "fusion")}
    # Wide enough for Muon's matrices.
    extra = {"optimizer__kind": kind, "model__widths": (16, 16)} if stage == "fusion" else extra
    if stage == "accompanying":  # Its schedule needs validation; broken off within the pair's part.
        extra |= {"translator_run": str(trained / "translator"), "reference_steps": 1}
        extra |= {"evaluation__clips": 2}
    else:
        extra |= {"evaluation__clips": 0}
    # A constant rate, for a cosine would know how long each of the two starts is.
    extra |= {"optimizer__schedule": "constant"}
    whole = get_config(stage, data_dir, **extra)
    train.train(whole, tmp_path / "whole", log=lambda line: None)
    rng, clock = random.Random(0), time.time
    monkeypatch.setattr(time, "time", lambda: clock() + rng.choice([0, rng.uniform(-3e7, 3e7)]))
    train.train({**whole, "num_steps": 2}, tmp_path / "broken", log=lambda line: None)
    lines = []
    train.train(whole, tmp_path / "broken", log=lines.append)
    assert any("at step 2" in line for line in lines if line.startswith("resuming"))
    first, first_meta = restored(whole, tmp_path / "whole")
    second, second_meta = restored(whole, tmp_path / "broken")
    chex.assert_trees_all_equal(first, second)
    assert first_meta["data_state"] == second_meta["data_state"] and int(first.step) == 4
    assert first_meta.get("schedule") == second_meta.get("schedule")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_as_if_nothing_had_been(number, tmp_path, data_dir):
    config = get_config(
        "fusion", data_dir, num_steps=5, log_every=1, save_every=4, optimizer__schedule="constant"
    )

    def log(line):
        if "step 2/" in line:
            os.kill(os.getpid(), number)

    train.train(config, tmp_path / "whole", log=lambda line: None)
    handler = signal.getsignal(number)
    with pytest.raises(Interrupted, match=rf"{number.name} at step 3 of 5; saved in .*, the same"):
        train.train(config, tmp_path / "broken", log=log)
    assert restore.steps(tmp_path / "broken") == [3] and Interrupted.exit_code == 75
    assert signal.getsignal(number) is handler
    train.train(config, tmp_path / "broken", log=lambda line: None)
    (first, one), (second, other) = (restored(config, tmp_path / x) for x in ("whole", "broken"))
    chex.assert_trees_all_equal(first, second)
    assert one["data_state"] == other["data_state"] and one["digests"] == other["digests"]


def test_a_second_signal_ends_at_once():
    code = """
import os, signal
from vidpred_jax import interruption
with interruption.Interruption() as interrupted:
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupted.asked(1) == "SIGTERM"
    os.kill(os.getpid(), signal.SIGINT)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 128 + signal.SIGINT


def test_nothing_is_compiled_in_steady_state(tmp_path, data_dir):
    compiled, at_step = [], {}
    listen = lambda name, seconds, **_: compiled.append(name)
    jax.monitoring.register_event_duration_secs_listener(listen)

    def log(line):
        if " steps/s " in line:
            count = sum("backend_compile" in name for name in compiled)
            at_step[int(line.split(" step ")[1].split("/")[0])] = count

    fields = dict(num_steps=9, log_every=1, save_every=3, evaluation__every=100)
    train.train(get_config("fusion", data_dir, **fields), tmp_path, log=log)
    assert at_step[1] > 0
    assert at_step[8] == at_step[4], at_step  # Steps, logging and a save between.


def test_a_finished_run_is_left_alone(trained, tmp_path):
    run = shutil.copytree(trained / "fusion", tmp_path / "fusion")
    config = json.loads((run / "config.json").read_text())  # Its data may be another process's.
    before = restore.steps(run)
    metrics = run / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{"step": 4, "lo')  # Torn by a full disk, say.
    (file,) = (run / "checkpoints" / "4" / "meta").glob("metadata*")
    meta = json.loads(file.read_text())
    assert meta["devices"] == 4
    meta.update(devices=2, digests={})
    file.write_text(json.dumps(meta))
    lines = []
    train.train(config, run, log=lines.append)
    assert metrics.read_text() == whole
    assert restore.steps(run) == before and "resuming" in lines[0]
    assert lines[1].startswith("warning: saved on 2 devices, goes on on 4")


def test_stage_3_refusals(trained, tmp_path, data_dir):
    runs = {f"{stage}_run": str(trained / stage) for stage in ("fusion", "translator")}
    cases = [
        ({"evaluation__clips": 0}, "stage accompanying needs validation clips of 48 frames, and"),
        ({"reference_steps": 5}, r"reference_steps \(5\) must be at most num_steps \(4\)"),
        ({"loss__magic": 1}, "loss.magic is not a field: l1, ssim, sharpness"),
        ({"data__future_frames": 1}, r"data.future_frames \(1\) must be at least 2 for this"),
        ({"data__height": 64, "data__width": 64}, "was trained at 32 x 32, not 64 x 64"),
        ({"translator_run": str(trained / "fusion")}, "holds a fusion run; a translator run is"),
        ({"fusion_run": ""}, "stage 3 needs a fusion run: none trained on"),
    ]
    for fields, message in cases:
        config = get_config("accompanying", data_dir, **{**runs, **fields})
        with pytest.raises(InputError, match=message):
            train.train(config, tmp_path / "run", log=lambda line: None)


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, data_dir):
    config = get_config("fusion", data_dir, optimizer__learning_rate=1e30, optimizer__clip=0.0)
    config["optimizer"]["warmup_steps"] = 0
    with pytest.raises(
        UserError, match=r"is not finite at step \d \(clips train_.*\); nothing was saved since"
    ):
        train.train({**config, "num_steps": 8, "log_every": 8}, tmp_path, log=lambda line: None)


def test_parameters_that_are_not_finite_are_not_saved(tmp_path, data_dir):
    """The step's loss is, for it was of the parameters before."""
    config = get_config("fusion", data_dir, optimizer__learning_rate=3e38, optimizer__clip=0.0)
    config["optimizer"]["warmup_steps"] = 0
    config.update(num_steps=1, save_every=1)
    with pytest.raises(UserError, match="param_norm is not finite at step 1"):
        train.train(config, tmp_path, log=lambda line: None)
    assert restore.steps(tmp_path) == []


def test_a_second_training_in_the_same_folder_is_refused(trained, tmp_path):
    run = shutil.copytree(trained / "fusion", tmp_path / "fusion")
    config = json.loads((run / "config.json").read_text())
    with resume.locked(run), pytest.raises(UserError, match="another training is running in .*/fusion"):
        train.train(config, run, log=lambda line: None)
    train.train(config, run, log=lambda line: None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(data__split="train+test"), r"data.split \('train\+test'\) must not hold test"),
        (dict(data__future_frames=2), r"data.future_frames \(2\) must be at least 16 for this"),
        (dict(log_every=0), r"log_every \(0\) must be 1 or more"),
        (dict(evaluation__horizon=0), r"evaluation.horizon \(0\) must be 1 or more"),
        (dict(data__height=8), r"data.height \(8\) must be 11 or more"),
        (dict(ema_decay=2.0), r"ema_decay \(2.0\) must be 0 to 1"),
        (dict(loss__gan="x"), r"loss.gan \('x'\) must be one of"),
        (dict(loss__l2=1), "loss.l2 is not a field: l1, mse, psnr, ssim"),
        (dict(data__name="moon"), "data set 'moon' is not in"),
        (dict(model__shift=99), r"model.shift \(99\) must be 1 to 16"),
    ],
)
def test_configs_that_cannot_run(fields, message, tmp_path, data_dir):
    with pytest.raises(InputError, match=message):
        train.train(get_config("fusion", data_dir, **fields), tmp_path, log=lambda line: None)
    assert not (tmp_path / "config.json").exists()


def test_a_batch_that_some_devices_share(tmp_path, data_dir):
    """Of four devices as many as divide it, or as many as asked; the same training."""
    fields = dict(num_steps=1, evaluation__clips=0, optimizer__schedule="constant")
    config = get_config("fusion", data_dir, batch_size=2, **fields)
    for name, asked, used in (("most", None, 2), ("one", 1, 1)):
        lines = []
        train.train(config, tmp_path / name, lines.append, asked)
        assert f"batch_size 2: {used} of 4 devices are used" in lines
        assert restore.read_meta(tmp_path / name)["devices"] == used
    (first, _), (second, _) = (restored(config, tmp_path / x) for x in ("most", "one"))
    chex.assert_trees_all_close(first.params["g"], second.params["g"], rtol=1e-2, atol=1e-3)
    lines = []
    train.train({**config, "num_steps": 2}, tmp_path / "one", lines.append)
    assert any("saved on 1 devices, goes on on 2" in line for line in lines)
    with pytest.raises(InputError, match=r"--devices \(4\) must divide batch_size \(2\)"):
        train.train(config, tmp_path / "other", lines.append, 4)
    assert not (tmp_path / "other").exists()


def test_nothing_is_chosen_by_clips_that_are_trained_on(tmp_path, data_dir):
    lines = []
    config = get_config("fusion", data_dir, data__split="train+validation", num_steps=2)
    assert train.train({**config}, tmp_path, log=lines.append) == {}
    assert any("no validation: data.split ('train+validation') trains on it" in x for x in lines)
    assert restore.steps(tmp_path) and not list(tmp_path.glob("checkpoints/*/metrics"))


def test_runs_of_two_sizes_do_not_fit(trained, tmp_path, data_dir):
    config = get_config("translator", data_dir, data__height=16, data__width=16)
    train.train({**config, "num_steps": 1}, tmp_path / "small", log=lambda line: None)
    with pytest.raises(InputError, match="works at 32 x 32, translator run .* at 16 x 16"):
        vidpred_jax.load(trained / "fusion", tmp_path / "small")
    config.update(predicted_fraction=0.5, fusion_run=str(trained / "fusion"))
    with pytest.raises(InputError, match="was trained at 32 x 32, not 16 x 16"):
        train.train(config, tmp_path / "other", log=lambda line: None)


@pytest.mark.parametrize("preset", ["cpu", "full", "paper"])
@pytest.mark.parametrize("stage", ["fusion", "translator"])
def test_presets_trace(stage, preset, data_dir):
    """The networks of every preset fit their pictures, their data and their step."""
    fields = {"predicted_fraction": 0.0} if stage == "translator" else {}
    config = get_config(stage, data_dir, preset, batch_size=4, data__config="tiny", **fields)
    found = {}

    def make():
        found["step"] = (made := experiment.make(config, log=lambda line: None)).step
        return made.state

    first = jax.eval_shape(make)
    assert sum(x.size for x in jax.tree.leaves(first.params["g"])) > 100_000
    data, frames = config["data"], config["context"] + config["data"]["future_frames"]
    shape = (config["batch_size"], frames, data["height"], data["width"])
    channels = {"frames": 3, "fusion": 3, "planes": 2}
    batch = {f: jax.ShapeDtypeStruct((*shape, c), np.uint8) for f, c in channels.items()}
    batch["length"] = jax.ShapeDtypeStruct(shape[:1], np.int32)
    after, metrics = jax.eval_shape(found["step"], first, batch)
    chex.assert_trees_all_equal_shapes_and_dtypes(first, after)
    terms = {"l1"} if stage == "translator" or preset == "paper" else {"edges", "labels"}
    assert {*terms, "loss", "grad_norm"} <= set(metrics)
