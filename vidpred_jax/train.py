"""Training of any stage on all devices; run again, it resumes.

python -m vidpred_jax.train --config=configs/fusion.py[:preset] [--workdir=DIR] [--config.FIELD=V]
"""

import json
import math
import os
import pathlib
import time

import jax
import numpy as np
import tensorboardX
from absl import flags
from ml_collections import config_flags

import vidpred_jax
from vidpred_jax import (
    checkpoint,
    cli,
    experiment,
    experiment_accompanying,
    parallel,
    runs,
    strip,
    video_io,
)
from vidpred_jax.types import CONTEXT, InputError, UserError


def train(config: dict, workdir: str | os.PathLike, log=print) -> dict:
    """Trains to `num_steps`, resuming from the workdir's newest checkpoint; the last evaluation.

    config: as `configs/` make it, plain. Raises InputError for a config that cannot be run, and
    UserError when the loss is no longer finite or the workdir cannot be written.
    """
    workdir = pathlib.Path(workdir)
    is_main = jax.process_index() == 0
    config = runs.fill_in(config, workdir)
    runs.check_resumable(config, workdir)
    stages = experiment_accompanying if config["stage"] == "accompanying" else experiment
    made = stages.make(config, axis_name=parallel.AXIS, log=log)
    state, batches = made.state, made.batches
    saver = checkpoint.Checkpointer(workdir)
    if saver.latest_step() is not None:
        state, meta = saver.restore(state)
        batches.set_state(meta["data_state"])
        if meta["fingerprint"] != made.fingerprint:
            log(
                f"warning: data set {config['data']['name']!r} has changed since the last checkpoint"
            )
        log(f"resuming {workdir} at step {int(state.step)}")
    if is_main:
        video_io.write_text(workdir / "config.json", json.dumps(config, indent=2) + "\n")
    num_params = sum(x.size for x in jax.tree.leaves(state.params["g"]))
    log(
        f"{config['stage']}: {num_params:,} parameters, {config['num_steps']} steps of batch "
        f"{config['batch_size']} on {jax.device_count()} x {jax.devices()[0].device_kind}"
    )
    meta = {
        "stage": config["stage"],
        "config": config,
        "fingerprint": made.fingerprint,
        "versions": {"vidpred_jax": vidpred_jax.__version__, "jax": jax.__version__},
    }
    state, step_fn = parallel.replicate(state), parallel.parallelize(made.step)
    windows = made.validation() if is_main else []
    writer = _MetricsWriter(workdir, int(state.step)) if is_main else None
    summary, progress = {}, _Progress(int(state.step), config["num_steps"])
    for step in range(int(state.step) + 1, config["num_steps"] + 1):
        batch = {k: v for k, v in next(batches).items() if k != "index"}
        state, metrics = step_fn(state, parallel.split(batch))
        progress.add(metrics)
        last = step == config["num_steps"]
        evaluate_now = last or step % config["evaluation"]["every"] == 0
        save_now = evaluate_now or step % config["save_every"] == 0
        if save_now:
            progress.check(step)  # Before anything is saved.
            found = made.freeze(state, windows)
            progress.pause()
        if last or step % config["log_every"] == 0:
            values = progress.means(step)
            if is_main:
                writer.write(step, values)
                log(f"{config['stage']} {progress.describe(step, values)}")
        if is_main and evaluate_now:
            summary = experiment.validate(made, state, windows)
            if summary:
                writer.write_evaluation(step, progress.seconds, summary)
                log(_describe(step, summary))
                _write_sample(workdir / "samples" / f"step_{step:07d}.png", made, state, windows)
        if save_now:
            quality = None
            if evaluate_now:
                psnr = summary["ours"]["psnr"]["mean"] if summary else 0.0
                quality = {"psnr": parallel.from_main_process(psnr)}
            saver.save(state, {**meta, **found, "data_state": batches.get_state()}, quality)
            progress.pause()
    saver.close()
    log(f"{config['stage']}: done at step {int(state.step)}, saved in {workdir}")
    return summary


class _Progress:
    """Rate, time left and means of the metrics; the device is asked for them only when needed."""

    def __init__(self, start: int, num_steps: int):
        self._num_steps = num_steps
        self._on_device, self._values = [], []
        self._clock, self._timed, self._seconds = None, 0, 0.0
        self._checked = start

    def add(self, metrics: dict) -> None:
        self._on_device.append(metrics)
        if self._clock is None:
            # The first step compiles: it is waited for and not timed.
            jax.block_until_ready(metrics)
            self._clock = time.perf_counter()
        else:
            self._timed += 1

    def check(self, step: int) -> None:
        """Raises UserError where a value since the last check is not finite."""
        found = jax.device_get(self._on_device)
        for number, values in enumerate(found, start=self._checked + 1):
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if bad:
                raise UserError(
                    f"{bad[0]} is not finite at step {number}; nothing was saved since, run again to "
                    "resume from the last checkpoint with a lower optimizer.learning_rate"
                )
        self._values += found
        self._on_device, self._checked = [], step
        self._seconds += time.perf_counter() - self._clock
        self._clock = time.perf_counter()

    def pause(self) -> None:
        """Leaves what was done since the last check (evaluating, saving) out of the rate."""
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of training since this start, without compiling, evaluating and saving."""
        return self._seconds

    def means(self, step: int) -> dict[str, float]:
        """Metrics averaged since the last call."""
        self.check(step)
        values, self._values = self._values, []
        means = {name: float(np.mean([v[name] for v in values])) for name in values[0]}
        return {**means, "steps_per_second": self._timed / self._seconds if self._timed else 0.0}

    def describe(self, step: int, values: dict) -> str:
        rate = values["steps_per_second"]
        left = f"{(self._num_steps - step) / rate / 60:.1f} min left" if rate else "rate unknown"
        losses = "  ".join(f"{k} {v:.4f}" for k, v in values.items() if k != "steps_per_second")
        return f"step {step}/{self._num_steps}  {rate:.2f} steps/s  {left}  {losses}"


def _describe(step, summary) -> str:
    parts = [
        f"{name} {found['psnr']['mean']:.2f} dB, SSIM {found['ssim']['mean']:.3f}, "
        f"t+1 {found['psnr']['per_step'][0]:.2f} dB"
        for name, found in summary.items()
    ]
    return f"validation at step {step}: " + "; ".join(parts)


def _write_sample(path, made, state, windows) -> None:
    """Truth above prediction for the first validation clips."""
    chosen = [element for _, _, element in windows[:3]]
    hidden = ("frames", "fusion") if made.field == "fusion" else ("frames",)
    seen = [{k: v[:CONTEXT] if k in hidden else v for k, v in e.items()} for e in chosen]
    predictions = made.predict(parallel.to_host(state), seen)
    rows = []
    for element, pred in zip(chosen, predictions, strict=True):
        rows += [("truth", element[made.field][CONTEXT:]), ("predicted", pred)]
    video_io.write_image(path, strip.draw(rows))


def _step_of(line: str) -> int | float:
    """The step of a line of metrics.jsonl; a torn line belongs to none."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class _MetricsWriter:
    """metrics.jsonl, one line an event, and the same numbers for TensorBoard."""

    def __init__(self, workdir, step: int):
        path = workdir / "metrics.jsonl"
        if path.exists():
            # Steps after the checkpoint that is resumed will be done, and told, again.
            lines = path.read_text().splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            video_io.write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(os.fspath(workdir / "tensorboard"))

    def write(self, step, values):
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step)

    def write_evaluation(self, step, seconds, summary):
        line = {"step": step, "seconds": round(seconds, 2), "evaluation": summary}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for predictor, found in summary.items():
            for metric, values in found.items():
                self._board.add_scalar(f"validation/{predictor}/{metric}", values["mean"], step)
        self._board.flush()


def main(_):
    try:
        config = json.loads(_CONFIG.value.to_json())
    except OSError as error:  # config_flags opens the file only now.
        raise InputError(f"--config: {str(error).splitlines()[-1].strip()}") from error
    workdir = _WORKDIR.value or pathlib.Path("runs", config["stage"])
    log = print if jax.process_index() == 0 else lambda line: None
    train(config, workdir, log=lambda line: log(line, flush=True))


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; default runs/STAGE.")
    flags.mark_flag_as_required("config")
    cli.run(main, before=parallel.initialize)
