"""Schedules of the accompanying convolution: what each level passes on where no true frame is known.

A schedule gives each level its shares of a, b, p and `keep`, which leaves the frame as it is (ours).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax.models import accompanying
from vidpred_jax.models.accompanying import AccompanyingStack
from vidpred_jax.types import InputError

KEEP = len(accompanying.STACKS)  # The index of `keep` among a level's shares.
KEPT = [0.0, 0.0, 0.0, 1.0]


def freeze_schedule(stack: AccompanyingStack, params: dict, batches) -> list[list[float]]:
    """The schedule for use without true frames: for each level the shares of a, b, p and `keep`.

    batches: frames of validation clips, each with fields frame, fusion, steps_ahead and target. Each
    level transmits as in training, but by the mean PSNR over all of them. `keep_best` compares this
    with each stack alone (ours): the best choice at every level need not give the best last frame.
    """
    each_alone = [alone(name, stack) for name in accompanying.STACKS]
    return keep_best(stack, params, [_transmitted(stack, params, batches), *each_alone], batches)


def _transmitted(stack, params, batches):
    """Selective transmission from level to level."""
    feeds = [dict.fromkeys(accompanying.STACKS, batch.frame) for batch in batches]
    schedule = []
    for number, scale in enumerate(stack.scales):
        outputs = [
            {name: _level(stack, number, params[name], feed[name], batch) for name in feed}
            for feed, batch in zip(feeds, batches, strict=True)
        ]
        quality = [_qualities(x, b.target, scale) for x, b in zip(outputs, batches, strict=True)]
        share = accompanying.transmit(jnp.asarray(_mean(quality, batches)))
        schedule.append([*(round(float(x), 6) for x in share), 0.0])
        for feed, frames in zip(feeds, outputs, strict=True):
            passed = accompanying.blend(frames, share[:, None])
            for name in feed:
                feed[name] = frames[name] if name == "p" else passed
    return schedule


def alone(name: str, stack: AccompanyingStack) -> list[list[float]]:
    """The schedule of one stack alone."""
    return [[float(name == other) for other in (*accompanying.STACKS, "keep")]] * len(stack.scales)


def keep_best(stack: AccompanyingStack, params: dict, candidates: list, batches) -> list[list[float]]:
    """The candidate schedule with the highest PSNR on `batches`, the first in a tie (ours).

    Each is cut after the last level at which its PSNR is not below that of the frames themselves.
    """
    best, best_schedule = -np.inf, [KEPT] * len(stack.scales)
    for schedule in candidates:
        before, *after = _mean([_psnrs(stack, params, schedule, b) for b in batches], batches)
        lasts = [last for last, psnr in enumerate(after, 1) if psnr >= before]
        if lasts and after[lasts[-1] - 1] > best:
            last, best = lasts[-1], after[lasts[-1] - 1]
            best_schedule = [*schedule[:last], *[KEPT] * (len(schedule) - last)]
    return best_schedule


def _psnrs(stack, params, schedule, batch):
    """PSNR of each frame before and after each level of a schedule: (1 + levels, n)."""
    frame = reference = batch.frame
    psnrs = [_psnr(frame, batch.target, 1)]
    for number, share in enumerate(schedule):
        outputs = {
            name: _level(stack, number, params[name], frame, batch)
            for name, part in zip("ab", share, strict=False)
            if part
        }
        if any(later[2] for later in schedule[number:]):
            reference = outputs["p"] = _level(stack, number, params["p"], reference, batch)
        passed = accompanying.blend(outputs, jnp.asarray(share[:KEEP])[:, None]) if outputs else 0.0
        frame = passed + share[KEEP] * frame
        psnrs.append(_psnr(frame, batch.target, 1))
    return np.stack(psnrs)


_psnr = jax.jit(accompanying.level_psnr, static_argnums=2)
_qualities = jax.jit(accompanying.qualities, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _level(stack, number, params, frame, batch):
    inputs = batch.fusion, batch.steps_ahead
    return stack.apply({"params": params}, number, frame, *inputs, method="level")


def _mean(values, batches):
    """Means over the last axis, of all frames of all batches."""
    weights = [len(batch.frame) for batch in batches]
    return np.average([np.asarray(v).mean(-1) for v in values], 0, weights)


def apply_schedule(stack: AccompanyingStack, params: dict, schedule, frame, fusion, steps_ahead):
    """The sharpened frame (n, h, w, 3) by a schedule; levels without a share are not run."""

    def level(name, number, frame):
        inputs = number, frame, fusion, steps_ahead
        return stack.apply({"params": params[name]}, *inputs, method="level")

    reference = frame
    last = max((k for k, share in enumerate(schedule) if share[2]), default=-1)
    for number, share in enumerate(schedule):
        outputs = {}
        if number <= last:
            reference = outputs["p"] = level("p", number, reference)
        # If a later level passes on the reference alone, the pair is not needed before it.
        needed = not any(later[2] == 1 for later in schedule[number:])
        for i, name in enumerate(("a", "b")):
            if share[i] and needed:
                outputs[name] = level(name, number, frame)
        if needed or share[2] == 1:
            frame = share[KEEP] * frame + sum(
                share[i] * outputs[name] for i, name in enumerate(accompanying.STACKS) if share[i]
            )
    return frame


def check_schedule(schedule, stack: AccompanyingStack, run: str) -> tuple[tuple[float, ...], ...]:
    """A schedule read from a checkpoint. Raises InputError unless it gives each level its shares."""
    try:
        checked = tuple(tuple(float(x) for x in share) for share in schedule)
        fits = len(checked) == len(stack.scales)
        fits &= all(len(share) == KEEP + 1 and abs(sum(share) - 1) < 1e-4 for share in checked)
        fits &= all(0 <= x <= 1 for share in checked for x in share)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise InputError(
            f"the schedule {schedule!r} of run {run!r} must give shares of a, b, p and keep for each of "
            f"{len(stack.scales)} levels"
        )
    return checked


def sharpen(stack: AccompanyingStack, params: dict, schedule, frames, pictures, steps_ahead):
    """`apply_schedule` of videos (b, t, h, w, 3) and steps_ahead (b, t)."""
    inputs = (x.reshape(-1, *x.shape[2:]) for x in (frames, pictures, steps_ahead))
    return apply_schedule(stack, params, schedule, *inputs).reshape(frames.shape)


def describe(schedule) -> str:
    """A schedule in short, e.g. `a b keep`."""
    names = (*accompanying.STACKS, "keep")
    words = []
    for share in schedule:
        parts = [f"{x:.2f}*{n}" if x < 1 else n for x, n in zip(share, names, strict=True) if x]
        words.append("+".join(parts))
    return " ".join(words)
