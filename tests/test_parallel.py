"""Devices that share a batch, and what the environment says of accelerators and other processes."""

import glob
import importlib.util
import subprocess
import sys

import jax
import numpy as np
import pytest

from vidpred_jax import processes
from vidpred_jax.training import parallel
from vidpred_jax.types import InputError


@pytest.mark.parametrize(
    ("batch_size", "asked", "used"),
    [(1, None, 1), (2, None, 2), (4, None, 4), (5, None, 1), (6, None, 3), (8, None, 4), (8, 2, 2)],
)
def test_as_many_devices_as_divide_a_batch(batch_size, asked, used):
    devices = parallel.choose_devices(batch_size, asked)
    assert devices == jax.devices()[:used]  # Of four.
    batch = parallel.split({"x": np.arange(2.0 * batch_size).reshape(-1, 2)}, devices)
    assert batch["x"].shape == (used, batch_size // used, 2)


def test_devices_that_do_not_fit_are_refused(monkeypatch):
    refused = {
        (8, 3): r"--devices \(3\) must divide batch_size \(8\)",
        (8, 8): r"--devices \(8\) must be 1 to 4: no more are here",
        (8, 0): r"--devices \(0\) must be 1 to 4",
    }
    for arguments, message in refused.items():
        with pytest.raises(InputError, match=message):
            parallel.choose_devices(*arguments)
    with pytest.raises(ValueError, match=r"batch_size \(6\) must be a multiple of 4 devices"):
        parallel.split({"x": np.zeros((6, 2))})
    monkeypatch.setattr(jax, "process_count", lambda: 2)  # Whose devices are all used.
    assert parallel.choose_devices(8) == parallel.choose_devices(8, 4) == jax.devices()
    with pytest.raises(InputError, match=r"batch_size \(6\) must be a multiple of 4 devices"):
        parallel.choose_devices(6)
    with pytest.raises(InputError, match=r"--devices \(2\) is for one process; several use all"):
        parallel.choose_devices(8, 2)


def test_after_the_line_of_a_failure_nothing_is_said():
    """By threads that still run; what was printed before is not lost."""
    code = """
import sys, threading, time
from vidpred_jax.cli import common
def talk():
    time.sleep(0.5)
    print("Traceback", file=sys.stderr, flush=True)
threading.Thread(target=talk).start()
sys.stdout.write("before")
common._stop("a\\n  file", 2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "before", "error: a file\n")


def test_an_accelerator_needs_a_device_and_its_plugin(monkeypatch):
    present = {"/dev/nvidia[0-9]*": ["/dev/nvidia3"]}
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(glob, "glob", lambda pattern: present.get(pattern, []))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "jax_cuda13_plugin" or None)
    assert processes.has_accelerator()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not processes.has_accelerator()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not processes.has_accelerator()
    monkeypatch.delenv("JAX_PLATFORMS")
    present.clear()
    assert not processes.has_accelerator()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"JAX_NUM_PROCESSES": "two"}, r"JAX_NUM_PROCESSES \('two'\) must be a number"),
        ({"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "5"}, "cannot be joined: "),
    ],
)
def test_processes_that_cannot_be_joined(monkeypatch, fields, message):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    for name, value in fields.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message):
        processes.initialize()


def test_one_process_joins_nobody(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # A batch script that runs once.
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "")
    processes.initialize()
