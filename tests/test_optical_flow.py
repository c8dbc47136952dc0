"""Optical flow and its extrapolation, against known motions."""

import chex
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.models import ops, optical_flow


def texture(size, seed=0):
    """(1, size, size, 3) in [-1, 1]: smooth noise."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (size // 4, size // 4, 3))
    picture = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).clip(-1, 1)
    return jnp.asarray(picture, jnp.float32)[None]


@pytest.mark.parametrize(("levels", "dy", "dx"), [(1, 1, 0), (2, 0, -1), (3, 2, -3), (4, -6, 5)])
def test_match_finds_a_shift(levels, dy, dx):
    """Away from the border; `newest` at (y, x) is `previous` at (y + dy, x + dx)."""
    previous = texture(64)
    newest = jnp.roll(previous, (-dy, -dx), (1, 2))
    flow = np.asarray(jax.jit(optical_flow.match, static_argnums=2)(previous, newest, levels))
    inner = flow[0, 16:-16, 16:-16].reshape(-1, 2)
    chex.assert_trees_all_close(np.median(inner, 0), np.array([dy, dx], np.float32), atol=0.15)


def test_match_of_two_motions_predicts_the_next_picture():
    """Two halves that slide apart: moved along the flow, the newest picture is the coming one."""
    left, right = texture(64, 1), texture(64, 2)

    def at(t):
        return jnp.concatenate(
            [jnp.roll(left, t, 1)[:, :, :32], jnp.roll(right, -2 * t, 1)[:, :, 32:]], 2
        )

    flow = optical_flow.match(at(0), at(1), 3)
    moved = ops.warp(at(1), flow)
    error, still = (jnp.abs(x - at(2))[0, 8:-8, 8:-8].mean() for x in (moved, at(1)))
    assert error < 0.2 * still


def test_match_of_equal_or_flat_pictures_stands_still():
    flow = optical_flow.match(texture(32), texture(32), 3)
    assert float(jnp.abs(flow).max()) < 0.05
    chex.assert_trees_all_close(
        optical_flow.match(jnp.ones((1, 32, 32, 3)), jnp.ones((1, 32, 32, 3)), 3),
        jnp.zeros((1, 32, 32, 2)),
        atol=1e-5,
    )


def test_match_has_no_gradient_and_refuses_odd_sizes():
    grad = jax.grad(lambda x: optical_flow.match(x, x + 0.1, 2).sum())(texture(16))
    assert float(jnp.abs(grad).max()) == 0
    with pytest.raises(
        ValueError, match=r"x \(3\) must be 0 or more, .* \(36 x 34\) a multiple of 4"
    ):
        optical_flow.check_levels(3, 36, 34, "x")


@pytest.mark.parametrize(("levels", "dy", "dx"), [(2, 0.5, -0.25), (3, 2.5, -3.25), (4, -6.0, 5.5)])
def test_track_finds_a_shift_to_parts_of_a_pixel(levels, dy, dx):
    previous = texture(64)
    newest = ops.warp(previous, jnp.broadcast_to(jnp.array([dy, dx]), (1, 64, 64, 2)))
    flow = np.asarray(jax.jit(optical_flow.track, static_argnums=2)(previous, newest, levels))
    inner = flow[0, 16:-16, 16:-16].reshape(-1, 2)
    chex.assert_trees_all_close(np.median(inner, 0), np.array([dy, dx], np.float32), atol=0.05)


def test_track_of_flat_or_equal_pictures_stands_still_and_has_no_gradient():
    flat = jnp.ones((1, 32, 32, 3))
    chex.assert_trees_all_close(
        optical_flow.track(flat, flat, 3), jnp.zeros((1, 32, 32, 2)), atol=1e-6
    )
    assert float(jnp.abs(optical_flow.track(texture(32), texture(32), 3)).max()) < 1e-3
    grad = jax.grad(lambda x: optical_flow.track(x, x + 0.1, 2).sum())(texture(16))
    assert float(jnp.abs(grad).max()) == 0


def test_extrapolated_flow_is_traced_back():
    """A pan goes on in a straight line; under a zoom by 1.1 a frame the place three frames ago is
    (1.1 ** -3) of the distance to the middle. Steps beyond `most` count as it."""
    pan = jnp.broadcast_to(jnp.array([0.5, -1.0]), (1, 16, 16, 2))
    found = optical_flow.extrapolate(pan, jnp.array([[0.0, 1.0, 7.0, 99.0]]))
    for number, frames in enumerate((0, 1, 7, 63)):
        chex.assert_trees_all_close(found[:, number], frames * pan, atol=1e-4)
    few = optical_flow.extrapolate(pan, jnp.array([[6.0, 9.0]]), most=7)
    chex.assert_trees_all_close(few, jnp.stack([6 * pan, 7 * pan], 1), atol=1e-4)
    rows = jnp.arange(16.0) - 7.5
    places = jnp.stack(jnp.meshgrid(rows, rows, indexing="ij"), -1)[None]
    for coarse, tolerance in ((1, 1e-4), (2, 0.05)):
        zoom = optical_flow.extrapolate(places * (1 / 1.1 - 1), jnp.array([[3.0]]), coarse=coarse)
        expected = places * (1.1**-3 - 1)
        chex.assert_trees_all_close(zoom[0, 0][2:-2, 2:-2], expected[0, 2:-2, 2:-2], atol=tolerance)
