"""The processes of one training or evaluation: how they find each other, wait for each other, and end."""

import contextlib
import faulthandler
import glob
import importlib.util
import json
import os
import sys
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from vidpred_jax.types import InputError, Interrupted, UserError, reason

_PATIENCE = 30  # Seconds of silence after which another process counts as gone.


def initialize() -> None:
    """Joins the other processes where the environment names them; before JAX is first used.

    Set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID on plain hosts; under SLURM
    (srun with several tasks), Open MPI or on a TPU pod JAX finds them itself. Raises InputError.
    """
    try:
        _initialize()
    except (ValueError, IndexError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the processes that the environment names cannot be joined: {reason(error)}"
        ) from error


def _initialize():
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
            if not os.environ.get(name, "").isdigit():
                raise InputError(
                    f"{name} ({os.environ.get(name)!r}) must be a number where JAX_COORDINATOR_ADDRESS is set"
                )
        jax.distributed.initialize(
            coordinator_address=os.environ["JAX_COORDINATOR_ADDRESS"],
            num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
            process_id=int(os.environ["JAX_PROCESS_ID"]),
            heartbeat_timeout_seconds=_PATIENCE,
            shutdown_timeout_seconds=_PATIENCE,
        )
    elif any(
        (
            # Within srun; the number alone is also set for a batch script that runs once.
            "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS") or 1) > 1,
            int(os.environ.get("OMPI_COMM_WORLD_SIZE") or 1) > 1,
            len(os.environ.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1,
        )
    ):
        jax.distributed.initialize(heartbeat_timeout_seconds=_PATIENCE, shutdown_timeout_seconds=_PATIENCE)


@contextlib.contextmanager
def watched():
    """Tells a failure of JAX while several processes work as the loss of one: nearly always it is.

    Where JAX's own heartbeat finds that out first, it ends this process and says that a task died.
    """
    if jax.process_count() > 1:
        faulthandler.disable()  # absl's dump of every thread would bury that line.
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise UserError(
            "another process is gone, or this one has failed; the same command in all processes starts "
            f"again, a training from its last checkpoint ({reason(error)})"
        ) from error


def end(code: int) -> NoReturn:
    """Exits at once: threads that Orbax left behind would print, and other processes would wait for
    this one. Not where several were stopped together: they end together.
    """
    if code == Interrupted.exit_code and jax.distributed.is_initialized():
        sys.exit(code)
    os._exit(code)


def has_accelerator() -> bool:
    """Whether a GPU or TPU that JAX can use is at hand, told without starting JAX's backends."""
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu"):
        return False
    cuda = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        cuda = ()
    devices = {  # /dev/dxg: a GPU under WSL.
        **{"/dev/nvidia[0-9]*": cuda, "/dev/dxg": cuda},
        **{"/dev/accel[0-9]*": ("libtpu",), "/dev/vfio/[0-9]*": ("libtpu",)},
    }
    return any(
        glob.glob(device) and any(importlib.util.find_spec(p) for p in plugins)
        for device, plugins in devices.items()
    )


def main_process_first(function):
    """Runs `function` in process 0, then in the others; each one's own result."""
    if jax.process_index() != 0:
        multihost_utils.sync_global_devices("main_process_first")
        return function()
    result = function()
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("main_process_first")
    return result


def in_main_process(function) -> None:
    """Runs `function` in process 0 alone, while the others wait."""
    main_process_first(function if jax.process_index() == 0 else lambda: None)


def all_processes(value: bool) -> bool:
    """Whether it holds in every process."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.int32(value)).all())


def gather(data: bytes) -> list[bytes]:
    """Each process's, in every process."""
    lengths = multihost_utils.process_allgather(np.int32(len(data)))
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    found = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes() for row, length in zip(found, lengths, strict=True)]


def to_host(tree):
    """NumPy copies of a whole (unsplit) pytree."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)) if isinstance(x, jax.Array) else x, tree)


def from_main(function):
    """What `function` gives in process 0 (text, numbers, lists: JSON), in every process."""
    if jax.process_count() == 1:
        return function()
    found = function() if jax.process_index() == 0 else None
    return json.loads(gather(json.dumps(found).encode())[0])
