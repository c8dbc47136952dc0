"""An object store holds the data set and the runs."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
from commands import ROOT, TRAIN

from vidpred_jax.data import video_io
from vidpred_jax.data.datasets import synthesis

FAKE = ROOT / "tests" / "fake_store"


def test_trained_killed_resumed_and_rolled_out(tmp_path):
    """Each command as on a machine of its own: nothing but the store is left."""
    store, videos = tmp_path / "store", tmp_path / "videos"
    for i in range(5):
        frames = synthesis.sprite_clip(np.random.default_rng(i), "", 48, 64).frames
        video_io.write_video(videos / f"{i}.mp4", frames, 24.0)

    def command(number, *args):
        environment = {"PYTHONPATH": str(FAKE), "VIDPRED_STORES": str(tmp_path / f"machine{number}")}
        environment["VIDPRED_FAKE_STORE"] = str(store)
        said = (tmp_path / f"{number}.txt").open("w")
        return subprocess.Popen(
            [sys.executable, *args], cwd=ROOT, env={**os.environ, **environment}, stdout=said, stderr=said
        )

    def succeed(number, *args):
        assert command(number, *args).wait(300) == 0, (tmp_path / f"{number}.txt").read_text()
        return (tmp_path / f"{number}.txt").read_text()

    succeed(0, "scripts/prepare.py", f"--input={videos}", "--name=mine", "--data_dir=gs://b/data")
    train = ["--config.data.data_dir=gs://b/data", "--config.data.name=mine", "--config.save_every=2"]
    train += ["--config.evaluation.clips=1", "--config.log_every=1", "--config.optimizer.schedule=constant"]
    first = [*TRAIN, "--config=configs/fusion.py:smoke", "--workdir=gs://b/runs/fusion", *train]
    running = command(1, *first, "--config.num_steps=400")
    index, deadline = store / "b/runs/fusion/.index.json", time.monotonic() + 200
    while not (index.exists() and "/training/" in index.read_text()) and time.monotonic() < deadline:
        assert running.poll() is None, (tmp_path / "1.txt").read_text()
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    steps = {
        int(name.split("/")[1]) for name in json.loads(index.read_text()) if name.startswith("checkpoints/")
    }
    said = succeed(2, *first, f"--config.num_steps={max(steps) + 2}")
    assert f"at step {max(steps)}\n" in said and "saved in gs://b/runs/fusion" in said
    second = [*TRAIN, "--config=configs/translator.py:smoke", "--workdir=gs://b/runs/translator", *train]
    succeed(3, *second, "--config.num_steps=2", "--config.fusion_run=gs://b/runs/fusion")
    runs = "--runs=gs://b/runs/fusion,gs://b/runs/translator"
    rollout = [
        "scripts/rollout.py",
        runs,
        "--data=mine",
        "--data_dir=gs://b/data",
        f"--output={tmp_path / 'out'}",
    ]
    succeed(4, *rollout)
    assert json.loads((tmp_path / "out/metrics.json").read_text())["runs"] == runs.removeprefix(
        "--runs="
    ).split(",")
