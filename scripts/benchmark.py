"""How fast this machine trains and predicts, and how near that is to what it could do.

python scripts/benchmark.py                                   # all cases at 64 and 128
python scripts/benchmark.py --cases=stage_1_step,rollout --sizes=128,256 --precisions=bfloat16
python scripts/benchmark.py --peer=torch                      # PyTorch beside it, in turn (extra `bench`)

Cases: `stage_1_step` and `stage_2_step` (forward, backward, Adam) and `rollout` (32 frames, both
networks) of the paper's plain networks, which PyTorch has too; `train_fusion` and `train_translator`,
steps of a preset as train.py makes them, beside the rate of its input. The forms of convolutions and
PyTorch are called in turn. Writes benchmark.json.
"""

import functools
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from vidpred_jax import cli, experiment, flops, parallel, rollout, video_io
from vidpred_jax.datasets import registry
from vidpred_jax.models import build, convolution
from vidpred_jax.types import CONTEXT, InputError

_CASES_OF_NETWORKS = ("stage_1_step", "stage_2_step", "rollout")
_CASES = (*_CASES_OF_NETWORKS, "train_fusion", "train_translator")
_WANTED = flags.DEFINE_list("cases", list(_CASES), f"Any of {', '.join(_CASES)}.")
_SIZES = flags.DEFINE_list("sizes", ["64", "128"], "Picture sizes of the plain networks.")
_PRECISIONS = flags.DEFINE_list("precisions", ["float32"], "Any of float32, tf32, bfloat16.")
_FORMS = flags.DEFINE_list("forms", ["fast"], "Any of fast, native: convolutions on a CPU.")
_WIDTHS = flags.DEFINE_list("widths", ["16", "32", "64"], "Features a level of the 3-D U-Net.")
_GENERATOR = flags.DEFINE_list(
    "generator_widths", ["64", "128", "256", "512", "512"], "Features a level of the generator."
)
_BATCH = flags.DEFINE_integer("batch_size", 4, "Clips (stage 1, rollout) or frames (stage 2).")
_HORIZON = flags.DEFINE_integer("horizon", 32, "Frames of the rollout.", lower_bound=1)
_PRESET = flags.DEFINE_string("preset", "", "Of the train cases; default as train.py.")
_FUSION_RUN = flags.DEFINE_string(
    "fusion_run", None, "Stage 1 whose rollouts train_translator sees; none by default."
)
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where data sets are, for the train cases.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls after two to warm up.", lower_bound=1)
_PEER = flags.DEFINE_enum("peer", None, ["torch"], "Also time PyTorch, in turn with ours.")
_COMPILE = flags.DEFINE_bool("peer_compile", None, "torch.compile too; default where it is a GPU.")
_PROFILE = flags.DEFINE_string(
    "profile", None, "Folder for a trace of each case (TensorBoard, Perfetto)."
)
_OUTPUT = flags.DEFINE_string("output", "benchmark", "Folder of benchmark.json.")
_LEARNING_RATE = 2e-4


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    video_io.check_writable(output)
    _check(_WANTED.value, _CASES, "cases")
    _check(_PRECISIONS.value, build.PRECISIONS, "precisions")
    _check(_FORMS.value, convolution.FORMS, "forms")
    peer = _import_peer() if _PEER.value else None
    report = {
        "command": " ".join(["python", *sys.argv]),
        "machine": {
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "cpus": os.cpu_count(),
            "jax": jax.__version__,
            **({"torch": peer.torch.__version__} if peer else {}),
        },
        "tuned_memory": "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""),
        "ceiling_gflops": {p: round(ceiling(p)) for p in _PRECISIONS.value},
        "cases": [],
    }
    print(f"matmul ceiling, GFLOP/s: {report['ceiling_gflops']}", flush=True)
    for precision in _PRECISIONS.value:
        for case in _WANTED.value:
            sizes = map(int, _SIZES.value) if case in _CASES_OF_NETWORKS else [None]
            for size in sizes:
                for found in _measure(case, size, precision, peer):
                    limit = report["ceiling_gflops"][precision]
                    if "gflop" in found:
                        share = found["gflop"] / found["milliseconds"] * 1e3 / limit
                        found["share_of_ceiling"] = round(share, 3)
                    report["cases"].append(found)
                    print(json.dumps(found), flush=True)
                video_io.write_text(output / "benchmark.json", json.dumps(report, indent=1) + "\n")


def _check(values, known, name):
    for value in values:
        if value not in known:
            raise InputError(f"--{name} ({value!r}) must be some of {', '.join(known)}")


def _import_peer():
    if importlib.util.find_spec("torch") is None:
        raise InputError("--peer=torch needs PyTorch: pip install -e '.[bench]'")
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    import torch_peer

    return torch_peer


def ceiling(precision: str) -> float:
    """GFLOP/s of the largest product of two matrices, what convolutions may come near."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    x = jnp.ones((size, size), dtype)
    with build.numerics({"precision": precision}):
        product = jax.jit(lambda x: x @ x).lower(x).compile()
    seconds = _time({"ours": lambda: product(x).block_until_ready()}, 5)["ours"]
    return 2 * size**3 / min(seconds) / 1e9


def _time(calls: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of each call, one after the other in turn."""
    seconds = {name: [] for name in calls}
    for number in range(repeats + 2):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if number >= 2:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def _measure(case, size, precision, peer) -> list[dict]:
    """What was found of each form of convolutions; all of them and the peer are called in turn."""
    founds, calls, theirs = [], {}, {}
    for form in _FORMS.value:
        numerics = {"precision": precision, "convolutions": form}
        with build.numerics(numerics):
            if case.startswith("train_"):
                found, call = _train_case(case.removeprefix("train_"), numerics)
            else:
                found, call, made = _CASE_MAKERS[case](size, precision, None if theirs else peer)
                theirs = theirs or made
        calls[form] = _within(numerics, call)
        founds.append({"case": case, "size": size, **numerics, **found})
    seconds = _time({**calls, **theirs}, _REPEATS.value)
    for found in founds:
        form = found["convolutions"]
        if _PROFILE.value:
            with jax.profiler.trace(f"{_PROFILE.value}/{case}_{found['size']}_{form}"):
                calls[form]()
        ours = statistics.median(seconds[form])
        found["milliseconds"] = round(1e3 * ours, 2)
        found["fastest_milliseconds"] = round(1e3 * min(seconds[form]), 2)
        for name in seconds:
            if name == form:
                continue
            median = statistics.median(seconds[name])
            found[f"{name}_milliseconds"] = round(1e3 * median, 2)
            found[f"times_{name}"] = round(median / ours, 2)
        if "frames" in found:
            found["frames_per_second"] = round(found.pop("frames") / ours, 1)
        for prefix in ("first_epoch_", ""):
            if rate := found.get(f"{prefix}batches_per_second"):
                found[f"{prefix}input_times_step_rate"] = round(rate * ours, 1)
    return founds


def _within(numerics, call):
    """What is traced first while it runs, or looked up again, is as `numerics` say."""

    def run():
        with build.numerics(numerics):
            call()

    return run


def _compile(function, *inputs, **options):
    """(the program for these inputs, seconds)."""
    begin = time.perf_counter()
    program = jax.jit(function, **options).lower(*inputs).compile()
    return program, time.perf_counter() - begin


def _known(program, compile_seconds, gflop, frames) -> dict:
    return {
        "batch_size": _BATCH.value,
        "compile_seconds": round(compile_seconds, 1),
        "peak_mib": _program_bytes(program) >> 20,
        "gflop": round(gflop, 3),
        "frames": frames,
    }


def _program_bytes(program) -> int:
    """Arguments, results and temporaries of a compiled program; donated ones once."""
    memory = program.memory_analysis()
    total = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return total + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def _network(stage, size, precision):
    """(module, variables, example inputs) of a plain network."""
    config = {"precision": precision, "model": {}}
    if stage == "fusion":
        widths = tuple(map(int, _WIDTHS.value))
        config["model"] = {"widths": widths, "time_strides": (2,) * (len(widths) - 1)}
        inputs = (jnp.zeros((_BATCH.value, CONTEXT, size, size, 3)),)
    else:
        config["model"] = {"widths": tuple(map(int, _GENERATOR.value)), "dropout": 0.0}
        n = _BATCH.value
        inputs = (
            jnp.zeros((n, 1, size, size, 3)),
            jnp.zeros((n, 0, size, size, 6)),
            jnp.ones((n, 1)),
        )
    module = build.make_generator(stage, build.network_fields(config), size, size)
    return module, jax.jit(module.init)(jax.random.key(0), *inputs), inputs, config["model"]


def _noise(seed, shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def _step_case(stage, size, precision, peer):
    """Forward, L1, backward and Adam of one network: (what is known of it, call, peers' calls)."""
    module, variables, inputs, fields = _network(stage, size, precision)
    x, target, rest = _noise(1, inputs[0].shape), _noise(2, inputs[0].shape), inputs[1:]
    tx = optax.adam(_LEARNING_RATE)
    train = {} if stage == "fusion" else {"train": True, "mutable": ["batch_stats"]}

    def step(state, x, target):
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
    by_layer = flops.conv_gflop(module, variables, x, *rest)
    by_xla = flops.xla_gflop(lambda v, x: module.apply(v, x, *rest), variables, x)
    program, compile_seconds = _compile(step, state, x, target, donate_argnums=0)

    def call():
        nonlocal state
        state, value = program(state, x, target)
        value.block_until_ready()

    # Backward: once for the inputs of each layer, once for its weights.
    frames = _BATCH.value * (CONTEXT if stage == "fusion" else 1)
    found = _known(program, compile_seconds, 3 * by_layer, frames)
    found["xla_over_layers"], theirs = round(by_xla / by_layer, 3), {}
    if peer:
        flat = lambda x: x if stage == "fusion" else x[:, 0]
        arrays = [np.asarray(flat(a)) for a in (x, target)]
        theirs, pred = _torch_steps(peer, stage, fields, params, arrays, precision)
        mine = flat(jax.jit(module.apply)({**variables, "params": params}, x, *rest))
        found["largest_difference"] = float(np.abs(np.asarray(mine) - pred).max())
    return found, call, theirs


def _torch_steps(peer, stage, fields, params, arrays, precision):
    device = "cuda" if peer.torch.cuda.is_available() else "cpu"
    x, target = (peer.to_tensor(a, device) for a in arrays)
    calls, pred = {}, None
    compiled = device == "cuda" if _COMPILE.value is None else _COMPILE.value
    for name in ("torch", "torch_compiled")[: 1 + compiled]:
        module = peer.build(stage, fields, params, device)
        if pred is None:
            with peer.torch.no_grad(), peer.numerics(device, precision):
                pred = peer.to_array(module.eval()(x))
            module.train()
        run = peer.torch.compile(module) if name == "torch_compiled" else module
        step = peer.train_step(run, _LEARNING_RATE)

        def call(step=step):
            with peer.numerics(device, precision):
                step(x, target)
            peer.synchronize(device)

        calls[name] = call
    return calls, pred


def _rollout_case(size, precision, peer):
    predictor, p, (clip,), p_fields = _network("fusion", size, precision)
    translator, t, (_, none, _), t_fields = _network("translator", size, precision)
    clip = _noise(1, clip.shape)

    def make(horizon):
        roll = rollout.make_rollout(predictor, horizon, translate=translator.apply)
        return _compile(roll, p["params"], clip, t, none)

    program, compile_seconds = make(_HORIZON.value)
    call = lambda: program(p["params"], clip, t, none)[1].block_until_ready()
    one = jnp.zeros((_BATCH.value, 1, size, size, 3))
    each = flops.conv_gflop(predictor, p, clip)
    each += flops.conv_gflop(translator, t, one, none, jnp.ones((_BATCH.value, 1)))
    sizes = {h: make(h)[0].memory_analysis() for h in (_HORIZON.value, 16 * _HORIZON.value)}
    frames = _BATCH.value * _HORIZON.value
    found = _known(program, compile_seconds, _HORIZON.value * each, frames)
    found["mib_of_horizons"] = {
        h: {
            "output": round(m.output_size_in_bytes / 2**20, 1),
            "temporary": round(m.temp_size_in_bytes / 2**20, 1),
        }
        for h, m in sizes.items()
    }
    theirs = {}
    if peer:
        device = "cuda" if peer.torch.cuda.is_available() else "cpu"
        networks = [
            peer.build(stage, fields, jax.device_get(v["params"]), device).eval()
            for stage, fields, v in (("fusion", p_fields, p), ("translator", t_fields, t))
        ]
        context = peer.to_tensor(np.asarray(clip), device)
        versions = {"torch": networks}
        if device == "cuda" if _COMPILE.value is None else _COMPILE.value:
            versions["torch_compiled"] = [peer.torch.compile(n) for n in networks]
        for name, pair in versions.items():

            def theirs_call(pair=pair):
                with peer.numerics(device, precision):
                    peer.rollout(*pair, context, _HORIZON.value)
                peer.synchronize(device)

            theirs[name] = theirs_call
    return found, call, theirs


_CASE_MAKERS = {
    "stage_1_step": functools.partial(_step_case, "fusion"),
    "stage_2_step": functools.partial(_step_case, "translator"),
    "rollout": _rollout_case,
}


def _train_case(stage, numerics):
    """A step of a preset as train.py makes it, on one batch: (what is known of it and its input, call)."""
    path = pathlib.Path(__file__).parents[1] / "configs" / f"{stage}.py"
    config = cli.load_config(path, _PRESET.value)
    config.update(numerics)
    if _FUSION_RUN.value and stage == "translator":
        config.update(fusion_run=_FUSION_RUN.value)
    else:
        config.update(predicted_fraction=0.0)
    config["data"]["data_dir"] = _DATA_DIR.value
    made = experiment.make(config, axis_name=parallel.AXIS, log=lambda line: None)
    batch = next(made.batches)
    batch.pop("index")
    rate = lambda least: _batches_per_second(made.batches, least)
    first = rate(20)
    data = config["data"]
    source = registry.open_split(
        data["name"],
        "train",
        data_dir=data["data_dir"],
        config=data["config"],
        log=lambda line: None,
    )
    rate(len(source) // config["batch_size"])  # From here on clips come out of the cache.
    later = rate(20)
    state, split = parallel.replicate(made.state), parallel.split(batch)
    begin = time.perf_counter()
    step = parallel.parallelize(made.step)
    state, metrics = step(state, split)
    jax.block_until_ready(metrics)
    compile_seconds = time.perf_counter() - begin

    def call():
        nonlocal state
        state, metrics = step(state, split)
        jax.block_until_ready(metrics)

    found = {
        "preset": _PRESET.value or "default",
        "size": config["data"]["height"],
        "batch_size": config["batch_size"],
        "compile_seconds": round(compile_seconds, 1),
        "first_epoch_batches_per_second": round(first, 1),
        "batches_per_second": round(later, 1),
    }
    return found, call


def _batches_per_second(batches, least: int) -> float:
    """Over at least so many batches and 3 s."""
    begin, count = time.perf_counter(), 0
    while count < least or time.perf_counter() - begin < 3:
        next(batches)
        count += 1
    return count / (time.perf_counter() - begin)


if __name__ == "__main__":
    cli.run(main)
