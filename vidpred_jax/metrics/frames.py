"""`psnr` and `ssim` of RGB frames in [0, 255]."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from vidpred_jax import losses

MAX_PSNR = 100.0  # Of equal frames, whose PSNR is infinite: a mean stays finite.


@jax.jit
def psnr(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """Peak signal-to-noise ratio in dB, MSE over h, w, c; any number type, no wrap-around."""
    error = (jnp.asarray(pred, jnp.float32) - jnp.asarray(target, jnp.float32)) / 255
    mse = jnp.square(error).mean(axis=(-3, -2, -1))
    return jnp.minimum(-10 * jnp.log10(jnp.maximum(mse, 1e-12)), MAX_PSNR)


@jax.jit
def ssim(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """Gaussian 11 x 11 SSIM, data range 255, valid region, mean over channels (`losses.ssim`)."""
    pred, target = (jnp.asarray(x, jnp.float32) / 255 for x in (pred, target))
    return losses.ssim(pred, target, data_range=1.0)
