"""Stage 2: a fusion picture -> its RGB frame, by a conditional GAN.

python -m vidpred_jax.train --config=configs/translator.py[:preset]

Presets: `cpu` (the default without an accelerator: 64 x 64, minutes on 2 cores), `full` (the
default with one), `paper` (256 x 256, no reference frames), `smoke` (seconds).
"""

from ml_collections import ConfigDict

from vidpred_jax import processes

PRESETS = ("smoke", "cpu", "full", "paper")


def get_config(preset: str = "") -> ConfigDict:
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    config = ConfigDict()
    config.stage = "translator"
    config.seed = 0
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.num_steps = 600
    config.targets_per_clip = 6
    # The share of clips translated from the stage-1 run's own rollout; "" is the newest such run.
    config.predicted_fraction = 0.9
    config.fusion_run = ""
    config.ema_decay = 0.995
    config.skip_nonfinite = 0  # Up to so many steps whose loss is not finite change nothing.
    config.precision = "float32"  # Or tf32 (GPU), bfloat16 (parameters and losses stay float32).
    config.convolutions = "fast"  # Or native: XLA's own, to compare with.
    config.log_every = 50
    config.save_every = 1000
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
    config.model = dict(
        widths=(32, 64, 96, 128),
        dropout=0.0,
        norm="group",
        reference_frames=16,
        seen_frames=2,
        num_flows=3,
        flow_levels=3,
        label_colors=4,
        scene=True,
        head_features=16,
    )
    config.loss = dict(l1=10.0, ssim=1.0, adversarial=0.05, gan="bce")
    config.discriminator = dict(widths=(16, 32, 64), last_width=64, norm="group")
    config.optimizer = dict(
        learning_rate=1e-3,
        warmup_steps=50,
        schedule="cosine",
        b1=0.9,
        b2=0.999,
        accumulate=1,
        clip=0.0,
    )
    config.evaluation = dict(every=300, clips=16, horizon=32)
    if preset == "smoke":
        config.update(
            num_steps=4, log_every=2, save_every=2, targets_per_clip=2, predicted_fraction=0.0
        )
        config.update(batch_size=4)
        config.data.update(config="tiny", height=32, width=32)
        config.model.update(widths=(8, 8), num_flows=1, flow_levels=2)
        config.discriminator.update(widths=(8, 8), last_width=8)
        config.evaluation.update(every=4, clips=2)
    elif preset == "full":
        config.precision = "bfloat16"
        config.update(batch_size=32, num_steps=100_000, log_every=100, save_every=2000)
        config.data.update(height=128, width=128)
        config.model.update(widths=(64, 128, 256, 512, 512), norm="batch", flow_levels=4)
        config.loss.update(adversarial=1.0)
        config.discriminator.update(widths=(32, 64, 128), last_width=256, norm="batch")
        config.optimizer.update(learning_rate=2e-4)
        config.evaluation.update(every=5000, clips=64)
    elif preset == "paper":
        config.precision = "tf32"
        config.update(batch_size=8, num_steps=200_000, log_every=100, save_every=2000)
        config.update(predicted_fraction=0.0, targets_per_clip=2)
        config.data.update(height=256, width=256)
        config.data.augmentation.update(flip_vertical=False, transpose=False, reverse=False)
        config.model.update(
            widths=(64, 128, 256, 512, 512),
            dropout=0.5,
            norm="batch",
            reference_frames=0,
            seen_frames=0,
            num_flows=0,
            flow_levels=0,
            head_features=0,
            label_colors=0,
            scene=False,
        )
        config.loss.update(adversarial=1.0)
        config.discriminator.update(widths=(32, 64, 128), last_width=256, norm="batch")
        config.optimizer.update(learning_rate=2e-4, b1=0.5, warmup_steps=0, schedule="constant")
        config.evaluation.update(every=5000, clips=16)
    elif preset != "cpu":
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return config
