"""Networks beside proposals: what they add to, what they are shown, and what they are without."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_steps
from small_steps import PICTURE, PLANES, UNET, init, make_network
from smoke import get_config

from vidpred_jax.config import parse
from vidpred_jax.data import fusion
from vidpred_jax.inference import networks, proposing, rollout
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models.translator import Translator
from vidpred_jax.proposals.flow_blend import FlowBlend
from vidpred_jax.proposals.forecast import Forecast
from vidpred_jax.proposals.scene.scene import Scene
from vidpred_jax.types import InputError

TRANSLATOR = Translator((8,), 0.0, "none", reference_frames=1)
PROPOSALS = {"scene": Scene(num_labels=3), "flow_blend": FlowBlend(flow_levels=2)}
FORMS = {"planes": PLANES, "picture": PICTURE}


def random(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape)


def forecast(seed, t=8, confidence=None):
    """Of two clips of 16 x 16: whole edges, as observed ones are."""
    shape = (2, t, 16, 16)
    trust = random(seed + 2, *shape) if confidence is None else jnp.full(shape, confidence)
    edges = (random(seed, *shape) > 0.5).astype(jnp.float32)
    labels = jax.random.randint(jax.random.key(seed + 1), shape, 0, 3)
    return Forecast(2 * random(seed + 3, *shape, 3) - 1, edges, labels, trust)


@functools.cache
def fitted(name):
    """A proposal of the package with its first numbers."""
    network = make_network("proposal", PROPOSALS[name])
    return Proposal(name, PROPOSALS[name], init(network)["params"])


def make_pair(form, proposals, zero=True):
    """Networks of both stages beside proposals, with outputs of zero or as they begin."""
    pair = {"fusion": UNET.clone(shift=8, outputs=8), "translator": TRANSLATOR}
    pair = [make_network(stage, m, form, proposals=proposals) for stage, m in pair.items()]
    variables = []
    for network in pair:
        found = init(network)
        if zero:
            found["params"]["paint"] = jax.tree.map(jnp.zeros_like, found["params"]["paint"])
        variables.append(found)
    return [dataclasses.replace(n, variables=v) for n, v in zip(pair, variables, strict=True)]


def moving_box():
    """Two clips of 20 frames of a box that moves, and of another that stands still."""
    frames, planes = (np.full((2, 20, 16, 16, 3), 60, np.uint8), np.zeros((2, 20, 16, 16, 2), np.uint8))
    for t in range(20):
        for clip, x in enumerate((t // 2, 5)):
            frames[clip, t, 4:9, x : x + 5], planes[clip, t, 4:9, x : x + 5, 1] = (200, 90, 30), 1
            planes[clip, t, 4, x : x + 5, 0] = 255
    pictures = fusion.render(planes[..., 0], planes[..., 1])
    return {"frames": frames, "planes": planes, "fusion": pictures}


def test_a_window_of_a_clip_by_hand():
    clip = {name: jnp.asarray(x) for name, x in moving_box().items()}
    window = proposing.window_of(clip, 16)
    assert window.frames.shape == (2, 16, 16, 16, 3)
    box = np.array([200, 90, 30]) / 127.5 - 1
    np.testing.assert_allclose(window.frames[1, 0, 4, 5], box, atol=1e-6)
    assert window.edges[1, 15, 3:6, 6].tolist() == [0, 1, 0]
    assert window.labels[1, 15, 3:6, 6].tolist() == [0, 1, 1]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_networks_are_shown_and_add_to(form):
    """Of two proposals side by side: frames, maps and confidence. The base is of the more confident one where
    that is certain.
    """
    one, two = forecast(1, confidence=1.0), forecast(5, confidence=0.0)
    both = {"one": one, "two": two}
    given, shown = proposing.inputs(form, both), 3 + form.channels + 1
    for number, x in enumerate((one, two)):
        part = given[..., number * shown : (number + 1) * shown]
        np.testing.assert_array_equal(part[..., :3], x.frames)
        np.testing.assert_array_equal(part[..., 3:-1], form.join(x.edges, x.labels))
        np.testing.assert_array_equal(part[..., -1], x.confidence)
    assert given.shape[-1] == 2 * shown
    base = form.base(form.join(one.edges, one.labels))
    np.testing.assert_allclose(proposing.map_base(form, both), base, atol=1e-5)
    np.testing.assert_allclose(proposing.frame_base(both), one.frames, atol=1e-5)


def test_the_shapes_that_networks_are_initialised_with():
    """Those that `inputs` gives."""
    proposals = small_steps.make_proposals() | {"other": fitted("scene")}
    both = {name: forecast(1) for name in proposals}
    for network in make_pair(PLANES, proposals):
        *_, given = networks.example_inputs(network)
        assert given.shape[-1] == proposing.inputs(PLANES, both).shape[-1]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_network_without_output_gives_what_is_proposed(form):
    """Bit for bit: the activated base, and the frames in range."""
    proposals = small_steps.make_proposals()
    predict, translate = make_pair(form, proposals)
    forecasts = {"last": forecast(1)}
    forecasts["last"] = forecasts["last"].replace(frames=1.5 * forecasts["last"].frames)
    window = form.join(forecast(9, 16).edges, forecast(9, 16).labels)
    last = forecasts["last"]
    base = form.base(form.join(last.edges, last.labels))
    raw = jax.jit(predict.raw_maps)(predict.variables["params"], window, forecasts)
    np.testing.assert_array_equal(raw, base)
    maps = jax.jit(predict.predict)(predict.variables["params"], window, forecasts)
    np.testing.assert_array_equal(maps, jax.jit(lambda x: form.activate(x, based=True))(base))
    np.testing.assert_allclose(maps, form.join(last.edges, last.labels), atol=1e-3)
    inputs = maps, jnp.zeros((2, 1, 16, 16, 3 + form.channels)), jnp.ones((2, 8))
    frames = jax.jit(translate.translate)(translate.variables, *inputs, forecasts)
    np.testing.assert_array_equal(frames, jnp.clip(last.frames, -1, 1))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_clips_without_their_proposals_see_nothing_of_them(form):
    """The second of two clips keeps its: another forecast changes its maps and frames alone."""
    predict, translate = make_pair(form, small_steps.make_proposals(), zero=False)
    window = form.join(forecast(9, 16).edges, forecast(9, 16).labels)
    seen = random(3, 2, 1, 16, 16, 3 + form.channels)
    kept, ahead = jnp.array([False, True]), jnp.ones((2, 8))

    @jax.jit
    def run(forecasts, kept):
        maps = predict.predict(predict.variables["params"], window, forecasts, kept)
        given = window[:, :8], seen, ahead, forecasts, kept
        return maps, translate.translate(translate.variables, *given)

    one, other = (run({"last": forecast(seed)}, kept) for seed in (1, 50))
    for a, b in zip(one, other, strict=True):
        assert (a != b).any((1, 2, 3, 4)).tolist() == [False, True]
    # Dropped, both are the networks' own: those of inputs of zero.
    zeros = jax.tree.map(jnp.zeros_like, forecast(1))
    given = jnp.zeros((1, 8, 16, 16, form.channels + 4))
    raw = predict.module.apply(predict.variables, window[:1], given)
    maps, frames = run({"last": zeros}, jnp.array([False, False]))
    np.testing.assert_allclose(maps[:1], form.activate(raw, based=True), atol=1e-5)
    np.testing.assert_array_equal(maps[:1], one[0][:1])
    np.testing.assert_array_equal(frames[:1], one[1][:1])
    given = jnp.zeros((1, 8, 16, 16, form.channels + 4))
    raw = TRANSLATOR.apply(translate.variables, window[:1, :8], seen[:1], ahead[:1], given)
    np.testing.assert_allclose(frames[:1], jnp.clip(raw, -1, 1), atol=1e-5)


def test_proposals_get_no_gradient():
    def total(x):
        found, _ = proposing.add(lambda given: (2 * given, None), x, x)
        return found.sum()

    x = jnp.ones((1, 1, 2, 2, 3))
    assert float(total(x)) == 36 and not jax.grad(total)(x).any()


@pytest.mark.parametrize(("name", "form"), [("scene", PLANES), ("flow_blend", PICTURE)])
def test_a_system_without_output_predicts_as_its_proposal_alone(name, form):
    """As a system of the proposal and no network, ten steps in blocks of eight; both as the module says.

    Bit for bit but for the blend, whose sums XLA:CPU orders by what else a program computes.
    """
    clip = {field: jnp.asarray(x[:, :16]) for field, x in moving_box().items()}
    proposal, finish = fitted(name), lambda x: x
    system = System.of(*make_pair(form, {name: proposal}))
    assert list(system.proposals) == [name]
    assert set(system.inputs) == {"frames", form.field, "planes"}
    found = jax.jit(make_predict(system, 10, finish=finish))(system.variables, clip)
    bare = System.of(make_network("proposal", proposal.module, form, proposals={name: proposal}))
    assert bare.fields == ("fusion", "frames") and not bare.networks
    same = jax.jit(make_predict(bare, 10, finish=finish))(bare.variables, clip)
    atol = {"scene": 0.0, "flow_blend": 1e-5}[name]
    np.testing.assert_allclose(found["frames"], jnp.clip(same["frames"], -1, 1), rtol=0, atol=atol)
    np.testing.assert_allclose(found["fusion"], same["fusion"], rtol=0, atol=atol)

    @jax.jit
    def alone(params, clip):
        window, ahead = proposing.window_of(clip, 16), jnp.tile(jnp.arange(1.0, 11), (2, 1))
        return proposal.module.apply({"params": params}, window, ahead)

    expected = alone(proposal.params, clip)
    np.testing.assert_allclose(same["frames"], expected.frames, atol=1e-5)
    maps = form.activate(form.base(form.join(expected.edges, expected.labels)), based=True)
    np.testing.assert_allclose(same["fusion"], form.render(maps), atol=1e-5)


def test_alone_networks_are_given_nothing_of_their_proposals():
    """Prediction is the same whatever is proposed, and that of networks whose clips are all dropped."""
    clip = {field: jnp.asarray(x[:, :16]) for field, x in moving_box().items()}
    found = {}
    for bright in (0.01, 0.3):
        pair = make_pair(PLANES, small_steps.make_proposals(bright=bright), zero=False)
        for alone in (False, True):
            system = dataclasses.replace(System.of(*pair), alone=alone)
            predict = jax.jit(make_predict(system, 8, finish=lambda x: x))
            found[bright, alone] = predict(system.variables, clip)
    for field in ("fusion", "frames"):
        np.testing.assert_array_equal(found[0.01, True][field], found[0.3, True][field])
        assert jnp.abs(found[0.01, False][field] - found[0.3, False][field]).max() > 1e-3
    predict, translate = pair
    forecasts = {"last": forecast(1)}
    window = PLANES.encode(clip["planes"])
    maps = jax.jit(predict.predict)(predict.variables["params"], window, forecasts, jnp.zeros(2, bool))
    np.testing.assert_allclose(found[0.3, True]["fusion"], PLANES.render(maps), atol=1e-5)
    seen = rollout.references(fusion.to_float(clip["frames"]), window, 1)
    steps_ahead = rollout.steps_ahead(0, 8, 2)
    frames = jax.jit(translate.translate)(
        translate.variables, maps, seen, steps_ahead, forecasts, jnp.zeros(2, bool)
    )
    np.testing.assert_allclose(found[0.3, True]["frames"], frames, atol=1e-4)


def test_one_proposal_has_one_set_of_numbers():
    """Of a system; two runs of different ones are refused, two of equal ones or of two names are not."""
    runs = {"run": "a"}, {"run": "b"}
    proposals = small_steps.make_proposals(), small_steps.make_proposals(bright=0.02)
    module = {"fusion": UNET, "translator": TRANSLATOR}

    def pair(one, two):
        stages = zip(module, (one, two), runs, strict=True)
        return [make_network(stage, module[stage], PLANES, proposals=p, **run) for stage, p, run in stages]

    with pytest.raises(
        InputError, match=r"runs 'a' and 'b' add to different proposals 'last'; train one behind"
    ):
        System.of(*pair(*proposals))
    found = System.of(*pair(proposals[0], small_steps.make_proposals()))
    assert found.variables["propose"] == {"last": {"bright": jnp.float32(0.01)}}
    other = {"other": proposals[1]["last"]}
    found = System.of(*pair(proposals[0], other))
    assert list(found.variables["propose"]) == ["last", "other"]
    only = {"last": Proposal("last", small_steps.LastFrame(), {"bright": jnp.zeros(2)})}
    with pytest.raises(InputError, match="add to different proposals"):
        System.of(*pair(proposals[0], only))
    # Each network sees its own of them.
    both = {"last": forecast(1), "other": forecast(5)}
    network = dataclasses.replace(found.translate, variables=None)
    variables = init(network)
    variables["params"]["paint"] = jax.tree.map(jnp.zeros_like, variables["params"]["paint"])
    maps, seen = jnp.zeros((2, 8, 16, 16, 4)), jnp.zeros((2, 1, 16, 16, 7))
    frames = jax.jit(network.translate)(variables, maps, seen, jnp.ones((2, 8)), both)
    np.testing.assert_array_equal(frames, both["other"].frames)


def test_a_stage_1_beside_proposals_gives_new_maps_alone():
    """A proposal is of coming frames: one that also repeats observed ones is refused."""
    facts = {"num_labels": 3, "edge_rule": {"canny": [300.0, 350.0]}}
    config = parse(get_config("fusion", "data"))
    fine = networks.make(config, facts, proposals=small_steps.make_proposals())
    assert fine.module.outputs == fine.module.shift
    config["model"] = {**config["model"], "outputs": 16}
    with pytest.raises(InputError, match=r"proposals \(last\) need model.outputs \(16\) equal to"):
        networks.make(config, facts, proposals=small_steps.make_proposals())
