"""The paper's plain networks, as `benchmarks/benchmark.py` times them: their steps and their rollout.

Each case gives what is known of it (a dict), the call to time and the peers' calls, by name.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vidpred_jax import stages
from vidpred_jax.inference import rollout
from vidpred_jax.models import build, convolution
from vidpred_jax.types import CONTEXT

_LEARNING_RATE = 2e-4


@dataclasses.dataclass(frozen=True)
class Options:
    """batch_size: clips, or frames of stage 2. peer_compile: torch.compile too; None: on a GPU."""

    batch_size: int
    horizon: int
    widths: tuple[int, ...]
    generator_widths: tuple[int, ...]
    peer_compile: bool | None = None


def _compile(function, *inputs, **options):
    """(the program for these inputs, seconds)."""
    begin = time.perf_counter()
    program = jax.jit(function, **options).lower(*inputs).compile()
    return program, time.perf_counter() - begin


def _known(options, program, compile_seconds, gflop, frames) -> dict:
    return {
        "batch_size": options.batch_size,
        "compile_seconds": round(compile_seconds, 1),
        "peak_mib": _program_bytes(program) >> 20,
        "gflop": round(gflop, 3),
        "frames": frames,
    }


def _gflop(function, *args) -> float:
    """Of one call, by XLA's cost analysis of native convolutions on a CPU."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with convolution.form("native"), jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.jit(function).lower(*shapes).cost_analysis()["flops"] / 1e9


def _program_bytes(program) -> int:
    """Arguments, results and temporaries of a compiled program; donated ones once."""
    memory = program.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return total + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def _network(options, stage, size, precision):
    """(module, variables, example inputs) of a plain network."""
    config = {"precision": precision, "model": {}}
    if stage == "fusion":
        widths = options.widths
        config["model"] = {"widths": widths, "time_strides": (2,) * (len(widths) - 1)}
        inputs = (jnp.zeros((options.batch_size, CONTEXT, size, size, 3)),)
    else:
        config["model"] = {"widths": options.generator_widths, "dropout": 0.0}
        n = options.batch_size
        inputs = (
            jnp.zeros((n, 1, size, size, 3)),
            jnp.zeros((n, 0, size, size, 6)),
            jnp.ones((n, 1)),
        )
    fields = build.network_fields(config)
    module = build.make_network(stages.get(stage), fields, size, size)
    return module, jax.jit(module.init)(jax.random.key(0), *inputs), inputs, config["model"]


def _noise(seed, shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def step(options, stage, size, precision, peer):
    """Forward, L1, backward and Adam of one network: (what is known of it, call, peers' calls)."""
    module, variables, inputs, fields = _network(options, stage, size, precision)
    x, target, rest = _noise(1, inputs[0].shape), _noise(2, inputs[0].shape), inputs[1:]
    tx = optax.adam(_LEARNING_RATE)
    train = {} if stage == "fusion" else {"train": True, "mutable": ["batch_stats"]}

    def update(state, x, target):
        variables, moments = state

        def loss(params):
            pred = module.apply({**variables, "params": params}, x, *rest, **train)
            pred, updated = pred if train else (pred, {})
            return jnp.abs(pred - target).mean(), updated

        (value, updated), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        updates, moments = tx.update(grads, moments)
        params = optax.apply_updates(variables["params"], updates)
        return ({**variables, **updated, "params": params}, moments), value

    state = (variables, tx.init(variables["params"]))
    params = jax.device_get(variables["params"])
    forward = _gflop(lambda v, x: module.apply(v, x, *rest), variables, x)
    program, compile_seconds = _compile(update, state, x, target, donate_argnums=0)

    def call():
        nonlocal state
        state, value = program(state, x, target)
        value.block_until_ready()

    # Backward: once for the inputs of each layer, once for its weights.
    frames = options.batch_size * (CONTEXT if stage == "fusion" else 1)
    found = _known(options, program, compile_seconds, 3 * forward, frames)
    theirs = {}
    if peer:
        flat = lambda x: x if stage == "fusion" else x[:, 0]
        arrays = [np.asarray(flat(a)) for a in (x, target)]
        theirs, pred = _torch_steps(options, peer, stage, fields, params, arrays, precision)
        mine = flat(jax.jit(module.apply)({**variables, "params": params}, x, *rest))
        found["largest_difference"] = float(np.abs(np.asarray(mine) - pred).max())
    return found, call, theirs


def _torch_steps(options, peer, stage, fields, params, arrays, precision):
    device, names = _peers(options, peer)
    x, target = (peer.to_tensor(a, device) for a in arrays)
    calls, pred = {}, None
    for name in names:
        module = peer.build(stage, fields, params, device)
        if pred is None:
            with peer.torch.no_grad(), peer.numerics(device, precision):
                pred = peer.to_array(module.eval()(x))
            module.train()
        run = peer.torch.compile(module) if name == "torch_compiled" else module
        update = peer.train_step(run, _LEARNING_RATE)

        def call(update=update):
            with peer.numerics(device, precision):
                update(x, target)
            peer.synchronize(device)

        calls[name] = call
    return calls, pred


def _peers(options, peer):
    """(device, names of the peers to time there)."""
    device = "cuda" if peer.torch.cuda.is_available() else "cpu"
    compiled = device == "cuda" if options.peer_compile is None else options.peer_compile
    return device, ("torch", "torch_compiled")[: 1 + compiled]


def roll(options, size, precision, peer):
    """Both networks fed back over the horizon: as `step`."""
    predictor, p, (clip,), p_fields = _network(options, "fusion", size, precision)
    translator, t, (_, none, _), t_fields = _network(options, "translator", size, precision)
    clip = _noise(1, clip.shape)

    def make(horizon):
        roll = rollout.make_rollout(predictor, horizon)

        def predict(p, t, clip):
            return roll(p["params"], clip, lambda x, ahead: translator.apply(t, x, none, ahead))

        return _compile(predict, p, t, clip)

    program, compile_seconds = make(options.horizon)
    call = lambda: program(p, t, clip)[1].block_until_ready()
    one, ahead = (
        jnp.zeros((options.batch_size, 1, size, size, 3)),
        jnp.ones((options.batch_size, 1)),
    )
    each = _gflop(predictor.apply, p, clip) + _gflop(translator.apply, t, one, none, ahead)
    sizes = {h: make(h)[0].memory_analysis() for h in (options.horizon, 16 * options.horizon)}
    frames = options.batch_size * options.horizon
    found = _known(options, program, compile_seconds, options.horizon * each, frames)
    found["mib_of_horizons"] = {
        h: {
            "output": round(m.output_size_in_bytes / 2**20, 1),
            "temporary": round(m.temp_size_in_bytes / 2**20, 1),
        }
        for h, m in sizes.items()
    }
    theirs = {}
    if peer:
        device, names = _peers(options, peer)
        networks = [
            peer.build(stage, fields, jax.device_get(v["params"]), device).eval()
            for stage, fields, v in (("fusion", p_fields, p), ("translator", t_fields, t))
        ]
        context = peer.to_tensor(np.asarray(clip), device)
        for name in names:
            compiled = name == "torch_compiled"
            pair = [peer.torch.compile(n) for n in networks] if compiled else networks

            def theirs_call(pair=pair):
                with peer.numerics(device, precision):
                    peer.rollout(*pair, context, options.horizon)
                peer.synchronize(device)

            theirs[name] = theirs_call
    return found, call, theirs
