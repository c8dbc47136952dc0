"""Candidates by hand, and backtests that find which of them predicted a clip before."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import ops
from vidpred_jax.proposals import backtest, candidates

# Indices of candidates.
LASTING, DYING, NEWEST, MEAN = (0, 1, 2, 3), (10, 14, 4), candidates.COPY, 23


def window(panned):
    """16 frames (1, 16, 32, 32, 3) of a smooth picture, `panned(t)` pixels to the left at frame t."""
    y, x = np.mgrid[:32, :32]
    frames = [
        np.stack([np.sin((x + panned(t)) / 5 + c) * np.cos(y / 7 - c) for c in range(3)], -1)
        for t in range(16)
    ]
    return jnp.asarray(np.stack(frames)[None], jnp.float32)


observe = jax.jit(backtest.observe, static_argnums=1)


@jax.jit
def make(newest, mean, displacements, steps_ahead):
    """All candidates, (NUM_CANDIDATES, b, h, w, 3)."""
    moved = candidates.move(newest, jnp.stack(displacements, 1), steps_ahead)
    planes = [*moved, *jnp.moveaxis(candidates.blur_still((newest, mean)), 1, 0)]
    return jnp.moveaxis(jnp.stack(planes), 2, -1)


def test_moved_candidates():
    """On a ramp moved by 2 pixels a frame, 6 frames ahead, by hand."""
    ramp = jnp.broadcast_to(jnp.arange(64.0)[None, None, :, None], (1, 8, 64, 3))
    steps, pan = jnp.array([6.0]), jnp.zeros((1, 8, 64, 2)).at[..., 1].set(12.0)
    found = make(ramp, -ramp, [pan, 2 * pan, 3 * pan, 0.5 * pan], steps)
    assert len(found) == candidates.NUM_CANDIDATES
    at = lambda i: float(found[i][0, 4, 10, 0])
    assert [at(i) for i in LASTING] == [22, 34, 46, 16]
    # 24 pixels at a speed that falls by 1 / e in 12 frames, or in 4.
    assert at(DYING[0]) == pytest.approx(10 + 24 * 2 * (1 - np.exp(-0.5)), abs=1e-3)
    assert at(DYING[1]) == pytest.approx(10 + 24 * (1 - np.exp(-1.5)) / 1.5, abs=1e-3)
    assert at(DYING[2]) == pytest.approx(10 + 12 * (1 - np.exp(-1.5)) / 1.5, abs=1e-3)
    assert (at(NEWEST), at(MEAN)) == (10, -10)
    # Motion is continued over 63 frames at most; by then it has died out.
    far = make(ramp, ramp, [pan / 6 * 63] * 4, jnp.array([100.0]))
    assert float(far[DYING[1]][0, 4, 10, 0]) == pytest.approx(10 + 2 * 4, abs=1e-3)
    blurred = make(jnp.ones_like(ramp), ramp * 0, [pan] * 4, steps)[:MEAN]
    chex.assert_trees_all_close(blurred, jnp.ones_like(blurred), atol=1e-5)


def test_mean_displacement_by_hand():
    """Of pixels that share the candidates differently; those that stand still count with 0."""
    steps, shape = jnp.array([6.0]), (1, 2, 2, 2)
    flows = jnp.stack([jnp.full(shape, value) for value in (6.0, 12.0, 18.0, 60.0)], 1)
    shares = jnp.zeros((1, candidates.NUM_CANDIDATES, 2, 2))
    shares = shares.at[0, NEWEST].set(jnp.array([[1.0, 0.5], [0.0, 0.25]]))
    shares = shares.at[0, LASTING[3], 0, 1].set(0.5)
    shares = shares.at[0, DYING[2], 1, 0].set(1.0)  # Along the first flow.
    # Candidate 6 is blurred and moves along the second flow.
    shares = shares.at[0, 6, 1, 1].set(0.5).at[0, MEAN, 1, 1].set(0.25)
    found = candidates.mean_displacement(flows, steps, shares)[0]
    expected = np.array([[0, 30], [6 * (1 - np.exp(-1.5)) / 1.5, 6]])
    chex.assert_trees_all_close(found[..., 0], np.float32(expected), atol=1e-5)
    chex.assert_trees_all_equal(found[..., 1], found[..., 0])


def test_blurs_scale_with_the_size_of_the_frame():
    """An edge in a frame twice as large, blurred and halved, is the small one blurred."""
    edge = lambda n: jnp.broadcast_to((jnp.arange(n) >= n // 2)[:, None], (1, n, n, 3)) * 1.0
    still = lambda x: make(x, x, [jnp.zeros((*x.shape[:3], 2))] * 4, jnp.ones(1))
    small, large = still(edge(64)), still(edge(128))
    halve = lambda x: x.reshape(1, 64, 2, 64, 2, 3).mean((2, 4))
    for i, sigma in ((NEWEST + 1, 3.0), (NEWEST + 2, 8.0)):  # In pixels of 128.
        chex.assert_trees_all_close(halve(large[i]), small[i], atol=0.02)
        # One sigma from the edge, by the normal distribution.
        at = 64 + round(sigma)
        expected = 0.5 * (1 + math.erf((round(sigma) + 0.5) / sigma / math.sqrt(2)))
        assert float(large[i][0, 64, at, 0]) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("panned", "best"),
    [
        (lambda t: 1.0 * t, LASTING),  # A steady pan.
        (lambda t: 0.0, (*LASTING, *DYING, NEWEST, MEAN)),  # Nothing moves: all but the blurred are right.
        (lambda t: (0.0, 3.0)[t % 2], (MEAN,)),  # To and fro: the mean is closest.
    ],
)
def test_candidates_that_were_right_before_have_no_error(panned, best):
    errors = observe(window(panned), 3).errors["frame"]
    later = np.asarray(errors)[0, 1:, :, 0, 0]  # More than one step ahead.
    assert later.min() == 0 and later.shape == (2, candidates.NUM_CANDIDATES)
    others = np.delete(later, best, 1)
    assert later[:, best].min(1).max() == 0 < others.min()


@pytest.mark.parametrize("n", [4, 14])
def test_errors_equal_a_plain_loop(n):
    """Over backtests whose candidates are made from the frames up to then alone; for each kind of lag."""
    clip = jax.random.uniform(jax.random.key(0), (2, n, 16, 24, 3), minval=-1.0)
    kinds, extrapolate_all = [[], [], []], jax.jit(candidates.extrapolate_all)
    estimate_flows = jax.jit(candidates.estimate_flows, static_argnums=(1, 2))
    for ago, lags in {1: (1,), 3: (1, 2, 3), 7: (1, 4, 7), 11: (2, 6, 11)}.items():
        if ago + 3 > n:
            continue
        known = clip[:, : n - ago]
        flows = estimate_flows(known, (n - ago - 1,), 2)[0]
        for lag in lags:
            steps = jnp.full((2, 1), float(lag))
            flows_ahead = jnp.moveaxis(extrapolate_all(flows, steps)[:, 0], 1, 0)
            made = make(known[:, -1], known.mean(1), list(flows_ahead), steps[:, 0])
            wrong = jnp.square(made - clip[:, n - 1 - ago + lag]).sum(-1)
            kinds[0 if lag == 1 else 1 if lag <= 4 else 2].append(wrong)
    found = observe(clip, 2).errors
    assert found["frame"].shape == (2, 3, candidates.NUM_CANDIDATES, 1, 1)
    assert found["near"].shape == (2, 3, candidates.NUM_CANDIDATES, 16, 24)
    spread = {
        "frame": lambda x: x.mean((1, 2), keepdims=True),
        "place": lambda x: ops.blur(x, 16 / 10),
        "near": lambda x: ops.blur(x, 16 / 25),
    }
    for kind, wrong in enumerate(kinds):
        for name, errors in found.items():
            if wrong:
                level = jnp.log(spread[name](jnp.moveaxis(sum(wrong) / len(wrong), 0, -1)) + 1e-4)
                expected = jnp.moveaxis(level - level.min(-1, keepdims=True), -1, 1)
                chex.assert_trees_all_close(errors[:, kind], expected, atol=1e-3)
            else:
                assert not errors[:, kind].any()
    assert [bool(wrong) for wrong in kinds] == [True, n >= 6, n >= 10]


def test_the_last_flow_adds_half_of_the_change_of_the_first():
    """Of a picture that pans ever faster, by 1.1, 1.3, 1.5 ... pixels a frame."""
    flows = observe(window(lambda t: t + 0.1 * t * t), 3).flows[0]
    inside = [float(flow[8:-8, 8:-8, 1].mean()) for flow in flows]
    assert inside[0] == pytest.approx(1 + 0.1 * (15**2 - 14**2), abs=0.1)
    assert inside[3] - inside[0] == pytest.approx(0.1, abs=0.03)


def test_spans_are_cut_to_a_short_window():
    """Of 4 frames the spans of 3 and 6 are the same: their flows per frame, and what these leave."""
    found = observe(window(float)[:, :4], 3)
    chex.assert_trees_all_close(found.flows[:, 1], found.flows[:, 2])
    inside = found.flows[0, 1, 8:-8, 8:-8, 1]
    assert float(inside.mean()) == pytest.approx(1.0, abs=0.1)
    # So what is moved along them is alike, and so are its errors.
    for errors in found.errors.values():
        chex.assert_trees_all_close(errors[:, :, 1], errors[:, :, 2], atol=1e-3)


def test_the_change_of_a_flow_is_read_where_the_pixel_was(monkeypatch):
    """With made-up flows: 2 pixels to the right; a frame earlier only 1 where x is 3 or more."""

    def track(before, after, levels):
        x = jnp.broadcast_to(jnp.arange(32.0)[:, None], (*before.shape[:3], 1))
        earlier = after[:, :1, :1, :1] == 1.0  # Frame 14.
        dx = jnp.where(earlier, jnp.where(x >= 3, -1.0, -2.0), -2.0)
        return jnp.concatenate([jnp.zeros_like(dx), dx], -1)

    monkeypatch.setattr(candidates, "track", track)
    seen = jnp.zeros((1, 16, 4, 32, 3)).at[:, 14].set(1.0)
    found = candidates.estimate_flows(seen, [15], 1)[0, 0, 3, 0, :, 1]
    expected = [-2.0] * 5 + [-2.5] * 27  # The pixel at 5 was at 3.
    assert found.tolist() == expected


def test_no_gradient_reaches_the_errors():
    def total(seen):
        found = backtest.observe(seen, 2)
        return sum(errors.sum() for errors in found.errors.values())

    chex.assert_trees_all_equal(jax.jit(jax.grad(total))(window(float)), jnp.zeros((1, 16, 32, 32, 3)))
