"""Baselines by hand, and the table that holds them beside ours."""

import cv2
import jax
import numpy as np
import pytest

from vidpred_jax import metrics, processes
from vidpred_jax.data import pipeline, strip
from vidpred_jax.evaluation import compare, sharing
from vidpred_jax.metrics import named, summary
from vidpred_jax.proposals import naive
from vidpred_jax.types import InputError


@pytest.fixture(scope="module")
def element(clip):
    return pipeline.to_batch_element(clip, (64, 64))


def test_baselines_by_hand():
    context = np.zeros((16, 16, 16, 3), np.uint8)
    context[-1] = 160
    assert (naive.copy_last(context, 3) == 160).all()
    assert (naive.mean_context(context, 3) == 10).all()
    assert naive.mean_context(context, 3).dtype == np.float32
    context[-1] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    blurred = naive.blur(context, 2)
    np.testing.assert_array_equal(blurred[1], cv2.GaussianBlur(context[-1], (0, 0), 1.8))


def test_flow_follows_a_steady_pan():
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.uniform(0, 255, (20, 40, 3)).astype(np.float32), (200, 100)).astype(np.uint8)
    frames = np.stack([scene[:, 2 * t : 2 * t + 100] for t in range(20)])
    inner = np.s_[:, 20:-20, 20:-30]
    moved = metrics.psnr(naive.flow(frames[:16], 4)[inner], frames[16:][inner])
    still = metrics.psnr(naive.copy_last(frames[:16], 4)[inner], frames[16:][inner])
    assert (np.asarray(moved) > np.asarray(still) + 5).all()


def test_compare_by_hand(element):
    back = {k: v[::-1] for k, v in element.items()}
    elements = [("a", 0, element), ("b", 0, back), ("a", 48, element), ("b", 48, back)]
    perfect = iter([np.stack([e["frames"][16:] for _, _, e in elements[i : i + 3]]) for i in (0, 3)])
    shown, observed = [], {}

    def cheat(seen):
        shown.extend((e["clip"], len(e["frames"]), len(e["fusion"])) for e in seen)
        return {"frames": next(perfect)}

    def features(name, frames):
        observed[name] = observed.get(name, 0) + len(frames)
        return frames.mean((1, 2, 3)) if name in ("truth", "cheat") else None

    compared, show = {"cheat": cheat, **naive.predictors(32)}, {("a", 0), ("b", 0)}
    options = dict(context=16, batch_size=3, show=show, features=features)
    table = compare.compare(elements, compared, **options)
    assert shown == [("a", 16, 16), ("b", 16, 16)] * 2  # A predictor sees no future.
    assert observed == dict.fromkeys(["truth", "cheat", *naive.BASELINES], 4)
    assert table.clips == ["a", "b", "a", "b"]
    np.testing.assert_array_equal(table.features["cheat"], table.features["truth"])
    assert list(table.features) == ["truth", "cheat"] and table.features["truth"].shape == (4, 3)
    values = table.values
    assert (values["cheat"]["psnr"] == metrics.MAX_PSNR).all()
    expected = metrics.psnr(np.repeat(element["frames"][15:16], 32, 0), element["frames"][16:])
    np.testing.assert_allclose(values["copy_last"]["psnr"][0], expected, atol=1e-4)
    np.testing.assert_array_equal(values["blur"]["ssim"][0], values["blur"]["ssim"][2])
    assert set(values) == {"cheat", *naive.BASELINES}
    assert [entry["clip"] for entry in table.shown] == ["a", "b"]
    np.testing.assert_array_equal(table.shown[0]["truth"], table.shown[0]["predictions"]["cheat"])
    found = summary.summarize(table.clips, table.values)
    assert found["copy_last"]["psnr"]["mean"] == pytest.approx(values["copy_last"]["psnr"].mean(), abs=1e-3)
    assert len(found["flow"]["ssim"]["per_step"]) == 32
    assert "copy_last" in summary.format_table(found)


def test_processes_make_the_table_of_one(element, monkeypatch):
    """Eleven windows in batches of two; a process is stood in for by its index."""
    windows = [
        (f"c{i // 3}", 48 * (i % 3), {k: np.roll(v, i, 2) for k, v in element.items()}) for i in range(11)
    ]
    places = [window[:2] for window in windows]

    def predict(seen):
        found = jax.jit(lambda x: x + 1.0)(np.stack([e["frames"][-1:] for e in seen]).astype(np.float32))
        return {"frames": np.repeat(found, 32, 1)}

    options = dict(
        context=16, batch_size=2, show=set(places[:4]), features=lambda name, x: x.mean((1, 2, 3, 4))
    )
    plain = compare.compare(windows, {"z": predict, "p": predict}, **options)
    several = []
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for index in range(3):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        mine = sharing.of_this_process(places, 2)
        own = [window for window in windows if window[:2] in mine]
        told = []
        parts = compare.parts(own, {"z": predict, "p": predict}, total=len(own), log=told.append, **options)
        several.append(sharing._packed(list(parts)))
        assert told[-1] == f"evaluated {len(own)} windows of {len(own)}, 0.0 min left"
    monkeypatch.setattr(processes, "gather", lambda data: several)
    table = sharing.joined([plain])
    assert table.clips == plain.clips and len(table.shown) == 4
    assert [list(of) for of in table.values.values()] == [["psnr", "ssim"]] * 2
    assert list(table.values) == list(plain.values) == ["z", "p"]
    jax.tree.map(np.testing.assert_array_equal, table.values, plain.values)
    jax.tree.map(np.testing.assert_array_equal, table.features, plain.features)
    for one, other in zip(table.shown, plain.shown, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_stages_are_measured_by_what_they_predict(element):
    """Fusion metrics where a predictor gives fusion pictures; a future only where it is allowed."""
    lengths = {}

    def stage(name, *fields):
        def predict(seen):
            lengths[name] = {k: len(seen[0][k]) for k in ("frames", "fusion")}
            return {field: np.stack([element[field][16:]] * len(seen)) for field in fields}

        return predict

    table = compare.compare(
        [("a", 0, element)],
        {"both": stage("both", "frames", "fusion"), "second": stage("second", "frames")},
        context=16,
        metrics={m: named.METRICS[m] for m in ("psnr", "warp_error", "edge_f1", "miou")},
        sees={"second": ("fusion",)},
    )
    assert lengths["both"] == {"frames": 16, "fusion": 16}
    assert lengths["second"] == {"frames": 16, "fusion": 48}
    assert set(table.values["both"]) == {"psnr", "warp_error", "edge_f1", "miou"}
    assert set(table.values["second"]) == {"psnr", "warp_error"}
    assert table.values["both"]["miou"].min() == 1


def test_means_weigh_clips_alike_and_intervals_hold_them():
    """Clip a has three windows of 10 dB, clip b one of 30: the mean is 20, not 15."""
    rows = np.float32([[10, 8], [10, 8], [10, 8], [30, 28]])
    table = compare.Table(["a", "a", "a", "b"], {"p": {"psnr": rows}}, [])
    found = summary.summarize(table.clips, table.values)["p"]["psnr"]
    assert found["per_step"] == [20, 18] and found["mean"] == 19
    assert (found["low"], found["high"]) == (9, 29)  # Of two clips: either alone, or both.
    one = summary.summarize(["a"], {"p": {"psnr": rows[:1]}})["p"]["psnr"]
    assert one["low"] is None and one["per_step_high"] is None and one["mean"] == 9
    many = np.random.default_rng(0).normal(20, 2, (400, 1)).astype(np.float32)
    names = [str(i) for i in range(400)]
    found = summary.summarize(names, {"p": {"psnr": many}})["p"]["psnr"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 2 / 20, rel=0.15)


def test_differences_are_paired_over_clips():
    """Clip a: 3 (of two windows) less 0; clip b: 10 less 5. Unpaired, they could be -2 or 10."""
    clips = ["a", "a", "b"]
    ours = {"psnr": np.float32([[1, 3], [3, 5], [10, 10]]), "ssim": np.zeros((3, 2), np.float32)}
    theirs = {"psnr": np.float32([[0, 0], [0, 0], [4, 6]])}
    found = summary.differences(clips, {"ours": ours, "flow": theirs}, "ours", "flow")
    assert found == {"psnr": {"mean": 4, "low": 3, "high": 5}}
    found = summary.differences(["a"] * 3, {"ours": ours, "flow": theirs}, "ours", "flow")
    assert found["psnr"] == {"mean": pytest.approx(11 / 3, abs=1e-5), "low": None, "high": None}
    # The same resamples: less nothing, the interval is the predictor's own.
    names, many = [str(i) for i in range(40)], np.random.default_rng(0).normal(size=(40, 2))
    values = {"ours": {"psnr": many}, "zero": {"psnr": 0 * many}}
    own = summary.summarize(names, values)["ours"]["psnr"]
    found = summary.differences(names, values, "ours", "zero")["psnr"]
    assert found == {name: own[name] for name in ("mean", "low", "high")}


def test_an_error_while_reading_ahead_is_raised_where_it_is_used(element):
    def windows():
        yield "a", 0, element
        raise InputError("clip 'b' is damaged")

    with pytest.raises(InputError, match="clip 'b' is damaged"):
        compare.compare(windows(), naive.predictors(32, ["copy_last"]), context=16)


def test_strip_shows_each_row_at_each_step(element):
    frames = element["frames"][16:]
    picture = strip.draw([("truth", frames), ("predicted", frames[::-1])], steps=(1, 32))
    assert picture.shape == (18 + 2 * 128, 84 + 2 * 128, 3)
    np.testing.assert_array_equal(picture[18:146:2, 84:212:2], frames[0])
    np.testing.assert_array_equal(picture[146::2, 212::2], frames[0])
