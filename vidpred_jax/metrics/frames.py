"""PSNR, SSIM and their variants for RGB frames in [0, 255]: one value per frame.

The field's figures do not compare because their definitions differ; each has a name of its own here.
All take (..., h, w, c) of any number type and compute in float32: nothing wraps around.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from vidpred_jax.metrics import similarity

MAX_PSNR = 100.0  # Of equal frames, whose PSNR is infinite: a mean stays finite.
_UNIFORM = (1 / 7,) * 7
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003.


def _unit(x):
    return jnp.asarray(x, jnp.float32) / 255


@jax.jit
def psnr(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """Peak signal-to-noise ratio in dB, MSE over h, w, c."""
    mse = jnp.square(_unit(pred) - _unit(target)).mean(axis=(-3, -2, -1))
    return jnp.minimum(-10 * jnp.log10(jnp.maximum(mse, 1e-12)), MAX_PSNR)


@jax.jit
def ssim(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """Gaussian 11 x 11 SSIM, data range 255, valid region, mean over channels (`similarity.ssim`)."""
    return similarity.ssim(_unit(pred), _unit(target), data_range=1.0)


def ssim_paper(pred: Num[Any, "*b h w c"], target: Num[Any, "*b h w c"]) -> np.ndarray:
    """The call of Jing et al.: `ssim` with data range 1 on frames in [0, 255]. Low for smooth frames.

    Only to stand beside the paper's curves. In float64: its constants are below float32's rounding.
    """
    with jax.enable_x64(True):
        pred, target = (jnp.asarray(np.asarray(x), jnp.float64) for x in (pred, target))
        return np.asarray(_ssim_unit_range(pred, target), np.float32)


@jax.jit
def _ssim_unit_range(pred, target):
    return similarity.ssim(pred, target, data_range=1.0)


@jax.jit
def ssim_openstl(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """OpenSTL's: uniform 7 x 7, sample covariance, data range 2 on frames in [0, 1]. High.

    Only to stand beside OpenSTL's tables.
    """
    luminance, structure = similarity.ssim_terms(
        _unit(pred), _unit(target), 2.0, window=_UNIFORM, sample_covariance=True
    )
    return (luminance * structure).mean(axis=(-3, -2, -1))


@jax.jit
def mse_openstl(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """OpenSTL's: the sum over h, w, c of squared errors of frames in [0, 1], unclipped.

    Of a grey target the three channels count as one, as in its Moving MNIST.
    """
    return _sum_of(jnp.square, _unit(pred), _unit(target))


@jax.jit
def mae_openstl(pred: Num[Array, "*b h w c"], target: Num[Array, "*b h w c"]) -> Num[Array, "*b"]:
    """As `mse_openstl`, of absolute errors."""
    return _sum_of(jnp.abs, _unit(pred), _unit(target))


def _sum_of(penalty, pred, target):
    grey = jnp.all(target == target[..., :1])
    one = penalty(pred.mean(-1) - target[..., 0]).sum(axis=(-2, -1))
    return jnp.where(grey, one, penalty(pred - target).sum(axis=(-3, -2, -1)))


@jax.jit
def ms_ssim_running(pred: Num[Array, "*b t h w c"], target: Num[Array, "*b t h w c"]) -> Num[Array, "*b t"]:
    """MS-SSIM (Wang et al. 2003) as DMVFN and OPT print it: the running mean over frames 1 to k.

    Five scales, data range 1, negative factors cut to 0. Raises ValueError under 176 x 176 pixels,
    where the window no longer fits the coarsest scale.
    """
    smallest = 16 * len(similarity.GAUSSIAN)
    height, width = pred.shape[-3:-1]
    if min(height, width) < smallest:
        raise ValueError(f"MS-SSIM needs pictures of {smallest} x {smallest} or more, not {height} x {width}")
    pred, target = _unit(pred), _unit(target)
    product = 1.0
    for scale, weight in enumerate(_MS_WEIGHTS):
        luminance, factor = similarity.ssim_terms(pred, target, 1.0)
        if scale == len(_MS_WEIGHTS) - 1:
            factor = luminance * factor
        product *= jnp.maximum(factor.mean(axis=(-3, -2)), 0) ** weight
        pred, target = _halve(pred), _halve(target)
    found = product.mean(-1)
    return jnp.cumsum(found, -1) / jnp.arange(1, found.shape[-1] + 1)


def _halve(x):
    """Means of 2 x 2 pixels; an odd last row or column is left out."""
    height, width = x.shape[-3] // 2, x.shape[-2] // 2
    x = x[..., : 2 * height, : 2 * width, :]
    return x.reshape(*x.shape[:-3], height, 2, width, 2, x.shape[-1]).mean(axis=(-4, -2))
