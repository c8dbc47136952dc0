"""Networks: shapes, gradients for every parameter, layers by hand, and each refused field."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidpred_jax import stages
from vidpred_jax.data import fusion
from vidpred_jax.models import build
from vidpred_jax.models.baselines.pix2pixhd import Pix2PixHD
from vidpred_jax.models.baselines.simvp import SimVP
from vidpred_jax.models.compositor import Compositor
from vidpred_jax.models.layers import GroupNorm
from vidpred_jax.models.translator import Generator, mean_colors, paint_labels
from vidpred_jax.models.unet3d import UNet3d
from vidpred_jax.types import InputError

SMALL = dict(widths=(8, 8), time_strides=(2,))
UNETS = {
    "paper": UNet3d(**SMALL),
    "block": UNet3d(**SMALL, shift=16),
    "patch": UNet3d(**SMALL, patch=2, time_patch=4, shift=4, num_flows=2, num_labels=3, outputs=4),
    "deep": UNet3d(widths=(4, 4, 4), time_strides=(2, 1), blocks=2, num_flows=1, norm="none"),
    "bfloat16": UNet3d(**SMALL, num_flows=1, dtype=jnp.bfloat16),
    "simvp": SimVP(width=4, strides=(2, 1), hidden=8, blocks=1),
}
GENERATORS = {
    "paper": Generator(widths=(8, 8, 8), dropout=0.5),
    "reference": Generator(
        widths=(8, 8),
        norm="group",
        reference_frames=2,
        num_flows=2,
        flow_levels=2,
        head_features=4,
        label_colors=3,
    ),
    "scene": Generator(
        widths=(8, 8),
        norm="group",
        reference_frames=4,
        seen_frames=1,
        num_flows=1,
        label_colors=3,
        scene=True,
    ),
    "bfloat16": Generator(widths=(8, 8), norm="none", reference_frames=1, dtype=jnp.bfloat16),
    "pix2pixhd": Pix2PixHD(width=4, levels=2, blocks=1, reference_frames=1),
    "compositor": Compositor(widths=(8, 8), flow_levels=3, head_features=4),
    "learning compositor": Compositor(
        (8,),
        "none",
        reference_frames=14,
        flow_levels=1,
        fusion=False,
        appearance=True,
        dtype=jnp.bfloat16,
    ),
    "compositor without a network": Compositor((), flow_levels=2, fusion=False),
}


def uniform(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


def references(model, b, size):
    return uniform(3, b, model.reference_frames, size, size, 6)


def test_group_norm_equals_flax():
    x, g = 2 * uniform(0, 2, 3, 8, 8, 16) + 3, uniform(1, 2, 3, 8, 8, 16)
    params = {"params": {"scale": jnp.arange(16.0) / 9, "bias": jnp.arange(16.0)}}

    def both(module):
        y, vjp = jax.vjp(lambda x, params: module.apply(params, x), x, params)
        return y, vjp(g)

    ours, expected = both(GroupNorm(8)), both(nn.GroupNorm(8))
    chex.assert_trees_all_close(ours, expected, rtol=1e-4, atol=1e-4)
    half = GroupNorm(8, jnp.bfloat16).apply(params, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    chex.assert_trees_all_close(half.astype(jnp.float32), expected[0], rtol=0.03, atol=0.05)


@pytest.mark.parametrize("name", UNETS)
def test_unet_gives_its_outputs_in_range_and_every_parameter_a_gradient(name):
    model, x = UNETS[name], uniform(0, 2, 16, 16, 16, 3)
    variables = jax.jit(model.init)(jax.random.key(1), x)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))
    pred = jax.jit(model.apply)(variables, x)
    chex.assert_shape(pred, (2, model.outputs, 16, 16, 3))
    assert pred.dtype == jnp.float32
    assert isinstance(model, SimVP) or float(jnp.abs(pred).max()) <= 1 + 1e-6
    target = uniform(4, *pred.shape)
    grads = jax.jit(jax.grad(lambda v: jnp.square(model.apply(v, x) - target).mean()))(variables)
    grads["params"].pop("scene", None)  # Its loss is another: tests/test_tracking.py.
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert jnp.abs(grad).max() > 0, jax.tree_util.keystr(path)


def test_remat_changes_memory_alone():
    x = uniform(0, 2, 16, 16, 16, 3)
    plain, remat = (
        UNet3d(widths=(8, 16), time_strides=(2,), blocks=2, remat=r) for r in (False, True)
    )
    variables = jax.jit(plain.init)(jax.random.key(1), x)
    chex.assert_trees_all_equal(variables, jax.jit(remat.init)(jax.random.key(1), x))
    grad = lambda model: jax.jit(jax.grad(lambda v: jnp.square(model.apply(v, x)).mean()))
    expected, found = (grad(model)(variables) for model in (plain, remat))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)
    assert "remat" in str(jax.make_jaxpr(grad(remat))(variables))


@pytest.mark.parametrize("name", GENERATORS)
def test_every_parameter_of_a_generator_gets_a_gradient(name):
    model = GENERATORS[name]
    model.check(16, 16)
    picture, refs = uniform(0, 2, 2, 16, 16, 3), references(model, 2, 16)
    steps_ahead = jnp.array([[1.0, 9.0], [4.0, 2.0]])
    variables = jax.jit(model.init)(jax.random.key(1), picture, refs, steps_ahead)
    rngs = {"dropout": jax.random.key(5)}
    target = uniform(4, *picture.shape)

    def loss(params):
        pred, _ = model.apply(
            {**variables, "params": params},
            picture,
            refs,
            steps_ahead,
            train=True,
            mutable=["batch_stats"],
            rngs=rngs,
        )
        chex.assert_shape(pred, (2, 2, 16, 16, 3))
        return jnp.square(pred - target).mean()

    grads = jax.jit(jax.grad(loss))(variables["params"])
    for name in ("pan", "rotation", "trajectories"):  # Noise does not move: tests/test_rotation.py.
        grads.pop(name, None)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        # A bias before batch norm is cancelled by it.
        normed = model.norm in ("batch", "instance") and "norm" not in str(path)
        cancelled = normed and path[-1].key == "bias"
        assert cancelled or jnp.abs(grad).max() > 0, jax.tree_util.keystr(path)


def test_shift_one_moves_each_frame_and_block_moves_the_last():
    """With all flows at one pixel and gates shut on the painting, outputs are moved inputs."""
    x = uniform(0, 1, 16, 8, 8, 3)
    for shift, source in ((1, x), (16, jnp.repeat(x[:, -1:], 16, 1))):
        model = UNet3d(widths=(4,), time_strides=(), shift=shift, num_flows=1)
        variables = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0), x))
        variables["params"]["paint"]["bias"] = jnp.array([0.0, 0.0, 0.0, 50.0, -50.0])
        variables["params"]["motion"]["bias"] = jnp.array([0.0, 1.0])
        pred = jax.jit(model.apply)(variables, x)
        steps = np.ones(16, int) if shift == 1 else np.arange(1, 17)
        for t in range(16):
            columns = np.minimum(np.arange(8) + steps[t], 7)
            chex.assert_trees_all_close(pred[0, t], source[0, t][:, columns], atol=1e-5)


def test_flow_of_the_translator_grows_with_the_distance():
    """A constant flow of one unit moves the newest reference by as many pixels as frames ahead."""
    model = Generator(widths=(4, 4), norm="none", dropout=0.0, reference_frames=2, num_flows=1)
    picture, refs = uniform(0, 1, 2, 64, 64, 3), uniform(1, 1, 2, 64, 64, 6)
    steps_ahead = jnp.array([[1.0, 5.0]])
    variables = jax.jit(model.init)(jax.random.key(0), picture, refs, steps_ahead)
    variables = jax.tree.map(jnp.zeros_like, variables)
    variables["params"]["paint"]["bias"] = jnp.array([0.0, 0.0, 0.0, 50.0, -50.0])
    variables["params"]["motion"]["bias"] = jnp.array([0.0, 1.0])
    pred = jax.jit(model.apply)(variables, picture, refs, steps_ahead)
    for i, pixels in enumerate((1, 5)):
        columns = np.minimum(np.arange(64) + pixels, 63)
        chex.assert_trees_all_close(
            pred[0, i], refs[0, -1, :, columns, :3].swapaxes(0, 1), atol=1e-5
        )


def test_label_colors_by_hand():
    red, green = (fusion.to_float(fusion.PALETTE[i].astype(np.float32)) for i in (1, 2))
    frames = np.zeros((1, 1, 4, 6, 3), np.float32)
    pictures = np.full((1, 1, 4, 6, 3), -1.0, np.float32)
    pictures[0, 0, :, :3] = red
    frames[0, 0, :, 0], frames[0, 0, :, 1:3] = 0.9, 0.3
    now = np.full((1, 1, 4, 6, 3), -1.0, np.float32)
    now[0, 0, :, 4:], now[0, 0, :, :2] = red, green
    colors = mean_colors(jnp.asarray(frames), jnp.asarray(pictures), 3)
    painted = paint_labels(jnp.asarray(now), colors)[0, 0, 0, :, 0]
    chex.assert_trees_all_close(painted, jnp.array([0.0, 0, 0, 0, 0.5, 0.5]), atol=1e-6)


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        ("fusion", dict(shift=0), r"model.shift \(0\) must be 1 to 16"),
        (
            "fusion",
            dict(shift=8, outputs=4),
            r"model.outputs \(4\) must be 0, or shift \(8\) to 16",
        ),
        ("fusion", dict(num_flows=-1), r"model.num_flows \(-1\) must be 0 or more"),
        ("fusion", dict(norm="batch"), r"model.norm \('batch'\) must be one of"),
        ("fusion", dict(time_strides=[2]), r"model.time_strides \(\(2,\)\) must hold 2 numbers"),
        ("fusion", dict(patch=5), r"picture is 32 x 32; both sides must be multiples of 20"),
        ("fusion", dict(context=3), r"model.context \(3\) must be 4 to 32"),
        ("fusion", dict(context=4, shift=5), r"model.shift \(5\) must be 1 to 4"),
        ("fusion", dict(time_patch=0), r"model.time_patch \(0\) must be 1 or more"),
        ("fusion", dict(patch=0), r"model.patch \(0\) must be 1 or more"),
        ("translator", dict(head_features=-1), r"model.head_features \(-1\) must be 0 or more"),
        ("translator", dict(flow_levels=-1), r"model.flow_levels \(-1\) must be 0 or more"),
        (
            "fusion",
            dict(num_labels=300, num_flows=1, shift=16),
            r"model.num_labels \(300\) must be 0, or 2 to 256",
        ),
        (
            "fusion",
            dict(num_labels=3, num_flows=1),
            r"model.num_labels \(3\) must be .* model.outputs equal to model.shift",
        ),
        ("fusion", dict(width=3), r"model.width is not a field of UNet3d"),
        ("fusion", dict(dtype="half"), r"model.dtype \('half'\) must be one of float32, bfloat16"),
        ("translator", dict(dropout=1.5), r"model.dropout \(1.5\) must be 0 to 1"),
        ("translator", dict(num_flows=1), r"model.num_flows \(1\) needs model.reference_frames"),
        (
            "translator",
            dict(label_colors=2),
            r"model.label_colors \(2\) must be .* with model.num_flows",
        ),
        (
            "translator",
            dict(widths=[8] * 6),
            r"picture is 32 x 32; both sides must be multiples of 64",
        ),
        ("translator", dict(label_colors=1), r"model.label_colors \(1\) must be 0, or 2 to 256"),
        ("translator", dict(seen_frames=1), r"model.seen_frames \(1\) must be at most model.ref"),
        (
            "translator",
            dict(scene=True, reference_frames=3, num_flows=1, label_colors=2),
            r"model.scene \(True\) needs .*model.reference_frames of 4",
        ),
        ("direct", dict(strides=[3]), r"model.strides \(\(3,\)\) must be one or more of 1 and 2"),
        ("direct", dict(context=33), r"model.context \(33\) must be 4 to 32"),
        ("direct", dict(shift=-1), r"model.shift \(-1\) must be 1 or more"),
        ("direct", dict(norm="batch"), r"model.norm \('batch'\) must be one of"),
        (
            "direct",
            dict(strides=[2] * 6),
            r"picture is 32 x 32; both sides must be multiples of 64",
        ),
        ("sharpener", {}, "stage 'sharpener' is not one of fusion, translator, direct"),
    ],
)
def test_refused_fields(stage, fields, message):
    with pytest.raises(InputError, match=message):
        build.make_network(stages.get(stage), fields, 32, 32)


@pytest.mark.parametrize(
    ("network", "fields", "message"),
    [
        ("gan", {}, r"network \('gan'\) must be one of unet, compositor, pix2pixhd"),
        ("compositor", dict(reference_frames=2), r"model.reference_frames \(2\) must be 4 to 32"),
        (
            "compositor",
            dict(widths=()),
            r"model.fusion \(True\) needs model.widths of one number or more",
        ),
        ("compositor", dict(norm="batch"), r"model.norm \('batch'\) must be one of"),
        ("compositor", dict(flow_levels=7), r"model.flow_levels \(7\) must be 0 or more, .* of 64"),
        (
            "compositor",
            dict(widths=[8] * 6),
            r"picture is 32 x 32; both sides must be multiples of 64",
        ),
        ("pix2pixhd", dict(levels=9), r"model.levels \(9\) must be 0 to 8"),
        ("pix2pixhd", dict(width=0), r"model.width \(0\) must be 1 or more"),
        (
            "pix2pixhd",
            dict(reference_frames=-1),
            r"model.reference_frames \(-1\) must be 0 or more",
        ),
        ("pix2pixhd", dict(norm="x"), r"model.norm \('x'\) must be one of"),
        ("pix2pixhd", dict(levels=6), r"picture is 32 x 32; both sides must be multiples of 64"),
    ],
)
def test_refused_networks(network, fields, message):
    with pytest.raises(InputError, match=message):
        build.make_network(stages.get("translator"), fields, 32, 32, name=network)
