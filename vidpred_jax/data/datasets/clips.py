"""The clip format on disk: one TFDS example a clip, every frame encoded on its own.

Encoded bytes instead of TFDS's image features let a reader decode a window of a long clip, and
need no TensorFlow.
"""

import collections
import concurrent.futures
import io
import os
import pathlib
import struct
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vidpred_jax.data import fusion
from vidpred_jax.types import Clip, InputError, Limits

FILE_FORMAT = "array_record"
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # As video_io reads.
_STREAMS = ("frames", "labels", "edges")


def features() -> tfds.features.FeaturesDict:
    """name; num_frames, height, width; frames (PNG or JPEG), labels and edges (PNG) per frame."""
    encoded = {stream: tfds.features.Sequence(tfds.features.Text()) for stream in _STREAMS}
    numbers = {name: np.int32 for name in ("num_frames", "height", "width")}
    return tfds.features.FeaturesDict({"name": tfds.features.Text(), **numbers, **encoded})


def encode(clip: Clip, jpeg_quality: int | None = None) -> dict:
    """A clip as an example of `features()`; edges are computed here if the clip brings none."""
    edges = fusion.canny(clip.frames) if clip.edges is None else clip.edges
    num_frames, height, width = clip.labels.shape
    bgr = clip.frames[..., ::-1]
    return {
        "name": clip.name,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "frames": clip.encoded
        or [_png(f) if jpeg_quality is None else _jpeg(f, jpeg_quality) for f in bgr],
        "labels": [_png(f) for f in clip.labels],
        "edges": [_png(f) for f in edges],
    }


def name(example: dict) -> str:
    text = example["name"]
    return text.decode() if isinstance(text, bytes) else text


def is_name(text: str) -> bool:
    """Whether it may name a clip, a data set or a file: a single part of a path."""
    part = text == pathlib.PurePath(text).name != ".." and "\0" not in text
    return part and len(text.encode(errors="replace")) <= 255


class Source(Sequence):
    """The examples of a prepared split, by number; what a damaged shard gives is refused by name."""

    def __init__(self, builder, split: str):
        self._source = builder.as_data_source(split=split)
        self._split = builder.info.splits[split]

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index) -> dict:
        """An example of `features()`. Raises InputError with the shard's path, IndexError."""
        index = range(len(self))[index]
        try:
            example = self._source[index]
            _check(example)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self._shard(index)} is damaged: {reason}") from error
        return example

    def clip_name(self, index) -> str:
        return name(self[index])

    def _shard(self, index) -> str:
        ends = np.cumsum(self._split.shard_lengths)
        return str(self._split.filepaths[int(np.searchsorted(ends, index, side="right"))])


def _check(example) -> None:
    """Raises ValueError for an example that no `encode` has made."""
    clip, total = name(example), example["num_frames"]
    if not is_name(clip):
        raise ValueError(f"clip {clip!r} must be named by a single part of a path")
    lengths = {stream: len(example[stream]) for stream in _STREAMS}
    if total < 1 or set(lengths.values()) != {total}:
        raise ValueError(f"clip {clip!r} of {total} frames holds {lengths}")
    height, width = example["height"], example["width"]
    if min(height, width) < 1 or height * width > Limits().max_pixels:
        raise ValueError(f"clip {clip!r} is {width} x {height}")


def decode(example: dict, indices: Sequence[int] | np.ndarray | None = None) -> Clip:
    """The frames at `indices` (None: all) of an example. Raises InputError."""
    return Clip(name=name(example), **decode_streams(example, _STREAMS, indices))


def decode_streams(
    example: dict, streams: Sequence[str], indices: Sequence[int] | np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Some of `frames` (t, h, w, 3), `labels` and `edges` (t, h, w), as of `decode`."""
    indices = range(int(example["num_frames"])) if indices is None else indices
    return {
        stream: np.stack([_image(example, stream, int(i)) for i in indices]) for stream in streams
    }


def _image(example: dict, stream: str, index: int) -> np.ndarray:
    data, where = example[stream][index], f"{stream} of clip {name(example)!r}"
    try:
        width, height = _size(data)  # Before memory is taken for it.
    except Exception as error:
        raise InputError(f"{where} cannot be decoded; the data set is damaged") from error
    if (height, width) != (example["height"], example["width"]):
        raise InputError(
            f"{where} are {width} x {height}, the clip is {example['width']} x {example['height']}; "
            "the data set is damaged"
        )
    flags = _COLOR if stream == "frames" else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None or (stream != "frames" and (image.ndim != 2 or image.dtype != np.uint8)):
        raise InputError(f"{where} cannot be decoded; the data set is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if stream == "frames" else image


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG file, by its header. Raises what Pillow raises."""
    if data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"):  # Ten times faster, and most are.
        return struct.unpack(">II", data[16:24])
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG")).size


def _png(image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()  # OpenCV's own setting is its fastest.


def _jpeg(image, quality) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


class ClipBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder whose splits are mappings of clip names to functions that return the clip."""

    VERSION = tfds.core.Version("1.0.0")
    JPEG_QUALITY = None  # PNG.

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=features(), description=self.__doc__)

    def _clips(self) -> dict[str, dict]:
        """{split: {name: function of no arguments that returns a Clip}}."""
        raise NotImplementedError

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(clips) for split, clips in self._clips().items()}

    def _generate_examples(self, clips):
        for name, make in clips.items():
            yield name, encode(make(), self.JPEG_QUALITY)


class DrawnClipBuilder(ClipBuilder, skip_registration=True):
    """As ClipBuilder, for clips that are drawn: several at once, since OpenCV works without the GIL."""

    def _generate_examples(self, clips):
        make = lambda name, clip: (name, encode(clip(), self.JPEG_QUALITY))
        at_once, waiting = os.cpu_count() or 1, collections.deque()
        # Small pictures gain nothing by threads of OpenCV's own.
        theirs = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
                for item in clips.items():
                    waiting.append(pool.submit(make, *item))
                    if len(waiting) > at_once:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
        finally:
            cv2.setNumThreads(theirs)
