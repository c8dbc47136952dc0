"""StableHLO files: the predictor's frames where the package is not installed; what the server answers."""

import io
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from commands import run

import vidpred_jax

ROOT = pathlib.Path(__file__).parents[2]
SERVE = ROOT / "examples" / "serve_exported.py"


def export(path, *flags):
    done = run("-m", "vidpred_jax", "export", *flags, "--format=stablehlo", f"--output={path}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """An environment in which `import vidpred_jax`, and what else it needs, fails."""
    folder = tmp_path_factory.mktemp("alone")
    for name in ("vidpred_jax", "flax", "cv2", "tensorflow_datasets", "orbax", "optax"):
        (folder / f"{name}.py").write_text("raise ImportError('not here')\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def served(folder, arrays, environment):
    """What the example makes of a file's inputs, in a process of its own."""
    if len(arrays) == 1:
        np.save(folder / "in.npy", arrays[0])
    else:
        np.savez(folder / "in.npz", frames=arrays[0], planes=arrays[1])
    given = folder / ("in.npy" if len(arrays) == 1 else "in.npz")
    command = [sys.executable, SERVE, folder / "file", f"--input={given}", f"--output={folder / 'out.npy'}"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "out.npy")


PREDICT = """
import sys
import numpy as np, vidpred_jax
predictor = vidpred_jax.load(sys.argv[1], size=(64, 64))
given = np.load(sys.argv[2])
for i, (frames, labels) in enumerate(zip(given["frames"], given["labels"])):
    np.save(f"{sys.argv[3]}{i}.npy", predictor.predict(frames, labels, horizon=9).frames)
"""


@pytest.mark.parametrize("weights", ["real", "sprites_networks"])
def test_a_file_predicts_the_same_without_the_package(weights, clip, alone, tmp_path):
    """One clip bit for bit, where XLA optimises as it does by default; of several the file predicts one after
    the other, the package all at once, and a value next to a half may be rounded otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", "import vidpred_jax"], env=alone, capture_output=True, cwd="/"
    )
    assert done.returncode
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    alone = {name: value for name, value in alone.items() if name != "XLA_FLAGS"}
    clips = [slice(i, i + 16) for i in (0, 8)]
    frames, edges, labels = (np.stack([x[i] for i in clips]) for x in (clip.frames, clip.edges, clip.labels))
    given = [frames] if weights == "real" else [frames, np.stack([edges, labels], -1)]
    np.savez(tmp_path / "given.npz", frames=frames, labels=labels)
    command = [sys.executable, "-c", PREDICT, weights, tmp_path / "given.npz", tmp_path / "expected"]
    subprocess.run(command, env=plain, cwd=ROOT, check=True)
    expected = np.stack([np.load(tmp_path / f"expected{i}.npy") for i in range(2)])

    out = export(tmp_path / "file", weights, "--horizon=9", "--size=64", "--batch=1")
    takes = ("frames", "planes")[: len(given)]
    assert f"{' and '.join(takes)} of 16 frames of 64 x 64 -> the 9 after them, on cpu, cuda, tpu" in out
    for i in range(2):
        found = served(tmp_path, [x[i] for x in given], alone)
        np.testing.assert_array_equal(found, expected[i])

    out = export(tmp_path / "any", weights, "--horizon=9", "--size=64", "--platforms=cpu")
    assert out.endswith("on cpu\n")
    (tmp_path / "any").replace(tmp_path / "file")
    difference = np.abs(served(tmp_path, given, alone).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_the_server_answers_and_refuses(alone, clip, tmp_path):
    export(tmp_path / "file", "--run=real", "--horizon=2", "--size=64", "--clarity=0")
    command = [sys.executable, SERVE, tmp_path / "file", "--port=0"]
    with subprocess.Popen(command, env=alone, stdout=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().split()[-1]

        def ask(frames):
            data = io.BytesIO()
            np.save(data, frames)
            with urllib.request.urlopen(address, data.getvalue()) as answer:
                return np.load(io.BytesIO(answer.read()))

        try:
            expected = vidpred_jax.load("real", size=(64, 64)).predict(
                clip.frames[:20], horizon=2, clarity=0.0
            )
            np.testing.assert_array_equal(ask(clip.frames[:20]), expected.frames)
            for frames, message in (
                (clip.frames[:15], "15 frames were given; 16 or more are needed"),
                (clip.frames[:16, :32], r"uint8 (t, 64, 64, 3) is needed"),
            ):
                with pytest.raises(urllib.error.HTTPError) as error:
                    ask(frames)
                assert error.value.code == 400 and message in error.value.read().decode()
        finally:
            server.kill()


def test_refusals(tmp_path):
    flags = ("export", "moon", "--format=stablehlo", f"--output={tmp_path / 'file'}")
    done = run("-m", "vidpred_jax", *flags)
    assert done.returncode == 2 and "moon is no run folder, nor one of the weights" in done.stderr
    flags = ("export", "runs/x", "--clarity=0", f"--output={tmp_path / 'file'}")
    done = run("-m", "vidpred_jax", *flags)
    assert done.returncode == 2 and "--clarity is not for --format=weights" in done.stderr
    assert not list(tmp_path.iterdir())
