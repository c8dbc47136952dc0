"""Trajectories of objects, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.proposals.scene import trajectories

# The long-term velocity alone, without decay; walls far outside.
PARAMS = {"trust": jnp.array([3.0, -3, -3]), "decay": jnp.array([-3.0, -3]), "wall": jnp.array([-9.0])}


def test_trajectories_by_hand():
    """One object steps a pixel to the right in each frame, the other stands still."""
    start = (jnp.array([[[[0.0, 1], [0, 1]], [[0, 0], [0, 0]]]]), jnp.array([[[4.5, 20.5], [24, 26]]]))
    steps_ahead = jnp.array([[0.0, 2, 40]])

    def positions(**numbers):
        params = {"params": {**PARAMS, **numbers}}
        actual = trajectories.Trajectories().apply(
            params, *start, jnp.full((1, 2), 3.5), steps_ahead, (32, 32)
        )
        return np.asarray(actual)[0, :, :, 1]

    np.testing.assert_allclose(positions()[0], [0, 2, 40], atol=0.1)
    np.testing.assert_allclose(positions()[1], 0, atol=1e-6)
    np.testing.assert_allclose(positions(trust=jnp.array([-3.0, -3, 3])), 0, atol=1e-3)
    # softplus(log(e - 1)) = 1: the speed falls to 1 / e in a frame, and 1 pixel is left in all.
    dying = positions(decay=jnp.full(2, np.log(np.e - 1) / 10))[0]
    np.testing.assert_allclose(dying, [0, 1 - np.exp(-2), 1], atol=1e-3)
    # From 20.5 to where 3.5 are left of 31, back to where they are left of 0, and on.
    back = positions(wall=jnp.array([0.1]))[0]
    np.testing.assert_allclose(back, [0, 2, 40 - 2 * (31 - 2 * 3.5)], atol=0.1)


def test_velocities_by_hand():
    """Across: steady. Down: two pixels a frame until the tenth of twelve, then back."""
    down = np.minimum(2.0 * np.arange(12), 36 - 2.0 * np.arange(12))
    places = jnp.asarray(np.stack([down, 0.5 * np.arange(12)], -1)[None, :, None], jnp.float32)
    long, recent = np.asarray(trajectories.velocities(places))[0, 0]
    np.testing.assert_allclose(long, [-2, 0.5], atol=1e-3)
    np.testing.assert_allclose(recent[1], 0.5, atol=1e-3)
    assert recent[0] == pytest.approx(np.polyfit(range(5), down[-5:], 1)[0], abs=1e-3)


def test_reflection_by_hand():
    center = jnp.array([[[2.0, 8.0]]])
    trajectory = jnp.array([[[[-1.0, 1.0], [-3.0, 30.0]]]])
    actual = trajectories._reflect(trajectory, center, jnp.array([[1.0]]), jnp.array([9.0, 9.0]))
    # Between 1 and 8: -1 becomes 3; 9 becomes 7; 38 becomes -22, 24, -8, 10 and then 6.
    np.testing.assert_allclose(actual[0, 0], [[-1, -1], [1, -2]], atol=1e-4)
