"""`digits`: moving digits at 64 x 64, from scikit-learn's digits or MNIST idx files."""

import dataclasses
import functools
import gzip
import math
import pathlib
import zlib

import cv2
import numpy as np

from vidpred_jax.data.datasets import clips, synthesis
from vidpred_jax.types import InputError


@dataclasses.dataclass
class DigitsConfig(clips.ClipConfig):
    """idx: an MNIST images file (idx3-ubyte, .gz or not); empty: scikit-learn's digits.

    Of the digits, the last tenth is for test clips, the tenth before for validation, the rest for train.
    """

    idx: str = ""
    size: int = 64
    num_frames: int = 48
    num_train: int = 2000
    num_validation: int = 100
    num_test: int = 200
    seed: int = 0


class Digits(clips.DrawnClipBuilder, skip_registration=True):
    """Two digits bounce over black, after Moving MNIST (Srivastava et al. 2015)."""

    BUILDER_CONFIGS = [
        DigitsConfig(name="48"),
        DigitsConfig(name="20", num_frames=20),  # Moving MNIST's length: 10 -> 10.
        DigitsConfig(name="tiny", num_train=12, num_validation=4, num_test=4),
    ]

    def _clips(self):
        config = self.builder_config
        digits = read_idx(config.idx) if config.idx else load_sklearn_digits()
        tenth = len(digits) // 10
        shares = {
            "train": (digits[: -2 * tenth], config.num_train),
            "validation": (digits[-2 * tenth : -tenth], config.num_validation),
            "test": (digits[-tenth:], config.num_test),
        }
        return {
            split: {
                f"{split}_{i:05d}": functools.partial(self._draw, split, number, i, share)
                for i in range(size)
            }
            for number, (split, (share, size)) in enumerate(shares.items())
        }

    def _draw(self, split, number, i, digits):
        config = self.builder_config
        rng = np.random.default_rng([config.seed, number, i])
        return synthesis.digit_clip(
            rng, f"{split}_{i:05d}", digits, config.num_frames, config.size, config.edge_rule
        )


def load_sklearn_digits(side: int = 28) -> np.ndarray:
    """The 1,797 digits (8 x 8) of `sklearn.datasets.load_digits`, enlarged: uint8 (n, side, side)."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError(
            "data set 'digits' needs scikit-learn (pip install scikit-learn), or an idx file by "
            "scripts/prepare.py --idx=FILE"
        ) from error
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
