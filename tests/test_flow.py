"""Optical flow and its extrapolation, against known motions."""

import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import ops
from vidpred_jax.proposals import flow

track = jax.jit(flow.track, static_argnums=2)
extrapolate = jax.jit(flow.extrapolate, static_argnames=("coarse", "most"))


def texture(size, seed=0):
    """(1, size, size, 3) in [-1, 1]: smooth noise."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (size // 4, size // 4, 3))
    picture = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).clip(-1, 1)
    return jnp.asarray(picture, jnp.float32)[None]


def test_odd_sizes_are_refused():
    flow.check_levels(3, 36, 32, "x")
    flow.check_levels(0, 37, 33, "x")
    message = r"36 x 34 does not fit x \(3\): sides must be multiples of 4"
    with pytest.raises(ValueError, match=message):
        flow.check_levels(3, 36, 34, "x")
    with pytest.raises(ValueError, match=r"x \(-1\)"):
        flow.check_levels(-1, 36, 36, "x")


@pytest.mark.parametrize(("levels", "dy", "dx"), [(2, 0.5, -0.25), (3, 2.5, -3.25), (4, -6.0, 5.5)])
def test_track_finds_a_shift_to_parts_of_a_pixel(levels, dy, dx):
    previous = texture(64)
    newest = ops.warp(previous, jnp.broadcast_to(jnp.array([dy, dx]), (1, 64, 64, 2)))
    found = np.asarray(track(previous, newest, levels))
    inner = found[0, 16:-16, 16:-16].reshape(-1, 2)
    chex.assert_trees_all_close(np.median(inner, 0), np.array([dy, dx], np.float32), atol=0.05)


def test_track_of_two_motions_predicts_the_next_picture():
    """Two halves that slide apart: moved along the flow, the newest picture is the coming one."""
    left, right = texture(64, 1), texture(64, 2)

    def at(t):
        return jnp.concatenate([jnp.roll(left, t, 1)[:, :, :32], jnp.roll(right, -2 * t, 1)[:, :, 32:]], 2)

    moved = ops.warp(at(1), track(at(0), at(1), 3))
    error, still = (jnp.abs(x - at(2))[0, 8:-8, 8:-8].mean() for x in (moved, at(1)))
    assert error < 0.2 * still


def test_track_of_flat_or_equal_pictures_stands_still_and_has_no_gradient():
    flat = jnp.ones((1, 32, 32, 3))
    chex.assert_trees_all_close(track(flat, flat, 3), jnp.zeros((1, 32, 32, 2)), atol=1e-6)
    assert float(jnp.abs(track(texture(32), texture(32), 3)).max()) < 1e-3
    grad = jax.jit(jax.grad(lambda x: track(x, x + 0.1, 2).sum()))(texture(16))
    assert float(jnp.abs(grad).max()) == 0


def test_extrapolated_flow_is_traced_back():
    """A pan goes on in a straight line; under a zoom by 1.1 a frame the place three frames ago is
    (1.1 ** -3) of the distance to the middle. Steps beyond `most` count as it."""
    pan = jnp.broadcast_to(jnp.array([0.5, -1.0]), (1, 16, 16, 2))
    found = extrapolate(pan, jnp.array([[0.0, 1.0, 7.0, 99.0]]))
    for number, frames in enumerate((0, 1, 7, 63)):
        chex.assert_trees_all_close(found[:, number], frames * pan, atol=1e-4)
    few = extrapolate(pan, jnp.array([[6.0, 9.0]]), most=7)
    chex.assert_trees_all_close(few, jnp.stack([6 * pan, 7 * pan], 1), atol=1e-4)
    rows = jnp.arange(16.0) - 7.5
    places = jnp.stack(jnp.meshgrid(rows, rows, indexing="ij"), -1)[None]
    for coarse, tolerance in ((1, 1e-4), (2, 0.05)):
        zoom = extrapolate(places * (1 / 1.1 - 1), jnp.array([[3.0]]), coarse=coarse)
        expected = places * (1.1**-3 - 1)
        chex.assert_trees_all_close(zoom[0, 0][2:-2, 2:-2], expected[0, 2:-2, 2:-2], atol=tolerance)
