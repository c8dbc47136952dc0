"""What the environment brings: home folders, addresses, missing devices and modules, float64."""

import os
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
from commands import run

import vidpred_jax
from vidpred_jax.cli import common
from vidpred_jax.config import parse
from vidpred_jax.types import InputError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--output=~/x", "--output=HOME/x"),
        ("--runs=a=~/b,~/c", "--runs=a=HOME/b,HOME/c"),
        ("--config.data.data_dir=~", "--config.data.data_dir=HOME"),
        ("--config=~/c.py:smoke", "--config=HOME/c.py:smoke"),
        ("--output=a~/x", "--output=a~/x"),
        ("--video=~nobody-of-this-name/x", "--video=~nobody-of-this-name/x"),
        ("~/x", "~/x"),
        ("--ablate", "--ablate"),
    ],
)
def test_home_folders_after_an_equals_sign(given, expected, monkeypatch):
    """Shells write out those of words of their own alone: folders called ~ were made."""
    monkeypatch.setenv("HOME", "/somebody")
    assert common._local(given) == expected.replace("HOME", "/somebody")


@pytest.mark.parametrize("given", ["--output=gs://a/b", "--input=s3://b/c", "--video=https://c/d.mp4"])
def test_addresses_are_no_folders(given):
    with pytest.raises(ValueError, match="is an address; folders and files must be local"):
        common._local(given)


@pytest.mark.parametrize(
    "given", ["--workdir=gs://a/b", "--runs=a=gs://b/c,s3://d/e", "--config.fusion_run=gs://a/b"]
)
def test_addresses_of_runs_and_data_sets(given):
    assert common._local(given) == given


@pytest.mark.parametrize(
    "given", ["--workdir=gs://a", "--runs=a=gs://b/c,hdfs://d/e", "--data_dir=gcs://a/b"]
)
def test_addresses_that_are_not_known(given):
    with pytest.raises(ValueError, match="is an address; such addresses are not known"):
        common._local(given)


def test_folders_in_configs(monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    config = common.load_config("configs/translator.py", "smoke")
    config["data"]["data_dir"], config["fusion_run"] = "~/data", "~/runs/a"
    config.update(proposals=["scene"], proposal_runs=["~/b"])
    found = parse(config)
    assert found["data"]["data_dir"] == "/somebody/data" and found["fusion_run"] == "/somebody/runs/a"
    assert found["proposal_runs"] == ["/somebody/b"]
    config["data"]["data_dir"] = "gs://bucket/data"
    assert parse(config)["data"]["data_dir"] == "gs://bucket/data"
    config["data"]["data_dir"] = "https://bucket/data"
    with pytest.raises(
        InputError, match="data.data_dir .*must be local, or begin with gs://, s3:// or az://"
    ):
        parse(config)


def test_preset_smoke_on_data_of_ones_own():
    """Its `tiny` configuration is of the embedded sets alone."""
    config = common.load_config("configs/fusion.py", "smoke")
    assert parse(config)["data"]["config"] == "tiny"
    config["data"]["name"] = "mine"
    assert parse(config)["data"]["config"] == ""


def test_a_device_that_is_not_there_is_told_as_such(trained):
    done = run("scripts/rollout.py", f"--runs={trained / 'fusion'}", JAX_PLATFORMS="rocm")
    assert done.returncode == 2 and done.stderr.startswith("error: JAX_PLATFORMS (rocm) names a device that")


@pytest.mark.parametrize("weights", ["real", "sprites"])
def test_float64_elsewhere_in_a_program_changes_no_frame(weights):
    frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)
    labels = np.zeros(frames.shape[:3], np.uint8)
    labels[:, 20:40, 10:30] = 1

    def predict():
        found = vidpred_jax.load(weights, size=(64, 64)).predict(frames, labels, 8)
        return np.stack([found.frames, found.fusion])

    expected = predict()
    with jax.enable_x64(True):
        np.testing.assert_array_equal(predict(), expected)


IMPORTED = """
import pkgutil, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import vidpred_jax
for module in pkgutil.walk_packages(vidpred_jax.__path__, "vidpred_jax."):
    if module.name.split(".")[-1] not in ("export", "prepare", "rollout"):  # Commands of the same flags.
        __import__(module.name)
from vidpred_jax.cli import common
assert common.peak_memory_mib() is None
"""


def test_imported_where_unix_modules_are_absent():
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("platform", "peak"), [("linux", 300 << 10), ("darwin", 300 << 20)])
def test_peak_memory_in_the_units_of_the_system(platform, peak, monkeypatch):
    usage = types.SimpleNamespace(ru_maxrss=peak)
    fake = types.SimpleNamespace(getrusage=lambda who: usage, RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", fake)
    monkeypatch.setattr(sys, "platform", platform)
    assert common.peak_memory_mib() == 300
