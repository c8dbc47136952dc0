"""Predictions of another system, read from files: they are scored as ours are.

A folder holds one entry a window, named `CLIP_START` (start: the window's first context frame, five
digits) or, where a clip has one window, `CLIP`: a `.npz` with one array `frames`, a video file, or
a sub-folder of images. Each holds the `horizon` frames after the context and nothing else.
"""

import collections
import math
import os
import pathlib
import zipfile
from collections.abc import Callable

import numpy as np

from vidpred_jax.data import fusion, video_io
from vidpred_jax.types import InputError, Limits, reason

_MOST_BYTES = 16  # Of a value.
_MUCH_BLACK = 0.2  # Of values: more than that is no prediction of a darker scene.


class Folder:
    """A predictor over files. Raises InputError at once if a window's file is missing."""

    def __init__(
        self,
        folder: str | os.PathLike,
        windows: list[tuple[str, int]],
        horizon: int,
        height: int,
        width: int,
        log: Callable[[str], None] = print,
    ):
        """windows: (clip, start) of all that will be asked for. log: is told once what may have cost a
        prediction its score."""
        self._shape, self._log, self._told = (horizon, height, width, 3), log, set()
        self._name = str(folder)
        folder = pathlib.Path(folder)
        if not folder.is_dir():
            raise InputError(f"predictions {str(folder)!r} is not a folder")
        entries = {}
        for path in folder.iterdir():
            name = path.name if path.is_dir() else path.stem
            if path.is_dir() or path.suffix.lower() in (".npz", *video_io.VIDEO_SUFFIXES):
                if name in entries:
                    raise InputError(f"{folder} holds both {entries[name].name} and {path.name}")
                entries[name] = path
        counts = collections.Counter(clip for clip, _ in windows)
        self._paths = {}
        for clip, start in windows:
            names = [window_name(clip, start)] + [clip] * (counts[clip] == 1)
            found = [entries[name] for name in names if name in entries]
            if not found:
                raise InputError(
                    f"{folder} has no prediction of clip {clip!r} from frame {start}: "
                    f"{' or '.join(names)} (.npz, a video file or a folder of images) is needed"
                )
            self._paths[clip, start] = found[0]

    def __call__(self, seen: list[dict]) -> dict:
        frames = np.stack([self._read(self._paths[e["clip"], e["start"]]) for e in seen])
        black = np.mean(frames == 0) - np.mean([(e["frames"] == 0).mean() for e in seen])
        if black > _MUCH_BLACK:
            share = f"{100 * black:.0f} % more of the values are exactly 0"
            self._tell("black", f"{share} than of the frames before: were they cut at 0?")
        if frames.dtype == np.uint8:
            return {"frames": frames}
        return {"frames": fusion.quantize(frames), "unclipped": frames}

    def _tell(self, kind, what):
        if kind not in self._told:
            self._told.add(kind)
            self._log(f"warning: predictions in {self._name}: {what}")

    def _read(self, path):
        if path.suffix.lower() in video_io.VIDEO_SUFFIXES and path.suffix.lower() not in (".npy", ".gif"):
            self._tell("lossy", f"{path.name} is a video file: its compression counts as theirs")
        if path.suffix.lower() == ".npz":
            frames = _read_npz(path, self._shape)
        else:
            frames = video_io.read(path, limits=Limits(max_frames=4 * self._shape[0] + 16))
        if frames.shape != self._shape:
            raise InputError(
                f"{path} holds frames of shape {frames.shape}; {self._shape} is needed "
                "(horizon, height, width, 3)"
            )
        return frames


def window_name(clip: str, start: int) -> str:
    return f"{clip}_{start:05d}"


def _read_npz(path, shape):
    """Integers are 0..255, floats 0..1 and may leave that range a little: they are not clipped.

    An archive that holds much more is refused before memory is taken for it.
    """
    try:
        # A file that is no archive is one array, which np.load would read whole.
        archive = zipfile.ZipFile(path)
        with archive, np.load(path, allow_pickle=False) as arrays:
            if "frames.npy" not in archive.namelist():
                raise InputError(f"{path} has no array 'frames', but {', '.join(arrays.files)}")
            size = archive.getinfo("frames.npy").file_size
            if size > _MOST_BYTES * (math.prod(shape) + 1000):
                raise InputError(
                    f"{path} holds {size} bytes; frames of shape {shape} are needed "
                    "(horizon, height, width, 3)"
                )
            frames = arrays["frames"]
    except InputError:
        raise
    except Exception as error:  # Of many kinds: zipfile's, zlib's, NumPy's, the tokenizer's.
        raise InputError(f"{path} cannot be read: {reason(error)}") from error
    if frames.dtype.kind not in "iuf":
        raise InputError(f"{path} holds {frames.dtype}; integers or floats are needed")
    if frames.dtype.kind in "iu":
        if frames.size and not 0 <= frames.min() <= frames.max() <= 255:
            raise InputError(f"{path} holds integers outside 0 to 255")
        if frames.size and frames.max() == 1:
            raise InputError(f"{path} holds integers of 0 and 1; integers are 0 to 255, floats 0 to 1")
        return frames.astype(np.uint8)
    low, high = (frames.min(), frames.max()) if frames.size else (0, 0)
    if not -0.25 <= low <= high <= 2:  # A little outside is left as it is; another range is refused.
        raise InputError(
            f"{path} holds floats from {low:g} to {high:g}; floats must be in [0, 1], not [-1, 1], [-.5, .5] "
            "or 0 to 255"
        )
    return np.float32(frames) * 255
