"""A baseline: the 3-D U-Net of stage 1 on RGB frames, without maps and stages.

python -m vidpred_jax.train --config=configs/direct.py[:preset]
python scripts/evaluate.py --runs=direct=runs/unet3d

cpu    64 x 64; the default without an accelerator: 900 steps
full   128 x 128; the default with one
smoke  seconds, for tests
moving_mnist  10 -> 10, after scripts/prepare.py --moving_mnist: 76 minutes of a core, test MSE 67.9
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "full", "moving_mnist")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("direct", "unet3d")
    config.num_steps = 900
    config.max_unroll = 0
    config.data.future_frames = 16
    config.model = dict(presets.UNET3D)
    config.loss = dict(l1=0.0, mse=1.0, psnr=0.0, ssim=0.0, adversarial=0.0, gan="bce")
    config.discriminator = dict(widths=(32, 64, 128), last_width=256, norm="group")
    config.optimizer.learning_rate = 3e-3
    if preset == "smoke":
        presets.smoke(config)
        config.model.update(widths=(8, 8), time_strides=(2,))
    elif preset == "full":
        presets.full(config)
        config.batch_size = 64
        config.model.update(presets.UNET3D_FULL)
        config.optimizer.update(learning_rate=1e-3, warmup_steps=1000)
    elif preset == "moving_mnist":
        presets.moving_mnist(config)
        config.num_steps = 40_000
        presets.at_once(config)
    return config
