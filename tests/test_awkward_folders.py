"""Folders of frames and of clips as people have them: read as they were meant, or one line why not."""

import io

import numpy as np
import pytest
from numbered_videos import encode, numbered, numbers, save
from PIL import Image

import vidpred_jax
from vidpred_jax.data import images
from vidpred_jax.data.datasets import clips, folders, registry
from vidpred_jax.types import InputError

RESOURCE_FORK = b"\0\5\x16\7" + bytes(200)  # What macOS leaves beside a file on other disks.


def test_hidden_files_are_no_frames(tmp_path):
    folder = save(tmp_path / "a", numbered())
    for n in range(40):
        (folder / f"._{n:05d}.png").write_bytes(RESOURCE_FORK)
    assert numbers(vidpred_jax.read_video(folder)) == list(range(40))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photographs_are_turned_as_they_say(tmp_path, orientation):
    """Read upright; prepared, the same pixels stand in the data set, though not the same bytes."""
    frames = numbered()[:, :, :48]
    exif = Image.Exif()
    exif[0x112] = orientation
    turned = {3: 2, 6: 1, 8: 3}[orientation]  # Quarter turns, counterclockwise, of how it was saved.
    saved = np.ascontiguousarray(np.rot90(frames, turned, (1, 2)))
    save(tmp_path / "in" / "a", saved, "{:05d}.png", exif=exif.tobytes())
    save(tmp_path / "in" / "b", saved, "{:05d}.jpg", quality=100, subsampling=0, exif=exif.tobytes())
    save(tmp_path / "c", saved, "{:05d}.tif", exif=exif.tobytes())
    for folder in (tmp_path / "in" / "a", tmp_path / "c"):
        np.testing.assert_array_equal(vidpred_jax.read_video(folder), frames)
    upright = vidpred_jax.read_video(tmp_path / "in" / "b")
    assert np.abs(upright.astype(int) - frames).mean() < 3
    fields = dict(input=str(tmp_path / "in"), num_validation=0, num_test=0, lossless=True)
    registry.prepare(registry.video_folder("mine", tmp_path / "data", **fields))
    source = registry.open_split("mine", "train", data_dir=tmp_path / "data")
    for example, expected in zip(source, (frames, upright), strict=True):
        np.testing.assert_array_equal(clips.decode(example).frames, expected)


def test_images_that_are_cut_off(tmp_path):
    frames = numbered(20, 128)
    noise = np.random.default_rng(0).integers(-20, 20, frames.shape)
    frames = (frames + noise).clip(0, 255).astype(np.uint8)
    for suffix, options in (
        (".jpg", {}),
        (".png", {}),
        (".webp", {}),
        (".bmp", {}),
        (".tif", {}),
        (".jpeg", {"progressive": True}),
    ):
        folder = save(tmp_path / suffix[1:], frames, "{:05d}" + suffix, **options)
        path = folder / f"00005{suffix}"
        whole = path.read_bytes()
        for share in (0.3, 0.6, 0.99):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(InputError, match=f"00005{suffix} (is cut off|cannot be opened as an image)"):
                vidpred_jax.read_video(folder)
        path.write_bytes(whole + b"more" * 9)  # What cameras append does no harm.
        assert len(vidpred_jax.read_video(folder)) == 20
    thumbnail = io.BytesIO()
    Image.fromarray(frames[0, :32, :32]).save(thumbnail, "JPEG")
    comment = thumbnail.getvalue()  # A picture within the picture has an end of its own.
    folder = save(tmp_path / "thumbnail", frames, "{:05d}.jpg", comment=comment)
    assert len(vidpred_jax.read_video(folder)) == 20
    whole = (folder / "00007.jpg").read_bytes()
    (folder / "00007.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="00007.jpg is cut off: its end is missing"):
        vidpred_jax.read_video(folder)


def test_frames_and_masks_in_one_folder(tmp_path):
    folder = save(tmp_path / "a", numbered(), "{:05d}.jpg")
    for n, frame in enumerate(numbered()):
        Image.fromarray(frame[..., 0]).save(folder / f"{n:05d}.png")
    with pytest.raises(
        InputError, match=r"a holds 00000 twice: \.jpg and \.png; a folder holds one image a frame"
    ):
        vidpred_jax.read_video(folder)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["2.png", "10.jpg", "1.webp"], [2, 0, 1]),
        (["frame2.png", "frame.png", "frame10.png"], [1, 0, 2]),
        (["img (1).png", "img.png", "img (2).png"], [1, 0, 2]),
        (["shot-1.png", "shot.png", "shot-2.png"], [1, 0, 2]),
        (["1.10.png", "1.9.png", "2.2.png"], [1, 0, 2]),
        (["f-2.png", "f-10.png", "f-1.png"], [2, 0, 1]),
        (["0.5.png", "0.25.png", "1.0.png"], [1, 0, 2]),
        (["-1.png", "0.png", "-2.5.png"], [2, 0, 1]),
        (["cam1.9.png", "cam1.10.png", "cam1.11.png"], [0, 1, 2]),
        (["10\N{SUPERSCRIPT TWO}3.png", "2.png", "b.png"], [1, 0, 2]),
        (["\N{DEVANAGARI DIGIT TWO}.png", "1.png", "3.png"], [1, 2, 0]),
    ],
)
def test_order_of_names(tmp_path, names, order):
    """By number, sign and fraction; digits of other scripts are letters."""
    folder = save(tmp_path / "a", numbered(3), names)
    assert [file.name for file in images.list_images(folder)] == [names[i] for i in order]
    assert len(vidpred_jax.read_video(folder)) == 3


def test_images_of_16_bits(tmp_path):
    deep = numbered(4).astype(np.uint16)[..., 0] * 257
    folder = tmp_path / "a"
    folder.mkdir()
    for n, frame in enumerate(deep):
        Image.fromarray(frame).save(folder / f"{n}.png")
    Image.fromarray(deep[0] >> 6).save(folder / "4.png")  # A dark frame of a clip that is not.
    found = vidpred_jax.read_video(folder)
    np.testing.assert_array_equal(found[:4, ..., 0], numbered(4)[..., 0])
    for bits in (10, 12, 14, 15):
        for n in range(5):
            Image.fromarray(deep[n % 4] >> 16 - bits).save(folder / f"{n}.png")
        message = (
            f"a holds 16-bit images with no value above {2**bits - 1}: of {bits} bits, which would be dark"
        )
        with pytest.raises(InputError, match=message):
            vidpred_jax.read_video(folder)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".webp"])
def test_alpha_is_dropped(tmp_path, suffix):
    frames = np.concatenate([numbered(3), np.full((3, 64, 64, 1), 100, np.uint8)], -1)
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    folder = save(tmp_path / "a", frames, "{:05d}" + suffix, **options)
    np.testing.assert_array_equal(vidpred_jax.read_video(folder), frames[..., :3])


@pytest.fixture
def mixed(tmp_path):
    """Clips of many suffixes at several depths, and what is none."""
    root = tmp_path / "in"
    (root / "dance" / "__MACOSX").mkdir(parents=True)
    for name in ("a.MP4", "b.MOV", "c.mpg", "dance/a.ts"):
        encode(root / name)
    save(root / "dance" / "frames", numbered(), "{:05d}.jpg", quality=95)
    (root / ".DS_Store").write_bytes(b"x")
    (root / "._a.MP4").write_bytes(RESOURCE_FORK)
    (root / "dance" / "__MACOSX" / "._a.ts").write_bytes(RESOURCE_FORK)
    (root / "notes.txt").write_text("not a clip\n")
    (root / "dance" / "nothing").mkdir()
    (root / "dance" / "again").symlink_to("..")  # Would be walked through without end.
    return root


def build(root, tmp_path, told, **fields):
    fields = {"num_validation": 0, "num_test": 1, "log": told.append, **fields}
    builder = registry.video_folder("mine", tmp_path / "data", input=str(root), **fields)
    registry.prepare(builder)
    return [registry.open_split("mine", s, data_dir=tmp_path / "data").names for s in ("train", "test")]


def test_clips_are_found_at_any_depth_and_what_is_none_is_told(mixed, tmp_path):
    told = []
    train, test = build(mixed, tmp_path, told)
    assert train == ["a", "b", "c", "dance_a"] and test == ["dance_frames"]
    others = [mixed / "dance" / "again", mixed / "dance" / "nothing", mixed / "notes.txt"]
    assert told[:3] == [f"left out: {other} is not a clip" for other in others]
    encode(mixed / "dance_a.mp4")
    with pytest.raises(InputError, match="holds two clips named 'dance_a'; names must differ"):
        folders.find_clips(mixed)


def test_clips_that_cannot_be_read_are_all_told_at_once(mixed, tmp_path):
    (mixed / "empty.mp4").touch()
    (mixed / "text.mkv").write_text("no video")
    whole = (mixed / "b.MOV").read_bytes()
    (mixed / "b.MOV").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        InputError, match=r"3 of 7 clips cannot be read: .*b.MOV .*empty.mp4 .*text.mkv .*skip_bad"
    ):
        build(mixed, tmp_path, [])
    assert not (tmp_path / "data" / "mine").exists() or not any(
        (tmp_path / "data" / "mine").rglob("*.array_record*")
    )
    told = []
    train, test = build(mixed, tmp_path, told, skip_bad=True)
    assert (train, test) == (["a", "c", "dance_a"], ["dance_frames"])
    assert sum("cannot be opened as a video" in line for line in told) == 3


def test_skip_bad_goes_on_past_a_frame_that_turns_out_damaged(mixed, tmp_path):
    path = mixed / "dance" / "frames" / "00020.jpg"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="00020.jpg"):
        build(mixed, tmp_path / "one", [])
    told = []
    train, test = build(mixed, tmp_path, told, skip_bad=True, num_test=2)
    assert (train, test) == (["a", "b", "c"], ["dance_a"]) and "00020.jpg" in told[-1]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_davis_2016_as_it_is(tmp_path, encoding):
    """Lists of pairs of paths, with either line end, and masks of two channels."""
    root = tmp_path / "davis"
    rows = []
    for clip in ("bear", "camel"):
        save(root / "JPEGImages/480p" / clip, numbered(20), "{:05d}.jpg", quality=95)
        alpha = np.full((64, 64), 255, np.uint8)
        masks = [
            np.stack([255 * (np.arange(64) > 20 + n) * np.ones((64, 1)), alpha], -1).astype(np.uint8)
            for n in range(20)
        ]
        save(root / "Annotations/480p" / clip, masks)
        rows += [
            f"/JPEGImages/480p/{clip}/{n:05d}.jpg /Annotations/480p/{clip}/{n:05d}.png 1\r\n"
            for n in range(20)
        ]
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "train.txt").write_bytes("".join(rows).encode(encoding))
    (root / "ImageSets" / "480p" / "val.txt").write_text("")
    registry.prepare(registry.video_folder("d16", tmp_path / "data", input=str(root)))
    found = [
        registry.open_split("d16", split, data_dir=tmp_path / "data") for split in ("train", "validation")
    ]
    assert [source.names for source in found] == [["bear"], ["camel"]]
    assert clips.decode(found[0][0]).labels.sum((1, 2)).tolist() == [64 * (43 - n) for n in range(20)]
