"""The clip format on disk: one TFDS example a clip, its frames as encoded images.

The features hold bytes, not TFDS's images: a reader can decode a part of a long clip, without TensorFlow.
"""

import io
import struct
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from vidpred_jax.data import sizes
from vidpred_jax.data.datasets import metadata
from vidpred_jax.types import Clip, InputError, reason

FILE_FORMAT = "array_record"
_COLOR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # As video_io reads.
_PNG = b"\x89PNG\r\n\x1a\n"
_STREAMS = ("frames", "labels", "edges")


def features() -> tfds.features.FeaturesDict:
    """name, num_frames, height, width, fps; frames (PNG or JPEG), labels and edges (PNG) per frame."""
    encoded = {stream: tfds.features.Sequence(tfds.features.Text()) for stream in _STREAMS}
    numbers = {name: np.int32 for name in ("num_frames", "height", "width")}
    return tfds.features.FeaturesDict({"name": tfds.features.Text(), "fps": np.float64, **numbers, **encoded})


def encode(clip: Clip, jpeg_quality: int | None = None) -> dict:
    """A clip as an example of `features()`. jpeg_quality: of frames that are not encoded yet; None: PNG."""
    num_frames, height, width = clip.labels.shape
    bgr = clip.frames[..., ::-1]
    return {
        "name": clip.name,
        "num_frames": num_frames,
        "height": height,
        "width": width,
        "fps": float(clip.fps),
        "frames": clip.encoded or [_png(f) if jpeg_quality is None else _jpeg(f, jpeg_quality) for f in bgr],
        "labels": [_png(f) for f in clip.labels],
        "edges": [_png_of_few_levels(f) for f in clip.edges],
    }


def name(example: dict) -> str:
    text = example["name"]
    return text.decode() if isinstance(text, bytes) else text


class Source(Sequence):
    """The examples of a prepared split, or of several joined by `+`, by number.

    Known without reading an example: `names`, list of str; `num_frames`, int (n,); `sizes`, int (n, 2),
    height and width; `fps`, float (n,); `num_labels`, background included; `edge_rule`.
    """

    def __init__(self, builder, split: str):
        """Raises InputError for damaged metadata."""
        found = metadata.read(builder)
        self.num_labels, self.edge_rule = found.num_labels, found.edge_rule
        parts = split.split("+")
        joined = lambda key: [x for part in parts for x in found.splits[part][key]]
        self.names = joined("name")
        self.num_frames = np.array(joined("num_frames"), int)
        self.sizes = np.array([joined("height"), joined("width")], int).T
        self.fps = np.array(joined("fps"), float)
        self._source = builder.as_data_source(split=split)
        self._splits = [builder.info.splits[part] for part in parts]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index) -> dict:
        """An example of `features()`. Raises IndexError, and InputError that names a damaged shard."""
        index = range(len(self))[index]
        try:
            example = self._source[index]
            self._check(example, index)
        except Exception as error:
            raise InputError(f"{self._shard(index)} is damaged: {reason(error)}") from error
        return example

    def clip_name(self, index) -> str:
        return self.names[index]

    def _check(self, example, index):
        """Raises ValueError for an example that is not the one the metadata tell of."""
        clip, total = self.names[index], self.num_frames[index]
        expected = (clip, total, *self.sizes[index], self.fps[index])
        found = (name(example), *(example[column] for column in metadata.COLUMNS[1:]))
        if found != expected:
            found, expected = (" ".join(map(str, each)) for each in (found, expected))
            raise ValueError(f"clip {found} is not {expected}, as in metadata.json")
        lengths = {stream: len(example[stream]) for stream in _STREAMS}
        if set(lengths.values()) != {total}:
            raise ValueError(f"clip {clip!r} of {total} frames holds {lengths}")

    def _shard(self, index) -> str:
        files = [file for split in self._splits for file in split.filepaths]
        ends = np.cumsum([n for split in self._splits for n in split.shard_lengths])
        return str(files[int(np.searchsorted(ends, index, side="right"))])


def decode(example: dict, indices: Sequence[int] | np.ndarray | None = None) -> Clip:
    """The frames at `indices` (None: all) of an example. Raises InputError."""
    streams = decode_streams(example, _STREAMS, indices)
    return Clip(name=name(example), fps=float(example["fps"]), **streams)


def decode_streams(
    example: dict, streams: Sequence[str], indices: Sequence[int] | np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The `streams` (`frames`, `labels` or `edges`) that `decode` gives, of the frames at `indices`."""
    indices = range(int(example["num_frames"])) if indices is None else indices
    return {stream: np.stack([_image(example, stream, int(i)) for i in indices]) for stream in streams}


def _image(example: dict, stream: str, index: int) -> np.ndarray:
    data, where = example[stream][index], f"{stream} of clip {name(example)!r}"
    try:
        width, height = _size(data)  # Before memory is taken for it.
    except Exception as error:
        raise InputError(f"{where} cannot be decoded; the data set is damaged") from error
    if (height, width) != (own := (example["height"], example["width"])):
        raise InputError(
            f"{where} are {sizes.by((height, width))}, the clip is {sizes.by(own)}; the data set is damaged"
        )
    flags = _COLOR if stream == "frames" else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None or (stream != "frames" and (image.ndim != 2 or image.dtype != np.uint8)):
        raise InputError(f"{where} cannot be decoded; the data set is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if stream == "frames" else image


def _size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG or JPEG file, by its header. Raises what Pillow raises."""
    if data.startswith(_PNG + b"\0\0\0\rIHDR"):  # Ten times faster than Pillow.
        return struct.unpack(">II", data[16:24])
    return Image.open(io.BytesIO(data), formats=("PNG", "JPEG")).size


def _png(image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()  # OpenCV's own setting is its fastest.


def _png_of_few_levels(image: np.ndarray) -> bytes:
    """A grey PNG of as many bits a pixel as tell its levels apart: 1 (0 and 255), 2 (thirds) or 8; OpenCV's
    have 8, and are larger and slower for it."""
    bits, step = next((bits, step) for bits, step in ((1, 255), (2, 85), (8, 1)) if not (image % step).any())
    (height, width), per_byte = image.shape, 8 // bits
    levels = np.pad(image // step, ((0, 0), (0, -width % per_byte)))
    # A row begins with the number of its filter: 0, none.
    rows = np.zeros((height, 1 + levels.shape[1] // per_byte), np.uint8)
    for i in range(per_byte):
        rows[:, 1:] |= levels[:, i::per_byte] << (8 - bits * (i + 1))
    squeezed = zlib.compressobj(1, strategy=zlib.Z_RLE)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0),
        b"IDAT": squeezed.compress(rows.tobytes()) + squeezed.flush(),
        b"IEND": b"",
    }
    chunk = lambda kind, data: (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    )
    return _PNG + b"".join(chunk(*part) for part in parts.items())


def _jpeg(image, quality) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
