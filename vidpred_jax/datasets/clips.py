"""The clip format on disk: one TFDS example a clip, every frame encoded on its own.

Encoded bytes instead of TFDS's image features let a reader decode a window of a long clip, and
need no TensorFlow.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import tensorflow_datasets as tfds

from vidpred_jax import fusion
from vidpred_jax.types import Clip, InputError

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


def decode(example: dict, indices: Sequence[int] | np.ndarray | None = None) -> Clip:
    """The frames at `indices` (None: all) of an example."""
    indices = range(int(example["num_frames"])) if indices is None else indices
    decoded = {
        stream: np.stack([_image(example[stream][i], stream, name(example)) for i in indices])
        for stream in _STREAMS
    }
    return Clip(name=name(example), **decoded)


def _image(data: bytes, stream: str, name: str) -> np.ndarray:
    flags = _COLOR if stream == "frames" else cv2.IMREAD_UNCHANGED
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise InputError(f"{stream} of clip {name!r} cannot be decoded; the data set is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if stream == "frames" else image


def _png(image) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


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
