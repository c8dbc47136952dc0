"""The only file that says pmap: data parallelism over all devices of all processes."""

import functools

import jax
import numpy as np

from vidpred_jax.types import InputError

AXIS = "device"


def choose_devices(batch_size: int, asked: int | None = None) -> list:
    """The devices that share a batch: as many of this process as divide it, or as many as asked.

    Several processes use all of theirs. Raises InputError where those do not divide the batch.
    """
    if jax.process_count() > 1:
        found = jax.devices()
        if asked not in (None, len(found)):
            raise InputError(
                f"--devices ({asked}) is for one process; several use all their {len(found)} devices"
            )
        if batch_size % len(found):
            raise InputError(f"batch_size ({batch_size}) must be a multiple of {len(found)} devices")
        return found
    found = jax.local_devices()
    if asked is None:
        asked = max(n for n in range(1, len(found) + 1) if batch_size % n == 0)
    if not 1 <= asked <= len(found):
        raise InputError(f"--devices ({asked}) must be 1 to {len(found)}: no more are here")
    if batch_size % asked:
        raise InputError(f"--devices ({asked}) must divide batch_size ({batch_size})")
    return found[:asked]


def parallelize(step, devices=None):
    """pmap of a step `(state, batch, *, axis_name) -> (state, metrics)`.

    State goes in and comes out whole, and is donated; every batch leaf is (devices, b, ...).
    """
    step = functools.partial(step, axis_name=AXIS)
    # out_axes=None keeps one replica: a forgotten pmean is silent, so a test compares devices.
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=devices)


def replicate(state, devices=None):
    """The state as `parallelize` gives it back; without this its second step compiles again."""
    mesh = jax.sharding.Mesh(np.asarray(devices or jax.devices()), (AXIS,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def place(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, whole, lambda index: x[index])

    return jax.tree.map(place, state)


def split(batch: dict, devices=None) -> dict:
    """This process's (b, ...) leaves -> (its devices, b / devices, ...)."""
    here = [d for d in devices or jax.devices() if d.process_index == jax.process_index()]
    num_devices = len(here)

    def split_leaf(x):
        if x.shape[0] % num_devices:
            raise ValueError(f"batch_size ({x.shape[0]}) must be a multiple of {num_devices} devices")
        return x.reshape(num_devices, -1, *x.shape[1:])

    return jax.tree.map(split_leaf, batch)


def first_example(num_local: int, axis_name: str | None):
    """The global number of this device's first example: keys made from it know no device count."""
    return jax.lax.axis_index(axis_name) * num_local if axis_name else 0
