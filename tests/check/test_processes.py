"""Several processes train as one, stop together, and end when one of them is gone."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from vidpred_jax.checkpoints import restore

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir, data_dir, processes, devices, steps):
    """The processes of one training."""
    fields = {
        "num_steps": steps,
        "save_every": 4,
        "log_every": 1,
        "evaluation.every": 1000,
        "evaluation.clips": 0,
        "optimizer.schedule": "constant",
        "data.data_dir": data_dir,
    }
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    command = [sys.executable, "-m", "vidpred_jax.train", "--config=configs/fusion.py:smoke"]
    found = launch([*command, f"--workdir={workdir}", *flags], f"{workdir}_{steps}", processes, devices)
    for process in found:
        process.workdir = workdir
    return found


def launch(command, said, processes, devices, **also):
    """The processes of one command; what they say goes to files that begin with `said`."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    found = []
    for number in range(processes):
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **also}
        if processes > 1:
            environment["JAX_COORDINATOR_ADDRESS"] = f"localhost:{port}"
            environment["JAX_NUM_PROCESSES"] = str(processes)
            environment["JAX_PROCESS_ID"] = str(number)
        file = pathlib.Path(f"{said}_{processes}_{number}.txt")
        with file.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        process.said = file
        found.append(process)
    return found


def finish(processes, seconds=300):
    """Their exit codes, and all they said."""
    codes = [process.wait(seconds) for process in processes]
    return codes, [process.said.read_text() for process in processes]


def wait_for(processes, text, seconds=200):
    """Until the first process has said it."""
    deadline = time.monotonic() + seconds
    while text not in processes[0].said.read_text():
        assert time.monotonic() < deadline and processes[0].poll() is None, [
            p.said.read_text() for p in processes
        ]
        time.sleep(0.02)


def arrays(workdir, step, item):
    tree = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / item)
    return ocp.tree.to_flat_dict(tree)


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if "loss" in line]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data_dir):
    """Twelve steps of two processes with two devices each."""
    workdir = tmp_path_factory.mktemp("processes") / "two"
    codes, said = finish(start(workdir, data_dir, 2, 2, 12))
    assert codes == [0, 0], said
    assert "on 4 x cpu" in said[0] and "step 12/12" in said[0]
    assert "step" not in said[1] and "error" not in said[1], said[1]  # One of them speaks.
    return workdir


def test_two_processes_with_two_devices_equal_one_with_four(unbroken, tmp_path, data_dir):
    codes, said = finish(start(tmp_path / "one", data_dir, 1, 4, 12))
    assert codes == [0], said
    np.testing.assert_allclose(losses(unbroken), losses(tmp_path / "one"), rtol=1e-4)
    one, two = (arrays(x, 12, "inference") for x in (tmp_path / "one", unbroken))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-4, err_msg=str(name))


def test_one_is_killed_and_the_restarted_run_is_the_unbroken_one(unbroken, tmp_path, data_dir):
    survivors = []
    for gone in (1, 0):  # 0 is the coordinator; of another the heartbeat tells, half a minute later.
        processes = start(tmp_path / "two" if gone == 0 else tmp_path / "other", data_dir, 2, 2, 12)
        wait_for(processes, "step 5/12")
        while not (processes[0].workdir / "checkpoints" / "4").is_dir():  # Saved in the background.
            assert processes[0].poll() is None, processes[0].said.read_text()
            time.sleep(0.02)
        processes[gone].kill()
        survivors.append((processes[1 - gone], time.monotonic()))
    for survivor, begin in survivors[::-1]:
        (code,), (said,) = finish([survivor], seconds=begin + 60 - time.monotonic())
        assert code != 0
        assert "process of this training is gone" in said or "another task died" in said, said
        assert "Traceback" not in said and "most recent call first" not in said
    codes, said = finish(start(tmp_path / "two", data_dir, 2, 2, 12))
    assert codes == [0, 0] and "resuming" in said[0], said
    for item in ("inference", "training"):
        one, other = (arrays(x, 12, item) for x in (unbroken, tmp_path / "two"))
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))


def test_a_signal_to_one_stops_all_at_the_same_step(tmp_path, data_dir):
    processes = start(tmp_path / "two", data_dir, 2, 1, 4000)
    wait_for(processes, "step 3/4000")
    processes[1].send_signal(signal.SIGTERM)
    codes, said = finish(processes, seconds=100)
    assert codes == [75, 75], said
    steps = {line.split(" at step ")[1].split()[0] for line in said if "stopped: SIGTERM" in line}
    (step,) = steps
    assert (tmp_path / "two" / "checkpoints" / step).is_dir()


def test_several_processes_evaluate_as_one(tmp_path, data_dir, trained):
    """Every digit of every table, and the strips, of programs as users have them; the first process alone
    chooses among checkpoints."""
    runs = [trained / stage for stage in ("fusion", "translator")]
    assert any(len(restore.steps(run)) > 1 for run in runs)
    written = {}
    for processes, devices in ((1, 1), (2, 2)):
        output = tmp_path / f"{processes}"
        command = [
            sys.executable,
            "scripts/evaluate.py",
            "--data=sprites",
            "--data_config=tiny",
            "--split=train",
        ]
        command += [f"--data_dir={data_dir}", "--batch_size=2", "--ablate", "--show=3"]
        command += ["--runs=ours=" + ",".join(map(str, runs)), "--resolution=32"]
        command += ["--metrics=psnr,ssim,edge_f1,miou", f"--output={output}"]
        codes, said = finish(launch(command, tmp_path / "said", processes, devices, XLA_FLAGS=""))
        assert codes == [0] * processes, said
        assert (
            "evaluated 12 windows of 12, 0.0 min left" in said[0]
            if processes == 1
            else "evaluated" not in said[1]
        )
        summary = json.loads((output / "summary.json").read_text())
        strips = {path.name: path.read_bytes() for path in (output / "strips").iterdir()}
        told = {key: summary[key] for key in ("predictors", "differences", "clips", "windows")}
        written[processes] = told, (output / "per_step.csv").read_bytes(), strips
    assert written[1] == written[2] and len(written[1][2]) == 3
