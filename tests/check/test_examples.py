"""The examples run as they are."""

import pathlib
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from vidpred_jax.data import video_io

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")  # Of the notebook's kernel.
def test_the_notebook(tmp_path):
    notebook = nbformat.read(ROOT / "examples" / "predict.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # As it is kept.
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    texts = [
        o.get("text", "") + str(o.get("data", {}).get("text/html", "")) for some in outputs for o in some
    ]
    assert any(text.split()[-1:] == ["32"] for text in texts)  # Of the callback.
    assert any(text.startswith("<video ") for text in texts)
    worth = next(eval(o["data"]["text/plain"]) for some in outputs for o in some if "'last frame'" in str(o))
    assert worth["predicted"] > worth["last frame"] + 2


def test_a_folder_of_videos(tmp_path, video, clip):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.mp4").write_bytes(b"no video")
    (tmp_path / "in" / "a.avi").write_bytes((video / "clip.avi").read_bytes())
    command = [sys.executable, ROOT / "examples" / "predict_folder.py", tmp_path / "in", tmp_path / "out"]
    done = subprocess.run([*command, "--horizon=2"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "left out: " in done.stdout and [f.name for f in (tmp_path / "out").iterdir()] == ["a.avi.mp4"]
    assert len(video_io.read(tmp_path / "out" / "a.avi.mp4")) == 18
