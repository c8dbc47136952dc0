"""A baseline: SimVP-style direct prediction, RGB frames in, RGB frames out, without stages.

python -m vidpred_jax.train --config=configs/simvp.py[:preset]
python scripts/evaluate.py --runs=simvp=runs/simvp

Presets: `cpu` (the default without an accelerator), `full` (the default with one), `smoke` (seconds).
"""

from ml_collections import ConfigDict

from vidpred_jax import processes

PRESETS = ("smoke", "cpu", "full")


def get_config(preset: str = "") -> ConfigDict:
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    config = ConfigDict()
    config.stage = "direct"
    config.network = "simvp"
    config.seed = 0
    config.batch_size = 4  # Over all devices.
    config.num_steps = 1800
    config.max_unroll = 1  # The second block of 16 is predicted from the first, as at prediction.
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
        cache_bytes=2 << 30,
        augmentation=dict(
            flip=True, flip_vertical=True, transpose=True, reverse=True, crop=1.0, speeds=(1,)
        ),
    )
    config.model = dict(width=16, strides=(1, 2, 1, 2), hidden=192, blocks=4, norm="group")
    # Its original loss is the mean squared error alone, of which `psnr` is the logarithm.
    config.loss = dict(l1=0.0, psnr=1.0, ssim=0.0, adversarial=0.0, gan="bce")
    config.discriminator = dict(widths=(32, 64, 128), last_width=256, norm="group")
    config.optimizer = dict(
        learning_rate=1e-3,
        warmup_steps=50,
        schedule="cosine",
        b1=0.9,
        b2=0.999,
        accumulate=1,
        clip=1.0,
    )
    config.evaluation = dict(every=900, clips=16, horizon=32, stride=0)
    if preset == "smoke":
        config.update(num_steps=4, log_every=2, save_every=2)
        config.data.update(config="tiny", height=32, width=32)
        config.model.update(width=8, strides=(1, 2), hidden=16, blocks=1)
        config.evaluation.update(every=4, clips=2)
    elif preset == "full":
        config.precision = "bfloat16"
        config.update(batch_size=64, num_steps=100_000, log_every=100, save_every=2000)
        config.data.update(height=128, width=128)
        config.model.update(width=64, hidden=512, blocks=8)
        config.optimizer.update(warmup_steps=1000)
        config.evaluation.update(every=5000, clips=64)
    elif preset != "cpu":
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return config
