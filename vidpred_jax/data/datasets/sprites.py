"""`sprites`: the embedded data set, drawn from a seed in seconds."""

import dataclasses
import functools
import math

import numpy as np

from vidpred_jax.data.datasets import building, synthesis
from vidpred_jax.types import Clip


@dataclasses.dataclass
class SpritesConfig(building.BuildConfig):
    size: int = 64
    num_frames: int = 48
    num_train: int = 800
    num_validation: int = 64
    num_test: int = 64
    seed: int = 0


class Sprites(building.ClipBuilder, skip_registration=True):
    """Two or three textured objects move, rotate, bounce and occlude over a panning background."""

    least = math.inf  # A program that draws them may not guard what it does when processes import it.

    BUILDER_CONFIGS = [
        SpritesConfig(name="64"),
        SpritesConfig(name="tiny", size=32, num_train=12, num_validation=4, num_test=4),
    ]

    def _clips(self):
        config = self.builder_config
        # The second part of a clip's seed, and the number of clips.
        splits = {
            "train": (0, config.num_train),
            "validation": (1, config.num_validation),
            "test": (3, config.num_test),
        }
        form = config.num_frames, config.size, config.edge_rule
        return {
            split: {
                name: functools.partial(_draw, (config.seed, stream, i), name, *form)
                for i, name in enumerate(f"{split}_{i:05d}" for i in range(size))
            }
            for split, (stream, size) in splits.items()
        }


def _draw(seed, name, num_frames, size, edge_rule, log) -> Clip:
    del log
    return synthesis.sprite_clip(np.random.default_rng(seed), name, num_frames, size, edge_rule)
