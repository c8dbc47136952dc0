"""Sizes of frames: as commands name them, and elements that hold the same frames at several."""

import numpy as np

from vidpred_jax.data import fusion
from vidpred_jax.types import InputError


def parse(text: str, what: str) -> tuple[int, int]:
    """(height, width) of HEIGHTxWIDTH or SIDE, each 11 (SSIM's window) or more. Raises InputError."""
    sides = text.split("x")
    if len(sides) > 2 or not all(s.isdecimal() and int(s) >= 11 for s in sides):
        raise InputError(f"{what} must be HEIGHTxWIDTH or SIDE, 11 or more")
    return int(sides[0]), int(sides[-1])


def by(size: tuple[int, int]) -> str:
    """HEIGHT x WIDTH, for people."""
    return f"{size[0]} x {size[1]}"


def fields(size: tuple[int, int], seen: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """What `pipeline.evaluation_windows` puts into elements: `frames` at the size at which they are
    measured, and a field for each other size that a predictor sees. seen: by who sees it.

    Raises InputError for one that is less than what is measured.
    """
    for who, own in seen.items():
        if any(a < b for a, b in zip(own, size, strict=True)):
            raise InputError(f"{who} predicts {by(own)}, less than {by(size)}; change --resolution")
    return {"frames": size, **{_field(own): own for own in seen.values() if own != size}}


def field(size: tuple[int, int], elements: list[dict]) -> str:
    """The field of such elements that holds frames of a size."""
    return "frames" if size == elements[0]["frames"].shape[1:3] else _field(size)


def _field(size):
    return f"frames {by(size)}"


def reduce(frames, elements: list[dict]) -> np.ndarray:
    """Predicted frames (n, t, h, w, 3) at the size at which those of `elements` are measured."""
    size = elements[0]["frames"].shape[1:3]
    return np.stack([fusion.resize_frames(np.asarray(each), *size) for each in frames])
