"""Trainings that are killed, or whose disk fails, end as if nothing had been."""

import contextlib
import subprocess

import chex
import faults
import pytest
from commands import TRAIN, run_many
from smoke import get_config, restored

from vidpred_jax.checkpoints import restore


def test_killed_at_random_moments(tmp_path, data_dir):
    """The short version of `python tests/faults.py --runs=40`."""
    (found,) = faults.run(tmp_path, runs=1, kills=2, seed=3, log=lambda line: None, data_dir=data_dir)
    assert found["equal"], found
    for kill in found["kills"]:
        assert kill["resumed_at"] >= kill["saved"], kill
        assert kill["signal"] == "SIGKILL" or kill["exit"] in (75, -15, 0), kill


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of `size` in memory; yields a function that mounts it anew with other options."""
    folder.mkdir()
    mount = lambda options: subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
    )
    if mount(f"size={size}").returncode:
        pytest.skip("only root may mount the small file system that this test fills")
    try:
        yield lambda options: mount(f"remount,{options}").check_returncode()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_or_read_only_disk(tmp_path, data_dir):
    config = get_config("fusion", data_dir)
    fields = {"num_steps": 16, "save_every": 4, "log_every": 1, "data.data_dir": data_dir}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    with small_disk(tmp_path / "disk", "1100k") as remount:
        workdir = tmp_path / "disk" / "run"
        command = (*TRAIN, "--config=configs/fusion.py:smoke", *flags)
        again = (*command, f"--workdir={workdir}")
        unbroken, full = run_many(tmp_path, [(*command, f"--workdir={tmp_path / 'whole'}"), again])
        assert unbroken.returncode == 0, unbroken.stderr
        assert full.returncode == 1
        assert full.stderr.startswith("error: cannot write "), full.stderr
        assert full.stderr.endswith("No space left on device\n"), full.stderr
        assert full.stderr.count("\n") == 1, full.stderr
        saved = restore.steps(workdir)
        assert saved
        remount("size=64m,ro")
        locked, *_ = run_many(tmp_path, [again])
        assert locked.returncode == 1 and locked.stderr.count("\n") == 1, locked.stderr
        assert "Read-only file system" in locked.stderr and restore.steps(workdir) == saved
        remount("size=64m,rw")
        done, *_ = run_many(tmp_path, [again])
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert f"at step {saved[-1]}" in done.stdout
        trained = [restored(config, x) for x in (workdir, tmp_path / "whole")]
        chex.assert_trees_all_equal(*trained)
