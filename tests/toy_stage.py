"""A fifth stage, registered from outside the package: frames that keep their last change, scaled.

python tests/toy_stage.py COMMAND [ARGUMENTS] runs a command of the package with the stage known.
"""

import pathlib
import runpy
import sys

import jax.numpy as jnp
from flax import linen as nn

from vidpred_jax import presets, stages

ROOT = pathlib.Path(__file__).parents[1]


class LastChange(nn.Module):
    """The clip one frame later: the newest frame and `share`, learned, of its last change."""

    shift: int = 1
    context: int = 16
    outputs: int = 16

    def check(self, height, width):
        """Any size will do."""

    @nn.compact
    def __call__(self, clip):
        share = self.param("share", nn.initializers.constant(0.9), ())
        new = clip[:, -1:] + share * (clip[:, -1:] - clip[:, -2:-1])
        return jnp.concatenate([clip[:, 1:], jnp.clip(new, -1, 1)], 1)


stages.register(stages.Stage("toy", role="predict", field="frames", networks={"toy": LastChange}))


def get_config(preset="smoke"):
    """A config of the stage, as the files in `configs/` give one."""
    config = presets.base("toy")
    presets.smoke(config)
    config.update(num_steps=6, save_every=3, model={}, loss={"l1": 1.0})
    config.data.future_frames = 1
    config.evaluation.every = 3
    return config


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
