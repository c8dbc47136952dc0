"""What the presets of `configs/` share; each file there sets what is its own."""

from ml_collections import ConfigDict

from vidpred_jax import processes
from vidpred_jax.types import CONTEXT


def choose(preset: str, known: tuple[str, ...]) -> str:
    """The preset by its name; '' is `full` with an accelerator, else `cpu`. Raises ValueError."""
    preset = preset or ("full" if processes.has_accelerator() else "cpu")
    if preset not in known:
        raise ValueError(f"preset {preset!r} is not one of {', '.join(known)}")
    return preset


def base(stage: str, network: str | None = None) -> ConfigDict:
    """The embedded data at 64 x 64, for two CPU cores; without `model` and `loss`."""
    config = ConfigDict()
    config.stage = stage
    if network:
        config.network = network
    config.seed = 0
    config.batch_size = 4  # Over all devices.
    config.ema_decay = 0.995
    config.skip_nonfinite = 0  # Up to so many steps whose loss is not finite change nothing.
    config.precision = "float32"  # Or tf32 (GPU), bfloat16 (parameters and losses stay float32).
    config.convolutions = "fast"  # Or native: XLA's own, to compare with.
    config.log_every = 50
    config.save_every = 1000
    config.context = CONTEXT
    config.maps = "planes"  # Or picture, the paper's.
    config.data = dict(
        name="sprites",
        data_dir="data",
        config="",
        split="train",
        height=64,
        width=64,
        future_frames=32,
        cache_bytes=2 << 30,
        augmentation=dict(flip=True, flip_vertical=True, transpose=True, reverse=True, crop=1.0, speeds=(1,)),
    )
    config.optimizer = dict(
        kind="adam",  # Or muon.
        learning_rate=1e-3,
        warmup_steps=50,
        schedule="cosine",
        b1=0.9,
        b2=0.999,
        accumulate=1,  # Steps whose gradients are averaged for one update.
        clip=1.0,
    )
    config.evaluation = dict(every=450, clips=16, horizon=32)
    return config


def add_proposals(config: ConfigDict) -> None:
    """The fields of a network that may add to proposals; none by default."""
    config.proposals = ()
    config.proposal_runs = ()  # One for each; () for the newest.
    config.proposal_clarity = 0.0  # At which they forecast, where they have a choice.
    config.proposal_dropout = 0.3  # Of clips in training, which are shown none.


def smoke(config: ConfigDict) -> None:
    """A base made to train in seconds."""
    config.update(batch_size=4, num_steps=4, log_every=2, save_every=2)
    config.data.update(config="tiny", height=32, width=32)
    config.evaluation.update(every=4, clips=2)


# Of FusionPredictor: for two cores, for a GPU, and what learns most in hours of two cores (`at_once`).
UNET3D = dict(widths=(32, 64, 96), blocks=1, patch=4, time_patch=4, time_strides=(2, 2), shift=8, outputs=8)
UNET3D.update(block="conv", frame_features=0, remat=False)  # remat: less memory, a fifth more time.
UNET3D_FULL = dict(widths=(64, 128, 256, 256), time_strides=(2, 2, 1), blocks=2)
GATED = dict(widths=(128, 256), blocks=3, time_strides=(1,), block="gated", frame_features=32)


def at_once(config: ConfigDict) -> None:
    """A stage-1 or direct network that predicts as many frames as it observes, at once, trained by Muon."""
    frames = config.context
    config.batch_size = 4
    config.model.update(GATED, time_patch=frames, shift=frames, outputs=frames)
    config.optimizer.update(kind="muon", learning_rate=7e-3, warmup_steps=100)


def moving_mnist(config: ConfigDict) -> None:
    """A base made for Moving MNIST as the field has it: 10 -> 10 of endless training clips."""
    config.update(batch_size=2, context=10, log_every=200, save_every=2000)
    config.data.update(name="moving_mnist", future_frames=10)
    config.data.augmentation.update(flip=False, flip_vertical=False, transpose=False, reverse=False)
    config.evaluation.update(every=4000, clips=100, horizon=10)


def full(config: ConfigDict) -> None:
    """A base made for GPUs, at 128 x 128."""
    config.update(precision="bfloat16", batch_size=32, num_steps=100_000)
    config.update(log_every=100, save_every=2000)
    config.data.update(height=128, width=128)
    config.evaluation.update(every=5000, clips=64)


def paper(config: ConfigDict) -> None:
    """A base at the paper's size and with its optimizer."""
    config.update(precision="tf32", batch_size=8, num_steps=200_000)
    config.update(log_every=100, save_every=2000)
    config.data.update(height=256, width=256)
    config.data.augmentation.update(flip_vertical=False, transpose=False, reverse=False)
    config.optimizer.update(learning_rate=2e-4, b1=0.5, warmup_steps=0)
    config.evaluation.update(every=5000, clips=16)
