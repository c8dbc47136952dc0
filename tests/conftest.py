"""Four fake CPU devices for every test, and what several files of tests need."""

import atexit
import os
import pathlib
import shutil
import tempfile

os.environ["PJRT_NPROC"] = "16"  # Fake devices deadlock on two cores otherwise.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # Quicker to lower.

# Most of the suite's time is compilation: little optimised, and each program once for all processes,
# those of the commands too.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="vidpred_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(8 << 30)  # Only then are its files locked.
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import filelock
import numpy as np
import pytest
from absl import flags
from commands import TRAIN, succeed
from PIL import Image

from vidpred_jax import startup
from vidpred_jax.data import video_io
from vidpred_jax.data.datasets import registry, synthesis

# Files begin in this order, others after them: what takes long, and not all at once what waits for `trained`.
LONG = ("test_cli", "test_steps", "test_models", "test_mistakes", "test_train", "test_contexts")

startup.collect_rarely()
startup.compile_quickly()
startup.keep_memory()
flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder that holds sprites/tiny."""
    folder = tmp_path_factory.mktemp("data")
    registry.open_builder("sprites", data_dir=folder, config="tiny", log=lambda line: None)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data_dir):
    """A folder with a run of four steps of every stage: one for all processes, to be read alone.

    Each is trained by its command.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = base / "trained", base / "trained.done"
    with filelock.FileLock(base / "trained.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # What a process left that failed.
            for stage in ("fusion", "translator", "accompanying"):
                flags = [f"--workdir={folder / stage}", f"--config.data.data_dir={data_dir}"]
                if stage != "fusion":
                    flags.append("--config.predicted_fraction=0.5")
                out = succeed(*TRAIN, f"--config=configs/{stage}.py:smoke", *flags)
                assert f"{stage} step 4/4" in out and "validation at step 4: ours" in out
            done.touch()
    return folder


@pytest.fixture(scope="session")
def clip():
    """48 frames of 64 x 64 with exact labels and edges."""
    return synthesis.sprite_clip(np.random.default_rng(5), "clip", 48, 64)


@pytest.fixture(scope="session")
def video(tmp_path_factory, clip):
    """48 frames as a video file, with masks beside it."""
    folder = tmp_path_factory.mktemp("video")
    video_io.write_video(folder / "clip.avi", clip.frames)
    (folder / "masks").mkdir()
    for t, mask in enumerate(clip.labels):
        Image.fromarray(mask).save(folder / "masks" / f"{t:05d}.png")
    return folder


@pytest.fixture(scope="session")
def davis():
    """The folder of real clips, in DAVIS's layout."""
    folder = os.environ.get("VIDPRED_DAVIS")
    if not folder:
        pytest.skip("VIDPRED_DAVIS is not set: tests on real video need DAVIS's folder")
    return pathlib.Path(folder)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda x: LONG.index(x.path.stem) if x.path.stem in LONG else len(LONG))
