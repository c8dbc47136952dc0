"""Masks as given; motion and a network on clips whose labels are known."""

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper

from vidpred_jax.data import masks, segmentation, video_io
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import InputError


def panned_scene(num_frames=12, size=160):
    """A textured scene that pans by 2 pixels a frame, and a square that moves against it."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (40, 60, 3)).astype(np.float32)
    scene = cv2.resize(noise, (240, 200), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    square = cv2.resize(rng.uniform(0, 255, (9, 9, 3)), (36, 36), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    frames, truth = [], np.zeros((num_frames, size, size), bool)
    for t in range(num_frames):
        frame = scene[20 : 20 + size, 2 * t : 2 * t + size].copy()
        frame[60:96, 30 + 4 * t : 66 + 4 * t] = square
        truth[t, 60:96, 30 + 4 * t : 66 + 4 * t] = True
        frames.append(frame.astype(np.uint8))
    return np.stack(frames), truth


def test_motion_finds_what_moves_against_the_camera():
    frames, truth = panned_scene()
    labels = segmentation.motion(frames)
    assert not labels[:3].any()  # What has just begun to move is no object yet.
    labels, truth = labels[3:], truth[3:]
    found = labels > 0
    assert (found & truth).sum() > 0.85 * truth.sum()
    assert (found & truth).sum() / (found | truth).sum() > 0.4  # Flow is blurred around it.
    assert len(np.unique(labels[truth & found])) == 1  # One object, one id throughout.


def test_an_object_that_stops_keeps_its_label_for_some_frames():
    frames, truth = panned_scene()
    still = np.concatenate([frames, np.repeat(frames[-1:], 16, 0)])
    labels = segmentation.motion(still)
    kept = [(found & truth[-1]).sum() / truth[-1].sum() for found in labels[12:] > 0]
    assert kept[1] > 0.8 and kept[-1] == 0


def test_an_object_goes_where_the_flow_leads():
    """From frame to frame its label, warped by the flow, is its label again, as nearly as .8."""
    frames, _ = panned_scene(num_frames=14)
    labels = segmentation.motion(frames)
    for t in range(5, 14):  # 4 pixels a frame.
        one, two = labels[t - 1, :, 20:-4] > 0, labels[t, :, 24:] > 0
        assert (one & two).sum() >= 0.8 * (one | two).sum() > 0


def test_labels_of_a_network_do_not_flicker():
    frames, truth = panned_scene(num_frames=8)
    found = np.where(truth, 7, 0).astype(np.uint8)
    wrong = found.copy()
    wrong[4] = 9  # One frame of nonsense, as networks give.
    labels = segmentation.steady(frames, wrong)
    np.testing.assert_array_equal(labels[0], found[0])
    same = [(one == two).mean() for one, two in zip(labels, found, strict=True)]
    assert min(same) > 0.94 and not (labels[:, :, :-4] == 9).any()  # But where the picture is new.


def test_where_most_of_the_frame_moves_nothing_is_an_object():
    """After a cut, and where light jumps; the next frame has objects again."""
    noise = lambda seed: np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    one, two = (cv2.resize(noise(seed), (128, 96), interpolation=cv2.INTER_CUBIC) for seed in (0, 1))
    frames = np.stack([one, one, *[two] * 8])
    for t in range(4, 10):
        frames[t, 30:60, 40:80] = two[30:60, 40 + 4 * (t - 3) : 80 + 4 * (t - 3)]
    found = [bool(x.any()) for x in segmentation.motion(frames)]
    assert found[:5] == [False] * 5 and found[-1]


def test_motion_of_a_still_clip_is_background(clip):
    assert not segmentation.motion(np.repeat(clip.frames[:1], 5, 0)).any()
    assert not segmentation.motion(clip.frames[:1]).any()


def test_motion_on_real_video(davis):
    name = "breakdance"
    frames = video_io.read(davis / "JPEGImages/480p" / name, 0, 16)
    truth = masks.read_masks(davis / "Annotations/480p" / name, 84, (480, 854))[:16] > 0
    found = segmentation.motion(frames) > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.3


def red_or_not(path, outputs=2):
    """A network that scores (0.5, red): label 1 where red is above one half."""
    weights = np.zeros((outputs, 3, 1, 1), np.float32)
    weights[-1, 0] = 1
    bias = np.float32([0.5] + [0.0] * (outputs - 1) if outputs > 1 else [-0.5])
    tensor = lambda name, value: helper.make_tensor(
        name, onnx.TensorProto.FLOAT, value.shape, value.ravel().tolist()
    )
    shape = lambda name, c: helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, c, "h", "w"])
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=[1, 1])
    graph = helper.make_graph(
        [node], "g", [shape("x", 3)], [shape("y", outputs)], [tensor("w", weights), tensor("b", bias)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("outputs", [1, 2])
def test_onnx(tmp_path, outputs):
    path = red_or_not(tmp_path / "red.onnx", outputs)
    frames = np.zeros((2, 16, 24, 3), np.uint8)
    frames[:, 4:8, 10:20, 0] = 250
    labels = segmentation.segment(frames, f"onnx:{path}")
    np.testing.assert_array_equal(labels, frames[..., 0] > 127)


def test_onnx_refusals(tmp_path, clip):
    with pytest.raises(InputError, match=r"ONNX model 'none\.onnx' does not exist"):
        segmentation.segment(clip.frames, "onnx:none.onnx")
    many = red_or_not(tmp_path / "many.onnx", 300)
    with pytest.raises(InputError, match="finds class 299; classes are 0 to 255"):
        segmentation.segment(np.full((1, 16, 16, 3), 250, np.uint8), f"onnx:{many}")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match="cannot be run"):
        segmentation.segment(clip.frames, f"onnx:{tmp_path}/bad.onnx")


@pytest.mark.parametrize("method", ["motion", "onnx"])
def test_maps_do_not_depend_on_later_frames(method, tmp_path):
    frames, _ = panned_scene(num_frames=12)
    method = f"onnx:{red_or_not(tmp_path / 'red.onnx')}" if method == "onnx" else method
    whole = prepare_clip("a", frames, method=method)
    assert whole.labels.any() and whole.edges.any()
    for t in (0, 1, 5, 10):
        changed = np.concatenate([frames[: t + 1], frames[t + 1 :, ::-1, ::-1] // 2])
        found = prepare_clip("a", changed, method=method)
        np.testing.assert_array_equal(found.labels[: t + 1], whole.labels[: t + 1])
        np.testing.assert_array_equal(found.edges[: t + 1], whole.edges[: t + 1])
        alone = prepare_clip("a", frames[: t + 1], method=method)
        np.testing.assert_array_equal(alone.labels, whole.labels[: t + 1])
        assert (found.labels != whole.labels).any()
    if method == "motion":
        assert not whole.labels[1].any() and whole.labels[5].any()


def test_unknown_method(clip):
    with pytest.raises(InputError, match="segmentation 'magic' is not one of motion, onnx"):
        segmentation.segment(clip.frames, "magic")
