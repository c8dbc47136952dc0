"""Stage 3: the accompanying convolution, which sharpens the translator's frames.

python -m vidpred_jax.train --config=configs/accompanying.py[:preset]

Presets: `cpu` (the default without an accelerator: 64 x 64, minutes on 2 cores), `full` (the
default with one), `paper` (256 x 256), `smoke` (seconds). Only the words of the paper are published:
scales, widths and switches are ours, chosen on validation clips.
"""

from ml_collections import ConfigDict

from vidpred_jax import processes

PRESETS = ("smoke", "cpu", "full", "paper")


def get_config(preset: str = "") -> ConfigDict:
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    config = ConfigDict()
    config.stage = "accompanying"
    config.seed = 0
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    # The reference is trained first, then the pair. The whole of it alone was best on validation.
    config.reference_steps = 800
    config.num_steps = 800
    config.targets_per_clip = 8
    # The share of clips whose fusion pictures are stage 1's own; "" are the newest such runs.
    config.predicted_fraction = 0.9
    config.fusion_run = ""
    config.translator_run = ""
    config.ema_decay = 0.99
    config.skip_nonfinite = 0  # Up to so many steps whose loss is not finite change nothing.
    config.precision = "float32"  # Or tf32 (GPU), bfloat16 (parameters and losses stay float32).
    config.convolutions = "fast"  # Or native: XLA's own, to compare with.
    config.log_every = 50
    config.save_every = 400
    config.data = dict(
        name="sprites",
        data_dir="data",
        config="",
        split="train",
        height=64,
        width=64,
        num_frames=48,
        cache_bytes=2 << 30,
        augmentation=dict(
            flip=True, flip_vertical=True, transpose=True, reverse=True, crop=1.0, speeds=(1,)
        ),
    )
    config.model = dict(scales=(4, 2, 1), widths=(64, 32, 24), layers=3, kernel=3, patch=2)
    config.selection = dict(optimisation="weighted", from_reference=True)
    config.loss = dict(l1=10.0, ssim=1.0, sharpness=0.25)
    config.optimizer = dict(
        learning_rate=3e-3,
        warmup_steps=20,
        schedule="cosine",
        b1=0.9,
        b2=0.999,
        accumulate=1,
        clip=1.0,
    )
    config.evaluation = dict(every=400, clips=16, horizon=32)
    if preset == "smoke":
        config.update(batch_size=4, num_steps=4, reference_steps=2, log_every=2, save_every=2)
        config.update(targets_per_clip=2)
        config.data.update(config="tiny", height=32, width=32)
        config.model.update(scales=(2, 1), widths=(8, 8))
        config.evaluation.update(every=4, clips=2)
    elif preset == "full":
        config.precision = "bfloat16"
        config.update(batch_size=32, num_steps=20_000, reference_steps=20_000, log_every=100)
        config.update(save_every=2000)
        config.data.update(height=128, width=128)
        config.model.update(widths=(64, 48, 48))
        config.optimizer.update(learning_rate=1e-3, warmup_steps=200)
        config.evaluation.update(every=2000, clips=64)
    elif preset == "paper":
        config.precision = "tf32"
        config.update(batch_size=8, num_steps=40_000, reference_steps=20_000, log_every=100)
        config.update(save_every=2000, targets_per_clip=2)
        config.data.update(height=256, width=256)
        config.data.augmentation.update(flip_vertical=False, transpose=False, reverse=False)
        config.optimizer.update(learning_rate=2e-4, b1=0.5, warmup_steps=0)
        config.evaluation.update(every=5000, clips=16)
    elif preset != "cpu":
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return config
