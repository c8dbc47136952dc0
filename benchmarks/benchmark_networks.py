"""The paper's plain networks, as `benchmarks/benchmark.py` times them: their steps and their rollout.

Each case gives what is known of it (a dict), the call to time and the peer's calls, by name.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from vidpred_jax import stages
from vidpred_jax.inference import rollout
from vidpred_jax.models import build, convolution
from vidpred_jax.types import CONTEXT

_WIDTHS = flags.DEFINE_list("widths", "16,32,64", "Features a level of the 3-D U-Net.")
_GENERATOR = flags.DEFINE_list("generator_widths", "64,128,256,512,512", "Of the generator.")
_BATCH = flags.DEFINE_integer("batch_size", 4, "Clips (stage 1, rollout) or frames (stage 2).")
_HORIZON = flags.DEFINE_integer("horizon", 32, "Frames of the rollout.", lower_bound=1)
_LEARNING_RATE = 2e-4


def step(stage: str, size: int, precision: str, peer):
    """Forward, L1, backward and Adam of one network."""
    module, variables, (x, *rest), fields = _network(stage, size, precision)
    target, tx = _noise(2, x.shape), optax.adam(_LEARNING_RATE)
    train = {} if stage == "fusion" else {"train": True, "mutable": ["batch_stats"]}

    def update(state, x, target):
        variables, moments = state

        def loss(params):
            raw = module.apply({**variables, "params": params}, x, *rest, **train)
            raw, updated = raw if train else (raw, {})
            return jnp.abs(jnp.tanh(raw) - target).mean(), updated

        (value, updated), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, moments = tx.update(grads, moments)
        params = optax.apply_updates(variables["params"], updates)
        return ({**variables, **updated, "params": params}, moments), value

    state, ours = (variables, tx.init(variables["params"])), jax.device_get(variables)
    forward = lambda v, x: jnp.tanh(module.apply(v, x, *rest))
    # Backward: once for the inputs of each layer, once for its weights.
    gflop = 3 * _gflop(forward, variables, x)
    program, compile_seconds = _compile(update, state, x, target, donate_argnums=0)

    def call():
        nonlocal state
        state, value = program(state, x, target)
        value.block_until_ready()

    frames = _BATCH.value * (CONTEXT if stage == "fusion" else 1)
    found, theirs = _known(program, compile_seconds, gflop, frames), {}
    if peer:
        flat = lambda x: np.asarray(x if stage == "fusion" else x[:, 0])
        make = functools.partial(peer.build, stage, fields, ours["params"])
        theirs, pred = peer.steps(make, flat(x), flat(target), _LEARNING_RATE, precision)
        found["largest_difference"] = float(np.abs(flat(jax.jit(forward)(ours, x)) - pred).max())
    return found, call, theirs


def roll(size: int, precision: str, peer):
    """Both networks fed back over the horizon."""
    predictor, p, (clip,), p_fields = _network("fusion", size, precision)
    translator, t, (one, none, ahead), t_fields = _network("translator", size, precision)

    def make(horizon):
        shift = predictor.shift

        def predict(p, t, clip):
            def keep(new, _, call):
                ahead = rollout.steps_ahead(call, shift, len(clip))
                return new, jnp.tanh(translator.apply(t, new, none, ahead))

            advance = lambda clip, call: (jnp.tanh(predictor.apply(p, clip)[:, -shift:]), None)
            return rollout.roll(advance, keep, clip, shift, horizon)

        return _compile(predict, p, t, clip)

    horizon = _HORIZON.value
    program, compile_seconds = make(horizon)
    call = lambda: program(p, t, clip)[1].block_until_ready()
    each = _gflop(predictor.apply, p, clip) + _gflop(translator.apply, t, one, none, ahead)
    found = _known(program, compile_seconds, horizon * each, _BATCH.value * horizon)
    memory = {h: make(h)[0].memory_analysis() for h in (horizon, 16 * horizon)}
    mib = lambda size: round(size / 2**20, 1)
    found["mib_of_horizons"] = {
        h: {"output": mib(m.output_size_in_bytes), "temporary": mib(m.temp_size_in_bytes)}
        for h, m in memory.items()
    }
    theirs = {}
    if peer:
        pair = (("fusion", p_fields, p), ("translator", t_fields, t))
        pair = [peer.build(name, f, jax.device_get(v["params"])).eval() for name, f, v in pair]
        theirs = peer.rollouts(pair, np.asarray(clip), horizon, precision)
    return found, call, theirs


CASES = {
    "stage_1_step": functools.partial(step, "fusion"),
    "stage_2_step": functools.partial(step, "translator"),
    "rollout": roll,
}


def _network(stage, size, precision):
    """(module, variables, inputs, fields) of a plain network; its first input is noise."""
    n = _BATCH.value
    if stage == "fusion":
        widths = tuple(map(int, _WIDTHS.value))
        fields = {"widths": widths, "time_strides": (2,) * (len(widths) - 1)}
        inputs = (_noise(1, (n, CONTEXT, size, size, 3)),)
    else:
        fields = {"widths": tuple(map(int, _GENERATOR.value)), "dropout": 0.0}
        empty, ahead = jnp.zeros((n, 0, size, size, 6)), jnp.ones((n, 1))
        inputs = (_noise(1, (n, 1, size, size, 3)), empty, ahead)
    own = build.network_fields({"precision": precision, "model": fields})
    module = build.make_network(stages.get(stage), own, size, size)
    return module, jax.jit(module.init)(jax.random.key(0), *inputs), inputs, fields


def _noise(seed, shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def _compile(function, *inputs, **options):
    """(the program for these inputs, seconds)."""
    begin = time.perf_counter()
    program = jax.jit(function, **options).lower(*inputs).compile()
    return program, time.perf_counter() - begin


def _gflop(function, *args) -> float:
    """Of one call, by XLA's cost analysis of native convolutions on a CPU."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with convolution.form("native"), jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.jit(function).lower(*shapes).cost_analysis()["flops"] / 1e9


def peak_mib(program) -> int:
    """Arguments, results and temporaries of a program; donated ones once."""
    memory = program.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return peak + memory.temp_size_in_bytes - memory.alias_size_in_bytes >> 20


def _known(program, compile_seconds, gflop, frames) -> dict:
    return {
        "batch_size": _BATCH.value,
        "compile_seconds": round(compile_seconds, 1),
        "peak_mib": peak_mib(program),
        "gflop": round(gflop, 3),
        "frames": frames,
    }
