"""Tracked objects and their extrapolation, against pictures drawn by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models.scene import renderer, tracking
from vidpred_jax.models.unet3d import UNet3d

COLORS = [fusion.to_float(fusion.PALETTE[i].astype(np.float32)) for i in range(4)]

# The long-term velocity alone, without decay; walls far outside.
CONSTANT = {"trust": jnp.array([3.0, -3, -3]), "decay": jnp.array([-3.0, -3])}
PARAMS = {
    "objects": {**CONSTANT, "wall": jnp.array([-9.0])},
    "rotation": {"trust": jnp.array([3.0, -3]), "decay": jnp.array([-3.0])},
    "background": CONSTANT,
}


def draw(*boxes, size=32):
    """A fusion picture of (label, y, x) boxes of 6 x 6, later ones in front, each with an edge."""
    picture = np.full((size, size, 3), -1, np.float32)
    for label, y, x in boxes:
        picture[max(y, 0) : y + 6, max(x, 0) : x + 6] = COLORS[label]
        picture[y + 2, x + 1 : x + 5] = 1
    return picture


def extrapolate(clip, outputs=4, labels=3, frame_offset=0):
    """The pictures after a clip, or those `frame_offset` frames further on."""
    scene = renderer.observe(clip, labels)
    steps_ahead = frame_offset + jnp.arange(1.0, outputs + 1)[None]
    apply = jax.jit(renderer.SceneRenderer().apply, static_argnums=3)
    return np.asarray(apply({"params": PARAMS}, scene, steps_ahead, clip.shape[2:4]))[0]


def clip_of(first, second):
    """16 pictures of two boxes that move by (dy, dx) a picture, and the 4 that follow."""
    frames = []
    for t in range(20):
        boxes = [
            (label, y + t * dy, x + t * dx)
            for label, (y, x, dy, dx) in enumerate((first, second), 1)
        ]
        frames.append(draw(*boxes))
    return jnp.asarray(frames[:16])[None], np.stack(frames[16:])


def test_steady_objects_are_extrapolated_exactly():
    clip, future = clip_of((2, 3, 0, 1), (22, 24, 0, -1))
    np.testing.assert_allclose(extrapolate(clip), future, atol=1e-3)


def test_still_objects_stay_and_later_labels_occlude_earlier_ones():
    clip, future = clip_of((10, 0, 0, 1), (9, 23, 0, 0))  # The first slides under the second.
    np.testing.assert_allclose(extrapolate(clip), future, atol=1e-3)


def test_objects_leave_and_absent_labels_do_no_harm():
    clip, future = clip_of((2, 26 - 15, 0, 1), (22, 4, 0, 0))
    actual = extrapolate(clip, labels=4)  # Label 3 is nowhere.
    np.testing.assert_allclose(actual[:, :, :31], future[:, :, :31], atol=1e-3)
    empty = jnp.full((1, 16, 32, 32, 3), -1.0)
    np.testing.assert_allclose(extrapolate(empty), -1, atol=1e-6)


def test_an_occluded_object_reappears():
    """The first box is behind the second in the last three pictures, and comes out again."""
    clip, future = clip_of((10, 0, 0, 1), (9, 13, 0, 0))
    alone = np.stack([draw((1, 10, t)) for t in range(16, 20)])  # Without the second.
    assert (np.asarray(clip[0, -1]) == COLORS[1]).all(-1).sum() < 20  # Of 36, without its edge.
    actual = extrapolate(clip, outputs=8)
    np.testing.assert_allclose(actual[:4], future, atol=1e-3)
    np.testing.assert_allclose(extrapolate(clip, frame_offset=4), actual[4:], atol=1e-3)
    free = np.s_[:, 8:18, 22:]  # What has come out of it by then.
    np.testing.assert_allclose(actual[:4][free], alone[free], atol=1e-3)


def test_objects_that_left_or_are_fully_occluded_at_the_end():
    """The first leaves four pictures before the last; the second is under the third at the end."""
    pictures = [draw((1, 2, 27 + t), (2, 20, 4 + t), (3, 20, 19)) for t in range(16)]
    pictures = jnp.asarray(np.stack(pictures))[None]
    assert not (np.asarray(pictures[0, -1]) == COLORS[1]).all(-1).any()
    assert not (np.asarray(pictures[0, -1]) == COLORS[2]).all(-1).any()
    objects = tracking.observe(pictures, 4)
    assert objects.size[0].tolist() == [0, 36, 36]
    actual = extrapolate(pictures, labels=4, outputs=8)
    assert not (np.abs(actual - COLORS[1]) < 1e-3).all(-1).any()
    shown = (np.abs(actual[-1] - COLORS[2]) < 1e-3).all(-1)
    assert shown.any() and np.argwhere(shown).min(0).tolist()[0] == 20
    # One that appears at the end does not move; one that is never visible has no error.
    appearing = jnp.asarray(np.stack([draw()] * 14 + [draw((2, 9, 9))] * 2))[None]
    objects = tracking.observe(appearing, 3)
    np.testing.assert_allclose(objects.velocities, 0, atol=1e-3)
    error = tracking.trajectory_error(
        jnp.zeros((1, 2, 1, 2)), objects, jnp.asarray(draw((1, 20, 20)))[None, None]
    )
    assert float(error[0]) == 0


def test_outlines_move_with_their_object():
    """A white outline, whose label cannot be decoded, leaves nothing behind."""

    def outlined(x):
        picture = np.full((32, 32, 3), -1, np.float32)
        picture[8:18, x : x + 10], picture[9:17, x + 1 : x + 9] = 1, COLORS[1]
        return picture

    clip = jnp.asarray(np.stack([outlined(t) for t in range(20)]))[None]
    np.testing.assert_allclose(extrapolate(clip[:, :16], labels=2), clip[0, 16:], atol=1e-3)


def test_an_object_reflected_at_the_border_keeps_its_speed():
    """Left at two pixels a picture until the twelfth, then right."""
    places = np.abs(22 - 2 * np.arange(24))
    clip = jnp.asarray(np.stack([draw((1, 10, x)) for x in places]))[None]
    objects = tracking.observe(clip[:, :16], 2)
    np.testing.assert_allclose(objects.velocities[0, 0, 0], [0, 2], atol=1e-3)
    np.testing.assert_allclose(extrapolate(clip[:, :16], 8, 2), clip[0, 16:], atol=1e-3)


def test_trajectory_error():
    clip, future = clip_of((2, 3, 0, 1), (22, 24, 0, -1))
    objects = tracking.observe(clip, 3)
    exact = jnp.array([[[[0.0, t] for t in range(1, 5)], [[0.0, -t] for t in range(1, 5)]]])
    error = lambda trajectory: float(
        tracking.trajectory_error(trajectory, objects, jnp.asarray(future)[None])[0]
    )
    assert error(exact) == pytest.approx(1e-3, abs=1e-4)  # The root of 1e-6: smooth at 0.
    assert error(exact + jnp.array([3.2, 0])) == pytest.approx(0.1, abs=1e-3)
    # Objects that are barely visible have little weight.
    gone = jnp.asarray(future).at[:, :, 5:].set(-1.0)[None]
    assert float(tracking.trajectory_error(exact * 0 + 9, objects, gone)[0]) < 0.01


def test_every_trajectory_parameter_gets_a_gradient():
    places = 6 + np.abs(22 - 2 * np.arange(24))  # At the end it meets the right border.
    clip = jnp.asarray(np.stack([draw((1, 10, x)) for x in places]))[None]
    model = UNet3d(widths=(4, 4), time_strides=(2,), shift=4, outputs=4, num_flows=1, num_labels=2)
    params = jax.jit(model.init)(jax.random.key(0), clip[:, 4:20])["params"]
    loss = lambda p: model.trajectory_error(p, model.observe(clip[:, 4:20]), clip[:, 20:]).sum()
    grads = jax.jit(jax.grad(loss))(params)["scene"]["objects"]
    for name, grad in grads.items():
        assert jnp.isfinite(grad).all() and jnp.abs(grad).min() > 0, name


def test_fed_back_predictions_do_not_change_the_scene():
    """Whatever the window, the objects of each clip are where its `frame_offset` says."""
    model = UNet3d(widths=(4, 4), time_strides=(2,), shift=4, outputs=4, num_flows=1, num_labels=3)
    clips = jnp.concatenate([clip_of((2, 3, 0, 1), (22, 24, 0, -1))[0]] * 2)
    params = jax.jit(model.init)(jax.random.key(0), clips)["params"]
    params["scene"] = PARAMS
    # The last gate is that of the rendered scene.
    params["paint"] = jax.tree.map(jnp.zeros_like, params["paint"])
    params["paint"]["bias"] = jnp.array([0.0, 0, 0, 0, 0, 30])
    black = jnp.full_like(clips, -1.0)
    observed, frame_offset = model.observe(clips), jnp.array([0, 4])
    actual = jax.jit(model.apply)({"params": params}, black, observed, frame_offset)
    expected = [extrapolate(clips[:1], frame_offset=n) for n in (0, 4)]
    np.testing.assert_allclose(actual, expected, atol=1e-3)
