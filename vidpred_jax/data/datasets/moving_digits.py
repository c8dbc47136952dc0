"""`moving_digits` and Moving MNIST: two digits bounce over black, by the rule of the field's benchmark.

Validation and test sequences are stored. Training sequences are drawn as they are asked for, each a function
of the run's seed and its number, from digits that the others do not show.
"""

import dataclasses
import functools
import gzip
import math
import pathlib
import zlib
from collections.abc import Sequence

import cv2
import numpy as np

from vidpred_jax.data.datasets import building, clips, metadata, synthesis
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import Clip, InputError, reason

NAME = "moving_mnist"
HINT = (
    f"data set {NAME!r} is made by: python scripts/prepare.py --moving_mnist --idx=FILE, with an MNIST "
    "images file (t10k-images-idx3-ubyte.gz)"
)


@dataclasses.dataclass
class MovingDigitsConfig(building.BuildConfig):
    """idx: an MNIST images file (idx3-ubyte, .gz or not); empty: scikit-learn's digits. test: the field's
    test sequences, a .npy; empty: `num_test` are drawn.

    Of the digits, the last tenth is for test, the twentieth before for validation, the rest for training.
    """

    idx: str = ""
    test: str = ""
    size: int = 64
    num_frames: int = 20
    num_validation: int = 500
    num_test: int = 500
    seed: int = 0


class MovingDigits(building.ClipBuilder, skip_registration=True):
    """Two digits bounce over black: Moving MNIST (Srivastava et al. 2015), by OpenSTL's rule.

    Split `train` is one clip, whose frames are the digits that training sequences are drawn from.
    """

    BUILDER_CONFIGS = [
        MovingDigitsConfig(name="48", num_frames=48, num_validation=100, num_test=200),
        MovingDigitsConfig(name="20"),  # The benchmark's length: 10 -> 10.
        MovingDigitsConfig(name="tiny", num_frames=48, num_validation=4, num_test=4),
    ]

    least = math.inf  # Each would be sent all digits.

    def _info(self):
        info = super()._info()
        info.metadata["drawn"] = {"train": self.builder_config.size}
        return info

    def _clips(self):
        config = self.builder_config
        digits = read_idx(config.idx) if config.idx else load_sklearn_digits()
        number, height, width = digits.shape
        if number < 20 or height != width or width >= config.size:
            raise InputError(
                f"idx file {config.idx!r} holds {number} pictures of {height} x {width}; 20 or more squares, "
                f"smaller than {config.size}, are needed"
            )
        tenth = number // 10
        train, validation, test = np.split(digits, [-tenth - tenth // 2, -tenth])
        found = {
            "train": {"digits": lambda: train},
            "validation": self._sequences("validation", 1, config.num_validation, validation),
            "test": self._sequences("test", 3, config.num_test, test),
        }
        if config.test:
            many = read_sequences(config.test)
            found["test"] = {
                f"test_{i:05d}": functools.partial(many.__getitem__, np.s_[:, i])
                for i in range(many.shape[1])
            }
        return {
            split: {name: functools.partial(_clip, config, name, make) for name, make in makers.items()}
            for split, makers in found.items()
        }

    def _sequences(self, split, stream, number, digits) -> dict:
        """`number` sequences, by the second part of their seed."""
        config = self.builder_config
        draw = lambda i: synthesis.moving_digits(
            np.random.default_rng([config.seed, stream, i]), digits, config.num_frames, config.size
        )
        return {f"{split}_{i:05d}": functools.partial(draw, i) for i in range(number)}


def _clip(config, name, make, log) -> Clip:
    del log
    grey = np.asarray(make())
    frames, labels = to_rgb(grey), synthesis.ink(grey)
    return prepare_clip(name, frames, labels=labels, edge_rule=config.edge_rule, fps=synthesis.FPS)


def to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, -1)


class DrawnSource:
    """A split whose clips are drawn: of any length, as many as are asked for.

    names: (), for none is stored. num_labels, edge_rule: as of `clips.Source`.
    """

    names = ()

    def __init__(self, builder, split: str):
        found = metadata.read(builder)
        self.num_labels, self.edge_rule = found.num_labels, found.edge_rule
        self._size = found.drawn[split]
        self._digits = clips.decode_streams(clips.Source(builder, split)[0], ["frames"])
        self._digits = self._digits["frames"][..., 0]

    def clip_name(self, index) -> str:
        return f"drawn {index}"

    def draw(self, seed: Sequence[int], num_frames: int, streams: Sequence[str]) -> dict:
        """The `streams`, as of `clips.decode_streams`, of the clip of a seed."""
        rng = np.random.default_rng(seed)
        grey = synthesis.moving_digits(rng, self._digits, num_frames, self._size)
        make = {
            "frames": lambda: to_rgb(grey),
            "labels": lambda: synthesis.ink(grey),
            "edges": lambda: self.edge_rule.apply(to_rgb(grey)),
        }
        return {stream: make[stream]() for stream in streams}


def load_sklearn_digits(side: int = 28) -> np.ndarray:
    """The 1,797 digits (8 x 8) of `sklearn.datasets.load_digits`, enlarged: uint8 (n, side, side)."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError("data set 'moving_digits' needs scikit-learn: pip install scikit-learn") from error
    images = (load_digits().images * 15.9375).astype(np.uint8)
    return np.stack([cv2.resize(i, (side, side), interpolation=cv2.INTER_CUBIC) for i in images])


def read_idx(path: str) -> np.ndarray:
    """Images of an idx3-ubyte file: uint8 (n, h, w)."""
    if not pathlib.Path(path).is_file():
        raise InputError(f"idx file {path!r} does not exist")
    opener = gzip.open if path.endswith(".gz") else open
    try:
        with opener(path, "rb") as file:
            header = file.read(16)
            if len(header) < 16 or header[:4] != b"\0\0\x08\x03":
                raise InputError(f"idx file {path!r} does not begin as an idx3-ubyte images file")
            shape = tuple(int(n) for n in np.frombuffer(header[4:], ">i4"))
            count = math.prod(shape)
            if min(shape) < 1 or count > 1 << 30:
                raise InputError(f"idx file {path!r} declares shape {shape}; at most 1 GiB is read")
            data = np.frombuffer(file.read(count), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"idx file {path!r} cannot be read: {error}") from error
    if data.size != count:
        raise InputError(f"idx file {path!r} is truncated: {data.size} of {count} bytes")
    return data.reshape(shape)


def read_sequences(path: str) -> np.ndarray:
    """Grey sequences of a .npy file, as the field's `mnist_test_seq.npy`: uint8 (20, n, 64, 64)."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, kind = found.shape, found.dtype
    except Exception as error:  # Of many kinds.
        raise InputError(f"test sequences {path!r} cannot be read: {reason(error)}") from error
    if len(shape) != 4 or shape[0] != 20 or shape[2:] != (64, 64) or not shape[1] or kind != np.uint8:
        raise InputError(f"test sequences {path!r} hold {kind} {shape}; uint8 (20, n, 64, 64) is needed")
    return found
