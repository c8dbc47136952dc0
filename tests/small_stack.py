"""A small accompanying stack, its parameters and frames for it."""

import jax
import jax.numpy as jnp

from vidpred_jax.models import accompanying

STACK = accompanying.AccompanyingStack((2, 1), (8, 8))


def uniform(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def make_frames():
    """Four frames of 32 x 32 whose targets are sharper than they are."""
    target = uniform(0, 4, 32, 32, 3)
    frame = accompanying.at_scale(target, 2).repeat(2, 1).repeat(2, 2)
    return accompanying.Translated(frame, uniform(1, 4, 32, 32, 3), jnp.arange(1.0, 5), target)


def make_params(seed, stack=STACK, size=32):
    x = jnp.zeros((1, size, size, 3))
    init = jax.jit(stack.init)
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        name: init(key, x, x, jnp.ones(1))["params"]
        for name, key in zip(accompanying.STACKS, keys, strict=True)
    }
