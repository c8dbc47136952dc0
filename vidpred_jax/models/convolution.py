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
_CHUNK = 8448  # Places of pictures whose products are formed at once: they stay in the cache.


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
    rows = x.shape[0] * (x.shape[1] - w.shape[0] + 1) * (x.shape[2] - w.shape[1] + 1)
    if stride > 1 or _has_few_rows(rows, w.shape[-1]):
        return _matmul_conv2d(x, w, stride)
    return _valid_conv2d(x, w)


def _same_padding(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _matmul_conv2d(x, w, stride):
    """A VALID convolution as one product of all patches and the weights as they are stored.

    Its gradients are products too. Cheapest where patches overlap little, or where the weights are
    more than the patches, for which the other forms rearrange them.
    """
    kh, kw, c, o = w.shape
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    rows = [slice(i, i + (height - 1) * stride + 1, stride) for i in range(kh)]
    columns = [slice(j, j + (width - 1) * stride + 1, stride) for j in range(kw)]
    patches = jnp.concatenate([x[:, i, j] for i in rows for j in columns], -1)
    return patches @ w.reshape(kh * kw * c, o)


def _has_few_rows(rows: int, features: int) -> bool:
    """Whether `_matmul_conv2d` is the cheaper form for so many output places (measured)."""
    return rows <= 4 * features


@jax.custom_vjp
def _valid_conv2d(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=_DIMENSIONS[4])


def _valid_conv2d_forward(x, w):
    return _valid_conv2d(x, w), (x, w)


def _valid_conv2d_backward(residuals, g):
    """dx by a convolution; dw by matmuls, of few enough pictures at a time to stay in the cache."""
    x, w = residuals
    kh, kw, c, o = w.shape
    full = ((kh - 1, kh - 1), (kw - 1, kw - 1))
    flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
    dx = lax.conv_general_dilated(g, flipped, (1, 1), full, dimension_numbers=_DIMENSIONS[4])
    n, places = len(x), x.shape[1] * g.shape[2]
    chunk = max(d for d in range(1, n + 1) if n % d == 0 and (d == 1 or d * places <= _CHUNK))
    if chunk == n:
        dw = _weight_products(x, g, kh, kw)
    else:
        parts = [v.reshape(n // chunk, chunk, *v.shape[1:]) for v in (x, g)]
        add = lambda total, part: (total + _weight_products(*part, kh, kw), None)
        dw = lax.scan(add, jnp.zeros((kw * c, kh * o), x.dtype), parts)[0]
    return dx, dw.reshape(kw, c, kh, o).transpose(2, 0, 1, 3)


def _weight_products(x, g, kh, kw):
    """kw shifts of x against kh shifts of g: (kw c, kh o)."""
    height, width = x.shape[1], g.shape[2]
    g = jnp.pad(g, ((0, 0), (kh - 1, kh - 1), (0, 0), (0, 0)))
    xs = jnp.concatenate([x[:, :, j : j + width] for j in range(kw)], -1)
    gs = jnp.concatenate([g[:, kh - 1 - i : kh - 1 - i + height] for i in range(kh)], -1)
    rows = (((0,), (0,)), ((), ()))
    return lax.dot_general(xs.reshape(-1, xs.shape[-1]), gs.reshape(-1, gs.shape[-1]), rows)


_valid_conv2d.defvjp(_valid_conv2d_forward, _valid_conv2d_backward)


def _cpu_conv3d(x, w):
    """A 3-D convolution as a 2-D one over the frames, which see their neighbours as channels."""
    b, t, height, width, c = x.shape
    taps, kh, kw, _, o = w.shape
    x = jnp.pad(x, ((0, 0), _same_padding(t, taps, 1), (0, 0), (0, 0), (0, 0)))
    x = jnp.concatenate([x[:, i : i + t] for i in range(taps)], -1)
    w = w.transpose(1, 2, 0, 3, 4).reshape(kh, kw, taps * c, o)
    x = _cpu_conv(x.reshape(b * t, height, width, taps * c), w, 1)
    return x.reshape(b, t, height, width, o)


def _cpu_upsample_conv(x, w):
    b, height, width, c = x.shape
    o = w.shape[-1]
    if _has_few_rows(4 * b * height * width, o):
        return _cpu_conv(upsample(x), w, 1)
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
