"""How training goes: its rate and means, its events as files, and warnings about what goes wrong."""

import contextlib
import json
import math
import os
import pathlib
import time

import jax
import numpy as np
from tensorboardX import event_file_writer
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from vidpred_jax.data import writing
from vidpred_jax.types import UserError


class Progress:
    """Rate, time left and means of the metrics; the device is asked for them only when needed."""

    def __init__(self, start: int, num_steps: int, describe_batch, skippable: int = 0, log=print):
        """describe_batch: what `add` was given -> its words in an error. skippable: steps whose
        metrics may be not finite, for they changed nothing (`steps.skip_nonfinite`).
        """
        self._num_steps, self._describe_batch, self._log = num_steps, describe_batch, log
        self._on_device, self._batches, self._values = [], [], []
        self._clock, self._timed, self._seconds = None, 0, 0.0
        self._checked, self._skippable, self._skipped = start, skippable, 0

    def add(self, metrics: dict, batch) -> None:
        self._on_device.append(metrics)
        self._batches.append(batch)
        if self._clock is None:
            # The first step compiles: it is waited for and not timed.
            jax.block_until_ready(metrics)
            self._clock = time.perf_counter()
        else:
            self._timed += 1

    def check(self, step: int) -> None:
        """Raises UserError where a value since the last check is not finite and not skippable."""
        found = jax.device_get(self._on_device)
        for number, (values, batch) in enumerate(
            zip(found, self._batches, strict=True), start=self._checked + 1
        ):
            bad = [name for name, value in values.items() if not math.isfinite(value)]
            if not bad:
                self._values.append(values)
                continue
            where = f"{bad[0]} is not finite at step {number} ({self._describe_batch(batch)})"
            self._skipped += 1
            if self._skipped > self._skippable:
                skipped = f"; skip_nonfinite ({self._skippable})" * bool(self._skippable)
                raise UserError(
                    f"{where}{skipped}; nothing was saved since, run again to resume from the last "
                    "checkpoint with a lower optimizer.learning_rate"
                )
            self._log(f"warning: {where}: skipped, {self._skipped} of at most {self._skippable}")
        self._on_device, self._batches, self._checked = [], [], step
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
        names = values[0] if values else {}
        means = {name: float(np.mean([v[name] for v in values])) for name in names}
        return {**means, "steps_per_second": self._timed / self._seconds if self._timed else 0.0}

    def describe(self, step: int, values: dict) -> str:
        rate = values["steps_per_second"]
        left = f"{(self._num_steps - step) / rate / 60:.1f} min left" if rate else "rate unknown"
        shown = {k: v for k, v in values.items() if not k.startswith(("steps_per", "share_"))}
        losses = "  ".join(f"{k} {v:.4f}" for k, v in shown.items())
        return f"step {step}/{self._num_steps}  {rate:.2f} steps/s  {left}  {losses}"


def _step_of(line: str) -> int | float:
    """The step of a line of metrics.jsonl; a torn line belongs to none."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf


class MetricsWriter:
    """metrics.jsonl, one line an event, and the same numbers for TensorBoard; nothing without a workdir.

    Raises UserError where it cannot write.
    """

    def __init__(self, workdir: pathlib.Path | None, step: int):
        self._path, self._file, self._board = None, None, None
        if workdir is None:
            return
        self._path = workdir / "metrics.jsonl"
        with self._clear_errors():
            if self._path.exists():
                _drop_lines_after(step, self._path)
            self._file = self._path.open("a")
            folder = workdir / "tensorboard"
            folder.mkdir(exist_ok=True)
            # The writer beneath SummaryWriter, whose thread would wait for ever on a full disk.
            self._board = event_file_writer.EventsWriter(os.fspath(folder / "events"), f".from_step_{step}")

    def write(self, step, values):
        self._write(step, values, {f"train/{name}": value for name, value in values.items()})

    def write_evaluation(self, step, seconds, summary, area=None):
        """area: under the discriminator's curve."""
        means = {
            f"validation/{predictor}/{metric}": values["mean"]
            for predictor, found in summary.items()
            for metric, values in found.items()
        }
        found = {} if area is None else {"discriminator_auc": area}
        means.update({f"validation/{name}": value for name, value in found.items()})
        line = {"seconds": round(seconds, 2), **found, "evaluation": summary}
        self._write(step, line, means)

    def _write(self, step, line, scalars):
        if self._file is None:
            return
        with self._clear_errors():
            self._file.write(json.dumps({"step": step, **line}) + "\n")
            self._file.flush()
            for name, value in scalars.items():
                found = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                self._board.write_event(found)
            self._board.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._file is not None:
            with contextlib.suppress(OSError):  # All that could be written is.
                self._file.close()
                self._board.close()

    @contextlib.contextmanager
    def _clear_errors(self):
        try:
            yield
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror}") from error


def _drop_lines_after(step: int, path: pathlib.Path) -> None:
    """Steps after the checkpoint that is resumed will be done, and told, again."""
    lines = path.read_text(errors="replace").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    if kept:
        writing.write_text(path, "".join(f"{line}\n" for line in kept))
    else:  # Killed before the first was written.
        path.unlink()
