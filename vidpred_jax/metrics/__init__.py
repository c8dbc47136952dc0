"""Named metric variants: pure, one value per frame."""

from vidpred_jax.metrics.frames import MAX_PSNR, psnr, ssim

__all__ = ["MAX_PSNR", "psnr", "ssim"]
