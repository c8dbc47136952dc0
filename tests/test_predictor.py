"""The predictor: clips of any length and number, several threads, exported runs, packaged weights."""

import concurrent.futures
import json
import shutil

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smoke import get_config

import vidpred_jax
from vidpred_jax import metrics
from vidpred_jax.checkpoints import export
from vidpred_jax.config import parse
from vidpred_jax.data import fusion, pipeline, video_io
from vidpred_jax.data.datasets import registry
from vidpred_jax.inference import networks
from vidpred_jax.inference.system import System
from vidpred_jax.models import schedules
from vidpred_jax.proposals.forecast import Window
from vidpred_jax.types import InputError


def test_predictor(trained, clip):
    predictor = vidpred_jax.load(folder=trained)
    pred = predictor.predict(clip.frames[:16], clip.labels[:16], horizon=6)
    assert pred.frames.shape == pred.fusion.shape == (6, 32, 32, 3)
    assert pred.frames.dtype == np.uint8
    again = predictor.predict(clip.frames[:20][-16:], clip.labels[4:20], horizon=6)
    later = predictor.predict(clip.frames[:20], clip.labels[:20], horizon=6)
    np.testing.assert_array_equal(again.frames, later.frames)  # The last 16 count.
    assert predictor.predict(clip.frames[:16]).frames.shape == (32, 32, 32, 3)  # Labels by motion.


def test_prediction_equals_that_of_the_same_clip_out_of_a_data_set(trained, clip, tmp_path):
    """Bit for bit, where it is stored losslessly: both are prepared by one function."""
    frames = clip.frames[:20]
    for t, frame in enumerate(frames):
        video_io.write_image(tmp_path / "in" / "a" / f"{t}.png", frame)
    folders = {"input": str(tmp_path / "in"), "num_validation": 0, "num_test": 0}
    builder = registry.video_folder("mine", tmp_path / "data", **folders)
    registry.prepare(builder)
    predictor = vidpred_jax.load(folder=trained)
    sizes = {"num_frames": 16, "wanted": [predictor.size]}
    source = registry.open_split("mine", "train", data_dir=tmp_path / "data")
    ((_, _, element),) = pipeline.evaluation_windows(source, first=4, **sizes)
    pictures, expected = predictor.predict_batch([element], 5)
    found = predictor.predict(frames, horizon=5)
    np.testing.assert_array_equal(found.frames, expected[0])
    np.testing.assert_array_equal(found.fusion, pictures[0])


def test_sharpened_prediction_follows_the_schedule_of_its_checkpoint(trained, clip, tmp_path):
    run = tmp_path / "accompanying"
    shutil.copytree(trained / "accompanying", run)
    (meta,) = (run / "checkpoints" / "4" / "meta").glob("metadata*")
    found = json.loads(meta.read_text())
    schedule = ["b", "a"] if found["schedule"] != ["b", "a"] else ["a", "b"]  # Not what was frozen.
    meta.write_text(json.dumps({**found, "schedule": schedule, "digests": {}}))
    pair = trained / "fusion", trained / "translator"
    plain, sharpened = (
        vidpred_jax.load(*runs).predict(clip.frames[:16], clip.labels[:16], 6)
        for runs in (pair, (*pair, run))
    )
    np.testing.assert_array_equal(sharpened.fusion, plain.fusion)
    network = networks.load(run)
    assert list(network.schedule) == schedule
    videos = [fusion.to_float(x[None]) for x in (plain.frames, plain.fusion)]
    ahead = np.arange(1.0, 7, dtype=np.float32)[None]
    expected = np.asarray(
        schedules.sharpen(network.module, network.variables, schedule, *map(jnp.asarray, (*videos, ahead)))
    )
    difference = sharpened.frames - fusion.to_uint8(expected)[0].astype(int)
    assert np.abs(difference).max() <= 2  # The plain frames were rounded to 8 bits in between.
    assert np.abs(sharpened.frames - plain.frames.astype(int)).max() > 2


def test_predictions_from_several_threads_compile_once_each(trained, clip):
    predictor = vidpred_jax.load(folder=trained)

    def predict(horizon):
        return predictor.predict(clip.frames[:16], clip.labels[:16], horizon).frames

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found = list(pool.map(predict, [2, 5, 2, 5, 2, 5]))
    assert len(predictor._compiled) == 2
    for frames, horizon in zip(found, [2, 5, 2, 5, 2, 5], strict=True):
        assert len(frames) == horizon
        np.testing.assert_array_equal(frames, found[0 if horizon == 2 else 1])
    # Two programs may round differently: a value next to a half becomes the next whole number.
    difference = np.abs(found[0].astype(int) - found[1][:2].astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_an_exported_run_predicts_the_same_and_names_no_folder(trained, tmp_path, clip):
    names = ("fusion", "translator")
    for stage in names:
        export.export(trained / stage, tmp_path / stage)
    assert {f.name for f in tmp_path.iterdir()} == set(names)
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert not any(str(trained).encode() in f.read_bytes() for f in files)
    assert not any("training" in f.parts for f in files)
    found, expected = (
        vidpred_jax.load(*(folder / stage for stage in names)).predict(clip.frames, horizon=3)
        for folder in (tmp_path, trained)
    )
    np.testing.assert_array_equal(found.frames, expected.frames)
    with pytest.raises(InputError, match="holds no checkpoint of step 9"):
        export.export(trained / "fusion", tmp_path / "other", 9)
    assert {f.name for f in tmp_path.iterdir()} == set(names)


@pytest.mark.parametrize(("weights", "size"), [("sprites", 64), ("real", 128)])
def test_weights_of_the_package_predict_where_no_run_is(weights, size, tmp_path):
    """Better than the last frame, on clips they were not trained on: here, a pan over a picture."""
    predictor = vidpred_jax.load(weights)
    assert predictor.size == (size, size)
    rng = np.random.default_rng(7)
    wide = rng.integers(0, 256, (size // 8, size // 4, 3)).astype(np.uint8)
    wide = cv2.resize(wide, (4 * size, 2 * size), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[:size, 2 * t : 2 * t + size] for t in range(18)])
    found = predictor.predict(frames[:16], np.zeros(frames[:16].shape[:3], np.uint8), 2).frames
    ours, still = (metrics.psnr(pred, frames[16:]).mean() for pred in (found, np.repeat(frames[15:16], 2, 0)))
    assert ours > still + 2


def test_frames_of_any_size_by_proposals_alone(trained):
    """As the proposal itself predicts at that size, and its maps with it."""
    plain = vidpred_jax.load("real")
    predictor = vidpred_jax.load("real", size=(64, 96))
    rng = np.random.default_rng(3)
    wide = cv2.resize(rng.integers(0, 256, (8, 16, 3)).astype(np.uint8), (256, 128))
    frames = np.stack([wide[:64, 2 * t : 2 * t + 96] for t in range(16)])
    labels = np.zeros(frames.shape[:3], np.uint8)
    found = predictor.predict(frames, labels, 2)
    assert found.frames.shape == found.fusion.shape == (2, 64, 96, 3)
    (run,) = predictor.runs
    network = networks.load(run, size=(64, 96))
    before = plain.system.proposals["flow_blend"].module.flow_levels
    assert network.module.flow_levels == before - 1
    edges = predictor.edge_rule.apply(frames) / np.float32(255)
    seen = fusion.to_float(jnp.asarray(frames[None]))
    window = Window(seen, jnp.asarray(edges[None]), jnp.asarray(labels[None], jnp.int32))
    for clarity in (None, 0.0, 0.3):
        own = network.module.clone(clarity=1.0 if clarity is None else clarity)
        expected = jax.jit(own.apply)(network.variables, window, jnp.array([[1.0, 2.0]]))
        ours = predictor.predict(frames, labels, 2, clarity=clarity).frames
        difference = ours - fusion.to_uint8(expected.frames)[0].astype(int)
        assert np.abs(difference).max() <= 1
    with pytest.raises(InputError, match=r"^clarity \(1.5\) must be a number from 0 to 1"):
        predictor.predict(frames, clarity=1.5)
    for one in (vidpred_jax.load(folder=trained), vidpred_jax.load("sprites")):  # Networks, a proposal.
        with pytest.raises(InputError, match=r"^clarity \(0.5\): these weights have one forecast"):
            one.at_clarity(0.5)
    other = plain.predict(frames, labels, 2)  # Of the clip's aspect where no size was asked for.
    assert other.frames.shape == (2, 128, 192, 3) and plain.size == (128, 128)
    asked = predictor.predict(frames[:, :, :64], labels[:, :, :64], 2)
    assert asked.frames.shape == (2, 64, 96, 3)
    # However a size was come to, its program is the same, and not that of another clarity.
    short = plain.at_size((96, 96)).at_size((80, 80))
    module = lambda predictor: predictor.system.proposals["flow_blend"].module
    assert module(short) == module(plain.at_size((80, 80)))
    assert short.at_clarity(0.0).size == (80, 80) and short.clarity == plain.clarity == 1
    with pytest.raises(InputError, match=r"^size is 64 x 9000; both sides must be 1 to 8192"):
        plain.at_size((9000, 64))
    with pytest.raises(InputError, match=r"^size 64 x 50: .* of 50 x 64 does not fit .* multiples of 8"):
        vidpred_jax.load("real", size=(50, 64))
    with pytest.raises(
        InputError, match=r"^size 60 x 96: fusion run .*: picture is 60 x 96; both sides must"
    ):
        vidpred_jax.load(folder=trained, size=(96, 60))
    with pytest.raises(InputError, match=r"size \(\(0, 64\)\) must be a height and a width"):
        vidpred_jax.load("real", size=(0, 64))


def test_networks_predict_at_the_aspect_of_a_video(trained, clip):
    predictor = vidpred_jax.load(folder=trained)
    frames = np.repeat(clip.frames[:16, :40], 2, 2)[:, :, :72]
    found = predictor.predict(frames, horizon=9)
    assert found.frames.shape == found.fusion.shape == (9, 32, 56, 3) and predictor.size == (32, 32)
    assert predictor.predict(frames.swapaxes(1, 2), horizon=1).frames.shape == (1, 56, 32, 3)
    asked = vidpred_jax.load(folder=trained, size=(32, 32)).predict(frames, horizon=9)
    assert asked.frames.shape == (9, 32, 32, 3)


NETWORKS = [
    (stage, "smoke") for stage in ("fusion", "translator", "accompanying", "pix2pixhd", "direct", "simvp")
]
NETWORKS += [("fusion", "sprites"), ("translator", "sprites")]


@pytest.mark.parametrize(("stage", "preset"), NETWORKS)
@pytest.mark.parametrize("video", [(720, 1280), (1280, 720), (480, 854)])
def test_every_network_works_at_the_aspect_of_a_video(stage, preset, video, data_dir):
    network = networks.make(parse(get_config(stage, data_dir, preset)), {"num_labels": 3, "edge_rule": {}})
    third = {"sharpen": network} if stage == "accompanying" else {}  # `of` refuses it alone.
    system = System(16, network.size, network.form, {}, **third) if third else System.of(network)
    size = system.size_at(*video)
    assert min(size) == min(network.size) and (size[0] < size[1]) == (video[0] < video[1])
    assert abs(max(size) / min(size) / (max(video) / min(video)) - 1) < 0.15
    wide = network.at_size(size)
    variables = jax.eval_shape(network.module.init, jax.random.key(0), *networks.example_inputs(network))
    inputs = networks.example_inputs(wide)
    found = jax.eval_shape(wide.module.apply, variables, *inputs)
    last = found[-1] if isinstance(found, list) else found
    assert last.shape[-3:-1] == size


def test_labels_beyond_those_of_the_data_are_refused_by_networks_and_kept_by_proposals(trained):
    """Six still objects: every one stays where it is."""
    frames = np.full((16, 64, 64, 3), 90, np.uint8)
    labels = np.zeros((16, 64, 64), np.uint8)
    for i in range(6):
        top, left = 4 + 20 * (i // 2), 6 + 28 * (i % 2)
        labels[:, top : top + 14, left : left + 20] = i + 1
    with pytest.raises(InputError, match=r"labels go up to 6; fusion .* tell 4 apart, background included"):
        vidpred_jax.load(folder=trained).predict(frames, labels, 1)
    for weights in ("real", "sprites"):
        found = vidpred_jax.load(weights, size=(64, 64)).predict(frames, labels, 2)
        truth = fusion.render(np.zeros_like(labels[:2]), labels[:2])
        assert (np.abs(found.fusion.astype(int) - truth).max(-1) < 40).mean() > 0.9, weights


def test_any_number_of_clips_is_predicted_by_few_programs(trained):
    predictor, rng = vidpred_jax.load(folder=trained), np.random.default_rng(0)
    elements = [
        {
            "frames": rng.integers(0, 256, (16, 32, 32, 3)).astype(np.uint8),
            "planes": rng.integers(0, 4, (16, 32, 32, 2)).astype(np.uint8),
        }
        for _ in range(4)
    ]
    pictures, frames = predictor.predict_batch(elements, 2)
    for fewer in (elements[:3], elements[1:]):
        found = predictor.predict_batch(fewer, 2)
        start = 0 if fewer[0] is elements[0] else 1
        np.testing.assert_array_equal(found[0], pictures[start : start + 3])
        np.testing.assert_array_equal(found[1], frames[start : start + 3])
    assert len(predictor._compiled) == 1


def test_predictor_refusals(trained, clip, tmp_path):
    predictor = vidpred_jax.load(folder=trained)
    with pytest.raises(InputError, match="the clip has 15 frames; at least 16 are needed"):
        predictor.predict(clip.frames[:15])
    with pytest.raises(InputError, match=r"labels have shape \(3, 64, 64\); \(16, 64, 64\) is needed"):
        predictor.predict(clip.frames[:16], clip.labels[:3])
    with pytest.raises(InputError, match="frames are float32"):
        predictor.predict(clip.frames[:16].astype(np.float32))
    with pytest.raises(
        InputError, match=r"frames are uint8 \(16, 0, 64, 3\); they must be \(t, h, w, 3\), \(b, t"
    ):
        predictor.predict(clip.frames[:16, :0])
    with pytest.raises(InputError, match=r"horizon \(0\) must be a whole number, 1 or more"):
        predictor.predict(clip.frames[:16], clip.labels[:16], horizon=0)
    with pytest.raises(InputError, match="labels must be whole numbers from 0 to 255"):
        predictor.predict(clip.frames[:16], np.full((16, 64, 64), 256))
    element = {"frames": np.zeros((16, 32, 32, 3), np.uint8)}
    element["planes"] = element["frames"][..., :2]
    with pytest.raises(InputError, match="elements hold no clip"):
        predictor.predict_batch([])
    for change, message in (
        (
            np.zeros((15, 32, 32, 2), np.uint8),
            r"planes of element 1 are uint8 \(15, 32, 32, 2\); uint8 \(16,",
        ),
        (np.zeros((16, 32, 32, 2)), "planes of element 1 are float64"),
    ):
        with pytest.raises(InputError, match=message):
            predictor.predict_batch([element, {**element, "planes": change}])
    with pytest.raises(InputError, match="planes of 16 steps; 17 are needed"):
        predictor.translate_batch([element])
    with pytest.raises(
        InputError, match="moon is no run folder, nor one of the weights moving_mnist, real, sprites"
    ):
        vidpred_jax.load("moon")
