"""Mask files, one a frame -> labels."""

import os
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import ImageOps

from vidpred_jax.data import fusion, images, sizes
from vidpred_jax.types import InputError

_SAMPLED = 64  # Masks of a clip by which grey values are judged, beside those that are wanted.
_MOST_IDS = 64
_GREY = ("1", "L", "LA", "I;16", "I")


def read_masks(
    folder: str | os.PathLike,
    num_frames: int,
    size: tuple[int, int],
    start: int = 0,
    stop: int | None = None,
    *,
    frames: str | os.PathLike | None = None,
    log: Callable[[str], None] = print,
) -> np.ndarray:
    """Labels `start` to `stop` of a folder that holds one mask a frame: uint8 (t, h, w), 0 is background.

    num_frames, size: of the video. frames: its folder, if it is one; masks must bear the numbers of its
    images, and of a file's frames those from 0 or 1 on.

    Pixels of a palette or grey image are ids, 255 is void and becomes background (DAVIS's convention). Grey
    images of two modes, near 0 and near their maximum, are one object from half the maximum on, which is
    logged unless all are 0 or 255. Of RGB and RGBA images the colours must be those of DAVIS's palette. What
    ids are is decided once a clip. Raises InputError.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of masks")
    files = images.list_images(folder)
    if len(files) != num_frames:
        raise InputError(f"{folder} holds {len(files)} masks; the video has {num_frames} frames")
    _check_numbers(folder, files, frames)
    wanted = files[start:stop]
    masks = []
    for file in wanted:
        masks.append(_read(file))
        found = masks[-1][0].shape[:2]
        if found != size:
            raise InputError(f"{file} is {sizes.by(found)}; masks must be {sizes.by(size)}, as the frames")
    sampled = [_read(file) for file in files[:: max(len(files) // _SAMPLED, 1)] if file not in wanted]
    colored = any(mask.ndim == 3 and (mask != mask[..., :1]).any() for mask, _ in masks + sampled)
    masks, sampled = ([_plane(*mask, colored) for mask in some] for some in (masks, sampled))
    counts, inner = {True: np.zeros(256, int), False: np.zeros(256, int)}, np.zeros(256, int)
    for mask, is_grey in masks + sampled:
        counts[is_grey] += np.bincount(mask.ravel(), minlength=256)
        inner += np.bincount(_inner(mask), minlength=256) if is_grey else 0
    lossy = any(map(_is_lossy, files))
    if set(np.flatnonzero(counts[True] + counts[False])) <= {0, 255}:
        half = {True: 128, False: 128}
    else:
        half = {True: _threshold(folder, counts[True], None if lossy else inner, log), False: None}
    if half[True] is None and lossy:
        raise InputError(
            f"{folder} holds JPEG or WebP masks of more than one object, whose ids are lost; PNG keeps them"
        )
    return np.stack([_labels(mask, half[is_grey]) for mask, is_grey in masks])


def _plane(mask, is_grey, colored):
    """(uint8 (h, w), whether it is grey): of RGB, ids by colour if any mask of the clip is `colored`."""
    if mask.ndim == 2:
        return mask, is_grey
    return (_ids_of(mask), False) if colored else (np.ascontiguousarray(mask[..., 0]), True)


def _labels(mask, half):
    if half is not None:
        return (mask >= half).astype(np.uint8)
    return np.where(mask == 255, 0, mask).astype(np.uint8)


def _inner(mask):
    """Values of the pixels that equal their four neighbours: of areas, not of rims."""
    same = (mask[1:] == mask[:-1])[:, 1:-1], (mask[:, 1:] == mask[:, :-1])[1:-1]
    return mask[1:-1, 1:-1][same[0][1:] & same[0][:-1] & same[1][:, 1:] & same[1][:, :-1]]


def _threshold(folder, counts, inner, log) -> float | None:
    """Where an object begins in grey images that hold one; None if their values are ids.

    counts: of pixels, by value. inner: of those within areas, None where values are not exact.
    """
    values = np.flatnonzero(counts)
    if not len(values):
        return None
    peak = int(values[-1])
    above = (3 * peak + 3) // 4
    between = counts[peak // 4 + 1 : above]
    # Ids and void leave a gap; between two modes lies a rim, no grey value of which is an area.
    no_ids = np.any((values > _MOST_IDS) & (values < 255))
    # An area of a value that is not 0 or the maximum, nor what noise makes of them, is an object of its own.
    near, areas = (4 if peak >= 250 else 1), False
    if inner is not None and len(values) <= _MOST_IDS:
        areas = 20 * inner[near : peak - near + 1].max(initial=0) > inner[peak - near + 1 :].sum()
    if no_ids and not areas and between.sum() <= counts[above:].sum() >= 4 * between.max(initial=0):
        log(f"{folder}: masks of grey values up to {peak} are read as one object, from {peak / 2:g} on")
        return peak / 2
    if len(values) > _MOST_IDS:
        raise InputError(
            f"{folder} holds masks of {len(values)} grey values from {values[0]} to {peak}: more than "
            f"{_MOST_IDS} ids of objects, and not near black and white either"
        )
    if no_ids and peak == 255:
        raise InputError(
            f"{folder} holds masks of grey values {', '.join(map(str, values))}: whether 255 is void or an "
            "object is not told; give ids from 1 on, or palette images"
        )
    return None


def _check_numbers(folder, files, frames):
    """Raises InputError where numbers of names say that a mask belongs to another frame."""
    found = images.numbers(files)
    of = images.list_images(frames) if frames is not None and pathlib.Path(frames).is_dir() else None
    expected = range(len(files)) if of is None else images.numbers(of)
    if found is None or expected is None or len(expected) != len(found):
        return
    apart = {mask - frame for mask, frame in zip(found, expected, strict=True)}
    if apart != {0} and not (len(apart) == 1 and {found[0], expected[0]} == {0, 1}):
        first, last = (f"{0:05d}", f"{len(files) - 1:05d}") if of is None else (of[0].stem, of[-1].stem)
        raise InputError(
            f"{folder} holds masks {files[0].stem} to {files[-1].stem} for frames {first} to {last}; a mask "
            "bears its frame's number"
        )


_NO_ID = 255
_CODE = np.array([1 << 16, 1 << 8, 1])
_PALETTE = fusion.PALETTE.astype(int) @ _CODE
_ORDER = np.argsort(_PALETTE)


def _read(file) -> tuple[np.ndarray, bool]:
    """(uint8 (h, w) or, of colours, (h, w, 3); whether it is grey rather than ids)."""
    with images.picture(file) as image:
        image, mode = ImageOps.exif_transpose(image), image.mode
        if mode == "P" and _is_black_and_white(image):
            image, mode = image.convert("L"), "L"
        mask = np.asarray(image.convert("L") if mode == "1" else image)
    if mode in ("LA", "RGBA"):
        clear, mask = mask[..., -1:] < 128, mask[..., :-1]
        if clear.any() and not clear.all() and not mask[~clear[..., 0]].any():
            raise InputError(
                f"{file} shows black on nothing: whether that is an object or the background is not told"
            )
        mask = np.where(clear, 0, mask)
        mask = mask[..., 0] if mode == "LA" else mask
    elif mode not in ("P", "RGB", *_GREY):
        raise InputError(f"{file} has mode {mode}; a mask is a palette, grey or RGB image")
    if mask.min() < 0 or mask.max() > 255:
        raise InputError(f"{file} holds ids up to {mask.max()}; a mask has 0 to 255")
    if mask.ndim == 3:
        strange = mask[_ids_of(mask) == _NO_ID]
        grey = (mask == mask[..., :1]).all()
        if strange.size and not grey:
            raise InputError(
                f"{file} holds the colour {tuple(map(int, strange[0]))}, which is not in DAVIS's palette: "
                "it names no object"
            )
    return mask.astype(np.uint8), mode != "P"


def _is_black_and_white(image) -> bool:
    """Whether a palette has two greys, maybe padded: then which is brighter counts, not which comes first."""
    colors = np.reshape(image.getpalette("RGB"), (-1, 3))
    used = [index for _, index in image.getcolors() if index < len(colors)]
    greys = bool((colors == colors[:, :1]).all()) and len(np.unique(colors[:, 0])) == 2
    return greys and len(np.unique(colors[used, 0])) == len(used)


def _is_lossy(file) -> bool:
    """Whether an image's format changes values: JPEG, and WebP that is not lossless."""
    if file.suffix.lower() == ".webp":
        with open(file, "rb") as opened:
            return b"VP8L" not in opened.read(64)
    return file.suffix.lower() in (".jpg", ".jpeg", ".jfif")


def _ids_of(colors: np.ndarray) -> np.ndarray:
    """The palette's ids of RGB colours; _NO_ID for others."""
    codes = colors.astype(int) @ _CODE
    ids = _ORDER[np.searchsorted(_PALETTE[_ORDER], codes).clip(max=255)]
    return np.where(_PALETTE[ids] == codes, ids, _NO_ID).astype(np.uint8)
