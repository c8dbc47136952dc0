"""What `Predictor.predict` takes: arrays of any library, or a video, as uint8 RGB clips."""

import os

import jax.numpy as jnp
import numpy as np

from vidpred_jax.data import video_io
from vidpred_jax.types import InputError, reason


def clips(frames, context: int) -> tuple[np.ndarray, float | None, bool]:
    """(uint8 (b, t, h, w, 3), RGB; frames a second, None of an array; whether `frames` are a batch).

    frames: uint8 in [0, 255] or floats in [0, 1], (t, h, w, c), (b, t, h, w, c) or grey (t, h, w), c of 3 or
    1; or the path of a video or a folder of frames, of which the last `context` are read. Raises InputError.
    """
    if isinstance(frames, (str, os.PathLike)):
        start = max(video_io.count(frames) - context, 0)
        found = video_io.read(frames, start, context, at_most=True)
        return found[None], video_io.probe(frames).fps, False
    found = array(frames, "frames")
    told = f"frames are {found.dtype} {found.shape}"
    found = found[..., None] if found.ndim == 3 and found.shape[-1] not in (1, 3) else found
    if found.ndim not in (4, 5) or found.shape[-1] not in (1, 3) or not found.size:
        raise InputError(f"{told}; they must be (t, h, w, 3), (b, t, h, w, 3), or grey (t, h, w)")
    if jnp.issubdtype(found.dtype, jnp.floating):
        found = found.astype(np.float32)
        if not (found.min() >= 0 and found.max() <= 1):  # Nor where one is no number.
            raise InputError(f"{told} from {found.min():g} to {found.max():g}; floats must lie in [0, 1]")
        found = np.rint(found * 255).astype(np.uint8)
    if found.dtype != np.uint8:
        raise InputError(f"{told}; they must be uint8, or floats in [0, 1]")
    if found.shape[-4] < context:
        raise InputError(f"the clip has {found.shape[-4]} frames; at least {context} are needed")
    batch = found if found.ndim == 5 else found[None]
    return np.repeat(batch, 3, -1) if batch.shape[-1] == 1 else batch, None, found.ndim == 5


def labels(given, shape: tuple[int, ...], batched: bool) -> np.ndarray:
    """uint8 (b, t, h, w) of labels for clips of a shape (b, t, h, w). Raises InputError."""
    found, needed = array(given, "labels"), shape if batched else shape[1:]
    if found.shape != needed:
        raise InputError(f"labels have shape {found.shape}; {needed} is needed")
    if found.dtype.kind not in "iub" or not 0 <= found.min() <= found.max() <= 255:
        raise InputError("labels must be whole numbers from 0 to 255")
    return found.astype(np.uint8).reshape(shape)


def array(given, name: str) -> np.ndarray:
    """Anything that NumPy can look into. Raises InputError, as for a tensor on another device."""
    try:
        return np.asarray(given)
    except Exception as error:
        raise InputError(
            f"{name} ({type(given).__name__}) cannot be read as an array: {reason(error)}"
        ) from error
