"""Background mosaic and pan, against panned textures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.models.scene import background

SIZE, MARGIN = 48, 40
RED = np.asarray(fusion.to_float(fusion.PALETTE[1].astype(np.float32)))


def wall(seed=0):
    """A smooth texture (h, w, 3) in [-1, 1], wider than any pan here reaches."""
    side = SIZE + 2 * MARGIN
    waves = np.random.default_rng(seed).uniform(0.05, 0.2, (6, 3))
    y, x = np.mgrid[:side, :side]
    phases = waves[:, :1, None] * y + waves[:, 1:2, None] * x + 20 * waves[:, 2:, None]
    return np.stack([np.sin(phases[i::3]).mean(0) for i in range(3)], -1).astype(np.float32)


def panned(picture, pan, frames):
    """Views of it (t, SIZE, SIZE, c) as its content moves by pan (dy, dx), bilinear."""
    views = []
    for t in range(frames):
        y, x = (MARGIN - t * step + np.arange(SIZE) for step in pan)
        y, x = np.meshgrid(y, x, indexing="ij")
        top, left = np.floor(y).astype(int), np.floor(x).astype(int)
        down, right = (y - top)[..., None], (x - left)[..., None]
        upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
        lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
        views.append(upper * (1 - down) + lower * down)
    return np.stack(views).astype(np.float32)


def with_box(frames, pictures, step=0):
    """An object of 8 x 8 in front, that moves right by `step` pixels a frame."""
    frames, pictures = frames.copy(), pictures.copy()
    for t in range(len(frames)):
        x = 2 + round(step * t)
        frames[t, 10:18, x : x + 8], pictures[t, 10:18, x : x + 8] = 0.9, RED
    return jnp.asarray(frames)[None], jnp.asarray(pictures)[None]


@pytest.mark.parametrize("pan", [(0, 0), (0.25, -0.4), (-0.8, 1.0)])
def test_pan_of_frames(pan):
    frames = panned(wall(), pan, 16)
    frames, pictures = with_box(frames, np.full_like(frames, -1), step=1)
    mosaic = jax.jit(background.observe_frames, static_argnums=2)(frames, pictures, 2)
    np.testing.assert_allclose(mosaic.pans[0, 0], pan, atol=0.01)
    np.testing.assert_allclose(mosaic.pans[0, 1], pan, atol=0.03)


def test_without_texture_nothing_pans():
    still = jnp.zeros((1, 16, 32, 32, 3))
    for frames in (still, still[:, :2]):
        mosaic = background.observe_frames(frames, jnp.full_like(frames, -1), 2)
        np.testing.assert_array_equal(mosaic.pans, 0)
    hidden = background.observe_frames(still, jnp.broadcast_to(RED, still.shape), 2)
    np.testing.assert_array_equal(hidden.pans, 0)
    assert not hidden.observed.any() and jnp.isfinite(hidden.planes).all()


def test_occluded_background_comes_from_older_frames():
    """The wall moves by a pixel a frame, the box by one in the same direction and another across."""
    frames = panned(wall(), (1, 0), 17)
    expected = frames[15]
    clip, pictures = with_box(frames[:16], np.full_like(frames[:16], -1), step=1)
    mosaic = jax.jit(background.observe_frames, static_argnums=2)(clip, pictures, 2)
    observed = np.asarray(mosaic.observed)[0]
    assert observed[9:19, 16:26].all()  # The box stands at 17 to 24.
    planes = np.moveaxis(np.asarray(mosaic.planes)[0], 0, -1)
    assert np.abs(planes - expected)[observed].max() < 0.05
    assert np.abs(clip[0, -1] - expected)[observed].max() > 0.5
    # A frame later, except for the row that entered above.
    later = np.asarray(mosaic.frames(jnp.array([[[1.0, 0.0]]])))[0, 0]
    np.testing.assert_allclose(later[1:], planes[:-1], atol=1e-5)
    np.testing.assert_allclose(later[0], planes[0], atol=1e-5)


def test_edges_of_the_background_pan():
    """A white cross stands on the wall; the outline of the box is not the wall's."""
    cross = np.full((SIZE + 2 * MARGIN,) * 2 + (3,), -1, np.float32)
    cross[MARGIN + 22, MARGIN + 4 : MARGIN + 20] = 1
    cross[MARGIN + 2 : MARGIN + 30, MARGIN + 12] = 1
    pictures = panned(cross, (0, 1), 20)
    pictures[:, 10:18, 2:10], pictures[:, 10:18, 2] = RED, 1
    mosaic = background.observe_edges(jnp.asarray(pictures)[None, :16], 2)
    np.testing.assert_allclose(mosaic.pans[0], [[0, 1], [0, 1]], atol=0.03)
    displacement = jnp.array([[[0.0, t] for t in range(5)]])
    white = np.asarray(jax.jit(lambda f, d: f.edges(d))(mosaic, displacement))[0]
    expected = (pictures[15:20] == 1).all(-1)
    expected[:, 9:19, 1:11] = False
    assert (white[:, :, 5:] == expected[:, :, 5:]).mean() > 0.995
    assert not white[0, 10:18, 2].any()
    error = lambda pan: float(
        background.pan_error(jnp.asarray([pan]), jnp.asarray(pictures)[None, 16:], 2)[0]
    )
    few = expected[0].sum() / (expected[0].sum() + 16)
    assert error([0.0, 3.0]) < 0.02
    assert error([SIZE / 10, 3.0]) == pytest.approx(0.1 * few, abs=0.02)
    blank = background.pan_error(jnp.ones((1, 2)), jnp.full((1, 4, SIZE, SIZE, 3), -1.0), 2)
    assert float(blank[0]) == 0  # Without edges there is no weight.
