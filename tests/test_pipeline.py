"""Windows hold what they say; order, shards and resume are exact."""

import numpy as np
import pytest

from vidpred_jax.config import Augmentation
from vidpred_jax.data import fusion, pipeline, sizes
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.types import InputError


@pytest.fixture(scope="module")
def source(data_dir):
    return registry.open_split("sprites", "train", data_dir=data_dir, config="tiny")


class Changed:
    """A source whose examples are changed when they are read, and counted in `reads`."""

    def __init__(self, source, change=lambda i, example: example, num_frames=None):
        self._source, self._change, self.reads = source, change, []
        self.names, self.sizes = source.names, source.sizes
        self.num_frames = source.num_frames if num_frames is None else np.array(num_frames)

    def __len__(self):
        return len(self.num_frames)

    def __getitem__(self, i):
        self.reads.append(i)
        return self._change(i, self._source[i])


def batches(source, **options):
    defaults = dict(batch_size=4, num_frames=6, height=32, width=32, seed=1)
    return pipeline.train_batches(source, **{**defaults, **options})


def test_batches_are_windows_of_their_clips(source):
    fields = ("frames", "fusion", "planes")
    batch = next(batches(source, num_frames=20, fields=fields))
    assert batch["frames"].shape == batch["fusion"].shape == (4, 20, 32, 32, 3)
    assert batch["planes"].shape == (4, 20, 32, 32, 2) and batch["planes"].dtype == np.uint8
    assert batch["frames"].dtype == batch["fusion"].dtype == np.uint8
    parts = *(batch[field] for field in fields), batch["index"]
    for frames, pictures, planes, index in zip(*parts, strict=True):
        clip = clips.decode(source[int(index)])
        starts = [s for s in range(29) if (clip.frames[s : s + 20] == frames).all()]
        assert len(starts) == 1
        window = slice(starts[0], starts[0] + 20)
        np.testing.assert_array_equal(pictures, fusion.render(clip.edges[window], clip.labels[window]))
        np.testing.assert_array_equal(planes[..., 0], clip.edges[window])
        np.testing.assert_array_equal(planes[..., 1], clip.labels[window])


@pytest.mark.parametrize(("field", "other"), [("frames", "labels"), ("fusion", "frames")])
def test_what_is_not_asked_for_is_not_decoded(source, field, other):
    """The same windows, though the rest of each clip is damaged."""
    damaged = Changed(source, lambda i, x: {**x, other: [b""] * int(x["num_frames"])})
    options = dict(augmentation=Augmentation(flip=True, reverse=True, crop=0.5))
    whole, alone = batches(source, **options), batches(damaged, fields=(field,), **options)
    for _ in range(4):
        expected, found = next(whole), next(alone)
        assert found.keys() == {field, "length", "index"}
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
    with pytest.raises(InputError, match=f"{other} of clip 'train_.*' cannot be decoded"):
        next(batches(damaged, **options))


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"next": 1},
        {"next_index": "1"},
        {"next_index": -1},
        {"next_index": 2**63 - 1},
        {"next_index": 1, "x": 0},
    ],
)
def test_a_position_that_is_none_is_refused(state, source):
    found = batches(source)
    with pytest.raises(InputError, match="data position .* is not one of this pipeline"):
        pipeline.set_position(found, state)
    pipeline.set_position(found, {"next_index": 2})
    assert found.get_state() == {"next_index": 2}


def test_order_is_a_function_of_the_seed_for_any_cache_and_threads(source):
    first = [b["index"] for b, _ in zip(batches(source), range(5), strict=False)]
    again = [b["frames"] for b, _ in zip(batches(source), range(5), strict=False)]
    small = batches(source, cache_bytes=0, num_threads=2)
    np.testing.assert_array_equal(again, [b["frames"] for b, _ in zip(small, range(5), strict=False)])
    other = [b["index"] for b, _ in zip(batches(source, seed=2), range(5), strict=False)]
    assert not np.array_equal(first, other)
    assert sorted(np.concatenate(first[:3])) == list(range(12))  # An epoch sees each clip once.


def test_resume_continues_on_the_next_batch(source):
    iterator = batches(source)
    for _ in range(3):
        next(iterator)
    saved = iterator.get_state()
    expected = next(iterator)
    fresh = batches(source)
    fresh.set_state(saved)
    np.testing.assert_array_equal(next(fresh)["frames"], expected["frames"])


def test_processes_share_an_epoch(source):
    seen = []
    for process in range(2):
        iterator = batches(source, batch_size=2, process_index=process, process_count=2)
        seen += [i for b, _ in zip(iterator, range(3), strict=False) for i in b["index"]]
    assert sorted(seen) == list(range(12))


def test_processes_draw_windows_of_their_own(source):
    """Two processes that show the same clip do not agree on where its window starts."""
    same = Changed(source, lambda i, example: source[0])
    first, second = (next(batches(same, process_index=i, process_count=2))["frames"] for i in range(2))
    assert (first != second).any(axis=(1, 2, 3, 4)).all()


def test_short_clips_are_left_out(source):
    mixed, lines = Changed(source, num_frames=[9, 48, 9, 48, 9]), []
    found = batches(mixed, num_frames=10, batch_size=2, log=lines.append)
    seen = {int(i) for b, _ in zip(found, range(4), strict=False) for i in b["index"]}
    assert seen == {1, 3} and lines == ["3 clips are shorter than 10 frames and left out"]


def test_shorter_clips_are_used_whole_and_their_last_frame_repeated(source):
    """Clips of 48 frames, windows of 60 or, at double speed, 24 of 60."""
    batch = next(batches(source, num_frames=60, min_frames=40))
    assert batch["length"].tolist() == [48] * len(batch["length"])
    frames = batch["frames"]
    np.testing.assert_array_equal(frames[:, 48:], np.repeat(frames[:, 47:48], 12, 1))
    assert (frames[:, 46] != frames[:, 47]).any()
    fast = Augmentation(speeds=(2,))
    batch = next(batches(source, num_frames=60, min_frames=24, augmentation=fast))
    assert batch["length"].tolist() == [24] * len(batch["length"])
    with pytest.raises(InputError, match="holds 0 clips of 49 frames or more .* longest has 48"):
        batches(source, num_frames=60, min_frames=49)


def test_batches_are_augmented(source):
    options = Augmentation(
        flip=True, flip_vertical=True, transpose=True, reverse=True, crop=0.6, speeds=(1, 2)
    )
    batch = next(batches(source, batch_size=12, augmentation=options))
    plain = next(batches(source, batch_size=12))
    assert (batch["frames"] != plain["frames"]).any()


def test_cached_at_the_models_size_equals_resized_windows(source):
    """Without crops clips are kept at the model's size; flips and resizing change places exactly."""
    options = Augmentation(flip=True, flip_vertical=True)
    batch = next(batches(source, height=16, width=24, augmentation=options))
    native = next(batches(source, augmentation=options))
    for small, large in zip(batch["frames"], native["frames"], strict=True):
        expected = fusion.resize_frames(large, 16, 24).astype(int)
        assert np.abs(small - expected).max() <= 1


def test_opening_reads_no_example(source):
    counted = Changed(source)
    opened = batches(counted)
    opened.set_state({"next_index": 2})
    assert len(pipeline.window_places(counted, 20, 14)) == 36
    size = dict(num_frames=20, wanted=[(32, 32)])
    places = {("train_00007", start) for start in (0, 14, 28)}
    windows = pipeline.evaluation_windows(counted, **size, stride=14, places=places, clips=3)
    assert not counted.reads
    assert [w[:2] for w in windows] == [("train_00007", start) for start in (0, 14, 28)]
    assert counted.reads == [7]  # The clips that are left out are not read either.
    longer = Changed(source, num_frames=[19, 48] * 6)
    windows = list(pipeline.evaluation_windows(longer, **size, stride=14, clips=2))
    assert [w[0] for w in windows] == ["train_00001"] * 3 + ["train_00003"] * 3
    assert longer.reads == [1, 3]
    assert len(next(opened)["index"]) == 4


def test_evaluation_windows(source):
    found = list(pipeline.evaluation_windows(source, num_frames=20, wanted=[(32, 32)], stride=14))
    assert [start for _, start, _ in found] == [0, 14, 28] * 12
    whole = list(pipeline.evaluation_windows(source, num_frames=48, wanted=[(16, 16)]))
    assert len(whole) == 12 and whole[0][2]["frames"].shape == (48, 16, 16, 3)
    assert not list(pipeline.evaluation_windows(source, num_frames=49, wanted=[(16, 16)]))
    size = dict(wanted=[(16, 16)])
    later = list(pipeline.evaluation_windows(source, num_frames=20, **size, stride=14, first=5))
    assert [start for _, start, _ in later] == [5, 19] * 12
    assert pipeline.window_places(source, 20, 14, first=5)[:2] == [x[:2] for x in later[:2]]
    np.testing.assert_array_equal(later[1][2]["frames"], whole[0][2]["frames"][19:39])
    assert not pipeline.window_places(source, 20, 14, first=29)


def test_refusals(source):
    with pytest.raises(InputError, match="holds 0 clips of 60 frames or more .* longest has 48"):
        batches(source, num_frames=60)
    with pytest.raises(InputError, match="holds 0 clips"):
        batches(Changed(source, num_frames=[]))
    with pytest.raises(InputError, match="holds 12 clips .* for 13 processes"):
        batches(source, process_count=13)


@pytest.mark.parametrize("stride", [None, 1, 7, 30])
def test_evaluation_windows_are_slices_of_their_clips(source, stride):
    """Overlapping, side by side or with gaps; in the order that `window_places` tells."""
    windows = list(pipeline.evaluation_windows(source, num_frames=10, wanted=[(32, 32)], stride=stride))
    assert [w[:2] for w in windows] == pipeline.window_places(source, 10, stride)
    expected = {None: 1, 1: 39, 7: 6, 30: 2}[stride]
    assert len(windows) == expected * len(source)
    whole = pipeline.to_batch_element(clips.decode(source[0]), (32, 32))
    for _, start, element in windows[:expected]:
        for field in ("frames", "fusion", "planes"):
            np.testing.assert_array_equal(element[field], whole[field][start : start + 10])


def test_the_size_nearest_to_an_aspect():
    for (height, width), expected in {
        (720, 1280): (128, 224),
        (1280, 720): (224, 128),
        (480, 854): (128, 224),
        (480, 640): (128, 176),
        (500, 500): (128, 128),
        (100, 103): (128, 128),
        (103, 100): (128, 128),
    }.items():
        near = sizes.near(128, height, width)
        assert next(size for size in near if not size[0] % 16 and not size[1] % 16) == expected
    assert sizes.near(128, 10, 10_000)[0] == (128, 512)
