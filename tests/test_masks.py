"""Mask files: ids as they were meant, once a clip, or one line that says why not."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from vidpred_jax.data import fusion, images, masks
from vidpred_jax.types import InputError


def write_masks(folder, masks, mode="P"):
    folder.mkdir()
    for i, mask in enumerate(masks):
        image = Image.fromarray(mask, "L")
        if mode == "P":
            image = Image.fromarray(mask, "P")
            image.putpalette(fusion.PALETTE.tobytes())
        image.save(folder / f"{i:05d}.png")
    return folder


@pytest.mark.parametrize("mode", ["P", "L"])
def test_ids_are_kept(tmp_path, clip, mode):
    folder = write_masks(tmp_path / "m", clip.labels[:3], mode)
    np.testing.assert_array_equal(masks.read_masks(folder, 3, (64, 64)), clip.labels[:3])


def test_binary_and_void(tmp_path):
    binary, ids = np.uint8([[0, 255]]), np.uint8([[2, 255]])
    folder = write_masks(tmp_path / "binary", [binary, binary], "L")
    assert masks.read_masks(folder, 2, (1, 2)).tolist() == [[[0, 1]], [[0, 1]]]
    # Beside ids anywhere in the clip 255 is void.
    folder = write_masks(tmp_path / "ids", [binary, ids], "L")
    assert masks.read_masks(folder, 2, (1, 2)).tolist() == [[[0, 0]], [[2, 0]]]
    assert masks.read_masks(folder, 2, (1, 2), start=1).tolist() == [[[2, 0]]]


def test_count_and_size_are_checked(tmp_path, clip):
    folder = write_masks(tmp_path / "m", clip.labels[:3])
    with pytest.raises(InputError, match="holds 3 masks; the video has 4 frames"):
        masks.read_masks(folder, 4, (64, 64))
    with pytest.raises(InputError, match=r"00000\.png is 64 x 64; masks must be 32 x 48"):
        masks.read_masks(folder, 3, (48, 32))
    with pytest.raises(InputError, match="is not a folder of masks"):
        masks.read_masks(tmp_path / "none", 3, (64, 64))


@pytest.fixture
def two():
    """Forty masks of two objects, and the pixels of each."""
    labels = np.zeros((40, 48, 64), np.uint8)
    labels[:, 8:24, 10:30], labels[:, 30:44, 35:50] = 1, 2
    return labels


def save(folder, pictures, name="{:05d}.png", first=0, **options):
    folder.mkdir()
    for n, picture in enumerate(pictures, first):
        Image.fromarray(picture).save(folder / name.format(n), **options)
    return folder


def read(folder, **options):
    told = []
    return masks.read_masks(folder, 40, (48, 64), log=told.append, **options), told


def test_grey_masks_of_two_modes_are_one_object(tmp_path, two):
    """Blurred, compressed, of another maximum, smoothed: from half the maximum on, which is told."""
    binary = (two > 0).astype(np.uint8)
    soft = [cv2.GaussianBlur(255 * mask, (5, 5), 0) for mask in binary]
    few = [127 * mask + 127 * np.roll(mask, 1, 1) for mask in binary]  # Half covered at two sides.
    cases = {
        "soft": save(tmp_path / "soft", soft),
        "jpeg": save(tmp_path / "jpeg", 255 * binary, "{:05d}.jpg", quality=90),
        "half": save(tmp_path / "half", 128 * binary),
        "few": save(tmp_path / "few", few),
    }
    for name, folder in cases.items():
        found, told = read(folder)
        assert np.abs(found.astype(int) - binary).mean() < 0.02 and found.max() == 1, name
        assert len(told) == 1 and "are read as one object, from" in told[0], name
    # The same of a part of the clip, without a pixel of the object in it.
    empty = [np.full((48, 64), 3 * (t % 2), np.uint8) for t in range(20)] + soft[20:]
    found, _ = read(save(tmp_path / "late", empty), start=0, stop=16)
    assert not found.any()


def test_ids_beside_void_and_ids_of_many_objects(tmp_path, two):
    void = np.where(two == 2, 255, two)
    found, told = read(save(tmp_path / "void", void))
    np.testing.assert_array_equal(found, two * (two == 1))
    many = two.copy()
    for i in range(3, 30):
        many[:, 0:4, 2 * i : 2 * i + 2] = i
    found, more = read(save(tmp_path / "many", many))
    np.testing.assert_array_equal(found, many)
    levels = 40 * two  # Far apart, but areas.
    found, most = read(save(tmp_path / "levels", levels))
    np.testing.assert_array_equal(found, levels)
    assert not told and not more and not most


def test_colours_and_alpha(tmp_path, two):
    """RGB and RGBA in DAVIS's colours; grey beside alpha; what is transparent is background."""
    colors = fusion.PALETTE[two]
    np.testing.assert_array_equal(read(save(tmp_path / "rgb", colors))[0], two)
    opaque = np.where(two == 2, 0, 255)[..., None].astype(np.uint8)
    both = np.concatenate([colors, opaque], -1)
    np.testing.assert_array_equal(read(save(tmp_path / "rgba", both))[0], two * (two < 2))
    grey = np.stack([255 * (two > 0).astype(np.uint8), np.full_like(two, 255)], -1)
    np.testing.assert_array_equal(read(save(tmp_path / "la", grey))[0], two > 0)
    white = np.repeat(grey[..., :1], 3, -1)
    np.testing.assert_array_equal(read(save(tmp_path / "white", white))[0], two > 0)
    # Id 7 is a grey colour: one that is none beside it decides for the clip.
    seven = fusion.PALETTE[np.where(two == 2, 7, 0)]
    seven[0] = colors[0]
    found, _ = read(save(tmp_path / "seven", seven))
    assert found[1:].max() == 7 and set(np.unique(found[0])) == {0, 1, 2}


@pytest.mark.parametrize("padding", [0, 1, 254])
def test_a_padded_palette_of_black_and_white(tmp_path, two, padding):
    """The brighter colour is the object, in whichever order; a palette whose colours do not tell ids apart
    keeps its ids."""
    folder = tmp_path / "m"
    folder.mkdir()
    for n, mask in enumerate(two > 0):
        image = Image.fromarray(1 - mask.astype(np.uint8), "P")
        image.putpalette([255] * 3 + [0] * 3 * (1 + padding))
        image.save(folder / f"{n:05d}.png")
    np.testing.assert_array_equal(read(folder)[0], two > 0)
    for n, mask in enumerate(two):
        image = Image.fromarray(mask, "P")
        image.putpalette([0] * 3 + [255] * 3 + [0] * 3)
        image.save(folder / f"{n:05d}.png")
    np.testing.assert_array_equal(read(folder)[0], two)


@pytest.mark.parametrize("ids", [(1, 77), (12, 126), (63, 65), (1, 2, 90)])
def test_exact_grey_values_of_several_areas_are_ids(tmp_path, two, ids):
    given = np.zeros_like(two)
    for n, number in enumerate(ids):
        given[:, 14 * n : 14 * n + 12, 10:30] = number
    found, told = read(save(tmp_path / "m", given))
    np.testing.assert_array_equal(found, given)
    assert not told


def test_black_on_nothing_is_no_mask(tmp_path, two):
    black = np.zeros((*two.shape, 4), np.uint8)
    black[..., 3] = 255 * (two > 0)
    with pytest.raises(InputError, match="00000.png shows black on nothing: whether that is an object or"):
        read(save(tmp_path / "m", black))


def test_what_nobody_meant_is_refused(tmp_path, two):
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (40, 48, 1))
    ramp[..., 0] = 1
    colors = fusion.PALETTE[two]
    colors[3, 20, 20] = (1, 2, 3)
    wide = two.astype(np.uint16) * 300
    many = [
        np.repeat(np.repeat(m, 8, 0), 8, 1)
        for m in np.random.default_rng(0).integers(0, 9, (40, 6, 8), np.uint8)
    ]
    for name, pictures, suffix, message in (
        (
            "ramp",
            np.concatenate([ramp, ramp + 1], 1)[:, 24:72],
            "png",
            "grey values from .* more than 64 ids",
        ),
        ("colour", colors, "png", r"00003.png holds the colour \(1, 2, 3\), which is not in DAVIS's palette"),
        ("wide", wide, "png", "holds ids up to 600; a mask has 0 to 255"),
        ("lost", many, "jpg", "holds JPEG or WebP masks of more than one object, whose ids"),
        (
            "cmyk",
            [np.zeros((48, 64, 4), np.uint8)] * 40,
            "cmyk",
            "has mode CMYK; a mask is a palette, grey or RGB",
        ),
    ):
        folder = tmp_path / name
        if suffix == "cmyk":
            folder.mkdir()
            for t, picture in enumerate(pictures):
                Image.fromarray(picture, "CMYK").save(folder / f"{t:05d}.jpg")
        else:
            save(folder, pictures, "{:05d}." + suffix)
        with pytest.raises(InputError, match=message):
            read(folder)


def test_a_mask_bears_its_frames_number(tmp_path, two):
    at = lambda name, first: save(tmp_path / name, two, first=first)
    frames, none, one, five = (at(name, first) for name, first in (("f", 0), ("m0", 0), ("m1", 1), ("m5", 5)))
    for folder in (none, one):
        for of in (None, frames):
            np.testing.assert_array_equal(read(folder, frames=of)[0], two)
    np.testing.assert_array_equal(read(five, frames=at("f5", 5))[0], two)
    with pytest.raises(InputError, match="m5 holds masks 00005 to 00044 for frames 00000 to 00039"):
        read(five, frames=frames)
    with pytest.raises(InputError, match="m5 holds masks 00005 to 00044 for frames 00000 to 00039"):
        read(five)
    (five / "00010.png").rename(five / "00045.png")  # One is missing, one too many at the end.
    with pytest.raises(InputError, match="m5 holds masks 00005 to 00045 for frames 00005 to 00044"):
        read(five, frames=tmp_path / "f5")


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 4 4
%%EndComments
%ImageData: 4 4 8 1 0 1 1 "image"
showpage
"""


def test_only_pictures_are_opened_whatever_their_suffix(tmp_path, clip):
    """Pillow would give this one to Ghostscript, and a stranger's program would run."""
    folder = write_masks(tmp_path / "m", clip.labels[:3])
    (folder / "00001.png").write_bytes(EPS)
    with pytest.raises(InputError, match="cannot be"):
        masks.read_masks(folder, 3, clip.labels.shape[1:])
    with pytest.raises(InputError, match="cannot be opened as an image"):
        images.read(folder / "00001.png")
    os.remove(folder / "00001.png")
    os.mkfifo(folder / "00001.png")  # Would be waited for.
    with pytest.raises(InputError, match="holds 2 masks"):
        masks.read_masks(folder, 3, clip.labels.shape[1:])
