"""Several devices of one process that share a batch: one program, in which each predicts clips of its own."""

from collections.abc import Callable, Iterable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidpred_jax.types import InputError

_ALL, _CLIPS = PartitionSpec(), PartitionSpec("clips")


def checked(devices: Iterable[jax.Device]) -> tuple[jax.Device, ...]:
    """The devices. Raises InputError for none, for one of another process and for one twice."""
    found = tuple(devices)
    mine = {device for device in found if device.process_index == jax.process_index()}
    if not found or len(mine) < len(found):
        raise InputError(f"device ({list(found)}) must be one or more devices of this process, each once")
    return found


def each(devices: tuple[jax.Device, ...]) -> NamedSharding:
    """Where an array is whole on each of the devices."""
    return NamedSharding(_mesh(devices), _ALL)


def shared(predict: Callable, devices: tuple[jax.Device, ...], count: int) -> Callable:
    """A function of `count` arguments, to jit, whose second, and what it returns, are shared out by their
    first axis: a multiple of the number of devices."""
    seen = (_ALL, _CLIPS, _ALL)[:count]
    return jax.shard_map(predict, mesh=_mesh(devices), in_specs=seen, out_specs=_CLIPS, check_vma=False)


def _mesh(devices):
    return Mesh(np.array(devices), "clips")
