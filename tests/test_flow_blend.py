"""Flow blend: by hand, and that a forecast depends on its own clip and step alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from vidpred_jax import ops
from vidpred_jax.proposals import backtest, candidates, flow_blend
from vidpred_jax.proposals.backtest import NUM_LAGS
from vidpred_jax.proposals.candidates import _MOVED, COPY, NUM_CANDIDATES, NUM_FLOWS
from vidpred_jax.proposals.flow_blend import FlowBlend
from vidpred_jax.proposals.forecast import Window
from vidpred_jax.proposals.gates import Gates

apply = jax.jit(FlowBlend(flow_levels=2).apply)


def uniform(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def random_window(seed, *shape):
    """A window (b, n, h, w) of noise with random edges and labels."""
    labels = jnp.round(1 + 1.4 * uniform(seed + 2, *shape)).astype(jnp.int32)
    return Window(uniform(seed, *shape, 3), (uniform(seed + 1, *shape) > 0.5) * 1.0, labels)


def untrained():
    """The initial parameters of any model."""
    errors = {name: jnp.zeros((1, NUM_LAGS, NUM_CANDIDATES, 1, 1)) for name in ("frame", "near", "place")}
    gates = jax.jit(Gates().init)(jax.random.key(0), jnp.ones((1, 1)), errors)
    return {"params": {"gates": gates["params"]}}


def without_backtests(params):
    """Parameters whose weights of backtest errors are 0."""
    no_weight = {"kernel": jnp.zeros((4, NUM_LAGS)).at[0].set(-10.0)}
    gates = {name: no_weight if "weight" in name else own for name, own in params["gates"].items()}
    return {"gates": gates}


@pytest.fixture(scope="module")
def panned():
    """A window of a smooth picture that pans by a pixel a frame, and the six frames that follow."""
    wide = uniform(0, 32, 64, 3)
    wide = (wide + jnp.roll(wide, 1, 1) + jnp.roll(wide, 2, 1)) / 3
    labels = jnp.zeros((32, 64), jnp.int32).at[9:20, 34:40].set(2)
    edges = jnp.zeros((32, 64)).at[5:28, 30].set(1.0)
    view = lambda x, first, last: jnp.stack([x[:, t : t + 32] for t in range(first, last)])[None]
    return [Window(*(view(x, *part) for x in (wide, edges, labels))) for part in ((0, 16), (16, 22))]


def test_untrained_it_follows_a_pan(panned):
    """Frames, edges and labels, away from where something enters; and it knows that it is right."""
    seen, future = panned
    found = apply(untrained(), seen, jnp.array([[1.0, 3, 6]]))
    for number, step in enumerate((1, 3, 6)):
        inside = np.s_[4:-4, 4:-10]
        truth, newest = future.frames[0, step - 1], seen.frames[0, -1]
        error, still = (jnp.abs(x - truth)[inside].mean() for x in (found.frames[0, number], newest))
        assert error < 0.35 * still
        np.testing.assert_array_equal(found.labels[0, number][inside], future.labels[0, step - 1][inside])
        np.testing.assert_allclose(
            found.edges[0, number][inside], future.edges[0, step - 1][inside], atol=0.35
        )
        assert found.confidence[0, number][inside].min() > 0.8
    assert found.labels.dtype == jnp.int32


def test_blend_and_confidence_by_hand():
    """Nothing moves, the newest frame is 0, all that stands still is 1, and backtests know one error: that
    of the copy around each pixel, thrice as large as the others'.
    """
    size = (4, 4)
    window = random_window(0, 1, 4, *size)
    zeros = lambda *size: jnp.zeros((1, NUM_LAGS, NUM_CANDIDATES, *size))
    errors = {"frame": zeros(1, 1), "near": zeros(*size), "place": zeros(*size)}
    errors["place"] = errors["place"].at[:, :, COPY].set(jnp.log(3))
    observations = flow_blend.Observations(
        candidates=backtest.Observations(
            newest=jnp.zeros((1, *size, 3)),
            still=jnp.ones((1, NUM_CANDIDATES - COPY, 3, *size)),
            flows=jnp.zeros((1, NUM_FLOWS, *size, 2)),
            errors=errors,
        ),
        edges=window.edges[:, -1, ..., None],
        labels=window.labels[:, -1, ..., None].astype(jnp.float32),
    )
    propose = jax.jit(lambda *x: FlowBlend().apply(*x, method="propose"))
    found = propose(untrained(), observations, jnp.array([[1.0]]))
    # Odds of the first candidate, of 26 others, and of the copy by the error at three kinds of lag.
    copied = 3 ** (-3 * np.log1p(np.exp(-1)))
    total = np.exp(2) + 26 + copied
    np.testing.assert_allclose(found.frames, (9 + copied) / total, atol=1e-5)
    own = (np.exp(2) + 26 + 3 * copied) / total
    np.testing.assert_allclose(found.confidence, 3 / (own + 3), atol=1e-4)
    np.testing.assert_array_equal(found.labels[:, 0], window.labels[:, -1])
    np.testing.assert_array_equal(found.edges[:, 0], window.edges[:, -1])


def test_a_clear_future_by_hand():
    """The newest frame is a ramp, one flow of four moves it by 2 pixels a frame; untrained gates prefer the
    candidate moved along it; in backtests five and more frames ahead slowed motion was worse than steady by
    .2. And between the ends all is mixed linearly."""
    zeros = lambda *size: jnp.zeros((1, NUM_LAGS, NUM_CANDIDATES, *size))
    slowed = zeros(1, 1).at[:, -1, _MOVED.index((1, 4, 0.0))].set(0.2)
    ramp = jnp.broadcast_to(jnp.arange(32.0)[:, None] / 32 - 0.5, (1, 32, 32, 3))
    window = random_window(0, 1, 4, 32, 32)
    observations = flow_blend.Observations(
        candidates=backtest.Observations(
            newest=ramp,
            still=jnp.full((1, NUM_CANDIDATES - COPY, 3, 32, 32), 0.5),
            flows=jnp.zeros((1, NUM_FLOWS, 32, 32, 2)).at[:, 0, ..., 1].set(-2),
            errors={"frame": slowed, "near": zeros(32, 32), "place": zeros(32, 32)},
        ),
        edges=window.edges[:, -1, ..., None],
        labels=window.labels[:, -1, ..., None].astype(jnp.float32),
    )
    params = without_backtests(untrained()["params"])

    def coarse(difference):
        """30 % of a frame's blur by 2 pixels, renormalised at the border."""
        soften = lambda x: ndimage.gaussian_filter(x, (2, 2), mode="constant", truncate=16)
        weight = soften(np.ones(difference.shape[1:3]))
        return np.stack([0.3 * soften(difference[0, ..., c]) / weight for c in range(3)], -1)[None]

    def at(clarity):
        propose = lambda *x: FlowBlend(clarity=clarity).apply({"params": params}, *x, method="propose")
        return jax.jit(propose)(observations, jnp.array([[1.0, 5.0]]))

    mean, mixed, clear = (at(clarity) for clarity in (0.0, 0.25, 1.0))
    for number, step in enumerate((1, 5)):
        left = lambda constant, step=step: constant * (1 - np.exp(-step / constant)) / step
        odds = np.exp(2 / step)  # Of the first; seven others have 1, of which one moves and slows down.
        moved = -2 * step * (odds + left(4)) / (odds + 7) * left(1 / 0.125)
        expected = np.asarray(ops.cubic_warp(ramp, jnp.zeros((1, 32, 32, 2)).at[..., 1].set(moved)))
        expected = expected + coarse(np.asarray(mean.frames[:, number]) - expected)
        np.testing.assert_allclose(clear.frames[:, number, :, 12:-2], expected[:, :, 12:-2], atol=1e-5)
    assert float(mean.confidence.min()) == pytest.approx(0.5)
    np.testing.assert_allclose(mixed.frames, 0.75 * mean.frames + 0.25 * clear.frames, atol=1e-6)


def test_of_two_futures_the_mean_shows_both_at_half_and_the_clear_one_a_single_one():
    """A stripe that stays or moves by 6 pixels, each as likely."""
    zeros = lambda *size: jnp.zeros((1, NUM_LAGS, NUM_CANDIDATES, *size))
    stripe = jnp.zeros((1, 16, 32, 3)).at[:, :, 10:13].set(1.0)
    still = jnp.broadcast_to(jnp.moveaxis(stripe, -1, 1)[:, None], (1, NUM_CANDIDATES - COPY, 3, 16, 32))
    seen = backtest.Observations(
        newest=stripe,
        still=still,
        flows=jnp.zeros((1, NUM_FLOWS, 16, 32, 2)).at[:, 0, ..., 1].set(-6),
        errors={"frame": zeros(1, 1), "near": zeros(16, 32), "place": zeros(16, 32)},
    )
    observations = flow_blend.Observations(seen, jnp.zeros((1, 16, 32, 1)), stripe[..., :1])
    prior = jnp.full((4, NUM_CANDIDATES), 0.0).at[0].set(-60).at[0, 0].set(-2).at[0, COPY].set(0)
    params = {"gates": {**untrained()["params"]["gates"], "prior": {"kernel": prior}}}

    def row(clarity):
        propose = lambda *x: FlowBlend(clarity=clarity).apply({"params": params}, *x, method="propose")
        found = jax.jit(propose)(observations, jnp.ones((1, 1)))
        return found.frames[0, 0, 8, :, 0], found.labels[0, 0, 8]

    mean, _ = row(0.0)
    expected = jnp.zeros(32).at[10:13].set(0.5).at[16:19].set(0.5)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    clear, labels = row(1.0)
    assert clear[13] > 0.8 and jnp.abs(clear[jnp.r_[:11, 17:32]]).max() < 0.15
    np.testing.assert_array_equal(labels, jnp.zeros(32).at[13:16].set(1))


def test_motion_dies_out_as_fast_as_it_did_in_the_window():
    """Slowed motion as good as steady: by a quarter a frame; far worse: not at all; far better: faster."""
    slowed, kept = (_MOVED.index((1, constant, 0.0)) for constant in (4, 0))
    errors = jnp.zeros((4, NUM_CANDIDATES)).at[:, slowed].set(jnp.array([0.0, 0.1, 2, -3]) + 0.7)
    rates = candidates.slowing(errors.at[:, kept].set(0.7))
    np.testing.assert_allclose(rates, [0.25, 0.1875, 0.001, 0.4], atol=1e-6)


def test_every_number_is_learned_at_any_clarity(panned):
    seen, future = panned
    for clarity in (0.5, 1.0):
        module = FlowBlend(flow_levels=2, clarity=clarity)

        def loss(params, module=module):
            found = module.apply({"params": params}, seen, jnp.array([[1.0, 3, 6]]))
            return jnp.square(found.frames - future.frames[:, jnp.array([0, 2, 5])]).mean()

        slopes = jax.jit(jax.grad(loss))(untrained()["params"])["gates"]
        assert all(bool(jnp.any(slope != 0)) for slope in jax.tree.leaves(slopes))
        assert not (slopes["prior"]["kernel"] == 0).all(0).any()


def test_steps_beyond_32_are_blended_as_step_32():
    """In a clip without motion: 32 and 100 are alike, 1 is not."""
    still = jax.tree.map(lambda x: jnp.repeat(x, 4, 1), random_window(0, 1, 1, 16, 16))
    params = jax.tree.map(lambda x: x + 0.3 * uniform(1, *x.shape), untrained()["params"])
    variables, ahead = {"params": without_backtests(params)}, jnp.array([[1.0, 32.0, 100.0]])
    found = jax.jit(FlowBlend(flow_levels=1).apply)(variables, still, ahead)
    near, far, farther = found.frames[0]
    chex.assert_trees_all_close(far, farther, atol=1e-5)
    assert jnp.abs(near - far).max() > 0.01


def test_blank_observations_have_the_shapes_of_observed_ones():
    frames = random_window(0, 2, 4, 16, 32).frames
    observed = jax.jit(backtest.observe, static_argnums=1)(frames, 2)
    chex.assert_trees_all_equal_shapes_and_dtypes(backtest.blank(frames), observed)


def test_backtests_count_before_training():
    """To and fro by 3 pixels: far ahead the mean is right, and untrained weights prefer it."""
    y, x = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij")
    frame = lambda t: jnp.stack([jnp.sin((x + t % 2 * 3) / 2 + c + y / 9) for c in range(3)], -1)
    seen = jnp.stack([frame(t) for t in range(16)])[None]
    window = random_window(0, *seen.shape[:4]).replace(frames=seen)

    def error(params):
        found = apply({"params": params}, window, jnp.full((1, 3), 16.0))
        return jnp.abs(found.frames[0, 0] - seen[0].mean(0)).mean()

    params = untrained()["params"]
    assert error(params) < 0.8 * error(without_backtests(params))


def test_a_forecast_depends_on_its_clip_and_step_alone():
    """Two oblong clips, each with its own steps; random parameters."""
    window, ahead = random_window(0, 2, 4, 16, 32), jnp.array([[1.0, 9.0], [30.0, 2.0]])
    variables = jax.tree.map(lambda x: x + 0.1 * uniform(1, *x.shape), untrained())
    together = apply(variables, window, ahead)
    chex.assert_shape(together.frames, (2, 2, 16, 32, 3))
    for clip, step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        own = jax.tree.map(lambda x, clip=clip: jnp.stack([x[clip]] * 2), window)
        alone = apply(variables, own, jnp.full((2, 2), ahead[clip, step]))
        for one, every in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            chex.assert_trees_all_close(one[0, 0], every[clip, step], atol=1e-5)
    assert jnp.abs(together.frames[:, 0] - together.frames[:, 1]).max() > 0.01


def test_any_context_has_the_same_parameters():
    """Observed once or at every call."""
    window, steps, model = random_window(0, 2, 32, 16, 32), jnp.ones((2, 2)), FlowBlend(2)
    found = jax.eval_shape(model.init, jax.random.key(0), window, steps)
    chex.assert_trees_all_equal_shapes(found, untrained())
    window, variables = window.until(4), untrained()
    observations = jax.jit(lambda *x: model.apply(*x, method="observe"))(variables, window)
    found = jax.jit(lambda *x: model.apply(*x, method="propose"))(variables, observations, steps)
    chex.assert_trees_all_close(found, apply(variables, window, steps), atol=1e-5)


def test_sizes_and_levels_are_checked():
    FlowBlend(flow_levels=3).check(36, 32)
    with pytest.raises(ValueError, match=r"model.flow_levels \(3\): sides must be multiples of 4"):
        FlowBlend(flow_levels=3).check(36, 34)
    with pytest.raises(ValueError, match=r"model.flow_levels \(0\) must be 1 to 16"):
        FlowBlend(flow_levels=0).check(32, 32)
