"""A baseline: SimVP-style direct prediction, RGB frames in, RGB frames out, without stages.

python -m vidpred_jax.train --config=configs/simvp.py[:preset]
python scripts/evaluate.py --runs=simvp=runs/simvp

cpu    64 x 64; the default without an accelerator: 1,800 steps, a quarter of an hour on 2 cores
full   128 x 128; the default with one
smoke  seconds, for tests
moving_mnist  10 -> 10, after scripts/prepare.py --moving_mnist: 80 minutes of a core, test MSE 93.7
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "full", "moving_mnist")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("direct", "simvp")
    config.num_steps = 1800
    config.max_unroll = 1  # The second block of 16 is predicted from the first, as at prediction.
    config.model = dict(width=16, strides=(1, 2, 1, 2), hidden=192, blocks=4, norm="group")
    # Its original loss is the mean squared error alone, of which `psnr` is the logarithm.
    config.loss = dict(l1=0.0, psnr=1.0, ssim=0.0, adversarial=0.0, gan="bce")
    config.discriminator = dict(widths=(32, 64, 128), last_width=256, norm="group")
    config.evaluation.update(every=900, stride=0)
    if preset == "smoke":
        presets.smoke(config)
        config.model.update(width=8, strides=(1, 2), hidden=16, blocks=1)
    elif preset == "full":
        presets.full(config)
        config.batch_size = 64
        config.model.update(width=64, hidden=512, blocks=8)
        config.optimizer.warmup_steps = 1000
    elif preset == "moving_mnist":
        presets.moving_mnist(config)
        config.update(max_unroll=0, num_steps=27_500)
        config.model.update(hidden=128)
        config.loss.update(psnr=0.0, mse=1.0)
        config.optimizer.learning_rate = 1e-3
    return config
