"""Guards of a training: values that are not finite, and a discriminator that has stalled or won."""

import errno
import math
import os
import struct

import jax
import jax.numpy as jnp
import pytest
from tensorboardX.proto.event_pb2 import Event

from vidpred_jax.training import steps
from vidpred_jax.training.progress import MetricsWriter, Progress
from vidpred_jax.training.state import TrainState
from vidpred_jax.types import UserError


def make_progress(skippable=0):
    said = []
    pace = Progress(10, 99, lambda batch: f"clips {batch}", skippable, said.append)
    return pace, said


def test_a_value_that_is_not_finite_is_told_with_step_and_clips():
    pace, _ = make_progress()
    pace.add({"loss": 1.0, "l1": 2.0}, "a")
    pace.add({"loss": 1.0, "l1": math.nan}, "b, c")
    with pytest.raises(UserError, match=r"^l1 is not finite at step 12 \(clips b, c\); nothing"):
        pace.check(12)


def test_so_many_are_skipped_and_no_more():
    pace, said = make_progress(skippable=2)
    for number, value in enumerate([1.0, math.inf, 3.0, math.nan]):
        pace.add({"loss": value}, number)
    pace.check(14)
    assert pace.means(14)["loss"] == 2
    assert [line.split(":")[1] for line in said] == [
        " loss is not finite at step 12 (clips 1)",
        " loss is not finite at step 14 (clips 3)",
    ]
    assert said[1].endswith("skipped, 2 of at most 2")
    pace.add({"loss": math.nan}, 5)
    with pytest.raises(UserError, match=r"step 15 \(clips 5\); skip_nonfinite \(2\); nothing was"):
        pace.means(15)


def test_a_skipped_step_changes_nothing_but_its_number():
    tree = {"w": jnp.ones(3)}
    state = TrainState(jnp.asarray(4), {"g": tree}, {}, {"m": jnp.zeros(3)}, tree, {}, jnp.asarray(3))

    def step(state, batch, *, axis_name=None):
        changed = jax.tree.map(lambda x: x + batch, state)
        return changed.replace(step=state.step + 1), {"loss": batch, "norm": 1 / batch}

    guarded = jax.jit(steps.skip_nonfinite(step))
    after, metrics = guarded(state, 2.0)
    assert int(after.step) == 5 and float(after.params["g"]["w"][0]) == 3
    after, metrics = guarded(state, 0.0)  # A norm of 1 / 0.
    assert int(after.step) == 5 and math.isinf(metrics["norm"])
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), after.replace(step=4), state))


@pytest.mark.parametrize("before", [b"", b'{"ste', b"\xe5\n", b'{"step": 3}\n{"step": 5}\n'])
def test_lines_after_the_checkpoint_are_written_again(before, tmp_path):
    """Whatever a kill has left."""
    (tmp_path / "metrics.jsonl").write_bytes(before)
    with MetricsWriter(tmp_path, 3) as writer:
        writer.write(4, {"loss": 1.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert lines == ['{"step": 3}'] * (b"3}" in before) + ['{"step": 4, "loss": 1.0}']


@pytest.mark.parametrize("part", ["_file", "_board"])
def test_a_full_disk_is_told_and_not_waited_for(part, tmp_path, monkeypatch):
    def write(self, line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with MetricsWriter(tmp_path, 0) as writer:
        monkeypatch.setattr(writer, part, type("Full", (), {"write": write, "write_event": write})())
        with pytest.raises(UserError, match=r"cannot write .*metrics.jsonl: No space left on dev"):
            writer.write(1, {"loss": 1.0})
        monkeypatch.undo()


def test_tensorboard_shows_what_was_written(tmp_path):
    psnr = {"psnr": {"mean": 20.5}}
    for start in (0, 2):  # A restart has a file of its own, within the same second too.
        with MetricsWriter(tmp_path, start) as writer:
            writer.write(start + 1, {"loss": start + 0.5})
            writer.write_evaluation(start + 2, 1.0, {"ours": psnr})
    found = []
    for file in sorted((tmp_path / "tensorboard").glob("*tfevents*")):
        data = file.read_bytes()
        while data:  # TFRecord: a length, its checksum, the event, its checksum.
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    assert found == [
        (1, "train/loss", 0.5),
        (2, "validation/ours/psnr", 20.5),
        (3, "train/loss", 2.5),
        (4, "validation/ours/psnr", 20.5),
    ]
