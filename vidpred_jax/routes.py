"""The route of the accompanying convolution: which stack does each stage where no true frame is known.

A route gives every stage its shares of a, b, p and `keep`, which leaves a frame as it is (ours).
"""

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax.models import accompanying
from vidpred_jax.models.accompanying import Selection, Stack
from vidpred_jax.types import InputError

KEEP = len(accompanying.STACKS)  # The place of `keep` among a stage's shares.
KEPT = [0.0, 0.0, 0.0, 1.0]


def freeze_route(stack: Stack, selection: Selection, params: dict, batches) -> list[list[float]]:
    """The route for use without true frames: for each stage the shares of a, b, p and `keep`.

    batches: frames of validation clips, each with fields frame, fusion, ahead and target. As in
    training, but by the mean PSNR over all of them; of what that gives, as many stages are kept from
    the first on as leave the PSNR no lower than it came (ours).
    """
    feeds = [dict.fromkeys(selection.stacks, batch.frame) for batch in batches]
    route, chains = [], selection.transmission == "none"
    run = jax.jit(_measured, static_argnums=(0, 1, 3))
    for number in range(len(stack.scales)):
        outputs = [
            run(stack, selection, params, number, feed, batch)
            for feed, batch in zip(feeds, batches, strict=True)
        ]
        quality = _mean([quality for _, quality in outputs], batches)
        share = np.asarray(
            accompanying.shares(jnp.asarray(quality), selection.transmission == "soft")
        )
        route.append([*(round(float(x), 6) for x in share), 0.0])
        for feed, (found, _) in zip(feeds, outputs, strict=True):
            passed = accompanying.blend(found, jnp.asarray(share)[:, None])
            for name in selection.stacks:
                feed[name] = found[name] if chains or name == "p" else passed
    if chains:  # The stack that ends best, from its first stage to its last.
        route = [route[-1]] * len(route)
    return keep_best(stack, params, route, batches)


def keep_best(stack: Stack, params: dict, route, batches) -> list[list[float]]:
    """As many of a route's stages, from the first on, as leave PSNR no lower than it came (ours)."""
    whole = jax.jit(accompanying.stage_psnr, static_argnums=2)
    before = _mean([whole(b.frame, b.target, 1) for b in batches], batches)
    run = jax.jit(_sharpened_psnr, static_argnums=(0, 2))
    for last in range(len(route), 0, -1):
        shorter = [*route[:last], *[KEPT] * (len(route) - last)]
        fixed = tuple(map(tuple, shorter))
        if _mean([run(stack, params, fixed, b) for b in batches], batches) >= before:
            return shorter
    return [KEPT] * len(route)


def _sharpened_psnr(stack, params, route, batch):
    found = apply_route(stack, params, route, batch.frame, batch.fusion, batch.ahead)
    return accompanying.stage_psnr(found, batch.target, 1)


def _mean(values, batches):
    """Means over the last axis, of all frames of all batches."""
    weights = [len(batch.frame) for batch in batches]
    return np.average([np.asarray(v).mean(-1) for v in values], 0, weights)


def _measured(stack, selection, params, number, feeds, batch):
    """(frames by stack, their qualities (3, n)) after a stage."""
    found = accompanying.candidates(
        stack, selection, params, number, feeds, (batch.fusion, batch.ahead)
    )
    return found, accompanying.qualities(found, batch.target, stack.scales[number])


def apply_route(stack: Stack, params: dict, route, frame, fusion, ahead):
    """The sharpened frame (n, h, w, 3) by a frozen route; stages without a share are not run."""
    reference = frame
    last = max((k for k, share in enumerate(route) if share[2]), default=-1)
    for number, share in enumerate(route):
        found = {}
        if number <= last:
            reference = stack.apply(
                {"params": params["p"]}, number, reference, fusion, ahead, method="stage"
            )
            found["p"] = reference
        # What is replaced whole by the reference's own chain later on is not needed.
        needed = not any(later[2] == 1 for later in route[number:])
        for i, name in enumerate(("a", "b")):
            if share[i] and needed:
                found[name] = stack.apply(
                    {"params": params[name]}, number, frame, fusion, ahead, method="stage"
                )
        if needed or share[2] == 1:
            frame = share[KEEP] * frame + sum(
                share[i] * found[name] for i, name in enumerate(accompanying.STACKS) if share[i]
            )
    return frame


def check_route(
    route, stack: Stack, selection: Selection, run: str
) -> tuple[tuple[float, ...], ...]:
    """A route read from a checkpoint. Raises InputError unless it gives every stage its shares."""
    try:
        found = tuple(tuple(float(x) for x in share) for share in route)
        fits = len(found) == len(stack.scales) and all(len(share) == KEEP + 1 for share in found)
        exist = {*(accompanying.STACKS.index(name) for name in selection.stacks), KEEP}
        fits &= all(abs(sum(share) - 1) < 1e-4 for share in found)
        fits &= all(0 <= x <= 1 and (not x or i in exist) for s in found for i, x in enumerate(s))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"the route {route!r} of run {run!r} must give shares of a, b, p and keep for each of "
            f"{len(stack.scales)} stages"
        )
    return found


def sharpen(stack: Stack, params: dict, route, frames, pictures, ahead):
    """`apply_route` of videos (b, t, h, w, 3) and ahead (b, t)."""
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    found = apply_route(stack, params, route, flat(frames), flat(pictures), flat(ahead))
    return found.reshape(frames.shape)


def describe(route) -> str:
    """A route in words, e.g. `a b keep`."""
    names = (*accompanying.STACKS, "keep")
    words = []
    for share in route:
        parts = [f"{x:.2f}*{n}" if x < 1 else n for x, n in zip(share, names, strict=True) if x]
        words.append("+".join(parts))
    return " ".join(words)
