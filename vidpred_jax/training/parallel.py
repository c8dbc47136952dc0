"""The only file that says pmap: data parallelism over all devices of all processes."""

import functools

import jax
import numpy as np

AXIS = "device"


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


def split(batch: dict, num_devices: int | None = None) -> dict:
    """(b, ...) leaves -> (devices, b / devices, ...)."""
    num_devices = num_devices or jax.local_device_count()

    def split_leaf(x):
        if x.shape[0] % num_devices:
            raise ValueError(
                f"batch_size ({x.shape[0]}) must be a multiple of {num_devices} devices"
            )
        return x.reshape(num_devices, -1, *x.shape[1:])

    return jax.tree.map(split_leaf, batch)


def first_example(num_local: int, axis_name: str | None):
    """The global number of this device's first example: keys made from it know no device count."""
    return jax.lax.axis_index(axis_name) * num_local if axis_name else 0
