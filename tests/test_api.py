"""The Python interface: what `predict` takes, gives and tells; where it runs; which runs a folder holds."""

import pathlib
import pickle
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import vidpred_jax
from vidpred_jax.checkpoints import cards, runs
from vidpred_jax.data import video_io
from vidpred_jax.types import InputError


@pytest.fixture(scope="module")
def predictor(trained):
    return vidpred_jax.load(folder=trained)


@pytest.fixture(scope="module")
def expected(predictor, clip):
    return predictor.predict(clip.frames[:16], horizon=3)


class Foreign:
    """An array of a library that NumPy does not know."""

    def __init__(self, held):
        self._held = held

    def __array__(self, dtype=None, copy=None):
        return self._held


@pytest.mark.parametrize("form", [Foreign, jnp.asarray, lambda x: list(map(list, x)), lambda x: x / 255])
def test_frames_of_any_library_and_form(form, predictor, expected, clip):
    found = predictor.predict(form(clip.frames[:16]), horizon=3)
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.fusion, expected.fusion)
    assert found.observed.shape == (16, 32, 32, 3) and found.fps is None


def test_half_precision_and_grey(predictor, clip):
    grey = clip.frames[:16, :, :, 0]
    plain = predictor.predict(np.repeat(grey[..., None], 3, -1), horizon=2).frames
    for some in (grey, grey[..., None]):
        np.testing.assert_array_equal(predictor.predict(some, horizon=2).frames, plain)
    half = jnp.asarray(clip.frames[:16] / 256, jnp.bfloat16)
    rounded = np.rint(np.asarray(half, np.float32) * 255).astype(np.uint8)
    found, own = (predictor.predict(x, horizon=2).frames for x in (half, rounded))
    np.testing.assert_array_equal(found, own)


def test_a_batch_is_each_of_its_clips(predictor, clip):
    batch = np.stack([clip.frames[:16], clip.frames[4:20]])
    labels = np.stack([clip.labels[:16], clip.labels[4:20]])
    found = predictor.predict(batch, labels, 3)
    assert found.frames.shape == found.fusion.shape == (2, 3, 32, 32, 3)
    assert found.observed.shape == (2, 16, 32, 32, 3)
    for i in range(2):
        alone = predictor.predict(batch[i], labels[i], 3)
        assert np.abs(found.frames[i] - alone.frames.astype(int)).max() <= 1
    assert found.video().shape == (19, 128, 256, 3)  # Side by side, each pixel a block.


def test_a_path_is_predicted_past_its_end(predictor, clip, tmp_path):
    for t, frame in enumerate(clip.frames[:20]):
        video_io.write_image(tmp_path / "in" / f"{t}.png", frame)
    found = predictor.predict(tmp_path / "in", horizon=3)
    np.testing.assert_array_equal(found.frames, predictor.predict(clip.frames[4:20], horizon=3).frames)
    assert found.fps == 24
    with pytest.raises(InputError, match=r"in has 1 frames; at least 16 are needed"):
        shutil.rmtree(tmp_path / "in")
        video_io.write_image(tmp_path / "in" / "0.png", clip.frames[0])
        predictor.predict(str(tmp_path / "in"))


def test_a_prediction_saves_and_shows_itself(expected, tmp_path):
    expected.save(tmp_path / "x.mp4")
    assert video_io.read(tmp_path / "x.mp4").shape == (19, 128, 128, 3)
    assert video_io.probe(tmp_path / "x.mp4").fps == 12
    video = expected.video()
    np.testing.assert_array_equal(video[16:, ::4, ::4], expected.frames)
    assert (video[:16, 0] == (74, 127, 193)).all()
    strip = expected.strip(steps=(1, 3))
    video_io.write_image(tmp_path / "strip.png", strip)
    assert np.asarray(Image.open(tmp_path / "strip.png")).shape == (18 + 2 * 128, 84 + 2 * 128, 3)
    np.testing.assert_array_equal(strip[18:146:4, -128::4], expected.frames[2])
    assert re.fullmatch(
        r'<video [\w ]+ src="data:video/webm;base64,[\w+/=]+"></video>', expected._repr_html_()
    )
    with pytest.raises(InputError, match=r"ends in '.png'; videos are written as .webm, .gif, .mp4 or .avi"):
        expected.save(tmp_path / "x.png")


def test_the_callback_hears_each_step_once_and_may_stop_it(predictor, expected, clip):
    heard = []
    found = predictor.predict(clip.frames[:16], horizon=20, callback=heard.append)
    assert heard == sorted(set(heard)) and heard[-1] == 20 and len(heard) > 1
    plain = predictor.predict(clip.frames[:16], horizon=20)
    assert np.abs(found.frames - plain.frames.astype(int)).max() <= 1
    with pytest.raises(ZeroDivisionError):
        predictor.predict(clip.frames[:16], horizon=20, callback=lambda step: 1 / 0)


def test_it_predicts_on_the_device_asked_for_with_the_same_bytes(trained, expected, clip):
    device = jax.devices()[2]
    there = vidpred_jax.load(folder=trained, device=device)
    np.testing.assert_array_equal(there.predict(clip.frames[:16], horizon=3).frames, expected.frames)
    with jax.default_device(jax.devices()[1]):  # What was asked for is kept.
        np.testing.assert_array_equal(there.predict(clip.frames[:16], horizon=3).frames, expected.frames)
    assert {x.device for x in jax.tree.leaves(there._variables)} == {device}
    assert vidpred_jax.load("sprites", device="cpu").system.proposals
    with pytest.raises(InputError, match=r"^device \('moon'\) cannot be used: "):
        vidpred_jax.load("sprites", device="moon")


def test_devices_share_a_batch_as_one_predicts_it(trained, predictor, expected, clip):
    several = vidpred_jax.load(folder=trained, device=jax.devices()[1:4])
    batch = np.stack([np.roll(clip.frames[:16], n, 2) for n in range(4)])
    found, plain = several.predict(batch, horizon=3), predictor.predict(batch, horizon=3)
    assert np.abs(found.frames - plain.frames.astype(int)).max() <= 1
    np.testing.assert_array_equal(found.frames[0], expected.frames)
    heard = []
    several.predict(batch, horizon=20, callback=heard.append)
    assert heard == sorted(set(heard)) and heard[-1] == 20
    for wrong in ((), [jax.devices()[0]] * 2):
        with pytest.raises(InputError, match=r"^device \(\[.*\) must be one or more devices of this process"):
            vidpred_jax.load(folder=trained, device=wrong)
    assert {d for x in jax.tree.leaves(several._variables) for d in x.devices()} == set(jax.devices()[1:4])


def test_a_folder_that_holds_both_stages(trained, expected, clip, tmp_path):
    for stage in ("fusion", "translator"):
        shutil.copytree(trained / stage, tmp_path / "mine" / stage)
    found = vidpred_jax.load(tmp_path / "mine")
    assert [pathlib.Path(run).name for run in found.runs] == ["fusion", "translator"]
    np.testing.assert_array_equal(found.predict(clip.frames[:16], horizon=3).frames, expected.frames)
    for name in ("scene", "flow_blend"):  # Networks carry theirs.
        proposal = pathlib.Path(cards.runs_of("real" if name == "flow_blend" else "sprites")[0])
        shutil.copytree(proposal, tmp_path / "mine" / name)
    assert len(runs.within(tmp_path / "mine")) == 2
    shutil.copytree(trained / "fusion", tmp_path / "mine" / "again")
    with pytest.raises(InputError, match=r"mine holds 2 runs of stage fusion: .*; name one"):
        vidpred_jax.load(tmp_path / "mine")
    assert runs.within(tmp_path) == (str(tmp_path),)  # Which holds none: refused where it is loaded.


def test_refusals_name_arguments(predictor, clip):
    frames = clip.frames[:16]
    for bad, message in (
        (
            frames.astype(np.float32),
            r"frames are float32 \(16, 64, 64, 3\) from 0 to 2.*; floats must lie in",
        ),
        (np.full(frames.shape, np.nan), r"floats must lie in \[0, 1\]"),
        (
            frames.astype(int),
            r"frames are int64 \(16, 64, 64, 3\); they must be uint8, or floats in \[0, 1\]",
        ),
        (frames.swapaxes(1, 3), r"frames are uint8 \(16, 3, 64, 64\); they must be \(t, h, w, 3\), \(b, t,"),
        (object(), r"frames are object \(\); they must be"),
        (frames[0], r"frames are uint8 \(64, 64, 3\); they must be \(t, h, w, 3\)"),  # A picture is no clip.
        ([frames, frames[:3]], r"frames \(list\) cannot be read as an array: "),
        ("moon.mp4", "moon.mp4 does not exist; a video file or a folder of frames is needed"),
    ):
        with pytest.raises(InputError, match=message):
            predictor.predict(bad)
    with pytest.raises(InputError, match=r"labels have shape \(16, 64, 64\); \(2, 16, 64, 64\) is needed"):
        predictor.predict(np.stack([frames, frames]), clip.labels[:16])


def test_names_complete():
    assert {"load", "Predictor", "read_video"} <= set(dir(vidpred_jax))


def test_a_prediction_is_pickled_with_its_fusion_pictures(predictor, clip):
    found = predictor.predict(clip.frames[:16], horizon=3)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.frames, found.frames)
    np.testing.assert_array_equal(again.fusion, found.fusion)
