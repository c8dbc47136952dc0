"""Rotation, against shapes drawn rotated."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import ops
from vidpred_jax.proposals.scene import rotation, tracking, trajectories

TRIANGLE, BOX = np.arange(3) * 2 * np.pi / 3, np.arange(4) * np.pi / 2
DISC = np.linspace(0, 2 * np.pi, 40)


def rotating(corners, speed, frames=16, size=48, radius=12.0):
    """Masks (t, size, size) of a polygon that rotates by `speed` radians a frame as it moves right."""
    masks = np.zeros((frames, size, size), np.uint8)
    for t in range(frames):
        angles = corners + 0.3 + speed * t
        points = np.stack([np.cos(angles), np.sin(angles)], -1) * radius + [12 + t, 22]
        cv2.fillPoly(masks[t], [np.int32(np.round(points * 16))], 1, cv2.LINE_8, 4)
    return masks > 0


def observe(*clips):
    labels = jnp.asarray(np.stack(clips), jnp.int32)
    return tracking.observe(jnp.zeros(labels.shape), labels, 2)


@pytest.mark.parametrize("corners", [TRIANGLE, BOX])
@pytest.mark.parametrize("speed", [-0.06, 0.0, 0.025])
def test_rotation_speed(corners, speed):
    masks = rotating(corners, speed)
    hidden = masks.copy()
    hidden[8:12, :, 26:] = False  # Half occluded: no weight.
    found = observe(masks, hidden).rotation[:, 0]
    assert float(found[0]) == pytest.approx(speed, abs=0.002)
    assert float(found[1]) == pytest.approx(speed, abs=0.004)


def test_round_absent_and_briefly_visible_objects_do_not_rotate():
    once = rotating(TRIANGLE, 0.05)
    once[:9], once[10:] = False, False
    clips = rotating(DISC, 0.05), rotating(DISC, 0.05) & False, once
    np.testing.assert_array_equal(observe(*clips).rotation, 0)


def test_rotate_by_hand():
    """A quarter turn, from x to y, about a center between pixels; and offsets alone."""
    rotate, rotate_codes = jax.jit(rotation.rotate), jax.jit(rotation.rotate_codes)
    shift = jax.jit(ops.shift, static_argnames="nearest")
    rng = np.random.default_rng(0)
    planes = jnp.asarray(rng.uniform(size=(1, 1, 2, 8, 8)), jnp.float32)
    center, still = jnp.full((1, 1, 2), 3.5), jnp.zeros((1, 1, 1, 2))
    quarter = rotate(planes, center, still, jnp.full((1, 1, 1), np.pi / 2))[0, 0, 0]
    np.testing.assert_allclose(quarter, np.rot90(planes[0, 0], -1, axes=(1, 2)), atol=1e-5)
    offsets = jnp.array([[[[1.25, -2.0], [0, 0.5], [-9, 0]]]])
    moved = rotate(planes, center, offsets, jnp.zeros((1, 1, 3)))
    np.testing.assert_allclose(moved, shift(planes, offsets, nearest=False), atol=1e-5)
    codes = jnp.asarray(rng.integers(0, 3, (1, 1, 8, 8)), jnp.uint8)
    quarter = rotate_codes(codes, center, still, jnp.full((1, 1, 1), np.pi / 2))[0, 0, 0]
    np.testing.assert_array_equal(quarter, np.rot90(codes[0, 0], -1))
    moved = rotate_codes(codes, center, offsets, jnp.zeros((1, 1, 3)))
    expected = shift(codes[:, :, None], offsets)[:, :, :, 0]
    np.testing.assert_array_equal(moved, expected)


def test_angles_by_hand():
    speeds, steps_ahead = jnp.array([[0.02, -0.01]]), jnp.array([[1.0, 10]])
    lasting = {"trust": jnp.array([3.0, -3]), "decay": jnp.array([-3.0])}
    apply = jax.jit(trajectories.Rotation().apply)
    angle = lambda numbers: apply(
        {"params": {**lasting, **numbers}}, speeds, jnp.array([[0.0, 5]]), steps_ahead
    )
    np.testing.assert_allclose(angle({})[0], [[0.02, 0.2], [-0.06, -0.15]], atol=1e-3)
    np.testing.assert_allclose(angle({"trust": jnp.array([-3.0, 3])}), 0, atol=1e-6)
    # softplus(log(e - 1)) = 1: the speed falls to 1 / e in a frame.
    dying = angle({"decay": jnp.array([np.log(np.e - 1) / 10])})[0, 0]
    np.testing.assert_allclose(dying, [0.02 * (1 - np.exp(-1)), 0.02], atol=1e-4)


def test_rendered_objects_rotate():
    """Eight frames on, at the true speed and without any."""
    masks = rotating(TRIANGLE, 0.05, frames=24)
    objects = observe(masks[:16])
    trajectory = jnp.array([[[[0.0, 8.0]]]])

    def overlap(angle):
        inside, _ = objects.render(trajectory, jnp.full((1, 1, 1), angle))
        actual = np.asarray(inside[0])[0, 0]
        return (actual & masks[-1]).sum() / (actual | masks[-1]).sum()

    turned = 0.05 * (8 + float(objects.age[0, 0]))
    assert overlap(turned) > 0.85 > 0.7 > overlap(0.0)


def test_rotation_error():
    masks = rotating(TRIANGLE, 0.05, frames=24)
    objects, future = observe(masks[:16]), jnp.asarray(masks[None, 16:], jnp.int32)
    error = lambda angle, labels=future: float(
        tracking.rotation_error(jnp.full((1, 1), angle), objects, labels)[0]
    )
    most = float(objects.radius[0, 0]) / 48  # The displacement of the farthest pixel per radian.
    right, wrong, worse = (error(0.05 * 7 + more) for more in (0.0, 0.4, 0.8))
    assert right < 0.015 and 0.4 * most > worse - wrong > 0.25 * most
    assert error(1.0, future.at[:, :, 22:].set(0)) < 0.01
