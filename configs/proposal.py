"""The few numbers of a proposal, a forecast without a network: how far to trust which of its sources.

python -m vidpred_jax.train --config=configs/proposal.py:scene        # or :flow_blend
python -m vidpred_jax.train --config=configs/fusion.py --config.proposals="('scene',)"

scene       tracked objects over a background mosaic, 14 numbers; 64 x 64, a minute on 2 cores
flow_blend  observed frames moved along their optical flow, weighted by backtests, 148 numbers; 64 x 64
davis       flow_blend on the real clips of that data set at 128 x 128: a quarter of an hour on 2 cores
smoke       scene in seconds, for tests; smoke_blend the same of flow_blend
"""

from ml_collections import ConfigDict

from vidpred_jax import presets

PRESETS = ("scene", "flow_blend", "davis", "smoke", "smoke_blend")


def get_config(preset: str = "scene") -> ConfigDict:
    preset = presets.choose(preset, PRESETS)
    network = "scene" if preset in ("scene", "smoke") else "flow_blend"
    config = presets.base("proposal", network)
    config.batch_size = 2  # Clips over all devices; each gives `targets_per_clip` frames.
    config.step_sampling_power = 0.5  # How much more often near steps are drawn than far ones.
    config.model = {}
    if network == "scene":
        config.update(num_steps=400, targets_per_clip=6)
        config.loss = dict(l1=10.0, ssim=1.0, trajectory=1.0)
        config.optimizer.update(learning_rate=6e-3, warmup_steps=20)
        config.evaluation.every = 400
    else:
        config.update(num_steps=1000, targets_per_clip=6, save_every=500)
        config.data.min_future_frames = 12  # Shorter clips are used up to their end.
        config.data.augmentation.update(crop=0.67, speeds=(1, 1, 1, 2))
        config.model = dict(flow_levels=4)
        config.loss = dict(l1=0.0, psnr=1.0, ssim=1.5)
        config.optimizer.update(learning_rate=2e-3, warmup_steps=30, b2=0.99)
        config.evaluation.update(every=500, stride=0)
    if preset.startswith("smoke"):
        presets.smoke(config)
        config.targets_per_clip = 2
        config.data.augmentation.update(crop=1.0, speeds=(1,))
        if network == "flow_blend":
            config.model.flow_levels = 3
    elif preset == "davis":
        config.data.update(name="davis", height=128, width=128)
        config.model.flow_levels = 5
        config.evaluation.update(clips=7, stride=8)
    return config
