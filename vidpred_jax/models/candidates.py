"""Guesses of coming frames, without parameters, and what such guesses were worth before (ours).

A guess is the newest frame moved on, the newest frame as it is, or the mean of all, each at some blur.
Made again some frames ago, it can be held against what came: a backtest.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from vidpred_jax.models.ops import blur, sum_channels, warp
from vidpred_jax.models.optical_flow import MOST_AHEAD, extrapolate, track

SPANS = (1, 3, 6)  # How many frames before the newest those are that its flows are found against.
# The flow after those: the first and half of what it changed by since the frame before.
_CHANGING = len(SPANS)
# What moves: along which flow, over how many frames its motion dies out (0: never), blur in pixels of
# a picture whose lesser side is _SIDE.
# Long spans know the motion that lasts, short ones the next frame; a camera held by hand comes back.
_MOVED = (
    *((0, 0, 0.0), (1, 0, 0.0), (2, 0, 0.0), (_CHANGING, 0, 0.0), (0, 4, 0.0)),
    *((0, 0, 1.5), (1, 0, 1.5), (1, 0, 4.0), (2, 0, 3.0), (2, 0, 10.0)),
    *((1, 12, 0.0), (1, 12, 1.5), (1, 12, 4.0), (2, 12, 10.0)),
    *((1, 4, 0.0), (1, 4, 1.5), (1, 4, 4.0), (1, 4, 10.0)),
)
# What stands still is blurred further: far ahead that is the best guess of many clips.
_STILL_BLURS = (0.0, 3.0, 8.0, 16.0, 32.0)
_SIDE = 128
NUM_CANDIDATES = len(_MOVED) + 2 * len(_STILL_BLURS)
# How many frames ago guesses are made again, and for how many frames ahead.
_BACKTESTS = {1: (1,), 3: (1, 2, 3), 7: (1, 4, 7), 11: (2, 6, 11)}
LEAST_FRAMES = max(_BACKTESTS) + 3  # Three make a flow and its change.
_LAGS = (1, 4)  # Frames ahead up to which errors are told apart; further ones are the last kind.
NUM_LAGS = len(_LAGS) + 1
_PLACES = {"place": 10, "near": 25}  # How wide errors are averaged: the lesser side over it.
_KNOWN = (3, 7)  # The backtests whose errors are known pixel by pixel.
_LEAST_ERROR = 1e-4  # Below it errors, sums of squares over channels in [-1, 1], are alike.


@struct.dataclass
class Observed:
    """flows: of the newest frame, in pixels a frame, (b, h, w, 2): one for each of SPANS, then
    the first and half of what it changed by since the frame before.

    known: (b, h, w, k), what is known of its pixels. errors: log of each guess's mean squared error in
    the backtests, less that of the best, (b, 1 or h, 1 or w, NUM_LAGS, NUM_CANDIDATES): for the whole
    frame (`frame`) and about each place, a Gaussian of a tenth (`place`) and a twenty-fifth (`near`)
    of the lesser side wide. No gradient reaches them.
    """

    flows: list[jax.Array]
    known: jax.Array
    errors: dict[str, jax.Array]


def guess(
    newest: Float[Array, "b h w 3"],
    mean: Float[Array, "b h w 3"],
    paths: list[Float[Array, "b h w 2"]],
    ahead: Float[Array, "b 1 1 1"],
) -> list[Float[Array, "b h w 3"]]:
    """NUM_CANDIDATES frames `ahead` of the newest, `paths` leading there along each of its flows."""
    ahead = jnp.minimum(ahead, MOST_AHEAD)  # As the paths.
    moved, found = {}, []
    for span, lasts, sigma in _MOVED:
        if (span, lasts) not in moved:
            # What is left of the path if speed falls as exp(-time / lasts).
            share = lasts * (1 - jnp.exp(-ahead / lasts)) / ahead if lasts else 1.0
            moved[span, lasts] = warp(newest, paths[span] * share)
        found.append(_blur(moved[span, lasts], sigma))
    return found + [_blur(x, sigma) for x in (newest, mean) for sigma in _STILL_BLURS]


def observe(seen: Float[Array, "b n h w 3"], levels: int) -> Observed:
    """What n observed frames, LEAST_FRAMES or more, tell; levels: of the flows' pyramid."""
    # With fewer, the oldest backtest would wrap around to the newest frame.
    assert seen.shape[1] >= LEAST_FRAMES, seen.shape
    newest, mean = seen[:, -1], seen.mean(1)
    flows, *past_flows, unlike = _find_flows(seen, levels)
    smooth = [newest, *(blur(newest, sigma) for sigma in (1.5, 4.0))]
    known = [
        jnp.sqrt(jnp.square(seen - mean[:, None]).mean((1, -1)) + 1e-6)[..., None],
        magnitude(newest - mean),
        magnitude(newest - seen[:, -2]),
        *unlike,
        *(magnitude(fine - coarse) for fine, coarse in itertools.pairwise(smooth)),
        *(flow / 8 for flow in flows),
    ]
    by_lag = [[] for _ in range(NUM_LAGS)]
    for (ago, lags), past in zip(_BACKTESTS.items(), past_flows, strict=True):
        wrong, missed, path = _backtest(seen, past, ago, lags)
        for lag, error in zip(lags, wrong, strict=True):
            by_lag[np.searchsorted(_LAGS, lag)].append(error)
        if ago in _KNOWN:
            known += [missed, magnitude(newest - seen[:, -1 - ago]), (path / ago - flows[0]) / 8]
    errors = jnp.stack([sum(each) / len(each) for each in by_lag], 3)
    flat, side = errors.reshape(*errors.shape[:3], -1), min(errors.shape[1:3])
    means = {
        "frame": errors.mean((1, 2), keepdims=True),
        **{name: blur(flat, side / part).reshape(errors.shape) for name, part in _PLACES.items()},
    }
    behind = {name: _behind_the_best(mean) for name, mean in means.items()}
    return Observed(flows, jnp.concatenate(known, -1), behind)


def _find_flows(seen, levels):
    """Flows over SPANS, or what there is, and the changing one: now and at each backtest; and where those
    over SPANS now are wrong.
    """
    lasts = [seen.shape[1] - 1 - ago for ago in (0, *_BACKTESTS)]
    pairs = list(dict.fromkeys(pair for last in lasts for pair in _pairs(last)))
    before, after = (
        jnp.concatenate([seen[:, i] for i in side]) for side in zip(*pairs, strict=True)
    )
    flow = track(before, after, levels)
    wrong = jnp.split(magnitude(after - warp(before, flow)), len(pairs))[: len(SPANS)]
    flows = {
        pair: flow / (pair[1] - pair[0])
        for pair, flow in zip(pairs, jnp.split(flow, len(pairs)), strict=True)
    }
    found = []
    for last in lasts:
        *now, earlier = (flows[pair] for pair in _pairs(last))
        found.append([*now, now[0] + (now[0] - warp(earlier, now[0])) / 2])
    return *found, wrong


def _pairs(last):
    """(first, last) frame of each of SPANS that ends there; then of one frame's span a frame earlier."""
    return [*((last - min(span, last), last) for span in SPANS), (last - 2, last - 1)]


def _backtest(seen, flows, ago, lags):
    """Guesses made `ago` frames ago: (squared errors (b, h, w, NUM_CANDIDATES) by lag; of the first
    guess and the last lag the mean error (b, h, w, 1) and the path that led there).
    """
    b, n, h, w, _ = seen.shape
    last = n - 1 - ago
    every = lambda x: jnp.repeat(x, len(lags), 0)
    ahead = jnp.tile(jnp.array(lags, jnp.float32), (b, 1))
    paths = [extrapolate(flow, ahead).reshape(-1, h, w, 2) for flow in flows]
    mean = seen[:, : last + 1].mean(1)
    guesses = guess(every(seen[:, last]), every(mean), paths, ahead.reshape(-1, 1, 1, 1))
    truth = jnp.stack([seen[:, last + lag] for lag in lags], 1).reshape(-1, h, w, 3)
    errors = jnp.concatenate([sum_channels(jnp.square(x - truth)) for x in guesses], -1)
    by_lag = lambda x: x.reshape(b, len(lags), *x.shape[1:]).swapaxes(0, 1)
    return by_lag(errors), by_lag(magnitude(truth - guesses[0]))[-1], by_lag(paths[0])[-1]


def _behind_the_best(errors):
    level = jnp.log(errors + _LEAST_ERROR)
    return jax.lax.stop_gradient(level - level.min(-1, keepdims=True))


def _blur(x, sigma):
    return blur(x, sigma * min(x.shape[1:3]) / _SIDE) if sigma else x


def magnitude(x: Float[Array, "*b c"]) -> Float[Array, "*b 1"]:
    """Mean absolute value over channels."""
    return sum_channels(jnp.abs(x)) / x.shape[-1]
