"""The train step: many devices equal one, a batch is overfitted, gradients go where they should."""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vidpred_jax.data import fusion
from vidpred_jax.inference import rollout
from vidpred_jax.models.discriminators import PatchDiscriminator
from vidpred_jax.models.translator import Generator
from vidpred_jax.models.unet3d import UNet3d
from vidpred_jax.training import losses, parallel, state, steps

GAN = steps.LossWeights(l1=1.0, ssim=0.5, adversarial=0.5)
UNET = UNet3d(
    widths=(8, 8), patch=2, time_patch=4, time_strides=(2,), shift=4, num_flows=1, outputs=4
)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, 28, 4, 4, 3)).astype(np.uint8)
    fine = np.repeat(np.repeat(coarse, 4, 2), 4, 3)
    lengths = np.full(8, 28, np.int32)
    return {"frames": fine, "fusion": np.roll(fine, 1, 0), "length": lengths}


def make_fusion(tx, weights=GAN, max_unroll=2, axis_name=None, model=UNET):
    discriminator = PatchDiscriminator((4,), 4, norm="none") if weights.adversarial else None
    frame = jnp.zeros((1, 16, 16, 3))
    first = state.create(
        jax.random.key(0),
        model,
        discriminator,
        (jnp.zeros((1, 16, 16, 16, 3)),),
        (frame, frame),
        tx,
    )
    forward = steps.fusion_forward(model, max_unroll)
    return first, steps.make_train_step(forward, discriminator, tx, weights)


def make_translator(tx, weights=GAN, axis_name=None, norm="batch", predicted_fraction=0.5):
    model = Generator((8, 8), 0.0, norm, reference_frames=1, num_flows=1, axis_name=axis_name)
    discriminator = PatchDiscriminator((4,), 4, norm=norm, axis_name=axis_name)
    frame = jnp.zeros((1, 16, 16, 3))
    frozen = jax.jit(UNET.init)(jax.random.key(3), jnp.zeros((1, 16, 16, 16, 3)))["params"]
    inputs = (frame[None], jnp.zeros((1, 1, 16, 16, 6)), jnp.ones((1, 1)))
    first = state.create(
        jax.random.key(0), model, discriminator, inputs, (frame, frame), tx, frozen
    )
    forward = steps.translator_forward(
        model, targets_per_clip=3, predictor=UNET, predicted_fraction=predicted_fraction
    )
    return first, steps.make_train_step(forward, discriminator, tx, weights)


def test_accumulated_steps_are_one_of_the_whole_batch(batch):
    """Of two halves: parameters and averages move with the second, as by the whole at once."""
    weights, options = steps.LossWeights(), dict(num_steps=8, schedule="constant", clip=1.0)
    whole, step = make_fusion(state.make_optimizer(**options), weights, max_unroll=0)
    expected, _ = jax.jit(step)(whole, batch)
    tx = state.make_optimizer(**options, accumulate=2)
    first, _ = make_fusion(tx, weights, max_unroll=0)
    forward = steps.fusion_forward(UNET, 0)
    half = jax.jit(steps.make_train_step(forward, None, tx, weights, accumulate=2))
    one, _ = half(first, {k: v[:4] for k, v in batch.items()})
    chex.assert_trees_all_equal(one.params, first.params)
    chex.assert_trees_all_equal(one.ema, first.ema)
    two, _ = half(one, {k: v[4:] for k, v in batch.items()})
    chex.assert_trees_all_close(two.params, expected.params, rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(two.ema, expected.ema, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", [make_fusion, make_translator])
def test_four_devices_equal_one(make, batch, caplog):  # With SGD: Adam amplifies float noise.
    tx = optax.sgd(0.01)
    first, step = make(tx)
    expected, expected_metrics = jax.jit(step)(first, batch)
    expected, _ = jax.jit(step)(expected, batch)
    first, step = make(tx, axis_name=parallel.AXIS)
    parallelized = parallel.parallelize(step)
    actual, metrics = parallelized(parallel.replicate(first), parallel.split(batch, 4))
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        actual, _ = parallelized(actual, parallel.split(batch, 4))
    assert "Compiling" not in caplog.text
    chex.assert_trees_all_close(actual, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(metrics, expected_metrics, rtol=1e-4, atol=1e-5)
    assert int(actual.step) == 2


def test_fusion_overfits_one_batch(batch):
    still = {"fusion": np.repeat(batch["fusion"][:2, :1], 20, 1)}
    first, step = make_fusion(optax.adam(3e-3), steps.LossWeights(l1=1.0), max_unroll=0)
    step = jax.jit(step)
    current, start = step(first, still)
    for _ in range(150):
        current, metrics = step(current, still)
    assert metrics["l1"] < 0.15 * start["l1"]


def test_translator_overfits_one_batch(batch):
    still = {k: np.repeat(batch[k][:2, :1], 20, 1) for k in ("frames", "fusion")}
    still["length"] = np.full(2, 20, np.int32)
    model = Generator((16, 32), 0.0, "group")
    discriminator = PatchDiscriminator((4,), 4, norm="none")
    frame = jnp.zeros((1, 16, 16, 3))
    inputs = (frame[None], jnp.zeros((1, 0, 16, 16, 6)), jnp.ones((1, 1)))
    tx = optax.adam(5e-3)
    current = state.create(jax.random.key(0), model, discriminator, inputs, (frame, frame), tx)
    forward = steps.translator_forward(model, targets_per_clip=2)
    weights = steps.LossWeights(l1=1.0, ssim=0.1, adversarial=0.01)
    step = jax.jit(steps.make_train_step(forward, discriminator, tx, weights))
    current, start = step(current, still)
    for _ in range(300):
        current, metrics = step(current, still)
    assert metrics["l1"] < 0.25 * start["l1"]


@pytest.mark.parametrize("make", [make_fusion, make_translator])
def test_both_networks_and_the_average_move_and_the_frozen_does_not(make, batch):
    first, step = make(optax.sgd(0.1))
    after, metrics = jax.jit(step)(first, batch)
    for name in ("g", "d"):
        for path, (old, new) in _leaves(first.params[name], after.params[name]):
            cancelled = path[-1].key == "bias" and make is make_translator
            assert cancelled or (old != new).any(), f"{name} {jax.tree_util.keystr(path)}"
    chex.assert_trees_all_equal(first.frozen, after.frozen)
    # Decay at step 0 is 1 / 10.
    expected = jax.tree.map(lambda o, n: 0.1 * o + 0.9 * n, first.ema, after.params["g"])
    chex.assert_trees_all_close(after.ema, expected, atol=1e-6)
    assert all(np.isfinite(v) for v in metrics.values())


def _leaves(first, second):
    first, second = (jax.tree_util.tree_leaves_with_path(t) for t in (first, second))
    return [(path, (old, new)) for (path, old), (_, new) in zip(first, second, strict=True)]


def test_one_vjp_equals_two_separate_gradients(batch):
    """The generator is blind to d_loss and the discriminator to g_loss."""
    lr = 0.1
    first, step = make_fusion(optax.sgd(lr), max_unroll=0)
    after, _ = jax.jit(step)(first, batch)
    video = jnp.asarray(fusion.to_float(batch["fusion"]))
    target, condition = video[:, 16:20], jnp.repeat(video[:, 15:16], 4, 1)
    discriminator = PatchDiscriminator((4,), 4, norm="none")
    flat = lambda x: x.reshape(-1, 16, 16, 3)

    def score(d, frames):
        return discriminator.apply({"params": d}, flat(condition), flat(frames))

    def g_loss(g):
        pred = UNET.apply({"params": g}, video[:, :16])
        adversarial = losses.bce_g(score(first.params["d"], pred)).mean()
        similarity = losses.ssim_loss(pred, target).mean()
        return losses.l1(pred, target).mean() + 0.5 * similarity + 0.5 * adversarial

    def d_loss(d):
        pred = UNET.apply({"params": first.params["g"]}, video[:, :16])
        return losses.bce_d(score(d, target), score(d, pred)).mean()

    for name, loss in (("g", g_loss), ("d", d_loss)):
        grads = jax.jit(jax.grad(loss))(first.params[name])
        expected = jax.tree.map(lambda p, g: p - lr * g, first.params[name], grads)
        chex.assert_trees_all_close(after.params[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_unroll", [0, 1])
def test_paths_of_objects_are_learned_from_where_labels_went(max_unroll):
    """By an error of their own, of the true context, however often an example was fed with its output."""
    pictures = np.zeros((2, 28, 16, 16, 3), np.uint8)
    for t in range(28):
        pictures[:, t, 4:8, (t // 2) % 13 : (t // 2) % 13 + 4] = fusion.PALETTE[1]
    batch = {"fusion": pictures, "frames": pictures, "length": np.full(2, 28, np.int32)}
    model = UNet3d(
        (8, 8), patch=2, time_strides=(2,), shift=4, outputs=4, num_flows=1, num_labels=2
    )
    weights = steps.LossWeights(l1=0.0, path=1.0)
    first, step = make_fusion(optax.sgd(0.01), weights, max_unroll, model=model)
    after, metrics = jax.jit(step)(first, batch)
    video = jnp.asarray(fusion.to_float(pictures))
    observed = model.observe(video[:, :16])
    error = lambda g: model.trajectory_error(g, observed, video[:, 16:]).mean()
    expected, grads = jax.jit(jax.value_and_grad(error))(first.params["g"])
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-4)
    assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads["scene"])) > 0
    expected = jax.tree.map(lambda p, g: p - 0.01 * g, first.params["g"], grads)
    chex.assert_trees_all_close(after.params["g"], expected, rtol=1e-4, atol=1e-6)


def test_targets_follow_the_window(batch):
    """With self-feeding, an example fed i times is compared with the frames i shifts later."""
    seen, batch = [], jax.tree.map(jnp.asarray, batch)

    class Spy(UNet3d):
        def apply(self, variables, x):
            return x[:, -4:] + 0.01  # Copy-last of four frames, with a mark for each time.

    spy = Spy(widths=(8, 8), patch=2, time_patch=4, time_strides=(2,), shift=4, outputs=4)
    forward = steps.fusion_forward(spy, max_unroll=2)
    first, _ = make_fusion(optax.sgd(0.1))
    for number in range(6):
        out = forward({}, first, batch, jax.random.key(number), None)
        video = fusion.to_float(batch["fusion"])
        for i in range(8):
            fed = [
                n for n in range(3) if (out.target[i] == video[i, 16 + 4 * n : 20 + 4 * n]).all()
            ]
            seen += fed
            assert len(fed) == 1
            last = video[i, 12:16] + 0.01 * fed[0]  # Fed with itself, it never moves.
            chex.assert_trees_all_close(out.condition[i, 0], last[-1], atol=1e-5)
            chex.assert_trees_all_close(out.pred[i], last + 0.01, atol=1e-5)
    assert set(seen) == {0, 1, 2}


def test_translator_pairs_picture_and_frame(batch):
    """Conditions are the true pictures of the very frames they are compared with, all ahead."""
    model = Generator((8,), 0.0, "none")
    variables = model.init(
        jax.random.key(0),
        jnp.zeros((1, 1, 16, 16, 3)),
        jnp.zeros((1, 0, 16, 16, 6)),
        jnp.ones((1, 1)),
    )
    first, _ = make_translator(optax.sgd(0.1))
    first = first.replace(batch_stats={"g": {}, "d": {}})
    out = steps.translator_forward(model, targets_per_clip=4)(
        variables["params"], first, batch, jax.random.key(1), None
    )
    frames, pictures = (fusion.to_float(batch[k]) for k in ("frames", "fusion"))
    for i in range(8):
        steps_found = set()
        for j in range(4):
            places = [t for t in range(28) if (out.target[i, j] == frames[i, t]).all()]
            assert len(places) == 1 and places[0] >= 16
            chex.assert_trees_all_equal(out.condition[i, j], pictures[i, places[0]])
            steps_found.add(places[0])
        assert len(steps_found) == 4


def test_targets_lie_within_the_clip_and_as_near_as_asked(batch):
    """Of windows of 19 frames, three targets are the three frames after the context; with a large
    `step_sampling_power` one target is the first of many."""
    model = Generator((8,), 0.0, "none")
    inputs = jnp.zeros((1, 1, 16, 16, 3)), jnp.zeros((1, 0, 16, 16, 6)), jnp.ones((1, 1))
    variables = model.init(jax.random.key(0), *inputs)
    first, _ = make_translator(optax.sgd(0.1))
    first = first.replace(batch_stats={"g": {}, "d": {}})
    frames = fusion.to_float(batch["frames"])

    def targets(batch, **options):
        forward = steps.translator_forward(model, **options)
        return forward(variables["params"], first, batch, jax.random.key(1), None).target

    short = {**batch, "length": np.full(8, 19, np.int32)}
    found = targets(short, targets_per_clip=3, step_sampling_power=0.0)
    for i in range(8):
        means = sorted(np.asarray(found[i].mean((1, 2, 3))).tolist())
        expected = sorted(np.asarray(frames[i, 16:19].mean((1, 2, 3))).tolist())
        chex.assert_trees_all_close(means, expected, atol=1e-6)
    chex.assert_trees_all_equal(
        targets(batch, targets_per_clip=1, step_sampling_power=30.0)[:, 0], frames[:, 16]
    )


def test_feature_matching_trains_the_generator_alone(batch):
    """Of equal frames it is zero; the discriminator's update is the same with and without it."""
    after = {}
    for matching in (0.0, 5.0):
        weights = steps.LossWeights(l1=1.0, adversarial=0.5, matching=matching, gan="lsgan")
        first, step = make_translator(optax.sgd(0.1), weights)
        after[matching], metrics = jax.jit(step)(first, batch)
        assert ("matching" in metrics) == bool(matching)
    chex.assert_trees_all_close(after[0.0].params["d"], after[5.0].params["d"], atol=1e-6)
    moved = jax.tree.map(
        lambda a, b: jnp.abs(a - b).max(), *(a.params["g"] for a in after.values())
    )
    assert max(jax.tree.leaves(moved)) > 1e-4
    with pytest.raises(ValueError, match=r"loss.matching \(1.0\) needs loss.adversarial above 0"):
        steps.LossWeights(matching=1.0)


def test_references_are_the_last_observed():
    frames, pictures = (
        jnp.arange(4.0).reshape(1, 4, 1, 1, 1),
        jnp.arange(4.0).reshape(1, 4, 1, 1, 1) + 10,
    )
    found = rollout.references(frames, pictures, 2)
    assert found.reshape(2, 2).tolist() == [[2, 12], [3, 13]]
    assert rollout.references(frames, pictures, 0).shape == (1, 0, 1, 1, 2)


def test_optimizer_schedule_and_refusals():
    tx = state.make_optimizer(learning_rate=1.0, warmup_steps=2, num_steps=4, b1=0.0)
    params, sizes = jnp.zeros(1), []
    opt_state = tx.init(params)
    for _ in range(4):
        update, opt_state = tx.update(jnp.ones(1), opt_state, params)
        sizes.append(round(-float(update[0]), 3))
    assert sizes == [0.0, 0.5, 1.0, 0.5]
    with pytest.raises(
        ValueError, match=r"optimizer.schedule \('step'\) must be 'cosine' or 'const"
    ):
        state.make_optimizer(schedule="step", num_steps=3)
    with pytest.raises(
        ValueError, match=r"loss.gan \('wgan'\) must be one of \('bce', 'hinge', 'lsgan'\)"
    ):
        steps.LossWeights(gan="wgan")


def test_split_refuses_a_remainder():
    with pytest.raises(ValueError, match=r"batch_size \(6\) must be a multiple of 4 devices"):
        parallel.split({"x": np.zeros((6, 2))}, 4)
