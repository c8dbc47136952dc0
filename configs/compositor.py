"""Stage 2 as compositing: frames blended from observed ones, moved on and blurred, for clips of any kind.

python -m vidpred_jax.train --config=configs/compositor.py[:preset]
python scripts/rollout.py --translator=runs/compositor

Without a discriminator: PSNR and SSIM themselves are the loss.

cpu    64 x 64; the default without an accelerator: 900 steps, minutes on 2 cores
davis  the real clips of that data set at 128 x 128: the package's weights, a quarter of an hour on 2 cores
full   128 x 128; the default with an accelerator
smoke  seconds, for tests
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "davis", "full")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("translator", "compositor")
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.num_steps = 900
    config.targets_per_clip = 3
    config.step_sampling_power = 0.5  # How much more often near steps are drawn than far ones.
    # With model.fusion the share of clips that see the stage-1 run's own rollout; "" is the newest run.
    config.predicted_fraction = 0.0
    config.fusion_run = ""
    config.data.min_future_frames = 32  # Shorter clips are used up to their end.
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
    config.optimizer.update(learning_rate=2e-3, warmup_steps=30, b2=0.99)
    config.evaluation.stride = 0
    if preset == "smoke":
        presets.smoke(config)
        config.targets_per_clip = 2
        config.model.update(widths=(8, 8), flow_levels=3, head_features=4)
    elif preset == "davis":
        config.update(targets_per_clip=6, num_steps=1000, save_every=500)
        config.data.update(name="davis", height=128, width=128)
        config.model.update(widths=(), flow_levels=5)
        config.evaluation.update(every=500, clips=7, stride=8)
    elif preset == "full":
        presets.full(config)
        config.model.update(widths=(32, 64, 128, 256), flow_levels=5, head_features=32)
        config.optimizer.update(learning_rate=1e-3, warmup_steps=1000)
    if preset in ("davis", "full"):
        config.data.min_future_frames = 12
        config.data.augmentation.update(crop=0.67, speeds=(1, 1, 1, 2))
    return config
