"""Trains variants of the accompanying convolution side by side, and measures each beside the rest.

python benchmarks/ablate.py --config.data.name=sprites --seeds=0,1,2 --output=ablation

Every variant of a seed sees the same clips and the same translated frames, as often as the others.
Beside them: the translator alone, classical sharpening, and a plain residual network (`refiner`) of
as many parameters as one schedule has, trained by the same loss for as many steps.
"""

import functools
import itertools
import json
import os
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import config_flags

from vidpred_jax.cli import common
from vidpred_jax.data import fusion, pipeline, video_io
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import compare, sharpening
from vidpred_jax.inference import translated
from vidpred_jax.metrics import named, summary
from vidpred_jax.models import accompanying, build, schedules
from vidpred_jax.training import steps_accompanying as stage3
from vidpred_jax.types import CONTEXT, HORIZON, InputError

VARIANTS = ("accompanying", "refiner", "pair")  # The reference, its control, the faithful pair.

_CONFIG = config_flags.DEFINE_config_file(
    "config", "configs/accompanying.py:cpu", "What all variants share.", lock_config=True
)
_FUSION = flags.DEFINE_string("fusion", "runs/fusion", "Run folder of stage 1.")
_TRANSLATOR = flags.DEFINE_string("translator", "runs/translator", "Run folder of stage 2.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of weights, order and draws.")
_VARIANTS = flags.DEFINE_list("variants", list(VARIANTS), "Which are trained.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to measure on.")
_STRIDE = flags.DEFINE_integer("stride", CONTEXT + HORIZON, "Frames between windows.", 1)
_CLIPS = flags.DEFINE_integer("clips", 64, "At most this many windows of a split.", 1)
_POOL = flags.DEFINE_integer("pool", 256, "Training windows, translated once.", 1)
_METRICS = flags.DEFINE_list(
    "metrics", ["psnr", "ssim", "lpips", "gradient_ratio", "spectrum_ratio"], "What is measured."
)
_OUTPUT = flags.DEFINE_string("output", "ablation", "Folder to write ablation.json to.")

_TIMED = 16  # Frames of a timed call.


def main(_):
    names = _VARIANTS.value
    for name in names:
        if name not in VARIANTS:
            raise InputError(f"--variants: {name!r} is not one of {', '.join(VARIANTS)}")
    if not _SEEDS.value or not all(seed.isdigit() for seed in _SEEDS.value):
        raise InputError(f"--seeds={','.join(_SEEDS.value)} must be numbers, 0 or more")
    video_io.check_writable(pathlib.Path(_OUTPUT.value))
    config = json.loads(_CONFIG.value.to_json())
    frozen = translated.load(_FUSION.value, _TRANSLATOR.value)
    size = frozen.height, frozen.width
    if (config["data"]["height"], config["data"]["width"]) != size:
        raise InputError(
            f"data.height and width ({config['data']['height']} x {config['data']['width']}) must be the "
            f"runs' {size[0]} x {size[1]}"
        )
    for name in names:
        _Variant(name, config, size, 0)  # Refused before anything is translated.
    windows = {
        split: list(itertools.islice(_windows(config["data"], split, size), _CLIPS.value))
        for split in ("validation", _SPLIT.value)
    }
    for split, found in windows.items():
        if not found:
            raise InputError(
                f"data.name ({config['data']['name']!r}): no window of {CONTEXT + HORIZON} frames in "
                f"{split}"
            )
    start, runs = time.perf_counter(), {}
    chosen = named.choose(_METRICS.value, *size)
    validation = frozen.windows(windows["validation"])
    pool = _make_pool(frozen, config, size)
    timed = [
        jnp.asarray(x[:_TIMED])
        for x in (validation[0].frame, validation[0].fusion, validation[0].ahead)
    ]
    references = jnp.zeros((1, frozen.translator.reference_frames, *size, 6))
    translate = jax.jit(lambda *x: frozen.translator.apply(frozen.variables["translator"], *x))
    translate = functools.partial(translate, timed[1][None], references, timed[2][None])
    for seed in map(int, _SEEDS.value):
        variants = {name: _Variant(name, config, size, seed) for name in names}
        _train(variants, pool, config, seed)
        for variant in variants.values():
            variant.freeze(validation)
            print(f"seed {seed}: {variant.name}: schedule {schedules.describe(variant.schedule)}")
        predictors = _predictors(variants, frozen, seed == int(_SEEDS.value[0]))
        table = compare.compare(
            windows[_SPLIT.value], predictors, context=CONTEXT, metrics=chosen, batch_size=4
        )
        found = summary.summarize(table.clips, table.values)
        print(summary.format_table(found), flush=True)
        calls = {n: functools.partial(v.sharpen, *timed) for n, v in variants.items()}
        costs = _milliseconds({"translator alone": translate, **calls})
        for name, measured in found.items():
            entry = runs.setdefault(name, {"by_seed": {}})
            entry["by_seed"][seed] = {m: e["mean"] for m, e in measured.items()}
            if name in costs:
                entry.setdefault("ms_per_frame", {})[seed] = costs[name]
            if name in variants:
                variant = variants[name]
                entry["parameters"] = variant.num_parameters
                entry.setdefault("schedule", {})[seed] = schedules.describe(variant.schedule)
    for entry in runs.values():
        values = list(entry["by_seed"].values())
        entry["mean"] = {m: float(np.mean([v[m] for v in values])) for m in values[0]}
        if len(values) > 1:  # The sample's: of two or three seeds the population's is too small.
            entry["std"] = {m: float(np.std([v[m] for v in values], ddof=1)) for m in values[0]}
    report = {
        "data": f"{config['data']['name']} {_SPLIT.value}",
        "windows": len(windows[_SPLIT.value]),
        "validation_windows": len(windows["validation"]),
        "height": size[0],
        "width": size[1],
        "config": config,
        "command": " ".join(["python", *sys.argv]),
        "seeds": [int(s) for s in _SEEDS.value],
        "seconds": round(time.perf_counter() - start, 1),
        "machine": {
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "cpus": os.cpu_count(),
            "jax": jax.__version__,
        },
        "predictors": runs,
    }
    path = f"{_OUTPUT.value}/ablation.json"
    video_io.write_text(path, json.dumps(report, indent=1) + "\n")
    print(f"wrote {path}")


def _milliseconds(calls: dict) -> dict[str, float]:
    """Median time a frame of compiled calls; in turn, so that a busy machine slows all alike."""
    times = {name: [] for name in calls}
    for _ in range(40):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
    return {n: round(float(np.median(t[2:])) * 1000 / _TIMED, 3) for n, t in times.items()}


def _windows(data, split, size):
    source = registry.open_split(
        data["name"], split, data_dir=data["data_dir"], config=data["config"]
    )
    return pipeline.evaluation_windows(
        source,
        num_frames=CONTEXT + HORIZON,
        height=size[0],
        width=size[1],
        stride=_STRIDE.value,
    )


class _Variant:
    """One configuration in training: its networks, state and update."""

    def __init__(self, name, config, size, seed):
        self.name, self.schedule, self.sharpen = name, None, None
        self.stack, self.selection = build.make_stack(config["model"], config["selection"], *size)
        steps = reference_steps = config["num_steps"]
        if name == "refiner":
            self.stack = _refiner(self.stack, size)
        if name == "pair":
            reference_steps = steps // 2
        self.reference_only = reference_steps >= steps
        try:
            self.state, update = stage3.make_training(
                jax.random.key(seed),
                self.stack,
                self.selection,
                size,
                loss=config["loss"],
                optimizer=config["optimizer"],
                num_steps=steps,
                reference_steps=reference_steps,
                ema_decay=config["ema_decay"],
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"config: {error}") from error
        self.update = jax.jit(update, donate_argnums=0)

    def freeze(self, validation):
        """The schedule, held to the same rule for all: it may not cost PSNR on validation clips."""
        params = dict(self.state.ema)
        if self.reference_only:  # The pair was not trained.
            reference = [schedules.alone("p", self.stack)]
            self.schedule = schedules.keep_best(self.stack, params, reference, validation)
        else:
            self.schedule = schedules.freeze_schedule(self.stack, params, validation)
        schedule = self.schedule
        self.sharpen = jax.jit(
            lambda *args: schedules.apply_schedule(self.stack, params, schedule, *args)
        )

    @property
    def num_parameters(self):
        """Of the one stack that each stage of the schedule runs."""
        return sum(x.size for x in jax.tree.leaves(self.state.params["g"]["a"]))


def _refiner(stack, size):
    """One stage at full resolution of as many parameters as `stack`, and one layer more."""
    frame = jnp.zeros((1, *size, 3))

    def count(stack):
        shapes = jax.eval_shape(stack.init, jax.random.key(0), frame, frame, jnp.ones(1))
        return sum(x.size for x in jax.tree.leaves(shapes))

    wanted = count(stack)
    found = [
        stack.copy(scales=(1,), widths=(width,), layers=stack.layers + 1) for width in range(4, 129)
    ]
    return min(found, key=lambda refiner: abs(count(refiner) - wanted))


def _make_pool(frozen, config, size):
    """Translated frames of training windows, made once: uint8 frame, fusion, target, and ahead."""
    windows = itertools.islice(_windows(config["data"], "train", size), _POOL.value)
    parts = []
    while chunk := list(itertools.islice(windows, 8)):
        for found in frozen.windows(chunk):
            pictures = (found.frame, found.fusion, found.target)
            parts.append([*map(fusion.to_uint8, pictures), found.ahead])
        if len(parts) % 16 == 0:
            print(f"translated {4 * len(parts)} training windows", flush=True)
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _draw(pool, rng, count):
    """Random frames of the pool, turned and mirrored at random."""
    chosen = rng.integers(len(pool[0]), size=count)
    frame, picture, target, ahead = (part[chosen] for part in pool)
    videos = [frame, picture, target]
    if rng.random() < 0.5:
        videos = [x[:, ::-1] for x in videos]
    if rng.random() < 0.5:
        videos = [x[:, :, ::-1] for x in videos]
    if rng.random() < 0.5 and frame.shape[1] == frame.shape[2]:
        videos = [x.swapaxes(1, 2) for x in videos]
    frame, picture, target = (fusion.to_float(jnp.asarray(x)) for x in videos)
    return accompanying.Translated(frame, picture, jnp.asarray(ahead), target)


def _train(variants, pool, config, seed):
    rng, start = np.random.default_rng(seed), time.perf_counter()
    count = config["batch_size"] * config["targets_per_clip"]
    for step in range(1, config["num_steps"] + 1):
        drawn, metrics = _draw(pool, rng, count), {}
        for variant in variants.values():
            variant.state, metrics[variant.name] = variant.update(variant.state, drawn)
        if step % config["log_every"] == 0:
            rate = step / (time.perf_counter() - start)
            values = "  ".join(f"{n} {float(m['loss']):.3f}" for n, m in metrics.items())
            print(
                f"seed {seed} step {step}/{config['num_steps']} {rate:.2f} steps/s  {values}",
                flush=True,
            )


def _to_frames(x):
    return fusion.to_uint8(np.asarray(x))


def _predictors(variants, frozen, with_classical):
    """Predictors of the translator's frames, as they are and sharpened; one rollout for all."""
    latest = {}

    def once(seen):
        key = tuple((e["clip"], e["start"]) for e in seen)
        if key not in latest:
            latest.clear()
            latest[key] = frozen.predict(seen)
        return latest[key]

    def as_is(seen):
        return {"frames": _to_frames(once(seen)[0])}

    def sharpened(sharpen, seen):
        frames, pictures, ahead = once(seen)
        flat = lambda x: x.reshape(-1, *x.shape[2:])
        found = sharpen(flat(frames), flat(pictures), flat(ahead))
        return {"frames": _to_frames(found.reshape(frames.shape))}

    found = {"translator alone": as_is}
    if with_classical:
        for name in sharpening.SHARPENERS:
            found[name] = lambda seen, name=name: {
                "frames": sharpening.sharpen(name, as_is(seen)["frames"])
            }
    for name, variant in variants.items():
        found[name] = functools.partial(sharpened, variant.sharpen)
    return found


if __name__ == "__main__":
    common.run(main)
