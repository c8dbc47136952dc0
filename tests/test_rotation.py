"""Rotation, against shapes drawn rotated."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models import ops
from vidpred_jax.models.scene import renderer, rotation, tracking, trajectories
from vidpred_jax.models.translator import Generator

RED = np.asarray(fusion.to_float(fusion.PALETTE[1].astype(np.float32)))
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


def pictures(masks):
    return jnp.asarray(np.where(masks[..., None], RED, -1.0), jnp.float32)[None]


@pytest.mark.parametrize("corners", [TRIANGLE, BOX])
@pytest.mark.parametrize("speed", [-0.06, 0.0, 0.025])
def test_rotation_speed(corners, speed):
    masks = rotating(corners, speed)
    estimate = lambda clip: float(tracking.observe(clip, 2).rotation[0, 0])
    assert estimate(pictures(masks)) == pytest.approx(speed, abs=0.002)
    masks[8:12, :, 26:] = False  # Half occluded: no weight.
    assert estimate(pictures(masks)) == pytest.approx(speed, abs=0.004)


def test_round_absent_and_briefly_visible_objects_do_not_rotate():
    once = rotating(TRIANGLE, 0.05)
    once[:9], once[10:] = False, False
    masks = rotating(DISC, 0.05), rotating(DISC, 0.05) & False, once
    clip = np.concatenate([pictures(each) for each in masks])
    np.testing.assert_array_equal(tracking.observe(jnp.asarray(clip), 2).rotation, 0)


def test_rotate_by_hand():
    """A quarter turn, from x to y, about a center between pixels; and offsets alone."""
    rng = np.random.default_rng(0)
    planes = jnp.asarray(rng.uniform(size=(1, 1, 2, 8, 8)), jnp.float32)
    center, still = jnp.full((1, 1, 2), 3.5), jnp.zeros((1, 1, 1, 2))
    quarter = rotation.rotate(planes, center, still, jnp.full((1, 1, 1), np.pi / 2))[0, 0, 0]
    np.testing.assert_allclose(quarter, np.rot90(planes[0, 0], -1, axes=(1, 2)), atol=1e-5)
    offsets = jnp.array([[[[1.25, -2.0], [0, 0.5], [-9, 0]]]])
    moved = rotation.rotate(planes, center, offsets, jnp.zeros((1, 1, 3)))
    np.testing.assert_allclose(moved, ops.shift(planes, offsets, nearest=False), atol=1e-5)
    codes = jnp.asarray(rng.integers(0, 3, (1, 1, 8, 8)), jnp.uint8)
    quarter = rotation.rotate_codes(codes, center, still, jnp.full((1, 1, 1), np.pi / 2))[0, 0, 0]
    np.testing.assert_array_equal(quarter, np.rot90(codes[0, 0], -1))
    moved = rotation.rotate_codes(codes, center, offsets, jnp.zeros((1, 1, 3)))
    expected = ops.shift(codes[:, :, None], offsets)[:, :, :, 0]
    np.testing.assert_array_equal(moved, expected)


def test_angles_by_hand():
    speeds, steps_ahead = jnp.array([[0.02, -0.01]]), jnp.array([[1.0, 10]])
    lasting = {"trust": jnp.array([3.0, -3]), "decay": jnp.array([-3.0])}
    angle = lambda numbers: trajectories.Rotation().apply(
        {"params": {**lasting, **numbers}}, speeds, jnp.array([[0.0, 5]]), steps_ahead
    )
    np.testing.assert_allclose(angle({})[0], [[0.02, 0.2], [-0.06, -0.15]], atol=1e-3)
    np.testing.assert_allclose(angle({"trust": jnp.array([-3.0, 3])}), 0, atol=1e-6)
    # softplus(log(e - 1)) = 1: the speed falls to 1 / e in a frame.
    dying = angle({"decay": jnp.array([np.log(np.e - 1) / 10])})[0, 0]
    np.testing.assert_allclose(dying, [0.02 * (1 - np.exp(-1)), 0.02], atol=1e-4)


def test_rendered_objects_rotate():
    masks = rotating(TRIANGLE, 0.05, frames=24)
    clip = pictures(masks)
    lasting = {"trust": jnp.array([3.0, -3, -3]), "decay": jnp.array([-3.0, -3])}
    numbers = {
        "objects": {**lasting, "wall": jnp.array([-9.0])},
        "background": lasting,
        "rotation": {"trust": jnp.array([3.0, -3]), "decay": jnp.array([-3.0])},
    }
    objects = renderer.observe(clip[:, :16], 2)
    steps_ahead = jnp.arange(1.0, 9)[None]

    def overlap(numbers):
        drawn = renderer.SceneRenderer().apply({"params": numbers}, objects, steps_ahead, (48, 48))
        actual = (np.abs(np.asarray(drawn)[0] - RED) < 1e-3).all(-1)[-1]
        return (actual & masks[-1]).sum() / (actual | masks[-1]).sum()

    numbers["rotation"]["trust"] *= -1
    still = overlap(numbers)
    numbers["rotation"]["trust"] *= -1
    assert overlap(numbers) > 0.9 > 0.8 > still


def test_rotation_error():
    masks = rotating(TRIANGLE, 0.05, frames=24)
    clip = pictures(masks)
    objects = tracking.observe(clip[:, :16], 2)
    error = lambda angle: float(
        tracking.rotation_error(jnp.full((1, 1), angle), objects, clip[:, 16:])[0]
    )
    most = float(objects.radius[0, 0]) / 48  # The displacement of the farthest pixel per radian.
    right, wrong, worse = (error(0.05 * 7 + more) for more in (0.0, 0.4, 0.8))
    assert right < 0.015 and 0.4 * most > worse - wrong > 0.25 * most
    hidden = tracking.rotation_error(
        jnp.ones((1, 1)), objects, clip[:, 16:].at[:, :, 22:].set(-1.0)
    )
    assert float(hidden[0]) < 0.01


def test_stage_2_learns_trajectories_rotation_and_pan():
    clip = pictures(rotating(TRIANGLE, 0.05, frames=24))
    waves = np.sin(
        0.3 * (np.arange(48)[:, None] + 2 * np.arange(48) - 0.5 * np.arange(24)[:, None, None])
    )
    frames = jnp.where(clip == -1, jnp.asarray(waves, jnp.float32)[None, ..., None], 0.5 * clip)
    references = jnp.concatenate([frames, clip], -1)[:, :16]
    model = Generator(
        (8, 8), 0.0, "group", 16, seen_frames=2, num_flows=1, label_colors=2, scene=True
    )
    given = clip[:, 20:22], references, jnp.array([[5.0, 6.0]])
    params = jax.jit(model.init)(jax.random.key(0), *given)["params"]
    loss = lambda p: jnp.abs(model.apply({"params": p}, *given) - frames[:, 20:22]).mean()
    grads, names = jax.jit(jax.grad(loss))(params), ("pan", "rotation", "trajectories")
    grads["trajectories"].pop("wall")  # No object reaches one.
    for path, grad in jax.tree_util.tree_leaves_with_path([grads[x] for x in names]):
        assert jnp.isfinite(grad).all() and jnp.abs(grad).min() > 0, jax.tree_util.keystr(path)
