"""From a prepared data set to NumPy batches: random access, windows, augmentation, sharding.

A batch is a dict: those asked for of `frames` and `fusion` (pictures), uint8 (b, t, h, w, 3), and `planes`
(edges and labels), uint8 (b, t, h, w, 2); `length`, int32 (b,): after so many frames the last one is
repeated; `index`, int32 (b,), the clip's number in its split. The order depends on the seed alone.
The iterator's state is a small dict; with it a run resumes on the next batch.
"""

import collections
import math
import os
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import grain
import numpy as np

from vidpred_jax.config import Augmentation
from vidpred_jax.data import fusion, sizes
from vidpred_jax.data.augmentation import augment
from vidpred_jax.data.datasets.clips import decode, decode_streams
from vidpred_jax.types import Clip, InputError

# {field of a batch: (streams of the clip, how to compute it from them, how to resize it)}
_FIELDS = {
    "frames": (("frames",), lambda frames: frames, fusion.resize_frames),
    "fusion": (("edges", "labels"), fusion.render, fusion.resize),
    "planes": (("edges", "labels"), fusion.stack_planes, fusion.resize_planes),
}


def to_batch_element(clip: Clip, *wanted: tuple[int, int]) -> dict:
    """Every field of a clip, uint8 (t, h, w, c), at each (height, width): see `sizes.at`.

    Edges are computed before resizing.
    """
    parts = []
    for start in range(0, len(clip.frames), _AT_ONCE):  # Large frames fill the memory several times over.
        made, some = {}, slice(start, start + _AT_ONCE)
        for field, (streams, make, resize) in _FIELDS.items():
            array = make(*(getattr(clip, stream)[some] for stream in streams))
            made |= {sizes.name(field, size, wanted[0]): resize(array, *size) for size in wanted}
        parts.append(made)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class DrawnClips:
    """The clips of a split that are drawn (`moving_digits.DrawnSource`), each by the seed and its number.

    make: (streams of a window, their height and width) -> dict of arrays (t, ...).
    """

    def __init__(self, source, streams, make: Callable[..., dict], seed: int, num_frames: int):
        self._source, self._streams, self._make = source, streams, make
        self._seed, self._num_frames = seed, num_frames

    def __len__(self):
        return 2**31 - 1  # Numbers of clips are int32.

    def __getitem__(self, index):
        return int(index), self

    def length(self, index: int) -> int:
        return self._num_frames

    def window(self, index: int, frames: np.ndarray) -> dict:
        clip = self._source.draw([self._seed, index], self._num_frames, self._streams)
        streams = {stream: array[frames] for stream, array in clip.items()}
        return self._make(streams, next(iter(streams.values())).shape[1:3])


class ClipCache:
    """The clips of a split with `min_frames` or more frames; keeps the last used ones decoded.

    max_bytes: of the clips kept. prepare: (example, indices of frames or None for all) -> dict of arrays
    (t, ...), which are kept. Safe for threads.
    """

    def __init__(self, source, prepare: Callable[..., dict], max_bytes: int, min_frames: int):
        self._source, self._prepare, self._max_bytes = source, prepare, max_bytes
        self.num_frames = source.num_frames
        self._indices = np.flatnonzero(source.num_frames >= min_frames)
        self._clips: collections.OrderedDict[int, dict] = collections.OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        """(clip, this cache): nothing is decoded until the window is known."""
        return int(self._indices[int(index)]), self

    def length(self, index: int) -> int:
        return int(self.num_frames[index])

    def window(self, index: int, frames: np.ndarray) -> dict:
        """Some frames, by their indices, of a clip."""
        with self._lock:
            clip = self._clips.get(index)
            if clip is not None:
                self._clips.move_to_end(index)
        if clip is None:
            example = self._source[index]
            # A pixel has 5 bytes: RGB, label and edge.
            native = 5 * int(self.num_frames[index]) * int(self._source.sizes[index].prod())
            if native > self._max_bytes // 2:  # Too large to be decoded as a whole.
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
    """A random, augmented window of `num_frames` frames of a clip, finished by `finish`.

    Of a clip with fewer frames, but at least `min_frames`, it is the whole clip; the last frame is
    repeated.
    """

    def __init__(
        self, num_frames: int, min_frames: int, augmentation: Augmentation, finish: Callable[[dict], dict]
    ):
        self._num_frames, self._min_frames = num_frames, min_frames
        self._augmentation, self._finish = augmentation, finish

    def random_map(self, element, rng: np.random.Generator):
        index, clips = element
        total, options = clips.length(index), self._augmentation
        fitting = [s for s in options.speeds if (self._min_frames - 1) * s < total]
        speed = int(rng.choice(fitting))
        length = min(self._num_frames, (total - 1) // speed + 1)
        start = int(rng.integers(total - (length - 1) * speed))
        frames = start + speed * np.arange(length)
        if options.reverse and rng.random() < 0.5:
            frames = frames[::-1]
        frames = np.pad(frames, (0, self._num_frames - length), mode="edge")
        window = self._finish(augment(clips.window(index, frames), options, rng))
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

    batch_size: of this process. min_frames: of the shortest clip used; None: num_frames. fields: of a
    batch; what they do not need is not decoded. `get_state()` and `set_state()` carry the position.
    Opening reads no clip.
    """

    min_frames = min_frames or num_frames

    def make(streams: dict, native: tuple[int, int]) -> dict:
        """Resized so that the smallest crop has the networks' size; a clip is not enlarged for that."""
        kept = [
            max(min(math.ceil(side / augmentation.crop), int(own)), side)
            for side, own in zip((height, width), native, strict=True)
        ]
        made = {}
        for field in fields:
            needed, compute, resize = _FIELDS[field]
            made[field] = resize(compute(*(streams[stream] for stream in needed)), *kept)
        return made

    needed = list(dict.fromkeys(stream for field in fields for stream in _FIELDS[field][0]))
    if hasattr(source, "draw"):
        longest = (num_frames - 1) * max(augmentation.speeds) + 1
        found = DrawnClips(source, needed, make, seed, longest)
    else:
        prepare = lambda example, frames: make(
            decode_streams(example, needed, frames), (example["height"], example["width"])
        )
        found = _long_enough(source, prepare, cache_bytes, min_frames, augmentation, process_count, log)
    finish = lambda window: {field: _FIELDS[field][2](x, height, width) for field, x in window.items()}
    dataset = grain.MapDataset.source(found).seed(seed).shuffle()
    # Before the split by process: random_map seeds a window by the element's position, which would be the
    # same for the elements of two processes.
    window = RandomWindow(num_frames, min_frames, augmentation, finish)
    dataset = dataset.repeat().random_map(window)
    # Processes take batches in turn: together they see what one process would see.
    dataset = dataset.batch(batch_size, drop_remainder=True)[process_index::process_count]
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(options))


def _long_enough(source, prepare, cache_bytes, min_frames, augmentation, process_count, log):
    """The clips from which a window can be taken. Raises InputError if a process would have none."""
    needed = (min_frames - 1) * min(augmentation.speeds) + 1
    cache = ClipCache(source, prepare, cache_bytes, needed)
    if len(cache) < max(process_count, 1):
        raise InputError(
            f"the training split holds {len(cache)} clips of {needed} frames or more (context + "
            f"data.min_future_frames is {min_frames}) for {process_count} processes; its longest has "
            f"{cache.num_frames.max(initial=0)} frames"
        )
    if len(cache) < len(source):
        log(f"{len(source) - len(cache)} clips are shorter than {needed} frames and left out")
    return cache


def set_position(batches: grain.DatasetIterator, state: Any) -> None:
    """`set_state` for a state read from a file. Raises InputError for one of another pipeline."""
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


_AT_ONCE = 2  # Frames of a clip that are resized together.
_DECODED_AHEAD = 32  # Frames after a window that are decoded with it.


def window_places(
    source, num_frames: int, stride: int | None = None, first: int = 0
) -> list[tuple[str, int]]:
    """(clip, first frame) of every window that `evaluation_windows` yields of all clips, in its order."""
    return [
        (name, start)
        for name, total in zip(source.names, source.num_frames, strict=True)
        for start in _starts(int(total), num_frames, stride, first)
    ]


def evaluation_windows(
    source,
    *,
    num_frames: int,
    wanted: Sequence[tuple[int, int]],
    stride: int | None = None,
    first: int = 0,
    places: Collection[tuple[str, int]] | None = None,
    clips: int | None = None,
):
    """Yields (clip, first frame, element) for windows every `stride` frames (None: one a clip).

    first: first frame of a clip's first window. places: (clip, first frame) of those wanted; None: all.
    clips: at most so many clips, the first that have a window; None: all. wanted: sizes, as of
    `to_batch_element`. Each frame is decoded once; about one window is in memory.
    """
    starts_of = {i: _starts(int(n), num_frames, stride, first) for i, n in enumerate(source.num_frames)}
    if places is not None:
        starts_of = {i: [s for s in x if (source.names[i], s) in places] for i, x in starts_of.items()}
    chosen = [i for i in starts_of if starts_of[i]]
    for i in chosen[:clips]:
        example, starts = source[i], starts_of[i]
        held, begun, end = {}, 0, 0
        for start in starts:
            if end < start + num_frames:
                begin = max(end, start)
                end = min(start + num_frames + _DECODED_AHEAD, starts[-1] + num_frames)
                more = to_batch_element(decode(example, np.arange(begin, end)), *wanted)
                rest = {k: v[start - begun :] for k, v in held.items()}
                held = {k: np.concatenate([rest[k], v]) if rest else v for k, v in more.items()}
                begun = start
            window = slice(start - begun, start - begun + num_frames)
            yield source.names[i], start, {k: v[window] for k, v in held.items()}


def _starts(total, num_frames, stride, first):
    return range(first, max(total - num_frames + 1, first), stride or total)
