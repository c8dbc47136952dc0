"""Operations counted by hand, by layer and by XLA."""

import flops
import jax
import jax.numpy as jnp
import pytest

from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d


def test_taps_by_hand():
    assert flops._taps(4, 1, 1) == 4
    assert flops._taps(4, 3, 1) == 2 + 3 + 3 + 2
    assert flops._taps(4, 3, 2) == 3 + 2  # One place of padding, on the far side.
    assert flops._taps(5, 3, 2) == 2 + 3 + 2


@pytest.mark.parametrize(
    ("module", "shapes"),
    [
        (UNet3d(widths=(8, 16), time_strides=(2,)), [(1, 16, 16, 16, 3)]),
        (Generator(widths=(16, 32), dropout=0.0), [(2, 1, 32, 32, 3), (2, 0, 32, 32, 6), (2, 1)]),
    ],
)
def test_layers_and_xla_count_alike(module, shapes):
    inputs = [jnp.ones(shape) for shape in shapes]
    variables = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    by_layer = flops.conv_gflop(module, variables, *inputs)
    by_xla = flops.xla_gflop(module.apply, variables, *inputs)
    assert 1 < by_xla / by_layer < 1.1
