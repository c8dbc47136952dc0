"""Convolutions that on a CPU are faster than XLA's own and equal to them.

Either matrix products, or convolutions of the shapes for which XLA:CPU has a fast routine. Thresholds were
measured with jax 0.10.2. `convolution.py` chooses the form.
"""

import functools
import math
import os

import jax
import jax.numpy as jnp
from jax import lax

from vidpred_jax import startup

DIMENSIONS = {4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}
_FEW = 12  # Output channels up to which `_conv2d` takes another form.


def conv(x, w, stride: int = 1):
    """As `convolution.conv`; in 3-D with stride 1 only."""
    if x.ndim == 5:
        time, *space = (_same_padding(x.shape[i + 1], w.shape[i], 1) for i in range(3))
        if x.shape[1] == 1:  # The other taps in time see only zeros.
            return conv(x[:, 0], w[time[0]])[:, None]
        return _fast_conv(x, w, (time, *space))
    padding = tuple(_same_padding(x.shape[i + 1], w.shape[i], stride) for i in range(2))
    places = math.prod(-(-n // stride) for n in x.shape[1:3])
    if stride > 1 or has_few_rows(len(x) * places, w.shape[-1]):
        return _matmul_conv2d(jnp.pad(x, ((0, 0), *padding, (0, 0))), w, stride)
    return _fast_conv2d(x, w, padding)


def _same_padding(size, kernel, stride):
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _matmul_conv2d(x, w, stride):
    """A VALID convolution as one product of all patches and the weights; its gradients are products too.

    Cheapest where patches overlap little, or where there are more weights than pixels: the other forms
    copy the weights.
    """
    kh, kw, c, o = w.shape
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    rows = [slice(i, i + (height - 1) * stride + 1, stride) for i in range(kh)]
    columns = [slice(j, j + (width - 1) * stride + 1, stride) for j in range(kw)]
    patches = jnp.concatenate([x[:, i, j] for i in rows for j in columns], -1)
    return product(patches, w.reshape(kh * kw * c, o))


def has_few_rows(rows: int, features: int) -> bool:
    """Whether `_matmul_conv2d` is the cheaper form for so many output pixels."""
    return rows <= 4 * features


def _fast_conv2d(x, w, padding):
    """`_fast_conv` of pictures, as clips of one frame."""
    return _fast_conv(x[:, None], w[None], ((0, 0), *padding))[:, 0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fast_conv(x, w, padding):
    """x (b, t, h, w, c), w (kt, kh, kw, c, o), padding (before, after) of t, h, w; t keeps its length."""
    if startup.uses_onednn() and x.dtype == jnp.float32:  # It has a fast routine of all shapes.
        return lax.conv_general_dilated(x, w, (1,) * 3, padding, dimension_numbers=DIMENSIONS[5])
    time, *space = padding
    return taps_at_once(x, w, time[0], functools.partial(_conv2d, padding=space))


def taps_at_once(x, w, before: int, conv2d):
    """A 3-D convolution that keeps t as a 2-D one, `conv2d(pictures, weights)`, of all taps in time.

    x (b, t, h, w, c), w (kt, kh, kw, c, o), `before` zeros before t. The output of each tap is added to
    the frame that it belongs to.
    """
    b, t, height, width, c = x.shape
    taps, kh, kw, _, o = w.shape
    w = w.transpose(1, 2, 3, 0, 4).reshape(kh, kw, c, taps * o)
    y = conv2d(x.reshape(b * t, height, width, c), w)
    y = y.reshape(b, t, *y.shape[1:3], taps, o)
    return sum(_earlier(y[..., k, :], k - before) for k in range(taps))


def _earlier(x, frames):
    """x (b, t, ...) shifted to earlier frames; zeros enter."""
    t, before, after = x.shape[1], max(-frames, 0), max(frames, 0)
    if frames == 0:
        return x
    x = x[:, after : max(t - before, after)]
    return jnp.pad(x, ((0, 0), (min(before, t), min(after, t)), *[(0, 0)] * (x.ndim - 2)))


def _conv2d(x, w, padding):
    """A 2-D convolution by XLA, with more rows than needed where the output has no more than x.

    XLA:CPU uses its fast routine only for convolutions that enlarge. With few output channels that is
    slow as well: then all taps along h become channels, which are added to their rows.
    """
    before, after = padding[0]
    kh, kw, c, o = w.shape
    height = x.shape[1] + before + after - kh + 1
    if kh > 1 and o <= _FEW:
        w = w.transpose(1, 2, 0, 3).reshape(1, kw, c, kh * o)
        y = jnp.pad(_conv2d(x, w, ((0, 0), padding[1])), ((0, 0), (before, after), (0, 0), (0, 0)))
        return sum(y[:, k : k + height, :, k * o : (k + 1) * o] for k in range(kh))
    more = max(x.shape[1] + 1 - height, 0)
    padding = ((before, after + more), padding[1])
    y = lax.conv_general_dilated(x, w, (1, 1), padding, dimension_numbers=DIMENSIONS[4])
    return y[:, :height]


def _fast_conv_forward(x, w, padding):
    return _fast_conv(x, w, padding), (x, w)


def _fast_conv_backward(padding, residuals, g):
    """dx by a convolution; dw by products of each frame of x and those of g that the taps in time reach."""
    x, w = residuals
    (taps, kh, kw, c, o), frames, time = w.shape, range(x.shape[1]), padding[0][0]
    opposite = tuple(
        (k - 1 - before, k - 1 - after) for k, (before, after) in zip(w.shape, padding, strict=False)
    )
    dx = _fast_conv(g, jnp.flip(w, (0, 1, 2)).swapaxes(3, 4), opposite)
    g_alone = kh * kw * o < kw * c + kh * o  # Then that is less to copy.
    shift = functools.partial(_shift, kernel=(kh, kw), padding=opposite[1:], g_alone=g_alone)
    shifted = [shift(x[:, i], g[:, i]) for i in frames]
    dw = []
    for tap in range(taps):
        reached = [(i, i + time - tap) for i in frames if i + time - tap in frames]
        dw.append(sum(_sum_of_products(shifted[i][0], shifted[j][1]) for i, j in reached))
    if g_alone:
        dw = jnp.stack(dw).reshape(taps, c, kh, kw, o).transpose(0, 2, 3, 1, 4)
    else:
        dw = jnp.stack(dw).reshape(taps, kw, c, kh, o).transpose(0, 3, 1, 2, 4)
    return dx, dw.astype(w.dtype)


def _shift(x, g, kernel, padding, g_alone):
    """x (b, h, w, c) and g (b, h', w', o) so that the products of their pixels are the weights' gradient.

    padding: zeros above and below g, left and right of it. g is shifted by rows, x by columns: channels are
    (kw c) and (kh o); or g by both: c and (kh kw o).
    """
    (kh, kw), (rows, columns) = kernel, padding
    height, width = x.shape[1], g.shape[2]
    if g_alone:
        width = x.shape[2]
        g = jnp.pad(g, ((0, 0), rows, columns, (0, 0)))
        places = [(kh - 1 - i, kw - 1 - j) for i in range(kh) for j in range(kw)]
        return x, jnp.concatenate([g[:, i : i + height, j : j + width] for i, j in places], -1)
    x = jnp.pad(x, ((0, 0), (0, 0), [kw - 1 - zeros for zeros in columns], (0, 0)))
    g = jnp.pad(g, ((0, 0), rows, (0, 0), (0, 0)))
    xs = jnp.concatenate([x[:, :, j : j + width] for j in range(kw)], -1)
    return xs, jnp.concatenate([g[:, kh - 1 - i : kh - 1 - i + height] for i in range(kh)], -1)


def _sum_of_products(x, g):
    """x (..., c), g (..., o): the sum of their outer products over all pixels, float32 (c, o)."""
    x, g = (v.reshape(-1, v.shape[-1]) for v in (x, g))
    # One product a thread: XLA:CPU parallelises a batch better than one long sum.
    batch = _largest_divisor(len(x), os.cpu_count() or 1)
    x, g = (v.reshape(batch, -1, v.shape[-1]) for v in (x, g))
    sums = (((1,), (1,)), ((0,), (0,)))
    products = lax.dot_general(x, g, sums, preferred_element_type=jnp.float32)
    return sum(products[i] for i in range(batch))  # Much faster than its sum over an axis.


def _largest_divisor(n: int, limit: int) -> int:
    """The largest divisor of n up to the limit, at least 1."""
    return next(d for d in range(max(min(n, limit), 1), 0, -1) if n % d == 0)


_fast_conv.defvjp(_fast_conv_forward, _fast_conv_backward)


@jax.custom_vjp
def product(x, w):
    """x (..., c) @ w (c, o)."""
    return x @ w


def _product_backward(residuals, g):
    x, w = residuals
    return g @ w.T, _sum_of_products(x, g).astype(w.dtype)


product.defvjp(lambda x, w: (product(x, w), (x, w)), _product_backward)


def _share_taps(w, axis):
    """Three taps along an axis -> (output, input): of two upsampled rows, each depends on two input rows.

    Taps of an output that fall on the same input row are added.
    """
    first, middle, last = jnp.split(w, 3, axis)
    pairs = [jnp.concatenate(pair, axis) for pair in ((first, middle + last), (first + middle, last))]
    return jnp.stack(pairs, axis)


def upsample_conv(x, w):
    """As `convolution.upsample_conv`: four 2 x 2 convolutions at the low resolution."""
    b, height, width, c = x.shape
    o = w.shape[-1]
    w = _share_taps(_share_taps(w, 0), 2)  # (a, row, d, column, c, o)
    w = w.transpose(1, 3, 4, 0, 2, 5).reshape(2, 2, c, 4 * o)
    y = _fast_conv2d(x, w, ((1, 1), (1, 1))).reshape(b, height + 1, width + 1, 2, 2, o)
    rows = [
        jnp.stack([y[:, a : a + height, d : d + width, a, d] for d in range(2)], 3) for a in range(2)
    ]  # Each (b, h, w, 2, o).
    return jnp.stack(rows, 2).reshape(b, 2 * height, 2 * width, o)
