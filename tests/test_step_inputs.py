"""What a step trains on: which frames are targets, which keys draw them, what networks are given."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_steps
from small_steps import PICTURE, PLANES, UNET, init, make_fusion, make_network, make_translator

from vidpred_jax.config import Loss
from vidpred_jax.data import fusion
from vidpred_jax.inference import rollout
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models.fusion_predictor import FusionPredictor
from vidpred_jax.models.maps import Picture
from vidpred_jax.models.translator import Translator
from vidpred_jax.training import forward, steps_accompanying

PLAIN = Translator((8,), 0.0, "none")
TERMS = {"l1": 1.0}


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, small_steps.make_batch())


def translate(batch, module=PLAIN, form=PICTURE, key=1, proposals=None, frozen=None, **options):
    """What the forward pass of stage 2 gives."""
    network = make_network("translator", module, form, proposals=proposals or {})
    first = small_steps.make_state(network, None, optax.sgd(0.1), {"propose": {}, **(frozen or {})})
    run = forward.translate_forward(network, System.of(network), TERMS, **options)
    return run.run(init(network)["params"], first, batch, jax.random.key(key), None)


def test_targets_follow_the_window(batch):
    """With self-feeding, an example fed i times is compared with the frames i shifts later."""
    seen = []

    class Spy(FusionPredictor):
        def apply(self, variables, x):
            return x[:, -4:] + 0.01  # Copy-last of four frames, with a mark for each time.

    spy = Spy(widths=(8, 8), patch=2, time_patch=4, time_strides=(2,), shift=4, outputs=4)
    network = make_network("fusion", spy, Picture(squash=False))
    run = forward.predict_forward(network, System.of(network), TERMS, max_unroll=2)
    first, _ = make_fusion(optax.sgd(0.1))
    for number in range(6):
        out = run.run({}, first, batch, jax.random.key(number), None)
        video = fusion.to_float(batch["fusion"])
        found = run.terms(out.output, out.target)["l1"]
        chex.assert_trees_all_close(found, jnp.abs(out.output - out.target).mean((1, 2, 3, 4)))
        for i in range(8):
            fed = [n for n in range(3) if (out.target[i] == video[i, 16 + 4 * n : 20 + 4 * n]).all()]
            seen += fed
            assert len(fed) == 1
            last = video[i, 12:16] + 0.01 * fed[0]  # Fed with itself, it never moves.
            chex.assert_trees_all_close(out.condition[i, 0], last[-1], atol=1e-5)
            chex.assert_trees_all_close(run.show(out.output)[i], last + 0.01, atol=1e-5)
    assert set(seen) == {0, 1, 2}


def test_what_is_proposed_is_of_the_steps_of_the_targets(batch):
    """By a network without output: edges that fade by the step, and the newest labels. Fed with itself it
    is also what the window ends with."""

    class Nothing(FusionPredictor):
        def apply(self, variables, x, proposed):
            return jnp.zeros((*proposed.shape[:-1], x.shape[-1]))

    nothing = Nothing(**{f: getattr(UNET, f) for f in ("patch", "time_patch", "shift", "outputs")})
    proposals = small_steps.make_proposals(bright=0.05)
    network = make_network("fusion", nothing, PLANES, proposals=proposals)
    system = System.of(network)
    run = forward.predict_forward(network, system, TERMS, max_unroll=2)
    first, _ = make_fusion(optax.sgd(0.1), form=PLANES, proposals=proposals)
    out = run.run({}, first, batch, jax.random.key(0), None)
    maps, seen = PLANES.encode(batch["planes"]), set()
    at = lambda i, step: PLANES.activate(
        PLANES.base(maps[i, 15].at[..., 0].divide(1 + 0.05 * step)), based=True
    )
    for i in range(8):
        equal = lambda n, i=i: (out.target[i] == maps[i, 16 + 4 * n : 20 + 4 * n]).all()
        (fed,) = [n for n in range(3) if equal(n)]
        seen.add(fed)
        for j in range(4):
            chex.assert_trees_all_close(run.show(out.output)[i, j], at(i, 4 * fed + j + 1), atol=1e-5)
        last = at(i, 4 * fed) if fed else maps[i, 15]
        chex.assert_trees_all_close(out.condition[i, 0], last, atol=1e-5)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("form", [PICTURE, PLANES])
def test_translator_pairs_map_and_frame(form, batch):
    """Conditions are the true maps of the very frames they are compared with, all ahead."""
    out = translate(batch, form=form, targets_per_clip=4)
    frames, maps = fusion.to_float(batch["frames"]), form.encode(batch[form.field])
    for i in range(8):
        steps_found = set()
        for j in range(4):
            places = [t for t in range(28) if (out.target[i, j] == frames[i, t]).all()]
            assert len(places) == 1 and places[0] >= 16
            chex.assert_trees_all_equal(out.condition[i, j], maps[i, places[0]])
            steps_found.add(places[0])
        assert len(steps_found) == 4


def test_targets_lie_within_the_clip_and_as_near_as_asked(batch):
    """Of windows of 19 frames, three targets are the three frames after the context; with a large
    `step_sampling_power` one target is the first of many."""
    frames = fusion.to_float(batch["frames"])
    short = {**batch, "length": np.full(8, 19, np.int32)}
    found = translate(short, targets_per_clip=3, step_sampling_power=0.0).target
    for i in range(8):
        means = sorted(np.asarray(found[i].mean((1, 2, 3))).tolist())
        expected = sorted(np.asarray(frames[i, 16:19].mean((1, 2, 3))).tolist())
        chex.assert_trees_all_close(means, expected, atol=1e-6)
    nearest = translate(batch, targets_per_clip=1, step_sampling_power=30.0).target
    chex.assert_trees_all_equal(nearest[:, 0], frames[:, 16])


def test_a_proposal_is_compared_with_the_frames_it_is_of(batch):
    """The newest frame, brighter by .01 a step, at the steps drawn; without trajectories no such term."""
    network = make_network("proposal", small_steps.LastFrame())
    first = small_steps.make_state(network, None, optax.sgd(0.1))
    terms = {"l1": 1.0, "trajectory": 0.1}
    run = forward.proposal_forward(network, terms, context=16, targets_per_clip=3, min_future=3)
    out = run.run(first.params["g"], first, batch, jax.random.key(0), None)
    frames = fusion.to_float(batch["frames"])
    for i in range(8):
        for j in range(3):
            (place,) = [t for t in range(28) if (out.target[i, j] == frames[i, t]).all()]
            assert place >= 16
            expected = frames[i, 15] + 0.01 * (place - 15)
            chex.assert_trees_all_close(out.output[i, j], expected, atol=1e-5)
    found = run.terms(out.output, out.target)
    assert set(found) == {"l1"} and not out.terms
    chex.assert_trees_all_close(found["l1"], jnp.abs(out.output - out.target).mean((1, 2, 3, 4)))


def test_references_are_the_last_observed():
    frames, maps = (jnp.arange(4.0).reshape(1, 4, 1, 1, 1), jnp.arange(4.0).reshape(1, 4, 1, 1, 1) + 10)
    found = rollout.references(frames, maps, 2)
    assert found.reshape(2, 2).tolist() == [[2, 12], [3, 13]]
    assert rollout.references(frames, maps, 0).shape == (1, 0, 1, 1, 2)


@pytest.mark.parametrize(("power", "expected"), [(0.0, [1 / 2, 1 / 2, 0]), (1.0, [2 / 3, 1 / 3, 0])])
def test_steps_are_drawn_in_proportion_among_those_of_the_clip(power, expected):
    """Of three steps the last is repeated: of clips of two, none draws it."""
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(forward.draw_steps, static_argnums=(2, 3, 4))
    found = draw(keys, jnp.full(4000, 2), 3, 1, power)
    np.testing.assert_allclose(np.bincount(found[:, 0], minlength=3) / 4000, expected, atol=0.03)
    both = np.sort(draw(keys, jnp.full(4000, 2), 3, 2, power), axis=1)
    assert (both == [0, 1]).all()


def test_clips_lose_their_proposals_as_often_as_asked():
    """Each by its own key, which is the same beside other clips."""
    network = make_network("fusion", UNET, proposals=small_steps.make_proposals())
    system, keys = System.of(network), jax.random.split(jax.random.key(0), 2000)
    zeros = {"frames": (2000, 16, 4, 4, 3), "planes": (2000, 16, 4, 4, 2)}
    clips = {name: jnp.zeros(shape, jnp.uint8) for name, shape in zeros.items()}
    for dropout in (0.0, 0.3, 1.0):
        _, kept = forward.proposals_of(system, system.variables, clips, dropout, keys)
        assert float(kept.mean()) == pytest.approx(1 - dropout, abs=0.04)
        few = jax.tree.map(lambda x: x[7:9], clips)
        _, again = forward.proposals_of(system, system.variables, few, dropout, keys[7:9])
        assert again.tolist() == kept[7:9].tolist()
    alone = System.of(make_network("fusion", UNET))
    forecast, kept = forward.proposals_of(alone, {}, clips, 0.3, keys)
    assert kept is None and forecast(jnp.ones((2000, 1))) == {}


@pytest.mark.parametrize("make", [make_fusion, make_translator])
@pytest.mark.parametrize("dropout", [0.0, 1.0])
def test_dropped_proposals_do_not_matter_in_training(make, dropout, batch):
    """The step of one and of another proposal: equal without them, else not."""
    after = []
    for bright in (0.01, 0.05):
        first, step = make(
            optax.sgd(0.1),
            Loss(),
            proposals=small_steps.make_proposals(bright=bright),
            form=PLANES,
            proposal_dropout=dropout,
        )
        after.append(jax.jit(step)(first, batch)[0].params["g"])
    one, other = map(jax.tree.leaves, after)
    same = all(bool((a == b).all()) for a, b in zip(one, other, strict=True))
    assert same == (dropout == 1.0)


def test_a_translator_is_trained_on_the_sum_of_its_output_and_what_is_proposed(batch):
    """With an output of zero it is the proposal's frames, and the loss theirs; not squashed."""

    class Nothing(Translator):
        def apply(self, variables, maps, references, steps_ahead, proposed, **training):
            given.append(proposed)
            return jnp.zeros((*maps.shape[:-1], 3)), {}

    given, proposals = [], small_steps.make_proposals(bright=0.3)
    out = translate(
        batch,
        Nothing((8,), 0.0, "none"),
        PLANES,
        proposals=proposals,
        frozen={"propose": {"last": proposals["last"].params}},
        targets_per_clip=12,
    )
    newest, future = (fusion.to_float(batch["frames"][:, at]) for at in (15, slice(16, 28)))
    order = jax.vmap(lambda some, video: jax.vmap(lambda x: (x == video).all((1, 2, 3)).argmax())(some))
    steps_ahead = order(out.target, future) + 1.0
    assert np.sort(steps_ahead).tolist() == [list(range(1, 13))] * 8
    expected = newest[:, None] + 0.3 * steps_ahead[..., None, None, None]
    chex.assert_trees_all_close(out.output, expected, atol=1e-5)
    assert float(out.output.max()) > 2
    chex.assert_trees_all_close(given[0][..., :3], expected, atol=1e-5)
    assert given[0].shape[-1] == 3 + PLANES.channels + 1 and (given[0][..., -1] == 0.75).all()


def test_stage_3_is_not_trained_on_what_is_repeated_after_a_clip(batch):
    """Windows of 19 frames of 28: three targets are the three frames after the context."""

    class Same(Translator):
        def apply(self, variables, maps, seen, ahead):
            return jnp.arctanh(0.99 * maps)  # Whose tanh they are.

    network = make_network("translator", Same((8,), 0.0, "none", reference_frames=1))
    run = steps_accompanying.make_translate(System.of(network), targets_per_clip=3, predicted_fraction=0.0)
    found = run(
        {"translate": {}, "propose": {}}, {**batch, "length": np.full(8, 19, np.int32)}, jax.random.key(1)
    )
    ahead = np.asarray(found.steps_ahead.reshape(8, 3), int)
    assert np.sort(ahead, axis=1).tolist() == [[1, 2, 3]] * 8
    frames, pictures = (fusion.to_float(batch[name]) for name in ("frames", "fusion"))
    of_clips = lambda x: x.reshape(8, 3, 16, 16, 3)
    for i, target in enumerate(of_clips(found.target)):
        chex.assert_trees_all_equal(target, frames[i, 15 + ahead[i]])
        chex.assert_trees_all_equal(of_clips(found.fusion)[i], pictures[i, 15 + ahead[i]])
    chex.assert_trees_all_close(found.frame, 0.99 * found.fusion, atol=1e-5)


@pytest.mark.parametrize("proposals", [False, True])
def test_stage_3_is_trained_on_frames_of_stage_1_own_maps(proposals, batch):
    """Rendered planes beside frames as the system predicts them, at the steps drawn."""
    options = dict(proposals=small_steps.make_proposals()) if proposals else {}
    predict = make_network("fusion", UNET, PLANES, **options)
    module = Translator((8,), 0.0, "none", reference_frames=1)
    system = System.of(predict, make_network("translator", module, PLANES, **options))
    frozen = {"predict": init(predict), "translate": init(system.translate)}
    frozen["propose"] = system.variables["propose"]
    two = {name: x[:2] for name, x in batch.items()}
    run = jax.jit(steps_accompanying.make_translate(system, targets_per_clip=12))
    found = run(frozen, two, jax.random.key(0))
    expected = jax.jit(make_predict(system, 12, finish=lambda x: x))(frozen, two)
    ahead = np.asarray(found.steps_ahead.reshape(2, 12), int) - 1
    assert np.sort(ahead, axis=1).tolist() == [list(range(12))] * 2
    for name, ours in (("fusion", found.fusion), ("frames", found.frame)):
        whole = np.take_along_axis(np.asarray(expected[name]), ahead[..., None, None, None], 1)
        chex.assert_trees_all_close(ours.reshape(whole.shape), whole, atol=1e-4)


def test_dropout_has_a_key_that_no_example_has(batch):
    given = []

    class Spy(Translator):
        def apply(self, *args, rngs, **kwargs):
            given.append(rngs["dropout"])
            return super().apply(*args, rngs=rngs, **kwargs)

    key = jax.random.key(1)
    translate(batch, Spy((8,), 0.0, "none"))
    numbers = lambda keys: {tuple(x) for x in np.asarray(jax.random.key_data(keys)).reshape(-1, 2)}
    examples = numbers(forward.example_keys(key, 4096, None))
    assert len(given) == 1 and not numbers(given[0]) & examples
    on_devices = jax.vmap(lambda _: forward.dropout_key(key, 2, "i"), axis_name="i")(jnp.arange(4))
    assert len(numbers(on_devices)) == 4 and not numbers(on_devices) & examples
    assert numbers(given[0]) <= numbers(on_devices)  # One device alone is the first of several.
