"""The installed command: its words, the configs it knows by name, and a video predicted by it."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

import vidpred_jax
from vidpred_jax import __main__ as command
from vidpred_jax.data import video_io


def vidpred(*words, **options):
    done = [sys.executable, "-m", "vidpred_jax", *map(str, words)]
    return subprocess.run(done, capture_output=True, text=True, **options)


def test_words_that_need_no_backend():
    assert vidpred("version").stdout.strip() == f"vidpred_jax {vidpred_jax.__version__}"
    for words in ((), ("--help",)):
        assert "vidpred predict clip.mp4" in vidpred(*words).stdout
    done = vidpred("foresee", "clip.mp4")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.strip() == (
        "error: 'foresee' is no command; predict, prepare, evaluate, export, train and version are"
    )


def test_configs_by_name(tmp_path, monkeypatch, capsys):
    """The package's, unless there is a file of that name; both copies are the same files."""
    root = pathlib.Path(vidpred_jax.__file__).parents[1]
    for path in (root / "configs").glob("*.py"):
        assert (command.CONFIGS / path.name).read_text() == path.read_text()
    assert command.config("fusion:cpu") == f"{command.CONFIGS / 'fusion.py'}:cpu"
    assert command.config("fusion") == f"{command.CONFIGS / 'fusion.py'}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    assert command.config("mine.py:cpu") == "mine.py:cpu"
    with pytest.raises(SystemExit) as stopped:
        command.config("fusoin:cpu")
    assert stopped.value.code == 2
    assert "config 'fusoin' is no file, nor one of accompanying, direct, fusion" in capsys.readouterr().err


def test_a_video_is_predicted_and_a_bad_one_refused_by_a_line(tmp_path):
    base = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    video = np.stack([np.roll(np.kron(base, np.ones((8, 8, 1), np.uint8)), t, 1) for t in range(16)])
    video_io.write_video(tmp_path / "v.mp4", video, 10.0)
    done = vidpred("predict", "v.mp4", "--size=64", "--horizon=2", "--output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(video_io.read(tmp_path / "out" / "prediction.mp4")) == 18
    assert ">vidpred predict --video=v.mp4 --size=64" in (tmp_path / "out" / "index.html").read_text()
    done = vidpred("predict", "none.mp4", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: none.mp4 does not exist")
    done = vidpred("train", "fusion:none", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: preset 'none' is not one of smoke")
