"""Losses: pure, one value per example; the step weighs and averages them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def _gaussian(side: int, sigma: float) -> tuple[float, ...]:
    window = np.exp(-0.5 * (np.arange(side) - side // 2) ** 2 / sigma**2)
    return tuple((window / window.sum()).tolist())


GAUSSIAN = _gaussian(11, 1.5)  # Of Wang et al. 2004.


def l1(pred: Float[Array, " b *thwc"], target: Float[Array, " b *thwc"]) -> Float[Array, " b"]:
    return jnp.abs(pred - target).mean(axis=range(1, pred.ndim))


def psnr(
    pred: Float[Array, " b *t h w c"], target: Float[Array, " b *t h w c"]
) -> Float[Array, " b"]:
    """Mean PSNR in dB of an example's frames in [-1, 1], at most 50 dB each; larger is better.

    As a loss it is the logarithm of the error: near frames, whose error is small, count as far ones do.
    """
    error = jnp.square(pred - target).mean((-3, -2, -1)) / 4
    return -10 * jnp.log10(error + 1e-5).mean(axis=range(1, error.ndim))


def ssim_loss(
    pred: Float[Array, " b *t h w c"], target: Float[Array, " b *t h w c"]
) -> Float[Array, " b"]:
    """1 - SSIM for pictures in [-1, 1], whose range is 2."""
    similarity = ssim(pred, target, data_range=2.0)
    return 1 - similarity.mean(axis=range(1, similarity.ndim))


def sharpness(
    pred: Float[Array, " b h w c"], target: Float[Array, " b h w c"]
) -> Float[Array, " b"]:
    """|log| of the ratio of gradient energies, mean over a grid of 4 x 4 blocks; [-1, 1] pictures.

    It asks for as much detail as there is, not for detail in its exact place (ours).
    """
    ratio = jnp.log(_gradient_energy(pred)) - jnp.log(_gradient_energy(target))
    return jnp.abs(ratio).mean((1, 2))


def _gradient_energy(x, blocks=4, floor=1e-3):
    rows, columns = x[:, 1:, :-1] - x[:, :-1, :-1], x[:, :-1, 1:] - x[:, :-1, :-1]
    energy = (jnp.square(rows) + jnp.square(columns)).mean(-1)
    b, h, w = (energy.shape[0], *(side // blocks for side in energy.shape[1:]))
    energy = energy[:, : h * blocks, : w * blocks].reshape(b, blocks, h, blocks, w)
    return energy.mean((2, 4)) + floor


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
    rows, columns = (
        jnp.asarray(_blur_matrix(length, window), pred.dtype) for length in (height, width)
    )

    def blur(x):
        # Two matmuls: on CPU far faster than a depthwise convolution and its gradient.
        return jnp.einsum(
            "yh,...hwc,xw->...yxc", rows, x, columns, precision=jax.lax.Precision.HIGHEST
        )

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


def lsgan_d(real: Float[Array, "b h w"], fake: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Discriminator's least-squares loss on patch logits (Mao et al. 2017)."""
    return (jnp.square(real - 1) + jnp.square(fake)).mean(axis=(1, 2)) / 2


def lsgan_g(fake: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Generator's least-squares loss on patch logits."""
    return jnp.square(fake - 1).mean(axis=(1, 2))
