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
    """Label 1 has moved 4 down and 2 left; label 2 is not seen in the newest reference, only before."""
    older, newest = scene(COLORS, (1, 1), (6, 8)), scene(COLORS, (2, 6), None)
    maps = planes((6, 4), (0, 0))
    found = regions.describe(maps[None, None], jnp.stack([older, newest])[None])[0, 0]
    first = [*COLORS[1], -4.0, 2.0, 1.0]
    np.testing.assert_allclose(found[6:9, 4:7].reshape(9, 6), [first] * 9, atol=1e-5)
    second = [*COLORS[2], 0.0, 0.0, 0.0]
    np.testing.assert_allclose(found[:3, :3].reshape(9, 6), [second] * 9, atol=1e-5)
    np.testing.assert_allclose(found[11, 11, :3], COLORS[0], atol=1e-5)
    assert float(found[11, 11, 5]) == 1


def test_labels_that_are_nowhere_are_zeros_and_gradients_finite():
    seen, maps = jnp.stack([scene(COLORS, (1, 1), (6, 8))])[None], planes((6, 4))[None, None]
    grads = jax.grad(lambda maps, seen: jnp.square(regions.describe(maps, seen)).sum(), (0, 1))(maps, seen)
    assert all(bool(jnp.isfinite(g).all()) for g in grads)


def test_without_learning_a_region_is_moved_to_where_its_map_shows_it():
    """By the translator whose flow is that of the regions alone and who paints nothing."""
    model = Translator((8,), norm="none", reference_frames=1, regions=True, moves=True)
    seen, maps = scene(COLORS, (2, 6))[None, None], planes((6, 4))[None, None]
    inputs = maps, seen, jnp.array([[3.0]])
    params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0), *inputs)["params"])
    params["move"]["bias"] = jnp.array([0.0, 0.0, 50.0])  # All of the moved frame.
    frame = model.apply({"params": params}, *inputs)[0, 0]
    square = np.zeros((12, 12), bool)
    square[6:9, 4:7] = True
    np.testing.assert_allclose(frame[square], [COLORS[1]] * 9, atol=1e-5)
    # The background moves by a quarter of a pixel or so: outlines aside, it keeps its colour.
    far = np.ones((12, 12), bool)
    far[1:10, 3:10] = False
    np.testing.assert_allclose(frame[far], [COLORS[0]] * far.sum(), atol=1e-5)


def test_frames_that_were_moved_pass_no_tanh():
    config = {"stage": "translator", "maps": "planes", "data": {"height": 8, "width": 8}}
    config |= {"context": 4, "network": "unet", "precision": "float32", "model": {"widths": [8]}}
    facts = {"num_labels": 3}
    assert networks.make(config, facts).squash
    config["model"] |= {"moves": True, "norm": "group", "reference_frames": 1, "dropout": 0.0}
    network = networks.make(config, facts)
    assert not network.squash
    maps, seen = jnp.ones((1, 2, 8, 8, 4)), jnp.ones((1, 1, 8, 8, 7))
    variables = network.module.init(jax.random.key(0), maps, seen, jnp.ones((1, 2)))
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    params["move"]["bias"] = jnp.array([0.0, 0.0, 50.0])
    frames = network.translate({"params": params}, maps, seen, jnp.ones((1, 2)))
    chex.assert_trees_all_close(frames, jnp.ones((1, 2, 8, 8, 3)))


def test_regions_need_planes():
    config = {"stage": "translator", "maps": "picture", "data": {"height": 8, "width": 8}, "context": 4}
    config |= {"network": "unet", "precision": "float32"}
    config["model"] = {"widths": [8], "reference_frames": 1, "regions": True}
    with pytest.raises(InputError, match=r"model.regions \(True\) needs maps of planes, not maps='picture'"):
        networks.make(config, {"num_labels": 3})
