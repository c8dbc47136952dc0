"""The compositor: by hand, and that a frame depends on its own clip and step alone."""

import chex
import jax
import jax.numpy as jnp
import pytest

from vidpred_jax.models.candidates import NUM_CANDIDATES, NUM_LAGS
from vidpred_jax.models.compositor import Compositor


def uniform(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def test_it_starts_as_the_moved_newest_frame():
    """Untrained, in a pan by a pixel a frame: the warped frame, except at the border."""
    wide = uniform(0, 1, 32, 64, 3)
    wide = (wide + jnp.roll(wide, 1, 2) + jnp.roll(wide, 2, 2)) / 3
    seen = jnp.stack([wide[0, :, t : t + 32] for t in range(16)])[None]
    seen = jnp.concatenate([seen, jnp.zeros_like(seen)], -1)
    model, picture = Compositor(widths=(8,), flow_levels=3), jnp.zeros((1, 2, 32, 32, 3))
    ahead = jnp.array([[1.0, 3.0]])
    variables = jax.jit(model.init)(jax.random.key(0), picture, seen, ahead)
    variables = jax.tree.map(jnp.zeros_like, variables)
    variables["params"]["blend"]["bias"] = jnp.zeros(NUM_CANDIDATES).at[0].set(30.0)
    pred = jax.jit(model.apply)(variables, picture, seen, ahead)
    for number, k in enumerate((1, 3)):
        truth = wide[0, :, 15 + k : 47 + k]
        error = jnp.abs(pred[0, number] - truth)[4:-4, 4:-8].mean()
        still = jnp.abs(seen[0, -1, ..., :3] - truth)[4:-4, 4:-8].mean()
        assert error < 0.35 * still


def test_steps_beyond_32_are_blended_as_step_32():
    """In a clip without motion: 32 and 100 are alike, 1 is not."""
    still = jnp.repeat(uniform(0, 1, 1, 16, 16, 6), 16, 1)
    model, picture = Compositor((), flow_levels=1, fusion=False), jnp.zeros((1, 3, 16, 16, 3))
    ahead = jnp.array([[1.0, 32.0, 100.0]])
    variables = jax.jit(model.init)(jax.random.key(0), picture, still, ahead)
    params = jax.tree.map(lambda x: x + 0.3 * uniform(1, *x.shape), variables["params"])
    for name in [name for name in params if name.startswith("weight_")]:
        params[name]["kernel"] = jnp.zeros((4, NUM_LAGS)).at[0].set(-10.0)
    variables = {"params": params}
    near, far, farther = jax.jit(model.apply)(variables, picture, still, ahead)[0]
    chex.assert_trees_all_close(far, farther, atol=1e-5)
    assert jnp.abs(near - far).max() > 0.01


def test_backtests_count_before_training():
    """To and fro by 3 pixels: far ahead the mean is right, and untrained weights prefer it."""
    y, x = jnp.meshgrid(jnp.arange(32.0), jnp.arange(32.0), indexing="ij")
    frame = lambda t: jnp.stack([jnp.sin((x + t % 2 * 3) / 2 + c + y / 9) for c in range(3)], -1)
    seen = jnp.stack([frame(t) for t in range(16)])[None]
    model, picture = Compositor((), flow_levels=3, fusion=False), jnp.zeros((1, 1, 32, 32, 3))
    inputs = (picture, jnp.concatenate([seen, seen], -1), jnp.array([[16.0]]))
    weighted = jax.jit(model.init)(jax.random.key(0), *inputs)["params"]
    no_weight = {"kernel": jnp.zeros((4, NUM_LAGS)).at[0].set(-10.0)}
    even = {name: no_weight if "weight" in name else own for name, own in weighted.items()}
    apply = jax.jit(model.apply)
    error = lambda params: jnp.abs(
        apply({"params": params}, *inputs)[0, 0] - seen[0].mean(0)
    ).mean()
    assert error(weighted) < 0.8 * error(even)


@pytest.mark.parametrize("widths", [(), (8,)])
def test_a_frame_depends_on_its_clip_and_step_alone(widths):
    """Two oblong clips, each with its own steps; random parameters."""
    model = Compositor(widths, reference_frames=14, flow_levels=2, fusion=False, head_features=4)
    seen, picture = uniform(0, 2, 14, 16, 32, 6), jnp.zeros((2, 2, 16, 32, 3))
    ahead = jnp.array([[1.0, 9.0], [30.0, 2.0]])
    variables = jax.jit(model.init)(jax.random.key(0), picture, seen, ahead)
    variables = jax.tree.map(lambda x: x + 0.1 * uniform(1, *x.shape), variables)
    apply = jax.jit(model.apply)
    together = apply(variables, picture, seen, ahead)
    chex.assert_shape(together, picture.shape)
    for clip, step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        own = [x[clip : clip + 1] for x in (picture, seen, ahead)]
        alone = apply(variables, own[0][:, :1], own[1], own[2][:, step : step + 1])
        chex.assert_trees_all_close(together[clip, step], alone[0, 0], atol=1e-5)
    assert jnp.abs(together[:, 0] - together[:, 1]).max() > 0.01


@pytest.mark.parametrize("n", [4, 5, 10, 32])
def test_any_context_has_the_same_parameters(n):
    """Observed once or at every call; frames before the last `reference_frames` change nothing."""
    make = lambda n: Compositor((8,), reference_frames=n, flow_levels=2, head_features=4)
    references, pictures = uniform(0, 2, n, 16, 32, 6), uniform(1, 2, 3, 16, 32, 3)
    steps, model = jnp.array([[1.0, 4.0, 40.0]] * 2), make(n)
    args = jax.random.key(0), pictures, references, steps
    expected = jax.eval_shape(make(16).init, *args[:2], uniform(0, 2, 16, 16, 32, 6), steps)
    variables = jax.jit(model.init)(*args)
    chex.assert_trees_all_equal_shapes(variables, expected)
    variables = jax.tree.map(lambda x: x + 0.1 * uniform(1, *x.shape), variables)
    frames = jax.jit(model.apply)(variables, *args[1:])
    assert jnp.isfinite(frames).all()
    longer = jnp.concatenate([uniform(5, 2, 2, 16, 32, 6), references], 1)
    observations = jax.jit(model.observe)(longer)
    again = jax.jit(model.apply)(variables, pictures, references, steps, observations)
    chex.assert_trees_all_close(again, frames, atol=1e-5)
