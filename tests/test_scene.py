"""The scene as a proposal: forecasts against clips drawn by hand, its losses and its confidence."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from boxes import COLORS, PARAMS, clip, draw, moving, split

from vidpred_jax import ops
from vidpred_jax.proposals.forecast import Window, confidence
from vidpred_jax.proposals.scene.scene import Scene

MODEL = Scene(num_labels=4)


@jax.jit
def observe(window):
    return MODEL.apply({"params": PARAMS}, window, method="observe")


@functools.partial(jax.jit, static_argnames="method")
def apply(params, *given, method="propose"):
    return MODEL.apply({"params": params}, *given, method=method)


def propose(window, steps_ahead):
    """Forecasts of objects that go on as they were."""
    return apply(PARAMS, observe(window), steps_ahead)


def steps(*numbers):
    return jnp.array([numbers], jnp.float32)


def check(found, truth, atol=0.02):
    """Whether a forecast equals a window."""
    np.testing.assert_array_equal(found.edges, truth.edges)
    np.testing.assert_array_equal(found.labels, truth.labels)
    np.testing.assert_allclose(found.frames, truth.frames, atol=atol)


def test_steady_objects_are_extrapolated_exactly():
    window, future = moving((2, 3, 0, 1), (22, 24, 0, -1))
    check(propose(window, steps(1, 2, 3, 4)), future)


def test_still_objects_stay_and_later_labels_occlude_earlier_ones():
    window, future = moving((10, 0, 0, 1), (9, 23, 0, 0))  # The first slides under the second.
    check(propose(window, steps(1, 2, 3, 4)), future)


def test_objects_leave_and_absent_labels_do_no_harm():
    window, future = moving((2, 26 - 15, 0, 1), (22, 4, 0, 0))  # Label 3 is nowhere.
    check(propose(window, steps(1, 2, 3, 4)), future)
    empty = clip(*[draw()] * 16)
    check(propose(empty, steps(1, 2, 3, 4)), empty.until(4))


def test_an_occluded_object_reappears():
    """The first box, behind the second at the end of the window, comes out again."""
    window, future = moving((10, 0, 0, 1), (9, 13, 0, 0), frames=24)
    assert (window.labels[0, -1] == 1).sum() < 20  # Of 36.
    later = jax.tree.map(lambda x: x[:, jnp.array([0, 2, 6, 7])], future)
    # A third of a pixel off, at outlines of a contrast of 1.7.
    check(propose(window, steps(1, 3, 7, 8)), later, atol=0.5)


def test_fully_occluded_objects_reappear_and_those_that_left_do_not():
    """The first leaves four frames before the last; the second is under the third at the end."""
    pictures = [draw((1, 2, 27 + t), (2, 20, 4 + t), (3, 20, 19)) for t in range(24)]
    window, future = split(clip(*pictures))
    assert set(np.unique(window.labels[0, -1])) == {0, 3}
    found = propose(window, steps(5, 6, 7, 8))
    assert (found.labels != 1).all()
    for labels, truth in zip(found.labels[0], future.labels[0, 4:], strict=True):
        both = ((labels == 2) & (truth == 2)).sum() / ((labels == 2) | (truth == 2)).sum()
        assert both > 0.5  # It counts as still while it is hidden, so it is a little behind.


def test_outlines_move_with_their_object():
    """An outline, labelled background, leaves nothing behind."""

    def outlined(x):
        edges, labels = np.zeros((32, 32), np.float32), np.zeros((32, 32), np.int32)
        edges[8:18, x : x + 10], edges[9:17, x + 1 : x + 9] = 1, 0
        labels[9:17, x + 1 : x + 9] = 1
        return edges, labels

    window, future = split(clip(*(outlined(t) for t in range(20))))
    check(propose(window, steps(1, 2, 3, 4)), future)


def test_an_object_reflected_at_the_border_goes_on():
    """Left at two pixels a frame until the twelfth, then right."""
    window, future = split(clip(*(draw((1, 10, abs(22 - 2 * t))) for t in range(24))))
    check(propose(window, steps(1, 3, 6, 8)), jax.tree.map(lambda x: x[:, jnp.array([0, 2, 5, 7])], future))


def test_steps_depend_on_steps_ahead_alone():
    """A step does not need those before it, nor the other clip of a batch."""
    clips = [moving((2, 3, 0, 1), (22, 24, 0, -1)), moving((10, 0, 0, 1), (9, 13, 0, 0))]
    both = jax.tree.map(lambda *x: jnp.concatenate(x), *(window for window, _ in clips))
    found = propose(both, jnp.array([[9.0, 2.0, 4.0, 1.0], [1.0, 4.0, 7.0, 2.0]]))
    for each, (window, _) in enumerate(clips):
        alone = propose(window, steps(1, 2, 3, 4))
        for name in ("frames", "edges", "labels", "confidence"):
            part = getattr(found, name)[each, jnp.array([[3, 1, 2], [0, 3, 1]][each])]
            expected = getattr(alone, name)[0, jnp.array([0, 1, 3])]
            np.testing.assert_allclose(part, expected, atol=1e-4)
    assert np.abs(found.frames[0, 0] - found.frames[0, 1]).max() > 0.5


def test_confidence_is_that_of_the_same_scene_four_frames_ago():
    """The first box goes on as it was, the second turns round four frames before the end."""
    at = lambda t: ((1, 2, 3 + t), (2, 22, 4 + min(t, 22 - t)))
    window = clip(*(draw(*at(t)) for t in range(16)))
    found = np.asarray(propose(window, steps(1, 2, 3, 4)).confidence)
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1], found.shape))
    before = propose(window.until(-4), steps(1, 2, 3, 4)).frames
    wrong = lambda frames: jnp.square(frames - window.frames[:, -4:]).sum(-1).mean(1)[..., None]
    errors = (ops.blur(wrong(x), 3.2)[..., 0] for x in (before, window.frames[:, 11:12]))
    np.testing.assert_allclose(found[:, 0], confidence(*errors), atol=1e-3)
    assert found[0, 0, 5, 20] > 0.99 and found[0, 0, 25, 18] < 0.4


def test_confidence_without_motion_or_with_too_few_frames_is_one_half():
    window = moving((10, 12, 0, 0), (22, 4, 0, 0))[0]
    np.testing.assert_allclose(propose(window, steps(1, 2, 3, 4)).confidence, 0.5, atol=0.02)
    few = moving((10, 12, 0, 1), (22, 4, 0, 0))[0].until(4)
    np.testing.assert_array_equal(propose(few, steps(1, 2, 3, 4)).confidence, 0.5)


def test_labels_are_counted():
    Scene(num_labels=2).check(32, 32)
    for number in (1, 257):
        with pytest.raises(ValueError, match=rf"\({number}\) must be 2 to 256"):
            Scene(num_labels=number).check(32, 32)


@pytest.fixture(scope="module")
def eventful():
    """A triangle that turns, goes right and is reflected before the border; the background pans. The
    initial parameters, what is observed, and the frames that follow.
    """
    y, x = np.mgrid[:32, :32]
    corners, parts = np.arange(3) * 2 * np.pi / 3, []
    for t in range(24):
        angles, labels = corners + 0.05 * t, np.zeros((32, 32), np.uint8)
        middle = [26 - abs(26 - (6.3 + t)), 13 + 0.2 * t]
        points = np.stack([np.cos(angles), np.sin(angles)], -1) * 7 + middle
        cv2.fillPoly(labels, [np.int32(np.round(points * 16))], 1, cv2.LINE_8, 4)
        edges = ((x - t) % 16 == 0) | ((y - t // 2) % 16 == 0)
        wave = np.sin(0.3 * ((y - t / 2) + 1.5 * (x - t)))[..., None] * [0.5, 0.4, 0.3]
        frames = np.where(labels[..., None] == 1, COLORS[1], wave)
        parts.append((frames.astype(np.float32), np.float32(edges), np.int32(labels)))
    whole = Window(*(jnp.asarray(np.stack(part))[None] for part in zip(*parts, strict=True)))
    window, future = split(whole)
    observed = observe(window)
    init = jax.jit(lambda *x: MODEL.init(jax.random.key(0), *x, method="propose"))
    return init(observed, steps(1, 2, 3, 4))["params"], observed, future


def assert_every_number_has_a_gradient(loss, params):
    gradients = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(params))
    assert sum(gradient.size for _, gradient in gradients) == 14
    for path, gradient in gradients:
        name = jax.tree_util.keystr(path)
        assert jnp.isfinite(gradient).all() and jnp.abs(gradient).min() > 0, name


def test_the_fit_error_has_a_gradient_by_every_parameter(eventful):
    params, observed, future = eventful
    loss = lambda p: apply(p, observed, future, method="fit_error").sum()
    assert_every_number_has_a_gradient(loss, params)


def test_frames_have_a_gradient_by_every_parameter(eventful):
    params, observed, future = eventful

    def loss(params):
        found = apply(params, observed, steps(2, 4, 6, 8))
        return jnp.square(found.frames - future.frames[:, 1::2]).mean()

    assert_every_number_has_a_gradient(loss, params)


def test_fit_error_by_hand():
    """Without rotation: the distance of the objects, in sides. Without edges pans have no weight."""
    window, future = moving((2, 3, 0, 1), (22, 24, 0, -1), frames=24)
    observed = observe(window)
    error = lambda future: float(apply(PARAMS, observed, future, method="fit_error")[0])
    # The root of 1e-6 of each of two errors.
    assert error(future) == pytest.approx(2e-3, abs=2e-4)
    down = jax.tree.map(lambda x: jnp.roll(x, 2, 2), future)
    assert error(down) == pytest.approx(2 / 32 + 1e-3, abs=1e-3)
