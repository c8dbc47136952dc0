"""Stage 1: 16 fusion pictures -> the coming ones.

python -m vidpred_jax.train --config=configs/fusion.py[:preset]

Presets: `cpu` (the default without an accelerator: 64 x 64, minutes on 2 cores), `full` (the
default with one), `paper` (256 x 256, shift 1, painted, all 16 outputs), `smoke` (seconds).
"""

from ml_collections import ConfigDict

from vidpred_jax import processes

PRESETS = ("smoke", "cpu", "full", "paper")


def get_config(preset: str = "") -> ConfigDict:
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    config = ConfigDict()
    config.stage = "fusion"
    config.seed = 0
    config.batch_size = 4  # Over all devices.
    config.num_steps = 900
    # Up to so many steps on its own output before each trained step. With objects carried whole
    # it has not paid (docs/experiments.md); nor has it been tried at the size of `full`, which has it.
    config.max_unroll = 0
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
        num_frames=32,
        cache_bytes=2 << 30,
        augmentation=dict(
            flip=True, flip_vertical=True, transpose=True, reverse=True, crop=1.0, speeds=(1,)
        ),
    )
    config.model = dict(
        widths=(32, 64, 96),
        blocks=1,
        patch=4,
        time_patch=4,
        time_strides=(2, 2),
        shift=8,
        num_flows=1,
        num_labels=4,
        outputs=8,
        norm="group",
        remat=False,  # True: less memory, a fifth more time.
    )
    config.loss = dict(l1=1.0, ssim=0.0, adversarial=0.0, path=0.1, gan="bce")
    config.discriminator = dict(widths=(32, 64, 128), last_width=256, norm="group")
    config.optimizer = dict(
        learning_rate=3e-3,
        warmup_steps=50,
        schedule="cosine",
        b1=0.9,
        b2=0.999,
        accumulate=1,
        clip=1.0,
    )
    # quantize_labels: 0, or the number of labels (background included) predictions are snapped to.
    config.evaluation = dict(every=450, clips=16, horizon=32, quantize_labels=0)
    if preset == "smoke":
        config.update(batch_size=4, num_steps=4, log_every=2, save_every=2, max_unroll=1)
        config.data.update(config="tiny", height=32, width=32)
        config.model.update(widths=(8, 8), time_strides=(2,), num_flows=1, num_labels=4)
        config.evaluation.update(every=4, clips=2)
    elif preset == "full":
        config.precision = "bfloat16"
        config.update(
            batch_size=64, num_steps=100_000, log_every=100, save_every=2000, max_unroll=2
        )
        config.data.update(height=128, width=128, num_frames=40)
        config.model.update(
            widths=(64, 128, 256, 256),
            time_strides=(2, 2, 1),
            blocks=2,
            num_flows=3,
        )
        config.loss.update(ssim=0.1)
        config.optimizer.update(learning_rate=1e-3, warmup_steps=1000)
        config.evaluation.update(every=5000, clips=64)
    elif preset == "paper":
        config.precision = "tf32"
        config.update(batch_size=8, num_steps=200_000, log_every=100, save_every=2000)
        config.data.update(height=256, width=256, num_frames=17)
        config.data.augmentation.update(flip_vertical=False, transpose=False, reverse=False)
        config.model.update(
            widths=(32, 64, 128, 256),
            patch=1,
            time_patch=1,
            time_strides=(2, 2, 2),
            shift=1,
            num_flows=0,
            num_labels=0,
            outputs=16,
        )
        config.loss.update(ssim=0.1)
        config.optimizer.update(learning_rate=2e-4, b1=0.5, warmup_steps=0)
        config.evaluation.update(every=5000, clips=16)
    elif preset != "cpu":
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return config
