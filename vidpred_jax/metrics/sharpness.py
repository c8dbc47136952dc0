"""Sharpness of predicted frames beside the true ones': 1 is right, above 1 is over-sharpened."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

_FLOOR = 1e-7  # Of energies of frames in [0, 1]: two flat frames are equally sharp.


@jax.jit
def gradient_ratio(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """Ratio of gradient energies: mean squared differences of neighbouring pixels."""
    return (_gradient_energy(pred) + _FLOOR) / (_gradient_energy(target) + _FLOOR)


def _gradient_energy(x):
    x = jnp.asarray(x, jnp.float32) / 255
    return sum(jnp.square(jnp.diff(x, axis=axis)).mean((-3, -2, -1)) for axis in (-3, -2))
