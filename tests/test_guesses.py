"""Guesses by hand, and backtests that find out which of them a clip keeps to."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.models import candidates

# Places of guesses in their order.
LASTING, DYING, NEWEST, MEAN = (0, 1, 2, 3), (10, 14, 4), 18, 23


def window(panned):
    """16 frames (1, 16, 32, 32, 3) of a smooth picture, `panned(t)` pixels to the left at frame t."""
    y, x = np.mgrid[:32, :32]
    frames = [
        np.stack([np.sin((x + panned(t)) / 5 + c) * np.cos(y / 7 - c) for c in range(3)], -1)
        for t in range(16)
    ]
    return jnp.asarray(np.stack(frames)[None], jnp.float32)


observe = jax.jit(candidates.observe, static_argnums=1)


def test_a_guess_is_the_newest_frame_moved_by_what_its_motion_lasts():
    """On a ramp moved by 2 pixels a frame, 6 frames ahead, by hand."""
    ramp = jnp.broadcast_to(jnp.arange(64.0)[None, None, :, None], (1, 8, 64, 3))
    ahead, path = jnp.full((1, 1, 1, 1), 6.0), jnp.zeros((1, 8, 64, 2)).at[..., 1].set(12.0)
    found = candidates.guess(ramp, -ramp, [path, 2 * path, 3 * path, 0.5 * path], ahead)
    assert len(found) == candidates.NUM_CANDIDATES
    at = lambda i: float(found[i][0, 4, 10, 0])
    assert [at(i) for i in LASTING] == [22, 34, 46, 16]
    # 24 pixels at a speed that falls by 1 / e in 12 frames, or in 4.
    assert at(DYING[0]) == pytest.approx(10 + 24 * 2 * (1 - np.exp(-0.5)), abs=1e-3)
    assert at(DYING[1]) == pytest.approx(10 + 24 * (1 - np.exp(-1.5)) / 1.5, abs=1e-3)
    assert at(DYING[2]) == pytest.approx(10 + 12 * (1 - np.exp(-1.5)) / 1.5, abs=1e-3)
    assert (at(NEWEST), at(MEAN)) == (10, -10)
    # Motion is continued over 63 frames at most; by then it has died out.
    far = candidates.guess(ramp, ramp, [path / 6 * 63] * 4, jnp.full((1, 1, 1, 1), 100.0))
    assert float(far[DYING[1]][0, 4, 10, 0]) == pytest.approx(10 + 2 * 4, abs=1e-3)
    blurred = candidates.guess(jnp.ones_like(ramp), ramp * 0, [path] * 4, ahead)
    chex.assert_trees_all_close(blurred[:MEAN], [jnp.ones_like(ramp)] * MEAN, atol=1e-5)


def test_blurs_go_with_the_size_of_the_picture():
    """An edge half as sharp in a picture twice as large: the same place of the same picture."""
    edge = lambda n: jnp.broadcast_to((jnp.arange(n) >= n // 2)[:, None], (1, n, n, 3)) * 1.0
    still = lambda x: candidates.guess(
        x, x, [jnp.zeros((*x.shape[:3], 2))] * 4, jnp.ones((1, 1, 1, 1))
    )
    small, large = still(edge(64)), still(edge(128))
    halve = lambda x: x.reshape(1, 64, 2, 64, 2, 3).mean((2, 4))
    for i, sigma in ((NEWEST + 1, 3.0), (NEWEST + 2, 8.0)):  # In pixels of 128.
        chex.assert_trees_all_close(halve(large[i]), small[i], atol=0.02)
        # Where the edge's own sigma from it, by the normal distribution.
        at = 64 + round(sigma)
        expected = 0.5 * (1 + math.erf((round(sigma) + 0.5) / sigma / math.sqrt(2)))
        assert float(large[i][0, 64, at, 0]) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("panned", "best"),
    [
        (lambda t: 1.0 * t, LASTING),  # A steady pan.
        (lambda t: 0.0, (*LASTING, *DYING, NEWEST, MEAN)),  # Nothing moves: all are right.
        (lambda t: (0.0, 3.0)[t % 2], (MEAN,)),  # To and fro: the mean has both.
    ],
)
def test_what_was_right_before_is_ahead(panned, best):
    seen = observe(window(panned), 3)
    later = np.asarray(seen.errors["frame"])[0, 0, 0, 1:]  # Further ahead than a frame.
    assert later.min() == 0 and later.shape == (2, candidates.NUM_CANDIDATES)
    others = np.delete(later, best, 1)
    assert later[:, best].min(1).max() == 0 < others.min()


def test_errors_equal_a_plain_loop():
    """Of the guesses that stand still, by kind of lag, over the frame; the same by place, blurred."""
    clip = np.asarray(jax.random.uniform(jax.random.key(0), (1, 16, 24, 16, 3), minval=-1.0))
    seen = observe(jnp.asarray(clip), 2)
    pairs = [[], [], []]
    for ago, lags in {1: (1,), 3: (1, 2, 3), 7: (1, 4, 7), 11: (2, 6, 11)}.items():
        for lag in lags:
            pairs[0 if lag == 1 else 1 if lag <= 4 else 2].append((15 - ago, 15 - ago + lag))
    for kind, found in enumerate(np.asarray(seen.errors["frame"])[0, 0, 0]):
        still = [np.square(clip[0, i] - clip[0, j]).sum(-1).mean() for i, j in pairs[kind]]
        mean = [
            np.square(clip[0, : i + 1].mean(0) - clip[0, j]).sum(-1).mean() for i, j in pairs[kind]
        ]
        ahead = np.log(np.mean(still) + 1e-4) - np.log(np.mean(mean) + 1e-4)
        assert found[NEWEST] - found[MEAN] == pytest.approx(ahead, abs=1e-3)
    one = np.square(clip[0, 4] - clip[0, 10]).sum(-1), np.square(clip[0, 4] - clip[0, 15]).sum(-1)
    two = np.square(clip[0, 8] - clip[0, 15]).sum(-1)
    mean = [np.square(clip[0, : i + 1].mean(0) - clip[0, j]).sum(-1) for i, j in pairs[2]]
    for name, sigma in (("place", 16 / 10), ("near", 16 / 25)):
        about = seen.errors[name]
        assert about.shape == (1, 24, 16, candidates.NUM_LAGS, candidates.NUM_CANDIDATES)
        assert np.all(np.asarray(about).min(-1) == 0)
        level = lambda x, sigma=sigma: jnp.log(
            candidates.blur(jnp.asarray(x / 3)[None, ..., None], sigma) + 1e-4
        )
        ahead = level(sum(one) + two) - level(sum(mean))
        found = about[..., 2, NEWEST] - about[..., 2, MEAN]
        chex.assert_trees_all_close(found, ahead[..., 0], atol=1e-3)


def test_the_changing_flow_adds_half_of_what_the_first_changed_by():
    """Of a picture that pans ever faster, by 1.1, 1.3, 1.5 ... pixels a frame."""
    flows = observe(window(lambda t: t + 0.1 * t * t), 3).flows
    inside = [float(flow[0, 8:-8, 8:-8, 1].mean()) for flow in flows]
    assert inside[0] == pytest.approx(1 + 0.1 * (15**2 - 14**2), abs=0.1)
    assert inside[3] - inside[0] == pytest.approx(0.1, abs=0.03)


def test_a_change_is_taken_where_its_pixel_was(monkeypatch):
    """Of flows made up: all moves by 2 pixels to the right, where x was 3 or more by 1 before."""

    def track(before, after, levels):
        x = jnp.broadcast_to(jnp.arange(32.0)[:, None], (*before.shape[:3], 1))
        earlier = after[:, :1, :1, :1] == 1.0  # Frame 14.
        dx = jnp.where(earlier, jnp.where(x >= 3, -1.0, -2.0), -2.0)
        return jnp.concatenate([jnp.zeros_like(dx), dx], -1)

    monkeypatch.setattr(candidates, "track", track)
    seen = jnp.zeros((1, 16, 4, 32, 3)).at[:, 14].set(1.0)
    found = candidates._find_flows(seen, 1)[0][3][0, 0, :, 1]
    expected = [-2.0] * 5 + [-2.5] * 27  # The pixel at 5 was at 3.
    assert found.tolist() == expected


def test_a_backtest_sees_the_flows_there_were():
    seen = jax.random.uniform(jax.random.key(0), (1, 16, 16, 32, 3), minval=-1.0)
    now, before = candidates._find_flows(seen[:, :15], 2)[0], candidates._find_flows(seen, 2)[1]
    chex.assert_trees_all_close(now, before, atol=1e-5)


def test_no_gradient_reaches_what_was_wrong():
    def total(seen):
        found = candidates.observe(seen, 2)
        return sum(errors.sum() for errors in found.errors.values())

    chex.assert_trees_all_equal(
        jax.jit(jax.grad(total))(window(float)), jnp.zeros((1, 16, 32, 32, 3))
    )


@pytest.mark.parametrize("n", [candidates.LEAST_FRAMES, 16])
@pytest.mark.parametrize("ago", candidates._BACKTESTS)
def test_a_backtest_knows_nothing_later_than_its_newest_frame(ago, n, monkeypatch):
    """What it guesses stays, whatever comes after; what it is held against does not."""
    made = []
    real, clip = candidates.guess, window(float)[:, :n]
    monkeypatch.setattr(candidates, "guess", lambda *args: made.append(real(*args)) or made[-1])
    lags, last = candidates._BACKTESTS[ago], n - 1 - ago
    wrong = []
    for seen in (clip, clip.at[:, last + 1 :].set(0.3)):
        place = 1 + [*candidates._BACKTESTS].index(ago)
        flows = candidates._find_flows(seen, 2)[place]
        wrong.append(candidates._backtest(seen, flows, ago, lags)[0])
    chex.assert_trees_all_equal(*made)
    assert all(jnp.abs(a - b).max() > 0.1 for a, b in zip(*wrong, strict=True))
