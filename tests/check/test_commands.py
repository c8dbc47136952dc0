"""Every command of README, quickstart and guides runs as it stands, at the size of smoke tests."""

import os
import pathlib
import re
import shlex

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from vidpred_jax.data import video_io
from vidpred_jax.data.datasets import synthesis

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ["README.md", "docs/quickstart.md", *(f"docs/guides/{name}.md" for name in ("predict", "data"))]
PAGES += ["docs/guides/train.md", "docs/guides/export.md"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """What the pages name: clip.mp4, frames/, masks/ (of frames/ and of each video), videos/, model.onnx."""
    folder = tmp_path_factory.mktemp("inputs")
    clips = [synthesis.sprite_clip(np.random.default_rng(i), "", 48, 64) for i in range(14)]
    video_io.write_video(folder / "clip.mp4", np.concatenate([clip.frames for clip in clips[:4]]), 25.0)
    for i, clip in enumerate(clips):
        video_io.write_video(folder / "videos" / f"{i:02d}.mp4", clip.frames, 25.0)
        for t, mask in enumerate(clip.labels):
            places = [folder / "masks" / f"{i:02d}", *([folder / "masks"] if i == 0 else [])]
            for place in places:
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(place / f"{t:05d}.png")
    for t, frame in enumerate(clips[0].frames):
        video_io.write_image(folder / "frames" / f"{t:05d}.png", frame)
    shape = lambda name: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [shape("x")], [shape("y")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8),
        folder / "model.onnx",
    )
    return folder


def commands_of(page) -> list[list[str]]:
    blocks = re.findall(r"```\n(.*?)```", (ROOT / page).read_text(), re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("vidpred ")]


@pytest.mark.parametrize("page", PAGES)
def test_commands_run(page, vidpred, inputs, tmp_path, trained):
    found = commands_of(page)
    assert found
    for path in inputs.iterdir():
        os.symlink(path, tmp_path / path.name)
    if page == "docs/guides/export.md":  # It exports what another page trains.
        (tmp_path / "runs").mkdir()
        os.symlink(trained, tmp_path / "runs" / "mine")
    elif page == "docs/guides/train.md":
        vidpred("prepare", "videos", "--name=mine", folder=tmp_path)
    for words in found:
        if words[0] == "train":
            words[1] = words[1].partition(":")[0] + ":smoke"
        vidpred(*words, folder=tmp_path)
        for word in words:
            if re.match(r"--(output|workdir)=", word):
                assert (tmp_path / word.split("=")[1]).exists(), words
