"""Discriminators: their receptive field, scales, gradients and refused fields."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.models import build
from vidpred_jax.models.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from vidpred_jax.types import InputError


def uniform(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def test_receptive_field_of_47_pixels():
    model = PatchDiscriminator(widths=(4, 4, 4), last_width=4, norm="none")
    condition, frame = uniform(0, 1, 96, 96, 3), uniform(1, 1, 96, 96, 3)
    variables = jax.jit(model.init)(jax.random.key(2), condition, frame)

    def middle(frame):
        return model.apply(variables, condition, frame)[0][-1][0, 6, 6]

    used = jnp.abs(jax.jit(jax.grad(middle))(frame))[0].max((-1, 0)) > 0
    places = np.flatnonzero(used)
    assert places[-1] - places[0] + 1 == 47


@pytest.mark.parametrize("channels", [3, 5])
def test_multi_scale_discriminator(channels):
    """Each is a PatchDiscriminator of its own, on pictures half as large as the one before; conditions
    are maps of any form."""
    model = MultiScaleDiscriminator(scales=2, widths=(4,), last_width=4)
    condition, frame = uniform(0, 2, 16, 16, channels), uniform(1, 2, 16, 16, 3)
    variables = jax.jit(model.init)(jax.random.key(2), condition, frame)
    activations = model.apply(variables, condition, frame)
    assert [[x.shape for x in scale] for scale in activations] == [
        [(2, 8, 8, 4), (2, 8, 8, 4), (2, 8, 8)],
        [(2, 4, 4, 4), (2, 4, 4, 4), (2, 4, 4)],
    ]
    alone = PatchDiscriminator((4,), 4, "instance")
    expected = alone.apply({"params": variables["params"]["scale_0"]}, condition, frame)
    chex.assert_trees_all_close(activations[0], expected[0])


def test_spectral_norm_bounds_every_kernel():
    """After some passes, the largest singular value of what is applied is 1 whatever the kernel's size."""
    model = PatchDiscriminator((4,), 6, "spectral")
    condition, frame = uniform(0, 2, 16, 16, 3), uniform(1, 2, 16, 16, 3)
    variables = jax.jit(model.init)(jax.random.key(2), condition, frame)
    variables["params"] = jax.tree.map(lambda x: 50 * x, variables["params"])
    apply = jax.jit(lambda v: model.apply(v, condition, frame, mutable=["batch_stats"]))
    for _ in range(50):
        found, updated = apply(variables)
        variables = {**variables, **updated}
    for name, stats in variables["batch_stats"].items():
        layer = name.removesuffix("_norm")
        kernel = variables["params"][layer]["kernel"]
        largest = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
        assert float(stats[f"{layer}/kernel/sigma"]) == pytest.approx(largest, rel=1e-3)
    assert len(variables["batch_stats"]) == 3
    scaled = jax.tree.map(lambda x: x / 50 if x.ndim > 1 else x, variables["params"])
    again = model.apply({**variables, "params": scaled}, condition, frame, mutable=["batch_stats"])
    chex.assert_trees_all_close(again[0][0][-1], found[0][-1], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(norm="bacth"), r"discriminator.norm \('bacth'\) must be one of"),
        (dict(scales=2, norm="bacth"), r"discriminator.norm \('bacth'\) must be one of"),
        (dict(scales=0), r"discriminator.scales \(0\) must be 1 to 8"),
    ],
)
def test_refused_fields(fields, message):
    with pytest.raises(InputError, match=message):
        build.make_discriminator(fields)
