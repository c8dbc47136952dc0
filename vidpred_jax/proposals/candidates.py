"""Candidate frames without learned parameters (ours): the newest frame moved along a flow, the newest
frame as it is, or the mean of the observed frames, each at some blur.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vidpred_jax.ops import blur, blur_planes, cubic_warp, warp
from vidpred_jax.proposals.flow import MOST_AHEAD, extrapolate, track

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
NUM_STILL = 2 * len(_STILL_BLURS)
NUM_CANDIDATES = len(_MOVED) + NUM_STILL
COPY = len(_MOVED)  # The newest frame as it is.
_CLEAR = np.array([not blur for _, _, blur in _MOVED] + [i == 0 for i in range(2 * len(_STILL_BLURS))])
# Of the motion of a clear frame: the rate a frame at which it dies out where slowed candidates did as well
# as steady ones in backtests; by how much worse they must have done (a difference of logarithms) for it to
# go on; the largest rate. Chosen by LPIPS on 36 clips other than those of DAVIS 2016.
_RATE, _STEADY, _MOST_RATE = 0.25, 0.4, 0.4
# Of the difference of the mean and a clear frame: its blur in pixels as above, and how much of that is added
# to the clear one. Chosen on 18 clips other than those of DAVIS's val list; with more, objects grow pale.
_COARSE_BLUR, _COARSE_SHARE = 2.0, 0.3
_SLOWED, _KEPT = _MOVED.index((1, 4, 0.0)), _MOVED.index((1, 0, 0.0))


def extrapolate_all(
    flows: Float[Array, "b k h w 2"], steps_ahead: Float[Array, "b t"], most: int = MOST_AHEAD
) -> Float[Array, "b t k h w 2"]:
    """`extrapolate` for several flows of each clip."""
    b, k, h, w, _ = flows.shape
    steps_ahead = jnp.repeat(steps_ahead, k, 0)
    displacements = extrapolate(flows.reshape(b * k, h, w, 2), steps_ahead, most=most)
    return displacements.reshape(b, k, -1, h, w, 2).swapaxes(1, 2)


def move(
    newest: Float[Array, "b h w 3"], displacements: Float[Array, "b 4 h w 2"], steps_ahead: Float[Array, " b"]
) -> list[Float[Array, "b 3 h w"]]:
    """The moved candidates `steps_ahead` of the newest frame, as planes."""
    motions = list(dict.fromkeys(motion[:2] for motion in _MOVED))
    moved = jnp.stack([_damp(displacements, steps_ahead, motion) for motion in motions])
    moved = jnp.moveaxis(jax.vmap(warp, (None, 0))(newest, moved), -1, 2)
    return _blur_each(moved, [(motions.index(motion[:2]), motion[2]) for motion in _MOVED])


def mean_displacement(
    displacements: Float[Array, "b 4 h w 2"], steps_ahead: Float[Array, " b"], shares: Float[Array, "b k h w"]
) -> Float[Array, "b h w 2"]:
    """The mean displacement of the candidates by their shares; those that stand still have none."""
    total = 0.0
    for i, motion in enumerate(_MOVED):
        total += shares[:, i, ..., None] * _damp(displacements, steps_ahead, motion[:2])
    return total


def clear_shares(gates: Float[Array, "b k h w"]) -> Float[Array, "b k h w"]:
    """The candidates' shares in the displacement of a clear frame: a softmax of those without blur."""
    return jax.nn.softmax(jnp.where(_CLEAR[:, None, None], gates, -jnp.inf), 1)


def slowing(errors: Float[Array, "b k"]) -> Float[Array, " b"]:
    """The rate a frame at which motion died out within the window: by how much slowed candidates beat steady
    ones. errors: of backtests over the whole frame five and more frames ahead, as of
    `backtest.Observations`; all 0, as where the window is too short for them, gives a quarter.
    """
    return jnp.clip(_RATE * (1 - (errors[:, _SLOWED] - errors[:, _KEPT]) / _STEADY), 1e-3, _MOST_RATE)


def clear(newest, displacements, steps_ahead, shares, rate):
    """(the newest frame (b, h, w, 3), moved once along the mean displacement of `clear_shares`, which dies
    out at a rate of `slowing`; that displacement (b, h, w, 2)). Unlike a mean of frames, one frame that is
    moved is sharp.
    """
    flow = mean_displacement(displacements, steps_ahead, shares) * _decay(steps_ahead, 1 / rate)
    return jnp.clip(cubic_warp(newest, flow), -1, 1), flow


def with_coarse_of(mean: Float[Array, "b h w 3"], clear: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """A clear frame whose coarse parts are nearer to the mean of what may come: more accurate, and its fine
    parts, which tell how sharp it is, stay."""
    scale = max(min(clear.shape[1:3]) / _SIDE, 1)  # In a small frame too, what is finer than pixels is none.
    return clear + _COARSE_SHARE * blur(mean - clear, _COARSE_BLUR * scale)


def _damp(displacements, steps_ahead, motion):
    """The displacement of (flow, time constant)."""
    flow, constant = motion
    return displacements[:, flow] * (_decay(steps_ahead, constant) if constant else 1)


def _decay(steps_ahead, constant):
    """The share of a displacement that is left if speed decays as exp(-time / constant)."""
    steps = jnp.minimum(steps_ahead, MOST_AHEAD)  # As the displacements.
    return (constant * (1 - jnp.exp(-steps / constant)) / steps).reshape(-1, 1, 1, 1)


def _blur_each(planes, chosen):
    """planes (n, b, 3, h, w), chosen pairs (index into n, sigma) -> for each (b, 3, h, w)."""
    side, blurred = min(planes.shape[-2:]), {}
    for sigma in sorted({sigma for _, sigma in chosen}):  # One product for all that share a sigma.
        indices = [i for i, other in chosen if other == sigma]
        found = planes[np.array(indices)]
        found = blur_planes(found, sigma * side / _SIDE) if sigma else found
        blurred |= {(i, sigma): found[place] for place, i in enumerate(indices)}
    return [blurred[each] for each in chosen]


def blur_still(newest_and_mean) -> Float[Array, "b k 3 h w"]:
    """The candidates that stand still, of the newest and the mean frame (b, h, w, 3)."""
    planes = jnp.moveaxis(jnp.stack(newest_and_mean), -1, 2)
    return jnp.stack(_blur_each(planes, [(i, sigma) for i in (0, 1) for sigma in _STILL_BLURS]), 1)


def estimate_flows(frames, newest, levels):
    """For each index in `newest` the flows of that frame: (len(newest), b, NUM_FLOWS, h, w, 2).

    A span longer than what precedes the frame is cut.
    """

    def pairs_of(last):  # Of each span; then of the first span a frame earlier.
        return [*((last - min(span, last), last) for span in SPANS), (last - 2, last - 1)]

    pairs = list(dict.fromkeys(pair for last in newest for pair in pairs_of(last)))
    before, after = (jnp.stack([frames[:, i] for i in each]) for each in zip(*pairs, strict=True))
    shape = *before.shape[:-1], 2
    flow = track(*(x.reshape(-1, *x.shape[2:]) for x in (before, after)), levels).reshape(shape)
    of = np.array([[pairs.index(pair) for pair in pairs_of(last)] for last in newest])
    spans = jnp.array([last - earlier for earlier, last in pairs], jnp.float32)
    flow /= spans.reshape(-1, 1, 1, 1, 1)
    *flows, earlier = (flow[of[:, i]] for i in range(NUM_FLOWS))
    # The flow that a pixel had a frame earlier is found where the pixel was.
    flows.append(flows[0] + (flows[0] - jax.vmap(warp)(earlier, flows[0])) / 2)
    return jnp.stack(flows, 2)
