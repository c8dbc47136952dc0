"""Training windows: every array is treated alike."""

import numpy as np
import pytest

from vidpred_jax.data.augmentation import Augmentation, augment
from vidpred_jax.types import InputError


def rng(seed):
    return np.random.default_rng(seed)


def test_every_array_is_treated_alike():
    options = Augmentation(True, True, True, True, crop=0.6, speeds=(1, 2))
    frames = rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    for seed in range(20):
        found = augment({"frames": frames, "fusion": 255 - frames}, options, rng(seed))
        total = found["frames"].astype(int) + found["fusion"]
        assert (total == 255).all()
        assert found["frames"].size < frames.size


def test_refusals():
    for fields, message in (
        (dict(crop=0.0), r"data.augmentation.crop \(0.0\) must be above 0"),
        (dict(speeds=()), r"data.augmentation.speeds \(\(\)\) must be whole numbers from 1 on"),
    ):
        with pytest.raises(InputError, match=message):
            Augmentation(**fields)
