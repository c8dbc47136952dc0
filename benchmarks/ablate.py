"""Stage 3 measured: the reference stack, the faithful pair, and a plain refiner as their control.

python benchmarks/ablate.py --fusion=runs/fusion --translator=runs/translator --seeds=0,1,2

Every variant of a seed sees the same clips and the same translated frames, as often as the others.
Beside them: the translator alone, classical sharpening, and a plain residual network (`refiner`) of
as many parameters as one stack has, trained by the same loss for as many steps.
"""

import functools
import itertools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from vidpred_jax.cli import common
from vidpred_jax.config import parse
from vidpred_jax.data import fusion, pipeline, writing
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import compare, sharpening
from vidpred_jax.inference import networks
from vidpred_jax.inference.system import System
from vidpred_jax.metrics import named, summary
from vidpred_jax.models import build, schedules
from vidpred_jax.training import steps_accompanying
from vidpred_jax.training.sharpening import Frozen
from vidpred_jax.types import HORIZON, InputError

VARIANTS = ("accompanying", "refiner", "pair")  # The reference, its control, the faithful pair.
_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/accompanying.py:cpu", "What all variants share.", lock_config=True
)
_FUSION = flags.DEFINE_string("fusion", "runs/fusion", "Run folder of stage 1.")
_TRANSLATOR = flags.DEFINE_string("translator", "runs/translator", "Run folder of stage 2.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of weights, order and draws.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to measure on.")
_CLIPS = flags.DEFINE_integer("clips", 64, "At most this many clips of a split.", 1)
_POOL = flags.DEFINE_integer("pool", 256, "Training clips, translated once.", 1)
_METRICS = flags.DEFINE_list("metrics", "psnr,ssim,lpips,gradient_ratio", "What is measured.")
_OUTPUT = flags.DEFINE_string("output", "ablation", "Folder to write ablation.json to.")


def main(_):
    if not _SEEDS.value or not all(seed.isdigit() for seed in _SEEDS.value):
        raise InputError(f"--seeds={','.join(_SEEDS.value)} must be numbers, 0 or more")
    writing.check_writable(pathlib.Path(_OUTPUT.value))
    config = parse(json.loads(_CONFIG.value.to_json()))
    runs = {"fusion": _FUSION.value, "translator": _TRANSLATOR.value}
    frozen = Frozen(System.of(*(networks.load(run, stage) for stage, run in runs.items())))
    start, predictors = time.perf_counter(), {}
    measured_on = _windows(config, frozen, _SPLIT.value, _CLIPS.value)
    validation = frozen.windows(_windows(config, frozen, "validation", _CLIPS.value))
    pool = _make_pool(frozen, _windows(config, frozen, "train", _POOL.value))
    for seed in map(int, _SEEDS.value):
        variants = {name: _Variant(name, config, frozen, seed) for name in VARIANTS}
        _train(variants, pool, config, seed)
        for variant in variants.values():
            variant.freeze(validation)
            print(f"seed {seed}: {variant.name}: {' '.join(variant.schedule)}")
        table = compare.compare(
            measured_on,
            _predictors(variants, frozen),
            context=config["context"],
            metrics=named.choose(_METRICS.value, *frozen.system.size),
            batch_size=4,
        )
        found = summary.summarize(table.clips, table.values)
        print(summary.format_table(found), flush=True)
        for name, measured in found.items():
            entry = predictors.setdefault(name, {"by_seed": {}})
            entry["by_seed"][seed] = {m: e["mean"] for m, e in measured.items()}
            if name in variants:
                entry["parameters"] = variants[name].num_parameters
                entry.setdefault("schedule", {})[seed] = " ".join(variants[name].schedule)
    for entry in predictors.values():
        values = list(entry["by_seed"].values())
        entry["mean"] = {m: float(np.mean([v[m] for v in values])) for m in values[0]}
        if len(values) > 1:  # The sample's: of two or three seeds the population's is too small.
            entry["std"] = {m: float(np.std([v[m] for v in values], ddof=1)) for m in values[0]}
    report = {
        "data": f"{config['data']['name']} {_SPLIT.value}",
        "windows": len(measured_on),
        "config": config,
        "command": common.command(),
        "seeds": [int(s) for s in _SEEDS.value],
        "seconds": round(time.perf_counter() - start, 1),
        "machine": common.machine(),
        "predictors": predictors,
    }
    path = f"{_OUTPUT.value}/ablation.json"
    writing.write_text(path, json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")


def _windows(config, frozen, split, clips):
    """At most so many (clip, start, element). Raises InputError if there are none."""
    data = config["data"]
    source = registry.open_split(data["name"], split, data_dir=data["data_dir"], config=data["config"])
    length = config["context"] + HORIZON
    windows = pipeline.evaluation_windows(source, num_frames=length, wanted=[frozen.system.size])
    found = list(itertools.islice(windows, clips))
    if not found:
        raise InputError(f"data.name ({data['name']!r}): no clip of {split} is long enough")
    return found


class _Variant:
    """One configuration in training: its networks, state and update."""

    def __init__(self, name, config, frozen, seed):
        self.name, self.schedule, self.sharpen = name, None, None
        size, steps = frozen.system.size, config["num_steps"]
        self.stack = build.make_stack(config["model"], *size)
        if name == "refiner":
            self.stack = _refiner(self.stack, size)
        self._is_pair = name == "pair"
        self.state, update = steps_accompanying.make_training(
            jax.random.key(seed),
            self.stack,
            size,
            loss=config["loss"],
            optimizer=config["optimizer"],
            num_steps=steps,
            reference_steps=steps // 2 if self._is_pair else steps,
            ema_decay=config["ema_decay"],
        )
        self.update = jax.jit(update, donate_argnums=0)

    def freeze(self, validation):
        """The schedule, held to the same rule for all: it may not cost PSNR on validation clips."""
        ema = dict(self.state.ema)
        if self._is_pair:
            self.schedule = schedules.freeze_schedule(self.stack, ema, validation)
        else:
            reference = [schedules.alone("p", self.stack)]
            self.schedule = schedules.keep_best(self.stack, ema, reference, validation)
        self.sharpen = jax.jit(functools.partial(schedules.sharpen, self.stack, ema, self.schedule))

    @property
    def num_parameters(self):
        """Of the one stack that each level of the schedule runs."""
        return sum(x.size for x in jax.tree.leaves(self.state.params["g"]["a"]))


def _refiner(stack, size):
    """One level at full resolution of as many parameters as `stack`, and one layer more."""
    frame = jnp.zeros((1, *size, 3))

    def count(stack):
        shapes = jax.eval_shape(stack.init, jax.random.key(0), frame, frame, jnp.ones(1))
        return sum(x.size for x in jax.tree.leaves(shapes))

    wanted, layers = count(stack), stack.layers + 1
    found = [stack.copy(scales=(1,), widths=(width,), layers=layers) for width in range(4, 129)]
    return min(found, key=lambda refiner: abs(count(refiner) - wanted))


def _make_pool(frozen, windows):
    """Translated frames of training windows, made once; pictures as uint8."""
    join = lambda *parts: np.concatenate(parts)
    kept = lambda x: fusion.to_uint8(x) if x.ndim == 4 else x
    return jax.tree.map(join, *(jax.tree.map(kept, found) for found in frozen.windows(windows)))


def _train(variants, pool, config, seed):
    rng, start = np.random.default_rng(seed), time.perf_counter()
    count, flips = config["batch_size"] * config["targets_per_clip"], ((1,), (2,), (1, 2), ())
    for step in range(1, config["num_steps"] + 1):
        chosen, flip = rng.integers(len(pool.frame), size=count), flips[rng.integers(4)]
        draw = lambda x, chosen=chosen, flip=flip: (
            fusion.to_float(jnp.asarray(np.flip(x[chosen], flip))) if x.ndim == 4 else x[chosen]
        )
        drawn, metrics = jax.tree.map(draw, pool), {}
        for variant in variants.values():
            variant.state, metrics[variant.name] = variant.update(variant.state, drawn)
        if step % config["log_every"] == 0:
            rate = step / (time.perf_counter() - start)
            values = "  ".join(f"{n} {float(m['loss']):.3f}" for n, m in metrics.items())
            print(f"seed {seed} step {step}/{config['num_steps']} {rate:.2f} steps/s  {values}")


def _predictors(variants, frozen):
    """Predictors of the translator's frames, as they are and sharpened; one rollout for all."""
    latest = {}

    def once(seen):
        key = tuple((e["clip"], e["start"]) for e in seen)
        if key not in latest:
            latest.clear()
            latest[key] = frozen.predict(seen, HORIZON)
        return latest[key]

    def as_is(seen):
        return {"frames": fusion.to_uint8(np.asarray(once(seen)[0]))}

    def sharpened(sharpen, seen):
        return {"frames": fusion.to_uint8(np.asarray(sharpen(*once(seen))))}

    def classical(method, seen):
        return {"frames": sharpening.sharpen(method, as_is(seen)["frames"])}

    return {
        "translator alone": as_is,
        **{name: functools.partial(classical, name) for name in sharpening.SHARPENERS},
        **{name: functools.partial(sharpened, v.sharpen) for name, v in variants.items()},
    }


if __name__ == "__main__":
    common.run(main)
