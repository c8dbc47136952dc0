"""The fast forms equal XLA's own convolutions, in values and in both gradients."""

import chex
import jax
import jax.numpy as jnp
import pytest

from vidpred_jax.models import convolution


def assert_equal_with_gradients(ours, native, x, w):
    y = native(x, w)
    cotangent = jax.random.normal(jax.random.key(9), y.shape)

    def both(function):
        y, vjp = jax.vjp(function, x, w)
        return y, *vjp(cotangent)

    expected = jax.jit(lambda: both(native))()
    chex.assert_trees_all_close(jax.jit(lambda: both(ours))(), expected, rtol=1e-4, atol=1e-4)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("features", [5, 64])  # Above and below the switch of forms.
@pytest.mark.parametrize("size", [(7, 8), (8, 9)])
@pytest.mark.parametrize("kernel", [1, 3, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d(stride, kernel, size, features):
    assert_equal_with_gradients(
        lambda x, w: convolution.conv(x, w, stride),
        lambda x, w: convolution.native_conv(x, w, stride),
        normal(0, 2, *size, 3),
        normal(1, kernel, kernel, 3, features),
    )


@pytest.mark.parametrize("features", [4, 200])
@pytest.mark.parametrize("taps", [1, 2, 3])
@pytest.mark.parametrize("frames", [5, 2, 1])  # With one frame, the other taps see only zeros.
def test_conv3d(frames, taps, features):
    x, w = normal(0, 2, frames, 7, 8, 3), normal(1, taps, 3, 3, 3, features)
    assert_equal_with_gradients(convolution.conv, convolution.native_conv, x, w)
    assert_equal_with_gradients(convolution.conv_by_frames, convolution.native_conv, x, w)


@pytest.mark.parametrize(("size", "features"), [((5, 6), 4), ((5, 6), 64), ((1, 2), 4)])
def test_upsample_conv(size, features):
    x, w = normal(0, 2, *size, 3), normal(1, 3, 3, 3, features)
    assert_equal_with_gradients(convolution.upsample_conv, convolution.native_upsample_conv, x, w)


def test_weight_gradients_of_half_precision_are_summed_in_full():
    x, w = normal(0, 8, 256, 2, 2, 3) + 1, normal(1, 1, 3, 3, 3, 4)  # 256 frames, whose products are summed.
    grad = jax.jit(jax.grad(lambda w, x: convolution.conv(x, w).sum().astype(jnp.float32)))
    half = [v.astype(jnp.bfloat16) for v in (w, x)]
    exact = grad(*(v.astype(jnp.float32) for v in half))
    assert grad(*half).dtype == jnp.bfloat16
    chex.assert_trees_all_close(grad(*half).astype(jnp.float32), exact, rtol=0.005)


def test_the_form_is_chosen_at_tracing():
    x, w = normal(0, 1, 4, 8, 8, 3), normal(1, 3, 3, 3, 3, 4)
    taken = lambda: jax.jit(lambda x, w: convolution.conv(x, w)).lower(x, w).as_text()
    fast = taken()
    with convolution.form("native"):
        native = taken()
    assert "[b, 0, 1, 2, f]" in native and "[b, 0, 1, f]" not in native
    assert "[b, 0, 1, f]" in fast and "[b, 0, 1, 2, f]" not in fast and taken() == fast


def test_conv_inside_scan_has_gradients():
    w = normal(0, 3, 3, 3, 2, 2)

    def total(w):
        feed = lambda x, _: (jnp.tanh(convolution.conv(x, w)), None)
        return jax.lax.scan(feed, normal(1, 1, 4, 6, 6, 2), None, length=3)[0].sum()

    def unrolled(w):
        x = normal(1, 1, 4, 6, 6, 2)
        for _ in range(3):
            x = jnp.tanh(convolution.native_conv(x, w))
        return x.sum()

    chex.assert_trees_all_close(
        jax.jit(jax.grad(total))(w), jax.jit(jax.grad(unrolled))(w), rtol=1e-3, atol=1e-3
    )


def test_space_to_depth_keeps_blocks_together_and_is_undone():
    x = jnp.arange(2 * 4 * 4 * 6 * 3.0).reshape(2, 4, 4, 6, 3)
    folded = convolution.space_to_depth(x, 2, 2)
    chex.assert_shape(folded, (2, 2, 2, 3, 24))
    chex.assert_trees_all_equal(folded[0, 0, 0, 0], x[0, :2, :2, :2].reshape(-1))
    chex.assert_trees_all_equal(convolution.depth_to_space(folded, 2, 2), x)
