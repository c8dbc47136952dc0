"""Videos and folders in and out, windows, limits, and every refusal by its text."""

import os
import types

import numpy as np
import pytest

from vidpred_jax.data import sizes, video_file, video_io, writing
from vidpred_jax.types import InputError, Limits, UserError


@pytest.fixture
def video(clip):
    return np.repeat(np.repeat(clip.frames[:24], 2, 1), 2, 2)  # 128 x 128, kind to codecs.


@pytest.fixture
def folder(tmp_path, video):
    for i, frame in enumerate(video):
        video_io.write_image(tmp_path / "frames" / f"f{i}.png", frame)  # f10 sorts after f9.
    return tmp_path / "frames"


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".gif", ".avi"])
def test_written_videos_read_back(tmp_path, video, suffix):
    path = tmp_path / f"clip{suffix}"
    video_io.write_video(path, video, fps=10.0)
    found = video_io.read(path)
    assert found.shape == video.shape
    assert np.abs(found.astype(int) - video).mean() < 25  # Lossy; a gif has 256 colours.
    assert video_io.probe(path) == video_io.VideoInfo(128, 128, 10.0)
    window = video_io.read(path, 5, 7)
    np.testing.assert_array_equal(window, found[5:12])
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


def test_folder_in_natural_order_and_windows(folder, video):
    np.testing.assert_array_equal(video_io.read(folder), video)
    np.testing.assert_array_equal(video_io.read(folder, 9, 3), video[9:12])
    assert video_io.probe(folder) == video_io.VideoInfo(128, 128, 24.0)


@pytest.mark.parametrize(
    ("guessed", "average", "expected"),
    [(25, None, 25.0), (None, 0, 24.0), (-1, 30, 30.0), (90_000, 90_000, 24.0), (None, None, 24.0)],
)
def test_a_container_without_a_valid_fps(guessed, average, expected):
    assert video_file.fps_of(types.SimpleNamespace(guessed_rate=guessed, average_rate=average)) == expected


def test_sizes_as_flags_name_them():
    assert sizes.parse("32", "--size") == (32, 32) and sizes.parse("11x8192", "--size") == (11, 8192)
    for text, message in (
        ("10x64", "--size is 64 x 10; both sides must be 11 to 8192"),
        ("64x8193", "--size is 8193 x 64; both sides must be 11 to 8192"),
        ("9" * 5000, "--size must be HEIGHTxWIDTH or SIDE, in pixels"),
        ("1x2x3", "--size must be HEIGHTxWIDTH or SIDE, in pixels"),
    ):
        with pytest.raises(InputError, match=message):
            sizes.parse(text, "--size")
    with pytest.raises(InputError, match="frames is 40 x 31; both sides must be 32 to 8192"):
        sizes.check("frames", (31, 40), least=32)


def test_missing(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.mp4 does not exist; a video file or a folder"):
        video_io.read(tmp_path / "nothing.mp4")


def test_not_a_video(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(InputError, match=r"text\.mp4 cannot be opened as a video; it is truncated"):
        video_io.read(path)


@pytest.mark.parametrize("suffix", [".webm", ".avi", ".mp4"])
def test_truncated(tmp_path, video, suffix):
    path = tmp_path / f"clip{suffix}"
    video_io.write_video(path, video, fps=10.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(InputError, match="truncated"):
        video_io.read(path)


def test_no_frames(tmp_path):
    with pytest.raises(InputError, match=r"holds 0 frames; a frame folder needs \.jpg"):
        video_io.read(tmp_path)


def test_too_few_frames(folder):
    with pytest.raises(InputError, match="has 24 frames; 30 were asked for"):
        video_io.read(folder, 10, 20)


def test_frames_of_different_sizes(folder):
    video_io.write_image(folder / "f5.png", np.zeros((64, 128, 3), np.uint8))
    with pytest.raises(InputError, match=r"f5\.png is 128 x 64; every frame .* must be 128 x 128"):
        video_io.read(folder)


def test_damaged_frame(folder):
    data = (folder / "f3.png").read_bytes()
    (folder / "f3.png").write_bytes(data[:300])
    with pytest.raises(InputError, match=r"f3\.png cannot be opened as an image"):
        video_io.read(folder)
    (folder / "f3.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"f3\.png cannot be opened as an image"):
        video_io.read(folder)


def test_a_flipped_bit_of_a_frame_is_told_in_one_line(folder, capfd):
    data = bytearray((folder / "f3.png").read_bytes())
    data[len(data) // 2] ^= 4
    (folder / "f3.png").write_bytes(data)
    with pytest.raises(InputError, match=r"f3\.png cannot be opened as an image"):
        video_io.read(folder)
    (folder / "f3.png").write_bytes(data[:33] + b"\0\0\0\x0bIEND%B`\x82")  # Without a picture.
    with pytest.raises(InputError, match=r"f3\.png cannot be opened as an image"):
        video_io.read(folder)
    assert not capfd.readouterr().err


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_frames=10), "has more than 10 frames; at most so many are read"),
        (Limits(max_pixels=1000), "is 128 x 128; at most 1000 pixels are read"),
        (Limits(max_bytes=1000), "decodes to more than 1000 bytes"),
    ],
)
def test_limits(folder, limits, message):
    with pytest.raises(InputError, match=message):
        video_io.read(folder, limits=limits)


def test_unknown_suffix_leaves_nothing(tmp_path, video):
    with pytest.raises(InputError, match=r"ends in '\.flv'; videos are written as"):
        video_io.write_video(tmp_path / "clip.flv", video)
    assert not list(tmp_path.iterdir())


def test_a_video_that_does_not_say_how_long_it_is_is_not_cut(tmp_path, video, monkeypatch):
    video_io.write_video(tmp_path / "a.webm", video)
    assert len(video_io.read(tmp_path / "a.webm", limits=Limits(max_frames=24))) == 24
    with pytest.raises(InputError, match=r"a\.webm has more than 23 frames"):
        video_io.read(tmp_path / "a.webm", limits=Limits(max_frames=23))


def test_mp4_of_odd_sizes(tmp_path, video):
    with pytest.raises(InputError, match=r"clip\.mp4 would be 127 x 128; .mp4 needs even sizes"):
        video_io.write_video(tmp_path / "clip.mp4", video[:, :, 1:])
    assert not list(tmp_path.iterdir())


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*file/a\.png"):
        video_io.write_image(tmp_path / "file" / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="file is a file; a folder to write to is needed"):
        writing.check_writable(tmp_path / "file")


def test_full_disk(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full does not exist here")

    def write():
        with writing.atomic(tmp_path / "never.txt"), open("/dev/full", "w") as full:
            full.write("x")

    with pytest.raises(UserError, match="cannot write .*never.txt: No space left on device"):
        write()
    assert not list(tmp_path.iterdir())


def test_links_and_modes_are_kept(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "real.txt").chmod(0o600)
    (tmp_path / "link.txt").symlink_to("real.txt")
    writing.write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"
    assert (tmp_path / "real.txt").stat().st_mode & 0o777 == 0o600
    before = os.umask(0o027)
    try:
        writing.write_text(tmp_path / "fresh.txt", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "fresh.txt").stat().st_mode & 0o777 == 0o640


def test_trying_a_folder_touches_no_file_of_it(tmp_path):
    (tmp_path / ".check").write_text("a user's own")
    writing.check_writable(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == [".check"]
    assert (tmp_path / ".check").read_text() == "a user's own"


def test_what_an_earlier_call_wrote_is_renewed_and_nothing_else(tmp_path):
    out, kept = tmp_path / "out", tmp_path / "kept.png"
    kept.write_text("outside")
    for name in ("metrics.json", "strips/a.png", "a_00000.npz", "mine.json"):
        writing.write_text(out / name, name)
    writing.renew(out, ["metrics.json", "strips/a.png", "a_00000.npz"])
    writing.renew(out, ["strip.png"])
    assert sorted(f.name for f in out.rglob("*.*")) == [".written.json", "mine.json"]
    # A list that is damaged or of somebody else deletes nothing elsewhere.
    for content in (
        '["../kept.png", "strips/../../kept.png", "/etc/passwd", "mine.txt", 3]',
        "{",
        "3",
        "[[]]",
    ):
        (out / ".written.json").write_text(content)
        writing.renew(out, [])
    assert kept.exists() and (out / "mine.json").exists()


def test_a_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    writing.write_text(path, "old")

    def fail():
        with writing.atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
