"""What a step trains on: which frames are targets, which keys draw them, what networks are given."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_steps
from small_steps import make_fusion, make_translator

from vidpred_jax.data import fusion
from vidpred_jax.inference import rollout
from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d
from vidpred_jax.training import steps, steps_accompanying


@pytest.fixture(scope="module")
def batch():
    return small_steps.make_batch()


def test_targets_follow_the_window(batch):
    """With self-feeding, an example fed i times is compared with the frames i shifts later."""
    seen, batch = [], jax.tree.map(jnp.asarray, batch)

    class Spy(UNet3d):
        def apply(self, variables, x):
            return x[:, -4:] + 0.01  # Copy-last of four frames, with a mark for each time.

    spy = Spy(widths=(8, 8), patch=2, time_patch=4, time_strides=(2,), shift=4, outputs=4)
    forward = steps.fusion_forward(spy, max_unroll=2)
    first, _ = make_fusion(optax.sgd(0.1))
    for number in range(6):
        out = forward({}, first, batch, jax.random.key(number), None)
        video = fusion.to_float(batch["fusion"])
        for i in range(8):
            fed = [
                n for n in range(3) if (out.target[i] == video[i, 16 + 4 * n : 20 + 4 * n]).all()
            ]
            seen += fed
            assert len(fed) == 1
            last = video[i, 12:16] + 0.01 * fed[0]  # Fed with itself, it never moves.
            chex.assert_trees_all_close(out.condition[i, 0], last[-1], atol=1e-5)
            chex.assert_trees_all_close(out.pred[i], last + 0.01, atol=1e-5)
    assert set(seen) == {0, 1, 2}


def test_translator_pairs_picture_and_frame(batch):
    """Conditions are the true pictures of the very frames they are compared with, all ahead."""
    model = Generator((8,), 0.0, "none")
    variables = model.init(
        jax.random.key(0),
        jnp.zeros((1, 1, 16, 16, 3)),
        jnp.zeros((1, 0, 16, 16, 6)),
        jnp.ones((1, 1)),
    )
    first, _ = make_translator(optax.sgd(0.1))
    first = first.replace(batch_stats={"g": {}, "d": {}})
    out = steps.translator_forward(model, targets_per_clip=4)(
        variables["params"], first, batch, jax.random.key(1), None
    )
    frames, pictures = (fusion.to_float(batch[k]) for k in ("frames", "fusion"))
    for i in range(8):
        steps_found = set()
        for j in range(4):
            places = [t for t in range(28) if (out.target[i, j] == frames[i, t]).all()]
            assert len(places) == 1 and places[0] >= 16
            chex.assert_trees_all_equal(out.condition[i, j], pictures[i, places[0]])
            steps_found.add(places[0])
        assert len(steps_found) == 4


def test_targets_lie_within_the_clip_and_as_near_as_asked(batch):
    """Of windows of 19 frames, three targets are the three frames after the context; with a large
    `step_sampling_power` one target is the first of many."""
    model = Generator((8,), 0.0, "none")
    inputs = jnp.zeros((1, 1, 16, 16, 3)), jnp.zeros((1, 0, 16, 16, 6)), jnp.ones((1, 1))
    variables = model.init(jax.random.key(0), *inputs)
    first, _ = make_translator(optax.sgd(0.1))
    first = first.replace(batch_stats={"g": {}, "d": {}})
    frames = fusion.to_float(batch["frames"])

    def targets(batch, **options):
        forward = steps.translator_forward(model, **options)
        return forward(variables["params"], first, batch, jax.random.key(1), None).target

    short = {**batch, "length": np.full(8, 19, np.int32)}
    found = targets(short, targets_per_clip=3, step_sampling_power=0.0)
    for i in range(8):
        means = sorted(np.asarray(found[i].mean((1, 2, 3))).tolist())
        expected = sorted(np.asarray(frames[i, 16:19].mean((1, 2, 3))).tolist())
        chex.assert_trees_all_close(means, expected, atol=1e-6)
    chex.assert_trees_all_equal(
        targets(batch, targets_per_clip=1, step_sampling_power=30.0)[:, 0], frames[:, 16]
    )


def test_references_are_the_last_observed():
    frames, pictures = (
        jnp.arange(4.0).reshape(1, 4, 1, 1, 1),
        jnp.arange(4.0).reshape(1, 4, 1, 1, 1) + 10,
    )
    found = rollout.references(frames, pictures, 2)
    assert found.reshape(2, 2).tolist() == [[2, 12], [3, 13]]
    assert rollout.references(frames, pictures, 0).shape == (1, 0, 1, 1, 2)


@pytest.mark.parametrize(
    ("power", "expected"), [(0.0, [1 / 2, 1 / 2, 0]), (1.0, [2 / 3, 1 / 3, 0])]
)
def test_steps_are_drawn_in_proportion_among_those_of_the_clip(power, expected):
    """Of three steps the last is repeated: of clips of two, none draws it."""
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(steps.draw_steps, static_argnums=(2, 3, 4))
    found = draw(keys, jnp.full(4000, 2), 3, 1, power)
    np.testing.assert_allclose(np.bincount(found[:, 0], minlength=3) / 4000, expected, atol=0.03)
    both = np.sort(draw(keys, jnp.full(4000, 2), 3, 2, power), axis=1)
    assert (both == [0, 1]).all()


def test_stage_3_is_not_trained_on_what_is_repeated_after_a_clip(batch):
    """Windows of 19 frames of 28: three targets are the three frames after the context."""

    class Same:
        reference_frames = 1

        def apply(self, variables, pictures, seen, ahead):
            return pictures

    translate = steps_accompanying.make_translate(
        None, Same(), context=16, targets_per_clip=3, predicted_fraction=0.0
    )
    found = translate(
        {"translate": {}}, {**batch, "length": np.full(8, 19, np.int32)}, jax.random.key(1)
    )
    assert np.sort(found.steps_ahead.reshape(8, 3), axis=1).tolist() == [[1, 2, 3]] * 8
    frames = fusion.to_float(batch["frames"])
    for i, target in enumerate(found.target.reshape(8, 3, 16, 16, 3)):
        ahead = np.asarray(found.steps_ahead.reshape(8, 3)[i], int)
        chex.assert_trees_all_equal(target, frames[i, 15 + ahead])


def test_dropout_has_a_key_that_no_example_has(batch):
    given = []

    class Spy(Generator):
        def apply(self, *args, rngs, **kwargs):
            given.append(rngs["dropout"])
            return super().apply(*args, rngs=rngs, **kwargs)

    model, key = Spy((8,), 0.0, "none"), jax.random.key(1)
    inputs = jnp.zeros((1, 1, 16, 16, 3)), jnp.zeros((1, 0, 16, 16, 6)), jnp.ones((1, 1))
    variables = model.init(jax.random.key(0), *inputs)
    first, _ = make_translator(optax.sgd(0.1))
    first = first.replace(batch_stats={"g": {}, "d": {}})
    steps.translator_forward(model)(variables["params"], first, batch, key, None)
    numbers = lambda keys: {tuple(x) for x in np.asarray(jax.random.key_data(keys)).reshape(-1, 2)}
    examples = numbers(steps.example_keys(key, 4096, None))
    assert len(given) == 1 and not numbers(given[0]) & examples
    on_devices = jax.vmap(lambda _: steps.dropout_key(key, 2, "i"), axis_name="i")(jnp.arange(4))
    assert len(numbers(on_devices)) == 4 and not numbers(on_devices) & examples
    assert numbers(given[0]) <= numbers(on_devices)  # One device alone is the first of several.
