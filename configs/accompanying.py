"""Stage 3: the accompanying convolution, which sharpens the translator's frames.

python -m vidpred_jax.train --config=configs/accompanying.py[:preset]

It trains on the newest runs of both other stages beside it, or on --config.fusion_run and
--config.translator_run. Only the words of the paper are published: scales, widths and switches are
ours, chosen on validation clips.

cpu    64 x 64; the default without an accelerator: 800 steps, minutes on 2 cores
full   128 x 128; the default with one
paper  256 x 256
smoke  seconds, for tests
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "full", "paper")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("accompanying")
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    # The reference is trained first, then the pair. The whole of it alone was best on validation.
    config.reference_steps = 800
    config.num_steps = 800
    config.save_every = 400
    config.targets_per_clip = 8
    # The share of clips whose fusion pictures are stage 1's own; "" are the newest such runs.
    config.predicted_fraction = 0.9
    config.fusion_run = ""
    config.translator_run = ""
    config.ema_decay = 0.99
    config.model = dict(scales=(4, 2, 1), widths=(64, 32, 24), layers=3, kernel=3, patch=2)
    config.loss = dict(l1=10.0, ssim=1.0, sharpness=0.25)
    config.optimizer.update(learning_rate=3e-3, warmup_steps=20)
    config.evaluation.every = 400
    if preset == "smoke":
        presets.smoke(config)
        config.update(reference_steps=2, targets_per_clip=2)
        config.model.update(scales=(2, 1), widths=(8, 8))
    elif preset == "full":
        presets.full(config)
        config.update(num_steps=20_000, reference_steps=20_000)
        config.model.widths = (64, 48, 48)
        config.optimizer.update(learning_rate=1e-3, warmup_steps=200)
        config.evaluation.every = 2000
    elif preset == "paper":
        presets.paper(config)
        config.update(num_steps=40_000, reference_steps=20_000, targets_per_clip=2)
    return config
