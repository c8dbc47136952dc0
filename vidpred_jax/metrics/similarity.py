"""Structural similarity, differentiable: the metric and the loss are one function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _gaussian(side: int, sigma: float) -> tuple[float, ...]:
    window = np.exp(-0.5 * (np.arange(side) - side // 2) ** 2 / sigma**2)
    return tuple((window / window.sum()).tolist())


GAUSSIAN = _gaussian(11, 1.5)  # Of Wang et al. 2004.


def ssim(
    pred: Float[Array, "*b h w c"], target: Float[Array, "*b h w c"], data_range: float
) -> Float[Array, "*b"]:
    """Structural similarity, Gaussian 11 x 11 with sigma 1.5, valid region, mean over channels.

    Wang et al. 2004; equals scikit-image with `gaussian_weights=True,
    use_sample_covariance=False`. Differentiable. Raises ValueError under 11 x 11 pixels.
    """
    luminance, structure = ssim_terms(pred, target, data_range)
    return (luminance * structure).mean(axis=(-3, -2, -1))


def ssim_terms(
    pred: Float[Array, "*b h w c"],
    target: Float[Array, "*b h w c"],
    data_range: float,
    window: tuple[float, ...] = GAUSSIAN,
    sample_covariance: bool = False,
) -> tuple[Float[Array, "*b y x c"], Float[Array, "*b y x c"]]:
    """SSIM's two factors, luminance and contrast-structure, wherever the window fits.

    window: weights along one side, which sum to 1. sample_covariance: variances over n - 1, not n.
    Raises ValueError for pictures smaller than the window.
    """
    height, width = pred.shape[-3:-1]
    side = len(window)
    if min(height, width) < side:
        raise ValueError(f"SSIM needs pictures of {side} x {side} or more, not {height} x {width}")
    rows, columns = (jnp.asarray(_blur_matrix(length, window), pred.dtype) for length in (height, width))

    def blur(x):
        # Two matmuls: on CPU far faster than a depthwise convolution and its gradient.
        return jnp.einsum("yh,...hwc,xw->...yxc", rows, x, columns, precision=jax.lax.Precision.HIGHEST)

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    scale = side**2 / (side**2 - 1) if sample_covariance else 1.0
    mean_p, mean_t = blur(pred), blur(target)
    squares = mean_p**2 + mean_t**2
    # Of the two variances only the sum is asked for.
    variances = scale * (blur(pred**2 + target**2) - squares)
    covariance = scale * (blur(pred * target) - mean_p * mean_t)
    luminance = (2 * mean_p * mean_t + c1) / (squares + c1)
    return luminance, (2 * covariance + c2) / (variances + c2)


@functools.lru_cache(maxsize=64)
def _blur_matrix(size: int, window: tuple[float, ...]) -> np.ndarray:
    """(size - side + 1, size): each row the window at one valid position."""
    matrix = np.zeros((size - len(window) + 1, size))
    for row in range(len(matrix)):
        matrix[row, row : row + len(window)] = window
    return matrix
