"""Tracked objects and their errors, against clips drawn by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from boxes import clip, draw, moving, split

from vidpred_jax.proposals.scene import tracking


def observe(window, num_labels):
    return tracking.observe(window.edges, window.labels, num_labels)


def test_objects_by_hand():
    """One moves right, one stands still, one is nowhere."""
    window, _ = moving((2, 3, 0, 1), (22, 4, 0, 0))
    objects = observe(window, 4)
    assert objects.size[0].tolist() == [36, 36, 0]
    np.testing.assert_allclose(objects.center[0, :2], [[4.5, 20.5], [24.5, 6.5]], atol=1e-4)
    np.testing.assert_allclose(objects.radius[0], [np.hypot(2.5, 2.5)] * 2 + [0], atol=1e-4)
    np.testing.assert_allclose(objects.velocities[0, :2], [[[0, 1], [0, 1]], [[0, 0], [0, 0]]], atol=1e-4)
    assert objects.age[0, :2].tolist() == [0, 0]
    np.testing.assert_allclose(objects.offset[0, :2], 0, atol=1e-4)
    for number in range(2):
        np.testing.assert_array_equal(objects.shape[0, number, 0], window.labels[0, -1] == number + 1)
    rows = [np.s_[4, 19:23], np.s_[24, 5:9]]  # Of edges.
    for number, row in enumerate(rows):
        expected = np.zeros((32, 32))
        expected[row] = 1
        np.testing.assert_array_equal(objects.shape[0, number, 1], expected)
    assert not objects.shape[0, 2].any()


def test_rendered_objects_by_hand():
    """Moved by a pixel down, two to the left: pixels, and edges inside them and around."""
    edges, labels = draw((1, 10, 12))
    edges[9, 11:19], edges[20, 20] = (1, 1)  # An outline that is labelled background; and another's edge.
    objects = observe(clip(*[(edges, labels)] * 4), 2)
    trajectory = jnp.array([[[[0.0, 0.0], [1.0, -2.0]]]])
    inside, outline = (x[0][0] for x in objects.render(trajectory, jnp.zeros((1, 1, 2))))
    edges[20, 20] = 0
    np.testing.assert_array_equal(inside[0], labels == 1)
    np.testing.assert_array_equal(outline[0], edges > 0)
    np.testing.assert_array_equal(inside[1], np.roll(labels, (1, -2), (0, 1)) == 1)
    np.testing.assert_array_equal(outline[1], np.roll(edges, (1, -2), (0, 1)) > 0)


def test_an_occluded_object_is_stored_from_where_it_was_visible():
    """The first box slides under the second, which it touches in the eighth frame."""
    window, _ = moving((10, 0, 0, 1), (9, 13, 0, 0))
    assert (window.labels[0, -1] == 1).sum() < 20
    objects = observe(window, 3)
    assert objects.size[0].tolist() == [36, 36]
    assert float(objects.age[0, 0]) == 15 - 7
    np.testing.assert_array_equal(objects.shape[0, 0, 0], window.labels[0, 7] == 1)
    np.testing.assert_allclose(objects.offset[0, 0], [0, 8], atol=0.2)
    np.testing.assert_allclose(objects.center[0, 0], [12.5, 17.5], atol=0.2)
    np.testing.assert_allclose(objects.velocities[0, 0, 0], [0, 1], atol=0.02)


def test_objects_that_left_or_are_fully_occluded_at_the_end():
    """The first leaves four frames before the last; the second is under the third at the end."""
    window = clip(*(draw((1, 2, 27 + t), (2, 20, 4 + t), (3, 20, 19)) for t in range(16)))
    assert set(np.unique(window.labels[0, -1])) == {0, 3}
    objects = observe(window, 4)
    assert objects.size[0].tolist() == [0, 36, 36]
    assert not objects.shape[0, 0].any() and objects.shape[0, 1, 0].sum() == 36


def test_one_that_appears_at_the_end_does_not_move_and_one_never_visible_has_no_error():
    objects = observe(clip(*[draw()] * 14, *[draw((2, 9, 9))] * 2), 3)
    np.testing.assert_allclose(objects.velocities, 0, atol=1e-3)
    future = jnp.asarray(draw((1, 20, 20))[1])[None, None]
    assert float(tracking.trajectory_error(jnp.zeros((1, 2, 1, 2)), objects, future)[0]) == 0


def test_an_object_reflected_at_the_border_keeps_its_speed():
    """Left at two pixels a frame until the twelfth, then right."""
    window, _ = split(clip(*(draw((1, 10, abs(22 - 2 * t))) for t in range(24))))
    np.testing.assert_allclose(observe(window, 2).velocities[0, 0, 0], [0, 2], atol=1e-3)


def test_trajectory_error():
    window, future = moving((2, 3, 0, 1), (22, 24, 0, -1))
    objects = observe(window, 3)
    exact = jnp.array([[[[0.0, t] for t in range(1, 5)], [[0.0, -t] for t in range(1, 5)]]])
    error = lambda trajectory, labels=future.labels: float(
        tracking.trajectory_error(trajectory, objects, labels)[0]
    )
    assert error(exact) == pytest.approx(1e-3, abs=1e-4)  # The root of 1e-6: smooth at 0.
    assert error(exact + jnp.array([3.2, 0])) == pytest.approx(0.1, abs=1e-3)
    # Objects that are barely visible have little weight.
    assert error(exact * 0 + 9, future.labels.at[:, :, 5:].set(0)) < 0.01


def test_dilated_masks_by_hand():
    mask = np.zeros((5, 7), bool)
    mask[0, 0] = mask[3, 4] = True
    expected = np.zeros((5, 7), bool)
    expected[:2, :2] = expected[2:5, 3:6] = True
    np.testing.assert_array_equal(tracking.dilate(jnp.asarray(mask)), expected)
