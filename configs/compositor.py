"""Stage 2 as compositing: frames blended from observed ones, moved on and blurred, for clips of any kind.

python -m vidpred_jax.train --config=configs/compositor.py[:preset]
python scripts/rollout.py --translator=runs/compositor

Presets: `cpu` (the default without an accelerator), `full` (the default with one), `davis` (the real
clips of that data set at 128 x 128, on 2 CPU cores), `smoke` (seconds). Without a discriminator: PSNR
and SSIM themselves are the loss.
"""

from ml_collections import ConfigDict

from vidpred_jax import processes

PRESETS = ("smoke", "cpu", "davis", "full")


def get_config(preset: str = "") -> ConfigDict:
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    config = ConfigDict()
    config.stage = "translator"
    config.network = "compositor"
    config.seed = 0
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.num_steps = 900
    config.targets_per_clip = 3
    config.step_sampling_power = 0.5  # How much more often near steps are drawn than far ones.
    # With model.fusion the share of clips that see the stage-1 run's own rollout; "" is the newest run.
    config.predicted_fraction = 0.0
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
            flip=True,
            flip_vertical=True,
            transpose=True,
            reverse=True,
            crop=1.0,
            speeds=(1,),
        ),
    )
    config.model = dict(
        widths=(24, 48, 72, 96),
        norm="group",
        reference_frames=16,
        flow_levels=4,
        head_features=16,
        fusion=False,  # Of the predicted picture; the observed ones are always seen.
        appearance=False,
    )
    config.loss = dict(l1=0.0, psnr=1.0, ssim=1.5, adversarial=0.0, gan="bce")
    config.discriminator = dict(widths=(16, 32, 64), last_width=64, norm="group")
    config.optimizer = dict(
        learning_rate=2e-3,
        warmup_steps=30,
        schedule="cosine",
        b1=0.9,
        b2=0.99,
        accumulate=1,
        clip=1.0,
    )
    config.evaluation = dict(every=450, clips=16, horizon=32, stride=0)
    if preset == "smoke":
        config.update(batch_size=4, num_steps=4, log_every=2, save_every=2, targets_per_clip=2)
        config.data.update(config="tiny", height=32, width=32)
        config.model.update(widths=(8, 8), flow_levels=3, head_features=4)
        config.evaluation.update(every=4, clips=2)
    elif preset == "davis":  # The package's weights: a quarter of an hour on 2 CPU cores.
        config.update(targets_per_clip=6, num_steps=1000, save_every=500)
        config.data.update(name="davis", height=128, width=128, min_frames=28)
        config.data.augmentation.update(crop=0.67, speeds=(1, 1, 1, 2))
        config.model.update(widths=(), flow_levels=5)
        config.evaluation.update(every=500, clips=7, stride=8)
    elif preset == "full":
        config.precision = "bfloat16"
        config.update(batch_size=32, num_steps=100_000, log_every=100, save_every=2000)
        config.data.update(height=128, width=128, min_frames=28)
        config.data.augmentation.update(crop=0.67, speeds=(1, 1, 1, 2))
        config.model.update(widths=(32, 64, 128, 256), flow_levels=5, head_features=32)
        config.optimizer.update(learning_rate=1e-3, warmup_steps=1000)
        config.evaluation.update(every=5000, clips=64)
    elif preset != "cpu":
        raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
    return config
