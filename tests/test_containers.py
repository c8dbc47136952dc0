"""Video files that are cut off or damaged within a part of their container, and GIFs."""

import pytest
from numbered_videos import X264, encode, numbered, numbers
from PIL import Image

import vidpred_jax
from vidpred_jax.data import video_io
from vidpred_jax.types import InputError

CUT = {
    "a.flv": X264,
    "a.mxf": ("-c:v", "mpeg2video", "-q:v", "3"),
    "a.ivf": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-b:v", "2M"),
    "fragments.mp4": (*X264, "-movflags", "cmaf+delay_moov", "-frag_duration", "200000"),
    "a.mp4": X264,
    "a.mkv": X264,
}


@pytest.mark.parametrize("name", CUT)
def test_files_that_are_cut_off_within_a_part(tmp_path, name):
    whole = encode(tmp_path / name, *CUT[name], frames=numbered(120)).read_bytes()
    cut = tmp_path / f"cut_{name}"
    for share in (0.31, 0.6, 0.72, 0.9):
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=f"cut_{name} (is truncated|cannot be opened|holds 0 frames)"):
            vidpred_jax.read_video(cut)
    for tail in (
        () if name in ("a.ivf", "a.flv") else (b"\n", bytes(4), b"what a camera appends, of no known kind")
    ):
        cut.write_bytes(whole + tail)
        assert len(vidpred_jax.read_video(cut)) == 120


def test_gifs_without_delays_and_damaged(tmp_path):
    first, *rest = (Image.fromarray(frame) for frame in numbered(30))
    first.save(tmp_path / "a.gif", save_all=True, append_images=rest)
    assert numbers(vidpred_jax.read_video(tmp_path / "a.gif")) == list(range(30))
    assert video_io.count(tmp_path / "a.gif") == 30 and video_io.probe(tmp_path / "a.gif").fps == 24
    first.save(tmp_path / "slow.gif", save_all=True, append_images=rest, duration=90)
    assert video_io.probe(tmp_path / "slow.gif").fps == pytest.approx(1000 / 90)
    ends = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(ends[: ends.rindex(b"\x2c")])  # Between two frames.
    with pytest.raises(InputError, match="cut.gif is cut off: its end is missing"):
        vidpred_jax.read_video(tmp_path / "cut.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    (tmp_path / "damaged.gif").write_bytes(data)
    with pytest.raises(InputError, match="damaged.gif cannot be read as an animation: "):
        vidpred_jax.read_video(tmp_path / "damaged.gif")
