"""Pixels of objects cut out and drawn, against pictures made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models.scene import background, matting, tracking

SIZE = 40
COLORS = fusion.to_float(fusion.PALETTE[:3].astype(np.float32))
RED, BLUE = np.array([0.9, -0.6, -0.4]), np.array([-0.8, -0.2, 0.7])
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)
WALL = np.stack([np.sin(Y / 15 + c) * np.cos(X / 18 - c) for c in range(3)], -1)


def disc(y, x, radius=7.0):
    """What share of each pixel a disc covers."""
    return np.clip(radius + 0.5 - np.hypot(Y - y, X - x), 0, 1)[..., None]


def scene(*placed):
    """A frame and its fusion picture of (label, colour, y, x) discs before the wall, later ones in front."""
    frame, picture = WALL, np.broadcast_to(COLORS[0], WALL.shape)
    for label, color, y, x in placed:
        share = disc(y, x)
        frame = frame * (1 - share) + color * share
        picture = np.where(share > 0.5, COLORS[label], picture)
    return np.float32(frame), np.float32(picture)


def clip_of(*clip):
    return [jnp.asarray(np.stack(part))[None] for part in zip(*clip, strict=True)]


@jax.jit
def observe(frames, pictures):
    objects = tracking.observe(pictures, 3)
    mosaic = background.observe_frames(frames, pictures, 3)
    return objects, mosaic, matting.cut_out(frames, pictures, objects, mosaic)


@jax.jit
def draw(observed, trajectory, pictures, angle=0.0):
    objects, mosaic, cutouts = observed
    t = pictures.shape[1]
    wall = mosaic.frames(jnp.zeros((1, t, 2)))
    trajectory = jnp.broadcast_to(trajectory, (1, 2, t, 2))
    flat = jnp.full_like(wall, 0.25)
    angle = jnp.full((1, 2, t), angle)
    return matting.draw(cutouts, objects, trajectory, angle, pictures, wall, flat)


def moving(t):
    """A red disc goes right by half a pixel a frame, a blue one stands still."""
    return scene((1, RED, 12, 10 + t / 2), (2, BLUE, 27, 22))


@pytest.fixture(scope="module")
def observed():
    return observe(*clip_of(*(moving(t) for t in range(16))))


def test_alpha_at_outlines(observed):
    cutouts = observed[2]
    for label, (y, x) in enumerate([(12, 17.5), (27, 22)]):
        alpha = np.asarray(cutouts.planes)[0, label, 0]
        truth = disc(y, x)[..., 0]
        soft = np.abs(truth - np.round(truth)) > 0.1
        assert soft.sum() > 20 and np.abs(alpha - truth)[soft].mean() < 0.05
        np.testing.assert_allclose(alpha, truth, atol=0.2)
    frame, picture = moving(15)
    actual = draw(observed, 0.0, jnp.asarray(picture)[None, None])
    np.testing.assert_allclose(actual[0, 0], frame, atol=0.12)


def test_trajectories_are_followed_to_a_fraction_of_a_pixel_unless_labels_are_elsewhere(observed):
    frame, picture = moving(16)  # A fusion picture that only holds whole pixels.
    rounded = jnp.asarray(scene((1, RED, 12, 18), (2, BLUE, 27, 22))[1])[None, None]
    error = lambda x: np.abs(np.asarray(x)[0, 0] - frame)[4:20].mean()
    trajectory = jnp.array([[0.0, 0.5], [0.0, 0.0]])[None, :, None]
    still = error(draw(observed, 0.0 * trajectory, rounded))
    assert error(draw(observed, trajectory, rounded)) < 0.7 * still
    elsewhere = draw(observed, trajectory + 5, jnp.asarray(picture)[None, None])
    assert error(elsewhere) < 0.02


def test_occlusion_and_pixels_that_were_never_visible(observed):
    """The red disc half behind the blue one; and one of twice the width, filled with `flat`."""
    frame, picture = scene((1, RED, 20, 18.5), (2, BLUE, 27, 22))
    actual = np.asarray(draw(observed, 0.0, jnp.asarray(picture)[None, None]))[0, 0]
    assert np.abs(actual - frame)[disc(27, 22, 5.0)[..., 0] == 1].max() < 0.02
    assert np.abs(actual - frame).mean() < 0.02
    wide = np.where(disc(12, 12, 11.0) > 0.5, COLORS[1], COLORS[0]).astype(np.float32)
    actual = np.asarray(draw(observed, 0.0, jnp.asarray(wide)[None, None]))[0, 0]
    assert (actual[12, 2:4] == 0.25).all() and np.abs(actual[12, 10:14] - RED).max() < 0.02


def test_pixels_rotate_and_the_gradient_reaches_trajectory_and_angle():
    """A disc with a dark half, still in the clip, is rotated by a quarter turn: from right to down."""
    shaded = lambda angle: (
        RED * np.where(np.cos(angle) * (X - 20) + np.sin(angle) * (Y - 20) > 0, 0.2, 1.0)[..., None]
    )
    frames, pictures = clip_of(*[scene((1, shaded(0.0), 20, 20))] * 4)
    observed = observe(frames, pictures)
    rotated = np.asarray(draw(observed, 0.0, pictures[:, -1:], np.pi / 2))[0, 0]
    inside = disc(20, 20, 5.0)[..., 0] == 1
    assert np.abs(rotated - shaded(np.pi / 2))[inside].mean() < 0.1
    truth = scene((1, shaded(0.3), 20, 20.4))[0]
    loss = lambda trajectory, angle: jnp.square(
        draw(observed, trajectory, pictures[:, -1:], angle) - truth
    ).sum()
    trajectory, angle = jax.grad(loss, (0, 1))(jnp.zeros((1, 2, 1, 2)), 0.1)
    assert trajectory[0, 0, 0, 1] < 0 and angle < 0  # Further right, and further round.


def test_clips_do_not_affect_each_other():
    """Two clips, not square, with different objects."""
    clips = [[part[:, :, :32] for part in clip_of(*(moving(t) for t in range(16)))]]
    clips += [[part[:, :, 8:] for part in clip_of(*[scene((2, RED, 25, 30))] * 16)]]
    trajectory = jnp.array([[[0.0, 2.0], [1.0, 0.0]], [[0.0, 0.0], [-2.0, 0.3]]])[:, :, None]

    @jax.jit
    def both(frames, pictures, trajectory):
        objects, mosaic, cutouts = observe(frames, pictures)
        wall = mosaic.frames(jnp.zeros((len(frames), 1, 2)))
        angle = jnp.full(trajectory.shape[:3], 0.2)
        inputs = trajectory, angle, pictures[:, -1:], wall, 0.0 * wall
        return matting.draw(cutouts, objects, *inputs)

    together = both(*(jnp.concatenate(parts) for parts in zip(*clips, strict=True)), trajectory)
    for i, clip in enumerate(clips):
        np.testing.assert_allclose(both(*clip, trajectory[i : i + 1])[0], together[i], atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.5
