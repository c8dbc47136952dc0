"""The paper's baseline: pix2pixHD in the translator's place.

python -m vidpred_jax.train --config=configs/pix2pixhd.py[:preset]
python scripts/evaluate.py --runs=pix2pixhd=runs/fusion,runs/pix2pixhd

Its authors' losses: least squares, feature matching times 10; no L1.

cpu    64 x 64; the default without an accelerator: 900 steps, three minutes on 2 cores
full   128 x 128, the widths of Wang et al. 2018; the default with an accelerator
smoke  seconds, for tests
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "full")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("translator", "pix2pixhd")
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.num_steps = 900
    config.targets_per_clip = 3
    config.step_sampling_power = 0.0
    config.predicted_fraction = 0.0  # Trained on true pairs, as by its authors.
    config.fusion_run = ""
    config.data.min_future_frames = 32  # Shorter clips are used up to their end.
    presets.add_proposals(config)
    # reference_frames: 0 is the original; with some it can know the colours of an unknown scene.
    config.model = dict(width=16, levels=3, blocks=4, norm="instance", reference_frames=0)
    config.loss = dict(l1=0.0, psnr=0.0, ssim=0.0, adversarial=1.0, matching=10.0, gan="lsgan")
    config.discriminator = dict(scales=2, widths=(16, 32, 64), last_width=128, norm="instance")
    config.optimizer.update(learning_rate=2e-4, warmup_steps=0, schedule="constant", b1=0.5, clip=0.0)
    config.evaluation.stride = 0
    if preset == "smoke":
        presets.smoke(config)
        config.targets_per_clip = 2
        config.model.update(width=8, levels=2, blocks=1)
        config.discriminator.update(widths=(8, 8), last_width=8)
    elif preset == "full":
        presets.full(config)
        config.model.update(width=64, levels=4, blocks=9)
        config.discriminator.update(scales=3, widths=(64, 128, 256), last_width=512)
    return config
