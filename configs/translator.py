"""Stage 2: a map -> its RGB frame, by a conditional GAN.

python -m vidpred_jax.train --config=configs/translator.py[:preset]

It trains on the rollout of the newest stage-1 run beside it, or of --config.fusion_run. With
--config.proposals="('scene',)" it adds to what the newest run of that proposal forecasts.

cpu    64 x 64; the default without an accelerator: 600 steps, three to four minutes on 2 cores
full   128 x 128; the default with one
paper  256 x 256: true fusion pictures, no reference frames
sprites  64 x 64 without proposals, told how things move: 8 minutes of a core; docs/experiments.md
smoke  seconds, for tests
real  128 x 128, over the proposal flow_blend at clarity 1, without stage 1: 45 minutes of a core, and no
    better than the proposal mixed with its mean; docs/experiments.md
moving_mnist  10 -> 10, on its stage 1: 6 minutes of a core, test MSE 75.0; docs/moving_mnist.md
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("smoke", "cpu", "full", "paper", "moving_mnist", "sprites", "real")


def get_config(preset: str = "") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    config = presets.base("translator")
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.num_steps = 600
    presets.add_proposals(config)
    config.targets_per_clip = 6
    # The share of clips translated from the stage-1 run's own rollout; "" is the newest such run.
    config.predicted_fraction = 0.9
    config.fusion_run = ""
    config.model = dict(
        widths=(32, 64, 96, 128),
        dropout=0.0,
        norm="group",
        reference_frames=2,
        head_features=16,
        regions=False,
    )
    config.loss = dict(l1=10.0, mse=0.0, psnr=0.0, ssim=1.0, perceptual=0.0)
    config.loss.update(adversarial=0.05, matching=0.0, gan="bce")
    config.discriminator = dict(widths=(16, 32, 64), last_width=64, norm="group")
    config.optimizer.update(clip=0.0, discriminator_rate=0.0)  # 0: the generator's.
    config.evaluation.every = 300
    if preset == "smoke":
        presets.smoke(config)
        config.update(targets_per_clip=2, predicted_fraction=0.0)
        config.model.update(widths=(8, 8))
        config.loss.update(matching=1.0, gan="hinge")
        config.discriminator.update(widths=(8, 8), last_width=8, norm="spectral")
    elif preset == "sprites":
        config.update(num_steps=2000, log_every=100)
        config.model.update(reference_frames=16, regions=True)
        config.loss.adversarial = 0.03  # At .05 it takes over half of the gradient.
        config.optimizer.update(kind="muon", learning_rate=5e-3)
        config.evaluation.update(every=500, clips=64)
    elif preset == "real":
        config.update(num_steps=1200, fusion_run="none", predicted_fraction=1.0, log_every=100)
        config.update(proposals=("flow_blend",), proposal_clarity=1.0, proposal_dropout=0.0)
        config.step_sampling_power = 0.5
        config.data.update(name="real", height=128, width=128, min_future_frames=12)
        config.data.augmentation.update(flip_vertical=False, transpose=False, crop=0.67, speeds=(1, 1, 1, 2))
        config.loss.update(l1=3.0, ssim=0.5, perceptual=8.0, adversarial=0.0)
        config.optimizer.update(kind="muon", learning_rate=5e-3, warmup_steps=100)
        config.evaluation.update(every=700, clips=12)
    elif preset == "full":
        presets.full(config)
        config.model.update(widths=(64, 128, 256, 512, 512), norm="batch")
        # At 64 x 64 such a discriminator learns; untried at this size.
        config.loss.update(adversarial=0.3, matching=10.0, gan="hinge")
        config.discriminator.update(widths=(32, 64, 128), last_width=256, norm="spectral")
        config.optimizer.learning_rate = 2e-4
    elif preset == "paper":
        presets.paper(config)
        config.update(maps="picture", predicted_fraction=0.0, targets_per_clip=2)
        config.model.update(widths=(64, 128, 256, 512, 512), dropout=0.5, norm="batch")
        config.model.update(reference_frames=0, head_features=0)
        config.loss.adversarial = 1.0
        config.discriminator.update(widths=(32, 64, 128), last_width=256, norm="batch")
        config.optimizer.schedule = "constant"
    elif preset == "moving_mnist":
        presets.moving_mnist(config)
        config.update(batch_size=4, num_steps=2000, targets_per_clip=10, predicted_fraction=1.0)
        config.model.update(widths=(16, 32, 64), head_features=8)
        # The mean of what may come is grey: no discriminator.
        config.loss.update(l1=0.0, ssim=0.0, mse=1.0, adversarial=0.0, matching=0.0)
        config.optimizer.update(learning_rate=1.5e-3, warmup_steps=200)
        config.evaluation.every = 500
    return config
