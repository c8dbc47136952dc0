"""Training windows: every array is treated alike."""

import numpy as np

from vidpred_jax.config import Augmentation
from vidpred_jax.data.augmentation import augment


def rng(seed):
    return np.random.default_rng(seed)


def test_every_array_is_treated_alike():
    options = Augmentation(
        flip=True, flip_vertical=True, transpose=True, reverse=True, crop=0.6, speeds=(1, 2)
    )
    frames = rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    for seed in range(20):
        found = augment({"frames": frames, "fusion": 255 - frames}, options, rng(seed))
        total = found["frames"].astype(int) + found["fusion"]
        assert (total == 255).all()
        assert found["frames"].size < frames.size
