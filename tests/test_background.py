"""Background mosaic and pan, against panned textures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.proposals.scene import background

SIZE, MARGIN = 48, 40


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


def with_box(frames, step=0):
    """Frames with an object of 8 x 8 in front, that moves right by `step` pixels a frame; and labels."""
    frames, labels = frames.copy(), np.zeros(frames.shape[:3], np.int32)
    for t in range(len(frames)):
        x = 2 + round(step * t)
        frames[t, 10:18, x : x + 8], labels[t, 10:18, x : x + 8] = 0.9, 1
    return jnp.asarray(frames)[None], jnp.asarray(labels)[None]


@pytest.mark.parametrize("pan", [(0, 0), (0.25, -0.4), (-0.8, 1.0)])
def test_pan_of_frames(pan):
    frames, labels = with_box(panned(wall(), pan, 16), step=1)
    mosaic = background.observe_frames(frames, labels, 2)
    np.testing.assert_allclose(mosaic.pans[0, 0], pan, atol=0.01)
    np.testing.assert_allclose(mosaic.pans[0, 1], pan, atol=0.03)


def test_without_texture_nothing_pans():
    still, nowhere = jnp.zeros((1, 16, 32, 32, 3)), jnp.zeros((1, 16, 32, 32), jnp.int32)
    for n in (16, 2):
        mosaic = background.observe_frames(still[:, :n], nowhere[:, :n], 2)
        np.testing.assert_array_equal(mosaic.pans, 0)
    hidden = background.observe_frames(still, nowhere + 1, 2)
    np.testing.assert_array_equal(hidden.pans, 0)
    assert not hidden.observed.any() and jnp.isfinite(hidden.planes).all()


def test_what_was_never_seen_is_a_blur_of_what_was():
    """Left of the object all is 0.5, right of it -0.5."""
    frames = jnp.full((1, 4, 32, 32, 3), 0.5).at[:, :, :, 16:].set(-0.5)
    labels = jnp.zeros((1, 4, 32, 32), jnp.int32).at[:, :, 10:22, 10:22].set(1)
    mosaic = background.observe_frames(frames, labels, 2)
    expected = np.ones((32, 32), bool)
    expected[9:23, 9:23] = False
    np.testing.assert_array_equal(mosaic.observed[0], expected)
    planes = np.asarray(mosaic.planes)[0, 0]
    np.testing.assert_allclose(planes[expected], frames[0, 0, :, :, 0][expected], atol=1e-6)
    row = planes[16, 9:23]  # From the one to the other, symmetrically.
    assert (np.diff(row) < 0).all() and 0.3 < row[0] < 0.5
    np.testing.assert_allclose(row, -row[::-1], atol=0.01)


def test_occluded_background_comes_from_older_frames():
    """The wall moves by a pixel a frame, the box by one in the same direction and another across."""
    frames = panned(wall(), (1, 0), 17)
    expected = frames[15]
    clip, labels = with_box(frames[:16], step=1)
    mosaic = background.observe_frames(clip, labels, 2)
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
    """A cross stands on the wall; the outline of the box is not the wall's."""
    cross = np.zeros((SIZE + 2 * MARGIN,) * 2 + (1,), np.float32)
    cross[MARGIN + 22, MARGIN + 4 : MARGIN + 20] = 1
    cross[MARGIN + 2 : MARGIN + 30, MARGIN + 12] = 1
    edges, labels = panned(cross, (0, 1), 20)[None, ..., 0], np.zeros((1, 20, SIZE, SIZE), np.int32)
    labels[:, :, 10:18, 2:10], edges[:, :, 10:18, 2:10] = 1, 0
    edges[:, :, 10:18, 2] = edges[:, :, 9, 2:10] = 1  # One side is labelled, one is not.
    edges, labels = jnp.asarray(edges), jnp.asarray(labels)
    mosaic = background.observe_edges(edges[:, :16], labels[:, :16], 2)
    np.testing.assert_allclose(mosaic.pans[0], [[0, 1], [0, 1]], atol=0.03)
    displacement = jnp.array([[[0.0, t] for t in range(5)]])
    found = np.asarray(jax.jit(lambda f, d: f.edges(d))(mosaic, displacement))[0]
    expected = np.array(edges[0, 15:20] == 1)
    expected[:, 9:19, 1:11] = False
    assert (found[:, :, 5:] == expected[:, :, 5:]).mean() > 0.995
    assert not found[0, 10:18, 2].any() and not found[0, 9, 2:10].any()
    error = lambda pan: float(background.pan_error(jnp.asarray([pan]), edges[:, 16:], labels[:, 16:], 2)[0])
    few = expected[0].sum() / (expected[0].sum() + 16)
    assert error([0.0, 3.0]) < 0.02
    assert error([SIZE / 10, 3.0]) == pytest.approx(0.1 * few, abs=0.02)
    blank = background.pan_error(jnp.ones((1, 2)), edges[:, 16:] * 0, labels[:, 16:], 2)
    assert float(blank[0]) == 0  # Without edges there is no weight.


def test_the_gradient_of_frames_reaches_displacements():
    """Of a ramp that rises by 0.01 a pixel to the right: a pixel further right is that much darker."""
    ramp = jnp.broadcast_to(jnp.arange(SIZE) / 100.0, (1, 3, SIZE, SIZE))
    mosaic = background.Background(ramp, jnp.ones((1, SIZE, SIZE), bool), jnp.zeros((1, 2, 2)))
    total = lambda displacement: mosaic.frames(displacement)[0, 0, 4:-4, 4:-4].mean()
    found = jax.jit(jax.grad(total))(jnp.array([[[0.3, 0.5]]]))
    np.testing.assert_allclose(found[0, 0], [0, -0.01], atol=1e-5)
