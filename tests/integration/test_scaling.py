"""What scripts/scaling.py counts and predicts."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "scaling.py"


def test_counts_and_efficiencies(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scaling -->\nold\n<!-- /scaling -->\nafter\n")
    command = [sys.executable, SCRIPT, "--measured=2", "--steps=1", "--devices=1,8,64"]
    command += [f"--output={tmp_path}", f"--page={page}", "--shares=0.5", "--flops=1e15"]
    command += ["--presets=fusion:paper"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    report = json.loads((tmp_path / "scaling.json").read_text())
    found = report["presets"]["fusion:paper"]
    # Each gradient once, and a few numbers to log.
    assert 0 <= found["bytes_reduced"] - 4 * found["parameters"] <= 64
    assert found["clips_a_device"] == 1  # 8 clips of a host of 8.
    assert found["input_bytes"] == 17 * 256 * 256 * 3
    (work,) = found["work"]
    seconds = found["gflop"] * 1e9 / 0.5e15
    assert work["milliseconds"] == pytest.approx(1e3 * seconds, abs=1e-3)
    size = found["bytes_reduced"]
    host = 2 * 7 / 8 * size / 450e9
    between = 2 * 7 / 8 * size / 8 / 50e9
    expected = {
        "1": 1.0,
        "8": seconds / (seconds + host + 6 * 20e-6),
        "64": seconds / (seconds + host + between + 12 * 20e-6),
    }
    assert work["efficiency"] == pytest.approx(expected, abs=1e-3)
    assert report["measured"]["2"]["milliseconds"] >= report["measured"]["2"]["fastest"] > 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("<!-- /scaling -->\nafter\n")
    assert "| fusion:paper |" in text and "old" not in text
    for wrong, rule in (("paper", "it must be STAGE:PRESET"), ("fusion:x", "preset 'x' is not")):
        done = subprocess.run([*command, f"--presets={wrong}"], capture_output=True, text=True)
        assert done.returncode == 2 and f"--presets ('{wrong}'): {rule}" in done.stderr
