"""Predictions of other systems: scored as ours are, or refused in one line."""

import io
import zipfile

import numpy as np
import pytest

from vidpred_jax.data import pipeline, video_io
from vidpred_jax.evaluation import compare, external
from vidpred_jax.metrics import named
from vidpred_jax.types import InputError

SIZE = (8, 32, 32, 3)  # Horizon, height, width.


@pytest.fixture
def windows(clip):
    whole = pipeline.to_batch_element(clip, (32, 32))
    cut = lambda start: {k: v[start : start + 24] for k, v in whole.items()}
    return [("a", 0, cut(0)), ("a", 24, cut(24)), ("b", 3, cut(3))]


def make(folder, windows):
    return external.Folder(folder, [(clip, start) for clip, start, _ in windows], *SIZE[:3])


def score(folder, windows):
    return compare.compare(windows, {"theirs": make(folder, windows)}, context=16).values["theirs"]


def test_every_format_is_scored_as_what_it_holds(tmp_path, windows):
    truth = [element["frames"][16:] for _, _, element in windows]
    np.savez(tmp_path / "a_00000.npz", frames=truth[0])
    np.savez(tmp_path / "a_00024.npz", frames=np.float64(truth[1]) / 255)
    for i, frame in enumerate(truth[2]):  # One window of the clip: its name is enough.
        video_io.write_image(tmp_path / "b" / f"{i}.png", frame)
    (tmp_path / "notes.txt").write_text("not a prediction")
    assert (score(tmp_path, windows)["psnr"] > 99).all()
    (tmp_path / "a_00000.npz").unlink()
    video_io.write_video(tmp_path / "a_00000.avi", truth[0])
    assert 20 < score(tmp_path, windows)["psnr"][0].mean() < 60  # Lossy, but these frames.


def test_what_costs_a_prediction_its_score_is_told_once(tmp_path, windows):
    told, elements = [], [{"clip": clip, "start": start, **e} for clip, start, e in windows]
    places = [(clip, start) for clip, start, _ in windows]
    truth = [element["frames"][16:] for _, _, element in windows]
    for number, ((clip, start), frames) in enumerate(zip(places, truth, strict=True)):
        if number < 2:
            video_io.write_video(tmp_path / f"{clip}_{start:05d}.avi", frames)
        else:  # Meant for [-1, 1], and cut.
            np.savez(tmp_path / f"{clip}_{start:05d}.npz", frames=(frames / 127.5 - 1).clip(0, 1))
    folder = external.Folder(tmp_path, places, *SIZE[:3], log=told.append)
    for element in (*elements, *elements):
        folder([element])
    assert len(told) == 2 and "a_00000.avi is a video file: its compression counts as theirs" in told[0]
    assert "more of the values are exactly 0 than of the frames before: were they cut at 0?" in told[1]


def test_floats_are_not_clipped(tmp_path, windows):
    np.savez(tmp_path / "b.npz", frames=np.full(SIZE, 1.5, np.float32))
    found = make(tmp_path, windows[2:])([windows[2][2] | {"clip": "b", "start": 3}])
    assert (found["frames"] == 255).all() and (found["unclipped"] == 1.5 * 255).all()
    wanted = {name: named.METRICS[name] for name in ("psnr", "mse_openstl")}
    theirs = {"theirs": make(tmp_path, windows[2:])}
    values = compare.compare(windows[2:], theirs, context=16, metrics=wanted).values["theirs"]
    truth = windows[2][2]["frames"][16:] / 255
    np.testing.assert_allclose(values["mse_openstl"][0], ((1.5 - truth) ** 2).sum((1, 2, 3)), rtol=1e-4)
    expected = -10 * np.log10(((1 - truth) ** 2).mean((1, 2, 3)))  # Of 8-bit frames.
    np.testing.assert_allclose(values["psnr"][0], expected, atol=1e-3)


def refused(folder, windows):
    with pytest.raises(InputError) as error:
        score(folder, windows)
    assert "\n" not in str(error.value)
    return str(error.value)


def archive(path, name="frames.npy", header=None, data=b"", **entry):
    """An archive with one hand-made entry."""
    content = io.BytesIO()
    if header is None:
        np.save(content, np.zeros(SIZE, np.uint8))
    else:
        text = header.encode() + b"\n"
        content.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    with zipfile.ZipFile(path, "w") as found:
        found.writestr(name, content.getvalue())
    if entry:  # In the local header and in the directory.
        raw = bytearray(path.read_bytes())
        for start, shift in ((0, 0), (raw.index(b"PK\x01\x02"), 2)):
            for place, value in entry.values():
                raw[start + shift + place] = value
        path.write_bytes(raw)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (dict(flag=(6, 1)), "encrypted"),
        (dict(method=(8, 99)), "cannot be read"),
        (dict(version=(4, 255)), "cannot be read"),
        (dict(name="frames"), "has no array 'frames'"),
        (dict(header="{'descr': ("), "cannot be read"),
        (dict(header="-" * 9000), "cannot be read"),
        (dict(header=f"{{'descr': '|V4000000', 'fortran_order': False, 'shape': {SIZE}}}"), "cannot be read"),
        (dict(header=f"{{'descr': '<m8', 'fortran_order': False, 'shape': {SIZE}}}"), "cannot be read"),
        (
            dict(header=f"{{'descr': '|O', 'fortran_order': False, 'shape': {SIZE}}}"),
            "Object arrays cannot be",
        ),
    ],
)
def test_hostile_archives(options, text, tmp_path, windows):
    archive(tmp_path / "b.npz", **options)
    assert text in refused(tmp_path, windows[2:])


def test_refusals(tmp_path, windows):
    one, good = windows[2:], np.zeros(SIZE, np.uint8)
    assert "is not a folder" in refused(tmp_path / "none", one)
    assert "has no prediction of clip 'b' from frame 3: b_00003 or b (.npz" in refused(tmp_path, one)
    np.savez(tmp_path / "a.npz", frames=good)
    assert "of clip 'a' from frame 0: a_00000 (.npz" in refused(tmp_path, windows)  # Two windows.
    cases = [
        (dict(frames=good[:7]), r"shape (7, 32, 32, 3); (8, 32, 32, 3) is needed"),
        (dict(frames=good[:, :16]), r"shape (8, 16, 32, 3); (8, 32, 32, 3) is needed"),
        (dict(frames=np.zeros((17 * SIZE[0], *SIZE[1:]))), "frames of shape (8, 32, 32, 3) are needed"),
        (dict(video=good), "has no array 'frames', but video"),
        (dict(frames=np.float32(good) + 200), "floats from 200 to 200; floats must be in [0, 1]"),
        (dict(frames=good + 1), "integers of 0 and 1; integers are 0 to 255, floats 0 to 1"),
        (dict(frames=np.float32(good) - 1), "floats from -1 to -1; floats must be in [0, 1]"),
        (dict(frames=np.float32(good) - 0.5), "floats from -0.5 to -0.5; floats must be in [0, 1]"),
        (dict(frames=np.full(SIZE, np.nan)), "floats from nan to nan"),
        (dict(frames=np.full(SIZE, 300)), "holds integers outside 0 to 255"),
        (dict(frames=good > 1), "holds bool"),
        (dict(frames=good.astype("<m8")), "holds timedelta64"),
        (dict(frames=np.array([{}])), "cannot be read"),  # A pickle.
    ]
    for arrays, text in cases:
        np.savez(tmp_path / "b.npz", **arrays)
        assert text in refused(tmp_path, one), arrays
    (tmp_path / "b.npz").write_bytes(b"nothing of the kind")
    assert "cannot be read" in refused(tmp_path, one)
    with (tmp_path / "b.npz").open("wb") as stream:
        np.save(stream, good)  # An array, not an archive.
    assert "cannot be read" in refused(tmp_path, one)
    np.savez(tmp_path / "b.npz", frames=good)
    video_io.write_video(tmp_path / "b.avi", good)
    assert "holds both" in refused(tmp_path, one)
    (tmp_path / "b.npz").unlink()
    video_io.write_video(tmp_path / "b.avi", np.zeros((9, 32, 32, 3), np.uint8))
    assert "shape (9, 32, 32, 3); (8, 32, 32, 3) is needed" in refused(tmp_path, one)
