"""Sizes (height, width) of frames: as flags name them, and elements with the same frames at several.

Flags read HEIGHTxWIDTH. Messages say WIDTH x HEIGHT.
"""

import numpy as np

from vidpred_jax.data import fusion
from vidpred_jax.types import MAX_SIDE, MIN_SIDE, InputError


def check(name: str, size: tuple[int, int], least: int = MIN_SIDE) -> None:
    """Raises InputError for a (height, width) with a side below `least` or above MAX_SIDE."""
    if not all(least <= side <= MAX_SIDE for side in size):
        raise InputError(f"{name} is {by(size)}; both sides must be {least} to {MAX_SIDE}")


def check_multiple(size: tuple[int, int], factor: int, name: str = "picture") -> None:
    """Raises InputError unless both sides of a (height, width) are multiples of `factor`."""
    if any(side % factor for side in size):
        raise InputError(f"{name} is {by(size)}; both sides must be multiples of {factor}")


def parse(text: str, name: str) -> tuple[int, int]:
    """(height, width) of HEIGHTxWIDTH or SIDE, as of `check`. Raises InputError."""
    sides = text.split("x")
    if len(sides) > 2 or not all(s.isdecimal() and len(s) < 10 for s in sides):
        raise InputError(f"{name} must be HEIGHTxWIDTH or SIDE, in pixels")
    size = int(sides[0]), int(sides[-1])
    check(name, size)
    return size


def near(side: int, height: int, width: int) -> list[tuple[int, int]]:
    """Sizes (height, width) whose lesser side is `side`, the other at most four times as long, those first
    whose aspect is nearest to that of height x width.
    """
    least, wanted = min(height, width), side * max(height, width) / min(height, width)
    greater = sorted(range(side, 4 * side + 1), key=lambda length: abs(length - wanted))
    return [(side, length) if height == least else (length, side) for length in greater]


def by(size: tuple[int, int]) -> str:
    """WIDTH x HEIGHT of a (height, width), for messages."""
    return f"{size[1]} x {size[0]}"


def seen_by(size: tuple[int, int], seen: dict[str, tuple[int, int]]) -> list[tuple[int, int]]:
    """The sizes of elements, for `pipeline.evaluation_windows`: first that at which metrics are computed,
    then each other one. seen: {predictor: size of what it is given}. Raises InputError for one below `size`.
    """
    for who, own in seen.items():
        if any(a < b for a, b in zip(own, size, strict=True)):
            raise InputError(f"{who} predicts {by(own)}, less than {by(size)}; change --resolution")
    return list(dict.fromkeys([size, *seen.values()]))


def name(field: str, size: tuple[int, int], first: tuple[int, int]) -> str:
    """The name of a field at a size, where elements' first size is another."""
    return field if size == first else f"{field} {size[0]} x {size[1]}"


def at(size: tuple[int, int], element: dict) -> dict:
    """The element at one of its sizes: its fields under their own names."""
    first = element["frames"].shape[1:3]
    fields = ("frames", "fusion", "planes")
    found = {field: element.get(name(field, size, first)) for field in fields}
    return {**element, **{field: x for field, x in found.items() if x is not None}}


def reduce(frames, elements: list[dict]) -> np.ndarray:
    """Predicted frames (n, t, h, w, 3), resized as `frames` of `elements`."""
    size = elements[0]["frames"].shape[1:3]
    return np.stack([fusion.resize_frames(np.asarray(each), *size) for each in frames])
