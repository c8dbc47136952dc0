"""How fast this machine trains and predicts, and how near that is to what it could do.

python benchmarks/benchmark.py                                   # all cases at 64 and 128
python benchmarks/benchmark.py --cases=stage_1_step,rollout --sizes=128,256 --precisions=bfloat16
python benchmarks/benchmark.py --peer=torch                      # PyTorch beside it (extra `bench`)

Cases: `stage_1_step`, `stage_2_step` (forward, backward, Adam) and `rollout` (both networks) of the paper's
plain networks, which PyTorch has too; `train_fusion` and `train_translator`, a preset's steps beside the rate
of its input. Forms of convolutions and PyTorch are called in turn. Writes benchmark.json.
"""

import gc
import importlib.util
import json
import os
import pathlib
import statistics
import time

import benchmark_networks
import jax
import jax.numpy as jnp
from absl import flags

from vidpred_jax import startup
from vidpred_jax.cli import common
from vidpred_jax.data import writing
from vidpred_jax.models import build, convolution
from vidpred_jax.training import experiment, parallel
from vidpred_jax.types import InputError, UserError

CASES = (*benchmark_networks.CASES, "train_fusion", "train_translator")
_WANTED = flags.DEFINE_list("cases", list(CASES), f"Any of {', '.join(CASES)}.")
_SIZES = flags.DEFINE_list("sizes", ["64", "128"], "Picture sizes of the plain networks.")
_PRECISIONS = flags.DEFINE_list("precisions", ["float32"], "Any of float32, tf32, bfloat16.")
_FORMS = flags.DEFINE_list("forms", ["fast"], "Any of fast, native: convolutions on a CPU.")
_PRESET = flags.DEFINE_string("preset", "", "Of the train cases; default as train.py.")
_FUSION_RUN = flags.DEFINE_string("fusion_run", None, "Whose rollouts train_translator sees.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where data sets are, for the train cases.")
_REPEATS = flags.DEFINE_integer("repeats", 7, "Timed calls after two to warm up.", lower_bound=1)
_PEER = flags.DEFINE_enum("peer", None, ["torch"], "Also time PyTorch, in turn with ours.")
_OUTPUT = flags.DEFINE_string("output", "benchmark", "Folder of benchmark.json.")


def main(_):
    output, peer = pathlib.Path(_OUTPUT.value), None
    writing.check_writable(output)
    for flag, values in ((_WANTED, CASES), (_PRECISIONS, build.PRECISIONS), (_FORMS, convolution.FORMS)):
        for value in set(flag.value) - set(values):
            raise InputError(f"--{flag.name} ({value!r}) must be some of {', '.join(values)}")
    if _PEER.value:
        if importlib.util.find_spec("torch") is None:
            raise InputError("--peer=torch needs PyTorch: pip install -e '.[bench]'")
        # Else JAX takes most of a GPU's memory at once, and PyTorch finds none.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import torch_peer as peer
    report = {
        "command": common.command(),
        "machine": common.machine() | ({"torch": peer.torch.__version__} if peer else {}),
        "cases": [],
    }
    wanted = [
        (case, size, precision)
        for precision in _PRECISIONS.value
        for case in _WANTED.value
        for size in (map(int, _SIZES.value) if case in benchmark_networks.CASES else [None])
    ]
    for case in wanted:
        for found in _try(*case, peer):
            report["cases"].append(found)
            print(json.dumps(found), flush=True)
        writing.write_text(output / "benchmark.json", json.dumps(report, indent=1) + "\n")
    if failed := sum("error" in found for found in report["cases"]):
        raise UserError(f"{failed} of {len(report['cases'])} cases failed, as benchmark.json tells")


def _try(case, size, precision, peer) -> list[dict]:
    """What was measured, or why it could not be (a GPU's memory is full); the other cases go on."""
    try:
        return _measure(case, size, precision, peer)
    except RuntimeError as error:
        error = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        return [{"case": case, "size": size, "precision": precision, "error": error}]
    finally:
        gc.collect()
        if peer:
            peer.torch.cuda.empty_cache()


def _measure(case, size, precision, peer) -> list[dict]:
    """What was found of each form of convolutions; all of them and the peer are called in turn."""
    founds, calls, theirs = [], {}, {}
    for form in _FORMS.value:
        numerics = {"precision": precision, "convolutions": form}
        with build.numerics(numerics):
            if case in benchmark_networks.CASES:
                found, call, theirs = benchmark_networks.CASES[case](size, precision, peer)
            else:
                found, call = _train_case(case.removeprefix("train_"), numerics)
        calls[form] = build.numerics(numerics)(call)  # Compiled programs are looked up by it.
        founds.append({"case": case, "size": size, **numerics, **found})
    seconds = _time({**calls, **theirs}, _REPEATS.value)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    limit = ceiling(precision)
    for found in founds:
        ours = medians.pop(form := found["convolutions"])
        found["milliseconds"] = round(1e3 * ours, 2)
        found["fastest_milliseconds"] = round(1e3 * min(seconds[form]), 2)
        for name, median in medians.items():
            found[f"{name}_milliseconds"] = round(1e3 * median, 2)
            found[f"times_{name}"] = round(median / ours, 2)
        medians[form] = ours
        if "gflop" in found:
            found["ceiling_gflops"] = round(limit)
            found["share_of_ceiling"] = round(found["gflop"] / ours / limit, 3)
            found["frames_per_second"] = round(found.pop("frames") / ours, 1)
        else:
            for name in ("first_epoch_", ""):
                rate = found[f"{name}batches_per_second"]
                found[f"{name}input_times_step_rate"] = round(rate * ours, 1)
    return founds


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


def ceiling(precision: str) -> float:
    """GFLOP/s of the largest product of two matrices, what convolutions may come near."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((size, size), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
    with build.numerics({"precision": precision}):
        product = jax.jit(lambda x: x @ x).lower(x).compile()
    seconds = _time({"ours": lambda: product(x).block_until_ready()}, 5)["ours"]
    return 2 * size**3 / min(seconds) / 1e9


def _train_case(stage, numerics):
    """A step of a preset as train.py makes it, on one batch: (what is known of it and its input, call)."""
    path = pathlib.Path(__file__).parents[1] / "configs" / f"{stage}.py"
    config = common.load_config(path, _PRESET.value) | numerics
    if stage == "translator":
        config.update({"fusion_run": _FUSION_RUN.value} if _FUSION_RUN.value else {"predicted_fraction": 0.0})
    config["data"]["data_dir"] = _DATA_DIR.value
    made = experiment.make(config, axis_name=parallel.AXIS, log=lambda line: None)
    batch = next(made.batches)
    batch.pop("index")
    first = _batches_per_second(made.batches, 20)
    source = experiment.train_source(made.config, lambda line: None)
    clips = len(source) if hasattr(source, "__len__") else 0  # Some draw theirs.
    _batches_per_second(made.batches, clips // config["batch_size"])  # Now they come from the cache.
    later = _batches_per_second(made.batches, 20)
    state, split = parallel.replicate(made.state), parallel.split(batch)
    begin = time.perf_counter()
    step = parallel.parallelize(made.step).lower(state, split).compile()
    found = {
        "preset": _PRESET.value or "default",
        "size": config["data"]["height"],
        "batch_size": config["batch_size"],
        "parameters": sum(x.size for x in jax.tree.leaves(made.state.params)),
        "compile_seconds": round(time.perf_counter() - begin, 1),
        "peak_mib": benchmark_networks.peak_mib(step),
        "first_epoch_batches_per_second": round(first, 1),
        "batches_per_second": round(later, 1),
    }

    def call():
        nonlocal state
        state, metrics = step(state, split)
        jax.block_until_ready(metrics)

    return found, call


def _batches_per_second(batches, least: int) -> float:
    """Over at least so many batches and 3 s."""
    begin, count = time.perf_counter(), 0
    while count < least or time.perf_counter() - begin < 3:
        next(batches)
        count += 1
    return count / (time.perf_counter() - begin)


if __name__ == "__main__":
    common.run(main, before=startup.use_onednn)  # As train.py does.
