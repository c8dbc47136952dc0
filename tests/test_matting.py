"""Pixels of objects cut out and drawn, against pictures made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.proposals.scene import background, matting, tracking

SIZE = 40
RED, BLUE = np.array([0.9, -0.6, -0.4]), np.array([-0.8, -0.2, 0.7])
Y, X = np.mgrid[:SIZE, :SIZE].astype(np.float32)
WALL = np.stack([np.sin(Y / 15 + c) * np.cos(X / 18 - c) for c in range(3)], -1)


def disc(y, x, radius=7.0):
    """What share of each pixel a disc covers."""
    return np.clip(radius + 0.5 - np.hypot(Y - y, X - x), 0, 1)[..., None]


def scene(*placed):
    """A frame and labels of (label, colour, y, x) discs before the wall, later ones in front."""
    frame, labels = WALL, np.zeros((SIZE, SIZE), np.int32)
    for label, color, y, x in placed:
        share = disc(y, x)
        frame = frame * (1 - share) + color * share
        labels = np.where(share[..., 0] > 0.5, label, labels)
    return np.float32(frame), labels


def clip_of(*clip):
    return [jnp.asarray(np.stack(part))[None] for part in zip(*clip, strict=True)]


@jax.jit
def observe(frames, labels):
    objects = tracking.observe(jnp.zeros(labels.shape), labels, 3)
    mosaic = background.observe_frames(frames, labels, 3)
    return objects, mosaic, matting.cut_out(frames, labels, objects, mosaic)


@jax.jit
def draw(observed, trajectory, angle=0.0):
    """One frame (h, w, 3)."""
    objects, mosaic, cutouts = observed
    wall = mosaic.frames(jnp.zeros((1, 1, 2)))
    trajectory = jnp.broadcast_to(trajectory, (1, 2, 1, 2))
    return matting.draw(cutouts, objects, trajectory, jnp.full((1, 2, 1), angle), wall)[0, 0]


def moving(t):
    """A red disc goes right by half a pixel a frame, a blue one stands still."""
    return scene((1, RED, 12, 10 + t / 2), (2, BLUE, 27, 22))


@pytest.fixture(scope="module")
def observed():
    return observe(*clip_of(*(moving(t) for t in range(16))))


def test_alpha_at_outlines(observed):
    cutouts = observed[2]
    for label, (y, x) in enumerate([(12, 17.5), (27, 22)]):
        alpha = np.asarray(cutouts)[0, label, 0]
        truth = disc(y, x)[..., 0]
        soft = np.abs(truth - np.round(truth)) > 0.1
        assert soft.sum() > 20 and np.abs(alpha - truth)[soft].mean() < 0.05
        np.testing.assert_allclose(alpha, truth, atol=0.2)
        # The colour times alpha: what the disc adds to the wall.
        color = np.moveaxis(np.asarray(cutouts)[0, label, 1:], 0, -1)
        np.testing.assert_allclose(color, disc(y, x) * (RED, BLUE)[label], atol=0.25)
    np.testing.assert_allclose(draw(observed, 0.0), moving(15)[0], atol=0.12)


def test_trajectories_are_followed_to_a_fraction_of_a_pixel(observed):
    frame, _ = moving(16)
    error = lambda x: np.abs(np.asarray(x) - frame)[4:20].mean()
    trajectory = jnp.array([[0.0, 0.5], [0.0, 0.0]])[None, :, None]
    still = error(draw(observed, 0.0))
    assert error(draw(observed, trajectory)) < 0.5 * still
    assert error(draw(observed, 2 * trajectory)) > 0.8 * still  # As far off, beyond.


def test_later_labels_are_drawn_over_earlier_ones(observed):
    """The red disc, moved by (8, 1), half behind the blue one."""
    frame, _ = scene((1, RED, 20, 18.5), (2, BLUE, 27, 22))
    trajectory = jnp.array([[8.0, 1.0], [0.0, 0.0]])[None, :, None]
    actual = np.asarray(draw(observed, trajectory))
    assert np.abs(actual - frame)[disc(27, 22, 5.0)[..., 0] == 1].max() < 0.02
    assert np.abs(actual - frame).mean() < 0.02


def test_pixels_rotate_and_the_gradient_reaches_trajectory_and_angle():
    """A disc with a dark half, still in the clip, is rotated by a quarter turn: from right to down."""
    shaded = lambda angle: (
        RED * np.where(np.cos(angle) * (X - 20) + np.sin(angle) * (Y - 20) > 0, 0.2, 1.0)[..., None]
    )
    observed = observe(*clip_of(*[scene((1, shaded(0.0), 20, 20))] * 4))
    rotated = np.asarray(draw(observed, 0.0, np.pi / 2))
    inside = disc(20, 20, 5.0)[..., 0] == 1
    assert np.abs(rotated - shaded(np.pi / 2))[inside].mean() < 0.1
    truth = scene((1, shaded(0.3), 20, 20.4))[0]
    loss = lambda *motion: jnp.square(draw(observed, *motion) - truth).sum()
    gradient = jax.jit(jax.grad(loss, (0, 1)))
    trajectory, angle = gradient(jnp.zeros((1, 2, 1, 2)), 0.1)
    assert trajectory[0, 0, 0, 1] < 0 and angle < 0  # Further right, and further round.


def test_clips_do_not_affect_each_other():
    """Two clips, not square, with different objects."""
    clips = [[part[:, :, :32] for part in clip_of(*(moving(t) for t in range(16)))]]
    clips += [[part[:, :, 8:] for part in clip_of(*[scene((2, RED, 25, 30))] * 16)]]
    trajectory = jnp.array([[[0.0, 2.0], [1.0, 0.0]], [[0.0, 0.0], [-2.0, 0.3]]])[:, :, None]

    @jax.jit
    def both(frames, labels, trajectory):
        objects, mosaic, cutouts = observe(frames, labels)
        wall = mosaic.frames(jnp.zeros((len(frames), 1, 2)))
        angle = jnp.full(trajectory.shape[:3], 0.2)
        return matting.draw(cutouts, objects, trajectory, angle, wall)

    together = both(*(jnp.concatenate(parts) for parts in zip(*clips, strict=True)), trajectory)
    for i, clip in enumerate(clips):
        alone = both(*(jnp.concatenate([part] * 2) for part in clip), trajectory[jnp.array([i, i])])
        np.testing.assert_allclose(alone[0], together[i], atol=1e-4)
    assert np.abs(together[0] - together[1]).max() > 0.5
