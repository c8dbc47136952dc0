"""Training of either stage on all devices; run again, it resumes.

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
from vidpred_jax import checkpoint, cli, experiment, parallel, runs, strip, video_io
from vidpred_jax.types import CONTEXT, UserError


def train(config: dict, workdir: str | os.PathLike, log=print) -> dict:
    """Trains to `num_steps`, resuming from the workdir's newest checkpoint; the last evaluation.

    config: as `configs/` make it, plain. Raises InputError for a config that cannot be run, and
    UserError when the loss is no longer finite or the workdir cannot be written.
    """
    workdir = pathlib.Path(workdir)
    is_main = jax.process_index() == 0
    config = runs.fill_in(config, workdir.parent)
    runs.check_resumable(config, workdir)
    made = experiment.make(config, axis_name=parallel.AXIS, log=log)
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
    step_fn = parallel.parallelize(made.step)
    windows = made.validation() if is_main else []
    writer = _MetricsWriter(workdir) if is_main else None
    start = step = int(state.step)
    summary, pending, clock = {}, [], time.perf_counter()
    meta = {
        "stage": config["stage"],
        "config": config,
        "fingerprint": made.fingerprint,
        "versions": {"vidpred_jax": vidpred_jax.__version__, "jax": jax.__version__},
    }
    trained = time.perf_counter()
    while step < config["num_steps"]:
        batch = {k: v for k, v in next(batches).items() if k != "index"}
        state, metrics = step_fn(state, parallel.split(batch))
        step += 1
        pending.append(metrics)
        last = step == config["num_steps"]
        if step % config["log_every"] == 0 or step % config["save_every"] == 0 or last:
            values = _mean(jax.device_get(pending), step)
            rate = len(pending) / (time.perf_counter() - clock)
            left = (config["num_steps"] - step) * (time.perf_counter() - trained) / (step - start)
            if is_main and (step % config["log_every"] == 0 or last):
                writer.write(step, {**values, "steps_per_second": rate})
                shown = "  ".join(f"{k} {v:.4f}" for k, v in values.items())
                log(
                    f"{config['stage']} step {step}/{config['num_steps']}  {rate:.2f} steps/s  "
                    f"{left / 60:.1f} min left  {shown}"
                )
            pending, clock = [], time.perf_counter()
        evaluate_now = step % config["evaluation"]["every"] == 0 or last
        if is_main and evaluate_now:
            summary = experiment.validate(made, state, windows)
            if summary:
                writer.write_evaluation(step, summary)
                log(_describe(step, summary))
                _write_sample(workdir / "samples" / f"step_{step:07d}.png", made, state, windows)
            clock = time.perf_counter()
        if step % config["save_every"] == 0 or evaluate_now:
            quality = (
                {"psnr": summary["ours"]["psnr"]["mean"]} if evaluate_now and summary else None
            )
            saver.save(state, {**meta, "data_state": batches.get_state()}, quality)
    saver.close()
    log(f"{config['stage']}: done at step {step}, saved in {workdir}")
    return summary


def _mean(metrics: list[dict], step: int) -> dict[str, float]:
    """Means over the steps since the last line. Raises UserError where a value is not finite."""
    for back, values in enumerate(reversed(metrics)):
        bad = [k for k, v in values.items() if not math.isfinite(v)]
        if bad:
            raise UserError(
                f"{bad[0]} is not finite at step {step - back}; nothing was saved since, run again to "
                "resume from the last checkpoint, with a lower optimizer.learning_rate or with "
                "optimizer.clip"
            )
    return {k: float(np.mean([m[k] for m in metrics])) for k in metrics[0]} if metrics else {}


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


class _MetricsWriter:
    """metrics.jsonl, one line an event, and the same numbers for TensorBoard."""

    def __init__(self, workdir):
        self._file = (workdir / "metrics.jsonl").open("a")
        self._board = tensorboardX.SummaryWriter(os.fspath(workdir / "tensorboard"))

    def write(self, step, values):
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step)

    def write_evaluation(self, step, summary):
        self._file.write(json.dumps({"step": step, "evaluation": summary}) + "\n")
        self._file.flush()
        for predictor, found in summary.items():
            for metric, values in found.items():
                self._board.add_scalar(f"validation/{predictor}/{metric}", values["mean"], step)
        self._board.flush()


def main(_):
    config = json.loads(_CONFIG.value.to_json())
    workdir = _WORKDIR.value or pathlib.Path("runs", config["stage"])
    log = print if jax.process_index() == 0 else lambda line: None
    train(config, workdir, log=lambda line: log(line, flush=True))


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; default runs/STAGE.")
    cli.run(main, before=parallel.initialize)
