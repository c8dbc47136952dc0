"""Schedules of the accompanying convolution: what each level passes on where no true frame is known.

A schedule names it for each level: `a`, `b`, `p`, or `keep`, which leaves the frame as it is (ours).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax.models import accompanying
from vidpred_jax.models.accompanying import STACKS, AccompanyingStack
from vidpred_jax.types import InputError

KEEP = "keep"


def freeze_schedule(stack: AccompanyingStack, params: dict, batches) -> list[str]:
    """The schedule for use without true frames.

    batches: frames of validation clips, each with fields frame, fusion, steps_ahead and target. Each
    level transmits as in training, but by the mean PSNR over all of them. `keep_best` compares this
    with each stack alone (ours): the best choice at every level need not give the best last frame.
    """
    each_alone = [alone(name, stack) for name in STACKS]
    return keep_best(stack, params, [_transmitted(stack, params, batches), *each_alone], batches)


def _transmitted(stack, params, batches):
    """Selective transmission from level to level."""
    feeds = [dict.fromkeys(STACKS, batch.frame) for batch in batches]
    schedule = []
    for number, scale in enumerate(stack.scales):
        outputs = [
            {name: _level(stack, number, params[name], feed[name], x.fusion, x.steps_ahead) for name in feed}
            for feed, x in zip(feeds, batches, strict=True)
        ]
        quality = [_qualities(x, b.target, scale) for x, b in zip(outputs, batches, strict=True)]
        name = STACKS[int(accompanying.choose(jnp.asarray(_mean(quality, batches))))]
        schedule.append(name)
        feeds = [{"a": frames[name], "b": frames[name], "p": frames["p"]} for frames in outputs]
    return schedule


def alone(name: str, stack: AccompanyingStack) -> list[str]:
    """The schedule of one stack alone, or of none by KEEP."""
    return [name] * len(stack.scales)


def keep_best(stack: AccompanyingStack, params: dict, candidates: list, batches) -> list[str]:
    """The candidate schedule with the highest PSNR on `batches`, the first in a tie (ours).

    Each is cut after the last level at which its PSNR is not below that of the frames themselves.
    """

    def psnrs(schedule, batch):
        """Of each frame before and after each level: (1 + levels, n)."""
        given = batch.frame, batch.fusion, batch.steps_ahead
        parts = (schedule[:k] for k in range(len(schedule) + 1))
        return [_psnr(apply_schedule(stack, params, part, *given), batch.target, 1) for part in parts]

    best, best_schedule = -np.inf, alone(KEEP, stack)
    for schedule in candidates:
        before, *after = _mean([psnrs(schedule, batch) for batch in batches], batches)
        lasts = [last for last, psnr in enumerate(after, 1) if psnr >= before]
        if lasts and after[lasts[-1] - 1] > best:
            last, best = lasts[-1], after[lasts[-1] - 1]
            best_schedule = [*schedule[:last], *alone(KEEP, stack)[last:]]
    return best_schedule


_psnr = jax.jit(accompanying.level_psnr, static_argnums=2)
_qualities = jax.jit(accompanying.qualities, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _level(stack, number, params, frame, fusion, steps_ahead):
    return stack.apply({"params": params}, number, frame, fusion, steps_ahead, method="level")


def _mean(values, batches):
    """Means over the last axis, of all frames of all batches."""
    weights = [len(batch.frame) for batch in batches]
    return np.average([np.asarray(v).mean(-1) for v in values], 0, weights)


def apply_schedule(stack: AccompanyingStack, params: dict, schedule, frame, fusion, steps_ahead):
    """The sharpened frame (n, h, w, 3). Before a level that passes on p all are p's: those feed it."""
    last = max((number for number, name in enumerate(schedule) if name == "p"), default=-1)
    for number, name in enumerate(schedule):
        name = "p" if number <= last else name
        if name != KEEP:
            frame = _level(stack, number, params[name], frame, fusion, steps_ahead)
    return frame


def check_schedule(schedule, stack: AccompanyingStack, run: str) -> tuple[str, ...]:
    """A schedule read from a checkpoint. Raises InputError unless it names something for each level."""
    known = (*STACKS, KEEP)
    levels = schedule if isinstance(schedule, list) else []
    if len(levels) != len(stack.scales) or not all(name in known for name in map(str, levels)):
        raise InputError(
            f"the schedule {schedule!r} of run {run!r} must name one of {', '.join(known)} for each of "
            f"{len(stack.scales)} levels"
        )
    return tuple(map(str, levels))


def sharpen(stack: AccompanyingStack, params: dict, schedule, frames, pictures, steps_ahead):
    """`apply_schedule` of videos (b, t, h, w, 3) and steps_ahead (b, t)."""
    inputs = (x.reshape(-1, *x.shape[2:]) for x in (frames, pictures, steps_ahead))
    return apply_schedule(stack, params, schedule, *inputs).reshape(frames.shape)
