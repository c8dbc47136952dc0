"""Named metric variants: pure, one value per frame (FVD: one per set of videos)."""

# ruff: noqa: F401  (what users import from here)
from vidpred_jax.metrics.frames import (
    MAX_PSNR,
    mae_openstl,
    ms_ssim_running,
    mse_openstl,
    psnr,
    ssim,
    ssim_openstl,
    ssim_paper,
)
from vidpred_jax.metrics.perceptual import MIN_I3D_FRAMES, frechet_distance, fvd, i3d_logits, lpips
from vidpred_jax.metrics.perceptual import available as perceptual_available
from vidpred_jax.metrics.sharpness import gradient_ratio
from vidpred_jax.metrics.structure import edge_f1, miou
from vidpred_jax.metrics.temporal import true_flow, warp_error
