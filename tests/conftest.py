"""Four fake CPU devices for every test, and what several files of tests need."""

import atexit
import os
import pathlib
import shutil
import tempfile

os.environ["PJRT_NPROC"] = "16"  # Fake devices deadlock on two cores otherwise.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Most of the suite's time is compilation: little optimised, and each program once for all processes.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vidpred_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import filelock
import jax

jax.config.update("jax_num_cpu_devices", 4)

import numpy as np
import pytest
from absl import flags
from smoke import get_config

from vidpred_jax import fusion, startup, train
from vidpred_jax.datasets import registry, synthesis

startup.compile_quickly()
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder that holds sprites/tiny."""
    folder = tmp_path_factory.mktemp("data")
    registry.open_builder("sprites", data_dir=folder, config="tiny", log=lambda line: None)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
    """A folder with a run of four steps of every stage: one for all processes, to be read alone."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done, half = base / "trained", base / "trained.done", {"predicted_fraction": 0.5}
    with filelock.FileLock(base / "trained.lock"):
        if not done.exists():
            for stage, extra in (("fusion", {}), ("translator", half), ("accompanying", half)):
                config = get_config(stage, data_dir, **extra)
                train.train(config, folder / stage, log=lambda line: None)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def clip():
    """48 frames of 64 x 64 with exact labels and edges."""
    clip = synthesis.sprite_clip(np.random.default_rng(5), "clip", 48, 64)
    clip.edges = fusion.canny(clip.frames)
    return clip


@pytest.fixture(scope="session")
def davis():
    """The folder of real clips, in DAVIS's layout."""
    folder = os.environ.get("VIDPRED_DAVIS")
    if not folder:
        pytest.skip("VIDPRED_DAVIS is not set: tests on real video need DAVIS's folder")
    return pathlib.Path(folder)
