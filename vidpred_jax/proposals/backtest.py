"""Backtests of the candidates: made again from earlier frames of the window, compared with what followed."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.ops import blur_planes, exact_einsum
from vidpred_jax.proposals import candidates
from vidpred_jax.proposals.candidates import NUM_CANDIDATES

_BACKTESTS = {1: (1,), 3: (1, 2, 3), 7: (1, 4, 7), 11: (2, 6, 11)}  # Frames ago: steps ahead.
_NEEDED = 3  # Frames that the flows of a backtest are estimated from.
LEAST_FRAMES = min(_BACKTESTS) + _NEEDED
# Upper bounds of the kinds of lag (steps ahead of a backtest); the last kind has none.
_LAGS = (1, 4)
NUM_LAGS = len(_LAGS) + 1
_WIDTHS = {"place": 10, "near": 25}  # Sigma of local error means: the lesser side divided by it.
# Added to squared errors, summed over channels in [-1, 1], before the logarithm.
_LEAST_ERROR = 1e-4


@struct.dataclass
class Observations:
    """What candidates and gates need of the observed frames; no parameters.

    newest: (b, h, w, 3). still: the candidates that stand still, (b, k, 3, h, w). flows: of the newest
    frame in pixels a frame, (b, NUM_FLOWS, h, w, 2). errors: logarithm of each candidate's mean squared
    error in the backtests minus that of the best, (b, NUM_LAGS, NUM_CANDIDATES, h or 1, w or 1): over the
    whole frame (`frame`) and Gaussian means around each pixel with a sigma of 1/10 (`place`) and 1/25
    (`near`) of the lesser side. Zero for kinds of lag that the window is too short for. No gradient
    reaches them.
    """

    newest: Float[Array, "b h w 3"]
    still: Float[Array, "b s 3 h w"]
    flows: Float[Array, "b f h w 2"]
    errors: dict[str, Float[Array, "b l k _ _"]]


def observe(frames: Float[Array, "b n h w 3"], levels: int) -> Observations:
    """Observations of n frames, LEAST_FRAMES or more; levels: of the flows' pyramid."""
    n = frames.shape[1]
    assert n >= LEAST_FRAMES, frames.shape
    backtests = [ago for ago in _BACKTESTS if ago + _NEEDED <= n]
    newest = jnp.stack([frames[:, n - 1 - ago] for ago in (0, *backtests)])
    mean = jnp.stack([frames[:, : n - ago].mean(1) for ago in (0, *backtests)])
    flows = candidates.estimate_flows(frames, [n - 1 - ago for ago in (0, *backtests)], levels)
    still = jax.lax.map(candidates.blur_still, (newest, mean))
    errors = _errors(frames, backtests, newest, still, flows)
    return Observations(newest[0], still[0], flows[0], errors)


def blank(frames: Float[Array, "b n h w 3"]) -> Observations:
    """Observations of the same shapes that say nothing: newest frames, zeros."""
    b, _, h, w, _ = frames.shape
    sizes = {"frame": (1, 1), **dict.fromkeys(_WIDTHS, (h, w))}
    errors = {name: jnp.zeros((b, NUM_LAGS, NUM_CANDIDATES, *size)) for name, size in sizes.items()}
    still = jnp.zeros((b, candidates.NUM_STILL, 3, h, w))
    return Observations(frames[:, -1], still, jnp.zeros((b, candidates.NUM_FLOWS, h, w, 2)), errors)


def _errors(frames, backtests, newest, still, flows):
    """`errors` of `Observations`. newest, still, flows: of the whole window, then of each backtest."""
    pairs = [(ago, lag) for ago in backtests for lag in _BACKTESTS[ago]]
    most = max(lag for _, lag in pairs)

    def run(pair):
        number, truth, lag = pair
        steps = jnp.broadcast_to(lag, len(truth))
        displacements = candidates.extrapolate_all(flows[number], steps[:, None], most)[:, 0]
        moved = candidates.move(newest[number], displacements, steps)
        found = jnp.concatenate([jnp.stack(moved, 1), still[number]], 1)
        return jnp.square(found - jnp.moveaxis(truth, -1, 1)[:, None]).sum(2)

    numbers = jnp.array([1 + backtests.index(ago) for ago, _ in pairs])
    truths = jnp.stack([frames[:, lag - 1 - ago] for ago, lag in pairs])
    lags = jnp.array([lag for _, lag in pairs], jnp.float32)
    errors = jax.lax.map(run, (numbers, truths, lags))
    kinds = np.searchsorted(_LAGS, [lag for _, lag in pairs])
    kinds = (kinds == np.arange(NUM_LAGS)[:, None]).astype(np.float32)
    errors = exact_einsum("pbkhw,lp->blkhw", errors, kinds / kinds.sum(1, keepdims=True).clip(1))
    means = {"frame": errors.mean((3, 4), keepdims=True)}
    side = min(errors.shape[-2:])
    means |= {name: blur_planes(errors, side / part) for name, part in _WIDTHS.items()}
    levels = {name: jnp.log(mean + _LEAST_ERROR) for name, mean in means.items()}
    behind = {name: level - level.min(2, keepdims=True) for name, level in levels.items()}
    return jax.lax.stop_gradient(behind)
