"""Scene cuts: where they are, and that a prediction knows nothing of what precedes one."""

import itertools

import cv2
import numpy as np

import vidpred_jax
from vidpred_jax.data import cuts


def pan(seed, n, speed=1, side=64):
    """n frames of a smooth picture that pans."""
    wide = np.random.default_rng(seed).integers(0, 256, (8, 16, 3)).astype(np.uint8)
    wide = cv2.resize(wide, (2 * side, side), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, speed * t : speed * t + side] for t in range(n)])


def test_the_last_cut_is_found():
    one, two = pan(0, 10), pan(1, 6)
    assert cuts.last(np.concatenate([one, two])) == 10
    assert cuts.last(np.concatenate([one[:5], two[:3], one[5:]])) == 8
    assert cuts.last(np.concatenate([one, two[:1]])) == 10
    for whole in (one, pan(0, 16, 3), np.zeros((16, 32, 32, 3), np.uint8), one[:1]):
        assert cuts.last(whole) == 0
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3)).astype(np.uint8)
    assert cuts.last(noise) == 0
    for times in (2, 3):  # Frames shown twice or thrice, of fast motion.
        assert cuts.last(np.repeat(pan(0, 8, 6), times, 0)[:16]) == 0
    still = np.repeat(one[:1], 15, 0)
    assert cuts.last(np.concatenate([still, two[:1]])) == 15
    light = (pan(0, 16) * np.linspace(0.4, 1, 16)[:, None, None, None]).astype(np.uint8)
    assert cuts.last(light) == 0  # A light that is turned up is no cut.


def test_what_precedes_a_cut_is_left_out():
    frames = np.concatenate([pan(0, 10), pan(1, 10)])
    element = {"frames": frames, "planes": np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)}
    found = cuts.leave_out(element, 16)
    assert found["planes"].ravel().tolist() == [*[10] * 10, *range(10, 20)]
    np.testing.assert_array_equal(found["frames"][:10], frames[[10] * 10])
    np.testing.assert_array_equal(found["frames"][10:], frames[10:])
    assert cuts.leave_out(element, 10) is element  # The cut is not observed.


def test_frames_before_a_cut_change_no_prediction():
    """Neither frames nor maps, whose labels are found in what follows the cut."""
    predictor = vidpred_jax.load("real", size=(64, 64))
    shown = lambda seed: np.concatenate([pan(seed, 14), pan(9, 6)])
    found = [predictor.predict(shown(seed), None, 3) for seed in (0, 1)]
    np.testing.assert_array_equal(found[0].frames, found[1].frames)
    np.testing.assert_array_equal(found[0].fusion, found[1].fusion)
    labels = np.zeros((16, 64, 64), np.uint8)
    whole = predictor.predict(pan(9, 16), labels, 3).frames  # Without a cut earlier frames do count.
    shorter = predictor.predict(
        np.concatenate([pan(9, 16)[10:11].repeat(10, 0), pan(9, 16)[10:]]), labels, 3
    ).frames
    assert (whole != shorter).any()


def test_no_cut_within_real_clips_and_one_where_two_are_joined(davis):
    """Every clip of DAVIS is one shot."""
    shots = {}
    for folder in sorted((davis / "JPEGImages" / "480p").iterdir()):
        files = sorted(folder.iterdir())
        frames = np.stack([cv2.imread(str(file), cv2.IMREAD_REDUCED_COLOR_4) for file in files])
        shots[folder.name] = frames[:8]
        starts = range(0, len(frames) - 15, 8)
        assert not any(cuts.last(frames[start : start + 16]) for start in starts), folder.name
    names = sorted(shots)
    joined = [np.concatenate([shots[a], shots[b]]) for a, b in itertools.pairwise(names)]
    assert np.mean([cuts.last(frames) == 8 for frames in joined]) > 0.75
