"""Baselines by hand, and the table that holds them beside ours."""

import cv2
import numpy as np
import pytest

from vidpred_jax import baselines, evaluate, metrics, pipeline, strip


@pytest.fixture(scope="module")
def element(clip):
    return pipeline.to_batch_element(clip, 64, 64)


def test_baselines_by_hand():
    context = np.zeros((16, 16, 16, 3), np.uint8)
    context[-1] = 160
    assert (baselines.copy_last(context, 3) == 160).all()
    assert (baselines.mean_context(context, 3) == 10).all()
    assert baselines.mean_context(context, 3).dtype == np.float32
    context[-1] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    blurred = baselines.blur(context, 2)
    np.testing.assert_array_equal(blurred[1], cv2.GaussianBlur(context[-1], (0, 0), 1.8))


def test_flow_follows_a_steady_pan():
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.uniform(0, 255, (20, 40, 3)).astype(np.float32), (200, 100)).astype(
        np.uint8
    )
    frames = np.stack([scene[:, 2 * t : 2 * t + 100] for t in range(20)])
    inner = np.s_[:, 20:-20, 20:-30]
    moved = metrics.psnr(baselines.flow(frames[:16], 4)[inner], frames[16:][inner])
    still = metrics.psnr(baselines.copy_last(frames[:16], 4)[inner], frames[16:][inner])
    assert (np.asarray(moved) > np.asarray(still) + 5).all()


def test_compare_by_hand(element):
    elements = [("a", 0, element), ("b", 0, {k: v[::-1] for k, v in element.items()})] * 2
    perfect = iter(
        [np.stack([e["frames"][16:] for _, _, e in elements[i : i + 3]]) for i in (0, 3)]
    )
    shown = []

    def cheat(seen):
        shown.extend(len(e["frames"]) for e in seen)
        return next(perfect)

    table = evaluate.compare(
        elements, {"cheat": cheat, **evaluate.naive_predictors(32)}, context=16, batch_size=3
    )
    assert shown == [16] * 4  # A predictor sees no future.
    assert (table["cheat"]["psnr"] == metrics.MAX_PSNR).all()
    expected = metrics.psnr(np.repeat(element["frames"][15:16], 32, 0), element["frames"][16:])
    np.testing.assert_allclose(table["copy_last"]["psnr"][0], expected, atol=1e-4)
    np.testing.assert_array_equal(table["blur"]["ssim"][0], table["blur"]["ssim"][2])
    assert set(table) == {"cheat", *baselines.BASELINES}
    summary = evaluate.summarize(table)
    assert summary["copy_last"]["psnr"]["mean"] == pytest.approx(
        table["copy_last"]["psnr"].mean(), abs=1e-3
    )
    assert len(summary["flow"]["ssim"]["per_step"]) == 32
    assert "copy_last" in evaluate.format_table(summary)


def test_strip_shows_each_row_at_each_step(element):
    frames = element["frames"][16:]
    picture = strip.draw([("truth", frames), ("predicted", frames[::-1])], steps=(1, 32))
    assert picture.shape == (18 + 2 * 128, 84 + 2 * 128, 3)
    np.testing.assert_array_equal(picture[18:146:2, 84:212:2], frames[0])
    np.testing.assert_array_equal(picture[146::2, 212::2], frames[0])
