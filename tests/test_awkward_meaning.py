"""Inputs that can be read, but mean something else than what stands in them first."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from numbered_videos import FFMPEG, SIDE, encode, ffmpeg, numbered, numbers, save
from PIL import Image

import vidpred_jax
from vidpred_jax.data import images, writing
from vidpred_jax.data.datasets import folders, registry
from vidpred_jax.types import InputError


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [(), ("-display_hflip",), ("-display_vflip",)], ids=["", "hflip", "vflip"])
def test_turned_and_mirrored_as_ffmpeg_shows_it(tmp_path, turn, flip):
    encode(tmp_path / "a.mp4", frames=numbered(3)[:, :48])
    ffmpeg("-display_rotation", turn, *flip, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    command = [
        FFMPEG,
        "-loglevel",
        "error",
        "-i",
        tmp_path / "b.mp4",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ]
    expected = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.uint8)
    found = vidpred_jax.read_video(tmp_path / "b.mp4")
    assert found.shape[1:3] == ((SIDE, 48) if turn % 180 else (48, SIDE))
    assert np.abs(found.astype(int) - expected.reshape(found.shape)).mean() < 1


def test_an_angle_between_is_refused(tmp_path):
    encode(tmp_path / "a.mp4", frames=numbered(3))
    ffmpeg("-display_rotation", 45, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
    with pytest.raises(InputError, match=r"b.mp4 is to be shown turned by .*; multiples of 90"):
        vidpred_jax.read_video(tmp_path / "b.mp4")


def test_a_webm_that_is_damaged_in_the_middle_loses_no_frame_unseen(tmp_path):
    encode(tmp_path / "a.webm", "-c:v", "libvpx-vp9", "-g", "10", "-cluster_time_limit", "200")
    data = bytearray((tmp_path / "a.webm").read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"\x1f\x43\xb6\x75"]  # Clusters.
    data[at[3] : at[3] + 8] = bytes(8)
    (tmp_path / "b.webm").write_bytes(data)
    assert numbers(vidpred_jax.read_video(tmp_path / "b.webm", 0, 10)) == list(range(10))
    with pytest.raises(InputError, match=r"b.webm is truncated or damaged: frame \d+ cannot be decoded"):
        vidpred_jax.read_video(tmp_path / "b.webm")
    assert numbers(vidpred_jax.read_video(tmp_path / "a.webm")) == list(range(40))


def test_images_of_several_pictures_are_no_frames(tmp_path):
    pictures = [Image.fromarray(frame) for frame in numbered(20)]
    for clip in ("a", "b"):
        (tmp_path / "in" / "walk").mkdir(parents=True, exist_ok=True)
        path = tmp_path / "in" / "walk" / f"{clip}.webp"
        pictures[0].save(path, save_all=True, append_images=pictures[1:], lossless=True)
    assert list(folders.find_clips(tmp_path / "in")) == ["walk_a", "walk_b"]
    (tmp_path / "stack").mkdir()
    pictures[0].save(tmp_path / "stack" / "all.tif", save_all=True, append_images=pictures[1:])
    with pytest.raises(InputError, match=r"all.tif holds 20 pictures; an image of a folder is one frame"):
        vidpred_jax.read_video(tmp_path / "stack")


def test_frames_that_are_not_there(tmp_path):
    folder = save(tmp_path / "a", numbered(20))
    (folder / "00020.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(InputError, match=r"00020.png is a link to what is no file"):
        vidpred_jax.read_video(folder)
    other = save(
        tmp_path / "b", numbered(20), [f"{n:05d}.{('jpg', 'jfif')[n % 2]}" for n in range(20)], format="JPEG"
    )
    assert numbers(vidpred_jax.read_video(other)) == list(range(20))


def test_exif_behind_the_pixels_of_a_png_turns_it_too(tmp_path):
    frames, exif = numbered(20), Image.Exif()
    exif[0x112] = 3
    folder = save(tmp_path / "in" / "a", frames[:, ::-1, ::-1], exif=exif.tobytes())
    for file in folder.iterdir():
        data = file.read_bytes()
        at = data.index(b"eXIf") - 4
        chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4])]
        end = data.rindex(b"IEND") - 4
        file.write_bytes(data[:at] + data[at + len(chunk) : end] + chunk + data[end:])
    np.testing.assert_array_equal(vidpred_jax.read_video(folder), frames)
    assert images.original_bytes(folder / "00000.png") is None  # Such bytes would be shown turned.


def test_what_stands_behind_a_photograph_is_not_its_scan(tmp_path):
    folder = save(tmp_path / "a", numbered(20), "{:05d}.jpg")
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes() + b"ftypmp42\xff\xda" + bytes(100))
    assert numbers(vidpred_jax.read_video(folder)) == list(range(20))


def test_a_start_before_the_first_frame_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"start \(-1\) of .* must be a whole number, 0 or more"):
        vidpred_jax.read_video(save(tmp_path / "a", numbered(20)), -1)


def square(count=20, value=1):
    """Masks of a square, and their frames."""
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    masks[:, 8:24, 8:40] = value
    return masks


def test_white_may_come_first_in_a_palette(tmp_path):
    (tmp_path / "m").mkdir()
    for n, mask in enumerate(square()):
        swapped = Image.fromarray(mask, "P")
        swapped.putpalette([255, 255, 255, 0, 0, 0])  # White all around the square.
        swapped.save(tmp_path / "m" / f"{n:05d}.png", bits=1)
    found = vidpred_jax.read_masks(tmp_path / "m", 20, (SIDE, SIDE), log=lambda line: None)
    np.testing.assert_array_equal(found, 1 - square())


def test_numbers_within_the_names_of_masks(tmp_path):
    frames = save(tmp_path / "f", numbered(20))
    masks = save(tmp_path / "m", square(), [f"{n + 5:05d}_mask.png" for n in range(20)])
    with pytest.raises(InputError, match=r"masks 00005_mask to 00024_mask for frames 00000 to 00019; a mask"):
        vidpred_jax.read_masks(masks, 20, (SIDE, SIDE), frames=frames)


def test_masks_are_turned_as_their_frames_are(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    turned = np.ascontiguousarray(np.rot90(square(), 1, (1, 2)))
    folder = save(tmp_path / "m", turned, exif=exif.tobytes())
    np.testing.assert_array_equal(vidpred_jax.read_masks(folder, 20, (SIDE, SIDE)), square())


def test_greys_of_two_objects_are_not_guessed(tmp_path):
    masks = square(value=127)
    masks[:, 40:60, 40:60] = 255
    folder = save(tmp_path / "m", masks)
    message = r"m holds masks of grey values 0, 127, 255: whether 255 is void or an object is not told"
    with pytest.raises(InputError, match=message):
        vidpred_jax.read_masks(folder, 20, (SIDE, SIDE))


def test_ids_in_lossy_webp_are_lost(tmp_path):
    masks = np.minimum(square(value=60) + 2 * np.roll(square(value=60), 24, 1), 120)
    save(tmp_path / "m", np.repeat(masks[..., None], 3, -1)[..., 0], "{:05d}.webp", quality=60)
    with pytest.raises(
        InputError, match="JPEG or WebP masks of more than one object, whose ids are lost|ids"
    ):
        vidpred_jax.read_masks(tmp_path / "m", 20, (SIDE, SIDE))


def davis(root, size="480p", train=("bear", "camel"), val=("dog",)):
    for clip in {*train, *val}:
        save(root / "JPEGImages" / size / clip, numbered(20), "{:05d}.jpg")
        save(root / "Annotations" / size / clip, square(), "{:05d}.png")
    (root / "ImageSets").mkdir()
    for name, clips in (("train", train), ("val", val)):
        (root / "ImageSets" / f"{name}.txt").write_text("\n".join(clips))
    return root


def test_davis_in_full_resolution(tmp_path):
    splits = folders.davis_splits(davis(tmp_path, "Full-Resolution"))
    assert {split: list(members) for split, members in splits.items()} == {
        "train": ["bear"],
        "validation": ["camel"],
        "test": ["dog"],
    }
    assert all(masks is not None for members in splits.values() for _, masks in members.values())


def test_a_clip_in_both_lists_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"clip 'dog' is in train.txt and in val.txt"):
        folders.davis_splits(davis(tmp_path, train=("bear", "dog")))


def test_a_preview_beside_clips_is_no_clip(tmp_path):
    for name in "ab":
        encode(tmp_path / "cat" / f"{name}.mp4", frames=numbered(20))
    Image.fromarray(numbered(1)[0]).save(tmp_path / "cat" / "cover.png")
    told = []
    assert list(folders.find_clips(tmp_path, log=told.append)) == ["cat_a", "cat_b"]
    assert told == [f"left out: {tmp_path}/cat/cover.png is not a clip"]


def test_a_clip_whose_name_is_no_text_is_refused(tmp_path):
    try:
        encode(tmp_path / "a.mp4", frames=numbered(20)).rename(tmp_path / "\udcff.mp4")
    except OSError:
        pytest.skip("this system has no such names")
    with pytest.raises(InputError, match="has characters in its name that cannot be printed; rename it"):
        folders.find_clips(tmp_path)


def test_a_split_that_loses_every_clip_is_not_written(tmp_path):
    for name in "abz":
        encode(tmp_path / "in" / f"{name}.mp4", "-c:v", "libx264", "-movflags", "faststart", "-crf", "5")
    whole = (tmp_path / "in" / "z.mp4").read_bytes()
    (tmp_path / "in" / "z.mp4").write_bytes(whole[: len(whole) * 9 // 10])
    told, fields = [], dict(input=str(tmp_path / "in"), skip_bad=True, log=lambda line: told.append(line))
    with pytest.raises(InputError, match="all 1 clips of split test cannot be read; mend or remove them"):
        registry.prepare(registry.video_folder("mine", tmp_path / "data", **fields))
    assert not list((tmp_path / "data").rglob("metadata.json"))


def test_a_file_of_the_user_is_not_replaced(tmp_path):
    (tmp_path / "prediction.gif").write_bytes(b"mine")
    with pytest.raises(
        InputError, match=r"prediction.gif was not written by this command; name another folder"
    ):
        writing.check_writable(tmp_path, ["strip.png", "prediction.gif"])
    writing.renew(tmp_path, ["prediction.gif"])
    writing.check_writable(tmp_path, ["strip.png", "prediction.gif"])


def test_commands_that_would_lose_or_guess(tmp_path):
    """An input among the outputs, the folder of the frames as output, and flags that are empty."""
    frames = save(tmp_path / "frames", numbered(20))
    video = encode(tmp_path / "out" / "prediction.gif", "-c:v", "gif", frames=numbered(20))
    before = hashlib.sha256(video.read_bytes()).digest()
    for flags, message in (
        (
            [f"--video={video}", f"--output={tmp_path / 'out'}"],
            "prediction.gif was not written by this command",
        ),
        ([f"--video={frames}", f"--output={frames}"], "is the folder of the video's frames; name another"),
        (
            [f"--video={frames}", f"--output={tmp_path}", "--save_frames"],
            "is the folder of the video's frames; name another",
        ),
        (
            [f"--video={frames}", f"--masks={tmp_path}", f"--output={tmp_path}"],
            "is the folder of the video's masks; name another",
        ),
        (
            [f"--video={video}", f"--output={video}"],
            "prediction.gif is a file; a folder to write to is needed",
        ),
        (["--video=", f"--output={tmp_path / 'new'}"], "--video= is empty"),
        ([f"--video={video}", "--output="], "--output= is empty"),
    ):
        done = subprocess.run([sys.executable, "scripts/rollout.py", *flags], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
    assert hashlib.sha256(video.read_bytes()).digest() == before
