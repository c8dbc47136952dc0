"""Any number of observed frames, and observations made once a window."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models.baselines.pix2pixhd import Pix2PixHD
from vidpred_jax.models.baselines.simvp import SimVP
from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d, pad_time

CONTEXTS = (4, 5, 10, 16, 32)
COLORS = fusion.to_float(fusion.PALETTE[:4].astype(np.float32))
# The fields of presets that time depends on, narrow.
CPU = dict(
    widths=(4, 4, 4),
    patch=4,
    time_patch=4,
    time_strides=(2, 2),
    shift=8,
    outputs=8,
    num_flows=1,
    num_labels=4,
)
PAPER = dict(widths=(2, 2, 2, 2), time_strides=(2, 2, 2), norm="none")


def moving_boxes(frames, size=16):
    """Fusion pictures (1, t, size, size, 3) of two boxes that bounce, each on its own line."""
    pictures = np.full((1, frames, size, size, 3), -1, np.float32)
    for t in range(frames):
        x = abs(t % 20 - 10)
        pictures[0, t, 2:7, x : x + 5], pictures[0, t, 9:14, 10 - x : 15 - x] = COLORS[1:3]
        pictures[0, t, 4, x : x + 5] = 1
    return jnp.asarray(pictures)


def check_gradients(model, x, outputs):
    """That the network gives so many frames in range, and each of its parameters gets a gradient."""
    variables = jax.jit(model.init)(jax.random.key(1), x)
    target = jax.random.uniform(jax.random.key(2), (len(x), outputs, *x.shape[2:]), minval=-1)

    def loss(params):
        pred = model.apply({"params": params}, x)
        chex.assert_equal_shape([pred, target])
        return jnp.square(pred - target).mean()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    grads.pop("scene", None)  # Its loss is another.
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert jnp.isfinite(grad).all() and jnp.abs(grad).max() > 0, jax.tree_util.keystr(path)
    return variables


@pytest.mark.parametrize("context", CONTEXTS)
def test_blocks_of_the_cpu_preset(context):
    model = UNet3d(**CPU, context=context)
    model.check(32, 32)
    clip = moving_boxes(context + 8, size=32)
    variables = check_gradients(model, clip[:, :context], 8)
    slots = 32 if context == 32 else 16
    channels = 3 if context in (16, 32) else 4  # The channel of observed frames.
    assert variables["params"]["time_embedding"].shape == (slots // 4, 1, 1, 4)
    assert variables["params"]["stem"]["kernel"].shape[3] == channels * 4 * 4 * 4
    # The scene alone, extrapolated: the box on top goes on.
    params = variables["params"]
    params["paint"] = jax.tree.map(jnp.zeros_like, params["paint"])
    bias = params["paint"]["bias"].reshape(4, 16, 6)
    params["paint"]["bias"] = bias.at[..., 5].set(30.0).reshape(-1)
    scene = model.observe(clip[:, :context])
    error = model.trajectory_error(params, scene, clip[:, context:])
    assert error.shape == (1,) and jnp.isfinite(error).all()
    pred = jax.jit(model.apply)({"params": params}, clip[:, :context])
    edges, labels = fusion.decode(pred[0, :1], 4)
    assert edges.any() and set(np.unique(labels)) == {0, 1, 2}


@pytest.mark.parametrize("context", CONTEXTS)
def test_shift_1_of_the_paper_preset(context):
    model = UNet3d(**PAPER, context=context)
    model.check(16, 16)
    check_gradients(model, moving_boxes(context), context)


def test_missing_frames_by_hand():
    x = jnp.arange(1.0, 6).reshape(1, 5, 1, 1, 1)
    padded = pad_time(x, 8)[0, :, 0, 0]
    assert padded[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    assert padded[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert pad_time(x, 5) is x


def test_a_padded_context_equals_a_whole_one_whose_input_says_what_is_missing():
    """With frames of 4 channels, the last of them the plane that a context of 5 is given."""
    clip = moving_boxes(5)
    short = UNet3d(widths=(4, 4), time_strides=(2,), context=5)
    whole = UNet3d(widths=(4, 4), time_strides=(2,), context=6)
    params = jax.jit(short.init)(jax.random.key(0), clip)["params"]
    pred = jax.jit(short.apply)({"params": params}, clip)
    ones = jnp.ones((1, 5, 16, 16, 1))
    explicit = jnp.concatenate([clip, ones], -1)
    explicit = jnp.concatenate([jnp.zeros((1, 1, 16, 16, 4)), explicit], 1)
    paint = jax.tree.map(lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]), params["paint"])
    expected = jax.jit(whole.apply)({"params": {**params, "paint": paint}}, explicit)
    chex.assert_trees_all_close(pred, expected[:, 1:, ..., :3], atol=1e-6)


def test_a_block_longer_than_the_context_comes_from_the_newest_frame():
    """With flows of a pixel a frame and gates shut on the painting, the newest frame moves on."""
    clip = moving_boxes(4)
    model = UNet3d(widths=(4,), time_patch=4, time_strides=(), patch=2, context=4, shift=4)
    assert (model.slots, model.outputs) == (4, 4)
    model = UNet3d(widths=(4, 4), time_patch=4, time_strides=(2,), context=4, shift=8, num_flows=1)
    assert (model.slots, model.outputs) == (8, 8)
    params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0), clip)["params"])
    params["paint"]["bias"] = jnp.tile(jnp.array([0.0, 0, 0, 50, -50]), 4)
    params["motion"]["bias"] = jnp.tile(jnp.array([0.0, 1]), 4)
    pred = jax.jit(model.apply)({"params": params}, clip)
    for step in range(1, 9):
        columns = np.minimum(np.arange(16) + step, 15)
        chex.assert_trees_all_close(pred[0, step - 1], clip[0, -1][:, columns], atol=1e-5)


def test_refused_lengths():
    for fields, message in (
        (dict(shift=9), r"model.shift \(9\) must be 1 to 8"),
        (dict(shift=6, outputs=7), r"model.outputs \(7\) must be 0, or shift \(6\) to 6"),
        (dict(shift=2, outputs=5), r"model.outputs \(5\) must be 0, or shift \(2\) to 4"),
    ):
        model = UNet3d(widths=(4, 4), time_patch=4, time_strides=(2,), context=4, **fields)
        with pytest.raises(ValueError, match=message):
            model.check(16, 16)


@pytest.mark.parametrize(("context", "shift"), [(4, 0), (5, 8), (10, 3), (16, 16), (32, 1)])
def test_simvp_predicts_any_number_of_frames_from_any_context(context, shift):
    model = SimVP(width=4, strides=(1, 2), hidden=8, blocks=1, context=context, shift=shift)
    model.check(16, 16)
    assert model.shift == model.outputs == (shift or context)
    check_gradients(model, moving_boxes(context), shift or context)


def test_simvp_skips_from_the_newest_frames():
    """Where the translator adds nothing, a predicted frame depends on its source alone."""
    clip = moving_boxes(5)
    for shift, sources in ((2, [3, 4]), (7, [0, 1, 2, 3, 4, 4, 4])):
        model = SimVP(4, (1, 1), hidden=4, blocks=0, norm="none", context=5, shift=shift)
        params = jax.jit(model.init)(jax.random.key(0), clip)["params"]
        params["leave"] = jax.tree.map(jnp.zeros_like, params["leave"])
        predict = jax.jit(lambda x, model=model, params=params: model.apply({"params": params}, x))
        pred = predict(clip)
        for frame in range(5):
            changed = predict(clip.at[:, frame].add(0.5)) != pred
            assert changed.any((0, 2, 3, 4)).tolist() == [source == frame for source in sources]


GENERATORS = {
    "scene": Generator(
        widths=(4, 4),
        norm="group",
        dropout=0.0,
        reference_frames=4,
        seen_frames=1,
        num_flows=1,
        flow_levels=2,
        label_colors=3,
        scene=True,
    ),
    "colors": Generator((4, 4), norm="group", reference_frames=1, num_flows=1, label_colors=3),
    "plain": Generator((4, 4), norm="group", reference_frames=1),
    "paper": Generator((4, 4), norm="group"),
    "pix2pixhd": Pix2PixHD(width=4, levels=1, blocks=1, reference_frames=2),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_observations_of_a_window_serve_all_its_steps(name):
    model, clip = GENERATORS[name], moving_boxes(10)
    references = jnp.concatenate([0.5 * clip, clip], -1)[:, 6 - model.reference_frames : 6]
    steps_ahead = jnp.arange(1.0, 5)[None]
    inputs = clip[:, 6:], references, steps_ahead
    variables = jax.jit(model.init)(jax.random.key(0), *inputs)
    observations = jax.jit(model.observe)(references)
    assert (observations is None) == (name in ("plain", "paper", "pix2pixhd"))
    expected = jax.jit(model.apply)(variables, *inputs)
    apply = jax.jit(model.apply)
    for step in range(4):
        one = clip[:, 6 + step : 7 + step], references, steps_ahead[:, step : step + 1]
        pred = apply(variables, *one, observations)
        chex.assert_trees_all_close(pred[:, 0], expected[:, step], atol=1e-5)
    if name != "scene":
        return
    # What is given is used: those of another window give other frames.
    other = jax.jit(model.observe)(references[:, ::-1])
    assert jnp.abs(apply(variables, *one, other)[:, 0] - expected[:, -1]).max() > 1e-3


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_scene_of_any_context_in_stage_2(context):
    model = GENERATORS["scene"].clone(reference_frames=context)
    clip = moving_boxes(context + 2)
    references = jnp.concatenate([0.5 * clip, clip], -1)[:, :context]
    observations = jax.jit(model.observe)(references)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(observations))
    # The boxes step by a pixel and turn every ten: the slope of the last five positions.
    time = np.arange(max(context - 5, 0), context)
    slope = np.polyfit(time, 10 - abs(time % 20 - 10), 1)[0]
    found = observations.objects.velocities[0, :2, 1, 1]
    np.testing.assert_allclose(found, [-slope, slope], atol=0.6)
    np.testing.assert_allclose(observations.colors[0, 1], 0.5 * COLORS[1], atol=0.4)
