"""The jitted loop equals a plain Python loop, for every shift and form, translated or not."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest
import small_steps
from small_steps import PICTURE, PLANES, init, make_network

from vidpred_jax.data import fusion
from vidpred_jax.inference import proposing, rollout
from vidpred_jax.inference.system import System, make_predict
from vidpred_jax.models.fusion_predictor import FusionPredictor
from vidpred_jax.models.translator import Translator

TRANSLATOR = Translator((4, 4), 0.0, "group", reference_frames=2)


def no_forecast(steps_ahead):
    return {}


def make(shift, form=PICTURE, proposals=None, **fields):
    """A stage 1, its parameters and a batch of two clips."""
    module = FusionPredictor(widths=(4, 4), time_strides=(2,), shift=shift, **fields)
    network = make_network("fusion", module, form, proposals=proposals or {})
    batch = small_steps.make_batch()
    batch = {name: jnp.asarray(batch[name][:2, :20]) for name in ("frames", "fusion", "planes")}
    return network, init(network)["params"], batch


def make_system(shift, form=PICTURE, **options):
    """Both stages as a system, its variables and a batch."""
    network, params, batch = make(shift, form, **options)
    translate = make_network("translator", TRANSLATOR, form, proposals=network.proposals)
    system = System.of(network, translate)
    variables = {"predict": {"params": params}, "translate": init(translate)}
    return system, {**system.variables, **variables}, batch


def forecast_of(network, batch):
    proposals = network.proposals
    params = {name: p.params for name, p in proposals.items()}
    observed = proposing.observe(proposals, params, proposing.window_of(batch, 16))
    return lambda steps_ahead: proposing.propose(proposals, params, observed, steps_ahead)


def plain_loop(network, params, window, horizon, forecast):
    shift, out = network.shift, []
    while len(out) < horizon:
        ahead = jnp.tile(jnp.arange(1.0, shift + 1) + len(out), (len(window), 1))
        inputs, base = (), 0.0
        if network.proposals:
            forecasts = forecast(ahead)
            inputs = (proposing.inputs(network.form, forecasts),)
            last = forecasts["last"]
            base = network.form.base(network.form.join(last.edges, last.labels))
        raw = jax.jit(network.module.apply)({"params": params}, window, *inputs) + base
        maps = network.form.activate(raw, based=bool(network.proposals))
        out += [maps[:, t] for t in range(-shift, 0)]
        window = jnp.concatenate([window, maps[:, -shift:]], 1)[:, -16:]
    return jnp.stack(out[:horizon], 1)


@pytest.mark.parametrize("form", [PICTURE, PLANES])
@pytest.mark.parametrize(
    ("shift", "horizon", "fields"),
    [(1, 5, {}), (16, 32, {}), (4, 10, {}), (4, 10, dict(outputs=4, proposals=small_steps.make_proposals()))],
)
def test_equals_a_plain_loop(shift, horizon, fields, form):
    network, params, batch = make(shift, form, **fields)
    forecast = forecast_of(network, batch)
    window = form.encode(batch[form.field][:, :16])
    roll = jax.jit(lambda params, x: rollout.roll_maps(network, params, x, horizon, forecast))
    pred = roll(params, window)
    chex.assert_shape(pred, (2, horizon, 16, 16, form.channels))
    expected = plain_loop(network, params, window, horizon, forecast)
    chex.assert_trees_all_close(pred, expected, atol=1e-4)


@pytest.mark.parametrize("proposals", [None, small_steps.make_proposals()])
@pytest.mark.parametrize("form", [PICTURE, PLANES])
def test_translated_inside_equals_translated_after(form, proposals):
    system, variables, batch = make_system(4, form, outputs=4, proposals=proposals)
    found = jax.jit(make_predict(system, 6, finish=lambda x: x))(variables, batch)
    network = system.predict
    observed = form.encode(batch[form.field][:, :16])
    forecast = forecast_of(network, batch)
    maps = rollout.roll_maps(network, variables["predict"]["params"], observed, 6, forecast)
    chex.assert_trees_all_close(found["fusion"], form.render(maps), atol=1e-4)
    ahead = jnp.tile(jnp.arange(1.0, 7), (2, 1))
    frames = fusion.to_float(batch["frames"][:, :16])
    seen = rollout.references(frames, observed, 2)
    given, base = (), 0.0
    if proposals:
        forecasts = forecast(ahead)
        given = (proposing.inputs(form, forecasts),)
        base = forecasts["last"].frames
    raw = jax.jit(TRANSLATOR.apply)(variables["translate"], maps, seen, ahead, *given)
    expected = jnp.clip(base + raw, -1, 1) if proposals else jnp.tanh(raw)
    chex.assert_trees_all_close(found["frames"], expected, atol=1e-4)


def test_what_is_kept_of_steps_that_are_counted_by_hand():
    """Two clips of scalars, three steps a call: each new one is 10 more than the one three before."""

    def advance(window, call):
        return window[:, -3:] + 10, call

    def keep(new, call, number):
        return {"double": 2 * new, "call": jnp.broadcast_to(call + 0 * number, new.shape)}

    window = jnp.float32([[0, 1, 2, 3], [5, 6, 7, 8]])
    found = jax.jit(lambda x: rollout.roll(advance, keep, x, 3, 7))(window)
    first = [22, 24, 26, 42, 44, 46, 62]
    assert found["double"].tolist() == [first, [x + 10 for x in first]]
    assert found["call"].tolist() == [[0, 0, 0, 1, 1, 1, 2]] * 2
    # Without a window nothing is fed back.
    steps = rollout.roll(
        lambda window, call: (rollout.steps_ahead(call, 3, 2), window),
        lambda new, window, call: new,
        None,
        3,
        7,
    )
    assert steps.tolist() == [[1, 2, 3, 4, 5, 6, 7]] * 2


def test_a_horizon_within_one_call():
    network, params, batch = make(16)
    window = PICTURE.encode(batch["fusion"][:, :16])
    pred, longer = (
        jax.jit(functools.partial(rollout.roll_maps, network, horizon=n, forecast=no_forecast))(
            params, window
        )
        for n in (5, 32)
    )
    chex.assert_trees_all_close(pred, longer[:, :5], atol=1e-5)


@pytest.mark.parametrize(("needed", "calls"), [(1, 1), (4, 1), (5, 2), (10, 3)])
def test_only_as_far_as_needed(needed, calls):
    network, params, batch = make(4)
    window = PICTURE.encode(batch["fusion"][:, :16])
    roll = functools.partial(rollout.roll_maps, network, horizon=10, forecast=no_forecast)
    whole, cut = jax.jit(roll)(params, window), jax.jit(roll)(params, window, needed=needed)
    chex.assert_trees_all_close(cut[:, :needed], whole[:, :needed], atol=1e-5)
    assert cut.any((0, 2, 3, 4)).tolist() == [step < 4 * calls for step in range(10)]


def test_kept_as_asked_but_fed_back_as_it_was():
    system, variables, batch = make_system(4)
    exact = jax.jit(make_predict(system, 10, finish=lambda x: x))(variables, batch)
    kept = jax.jit(make_predict(system, 10))(variables, batch)
    assert set(kept) == {"fusion", "frames"}
    for field, found in kept.items():
        assert found.dtype == jnp.uint8
        assert jnp.abs(found.astype(int) - fusion.to_uint8(exact[field]).astype(int)).max() <= 1
    (field,) = jax.jit(make_predict(system, 10, fields=("frames",)))(variables, batch)
    assert field == "frames"


@pytest.mark.parametrize("horizon", [4, 8, 11])
def test_known_maps_are_those_that_follow_in_the_clip(horizon):
    """Frames of them are those of the translator alone, whatever stage 1 would have predicted."""
    system, variables, batch = make_system(4, PLANES)
    batch = {name: jnp.concatenate([x, x[:, 4:11]], 1) for name, x in batch.items()}
    alone = System.of(system.translate)
    known = jax.jit(make_predict(alone, horizon, known_maps=True, finish=lambda x: x))
    found = known({"translate": variables["translate"]}, batch)["frames"]
    maps = PLANES.encode(batch["planes"])
    frames = fusion.to_float(batch["frames"][:, :16])
    seen = rollout.references(frames, maps[:, :16], 2)
    ahead = jnp.tile(jnp.arange(1.0, horizon + 1), (2, 1))
    raw = jax.jit(TRANSLATOR.apply)(variables["translate"], maps[:, 16 : 16 + horizon], seen, ahead)
    chex.assert_trees_all_close(found, jnp.tanh(raw), atol=1e-4)


@pytest.mark.parametrize("horizons", [(8, 64), (6, 62)])
@pytest.mark.parametrize("finish", [lambda x: x, fusion.to_uint8])
@pytest.mark.parametrize("form", [PICTURE, PLANES])
def test_memory_grows_by_the_output_alone(horizons, finish, form):
    system, variables, batch = make_system(4, form)
    temporary = []
    for horizon in horizons:
        predict = jax.jit(make_predict(system, horizon, finish=finish))
        compiled = predict.lower(variables, batch).compile()
        temporary.append(compiled.memory_analysis().temp_size_in_bytes)
    assert temporary[1] - temporary[0] <= 4096
