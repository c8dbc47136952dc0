"""What more devices would bring: bytes between them per step, and the efficiency these leave.

python scripts/scaling.py                      # predicts 8, 64 and 512 devices, measures 1, 2 and 4
python scripts/scaling.py --devices=8,16 --flops=197e12 --shares=0.2

Counted from the traced step of each preset: what `pmean` sums over the devices, the bytes of a batch,
the operations of a device. Everything else is a model, which docs/scaling.md states. The measurement
splits one batch over simulated devices of this CPU: the work is the same, what is added is overhead.
Writes scaling.json; --page=docs/scaling.md puts its tables there.
"""

import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
from absl import flags
from jax.extend import core

from vidpred_jax import cli, experiment, parallel, video_io
from vidpred_jax.models import build, convolution
from vidpred_jax.types import InputError, UserError

_PRESETS = flags.DEFINE_list(
    "presets",
    ["fusion:full", "fusion:paper", "translator:full", "translator:paper"],
    "Presets of configs/ to count.",
)
_DEVICES = flags.DEFINE_list("devices", ["8", "64", "512"], "Numbers of devices to predict.")
_PER_HOST = flags.DEFINE_integer("per_host", 8, "Devices of a host.", lower_bound=1)
_FLOPS = flags.DEFINE_float("flops", 989e12, "Operations per second of a device at its best.")
_SHARES = flags.DEFINE_list("shares", ["0.35", "0.05"], "Shares of them that a step may reach.")
_INSIDE = flags.DEFINE_float("inside", 450e9, "Bytes per second of a device to others of its host.")
_BETWEEN = flags.DEFINE_float("between", 50e9, "Bytes per second of a device to other hosts.")
_LATENCY = flags.DEFINE_float("latency", 20e-6, "Seconds of a message.")
_MEASURED = flags.DEFINE_list("measured", ["1", "2", "4"], "Simulated devices; empty: none.")
_STEPS = flags.DEFINE_integer("steps", 15, "Timed steps of each.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "scaling", "Folder of scaling.json.")
_PAGE = flags.DEFINE_string("page", None, "Page whose tables are replaced: docs/scaling.md.")
_CHILD = flags.DEFINE_bool("child", False, "Measures on the devices at hand and prints.")
_ROOT = pathlib.Path(__file__).parents[1]
_LINKS = {"psum", "psum_invariant", "all_gather", "all_to_all", "ppermute", "pmax", "pmin"}


def main(_):
    video_io.check_writable(pathlib.Path(_OUTPUT.value))
    for name in _PRESETS.value:
        stage, _, preset = name.partition(":")
        try:
            if stage not in ("fusion", "translator") or not preset:
                raise ValueError("it must be STAGE:PRESET, as fusion:paper")
            cli.load_config(_ROOT / "configs" / f"{stage}.py", preset)
        except ValueError as error:
            raise InputError(f"--presets ({name!r}): {error}") from error
    if _CHILD.value:
        print(json.dumps(_measure()))
        return
    with tempfile.TemporaryDirectory() as data_dir:
        made = {name: _count(*name.split(":"), data_dir) for name in _PRESETS.value}
        measured = {n: _run_child(int(n), data_dir) for n in _MEASURED.value}
    report = {
        "command": " ".join(["python", *sys.argv]),
        "assumed": {
            "flops": _FLOPS.value,
            "shares": [*map(float, _SHARES.value)],
            "per_host": _PER_HOST.value,
            "inside": _INSIDE.value,
            "between": _BETWEEN.value,
            "latency": _LATENCY.value,
        },
        "machine": {"cpus": os.cpu_count(), "jax": jax.__version__},
        "presets": made,
        "measured": measured,
    }
    for found in made.values():
        found["work"] = [_work(found, float(share)) for share in _SHARES.value]
    video_io.write_text(
        pathlib.Path(_OUTPUT.value, "scaling.json"), json.dumps(report, indent=1) + "\n"
    )
    tables = _tables(report)
    if _PAGE.value:
        page = pathlib.Path(_PAGE.value)
        head, rest = page.read_text().split("<!-- scaling -->\n")
        tail = rest.split("<!-- /scaling -->")[1]
        video_io.write_text(page, f"{head}<!-- scaling -->\n{tables}<!-- /scaling -->{tail}")
    print(tables)


def _work(found, share) -> dict:
    """A step where so large a share of a device's operations is reached."""
    seconds = found["gflop"] * 1e9 / (_FLOPS.value * share)
    return {
        "share": share,
        "milliseconds": round(1e3 * seconds, 3),
        "input_bytes_per_second_of_host": found["input_bytes"] / seconds * _PER_HOST.value,
        "efficiency": {
            n: round(efficiency(seconds, found["bytes_reduced"], int(n)), 3) for n in _DEVICES.value
        },
    }


def efficiency(work: float, reduced: int, devices: int) -> float:
    """Share of a step that is work (seconds), if nothing of the exchange is hidden behind it.

    A reduction by rings, first within a host, then between hosts, where each device carries its
    share: 2 (n - 1) / n of the bytes go through each link. Latency grows with the logarithm.
    """
    inside = min(devices, _PER_HOST.value)
    hosts = math.ceil(devices / inside)
    seconds = 2 * (inside - 1) / inside * reduced / _INSIDE.value
    seconds += 2 * (hosts - 1) / hosts * reduced / inside / _BETWEEN.value
    seconds += 2 * math.log2(devices) * _LATENCY.value * (devices > 1)
    return work / (work + seconds)


def _config(stage, preset, data_dir):
    config = cli.load_config(_ROOT / "configs" / f"{stage}.py", preset)
    config.update(predicted_fraction=0.0)
    config["data"].update(name="sprites", config="tiny", data_dir=data_dir)
    return config


def _count(stage, preset, data_dir) -> dict:
    """Of one device and one step; a preset's batch is that of one host."""
    print(f"tracing {stage}:{preset}", flush=True)
    config = _config(stage, preset, data_dir)
    local = max(config["batch_size"] // _PER_HOST.value, 1)
    data = config["data"]
    shape = (local, data["num_frames"], data["height"], data["width"], 3)
    batch = {field: jax.ShapeDtypeStruct(shape, np.uint8) for field in experiment.fields_of(stage)}
    lengths = {"length": jax.ShapeDtypeStruct((local,), np.int32)}
    found = {}

    def trace(axis_name):
        def make():
            made = experiment.make(config, axis_name=axis_name, log=lambda line: None)
            found["step"] = lambda s, b: made.step(s, b, axis_name=axis_name)
            return made.state

        return jax.eval_shape(make)

    with build.numerics(config), convolution.form("native"):
        state = trace(parallel.AXIS)
        axes = [(parallel.AXIS, _PER_HOST.value)]
        jaxpr = jax.make_jaxpr(found["step"], axis_env=axes)(state, {**batch, **lengths})
        state = trace(None)
        flops = jax.jit(found["step"]).lower(state, {**batch, **lengths}).cost_analysis()["flops"]
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    return {
        "parameters": parameters,
        "clips_a_device": local,
        "bytes_reduced": _reduced(jaxpr.jaxpr),
        "input_bytes": sum(math.prod(x.shape) for x in batch.values()),
        "gflop": round(flops / 1e9, 1),
    }


def _reduced(jaxpr) -> int:
    """Bytes that a program and those within it hand to collectives."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name in _LINKS:
            total += sum(v.aval.size * v.aval.dtype.itemsize for v in equation.invars)
        inner = sum(map(_reduced, core.jaxprs_in_params(equation.params)))
        total += inner * equation.params.get("length", 1)
    return total


def _run_child(devices: int, data_dir) -> dict:
    print(f"measuring {devices} simulated devices", flush=True)
    many = f"--xla_force_host_platform_device_count={devices}"
    own = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {many}", "DATA_DIR": data_dir}
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **own}
    command = [sys.executable, __file__, "--child", f"--steps={_STEPS.value}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"measuring {devices} devices failed: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _measure() -> dict:
    """Milliseconds of a step of stage 1's cpu preset, its batch of 4 split over all devices."""
    config = _config("fusion", "cpu", os.environ["DATA_DIR"])
    config["data"]["num_frames"] = 28
    with build.numerics(config):
        made = experiment.make(config, axis_name=parallel.AXIS, log=lambda line: None)
        batch = next(made.batches)
        batch.pop("index")
        state, split = parallel.replicate(made.state), parallel.split(batch)
        step = parallel.parallelize(made.step)
        seconds = []
        for _ in range(_STEPS.value + 2):
            begin = time.perf_counter()
            state, metrics = step(state, split)
            jax.block_until_ready(metrics)
            seconds.append(time.perf_counter() - begin)
    times = [1e3 * s for s in seconds[2:]]
    return {"milliseconds": round(statistics.median(times), 1), "fastest": round(min(times), 1)}


def _tables(report) -> str:
    lines = [
        f"`{report['command']}`",
        "",
        "| preset | parameters | clips a device | MB reduced | GFLOP | share of peak | ms of work | "
        + "GB/s of input a host | "
        + " | ".join(f"efficiency at {n}" for n in _DEVICES.value)
        + " |",
        "|---" * (8 + len(_DEVICES.value)) + "|",
    ]
    for name, found in report["presets"].items():
        for work in found["work"]:
            cells = [
                f"{found['parameters']:,}",
                found["clips_a_device"],
                f"{found['bytes_reduced'] / 1e6:.2f}",
                found["gflop"],
                f"{work['share']:.0%}",
                work["milliseconds"],
                f"{work['input_bytes_per_second_of_host'] / 1e9:,.1f}",
                *(f"{value:.0%}" for value in work["efficiency"].values()),
            ]
            lines.append(f"| {name} | " + " | ".join(map(str, cells)) + " |")
    if report["measured"]:
        first = next(iter(report["measured"].values()))["fastest"]
        lines += [
            "",
            "| simulated devices | median ms | fastest ms | times one device |",
            "|---" * 4 + "|",
        ]
        lines += [
            f"| {n} | {m['milliseconds']} | {m['fastest']} | {m['fastest'] / first:.2f} |"
            for n, m in report["measured"].items()
        ]
        lines += ["", f"{report['machine']['cpus']} CPU cores, JAX {report['machine']['jax']}."]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    cli.run(main)
