"""Training of stage 3: which stack each step trains, on which frames, and what it averages."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_stack
from small_stack import STACK, make_params

from vidpred_jax.config import SharpeningLoss
from vidpred_jax.models import accompanying, schedules
from vidpred_jax.training import parallel, steps_accompanying

LOSS = steps_accompanying.make_loss(SharpeningLoss(sharpness=0.5))


@pytest.fixture(scope="module")
def frames():
    return small_stack.make_frames()


@pytest.fixture(scope="module")
def pair_update():
    """How one update of the pair, not its first, moves its parameters: `(params, x) -> (moved, metrics)`."""
    first, update = make_training(reference_steps=0)
    update = jax.jit(update)

    def move(params, x):
        after, metrics = update(first.replace(params={"g": params, "d": {}}, step=jnp.asarray(1)), x)
        return jax.tree.map(lambda a, b: a - b, after.params["g"], params), metrics

    return move


def make_training(reference_steps=2, stack=STACK, size=32):
    first, _ = steps_accompanying.make_training(
        jax.random.key(0),
        stack,
        (size, size),
        loss={"sharpness": 0.5},
        optimizer={"learning_rate": 1e-3},
        num_steps=4,
        reference_steps=reference_steps,
        ema_decay=0.9,
    )
    sgd = dict.fromkeys(accompanying.STACKS, optax.sgd(1e-3))
    update = steps_accompanying.make_update(stack, sgd, LOSS, reference_steps=reference_steps)
    opt_state = {name: sgd[name].init(first.params["g"][name]) for name in accompanying.STACKS}
    return first.replace(opt_state={"g": opt_state, "d": {}}), update


def test_a_level_that_is_behind_counts_four_times(frames, pair_update):
    """A pair equal to its reference is not behind; one that is spoilt in its second level alone is, there."""
    params = make_params(0)
    spoilt = jax.tree.map(jnp.copy, params["p"])
    spoilt["levels_1"]["correction"]["bias"] += 0.5
    ahead, metrics = pair_update({"a": spoilt, "b": spoilt, "p": spoilt}, frames)
    assert float(metrics["behind"]) == 0
    moved, metrics = pair_update({"a": spoilt, "b": spoilt, "p": params["p"]}, frames)
    assert float(metrics["behind"]) == pytest.approx(0.5)
    assert all((x == 0).all() for x in jax.tree.leaves(moved["p"]))  # Frozen.
    for name in ("a", "b"):
        chex.assert_trees_all_close(moved[name]["levels_0"], ahead[name]["levels_0"], atol=1e-7)
        four_times = jax.tree.map(lambda x: 4 * x, ahead[name]["levels_1"])
        chex.assert_trees_all_close(moved[name]["levels_1"], four_times, rtol=1e-2, atol=1e-6)
        assert all((x != 0).any() for x in jax.tree.leaves(moved[name]))


def test_the_reference_is_trained_first_then_the_pair(frames):
    state, update = make_training()
    update = jax.jit(update)
    for step in range(4):
        before = state.params["g"]
        if step == 2:  # The pair starts from the reference.
            before = accompanying.start_pair(before)
            chex.assert_trees_all_equal(before["a"], before["p"])
            chex.assert_trees_all_close(
                before["b"], jax.tree.map(lambda p, b: p + b / 10, before["p"], state.params["g"]["b"])
            )
        state, _ = update(state, frames)
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params["g"], before)
        for name, trained in {"p": step < 2, "a": step >= 2, "b": step >= 2}.items():
            assert all(x == trained for x in jax.tree.leaves(moved[name])), (step, name)


def test_what_is_trained_sharpens(frames):
    state, update = make_training(reference_steps=1)
    update, values = jax.jit(update), []
    for _ in range(3):
        state, metrics = update(state, frames)
        values.append(float(metrics["loss"]))
    assert np.isfinite(values).all()
    params = state.params["g"]
    assert set(params) == set(accompanying.STACKS)
    schedule = schedules.freeze_schedule(STACK, params, [frames])
    assert schedules.check_schedule(schedule, STACK, "run")
    found = schedules.apply_schedule(STACK, params, schedule, frames.frame, frames.fusion, frames.steps_ahead)
    chex.assert_shape(found, (4, 32, 32, 3))


def test_the_average_moves_with_the_stack_that_is_trained(frames):
    """Two steps to an update: the reference's in steps 1 and 2, then the pair's."""
    first, _ = make_training()
    sgd = optax.MultiSteps(optax.sgd(1e-3), 2).gradient_transformation()
    update = steps_accompanying.make_update(
        STACK, dict.fromkeys(accompanying.STACKS, sgd), LOSS, reference_steps=2
    )
    params = first.params["g"]
    opt_state = {name: sgd.init(params[name]) for name in accompanying.STACKS}
    states = [first.replace(opt_state={"g": opt_state, "d": {}})]
    for _ in range(4):
        states.append(jax.jit(update)(states[-1], frames)[0])
    assert [int(x.updates) for x in states] == [0, 0, 1, 1, 2]
    chex.assert_trees_all_equal(states[1].ema, params)
    blend = lambda decay, old, new: jax.tree.map(lambda o, n: decay * o + (1 - decay) * n, old, new)
    new = states[2].params["g"]
    chex.assert_trees_all_close(states[2].ema["p"], blend(0.1, params["p"], new["p"]), atol=1e-6)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (params, new)), strict=True))
    begun = accompanying.start_pair(new)  # Where the averages of the pair begin.
    chex.assert_trees_all_equal(states[3].ema, begun)
    expected = blend(2 / 11, begun, states[4].params["g"])
    chex.assert_trees_all_close(states[4].ema, expected, atol=1e-6)


def test_four_devices_equal_one(frames):
    """With SGD: Adam amplifies float noise. The reference's step, then the pair's."""
    first, update = make_training(reference_steps=1)
    step = lambda state, batch, axis_name=None: update(state, batch, axis_name)
    alone = first
    together, run = parallel.replicate(first), parallel.parallelize(step)
    batch = jax.tree.map(lambda x: x.reshape(4, 1, *x.shape[1:]), frames)
    for _ in range(2):
        alone, _ = jax.jit(step)(alone, frames)
        together, _ = run(together, batch)
    chex.assert_trees_all_close(together.params["g"], alone.params["g"], rtol=1e-4, atol=1e-6)


def test_one_batch_is_overfitted(frames):
    state, update = steps_accompanying.make_training(
        jax.random.key(0),
        STACK,
        (32, 32),
        loss={},
        optimizer={"learning_rate": 1e-2, "b1": 0.9},
        num_steps=120,
        reference_steps=60,
        ema_decay=0.9,
    )
    before = float(accompanying.level_psnr(frames.frame, frames.target, 1).mean())
    update = jax.jit(update)
    for step in range(120):
        state, metrics = update(state, frames)
        if step == 59:
            reference = float(metrics["psnr"])
    assert reference > before + 0.5 and float(metrics["psnr"]) > reference + 0.2
