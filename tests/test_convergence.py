"""The table of convergence, from metrics.jsonl by hand."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(*args):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "convergence.py", *args], capture_output=True, text=True
    )


def write(folder, psnr, seconds):
    folder.mkdir()
    lines = []
    for step in (10, 20):
        lines.append({"step": step, "steps_per_second": 3.0})
        found = {"ours": {"psnr": {"mean": psnr + step}}}
        lines.append({"step": step, "seconds": seconds * step, "evaluation": found})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return folder


def test_means_over_seeds_against_steps_and_seconds(tmp_path):
    first, second = write(tmp_path / "a", 1.0, 0.2), write(tmp_path / "b", 3.0, 0.4)
    done = run(f"--runs=plain={first},{second}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "convergence.json").read_text())["curves"]["plain"]
    assert found == {
        "seeds": 2,
        "step": [10, 20],
        "seconds": [3.0, 6.0],
        "psnr": [12.0, 22.0],
        "psnr_std": [1.0, 1.0],
    }
    assert (tmp_path / "out" / "convergence.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "give one or more --runs=NAME=RUN"),
        (("--runs=a",), "--runs=a must be NAME=RUN"),
        (("--runs=a=nowhere",), "nowhere/metrics.jsonl cannot be read"),
    ],
)
def test_mistakes(args, text, tmp_path):
    done = run(*args, f"--output={tmp_path / 'out'}")
    assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1
