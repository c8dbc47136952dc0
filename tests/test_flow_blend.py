"""Flow blend: by hand, and that a forecast depends on its own clip and step alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax.proposals import backtest, flow_blend
from vidpred_jax.proposals.backtest import NUM_LAGS
from vidpred_jax.proposals.candidates import COPY, NUM_CANDIDATES, NUM_FLOWS
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


def test_steps_beyond_32_are_blended_as_step_32():
    """In a clip without motion: 32 and 100 are alike, 1 is not."""
    still = jax.tree.map(lambda x: jnp.repeat(x, 4, 1), random_window(0, 1, 1, 16, 16))
    params = jax.tree.map(lambda x: x + 0.3 * uniform(1, *x.shape), untrained()["params"])
    variables, ahead = {"params": without_backtests(params)}, jnp.array([[1.0, 32.0, 100.0]])
    found = jax.jit(FlowBlend(flow_levels=1).apply)(variables, still, ahead)
    near, far, farther = found.frames[0]
    chex.assert_trees_all_close(far, farther, atol=1e-5)
    assert jnp.abs(near - far).max() > 0.01


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
