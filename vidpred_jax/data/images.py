"""Image files and folders of them, one a frame -> uint8 RGB arrays."""

import contextlib
import decimal
import itertools
import os
import pathlib
import re
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, ImageOps, ImageSequence

from vidpred_jax.data import sizes
from vidpred_jax.types import MAX_FPS, InputError, Limits, reason

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")
ANIMATED = (".webp", ".gif")  # Of which Pillow reads what FFmpeg does not.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # Pillow runs external programs to open some others.


def natural_key(path: pathlib.Path) -> list:
    """Sorts frame before frame2 before frame10."""
    suffix = path.suffix.lower() if path.suffix.lower() in SUFFIXES else ""
    parts = re.split(r"([0-9]+)", path.name.lower().removesuffix(suffix))
    return [[int(part) if i % 2 else part for i, part in enumerate(parts)], suffix]


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    """The frames of a folder in their order: by the numbers that end their names, where all have one, else
    naturally. Hidden files are none. Raises InputError where one frame stands there twice.
    """
    entries = (f for f in pathlib.Path(folder).iterdir() if f.suffix.lower() in SUFFIXES)
    files = sorted(
        (f for f in entries if f.name[0] != "." and (f.is_file() or f.is_symlink())), key=natural_key
    )
    stems = {}
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is a link to what is no file")
        other = stems.setdefault(file.stem, file)
        if other is not file:
            raise InputError(
                f"{folder} holds {file.stem} twice: {other.suffix} and {file.suffix}; a folder holds one "
                "image a frame"
            )
    known = numbers(files)
    if known is not None:
        files = [file for _, file in sorted(zip(known, files, strict=True), key=lambda pair: pair[0])]
    return files


def numbers(files: list[pathlib.Path]) -> list[decimal.Decimal] | None:
    """The numbers of names that are alike but for their last number, such as f_7, -0.5, clip-012 or 7_mask;
    None where they are not.

    A hyphen or a point that stands before the same in every name parts words, it is no sign and no fraction;
    nor are digits after a point a fraction where they differ in length and some end in 0, as in 1.9 and 1.10.
    """
    name = re.compile(r"(.*?)(-?)((?:[0-9]+\.)?)([0-9]+)([^0-9]*)", re.DOTALL)
    parts = [name.fullmatch(file.stem) for file in files]
    if not all(parts) or len({(part[1], part[5]) for part in parts}) > 1:
        return None
    signed = len({part[2] for part in parts}) > 1
    whole = {part[3] for part in parts}
    kept = [part[2] * signed + part[3] * (len(whole) > 1 or whole == {"0."}) + part[4] for part in parts]
    ends = [number.partition(".")[2] for number in kept]
    if len(set(map(len, ends))) > 1 and any(end[1:].endswith("0") for end in ends):
        return None
    found = [decimal.Decimal(number) for number in kept]
    return found if len(set(found)) == len(found) else None


@contextlib.contextmanager
def opened(path: str | os.PathLike, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A file as Pillow opens it, without the warnings that would stand beside our line."""
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=formats) as image:
        yield image


@contextlib.contextmanager
def picture(path: str | os.PathLike, limits: Limits = Limits()) -> Iterator[Image.Image]:
    """An image file of one picture, opened. Raises InputError beyond `limits`, for a wrong checksum, and for
    whatever fails within the block.
    """
    try:
        with opened(path) as image:
            check_pixels(path, image.size[::-1], limits)
            if image.format in ("PNG", "WEBP", "TIFF") and (many := getattr(image, "n_frames", 1)) > 1:
                raise InputError(f"{path} holds {many} pictures; an image of a folder is one frame")
            if image.format == "PNG":
                image.verify()
        with opened(path) as image:
            yield image
    except InputError:
        raise
    except Exception as error:  # Of many kinds, for damaged files.
        if str(error).startswith("image file is truncated"):  # Pillow's words of JPEG and others.
            raise InputError(f"{path} is cut off: its end is missing") from error
        raise InputError(f"{path} cannot be opened as an image: {reason(error)}") from error


def read(path: str | os.PathLike, limits: Limits = Limits()) -> tuple[np.ndarray, bool]:
    """(uint8 (h, w, 3), RGB, as the image is shown; whether it holds 16 bits). Raises InputError."""
    with picture(path, limits) as image:
        if image.mode in ("I", "F"):
            raise InputError(f"{path} holds values of 32 bits; 8 or 16 bits are read")
        deep = image.format in ("PNG", "TIFF") and ";16" in str(image.tile)
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return np.asarray(image.convert("RGB")), deep


def read_folder(files: list[pathlib.Path], limits: Limits, check) -> Iterator[np.ndarray]:
    """The frames of image files, all of one size. check: called with the folder at each; it may raise."""
    size, peaks = None, []
    for file in files:
        check(file.parent)
        frame, deep = read(file, limits)
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            raise InputError(
                f"{file} is {sizes.by(frame.shape[:2])}; every frame of the folder must be {sizes.by(size)}, "
                "as the first"
            )
        yield frame
        peaks += [256 * int(frame.max()) + 255] if deep else []
    peak = max(peaks, default=None)
    if peak is not None and peak < 1 << 15:  # Of all frames together: one of them may be dark.
        raise InputError(
            f"{files[0].parent} holds 16-bit images with no value above {peak}: of {peak.bit_length()} bits, "
            "which would be dark; write them with 8, or scale them to 16"
        )


def is_animated(path: str | os.PathLike) -> bool:
    """Whether it is a WebP or PNG file of several pictures."""
    if pathlib.Path(path).suffix.lower() not in (".webp", ".png"):
        return False
    with contextlib.suppress(Exception), opened(path, ("WEBP", "PNG")) as image:
        return getattr(image, "is_animated", False)
    return False


@contextlib.contextmanager
def _animation(path, limits):
    """An animated WebP or GIF file, opened. Raises InputError for whatever fails within the block."""
    try:
        # Frames are given out within the block, so that warnings are silent for as long as one is read.
        with Image.open(path, formats=("WEBP", "GIF")) as image:
            check_pixels(path, image.size[::-1], limits)
            with open(path, "rb") as file:
                file.seek(max(os.path.getsize(path) - 4096, 0))
                if image.format == "GIF" and file.read().rstrip(b"\0")[-1:] != b";":
                    raise InputError(f"{path} is cut off: its end is missing")
            yield image
    except InputError:
        raise
    except Exception as error:  # Of many kinds, for damaged files.
        raise InputError(f"{path} cannot be read as an animation: {reason(error)}") from error


def read_animation(path, start: int, limits: Limits, check) -> Iterator[np.ndarray]:
    """Frames of an animated WebP or GIF file. Raises InputError."""
    with _animation(path, limits) as image:
        for number in range(start, image.n_frames):
            check(path)
            with warnings.catch_warnings(action="ignore"):
                image.seek(number)
                frame = np.asarray(image.convert("RGB"))
            yield frame


def animation_fps(path, limits: Limits = Limits()) -> float:
    """Frames a second of such a file, by its first ones; 24 if unknown. Raises InputError."""
    told = []
    with _animation(path, limits) as image:
        for frame in itertools.islice(ImageSequence.Iterator(image), 64):
            frame.load()
            told.append(frame.info.get("duration", 0))
    return 1000 * len(told) / sum(told) if sum(told) * MAX_FPS >= 1000 * len(told) else 24.0


def original_bytes(file: pathlib.Path) -> bytes | None:
    """A JPEG or PNG file, which need not be encoded anew; None for what is shown turned or has 16 bits."""
    with opened(file) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        plain = upright and image.mode in ("RGB", "L", "LA", "P", "RGBA", "1")
        return file.read_bytes() if plain and image.format in ("JPEG", "PNG") else None


def check_pixels(path, size: tuple[int, int], limits: Limits) -> None:
    """Raises InputError for a (height, width) beyond `limits`."""
    if size[0] * size[1] > limits.max_pixels:
        raise InputError(f"{path} is {sizes.by(size)}; at most {limits.max_pixels} pixels are read")
