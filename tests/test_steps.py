"""The train step: many devices equal one, a batch is overfitted, gradients go where they should."""

import functools
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_steps
from flax import linen as nn
from small_steps import PICTURE, PLANES, UNET, make_fusion, make_network, make_translator

from vidpred_jax.config import Loss, Optimizer, ProposalLoss
from vidpred_jax.data import fusion
from vidpred_jax.inference.system import System
from vidpred_jax.models import losses
from vidpred_jax.models.discriminators import PatchDiscriminator
from vidpred_jax.models.translator import Translator
from vidpred_jax.proposals.forecast import Window
from vidpred_jax.proposals.scene.scene import Scene
from vidpred_jax.training import forward, parallel, state, steps

GAN_FREE = Loss()
PROPOSED = dict(form=PLANES, proposals=small_steps.make_proposals(), proposal_dropout=0.5)
WIDE = UNET.clone(widths=(32, 32))
MAKERS = {
    "fusion": make_fusion,
    "fusion of planes": functools.partial(make_fusion, form=PLANES),
    "fusion beside proposals": functools.partial(make_fusion, **PROPOSED),
    "translator": make_translator,
    "translator beside proposals": functools.partial(make_translator, **PROPOSED),
}


@pytest.fixture(scope="module")
def batch():
    return small_steps.make_batch()


def state_of(params, tx, frozen=None):
    """A first state of parameters without batch statistics."""
    return state.TrainState(
        step=jnp.asarray(0),
        params=params,
        batch_stats={"g": {}, "d": {}},
        opt_state={name: tx.init(x) for name, x in params.items()},
        ema=params["g"],
        frozen=frozen or {},
        updates=jnp.asarray(0),
    )


def test_accumulated_steps_are_one_of_the_whole_batch(batch):
    """Of two halves: parameters and averages move with the second, as by the whole at once."""
    options = dict(schedule="constant", clip=1.0)
    tx = state.make_optimizer(Optimizer(**options), num_steps=8)
    whole, step = make_fusion(tx, GAN_FREE, max_unroll=0)
    expected, _ = jax.jit(step)(whole, batch)
    tx = state.make_optimizer(Optimizer(**options, accumulate=2), num_steps=8)
    first, step = make_fusion(tx, GAN_FREE, max_unroll=0)
    half = jax.jit(step)
    one, _ = half(first, {k: v[:4] for k, v in batch.items()})
    chex.assert_trees_all_equal(one.params, first.params)
    chex.assert_trees_all_equal(one.ema, first.ema)
    two, _ = half(one, {k: v[4:] for k, v in batch.items()})
    chex.assert_trees_all_close(two.params, expected.params, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(two.ema, expected.ema, rtol=1e-3, atol=1e-5)


def test_the_average_moves_with_the_parameters_though_a_step_was_skipped():
    """Worked by hand: gradients of -1, rate 0.5, two steps to an update, the second step skipped."""
    tx = optax.MultiSteps(optax.sgd(0.5), 2).gradient_transformation()
    params = {"g": {"w": jnp.zeros(())}, "d": {}}
    current = state_of(params, tx, {"propose": {"last": {"bright": jnp.ones(2)}}})

    def predict(g_params, state, batch, key, axis_name):
        pred = jnp.broadcast_to(g_params["w"], (1, 1, 1, 1))
        target = jnp.full_like(pred, batch)
        return forward.Forward(pred, target, pred, {})

    terms = lambda pred, target: {"l1": losses.l1(pred, target)}
    run = forward.ForwardPass(predict, terms)
    step = jax.jit(steps.skip_nonfinite(steps.make_train_step(run, None, tx, GAN_FREE)))
    found = []
    for target in (9.0, jnp.nan, 9.0, 9.0, 9.0):
        current, _ = step(current, target)
        found.append((current.params["g"]["w"], current.ema["w"], current.updates))
    first, second = 0.9 * 0.5, 2 / 11 * 0.9 * 0.5 + 9 / 11 * 1.0
    expected = [(0, 0, 0), (0, 0, 0), (0.5, first, 1), (0.5, first, 1), (1.0, second, 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert int(current.step) == 5
    items = state.to_items(current)
    assert int(items["training"]["updates"]) == 2
    assert items["inference"]["proposals"] == current.frozen["propose"]
    chex.assert_trees_all_equal(state.from_items(items), current)


@pytest.mark.parametrize("name", MAKERS)
def test_four_devices_equal_one(name, batch, caplog):  # With SGD: Adam amplifies float noise.
    make, tx = MAKERS[name], optax.sgd(0.01)
    first, step = make(tx)
    expected, expected_metrics = jax.jit(step)(first, batch)
    expected, _ = jax.jit(step)(expected, batch)
    first, step = make(tx, axis_name=parallel.AXIS)
    parallelized = parallel.parallelize(step)
    actual, metrics = parallelized(parallel.replicate(first), parallel.split(batch))
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        actual, _ = parallelized(actual, parallel.split(batch))
    assert "Compiling" not in caplog.text
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(metrics, expected_metrics, rtol=1e-4, atol=1e-5)
    assert int(actual.step) == 2


@pytest.mark.parametrize(("form", "term"), [(PICTURE, "l1"), (PLANES, "loss")])
def test_fusion_overfits_one_batch(form, term, batch):
    still = {form.field: np.repeat(batch[form.field][:2, :1], 20, 1)}
    weights = Loss(l1=1.0)
    first, step = make_fusion(optax.adam(1e-2), weights, 0, module=WIDE, form=form)
    step = jax.jit(step)
    current, start = step(first, still)
    for _ in range(150):
        current, metrics = step(current, still)
    assert metrics[term] < 0.15 * start[term]


@pytest.mark.parametrize("form", [PICTURE, PLANES])
def test_translator_overfits_one_batch(form, batch):
    still = {k: np.repeat(batch[k][:2, :1], 20, 1) for k in ("frames", form.field)}
    still["length"] = np.full(2, 20, np.int32)
    network = make_network("translator", Translator((16, 32), 0.0, "group"), form)
    discriminator, tx = PatchDiscriminator((4,), 4, norm="none"), optax.adam(5e-3)
    current = small_steps.make_state(network, discriminator, tx, {"propose": {}})
    weights = Loss(l1=1.0, ssim=0.1, adversarial=0.01)
    run = forward.translate_forward(network, System.of(network), weights.terms, targets_per_clip=2)
    step = jax.jit(steps.make_train_step(run, discriminator, tx, weights))
    current, start = step(current, still)
    for _ in range(300):
        current, metrics = step(current, still)
    assert metrics["l1"] < 0.25 * start["l1"]


@pytest.mark.parametrize("name", MAKERS)
def test_both_networks_and_the_average_move_and_the_frozen_does_not(name, batch):
    make, translates = MAKERS[name], "translator" in name
    first, step = make(optax.sgd(0.1))
    after, metrics = jax.jit(step)(first, batch)
    for part in ("g", "d"):
        for path, (old, new) in _leaves(first.params[part], after.params[part]):
            cancelled = path[-1].key == "bias" and translates  # By the batch norm behind it.
            assert cancelled or (old != new).any(), f"{part} {jax.tree_util.keystr(path)}"
    chex.assert_trees_all_equal(first.frozen, after.frozen)
    # Decay at step 0 is 1 / 10.
    expected = jax.tree.map(lambda o, n: 0.1 * o + 0.9 * n, first.ema, after.params["g"])
    chex.assert_trees_all_close(after.ema, expected, atol=1e-6)
    assert all(np.isfinite(v) for v in metrics.values())


def _leaves(first, second):
    first, second = (jax.tree_util.tree_leaves_with_path(t) for t in (first, second))
    return [(path, (old, new)) for (path, old), (_, new) in zip(first, second, strict=True)]


@pytest.mark.parametrize("form", [PICTURE, PLANES])
def test_one_vjp_equals_two_separate_gradients(form):
    """The generator is blind to d_loss and the discriminator to g_loss."""
    lr = 0.1
    # Of seed 0 two sums lie within 2e-7 of the leaky ReLU's kink: there rounding chooses the slope.
    batch = small_steps.make_batch(seed=2)
    first, step = make_fusion(optax.sgd(lr), max_unroll=0, form=form)
    after, _ = jax.jit(step)(first, batch)
    video = form.encode(jnp.asarray(batch[form.field]))
    target, condition = video[:, 16:20], jnp.repeat(video[:, 15:16], 4, 1)
    discriminator = PatchDiscriminator((4,), 4, norm="none")
    flat = lambda x: x.reshape(-1, 16, 16, form.channels)

    def score(d, maps):
        return discriminator.apply({"params": d}, flat(condition), flat(maps))[0][-1]

    def predict(g):
        raw = UNET.apply({"params": g}, video[:, :16])
        if form is PICTURE:
            return raw, jnp.tanh(raw)
        return raw, jnp.concatenate([jax.nn.sigmoid(raw[..., :1]), jax.nn.softmax(raw[..., 1:])], -1)

    def g_loss(g):
        raw, pred = predict(g)
        adversarial = 0.5 * losses.bce_g(score(first.params["d"], pred)).mean()
        if form is PICTURE:
            similarity = 0.5 * losses.ssim_loss(pred, target).mean()
            return losses.l1(pred, target).mean() + similarity + adversarial
        edges = optax.sigmoid_binary_cross_entropy(raw[..., 0], target[..., 0]).mean()
        labels = optax.softmax_cross_entropy(raw[..., 1:], target[..., 1:]).mean()
        return edges + labels + adversarial

    def d_loss(d):
        _, pred = predict(first.params["g"])
        return losses.bce_d(score(d, target), score(d, pred)).mean()

    for name, loss in (("g", g_loss), ("d", d_loss)):
        grads = jax.jit(jax.grad(loss))(first.params[name])
        expected = jax.tree.map(lambda p, g: p - lr * g, first.params[name], grads)
        chex.assert_trees_all_close(after.params[name], expected, rtol=1e-4, atol=1e-6)


def test_a_scene_is_fitted_to_where_its_objects_went():
    """By an error of its own, of the frames that every clip has after its context."""
    planes = np.zeros((1, 14, 16, 16, 2), np.uint8)
    for t in range(14):
        planes[:, t, 4:8, t // 2 : t // 2 + 4, 1] = 1
    planes = jnp.asarray(planes)
    shown = 200 * jnp.repeat(planes[..., 1:], 3, -1)
    batch = {"planes": planes, "frames": shown, "length": jnp.full(1, 14)}
    module, tx = Scene(num_labels=2), optax.sgd(0.01)
    network = make_network("proposal", module, context=8)
    first = small_steps.make_state(network, None, tx)
    weights = ProposalLoss(l1=0.0, trajectory=1.0)
    run = forward.proposal_forward(network, weights.terms, context=8, targets_per_clip=1, min_future=4)
    after, metrics = jax.jit(steps.make_train_step(run, None, tx, weights))(first, batch)
    labels = planes[..., 1].astype(int)
    window = Window(fusion.to_float(shown), jnp.zeros(labels.shape), labels)

    def error(g):
        observed = module.apply({"params": g}, window.until(8), method="observe")
        future = jax.tree.map(lambda x: x[:, 8:12], window)
        return module.apply({"params": g}, observed, future, method="fit_error").mean()

    expected, grads = jax.jit(jax.value_and_grad(error))(first.params["g"])
    assert set(metrics) >= {"l1", "trajectory"} and float(metrics["l1"]) > 0
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-4)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads)) > 0
    expected = jax.tree.map(lambda p, g: p - 0.01 * g, first.params["g"], grads)
    chex.assert_trees_all_close(after.params["g"], expected, rtol=1e-4, atol=1e-6)


def test_feature_matching_trains_the_generator_alone(batch):
    """Of equal frames it is zero; the discriminator's update is the same with and without it."""
    after = {}
    for matching in (0.0, 5.0):
        weights = Loss(l1=1.0, adversarial=0.5, matching=matching, gan="lsgan")
        first, step = make_translator(optax.sgd(0.1), weights)
        after[matching], metrics = jax.jit(step)(first, batch)
        assert ("matching" in metrics) == bool(matching)
    chex.assert_trees_all_close(after[0.0].params["d"], after[5.0].params["d"], atol=1e-6)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), *(a.params["g"] for a in after.values()))
    assert max(jax.tree.leaves(moved)) > 1e-4


def test_shares_are_those_of_the_gradients_at_the_output():
    """Worked by hand: frames of 4 pixels, all .5 too bright, before a discriminator that sums them."""

    class Sum(nn.Module):
        @nn.compact
        def __call__(self, condition, frame):
            weight = self.param("weight", nn.initializers.ones, ())
            return [[weight * frame.sum((1, 2, 3))[:, None, None]]]

    def run(g_params, state, batch, key, axis_name):
        output = jnp.full((2, 1, 2, 2, 1), g_params["w"])
        return forward.Forward(output, output * 0, output, {})

    weights = Loss(l1=2.0, mse=3.0, adversarial=0.1, gan="hinge")
    terms = functools.partial(losses.of_pictures, names=weights.terms)
    tx, params = optax.sgd(1.0), {"g": {"w": jnp.float32(0.5)}, "d": {"weight": jnp.float32(1)}}
    step = steps.make_train_step(forward.ForwardPass(run, terms), Sum(), tx, weights, d_tx=optax.sgd(0.01))
    first = state_of(params, tx)
    after, metrics = jax.jit(step)(first, {})
    # At a pixel of the 8: l1 2 / 8, mse 3 * 2 * .5 / 8; of the 2 frames the GAN's is -.1 / 2.
    norms = {"l1": 2.0, "mse": 3.0, "g_gan": 0.4}
    for name, norm in norms.items():
        assert float(metrics[f"share_{name}"]) == pytest.approx(norm / 5.4, rel=1e-5)
    assert float(metrics["loss"]) == pytest.approx(2 * 0.5 + 3 * 0.25 - 0.1 * 2)
    # Of w: 2 + 3 - .1 * 4. Of the discriminator, 1 - real and 1 + fake being above 0: 2 - 0.
    assert float(after.params["g"]["w"]) == pytest.approx(0.5 - 4.6)
    assert float(after.params["d"]["weight"]) == pytest.approx(1 - 0.01 * 2)


def test_the_terms_of_a_loss_are_those_with_a_weight():
    found = ProposalLoss(l1=0.0, psnr=0.5, edges=2.0, trajectory=0.0, adversarial=1.0).terms
    assert found == {"l1": 0.0, "psnr": 0.5, "edges": 2.0, "labels": 1.0}
