"""Training windows: every array is treated alike, cameras wander within their room."""

import numpy as np
import pytest

from vidpred_jax import augmentation
from vidpred_jax.augmentation import Augmentation, augment
from vidpred_jax.types import InputError


def rng(seed):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("camera", [0.0, 1.0])
def test_every_array_is_treated_alike(camera):
    options = Augmentation(True, True, True, True, crop=0.6, camera=camera, speeds=(1, 2))
    frames = rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    for seed in range(20):
        found = augment({"frames": frames, "fusion": 255 - frames}, options, rng(seed))
        total = found["frames"].astype(int) + found["fusion"]
        assert np.abs(total - 255).max() <= (1 if camera else 0)  # Interpolation is rounded.
        assert found["frames"].size < frames.size


def test_camera_moves_over_a_still_clip():
    """Each frame shows the same slope from another place; without a camera all show it from one."""
    slope = np.add.outer(2 * np.arange(60), 3 * np.arange(30)).astype(np.uint8)
    window = {"frames": np.broadcast_to(slope[..., None], (24, 60, 30, 3))}
    still = augment(window, Augmentation(crop=0.5), rng(3))["frames"]
    found = augment(window, Augmentation(crop=0.5, camera=1.0), rng(3))["frames"].astype(int)
    assert found.shape[0] == 24 and not np.ptp(still, axis=0).any()
    assert abs(np.diff(found[..., 0], axis=1) - 2).max() <= 1
    assert abs(np.diff(found[..., 0], axis=2) - 3).max() <= 1
    assert np.ptp(found, axis=0).min() > 0


def test_paths_of_cameras():
    for seed in range(50):
        for room in (0, 3, 500):
            path = augmentation._wander(rng(seed), 48, room)
            assert len(path) == 48 and path.min() >= 0 and path.max() <= room
    paths = np.stack([augmentation._wander(rng(seed), 48, 500) for seed in range(200)])
    speeds = np.abs(np.diff(paths)).mean(1)
    assert 0.01 < speeds.min() < 0.1 and 0.5 < speeds.max() < 4


def test_refusals():
    for fields, message in (
        (dict(crop=0.0), r"data.augmentation.crop \(0.0\) must be above 0"),
        (dict(camera=2.0), r"data.augmentation.camera \(2.0\) must be 0 to 1"),
        (dict(camera=0.5), r"camera \(0.5\) needs data.augmentation.crop below 1"),
        (dict(speeds=()), r"data.augmentation.speeds \(\(\)\) must be whole numbers from 1 on"),
    ):
        with pytest.raises(InputError, match=message):
            Augmentation(**fields)
