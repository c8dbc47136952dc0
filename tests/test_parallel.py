"""What the environment says: accelerators and other processes."""

import glob
import importlib.util

import pytest

from vidpred_jax import processes
from vidpred_jax.types import InputError


def test_an_accelerator_needs_a_device_and_its_plugin(monkeypatch):
    present = {"/dev/nvidia[0-9]*": ["/dev/nvidia3"]}
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(glob, "glob", lambda pattern: present.get(pattern, []))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "jax_cuda13_plugin" or None
    )
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
