"""From a prepared data set to NumPy batches: random access, windows, augmentation, sharding.

A batch is a dict: `frames`, `fusion` or both, uint8 (b, t, h, w, 3); `length`, int32 (b,), how many of
the t are the clip's (the last is repeated after it); `index`, int32 (b,), its place in its split. The
order is a pure function of the seed, and the iterator's state is a small dict, so a run resumes on the
very next batch.
"""

import collections
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from vidpred_jax.data import fusion
from vidpred_jax.data.augmentation import Augmentation, augment
from vidpred_jax.data.datasets import clips
from vidpred_jax.types import Clip, InputError

# What of a clip each field is made of, how, and how it is resized.
_FIELDS = {
    "frames": (("frames",), lambda frames: frames, fusion.resize_frames),
    "fusion": (("edges", "labels"), fusion.render, fusion.resize),
}


def to_batch_element(
    clip: Clip, height: int, width: int, frames: dict[str, tuple[int, int]] | None = None
) -> dict:
    """Frames and fusion pictures of a clip at the model's size; edges are the native ones.

    frames: height and width of the frames, by the fields to put them in; None: `frames`, as the
    pictures.
    """
    pictures = fusion.render(clip.edges, clip.labels)
    frames = frames or {"frames": (height, width)}
    return {
        **{field: fusion.resize_frames(clip.frames, *size) for field, size in frames.items()},
        "fusion": fusion.resize(pictures, height, width),
    }


class ClipCache:
    """Decoded and prepared clips of a split, the most recently used up to `max_bytes`.

    Its entries are the clips with at least `min_frames` frames. prepare: (example, frames wanted or
    None for all) -> dict of arrays (t, ...), what is kept. Safe for threads.
    """

    def __init__(self, source, prepare: Callable[..., dict], max_bytes: int, min_frames: int):
        self._source, self._prepare, self._max_bytes = source, prepare, max_bytes
        self.num_frames = [int(source[i]["num_frames"]) for i in range(len(source))]
        self._places = [i for i, n in enumerate(self.num_frames) if n >= min_frames]
        self._clips: collections.OrderedDict[int, dict] = collections.OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def __len__(self):
        return len(self._places)

    def __getitem__(self, index):
        """The place and how to get there: decoding waits until the window is known."""
        return self._places[int(index)], self

    def window(self, index: int, frames: np.ndarray) -> dict:
        with self._lock:
            clip = self._clips.get(index)
            if clip is not None:
                self._clips.move_to_end(index)
        if clip is None:
            example = self._source[index]
            # Bytes a pixel: RGB, label and edge.
            native = 5 * int(example["num_frames"]) * int(example["height"] * example["width"])
            if native > self._max_bytes // 2:  # Too long to hold while it is prepared.
                return self._prepare(example, frames)
            clip = self._prepare(example, None)
            self._keep(index, clip)
        return {name: array[frames] for name, array in clip.items()}

    def _keep(self, index, clip):
        with self._lock:
            if index not in self._clips:
                self._clips[index] = clip
                self._bytes += _size(clip)
            while self._bytes > self._max_bytes:
                self._bytes -= _size(self._clips.popitem(last=False)[1])


def _size(clip: dict) -> int:
    return sum(array.nbytes for array in clip.values())


class RandomWindow(grain.transforms.RandomMap):
    """A random, augmented window of `num_frames` from a ClipCache, finished by `finish`.

    Where a clip has fewer, but `min_frames`, the window is all of it and its last frame repeated.
    """

    def __init__(
        self,
        num_frames: int,
        min_frames: int,
        augmentation: Augmentation,
        finish: Callable[[dict], dict],
    ):
        self._num_frames, self._min_frames = num_frames, min_frames
        self._augmentation, self._finish = augmentation, finish

    def random_map(self, element, rng: np.random.Generator):
        index, cache = element
        total, options = cache.num_frames[index], self._augmentation
        fitting = [s for s in options.speeds if (self._min_frames - 1) * s < total]
        speed = int(rng.choice(fitting))
        length = min(self._num_frames, (total - 1) // speed + 1)
        start = int(rng.integers(total - (length - 1) * speed))
        frames = start + speed * np.arange(length)
        if options.reverse and rng.random() < 0.5:
            frames = frames[::-1]
        frames = np.pad(frames, (0, self._num_frames - length), mode="edge")
        window = self._finish(augment(cache.window(index, frames), options, rng))
        return {**window, "length": np.int32(length), "index": np.int32(index)}


def train_batches(
    source,
    *,
    batch_size: int,
    num_frames: int,
    height: int,
    width: int,
    seed: int,
    min_frames: int | None = None,
    augmentation: Augmentation = Augmentation(),
    cache_bytes: int = 1 << 30,
    num_threads: int = min(os.cpu_count() or 1, 16),
    process_index: int = 0,
    process_count: int = 1,
    fields: Sequence[str] = ("frames", "fusion"),
    log: Callable[[str], None] = print,
) -> grain.DatasetIterator:
    """An endless iterator over this process's share of shuffled windows.

    batch_size is this process's. min_frames: clips of as many are used too; None: num_frames. fields:
    what batches hold; what else a clip has is not decoded, and not found if it is damaged. `get_state()`
    and `set_state()` carry the position.
    """

    def prepare(example, frames):
        """At the size of which the smallest crop is the model's, but no larger than the clip is."""
        kept = [
            max(min(math.ceil(side / augmentation.crop), int(example[native])), side)
            for side, native in ((height, "height"), (width, "width"))
        ]
        made = {}
        for field in fields:
            streams, make, resize = _FIELDS[field]
            found = clips.decode_streams(example, streams, frames)
            made[field] = resize(make(*(found[stream] for stream in streams)), *kept)
        return made

    finish = lambda window: _resize(window, height, width)
    min_frames = min_frames or num_frames
    needed = (min_frames - 1) * min(augmentation.speeds) + 1
    cache = ClipCache(source, prepare, cache_bytes, needed)
    if len(cache) < max(process_count, 1):
        raise InputError(
            f"the training split holds {len(cache)} clips of {needed} frames or more (context + "
            f"data.min_future_frames is {min_frames}) for {process_count} processes; its longest has "
            f"{max(cache.num_frames, default=0)} frames"
        )
    if len(cache) < len(source):
        log(f"{len(source) - len(cache)} clips are shorter than {needed} frames and left out")
    dataset = grain.MapDataset.source(cache).seed(seed).shuffle()
    # Drawn before the split, for random_map knows an element by its place: no two processes agree.
    window = RandomWindow(num_frames, min_frames, augmentation, finish)
    dataset = dataset.repeat().random_map(window)
    # Neighbours stay together: the devices of all processes see what those of one would see.
    dataset = dataset.batch(batch_size, drop_remainder=True)[process_index::process_count]
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(options))


def set_position(batches: grain.DatasetIterator, state: Any) -> None:
    """`set_state` for a state out of a file. Raises InputError for what is no state of these."""
    refused = InputError(f"the data position {str(state)[:100]} is not one of this pipeline")
    if not _alike(state, batches.get_state()):
        raise refused
    try:
        batches.set_state(state)
    except IndexError as error:
        raise refused from error


def _alike(found, expected) -> bool:
    if isinstance(expected, dict):
        same = isinstance(found, dict) and found.keys() == expected.keys()
        return same and all(_alike(found[key], expected[key]) for key in expected)
    return type(found) is type(expected) and (not isinstance(found, int) or found >= 0)


def _resize(window: dict, height: int, width: int) -> dict:
    return {field: _FIELDS[field][2](x, height, width) for field, x in window.items()}


_DECODED_AHEAD = 32  # Frames beyond a window that are decoded with it.


def window_places(
    source, num_frames: int, stride: int | None = None, first: int = 0
) -> list[tuple[str, int]]:
    """(clip, first frame) of every window that `evaluation_windows` yields, in its order."""
    return [
        (clips.name(example), start)
        for example in (source[i] for i in range(len(source)))
        for start in _starts(example, num_frames, stride, first)
    ]


def evaluation_windows(
    source,
    *,
    num_frames: int,
    height: int,
    width: int,
    stride: int | None = None,
    first: int = 0,
    only: set[str] | None = None,
    frames: dict[str, tuple[int, int]] | None = None,
):
    """Yields (clip, first frame, element) for windows every `stride` frames (None: one a clip).

    first: where a clip's first window begins. only: the clips wanted. frames: as of
    `to_batch_element`. Each frame is decoded once; no
    more than a window and a little is held.
    """
    for i in range(len(source)):
        example = source[i]
        starts = _starts(example, num_frames, stride, first)
        if not starts or (only is not None and clips.name(example) not in only):
            continue
        held, begun, end = {}, 0, 0
        for start in starts:
            if end < start + num_frames:
                begin, end_of_use = max(end, start), starts[-1] + num_frames
                end = min(start + num_frames + _DECODED_AHEAD, end_of_use)
                clip = clips.decode(example, np.arange(begin, end))
                more = to_batch_element(clip, height, width, frames)
                rest = {k: v[start - begun :] for k, v in held.items()}
                held = {k: np.concatenate([rest[k], v]) if rest else v for k, v in more.items()}
                begun = start
            window = slice(start - begun, start - begun + num_frames)
            yield clips.name(example), start, {k: v[window] for k, v in held.items()}


def _starts(example, num_frames, stride, first):
    total = int(example["num_frames"])
    return range(first, max(total - num_frames + 1, first), stride or total)
