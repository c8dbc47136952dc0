"""Video files as people have them: every frame whole and in its place, or one line why not."""

import os
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from numbered_videos import SIDE, X264, encode, ffmpeg, numbered, numbers
from PIL import Image

import vidpred_jax
from vidpred_jax.data import video_file, video_io
from vidpred_jax.types import InputError, Limits


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("videos") / "base.mp4")


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    options = ("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", "-g", "250")
    return encode(tmp_path_factory.mktemp("videos") / "long.mp4", *options, frames=numbered(200))


CODECS = {
    "interlaced.mp4": (*X264, "-x264-params", "interlaced=1"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct"),
    "a.ts": X264,
    "prores.mov": ("-c:v", "prores_ks"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none"),
    "ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv422p10le"),
    "av1.mp4": ("-c:v", "libaom-av1", "-cpu-used", "8"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-b:v", "2M"),
    "a.wmv": ("-c:v", "wmv2", "-b:v", "2M"),
    "a.flv": X264,
    "odd.avi": ("-c:v", "ffv1", "-pix_fmt", "gbrp"),
    "a.apng": ("-f", "apng", "-plays", "0"),
}


@pytest.mark.parametrize("name", CODECS)
def test_codecs(tmp_path, name):
    encode(tmp_path / name, *CODECS[name])
    frames = vidpred_jax.read_video(tmp_path / name)
    assert numbers(frames) == list(range(40))
    assert numbers(vidpred_jax.read_video(tmp_path / name, 7, 5)) == list(range(7, 12))
    info = video_io.probe(tmp_path / name)
    assert (info.height, info.width) == (SIDE, SIDE) and video_io.count(tmp_path / name) == 40


CONTAINERS = {
    "trimmed.mp4": ((), ("-ss", "4"), ("-c", "copy"), range(100, 200)),
    "sound.mkv": (("-f", "lavfi", "-i", "sine=440:duration=20"), (), ("-c:v", "copy"), range(200)),
    "late.mkv": ((), (), ("-c", "copy", "-output_ts_offset", "100"), range(200)),
    "gap.mkv": (
        (),
        (),
        ("-vf", "select='lt(n,20)+gt(n,150)'", "-fps_mode", "vfr", *X264),
        [*range(20), *range(151, 200)],
    ),
    "fast.avi": ((), (), ("-c:v", "mjpeg", "-q:v", "2", "-r", "25"), range(200)),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_containers_say_of_length_and_clock_is_not_believed(tmp_path, long, name):
    more, before, options, expected = CONTAINERS[name]
    ffmpeg(*before, "-i", long, *more, *options, tmp_path / name)
    assert numbers(vidpred_jax.read_video(tmp_path / name)) == list(expected)
    assert video_io.count(tmp_path / name) == len(expected)


def test_a_pause_of_minutes_between_frames(tmp_path, long):
    still = "select='lt(n,100)',setpts='if(lt(N,50),N,N+5000)/25/TB'"
    ffmpeg("-i", long, "-vf", still, "-fps_mode", "vfr", *X264, tmp_path / "still.mp4")
    tone = ("-f", "lavfi", "-i", "sine=440:duration=204", "-c:v", "copy", "-c:a", "aac", "-b:a", "48k")
    ffmpeg("-i", tmp_path / "still.mp4", *tone, tmp_path / "pause.mp4")
    assert numbers(vidpred_jax.read_video(tmp_path / "pause.mp4")) == list(range(100))


def test_tags_of_another_encoding(tmp_path):
    content = encode(tmp_path / "a.mkv", *X264, "-metadata", "title=cafe").read_bytes()
    assert b"cafe" in content
    (tmp_path / "b.mkv").write_bytes(content.replace(b"cafe", b"caf\xe9"))
    assert len(vidpred_jax.read_video(tmp_path / "b.mkv")) == len(numbered())


def test_rotation_and_changes_of_size(tmp_path, base):
    frames = numbered()[:, :48]
    encode(tmp_path / "wide.mp4", frames=frames)
    for degrees, turns in ((90, 1), (180, 2), (270, 3)):
        ffmpeg(
            "-display_rotation", degrees, "-i", tmp_path / "wide.mp4", "-c", "copy", tmp_path / "turned.mp4"
        )
        found = vidpred_jax.read_video(tmp_path / "turned.mp4")
        assert np.abs(found.astype(int) - np.rot90(frames, turns, (1, 2))).mean() < 10
        info = video_io.probe(tmp_path / "turned.mp4")
        assert (info.height, info.width) == found.shape[1:3]
    parts = [encode(tmp_path / f"{side}.ts", frames=numbered(20, side)) for side in (64, 96)]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match="both.ts changes from 64 x 64 to 96 x 96 at frame 20; one size is"):
        vidpred_jax.read_video(tmp_path / "both.ts")
    assert len(vidpred_jax.read_video(tmp_path / "both.ts", 0, 20)) == 20


OPEN = ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=24:bframes=5", "-pix_fmt", "yuv420p")
SOUGHT = {
    "open.mkv": OPEN,
    "open.mp4": OPEN,
    "b.ts": ("-c:v", "libx264", "-g", "24", "-bf", "3", "-pix_fmt", "yuv420p", "-crf", "10"),
    "b.avi": ("-c:v", "mpeg4", "-g", "12", "-bf", "2", "-q:v", "2"),
    "b.mpg": ("-c:v", "mpeg2video", "-g", "12", "-bf", "2", "-q:v", "2"),
    "b.webm": ("-c:v", "libvpx", "-g", "24", "-b:v", "2M"),
    # Of these the packets' times do not tell the frame.
    "h264.avi": X264,
    "mpeg1.mpg": ("-c:v", "mpeg1video", "-q:v", "3"),
    "h264.mxf": (*X264, "-bf", "3", "-g", "30"),
    # Key frames in name: a picture is refreshed part by part.
    "refresh.mp4": (*X264, "-x264-params", "intra-refresh=1:keyint=40:bframes=0"),
    "refresh.mkv": (*X264, "-x264-params", "intra-refresh=1:keyint=40:bframes=0"),
    "hevc.mp4": ("-c:v", "libx265", "-x265-params", "log-level=none:keyint=30:bframes=4"),
}


@pytest.mark.parametrize("name", SOUGHT)
def test_frames_far_into_a_file_are_exact(tmp_path, name):
    frames = numbered(200)
    texture = np.random.default_rng(0).integers(0, 256, (SIDE // 2, SIDE // 2, 3), np.uint8)
    for n, frame in enumerate(frames):  # Moving, so that no picture is mended by what stood there before.
        frame[SIDE // 2 :, SIDE // 2 :] = np.roll(texture, 3 * n, 1)
    encode(tmp_path / name, *SOUGHT[name], frames=frames)
    whole = vidpred_jax.read_video(tmp_path / name)
    assert numbers(whole) == list(range(200))
    for start in (100, 119, 120, 121, 143, 150, 198):
        np.testing.assert_array_equal(
            vidpred_jax.read_video(tmp_path / name, start, 2), whole[start : start + 2]
        )
    limits = Limits(max_frames=5)  # Of what is read, not of the file.
    assert numbers(video_io.read(tmp_path / name, 150, 5, limits)) == list(range(150, 155))


def test_recordings_put_end_to_end_whose_clock_goes_back(tmp_path):
    parts = [
        encode(tmp_path / f"{n}.ts", *X264, "-output_ts_offset", n, frames=numbered(110)) for n in (3, 0.5)
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    whole = vidpred_jax.read_video(tmp_path / "both.ts")
    assert numbers(whole) == 2 * list(range(110))
    for start in (100, 115, 130):
        np.testing.assert_array_equal(
            vidpred_jax.read_video(tmp_path / "both.ts", start, 2), whole[start:][:2]
        )


def test_masks_are_counted_against_the_frames_that_are_read(tmp_path, long):
    """Not against the packets of a recording that begins within a frame."""
    ffmpeg("-i", long, "-c:v", "libx264", "-g", "40", "-pix_fmt", "yuv420p", tmp_path / "whole.ts")
    (tmp_path / "cut.ts").write_bytes((tmp_path / "whole.ts").read_bytes()[188 * 60 :])
    assert video_io.count(tmp_path / "cut.ts") == len(vidpred_jax.read_video(tmp_path / "cut.ts"))


def test_recordings_may_begin_and_end_within_a_frame(tmp_path, long):
    ffmpeg(
        "-i", long, "-c:v", "libx264", "-g", "40", "-pix_fmt", "yuv420p", "-crf", "10", tmp_path / "whole.ts"
    )
    data = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(data[188 * 60 : len(data) * 4 // 5])
    found = numbers(vidpred_jax.read_video(tmp_path / "cut.ts"))[:-1]  # FFmpeg fills the rest of the last.
    assert len(found) > 60 and found == list(range(found[0], found[0] + len(found)))
    damaged = bytearray(data)
    damaged[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "damaged.ts").write_bytes(damaged)
    with pytest.raises(
        InputError, match="damaged.ts is truncated or damaged: frame [0-9]+ cannot be decoded"
    ):
        vidpred_jax.read_video(tmp_path / "damaged.ts")
    assert numbers(vidpred_jax.read_video(tmp_path / "damaged.ts", 0, 16)) == list(range(16))


def test_a_packet_that_pyav_cannot_place_is_passed_over():
    """It raises IndexError for one of a stream that damage, or a later table, brought into the file."""
    packets = iter([1, 2, IndexError, 3])

    def demux(stream):
        for packet in packets:
            if packet is IndexError:
                raise IndexError("list index out of range")
            yield packet

    container = types.SimpleNamespace(demux=demux, format=types.SimpleNamespace(name="avi"))
    assert list(video_file._demux(container, None)) == [1, 2, 3]


def test_no_pictures(tmp_path, base):
    tone = ("-f", "lavfi", "-i", "sine=440:duration=1", "-c:a", "aac")
    cover = (
        "-f",
        "lavfi",
        "-i",
        "color=red:s=32x32:d=0.04",
        "-c:v",
        "mjpeg",
        "-disposition:v:0",
        "attached_pic",
    )
    ffmpeg(*tone, tmp_path / "sound.mp4")
    ffmpeg(*tone[:4], *cover, "-c:a", "aac", tmp_path / "cover.mp4")
    for name in ("sound.mp4", "cover.mp4"):
        with pytest.raises(InputError, match=f"{name} holds no moving pictures, but sound, a still cover"):
            vidpred_jax.read_video(tmp_path / name)


def test_names_are_no_addresses_and_lists_are_not_followed(tmp_path, base, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "12:30:45.mp4",
        "run:1/clip.mp4",
        "concat:a.mp4",
        "-dash.mp4",
        "file:x.mp4",
        "caf\N{LATIN SMALL LETTER E WITH ACUTE}.mp4",
    ):
        path = pathlib.Path(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(base.read_bytes())
        assert numbers(vidpred_jax.read_video(name)) == list(range(40))
    shutil.copy(base, "beside.mp4")
    for text in (
        "ffconcat version 1.0\nfile beside.mp4\n",
        "#EXTM3U\n#EXTINF:1,\nbeside.mp4\n#EXT-X-ENDLIST\n",
    ):
        pathlib.Path("list.mp4").write_text(text)
        with pytest.raises(InputError, match="list.mp4 cannot be opened as a video"):
            vidpred_jax.read_video("list.mp4")


POISONED = """
import sys, numpy as np, vidpred_jax
frames = vidpred_jax.read_video(sys.argv[1])
np.save(sys.argv[2], frames)
"""


@pytest.mark.parametrize("name", ["interlaced.mp4", "mpeg2.mpg", "ffv1.mkv", "odd.avi"])
def test_memory_that_a_decoder_left_unwritten_is_never_seen(tmp_path, name):
    """The C library fills what it hands out: another filling, the same frames."""
    encode(tmp_path / name, *CODECS[name])
    found = []
    for filling in ("165", "90"):
        out = tmp_path / f"{filling}.npy"
        environment = {**os.environ, "MALLOC_PERTURB_": filling}
        subprocess.run([sys.executable, "-c", POISONED, tmp_path / name, out], check=True, env=environment)
        found.append(np.load(out))
    np.testing.assert_array_equal(*found)
    assert numbers(found[0]) == list(range(40))


def test_arrays_and_animations(tmp_path):
    frames = numbered()
    np.save(tmp_path / "a.npy", frames)
    np.testing.assert_array_equal(vidpred_jax.read_video(tmp_path / "a.npy", 3, 30), frames[3:33])
    np.save(tmp_path / "b.npy", frames / 255)
    with pytest.raises(InputError, match=r"b.npy holds float64 \(40, 64, 64, 3\); a video is uint8"):
        vidpred_jax.read_video(tmp_path / "b.npy")
    first, *rest = (Image.fromarray(frame) for frame in frames)
    for name in ("a.webp", "a.png"):
        first.save(tmp_path / name, save_all=True, append_images=rest, duration=40, lossless=True)
        np.testing.assert_array_equal(vidpred_jax.read_video(tmp_path / name), frames)
        assert video_io.is_video_file(tmp_path / name) and video_io.count(tmp_path / name) == 40
    first.save(tmp_path / "still.png")
    assert not video_io.is_video_file(tmp_path / "still.png")


def test_damage_is_told_however_often_a_file_is_read(tmp_path):
    """Damage within a picture may pass the decoder; frames are never lost."""
    encode(tmp_path / "a.mkv", *X264)
    data, generator = (tmp_path / "a.mkv").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(20):
        at = generator.integers(600, len(data) - 40)
        (tmp_path / "a.mkv").write_bytes(data[:at] + generator.bytes(40) + data[at + 40 :])
        told = set()
        for _ in range(3):
            try:
                assert len(vidpred_jax.read_video(tmp_path / "a.mkv")) == 40
            except InputError as error:
                told.add(str(error))
            else:
                told.add("")
        assert len(told) == 1
        refused += told != {""}
    assert refused > 10
