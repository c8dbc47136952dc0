"""The jitted loop equals a plain Python loop, for every shift, quantized or not, translated or not."""

import functools

import chex
import jax
import jax.numpy as jnp
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.inference import rollout
from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d


def make(shift, **fields):
    model = UNet3d(widths=(4, 4), time_strides=(2,), shift=shift, num_flows=1, **fields)
    context = jax.random.uniform(jax.random.key(1), (2, 16, 16, 16, 3), minval=-1.0)
    return model, jax.jit(model.init)(jax.random.key(0), context)["params"], context


def plain_loop(model, params, context, horizon, quantize_labels):
    window, out, observed = context, [], model.observe(context)
    while len(out) < horizon:
        memory = {"observed": observed, "frame_offset": len(out)} if model.num_labels else {}
        pred = jax.jit(model.apply)({"params": params}, window, **memory)
        for t in range(-model.shift, 0):
            frame = pred[:, t]
            if quantize_labels:
                frame = fusion.quantize(frame, quantize_labels)
            out.append(frame)
        window = jnp.concatenate([window, jnp.stack(out[-model.shift :], 1)], 1)[:, -16:]
    return jnp.stack(out[:horizon], 1)


@pytest.mark.parametrize("quantize_labels", [0, 4])
@pytest.mark.parametrize(
    ("shift", "horizon", "fields"),
    [(1, 5, {}), (16, 32, {}), (4, 10, {}), (4, 10, dict(num_labels=3, outputs=4))],
)
def test_equals_a_plain_loop(shift, horizon, fields, quantize_labels):
    model, params, context = make(shift, **fields)
    roll = jax.jit(rollout.make_rollout(model, horizon, quantize_labels=quantize_labels))
    pred = roll(params, context)
    chex.assert_shape(pred, (2, horizon, 16, 16, 3))
    expected = plain_loop(model, params, context, horizon, quantize_labels)
    # Snapping turns the last bit of a float into another colour: equal but for a few pixels.
    close = jnp.isclose(pred, expected, atol=1e-4).mean()
    assert close == 1 if not quantize_labels else close > 0.99


def translated(roll, generator):
    """A rollout whose pictures are translated, as a function of all variables."""

    def run(params, context, variables, seen):
        translate = lambda x, steps_ahead: generator.apply(variables, x, seen, steps_ahead)
        return roll(params, context, translate)

    return run


def test_translated_inside_equals_translated_after():
    model, params, context = make(4)
    generator = Generator((4, 4), 0.0, "group", reference_frames=2, num_flows=1, flow_levels=2)
    seen = jax.random.uniform(jax.random.key(2), (2, 2, 16, 16, 6), minval=-1.0)
    variables = jax.jit(generator.init)(jax.random.key(3), context[:, :1], seen, jnp.ones((2, 1)))
    pictures, frames = jax.jit(translated(rollout.make_rollout(model, 6), generator))(
        params, context, variables, seen
    )
    chex.assert_trees_all_close(
        pictures, jax.jit(rollout.make_rollout(model, 6))(params, context), atol=1e-5
    )
    ahead = jnp.tile(jnp.arange(1.0, 7), (2, 1))
    expected = jax.jit(generator.apply)(variables, pictures, seen, ahead)
    chex.assert_trees_all_close(frames, expected, atol=1e-4)


def test_a_horizon_within_one_call():
    model, params, context = make(16)
    pred = jax.jit(rollout.make_rollout(model, 5))(params, context)
    expected = jax.jit(rollout.make_rollout(model, 32))(params, context)[:, :5]
    chex.assert_trees_all_close(pred, expected, atol=1e-5)


@pytest.mark.parametrize(("needed", "calls"), [(1, 1), (4, 1), (5, 2), (10, 3)])
def test_only_as_far_as_needed(needed, calls):
    model, params, context = make(4)
    roll = jax.jit(rollout.make_rollout(model, 10))
    whole, cut = roll(params, context), roll(params, context, needed=needed)
    chex.assert_trees_all_close(cut[:, :needed], whole[:, :needed], atol=1e-5)
    assert cut.any((0, 2, 3, 4)).tolist() == [step < 4 * calls for step in range(10)]


def test_kept_as_asked_but_fed_back_as_it_was():
    model, params, context = make(4)
    exact = jax.jit(rollout.make_rollout(model, 10))(params, context)
    kept = jax.jit(rollout.make_rollout(model, 10, finish=fusion.to_uint8))(params, context)
    assert kept.dtype == jnp.uint8
    assert jnp.abs(kept.astype(int) - fusion.to_uint8(exact).astype(int)).max() <= 1


@pytest.mark.parametrize("steps", [5, 8, 11])
def test_known_pictures_are_translated_a_few_at_a_time(steps):
    generator = Generator((4, 4), 0.0, "group", reference_frames=2, num_flows=1, flow_levels=2)
    pictures = jax.random.randint(jax.random.key(1), (2, steps, 16, 16, 3), 0, 256).astype(
        jnp.uint8
    )
    seen = jax.random.uniform(jax.random.key(2), (2, 2, 16, 16, 6), minval=-1.0)
    floats, ahead = fusion.to_float(pictures), jnp.tile(jnp.arange(1.0, steps + 1), (2, 1))
    variables = jax.jit(generator.init)(jax.random.key(3), floats[:, :1], seen, ahead[:, :1])
    apply = lambda x, steps_ahead: generator.apply(variables, x, seen, steps_ahead)
    translate = jax.jit(functools.partial(rollout.translate_pictures, apply))
    expected = jax.jit(generator.apply)(variables, floats, seen, ahead)
    for given in (pictures, floats):
        chex.assert_trees_all_close(translate(given), expected, atol=1e-4)


@pytest.mark.parametrize("horizons", [(8, 64), (6, 62)])
@pytest.mark.parametrize("finish", [lambda x: x, fusion.to_uint8])
def test_memory_grows_by_the_output_alone(horizons, finish):
    model, params, context = make(4)
    generator = Generator((4, 4), 0.0, "group", reference_frames=2)
    seen = jnp.zeros((2, 2, 16, 16, 6))
    variables = jax.jit(generator.init)(jax.random.key(3), context[:, :1], seen, jnp.ones((2, 1)))
    temporary = []
    for horizon in horizons:
        roll = translated(rollout.make_rollout(model, horizon, finish=finish), generator)
        compiled = jax.jit(roll).lower(params, context, variables, seen).compile()
        temporary.append(compiled.memory_analysis().temp_size_in_bytes)
    assert temporary[1] - temporary[0] <= 4096
