"""The schedule of the accompanying convolution: which stack does each stage where no true frame is known.

A schedule gives every stage its shares of a, b, p and `keep`, which leaves a frame as it is (ours).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax.models import accompanying
from vidpred_jax.models.accompanying import Stack
from vidpred_jax.types import InputError

KEEP = len(accompanying.STACKS)  # The place of `keep` among a stage's shares.
KEPT = [0.0, 0.0, 0.0, 1.0]


def freeze_schedule(stack: Stack, params: dict, batches) -> list[list[float]]:
    """The schedule for use without true frames: for each stage the shares of a, b, p and `keep`.

    batches: frames of validation clips, each with fields frame, fusion, ahead and target. As in
    training, but by the mean PSNR over all of them. Each stack alone, from its first stage to its
    last, competes with that by `keep_best` (ours): the best of every stage need not end best.
    """
    each_alone = [alone(name, stack) for name in accompanying.STACKS]
    wanted = [_transmitted(stack, params, batches), *each_alone]
    return keep_best(stack, params, wanted, batches)


def _transmitted(stack, params, batches):
    """Selective transmission from stage to stage."""
    feeds = [dict.fromkeys(accompanying.STACKS, batch.frame) for batch in batches]
    schedule = []
    for number, scale in enumerate(stack.scales):
        found = [
            {name: _level(stack, number, params[name], feed[name], batch) for name in feed}
            for feed, batch in zip(feeds, batches, strict=True)
        ]
        measured = [_qualities(x, b.target, scale) for x, b in zip(found, batches, strict=True)]
        quality = jnp.asarray(_mean(measured, batches))
        share = accompanying.transmit(quality)
        schedule.append([*(round(float(x), 6) for x in share), 0.0])
        for feed, outputs in zip(feeds, found, strict=True):
            passed = accompanying.blend(outputs, share[:, None])
            for name in feed:
                feed[name] = outputs[name] if name == "p" else passed
    return schedule


def alone(name: str, stack: Stack) -> list[list[float]]:
    """The schedule through one stack."""
    return [[float(name == other) for other in (*accompanying.STACKS, "keep")]] * len(stack.scales)


def keep_best(stack: Stack, params: dict, wanted: list, batches) -> list[list[float]]:
    """Of some schedules the one of highest PSNR on `batches`, the first in a tie (ours).

    Of each, as many stages are kept from the first on as leave PSNR no lower than it came.
    """
    best, found = -np.inf, [KEPT] * len(stack.scales)
    for schedule in wanted:
        before, *after = _mean([_psnrs(stack, params, schedule, b) for b in batches], batches)
        lasts = [last for last, psnr in enumerate(after, 1) if psnr >= before]
        if lasts and after[lasts[-1] - 1] > best:
            last, best = lasts[-1], after[lasts[-1] - 1]
            found = [*schedule[:last], *[KEPT] * (len(schedule) - last)]
    return found


def _psnrs(stack, params, schedule, batch):
    """PSNR of every frame as it came and after each stage of a schedule: (1 + stages, n)."""
    frame = reference = batch.frame
    found = [_psnr(frame, batch.target, 1)]
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
        found.append(_psnr(frame, batch.target, 1))
    return np.stack(found)


_psnr = jax.jit(accompanying.level_psnr, static_argnums=2)
_qualities = jax.jit(accompanying.qualities, static_argnums=2)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _level(stack, number, params, frame, batch):
    rest = batch.fusion, batch.ahead
    return stack.apply({"params": params}, number, frame, *rest, method="level")


def _mean(values, batches):
    """Means over the last axis, of all frames of all batches."""
    weights = [len(batch.frame) for batch in batches]
    return np.average([np.asarray(v).mean(-1) for v in values], 0, weights)


def apply_schedule(stack: Stack, params: dict, schedule, frame, fusion, ahead):
    """The sharpened frame (n, h, w, 3) by a frozen schedule; stages without a share are not run."""
    reference = frame
    last = max((k for k, share in enumerate(schedule) if share[2]), default=-1)
    for number, share in enumerate(schedule):
        found = {}
        if number <= last:
            reference = stack.apply(
                {"params": params["p"]}, number, reference, fusion, ahead, method="level"
            )
            found["p"] = reference
        # What is replaced whole by the reference's own chain later on is not needed.
        needed = not any(later[2] == 1 for later in schedule[number:])
        for i, name in enumerate(("a", "b")):
            if share[i] and needed:
                found[name] = stack.apply(
                    {"params": params[name]}, number, frame, fusion, ahead, method="level"
                )
        if needed or share[2] == 1:
            frame = share[KEEP] * frame + sum(
                share[i] * found[name] for i, name in enumerate(accompanying.STACKS) if share[i]
            )
    return frame


def check_schedule(schedule, stack: Stack, run: str) -> tuple[tuple[float, ...], ...]:
    """A schedule read from a checkpoint. Raises InputError unless it gives every stage its shares."""
    try:
        found = tuple(tuple(float(x) for x in share) for share in schedule)
        fits = len(found) == len(stack.scales) and all(len(share) == KEEP + 1 for share in found)
        fits &= all(abs(sum(share) - 1) < 1e-4 for share in found)
        fits &= all(0 <= x <= 1 for share in found for x in share)
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise InputError(
            f"the schedule {schedule!r} of run {run!r} must give shares of a, b, p and keep for each of "
            f"{len(stack.scales)} stages"
        )
    return found


def sharpen(stack: Stack, params: dict, schedule, frames, pictures, ahead):
    """`apply_schedule` of videos (b, t, h, w, 3) and ahead (b, t)."""
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    found = apply_schedule(stack, params, schedule, flat(frames), flat(pictures), flat(ahead))
    return found.reshape(frames.shape)


def describe(schedule) -> str:
    """A schedule in words, e.g. `a b keep`."""
    names = (*accompanying.STACKS, "keep")
    words = []
    for share in schedule:
        parts = [f"{x:.2f}*{n}" if x < 1 else n for x, n in zip(share, names, strict=True) if x]
        words.append("+".join(parts))
    return " ".join(words)
