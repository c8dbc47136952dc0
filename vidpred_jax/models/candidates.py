"""Candidate frames without learned parameters, and their errors on the observed frames (ours).

A candidate is the newest frame moved along a flow, the newest frame as it is, or the mean of the
observed frames, each at some blur. Made from an earlier frame of the window, it is compared with the
observed frame that it predicts: a backtest.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.models.ops import blur, blur_planes, exact_einsum, sum_channels, warp
from vidpred_jax.models.optical_flow import MOST_AHEAD, extrapolate, track

SPANS = (1, 3, 6)  # Frames between the two frames that a flow is estimated from.
NUM_FLOWS = len(SPANS) + 1  # The last: the first plus half of its change since the frame before.
# Moved candidates: (flow, time constant in frames of the decay of its speed, 0 for none; blur in
# pixels of a frame whose lesser side is _SIDE). Long spans predict lasting motion, short ones the next
# frame; the motion of a hand-held camera dies out.
_MOVED = (
    *((0, 0, 0.0), (1, 0, 0.0), (2, 0, 0.0), (3, 0, 0.0), (0, 4, 0.0)),
    *((0, 0, 1.5), (1, 0, 1.5), (1, 0, 4.0), (2, 0, 3.0), (2, 0, 10.0)),
    *((1, 12, 0.0), (1, 12, 1.5), (1, 12, 4.0), (2, 12, 10.0)),
    *((1, 4, 0.0), (1, 4, 1.5), (1, 4, 4.0), (1, 4, 10.0)),
)
# Blurs of the newest and of the mean frame: far ahead a strong blur is the best candidate of many clips.
_STILL_BLURS = (0.0, 3.0, 8.0, 16.0, 32.0)
_SIDE = 128
NUM_CANDIDATES = len(_MOVED) + 2 * len(_STILL_BLURS)
_BACKTESTS = {1: (1,), 3: (1, 2, 3), 7: (1, 4, 7), 11: (2, 6, 11)}  # Frames ago: steps ahead.
_NEEDED = 3  # Frames that the flows of a backtest are estimated from.
LEAST_FRAMES = min(_BACKTESTS) + _NEEDED
# Upper bounds of the kinds of lag (steps ahead of a backtest); the last kind has none.
_LAGS = (1, 4)
NUM_LAGS = len(_LAGS) + 1
_WIDTHS = {"place": 10, "near": 25}  # Sigma of local error means: the lesser side divided by it.
_KNOWN = (3, 7)  # Backtests whose per-pixel errors a U-Net sees.
# Added to squared errors, summed over channels in [-1, 1], before the logarithm.
_LEAST_ERROR = 1e-4


@struct.dataclass
class Observations:
    """What candidates and gates need of the observed frames; arrays without parameters.

    newest, mean: (b, h, w, 3). still: the candidates that stand still, (b, k, 3, h, w). flows: of the
    newest frame in pixels a frame, (b, NUM_FLOWS, h, w, 2). known: input planes for a U-Net,
    (b, h, w, k). errors: logarithm of each candidate's mean squared error in the backtests minus that of
    the best, (b, NUM_LAGS, NUM_CANDIDATES, h or 1, w or 1): over the whole frame (`frame`) and Gaussian
    means around each pixel with a sigma of 1/10 (`place`) and 1/25 (`near`) of the lesser side. Zero
    for kinds of lag that the window is too short for. No gradient reaches them.
    """

    newest: jax.Array
    mean: jax.Array
    still: jax.Array
    flows: jax.Array
    known: jax.Array
    errors: dict[str, jax.Array]


def extrapolate_all(
    flows: Float[Array, "b k h w 2"], steps_ahead: Float[Array, "b t"], most: int = MOST_AHEAD
) -> Float[Array, "b t k h w 2"]:
    """`extrapolate` for several flows of each clip."""
    b, k, h, w, _ = flows.shape
    steps_ahead = jnp.repeat(steps_ahead, k, 0)
    displacements = extrapolate(flows.reshape(b * k, h, w, 2), steps_ahead, most=most)
    return displacements.reshape(b, k, -1, h, w, 2).swapaxes(1, 2)


def move(
    newest: Float[Array, "b h w 3"],
    displacements: Float[Array, "b 4 h w 2"],
    steps_ahead: Float[Array, " b"],
) -> list[Float[Array, "b 3 h w"]]:
    """The moved candidates `steps_ahead` of the newest frame, as planes."""
    steps = jnp.minimum(steps_ahead, MOST_AHEAD).reshape(-1, 1, 1, 1)  # As the displacements.
    # The part of the displacement that is left if speed decays as exp(-time / constant).
    left = lambda constant: constant * (1 - jnp.exp(-steps / constant)) / steps if constant else 1.0
    motions = list(dict.fromkeys(motion[:2] for motion in _MOVED))
    moved = jnp.stack([displacements[:, flow] * left(constant) for flow, constant in motions])
    moved = jnp.moveaxis(jax.vmap(warp, (None, 0))(newest, moved), -1, 2)
    return _blur_each(moved, [(motions.index(motion[:2]), motion[2]) for motion in _MOVED])


def _blur_each(planes, chosen):
    """planes (n, b, 3, h, w), chosen pairs (index into n, sigma) -> for each (b, 3, h, w)."""
    side, blurred = min(planes.shape[-2:]), {}
    for sigma in sorted({sigma for _, sigma in chosen}):  # One product for all that share a sigma.
        indices = [i for i, other in chosen if other == sigma]
        found = planes[np.array(indices)]
        found = blur_planes(found, sigma * side / _SIDE) if sigma else found
        blurred |= {(i, sigma): found[place] for place, i in enumerate(indices)}
    return [blurred[each] for each in chosen]


def observe(frames: Float[Array, "b n h w 3"], levels: int) -> Observations:
    """Observations of n frames, LEAST_FRAMES or more; levels: of the flows' pyramid."""
    n = frames.shape[1]
    assert n >= LEAST_FRAMES, frames.shape
    backtests = [ago for ago in _BACKTESTS if ago + _NEEDED <= n]
    newest = jnp.stack([frames[:, n - 1 - ago] for ago in (0, *backtests)])
    mean = jnp.stack([frames[:, : n - ago].mean(1) for ago in (0, *backtests)])
    flows, unmatched = _estimate_flows(frames, [n - 1 - ago for ago in (0, *backtests)], levels)
    still = jax.lax.map(_blur_still, (newest, mean))
    errors, backtested = _backtest(frames, backtests, newest, still, flows)
    known = [
        jnp.sqrt(jnp.square(frames - mean[0][:, None]).mean((1, -1)) + 1e-6)[..., None],
        magnitude(newest[0] - mean[0]),
        magnitude(newest[0] - frames[:, -2]),
        *unmatched,
    ]
    blurred = [newest[0], *(blur(newest[0], sigma) for sigma in (1.5, 4.0))]
    known += [magnitude(fine - coarse) for fine, coarse in itertools.pairwise(blurred)]
    known += [flow / 8 for flow in jnp.moveaxis(flows[0], 1, 0)]
    for ago in _KNOWN:
        if ago in backtests:
            missed, displacement = backtested[ago]
            known += [missed, magnitude(newest[0] - newest[1 + backtests.index(ago)])]
            known.append((displacement / ago - flows[0][:, 0]) / 8)
        else:
            known.append(jnp.zeros((*newest.shape[1:4], 4)))
    known = jnp.concatenate(known, -1)
    return Observations(newest[0], mean[0], still[0], flows[0], known, errors)


def _blur_still(newest_and_mean):
    planes = jnp.moveaxis(jnp.stack(newest_and_mean), -1, 2)
    return jnp.stack(_blur_each(planes, [(i, sigma) for i in (0, 1) for sigma in _STILL_BLURS]), 1)


def _estimate_flows(frames, newest, levels):
    """For each index in `newest` the flows of that frame: (len(newest), b, NUM_FLOWS, h, w, 2).

    A span longer than what precedes the frame is cut. Also, of the first frame and each span, the mean
    absolute difference (b, h, w, 1) that remains after warping.
    """

    def pairs_of(last):  # Of each span; then of the first span a frame earlier.
        return [*((last - min(span, last), last) for span in SPANS), (last - 2, last - 1)]

    pairs = list(dict.fromkeys(pair for last in newest for pair in pairs_of(last)))
    before, after = (jnp.stack([frames[:, i] for i in each]) for each in zip(*pairs, strict=True))
    shape = *before.shape[:-1], 2
    flow = track(*(x.reshape(-1, *x.shape[2:]) for x in (before, after)), levels).reshape(shape)
    of = np.array([[pairs.index(pair) for pair in pairs_of(last)] for last in newest])
    now = of[0, : len(SPANS)]
    unmatched = magnitude(after[now] - jax.vmap(warp)(before[now], flow[now]))
    spans = jnp.array([last - earlier for earlier, last in pairs], jnp.float32)
    flow /= spans.reshape(-1, 1, 1, 1, 1)
    *flows, earlier = (flow[of[:, i]] for i in range(NUM_FLOWS))
    # The flow that a pixel had a frame earlier is found where the pixel was.
    flows.append(flows[0] + (flows[0] - jax.vmap(warp)(earlier, flows[0])) / 2)
    return jnp.stack(flows, 2), list(unmatched)


def _backtest(frames, backtests, newest, still, flows):
    """`errors` of `Observations`; and for each backtest at its longest lag, by how much the first candidate
    is wrong (b, h, w, 1) and its displacement (b, h, w, 2).

    newest, still, flows: of the whole window, then of each backtest.
    """
    pairs = [(ago, lag) for ago in backtests for lag in _BACKTESTS[ago]]
    most = max(lag for _, lag in pairs)

    def run(pair):
        number, truth, lag = pair
        steps = jnp.broadcast_to(lag, len(truth))
        displacements = extrapolate_all(flows[number], steps[:, None], most)[:, 0]
        moved = move(newest[number], displacements, steps)
        truth = jnp.moveaxis(truth, -1, 1)
        candidates = jnp.concatenate([jnp.stack(moved, 1), still[number]], 1)
        errors = jnp.square(candidates - truth[:, None]).sum(2)
        return errors, jnp.abs(truth - moved[0]).mean(1)[..., None], displacements[:, 0]

    numbers = jnp.array([1 + backtests.index(ago) for ago, _ in pairs])
    truths = jnp.stack([frames[:, lag - 1 - ago] for ago, lag in pairs])
    lags = jnp.array([lag for _, lag in pairs], jnp.float32)
    errors, missed, displacements = jax.lax.map(run, (numbers, truths, lags))
    at = {ago: pairs.index((ago, _BACKTESTS[ago][-1])) for ago in backtests}
    kinds = np.searchsorted(_LAGS, [lag for _, lag in pairs])
    kinds = (kinds == np.arange(NUM_LAGS)[:, None]).astype(np.float32)
    errors = exact_einsum("pbkhw,lp->blkhw", errors, kinds / kinds.sum(1, keepdims=True).clip(1))
    means = {"frame": errors.mean((3, 4), keepdims=True)}
    side = min(errors.shape[-2:])
    means |= {name: blur_planes(errors, side / part) for name, part in _WIDTHS.items()}
    levels = {name: jnp.log(mean + _LEAST_ERROR) for name, mean in means.items()}
    behind = {name: level - level.min(2, keepdims=True) for name, level in levels.items()}
    longest = {ago: (missed[i], displacements[i]) for ago, i in at.items()}
    return jax.lax.stop_gradient(behind), longest


def magnitude(x: Float[Array, "*b c"]) -> Float[Array, "*b 1"]:
    """Mean absolute value over channels."""
    return sum_channels(jnp.abs(x)) / x.shape[-1]
