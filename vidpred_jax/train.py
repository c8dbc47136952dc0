"""Training of any stage on all devices; run again, it resumes.

python -m vidpred_jax.train --config=configs/fusion.py[:preset] [--workdir=DIR] [--config.FIELD=V]

A checkpoint's quality is the PSNR of our prediction on the validation clips: by it the best is chosen.
"""

import functools
import json
import math
import os
import pathlib

import jax
from absl import flags
from ml_collections import config_flags

import vidpred_jax
from vidpred_jax import interruption, processes, startup, stores
from vidpred_jax.checkpoints import restore, save
from vidpred_jax.cli import common
from vidpred_jax.config import parse
from vidpred_jax.data import pipeline, strip, video_io, writing
from vidpred_jax.models import build
from vidpred_jax.training import earlier, experiment, parallel, progress, resume, steps, validation
from vidpred_jax.training.state import from_items, to_items
from vidpred_jax.types import InputError, Interrupted


def train(config: dict, workdir: str | os.PathLike, log=print, num_devices: int | None = None) -> dict:
    """Trains to `num_steps`, resuming from the workdir's newest checkpoint; the last evaluation.

    config: as `configs/` make it, plain; `config.parse` fills in what it leaves out. num_devices: see
    `parallel.choose_devices`. Raises InputError for a config that cannot be run, UserError when the
    loss is no longer finite or the workdir cannot be written, and Interrupted, after saving, when
    SIGTERM or SIGINT asked for a stop.
    """
    config = parse(config)
    devices = parallel.choose_devices(config["batch_size"], num_devices)
    if len(devices) < jax.device_count():
        log(f"batch_size {config['batch_size']}: {len(devices)} of {jax.device_count()} devices are used")
    is_main, named = jax.process_index() == 0, workdir
    if stores.is_address(workdir) and jax.process_count() > 1:
        raise InputError(f"workdir ({workdir}) must be a folder that all processes share, not an address")
    # A signal that comes before the first step is over stops after it.
    with interruption.Interruption() as interrupted, stores.mirrored(workdir) as workdir:
        config = earlier.fill_in(config, workdir, pathlib.Path(named).parent)
        resume.check_resumable(config, workdir)
        made = experiment.make(config, axis_name=parallel.AXIS, log=log)
        with build.numerics(config), resume.locked(workdir), save.Checkpointer(workdir) as saver:
            state = _resume(made, saver, workdir, len(devices), log)
            if is_main:
                writing.write_text(workdir / "config.json", json.dumps(config, indent=2) + "\n")
            with progress.MetricsWriter(workdir if is_main else None, int(state.step)) as writer:
                summary = _train(config, workdir, made, state, devices, saver, writer, interrupted, log)
    log(f"{config['stage']}: done at step {config['num_steps']}, saved in {named}")
    return summary


def _resume(made, saver, workdir, num_devices, log):
    """The state to begin with; the batches stand where it stood."""
    if saver.latest_step() is None:
        return made.state
    items, meta = saver.restore(to_items(made.state))
    state = from_items(items)
    pipeline.set_position(made.batches, meta.get("data_state"))
    config = meta["config"]
    if meta.get("fingerprint") != made.fingerprint:
        log(f"warning: data set {config['data']['name']!r} has changed since the last checkpoint")
    log(f"resuming {workdir} at step {int(state.step)}")
    before = meta.get("devices", num_devices)
    if before != num_devices:
        drawn = " and for dropout, which is drawn for each device" * bool(config["model"].get("dropout"))
        log(
            f"warning: saved on {before} devices, goes on on {num_devices}: the same "
            f"training, but for rounding{drawn}"
        )
    return state


def _train(config, workdir, made, state, devices, saver, writer, interrupted, log) -> dict:
    """The loop; the last evaluation."""
    stage, num_steps = config["stage"], config["num_steps"]
    num_params = sum(x.size for x in jax.tree.leaves(state.params["g"]))
    log(
        f"{stage}: {num_params:,} parameters, {num_steps} steps of batch "
        f"{config['batch_size']} on {len(devices)} x {devices[0].device_kind}"
    )
    meta = {
        "format": restore.FORMAT,
        "stage": stage,
        "config": config,
        "fingerprint": made.fingerprint,
        "data": made.facts,
        "proposals": {name: list(p.described) for name, p in made.proposals.items()},
        "devices": len(devices),
        "versions": {"vidpred_jax": vidpred_jax.__version__, "jax": jax.__version__},
    }
    is_main, skippable = jax.process_index() == 0, config["skip_nonfinite"]
    step_fn = steps.skip_nonfinite(made.step) if skippable else made.step
    step_fn = parallel.parallelize(step_fn, devices)
    state, windows = parallel.replicate(state, devices), made.validation() if is_main else []
    describe = functools.partial(_describe_batch, made.clip_name)
    pace = progress.Progress(int(state.step), num_steps, describe, skippable, log)
    summary, found = {}, None
    for step in range(int(state.step) + 1, num_steps + 1):
        batch = next(made.batches)
        index = batch.pop("index")
        state, metrics = step_fn(state, parallel.split(batch, devices))
        pace.add(metrics, index)
        stop, last = interrupted.asked(step), step == num_steps
        evaluate_now = last or step % config["evaluation"]["every"] == 0
        save_now = stop or evaluate_now or step % config["save_every"] == 0
        if save_now:
            pace.check(step)  # Before anything is saved.
            if found is None or evaluate_now or not stop:  # There may be little time left.
                found = made.freeze(state, windows)
            pace.pause()
        if last or step % config["log_every"] == 0:
            values = pace.means(step)
            # Of this process since it started: a resumed run counts anew.
            writer.write(step, {**values, "cpu_seconds": sum(os.times()[:4])})
            log(f"{stage} {pace.describe(step, values)}")
        if is_main and evaluate_now:
            summary, shown = validation.validate(made, state, windows)
            if summary:
                area = validation.discriminate(made, state, windows)
                writer.write_evaluation(step, pace.seconds, summary, area)
                log(_describe(step, summary, area))
                sample = workdir / "samples" / f"step_{step:07d}.png"
                _write_sample(sample, made, windows, shown)
        if save_now:
            quality = None
            if evaluate_now:
                psnr = summary["ours"]["psnr"]["mean"] if summary else math.nan
                psnr = processes.from_main(lambda psnr=psnr: psnr)
                quality = {"psnr": psnr} if math.isfinite(psnr) else None
            saver.save(to_items(state), {**meta, **found, "data_state": made.batches.get_state()}, quality)
            pace.pause()
        if stop and not last:
            saver.wait()
            raise Interrupted(
                f"{stop} at step {step} of {num_steps}; saved in {workdir}, the same command goes on"
            )
    return summary


def _describe_batch(clip_name, index) -> str:
    """The clips of a batch, of this process's share of it."""
    return f"clips {', '.join(sorted({clip_name(int(i)) for i in index}))}"


def _describe(step, summary, area=None) -> str:
    parts = [
        f"{name} {found['psnr']['mean']:.2f} dB, SSIM {found['ssim']['mean']:.3f}, "
        f"t+1 {found['psnr']['per_step'][0]:.2f} dB"
        for name, found in summary.items()
    ]
    if area is not None:
        parts.append(f"the discriminator's area under the curve {area:.2f}")
    return f"validation at step {step}: " + "; ".join(parts)


def _write_sample(path, made, windows, shown) -> None:
    """Truth above prediction for the validation windows that are shown."""
    rows = []
    for (_, _, element), pred in zip(windows, shown, strict=False):
        rows += [("truth", element[made.field][made.config["context"] :]), ("predicted", pred)]
    video_io.write_image(path, strip.draw(rows))


def main(_):
    try:
        config = json.loads(_CONFIG.value.to_json())
    except OSError as error:  # config_flags opens the file only now.
        raise InputError(f"--config: {str(error).splitlines()[-1].strip()}") from error
    workdir = _WORKDIR.value or pathlib.Path("runs", config.get("network") or config["stage"])
    is_main = jax.process_index() == 0
    with processes.watched():
        log = functools.partial(print, flush=True) if is_main else _no_log
        train(config, workdir, log, _DEVICES.value)


def _before():
    startup.use_onednn()
    processes.initialize()


def _no_log(line):
    del line


if __name__ == "__main__":
    _CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
    _WORKDIR = flags.DEFINE_string("workdir", None, "Folder of this run; default runs/STAGE or runs/NETWORK.")
    _DEVICES = flags.DEFINE_integer("devices", None, "Devices to train on; as many as divide batch_size.")
    flags.mark_flag_as_required("config")
    common.run(main, before=_before)
