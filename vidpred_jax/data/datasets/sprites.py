"""`sprites`: the embedded data set, drawn from a seed in seconds."""

import dataclasses
import functools

import numpy as np

from vidpred_jax.data.datasets import clips, synthesis


@dataclasses.dataclass
class SpritesConfig(clips.ClipConfig):
    size: int = 64
    num_frames: int = 48
    num_train: int = 800
    num_validation: int = 64
    num_test: int = 64
    seed: int = 0


class Sprites(clips.DrawnClipBuilder, skip_registration=True):
    """Two or three textured objects move, rotate, bounce and occlude over a panning background."""

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
        return {
            split: {f"{split}_{i:05d}": functools.partial(self._draw, split, stream, i) for i in range(size)}
            for split, (stream, size) in splits.items()
        }

    def _draw(self, split, stream, i):
        config = self.builder_config
        rng = np.random.default_rng([config.seed, stream, i])
        return synthesis.sprite_clip(
            rng, f"{split}_{i:05d}", config.num_frames, config.size, config.edge_rule
        )
