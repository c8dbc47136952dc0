"""Convolutions as functions: XLA's own where it is fast, else equal but faster forms.

On a CPU, XLA's gradients of convolutions and its 3-D convolution are much slower than the forms of
`fast_convolution.py`, which compute the same values (tests/test_convolution.py). On NVIDIA GPUs, XLA
always gives 3-D convolutions a channels-first layout, and in bfloat16 cuDNN transposes to and from it;
2-D ones stay channels last. The form is chosen when a program is lowered and does not affect parameters
or checkpoints.
"""

import contextlib
import contextvars
import functools
import math

import jax.numpy as jnp
from jax import lax

from vidpred_jax.models import fast_convolution

FORMS = ("fast", "native")
_FORM = contextvars.ContextVar("form", default="fast")


@contextlib.contextmanager
def form(name: str):
    """Functions traced within the block use `native` convolutions on every platform, or `fast` ones."""
    token = _FORM.set(name)
    try:
        yield
    finally:
        _FORM.reset(token)


def _choose(fast, native, *args, **others):
    """fast: on a CPU. others: on other platforms, by name. native: on the rest."""
    if _FORM.get() == "native":
        return native(*args)
    return lax.platform_dependent(*args, cpu=fast, **others, default=native)


def conv(x, w, stride: int = 1):
    """SAME convolution: x (b, [t], h, w, c), w ([kt], kh, kw, c, o) -> (b, [t], h', w', o).

    `stride` applies to h and w; t keeps its length.
    """
    if _FORM.get() == "fast" and all(size == 1 for size in w.shape[:-2]) and stride == 1:
        return _choose(fast_convolution.product, jnp.matmul, x, w.reshape(w.shape[-2:]))
    native = functools.partial(native_conv, stride=stride)
    if x.ndim == 5 and stride > 1:
        return native(x, w)
    others = {"cuda": conv_by_frames} if x.ndim == 5 and x.dtype == jnp.bfloat16 else {}
    return _choose(functools.partial(fast_convolution.conv, stride=stride), native, x, w, **others)


def native_conv(x, w, stride: int = 1):
    strides = (1,) * (x.ndim - 4) + (stride, stride)
    return lax.conv_general_dilated(
        x, w, strides, "SAME", dimension_numbers=fast_convolution.DIMENSIONS[x.ndim]
    )


def conv_by_frames(x, w):
    """As `native_conv` in 3-D with stride 1, by 2-D convolutions."""
    return fast_convolution.taps_at_once(x, w, (w.shape[0] - 1) // 2, native_conv)


def upsample_conv(x, w):
    """Nearest x2 upsampling of h and w, then a SAME 3 x 3 convolution: x (b, h, w, c), w (3, 3, c, o).

    On a CPU as four 2 x 2 convolutions at the low resolution: 2.25 times fewer operations.
    """
    if fast_convolution.has_few_rows(4 * math.prod(x.shape[:3]), w.shape[-1]):
        return conv(upsample(x), w)
    return _choose(fast_convolution.upsample_conv, native_upsample_conv, x, w)


def native_upsample_conv(x, w):
    return native_conv(upsample(x), w)


def upsample(x, time: int = 1, space: int = 2):
    """Nearest-neighbour upsampling of (b, [t], h, w, c)."""
    x = jnp.repeat(jnp.repeat(x, space, axis=-3), space, axis=-2)
    return jnp.repeat(x, time, axis=-4) if time > 1 else x


def space_to_depth(x, space: int, time: int = 1):
    """(b, t, h, w, c) -> (b, t / time, h / space, w / space, time * space * space * c)."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t // time, time, h // space, space, w // space, space * c)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6)
    return x.reshape(b, t // time, h // space, w // space, time * space * space * c)


def depth_to_space(x, space: int, time: int = 1):
    """The inverse of `space_to_depth`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, time, space, c // (time * space))
    x = x.transpose(0, 1, 4, 2, 5, 3, 6)
    return x.reshape(b, t * time, h * space, w * space, -1)
