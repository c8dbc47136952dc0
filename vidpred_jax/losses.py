"""Losses: pure, one value per example; the step weighs and averages them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_WINDOW, _SIGMA = 11, 1.5  # Wang et al. 2004.


def l1(pred: Float[Array, " b *thwc"], target: Float[Array, " b *thwc"]) -> Float[Array, " b"]:
    return jnp.abs(pred - target).mean(axis=range(1, pred.ndim))


def ssim_loss(
    pred: Float[Array, " b *t h w c"], target: Float[Array, " b *t h w c"]
) -> Float[Array, " b"]:
    """1 - SSIM for pictures in [-1, 1], whose range is 2."""
    similarity = ssim(pred, target, data_range=2.0)
    return 1 - similarity.mean(axis=range(1, similarity.ndim))


def ssim(
    pred: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"], data_range: float
) -> Float[Array, "*b"]:
    """Structural similarity, Gaussian 11 x 11 with sigma 1.5, valid region, mean over channels.

    Wang et al. 2004; equals scikit-image with `gaussian_weights=True,
    use_sample_covariance=False`. Differentiable. Raises ValueError under 11 x 11 pixels.
    """
    height, width = pred.shape[-3:-1]
    if min(height, width) < _WINDOW:
        raise ValueError(
            f"SSIM needs pictures of {_WINDOW} x {_WINDOW} or more, not {height} x {width}"
        )
    rows, columns = _blur_matrix(height), _blur_matrix(width)

    def blur(x):
        # Two matmuls: on CPU far faster than a depthwise convolution and its gradient.
        return jnp.einsum(
            "yh,...hwc,xw->...yxc", rows, x, columns, precision=jax.lax.Precision.HIGHEST
        )

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_p, mean_t = blur(pred), blur(target)
    var_p = blur(pred * pred) - mean_p**2
    var_t = blur(target * target) - mean_t**2
    covariance = blur(pred * target) - mean_p * mean_t
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    structure = (2 * covariance + c2) / (var_p + var_t + c2)
    return (luminance * structure).mean(axis=(-3, -2, -1))


@functools.lru_cache(maxsize=64)
def _blur_matrix(size: int) -> np.ndarray:
    """(size - 10, size): each row the Gaussian window at one valid position."""
    window = np.exp(-0.5 * (np.arange(_WINDOW) - _WINDOW // 2) ** 2 / _SIGMA**2)
    window /= window.sum()
    matrix = np.zeros((size - _WINDOW + 1, size), np.float32)
    for row in range(len(matrix)):
        matrix[row, row : row + _WINDOW] = window
    return matrix


def bce_d(real: Float[Array, "b h w"], fake: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Discriminator's binary cross-entropy on patch logits, mean of the real and the fake half."""
    return (jax.nn.softplus(-real) + jax.nn.softplus(fake)).mean(axis=(1, 2)) / 2


def bce_g(fake: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Generator's non-saturating binary cross-entropy on patch logits."""
    return jax.nn.softplus(-fake).mean(axis=(1, 2))


def hinge_d(real: Float[Array, "b h w"], fake: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Discriminator's hinge loss on patch logits."""
    return (jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)).mean(axis=(1, 2))


def hinge_g(fake: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Generator's hinge loss on patch logits; unbounded below."""
    return -fake.mean(axis=(1, 2))
