"""Floating-point operations of a network: counted layer by layer, and by XLA."""

import math

import jax
from flax import linen as nn

from vidpred_jax.models import convolution
from vidpred_jax.models.layers import Conv


def conv_gflop(module, variables, *inputs) -> float:
    """Multiply-adds of all convolutions of one forward pass, times 2, in 1e9: counted layer by layer.

    Taps that fall on the padding are not counted, as XLA's cost analysis does not.
    """
    total = 0

    def count(call, args, kwargs, context):
        nonlocal total
        y = call(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            layer, x = context.module, args[0]
            grow = 2 if layer.upsample else 1
            sizes = [n * grow if i >= x.ndim - 3 else n for i, n in enumerate(x.shape)][1:-1]
            strides = [1] * (len(sizes) - 2) + [layer.stride] * 2
            taps = math.prod(map(_taps, sizes, layer.kernel, strides))
            total += 2 * len(x) * taps * x.shape[-1] * layer.features
        return y

    with nn.intercept_methods(count):
        jax.eval_shape(module.apply, variables, *inputs)
    return total / 1e9


def _taps(size: int, kernel: int, stride: int) -> int:
    """Pairs of an output place and a tap within the input, along one axis, SAME padding."""
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    places = (o * stride + k - before for o in range(outputs) for k in range(kernel))
    return sum(0 <= place < size for place in places)


def xla_gflop(function, *args) -> float:
    """The same by XLA's cost analysis of native convolutions, all other arithmetic included.

    Of the program for a CPU: on a GPU XLA knows nothing of a program before it is compiled.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with convolution.form("native"), jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.jit(function).lower(*shapes).cost_analysis()["flops"] / 1e9
