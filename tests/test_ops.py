"""Warping, moving and blurring: by hand, against OpenCV and against plain forms."""

import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import ops


def test_blur_equals_opencv_inside():
    picture = np.random.default_rng(0).uniform(-1, 1, (48, 48, 3)).astype(np.float32)
    expected = cv2.GaussianBlur(picture, (31, 31), 2.0)
    found = np.asarray(ops.blur(jnp.asarray(picture)[None], 2.0)[0])
    chex.assert_trees_all_close(found[16:-16, 16:-16], expected[16:-16, 16:-16], atol=1e-5)
    chex.assert_trees_all_close(ops.blur(jnp.ones((1, 9, 7, 2)), 4.0), jnp.ones((1, 9, 7, 2)))
    x = jnp.asarray(picture[:20])[None]
    planes = ops.blur_planes(jnp.moveaxis(x, -1, 1), 3.0)
    chex.assert_trees_all_close(jnp.moveaxis(planes, 1, -1), ops.blur(x, 3.0), atol=1e-5)


def test_warp_by_hand():
    picture = jnp.arange(16.0).reshape(1, 4, 4, 1)
    still = ops.warp(picture, jnp.zeros((1, 4, 4, 2)))
    chex.assert_trees_all_close(still, picture)
    half = ops.warp(picture, jnp.full((1, 4, 4, 2), 0.5))
    assert float(half[0, 0, 0, 0]) == 2.5  # Mean of 0, 1, 4, 5.
    far = ops.warp(picture, jnp.full((1, 4, 4, 2), -9.0))
    chex.assert_trees_all_close(far, jnp.zeros_like(picture))


def test_cubic_warp_equals_opencv():
    """At multiples of 1/32, as its places are; beyond the border the outermost pixel is repeated."""
    rng = np.random.default_rng(0)
    pictures = rng.uniform(-1, 1, (2, 24, 30, 3)).astype(np.float32)
    flows = (rng.integers(-96, 97, (2, 24, 30, 2)) / 32).astype(np.float32)
    found = np.asarray(ops.cubic_warp(jnp.asarray(pictures), jnp.asarray(flows)))
    y, x = np.meshgrid(np.arange(24, dtype=np.float32), np.arange(30, dtype=np.float32), indexing="ij")
    for picture, flow, ours in zip(pictures, flows, found, strict=True):
        places = np.clip(x + flow[..., 1], 0, 29), np.clip(y + flow[..., 0], 0, 23)
        expected = cv2.remap(picture, *places, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        np.testing.assert_allclose(ours, expected, atol=1e-5)
    row = jnp.asarray(pictures[:1, :1, :2])  # Two pixels: each tap beyond them is one of them.
    np.testing.assert_array_equal(ops.cubic_warp(row, jnp.full((1, 1, 2, 2), 9.0))[0, 0], [row[0, 0, 1]] * 2)


def test_nearest_warp_by_hand():
    """It reads the pixel nearest to each origin, halves counting up, and has no gradient."""
    row, nearest_warp = jnp.array([3.0, 5, 9, 1]).reshape(1, 1, 4, 1), jax.jit(ops.nearest_warp)

    def warped(dx, dy=0.0):
        flow = jnp.broadcast_to(jnp.array([dy, dx]), (1, 1, 4, 2))
        return nearest_warp(row, flow)[0, 0, :, 0].tolist()

    assert warped(0.4) == warped(-0.4) == warped(0.0, 7.0) == [3, 5, 9, 1]
    assert warped(0.5) == warped(1.4) == [5, 9, 1, 1]
    assert warped(-0.6) == [3, 3, 5, 9]
    assert warped(9.0) == [1] * 4
    column = ops.nearest_warp(row.reshape(1, 4, 1, 1), jnp.full((1, 4, 1, 2), 1.6))
    assert column[0, :, 0, 0].tolist() == [9, 1, 1, 1]
    loss = lambda flow: jnp.square(ops.nearest_warp(row, flow)).sum()
    assert not jax.jit(jax.grad(loss))(jnp.full((1, 1, 4, 2), 0.3)).any()


@pytest.mark.parametrize("size", [(16, 20), (5, 7), (3, 2), (4, 5)])
def test_resize_equals_jax(size):
    flow = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    expected = jax.image.resize(flow, (2, *size, 3), "linear")
    chex.assert_trees_all_close(ops.resize(flow, *size), expected, atol=1e-5)


@pytest.mark.parametrize("height, width", [(9, 7), (1, 7), (9, 1)])
def test_warp_has_the_gradient_of_its_plain_form(height, width):
    picture, target, flow = (jax.random.normal(jax.random.key(i), (2, height, width, 3)) for i in range(3))
    flow = (3 * flow[..., :2]).at[:, :, 0].set(0.0)  # Some of it leads outside.

    def by_jax(picture, flow):
        y = jnp.arange(float(height))[:, None] + flow[..., 0]
        x = jnp.arange(float(width)) + flow[..., 1]
        y, x = (jnp.where(p < 0, 0, jnp.where(p > n - 1, n - 1, p)) for p, n in ((y, height), (x, width)))
        # Bilinear weights of every pixel of the picture. To the right of a place on the grid.
        weight = lambda p, n: jnp.maximum(0, 1 - jnp.abs(p[..., None] - jnp.arange(n)))
        return jnp.einsum("byxh,byxw,bhwc->byxc", weight(y, height), weight(x, width), picture)

    def gradients(form, *args):
        loss = lambda *args: jnp.square(form(*args).astype(jnp.float32) - target).sum()
        value, (of_picture, of_flow) = jax.jit(jax.value_and_grad(loss, (0, 1)))(*args)
        # At a bend the gradient of a flow is anything between both sides.
        return value, of_picture, of_flow[:, :, 1:]

    args = picture, flow + 0.25 * (flow != 0)
    chex.assert_trees_all_close(gradients(ops.warp, *args), gradients(by_jax, *args), rtol=1e-4, atol=1e-4)
    _, of_picture, of_flow = gradients(ops.warp, picture.astype(jnp.bfloat16), flow)
    assert of_picture.dtype == jnp.bfloat16 and of_flow.dtype == jnp.float32


def test_shift_by_hand():
    row = jnp.array([0, 1, 0, 1], jnp.uint8).reshape(1, 1, 1, 1, 4)
    shift = jax.jit(ops.shift, static_argnums=2)

    def shifted(right, down=0.0, plane=row, nearest=False):
        offset = jnp.array([down, right], jnp.float32).reshape(1, 1, 1, 2)
        return shift(plane, offset, nearest)[0, 0, 0, 0].tolist()

    for nearest in (True, False):
        assert shifted(1, nearest=nearest) == [[0, 0, 1, 0]]
        assert shifted(-3, nearest=nearest) == [[1, 0, 0, 0]]
        assert shifted(9, nearest=nearest) == shifted(-99, nearest=nearest) == [[0, 0, 0, 0]]
        assert shifted(0, 1, nearest=nearest) == [[0, 0, 0, 0]]
    assert shifted(-0.5) == [[0.5, 0.5, 0.5, 0.5]]
    assert shifted(0.25) == [[0, 0.75, 0.25, 0.75]]
    assert shifted(0.6, nearest=True) == [[0, 0, 1, 0]]
    square = jnp.array([[1, 0], [0, 1]], jnp.uint8).reshape(1, 1, 1, 2, 2)
    assert shifted(0.5, 0.5, square) == [[0.25, 0.25], [0.25, 0.5]]
