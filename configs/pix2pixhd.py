"""The paper's baseline: pix2pixHD in the translator's place.

python -m vidpred_jax.train --config=configs/pix2pixhd.py[:preset]
python scripts/evaluate.py --runs=pix2pixhd=runs/fusion,runs/pix2pixhd

Presets: `cpu` (the default without an accelerator), `full` (the default with one: the sizes of Wang et
al. 2018), `smoke` (seconds). Their losses: least squares, feature matching times 10; no L1.
"""

from ml_collections import ConfigDict

from vidpred_jax import processes

PRESETS = ("smoke", "cpu", "full")


def get_config(preset: str = "") -> ConfigDict:
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    config = ConfigDict()
    config.stage = "translator"
    config.network = "pix2pixhd"
    config.seed = 0
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.num_steps = 900
    config.targets_per_clip = 3
    config.step_sampling_power = 0.0
    config.predicted_fraction = 0.0  # Trained on true pairs, as by its authors.
    config.fusion_run = ""
    config.ema_decay = 0.995
    config.skip_nonfinite = 0
    config.precision = "float32"
    config.convolutions = "fast"
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
        min_frames=48,  # Shorter clips are used up to their end.
        cache_bytes=2 << 30,
        augmentation=dict(
            flip=True, flip_vertical=True, transpose=True, reverse=True, crop=1.0, speeds=(1,)
        ),
    )
    # reference_frames: 0 is the original; with some it can know the colours of an unknown scene.
    config.model = dict(width=16, levels=3, blocks=4, norm="instance", reference_frames=0)
    config.loss = dict(l1=0.0, psnr=0.0, ssim=0.0, adversarial=1.0, matching=10.0, gan="lsgan")
    config.discriminator = dict(scales=2, widths=(16, 32, 64), last_width=128, norm="instance")
    config.optimizer = dict(
        learning_rate=2e-4,
        warmup_steps=0,
        schedule="constant",
        b1=0.5,
        b2=0.999,
        accumulate=1,
        clip=0.0,
    )
    config.evaluation = dict(every=450, clips=16, horizon=32, stride=0)
    if preset == "smoke":
        config.update(batch_size=4, num_steps=4, log_every=2, save_every=2, targets_per_clip=2)
        config.data.update(config="tiny", height=32, width=32)
        config.model.update(width=8, levels=2, blocks=1)
        config.discriminator.update(widths=(8, 8), last_width=8)
        config.evaluation.update(every=4, clips=2)
    elif preset == "full":
        config.precision = "bfloat16"
        config.update(batch_size=32, num_steps=100_000, log_every=100, save_every=2000)
        config.data.update(height=128, width=128)
        config.model.update(width=64, levels=4, blocks=9)
        config.discriminator.update(scales=3, widths=(64, 128, 256), last_width=512)
        config.evaluation.update(every=5000, clips=64)
    elif preset != "cpu":
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return config
