"""Convolutions as functions: native on GPU and TPU, equal but faster forms on CPU.

XLA:CPU's own gradients of convolutions and its 3-D convolution are much slower than the
forms here, which compute the same values (tests/test_convolution.py). The choice is made when the
program is lowered, so parameters and checkpoints know nothing of it.
"""

import contextlib
import contextvars
import functools

import jax
import jax.numpy as jnp
from jax import lax

_DIMENSIONS = {4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}
# From this many input channels a 3-D convolution is cheapest as one 2-D convolution to all taps.
_MANY_CHANNELS = 64


FORMS = ("fast", "native")
_FORM = contextvars.ContextVar("form", default="fast")


@contextlib.contextmanager
def form(name: str):
    """What is traced within the block uses `native` convolutions on every platform, or `fast` ones."""
    token = _FORM.set(name)
    try:
        yield
    finally:
        _FORM.reset(token)


def _choose(fast, native, *args):
    if _FORM.get() == "native":
        return native(*args)
    return lax.platform_dependent(*args, cpu=fast, default=native)


def conv(x, w, stride: int = 1):
    """SAME convolution: x (b, [t], h, w, c), w ([kt], kh, kw, c, o) -> (b, [t], h', w', o).

    `stride` applies to h and w; t keeps its length.
    """
    if all(size == 1 for size in w.shape[:-2]) and stride == 1:
        return x @ w.reshape(w.shape[-2:])
    forms = (functools.partial(f, stride=stride) for f in (_cpu_conv, native_conv))
    return _choose(*forms, x, w)


def native_conv(x, w, stride: int = 1):
    strides = (1,) * (x.ndim - 4) + (stride, stride)
    return lax.conv_general_dilated(x, w, strides, "SAME", dimension_numbers=_DIMENSIONS[x.ndim])


def upsample_conv(x, w):
    """Nearest x2 upsampling of h and w, then a SAME 3 x 3 convolution: x (b, h, w, c), w (3, 3, c, o).

    On CPU as four 2 x 2 convolutions at the low resolution, 2.25 times fewer operations.
    """
    return _choose(_cpu_upsample_conv, native_upsample_conv, x, w)


def native_upsample_conv(x, w):
    return native_conv(upsample(x), w)


def upsample(x, time: int = 1, space: int = 2):
    """Nearest-neighbour upsampling of (b, [t], h, w, c)."""
    x = jnp.repeat(jnp.repeat(x, space, axis=-3), space, axis=-2)
    return jnp.repeat(x, time, axis=-4) if time > 1 else x


def space_to_depth(x, space: int, time: int = 1):
    """(b, t, h, w, c) -> (b, t / time, h / space, w / space, time * space * space * c)."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t // time, time, h // space, space, w // space, space, c)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b, t // time, h // space, w // space, time * space * space * c)


def depth_to_space(x, space: int, time: int = 1):
    """The inverse of `space_to_depth`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, time, space, space, c // (time * space * space))
    x = x.transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, t * time, h * space, w * space, -1)


def _cpu_conv(x, w, stride):
    if x.ndim == 5:
        return _cpu_conv3d(x, w) if stride == 1 else native_conv(x, w, stride)
    top, bottom = _same_padding(x.shape[1], w.shape[0], stride)
    left, right = _same_padding(x.shape[2], w.shape[1], stride)
    x = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    return _valid_conv2d(x, w) if stride == 1 else _strided_conv2d(x, w, stride)


def _same_padding(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _strided_conv2d(x, w, stride):
    """A VALID strided convolution as an unstrided one over stride x stride blocks."""
    kh, kw, c, o = w.shape
    rows, cols = -(-kh // stride), -(-kw // stride)
    height, width = (x.shape[1] - kh) // stride + rows, (x.shape[2] - kw) // stride + cols
    grow = max(height * stride - x.shape[1], 0), max(width * stride - x.shape[2], 0)
    x = jnp.pad(x, ((0, 0), (0, grow[0]), (0, grow[1]), (0, 0)))
    x = x[:, : height * stride, : width * stride]
    x = space_to_depth(x[:, None], stride)[:, 0]
    w = jnp.pad(w, ((0, rows * stride - kh), (0, cols * stride - kw), (0, 0), (0, 0)))
    w = w.reshape(rows, stride, cols, stride, c, o).transpose(0, 2, 1, 3, 4, 5)
    return _valid_conv2d(x, w.reshape(rows, cols, stride * stride * c, o))


@jax.custom_vjp
def _valid_conv2d(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=_DIMENSIONS[4])


def _valid_conv2d_forward(x, w):
    return _valid_conv2d(x, w), (x, w)


def _valid_conv2d_backward(residuals, g):
    """dx by a convolution; dw by one matmul: kw shifts of x against kh shifts of g."""
    x, w = residuals
    kh, kw, c, o = w.shape
    full = ((kh - 1, kh - 1), (kw - 1, kw - 1))
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    dx = lax.conv_general_dilated(g, flipped, (1, 1), full, dimension_numbers=_DIMENSIONS[4])
    height, width = x.shape[1], g.shape[2]
    g = jnp.pad(g, ((0, 0), (kh - 1, kh - 1), (0, 0), (0, 0)))
    xs = jnp.concatenate([x[:, :, j : j + width] for j in range(kw)], -1).reshape(-1, kw * c)
    gs = jnp.concatenate([g[:, kh - 1 - i : kh - 1 - i + height] for i in range(kh)], -1)
    dw = lax.dot_general(xs, gs.reshape(-1, kh * o), (((0,), (0,)), ((), ())))
    return dx, dw.reshape(kw, c, kh, o).transpose(2, 0, 1, 3)


_valid_conv2d.defvjp(_valid_conv2d_forward, _valid_conv2d_backward)


def _cpu_conv3d(x, w):
    """A 3-D convolution as 2-D ones: over the frames for each time tap, or to all taps at once."""
    b, t, height, width, c = x.shape
    taps, o = w.shape[0], w.shape[-1]
    before, after = _same_padding(t, taps, 1)
    pad = ((0, 0), (before, after), (0, 0), (0, 0), (0, 0))
    if c < _MANY_CHANNELS:
        x = jnp.pad(x, pad)
        return sum(
            _cpu_conv(x[:, i : i + t].reshape(b * t, height, width, c), w[i], 1)
            for i in range(taps)
        ).reshape(b, t, height, width, o)
    w = w.transpose(1, 2, 3, 0, 4).reshape(*w.shape[1:3], c, taps * o)
    y = _cpu_conv(x.reshape(b * t, height, width, c), w, 1).reshape(b, t, height, width, -1)
    y = jnp.pad(y, pad)
    return sum(y[:, i : i + t, ..., i * o : (i + 1) * o] for i in range(taps))


def _cpu_upsample_conv(x, w):
    b, height, width, c = x.shape
    o = w.shape[-1]
    # Row a of an output pair sees two input rows; these weights add up the taps that share one.
    mix = jnp.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], w.dtype)  # (a, row, tap)
    w = jnp.einsum("aik,djl,klco->ijcado", mix, mix, w).reshape(2, 2, c, 4 * o)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = _valid_conv2d(x, w).reshape(b, height + 1, width + 1, 2, 2, o)
    rows = [
        jnp.stack([y[:, a : a + height, d : d + width, a, d] for d in range(2)], 3)
        for a in range(2)
    ]  # Each (b, h, w, 2, o).
    return jnp.stack(rows, 2).reshape(b, 2 * height, 2 * width, o)
