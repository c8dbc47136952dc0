"""What stage 2 is told of each label's region, and how it moves the newest reference by it."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_steps import PLANES

from vidpred_jax.inference import networks
from vidpred_jax.models import regions
from vidpred_jax.models.translator import Translator
from vidpred_jax.types import InputError


def planes(*places, size=12):
    """A map of one square of 3 x 3 a label from 1 on, (row, column) of its corner, or None."""
    labels = np.zeros((size, size), np.int32)
    for label, place in enumerate(places, 1):
        if place:
            labels[place[0] : place[0] + 3, place[1] : place[1] + 3] = label
    edges = jnp.zeros((size, size))
    return PLANES.join(edges, jnp.asarray(labels))


def scene(colors, *places):
    """A reference: a frame whose labels have these colours, and its map."""
    maps = planes(*places)
    frame = maps[..., 1:] @ jnp.asarray(colors)[: maps.shape[-1] - 1]
    return jnp.concatenate([frame, maps], -1)


COLORS = [[0.0, 0.1, 0.2], [0.5, -0.5, 1.0], [-0.2, 0.4, 0.6], [0.0, 0.0, 0.0]]


def test_regions_by_hand():
    """Label 1 has moved 4 down and 2 left; label 2 is not seen in the newest reference."""
    maps, newest = planes((6, 4), (0, 0)), planes((2, 6), None)
    given = maps[None, None], newest[None], jnp.array([[4.0]]), jnp.array([[0.5, -0.25]])
    found = regions.describe(*given)[0, 0]
    np.testing.assert_allclose(found[6:9, 4:7].reshape(9, 3), [[-4.0, 2.0, 1.0]] * 9, atol=1e-5)
    np.testing.assert_allclose(found[:3, :3], 0, atol=1e-5)
    # The background came by its velocity times the steps.
    np.testing.assert_allclose(found[11, 11], [-2.0, 1.0, 1.0], atol=1e-5)


def test_labels_that_are_nowhere_are_zeros_and_gradients_finite():
    told = lambda maps, seen: regions.describe(maps, seen, jnp.ones((1, 1)), jnp.zeros((1, 2)))
    given = planes((6, 4))[None, None], planes((1, 1), (6, 8))[None]
    grads = jax.grad(lambda *given: jnp.square(told(*given)).sum(), (0, 1))(*given)
    assert all(bool(jnp.isfinite(g).all()) for g in grads)


def test_without_learning_a_region_is_moved_to_where_its_map_shows_it():
    """By the translator whose flow is that of the regions alone and who paints nothing."""
    model = Translator((8,), norm="none", reference_frames=1, regions=True)
    seen, maps = scene(COLORS, (2, 6))[None, None], planes((6, 4))[None, None]
    inputs = maps, seen, jnp.array([[3.0]])
    params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0), *inputs)["params"])
    params["move"]["bias"] = jnp.array([0.0, 0.0, 50.0, 0.0])  # All of the moved frame.
    frame = model.apply({"params": params}, *inputs)[0, 0]
    square = np.zeros((12, 12), bool)
    square[6:9, 4:7] = True
    np.testing.assert_allclose(frame[square], [COLORS[1]] * 9, atol=1e-5)
    far = ~square
    far[2:5, 6:9] = False  # The object is still there in the newest reference.
    np.testing.assert_allclose(frame[far], [COLORS[0]] * far.sum(), atol=1e-5)


@pytest.fixture
def panning():
    """Ten frames of a smooth texture (1, 10, 40, 40, 3) that moves by (.3, -.7) pixels a frame, before it a
    grey object of 8 x 8 that moves right, and where the background is: exact, without interpolation."""
    y, x = np.mgrid[:40, :40]
    waves = np.random.default_rng(0).uniform(0.1, 0.5, (3, 3, 2))

    def frame(t):
        at = waves[..., 0, None, None] * (y - 0.3 * t) + waves[..., 1, None, None] * (x + 0.7 * t)
        return np.sin(at).sum(1).transpose(1, 2, 0) / 3

    texture = np.stack([frame(t) for t in range(14)])
    background = np.ones(texture.shape[:3])
    for t in range(14):
        background[t, 10:18, 2 + 2 * t : 10 + 2 * t] = 0
    frames = np.where(background[..., None] > 0, texture, 0.9)
    as_batch = lambda x: jnp.asarray(x[None], jnp.float32)
    return as_batch(frames[:10]), as_batch(background[:10]), texture


def test_the_velocity_of_the_background(panning):
    frames, background, _ = panning
    for count in (2, 4, 10):  # Longer clips are told from frames further apart.
        found = regions.velocity(frames[:, :count], background[:, :count])
        np.testing.assert_allclose(found, [[0.3, -0.7]], atol=0.02)
    still = regions.velocity(jnp.ones_like(frames), background)
    np.testing.assert_array_equal(still, [[0, 0]])  # Nothing tells.
    np.testing.assert_array_equal(regions.velocity(frames, 0 * background), [[0, 0]])
    np.testing.assert_array_equal(regions.velocity(frames[:, :1], background[:, :1]), [[0, 0]])


def test_the_background_behind_an_object_is_told_by_older_frames(panning):
    frames, background, texture = panning
    pan = jnp.array([[0.3, -0.7]])
    found = regions.behind(frames, background, pan)
    # The object covers columns 20 to 27 in the newest frame; 10 frames ago it stood 18 further left.
    np.testing.assert_allclose(found[0, ..., 3], 1, atol=1e-5)
    assert np.abs(found[0, ..., :3] - texture[9])[:, :38].max() < 0.06  # Bilinear interpolation.
    later = regions.carry(found[:, None], pan, jnp.array([[4.0]]))[0, 0]
    inside = np.s_[3:, :36]  # 1.2 down and 2.8 to the left: elsewhere the picture enters.
    assert np.abs(later[inside][..., :3] - texture[13][inside]).max() < 0.12
    np.testing.assert_array_equal(later[0], 0)
    np.testing.assert_array_equal(later[:, 38:], 0)
    hidden = regions.behind(frames[:, -1:], background[:, -1:], pan)[0]
    np.testing.assert_array_equal(hidden[10:18, 20:28], 0)


def test_frames_that_were_moved_pass_no_tanh():
    config = {"stage": "translator", "maps": "planes", "data": {"height": 8, "width": 8}}
    config |= {"context": 4, "network": "unet", "precision": "float32", "model": {"widths": [8]}}
    facts = {"num_labels": 3}
    assert networks.make(config, facts).squash
    config["model"] |= {"regions": True, "norm": "group", "reference_frames": 1, "dropout": 0.0}
    network = networks.make(config, facts)
    assert not network.squash
    maps, seen = jnp.ones((1, 2, 8, 8, 4)), jnp.ones((1, 1, 8, 8, 7))
    variables = network.module.init(jax.random.key(0), maps, seen, jnp.ones((1, 2)))
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["move"]["bias"] = jnp.array([0.0, 0.0, 50.0, 0.0])
    frames = network.translate({"params": params}, maps, seen, jnp.ones((1, 2)))
    chex.assert_trees_all_close(frames, jnp.ones((1, 2, 8, 8, 3)))


def test_regions_need_planes():
    config = {"stage": "translator", "maps": "picture", "data": {"height": 8, "width": 8}, "context": 4}
    config |= {"network": "unet", "precision": "float32"}
    config["model"] = {"widths": [8], "reference_frames": 1, "regions": True}
    with pytest.raises(InputError, match=r"model.regions \(True\) needs maps of planes, not maps='picture'"):
        networks.make(config, {"num_labels": 3})
