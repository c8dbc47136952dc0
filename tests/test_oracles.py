"""Oracles: by hand where the truth is a shifted frame, and in the order that their choices imply."""

import numpy as np
import oracles
import pytest

from vidpred_jax.evaluation import compare
from vidpred_jax.proposals import naive

RNG = np.random.default_rng(0)


def error(frames, truth):
    return np.square(frames.astype(np.float64) - truth).mean((1, 2, 3))


@pytest.fixture(scope="module")
def window(clip):
    return clip.frames[:16], clip.frames[16:20]


def test_a_shift_is_found():
    last = RNG.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    moved = np.pad(last, ((5, 0), (0, 7), (0, 0)), mode="edge")[:24, 7:]
    found = oracles.best_shift(last[None], np.stack([moved, last]))
    np.testing.assert_array_equal(found, np.stack([moved, last]))


def test_a_blur_is_found():
    last = RNG.integers(0, 256, (24, 32, 3)).astype(np.uint8)
    even = np.full((1, 24, 32, 3), round(float(last.mean())), np.uint8)
    found = oracles.best_shift(last[None], even)
    assert error(found, even) < 0.05 * error(last[None], even)


def test_the_best_baseline_of_each_frame(window):
    context, truth = window
    errors = [error(f(context, 4).astype(float), truth) for f in naive.BASELINES.values()]
    np.testing.assert_allclose(error(oracles.best_baseline(*window), truth), np.min(errors, 0))


def test_an_evaluation_lets_them_see_the_truth(clip):
    element = {"frames": clip.frames[:20], "fusion": clip.frames[:20]}
    predictors = oracles.predictors(16) | naive.predictors(4, ["copy_last"])
    sees = dict.fromkeys(oracles.ORACLES, ("frames",))
    table = compare.compare([("clip", 0, element)], predictors, context=16, sees=sees)
    psnr = {name: found["psnr"][0] for name, found in table.values.items()}
    assert (psnr["best_shift"] >= psnr["copy_last"] - 1e-4).all()
    assert (psnr["best_baseline"] >= psnr["copy_last"] - 1e-4).all()
