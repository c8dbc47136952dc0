"""Any number of observed frames, and observations made once a window."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models.baselines.simvp import SimVP
from vidpred_jax.models.fusion_predictor import FusionPredictor, pad_time
from vidpred_jax.models.maps import Planes
from vidpred_jax.proposals.flow_blend import FlowBlend
from vidpred_jax.proposals.forecast import Window
from vidpred_jax.proposals.scene.scene import Scene

CONTEXTS = (4, 5, 10, 16, 32)
COLORS = fusion.to_float(fusion.PALETTE[:4].astype(np.float32))
# The fields of presets that time depends on, narrow.
CPU = dict(widths=(4, 4, 4), patch=4, time_patch=4, time_strides=(2, 2), shift=8, outputs=8)
PAPER = dict(widths=(2, 2, 2, 2), time_strides=(2, 2, 2))


def moving_boxes(frames, size=16):
    """A window (1, t, size, size) of two boxes that bounce, each on its own line."""
    labels, edges = np.zeros((2, 1, frames, size, size), np.int32)
    for t in range(frames):
        x = abs(t % 20 - 10)
        labels[0, t, 2:7, x : x + 5], labels[0, t, 9:14, 10 - x : 15 - x] = 1, 2
        edges[0, t, 4, x : x + 5] = 1
    colored = 0.5 * COLORS[labels]
    return Window(jnp.asarray(colored), jnp.asarray(edges, jnp.float32), jnp.asarray(labels))


def moving_planes(frames, size=16):
    """The same as maps (1, t, size, size, 4)."""
    window = moving_boxes(frames, size)
    return Planes(3).join(window.edges, window.labels)


def check_gradients(model, x, outputs):
    """That the network gives so many maps, and each of its parameters gets a gradient."""
    variables = jax.jit(model.init)(jax.random.key(1), x)
    target = jax.random.uniform(jax.random.key(2), (len(x), outputs, *x.shape[2:]), minval=-1)

    def loss(params):
        pred = model.apply({"params": params}, x)
        chex.assert_equal_shape([pred, target])
        return jnp.square(pred - target).mean()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert jnp.isfinite(grad).all() and jnp.abs(grad).max() > 0, jax.tree_util.keystr(path)
    return variables


@pytest.mark.parametrize("context", CONTEXTS)
def test_blocks_of_the_cpu_preset(context):
    model = FusionPredictor(**CPU, context=context)
    model.check(32, 32)
    variables = check_gradients(model, moving_planes(context, size=32), 8)
    slots = 32 if context == 32 else 16
    channels = 4 if context in (16, 32) else 5  # The channel of observed frames.
    assert variables["params"]["time_embedding"].shape == (slots // 4, 1, 1, 4)
    assert variables["params"]["stem"]["kernel"].shape[3] == channels * 4 * 4 * 4


@pytest.mark.parametrize("context", CONTEXTS)
def test_shift_1_of_the_paper_preset(context):
    model = FusionPredictor(**PAPER, context=context)
    model.check(16, 16)
    check_gradients(model, moving_boxes(context).frames, context)


def test_missing_frames_by_hand():
    x = jnp.arange(1.0, 6).reshape(1, 5, 1, 1, 1)
    padded = pad_time(x, 8)[0, :, 0, 0]
    assert padded[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    assert padded[:, 1].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert pad_time(x, 5) is x


@pytest.mark.parametrize("proposals", [False, True])
def test_a_padded_context_equals_a_whole_one_whose_input_says_what_is_missing(proposals):
    """With maps of one more channel, the last of them the plane that a context of 5 is given."""
    clip = moving_planes(5)
    fields = dict(widths=(4, 4), time_strides=(2,), shift=4, outputs=4)
    short, whole = (FusionPredictor(**fields, context=context) for context in (5, 6))
    given = (jax.random.normal(jax.random.key(1), (1, 4, 16, 16, 5)),) * proposals
    params = jax.jit(short.init)(jax.random.key(0), clip, *given)["params"]
    pred = jax.jit(short.apply)({"params": params}, clip, *given)
    ones = jnp.ones((1, 5, 16, 16, 1))
    explicit = jnp.concatenate([clip, ones], -1)
    explicit = jnp.concatenate([jnp.zeros((1, 1, 16, 16, 5)), explicit], 1)
    paint = jax.tree.map(lambda x: jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]), params["paint"])
    expected = jax.jit(whole.apply)({"params": {**params, "paint": paint}}, explicit, *given)
    chex.assert_trees_all_close(pred, expected[..., :4], atol=1e-6)


def test_a_block_may_be_longer_than_the_context():
    model = FusionPredictor((4,), time_patch=4, time_strides=(), patch=2, context=4, shift=4)
    assert (model.slots, model.outputs) == (4, 4)
    model = FusionPredictor((4, 4), time_patch=4, time_strides=(2,), context=4, shift=8)
    assert (model.slots, model.outputs) == (8, 8)
    check_gradients(model, moving_planes(4), 8)


def test_refused_lengths():
    for fields, message in (
        (dict(shift=9), r"model.shift \(9\) must be 1 to 8"),
        (dict(shift=6, outputs=7), r"model.outputs \(7\) must be 0, or shift \(6\) to 6"),
        (dict(shift=2, outputs=5), r"model.outputs \(5\) must be 0, or shift \(2\) to 4"),
    ):
        model = FusionPredictor((4, 4), time_patch=4, time_strides=(2,), context=4, **fields)
        with pytest.raises(ValueError, match=message):
            model.check(16, 16)


@pytest.mark.parametrize(("context", "shift"), [(4, 0), (5, 8), (10, 3), (16, 16), (32, 1)])
def test_simvp_predicts_any_number_of_frames_from_any_context(context, shift):
    model = SimVP(width=4, strides=(1, 2), hidden=8, blocks=1, context=context, shift=shift)
    model.check(16, 16)
    assert model.shift == model.outputs == (shift or context)
    check_gradients(model, moving_boxes(context).frames, shift or context)


def test_simvp_skips_from_the_newest_frames():
    """Where the translator adds nothing, a predicted frame depends on its source alone."""
    clip = moving_boxes(5).frames
    for shift, sources in ((2, [3, 4]), (7, [0, 1, 2, 3, 4, 4, 4])):
        model = SimVP(4, (1, 1), hidden=4, blocks=0, norm="none", context=5, shift=shift)
        params = jax.jit(model.init)(jax.random.key(0), clip)["params"]
        params["leave"] = jax.tree.map(jnp.zeros_like, params["leave"])
        predict = jax.jit(lambda x, model=model, params=params: model.apply({"params": params}, x))
        pred = predict(clip)
        for frame in range(5):
            changed = predict(clip.at[:, frame].add(0.5)) != pred
            assert changed.any((0, 2, 3, 4)).tolist() == [source == frame for source in sources]


PROPOSALS = {"scene": Scene(num_labels=3), "flow_blend": FlowBlend(flow_levels=2)}


@pytest.mark.parametrize("name", PROPOSALS)
def test_observations_of_a_window_serve_all_its_steps(name):
    module, window = PROPOSALS[name], moving_boxes(10).until(6)
    steps_ahead = jnp.arange(1.0, 5)[None]
    variables = jax.jit(module.init)(jax.random.key(0), window, steps_ahead)
    observe = jax.jit(functools.partial(module.apply, variables, method="observe"))
    propose = jax.jit(functools.partial(module.apply, variables, method="propose"))
    observations = observe(window)
    expected = jax.jit(module.apply)(variables, window, steps_ahead)
    for step in range(4):
        one = propose(observations, steps_ahead[:, step : step + 1])
        at_step = jax.tree.map(lambda x, step=step: x[:, step : step + 1], expected)
        chex.assert_trees_all_close(one, at_step, atol=1e-5)
    # What is given is used: those of another window give other frames.
    other = observe(jax.tree.map(lambda x: x[:, ::-1], window))
    found = propose(other, steps_ahead)
    assert jnp.abs(found.frames - expected.frames).max() > 1e-3


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("name", PROPOSALS)
def test_proposals_of_any_context(name, context):
    module, window = PROPOSALS[name], moving_boxes(context)
    variables = jax.jit(module.init)(jax.random.key(0), window, jnp.ones((1, 1)))
    observe = functools.partial(module.apply, variables, method="observe")
    observations = jax.jit(observe)(window)
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(observations))
    found = jax.jit(functools.partial(module.apply, variables, method="propose"))(
        observations, jnp.float32([[1, 8]])
    )
    chex.assert_shape([found.edges, found.labels, found.confidence], (1, 2, 16, 16))
    assert set(np.unique(found.labels)) == {0, 1, 2}
    for x in (found.edges, found.confidence):
        assert float(x.min()) >= 0 and float(x.max()) <= 1 + 1e-6
    if name == "flow_blend":
        return
    # The boxes step by a pixel and turn every ten: the slope of the last five positions.
    time = np.arange(max(context - 5, 0), context)
    slope = np.polyfit(time, 10 - abs(time % 20 - 10), 1)[0]
    velocities = observations.state.objects.velocities[0, :2, 1, 1]
    np.testing.assert_allclose(velocities, [-slope, slope], atol=0.6)
