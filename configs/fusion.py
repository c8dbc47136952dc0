"""Stage 1: 16 maps -> the coming ones.

python -m vidpred_jax.train --config=configs/fusion.py[:preset]

With --config.proposals="('scene',)" it adds to what the newest run of that proposal forecasts.

cpu    64 x 64; the default without an accelerator: 900 steps, a minute and a half on 2 cores
moving_mnist  10 -> 10, after scripts/prepare.py --moving_mnist: 75 minutes of a core; docs/moving_mnist.md
full   128 x 128; the default with one
paper  256 x 256: fusion pictures, one new one a call, all 16 outputs painted
sprites  64 x 64 without proposals, all 16 maps at once: 40 minutes of a core; docs/experiments.md
smoke  seconds, for tests
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "full", "paper", "moving_mnist", "sprites")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("fusion")
    config.num_steps = 900
    presets.add_proposals(config)
    # Up to so many steps on its own output before each trained step; untried at the size of `full`.
    config.max_unroll = 0
    config.data.future_frames = 16
    config.model = dict(presets.UNET3D)
    # Of planes edges and labels count, of pictures l1 and ssim.
    config.loss = dict(l1=1.0, ssim=0.0, edges=1.0, labels=1.0, adversarial=0.0, gan="bce")
    config.discriminator = dict(widths=(32, 64, 128), last_width=256, norm="group")
    config.optimizer.learning_rate = 3e-3
    if preset == "smoke":
        presets.smoke(config)
        config.max_unroll = 1
        config.model.update(widths=(8, 8), time_strides=(2,))
    elif preset == "moving_mnist":
        presets.moving_mnist(config)
        config.num_steps = 21_400
        presets.at_once(config)
        config.loss.edges = 0.5
    elif preset == "sprites":
        presets.at_once(config)
        config.update(num_steps=12_000, max_unroll=1, log_every=200)
        config.data.future_frames = 32
        config.evaluation.update(every=2000, clips=64)
    elif preset == "full":
        presets.full(config)
        config.update(batch_size=64, max_unroll=2)
        config.data.future_frames = 24
        config.model.update(presets.UNET3D_FULL)
        config.optimizer.update(learning_rate=1e-3, warmup_steps=1000)
    elif preset == "paper":
        presets.paper(config)
        config.maps = "picture"
        config.data.future_frames = 1
        config.model.update(
            widths=(32, 64, 128, 256), patch=1, time_patch=1, time_strides=(2, 2, 2), shift=1, outputs=16
        )
        config.loss.ssim = 0.1
    return config
