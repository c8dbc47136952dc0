"""Networks: shapes, gradients for every parameter, layers by hand, and each refused field."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vidpred_jax import stages
from vidpred_jax.models import build
from vidpred_jax.models.accompanying import AccompanyingStack
from vidpred_jax.models.baselines.pix2pixhd import Pix2PixHD
from vidpred_jax.models.baselines.simvp import SimVP
from vidpred_jax.models.fusion_predictor import FusionPredictor
from vidpred_jax.models.layers import GroupNorm, shift
from vidpred_jax.models.translator import Translator, join_inputs
from vidpred_jax.types import InputError

SMALL = dict(widths=(8, 8), time_strides=(2,))
PREDICTORS = {
    "paper": FusionPredictor(**SMALL),
    "block": FusionPredictor(**SMALL, shift=16),
    "patch": FusionPredictor(**SMALL, patch=2, time_patch=4, shift=4, outputs=4),
    "deep": FusionPredictor((4, 4, 4), time_strides=(2, 1), blocks=2),
    "gated": FusionPredictor((16, 16), time_strides=(2,), block="gated"),
    "frames": FusionPredictor(**SMALL, time_patch=8, shift=8, outputs=8, frame_features=4),
    "bfloat16": FusionPredictor(**SMALL, dtype=jnp.bfloat16),
    "simvp": SimVP(width=4, strides=(2, 1), hidden=8, blocks=1),
}
TRANSLATORS = {
    "paper": Translator((8, 8, 8), dropout=0.5),
    "reference": Translator((8, 8), norm="group", reference_frames=2, head_features=4),
    "regions": Translator((8, 8), norm="group", reference_frames=2, head_features=4, regions=True),
    "bfloat16": Translator((8, 8), norm="none", reference_frames=1, dtype=jnp.bfloat16),
    "pix2pixhd": Pix2PixHD(width=4, levels=2, blocks=1, reference_frames=1),
}


def uniform(seed, *shape):
    return jax.random.uniform(jax.random.key(seed), shape, minval=-1.0)


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


def test_a_shift_by_hand():
    """Of 16 channels 6 stay, one comes from each of the 8 places around and the frames before and after."""
    x = uniform(0, 1, 3, 6, 7, 16)
    found = shift(x, 2)
    chex.assert_trees_all_equal(found[..., :6], x[..., :6])
    moves = [(0, i, j) for i in (-2, 0, 2) for j in (-2, 0, 2) if i or j]
    moves += [(-1, 0, 0), (1, 0, 0)]
    for channel, (dt, dh, dw) in enumerate(moves, start=6):
        for t, h, w in np.ndindex(3, 6, 7):
            at = t + dt, h + dh, w + dw
            inside = all(0 <= i < n for i, n in zip(at, (3, 6, 7), strict=True))
            expected = x[0, *at, channel] if inside else 0.0
            assert float(found[0, t, h, w, channel]) == float(expected)
    # Of a single frame, none comes from another.
    chex.assert_trees_all_equal(shift(x[:, :1], 1)[..., :8], x[:, :1, ..., :8])
    assert shift(x[..., :3], 1).shape == (1, 3, 6, 7, 3)
    # Where a value was moved to, its gradient comes from.
    for reach, frames in ((1, 3), (2, 3), (1, 1)):
        one, weights = x[:, :frames], uniform(1, 1, frames, 6, 7, 16)
        moved, back = jax.vjp(lambda z, reach=reach: shift(z, reach), one)
        chex.assert_trees_all_close(jnp.vdot(moved, weights), jnp.vdot(one, back(weights)[0]), rtol=1e-5)


def test_single_frames_are_decoded_by_one_decoder():
    """With the middle silent, equal frames give equal frames, at whichever time."""
    model = FusionPredictor(**SMALL, time_patch=8, shift=8, outputs=8, frame_features=4)
    x = uniform(0, 1, 16, 8, 8, 3)
    x = x.at[:, 9].set(x[:, 15])
    params = jax.jit(model.init)(jax.random.key(1), x)["params"]
    params["unfold"] = jax.tree.map(jnp.zeros_like, params["unfold"])
    pred = model.apply({"params": params}, x)
    chex.assert_trees_all_close(pred[:, 1], pred[:, 7], atol=1e-6)
    assert jnp.abs(pred[:, 0] - pred[:, 1]).max() > 0.1


@pytest.mark.parametrize("kind", [FusionPredictor, Translator, AccompanyingStack])
def test_networks_have_few_and_plain_fields(kind):
    """At most twelve, each a number, a word, a dtype or some whole numbers."""
    module = kind()
    fields = {name: getattr(module, name) for name in kind.__dataclass_fields__}
    del fields["parent"], fields["name"]
    assert 1 <= len(fields) <= 12
    for name, value in fields.items():
        if isinstance(value, tuple):
            assert all(type(x) is int for x in value), name
        elif name == "dtype":
            assert jnp.dtype(value) == jnp.float32
        else:
            assert value is None or type(value) in (int, float, bool, str), name


def check_gradients(grads, cancelled=lambda path: False):
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        given = bool(jnp.abs(grad).max() > 0) and bool(jnp.isfinite(grad).all())
        assert given or cancelled(path), jax.tree_util.keystr(path)


@pytest.mark.parametrize("proposals", [False, True])
@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_gives_its_outputs_and_every_parameter_a_gradient(name, proposals):
    """Of pictures alone, and of planes beside proposals."""
    model, channels = PREDICTORS[name], 5 if proposals else 3
    inputs = [uniform(0, 2, 16, 16, 16, channels)]
    if proposals and name != "simvp":
        inputs.append(uniform(2, 2, model.outputs, 16, 16, channels + 1))
    variables = jax.jit(model.init)(jax.random.key(1), *inputs)
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(variables))
    target = uniform(4, 2, model.outputs, 16, 16, channels)

    def loss(variables):
        pred = model.apply(variables, *inputs)
        chex.assert_equal_shape([pred, target])
        assert pred.dtype == jnp.float32
        return jnp.square(pred - target).mean()

    check_gradients(jax.jit(jax.grad(loss))(variables))


def test_remat_changes_memory_alone():
    x = uniform(0, 2, 16, 16, 16, 3)
    plain, remat = (FusionPredictor((8, 16), time_strides=(2,), blocks=2, remat=r) for r in (False, True))
    variables = jax.jit(plain.init)(jax.random.key(1), x)
    chex.assert_trees_all_equal(variables, jax.jit(remat.init)(jax.random.key(1), x))
    grad = lambda model: jax.jit(jax.grad(lambda v: jnp.square(model.apply(v, x)).mean()))
    expected, found = (grad(model)(variables) for model in (plain, remat))
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)
    assert "remat" in str(jax.make_jaxpr(grad(remat))(variables))


@pytest.mark.parametrize("proposals", [False, True])
@pytest.mark.parametrize("name", TRANSLATORS)
def test_every_parameter_of_a_translator_gets_a_gradient(name, proposals):
    model = TRANSLATORS[name]
    model.check(16, 16)
    maps, seen = uniform(0, 2, 2, 16, 16, 4), uniform(3, 2, model.reference_frames, 16, 16, 7)
    proposed = (uniform(6, 2, 2, 16, 16, 8),) * proposals
    inputs = maps, seen, jnp.array([[1.0, 9.0], [4.0, 2.0]]), *proposed
    variables = jax.jit(model.init)(jax.random.key(1), *inputs)
    target = uniform(4, 2, 2, 16, 16, 3)
    training = dict(train=True, mutable=["batch_stats"], rngs={"dropout": jax.random.key(5)})

    def loss(params):
        pred, _ = model.apply({**variables, "params": params}, *inputs, **training)
        chex.assert_equal_shape([pred, target])
        assert pred.dtype == jnp.float32
        return jnp.square(pred - target).mean()

    # A bias before batch norm is cancelled by it.
    normed = lambda path: model.norm in ("batch", "instance") and "norm" not in str(path)
    cancelled = lambda path: normed(path) and path[-1].key == "bias"
    check_gradients(jax.jit(jax.grad(loss))(variables["params"]), cancelled)


def identity(params, first, channels):
    """The parameters of a network that paints its input's channels from `first` on, block by block."""
    params = jax.tree.map(jnp.zeros_like, params)
    into, width = params["stem"]["kernel"].shape[-2:]
    assert into == width  # Features: one for each folded input channel.
    out = params["paint"]["kernel"].shape[-1]
    blocks = out // channels
    params["stem"]["kernel"] = jnp.eye(width)[None, None, None]
    paint = np.zeros((blocks, into // blocks, blocks, channels), np.float32)
    for block in range(blocks):
        paint[block, first : first + channels, block] = np.eye(channels)
    params["paint"]["kernel"] = jnp.asarray(paint.reshape(1, 1, 1, into, out))
    return params


@pytest.mark.parametrize(("patch", "time_patch"), [(1, 1), (2, 4)])
def test_an_output_stands_where_the_same_slots_of_its_inputs_do(patch, time_patch):
    """Worked by hand with a network without blocks, which sees each place alone: painting what is
    proposed gives it back, painting the clip gives its last frames.
    """
    x, proposed = uniform(0, 2, 16, 4, 4, 3), uniform(1, 2, 8, 4, 4, 4)
    fields = dict(time_strides=(), blocks=0, shift=8, outputs=8)
    width = 7 * patch**2 * time_patch
    model = FusionPredictor((width,), patch=patch, time_patch=time_patch, **fields)
    params = jax.jit(model.init)(jax.random.key(0), x, proposed)["params"]
    for first, expected in ((0, x[:, 8:]), (3, proposed[..., :3]), (4, proposed[..., 1:])):
        found = model.apply({"params": identity(params, first, 3)}, x, proposed)
        chex.assert_trees_all_close(found, expected, atol=1e-6)


def test_inputs_of_a_translator_by_hand():
    """Two steps of one clip with two references, 1 x 1: map, references oldest first, time, proposed."""
    maps = jnp.array([[[[[1.0, 2.0]]], [[[3.0, 4.0]]]]])
    seen = jnp.array([[[[[5.0, 6.0]]], [[[7.0, 8.0]]]]])
    ahead, proposed = jnp.array([[1.0, 32.0]]), jnp.array([[[[[9.0]]], [[[10.0]]]]])
    found = join_inputs(maps, seen, ahead, proposed)[:, 0, 0]
    assert found.tolist() == [[1, 2, 5, 6, 7, 8, -15 / 16, 9], [3, 4, 5, 6, 7, 8, 1, 10]]
    assert join_inputs(maps, seen[:, :0], ahead)[:, 0, 0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("name", ["reference", "pix2pixhd"])
def test_a_frame_is_of_its_own_map_step_and_proposal(name):
    """And of all references of its clip."""
    model = TRANSLATORS[name]
    inputs = [uniform(0, 2, 3, 16, 16, 3), uniform(1, 2, model.reference_frames, 16, 16, 6)]
    inputs += [jnp.tile(jnp.arange(1.0, 4), (2, 1)), uniform(2, 2, 3, 16, 16, 7)]
    variables = jax.jit(model.init)(jax.random.key(0), *inputs)
    apply = jax.jit(model.apply)
    pred = apply(variables, *inputs)
    for number, expected in enumerate([[0, 1, 0], [1, 1, 1], [0, 1, 0], [0, 1, 0]]):
        changed = list(inputs)
        place = (1, 0) if number == 1 else (1, 1)
        changed[number] = inputs[number].at[place].add(1.0)
        moved = jnp.abs(apply(variables, *changed) - pred).max((2, 3, 4)) > 1e-4
        assert moved.tolist() == [[False] * 3, [bool(x) for x in expected]], number


@pytest.mark.parametrize("kind", ["predictor", "translator"])
def test_beside_proposals_the_output_starts_small(kind):
    """A tenth of the initial weights that it has alone."""
    if kind == "predictor":
        model, x = FusionPredictor(widths=(64,), time_strides=()), uniform(0, 1, 16, 8, 8, 3)
        inputs, proposed = (x,), uniform(1, 1, 16, 8, 8, 4)
    else:
        model, seen = Translator((64,), norm="none"), jnp.zeros((1, 0, 8, 8, 6))
        inputs = uniform(0, 1, 1, 8, 8, 3), seen, jnp.ones((1, 1))
        proposed = uniform(1, 1, 1, 8, 8, 7)
    init = jax.jit(model.init)
    spread = lambda *given: init(jax.random.key(0), *given)["params"]["paint"]["kernel"].std()
    assert float(spread(*inputs, proposed) / spread(*inputs)) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        ("fusion", dict(shift=0), r"model.shift \(0\) must be 1 to 16"),
        ("fusion", dict(shift=8, outputs=4), r"model.outputs \(4\) must be 0, or shift \(8\) to 16"),
        ("fusion", dict(num_flows=1), r"model.num_flows is not a field of FusionPredictor"),
        ("fusion", dict(block="mlp"), r"model.block \('mlp'\) must be one of \('conv', 'gated'\)"),
        ("fusion", dict(frame_features=-1), r"model.frame_features \(-1\) must be 0 or more"),
        ("fusion", dict(time_strides=[2]), r"model.time_strides \(\(2,\)\) must hold 2 numbers"),
        ("fusion", dict(patch=5), r"picture is 32 x 32; both sides must be multiples of 20"),
        ("fusion", dict(context=4, shift=5), r"model.shift \(5\) must be 1 to 4"),
        ("fusion", dict(time_patch=0), r"model.time_patch \(0\) must be 1 or more"),
        ("fusion", dict(patch=0), r"model.patch \(0\) must be 1 or more"),
        ("fusion", dict(width=3), r"model.width is not a field of FusionPredictor"),
        ("fusion", dict(dtype="half"), r"model.dtype \('half'\) must be one of float32, bfloat16"),
        ("translator", dict(head_features=-1), r"model.head_features \(-1\) must be 0 or more"),
        ("translator", dict(scene=True), r"model.scene is not a field of Translator"),
        ("translator", dict(dropout=1.5), r"model.dropout \(1.5\) must be 0 to 1"),
        ("translator", dict(dropout=1.0), r"model.dropout \(1.0\) must be at least 0 and below 1"),
        ("translator", dict(regions=True), r"model.regions \(True\) needs model.reference_frames"),
        ("translator", dict(widths=[]), r"model.widths \(\(\)\) must hold one number or more"),
        ("translator", dict(norm="x"), r"model.norm \('x'\) must be one of"),
        ("translator", dict(widths=[8] * 6), r"picture is 32 x 32; both sides must be multiples of 64"),
        ("direct", dict(strides=[3]), r"model.strides \(\(3,\)\) must be one or more of 1 and 2"),
        ("direct", dict(shift=-1), r"model.shift \(-1\) must be 0 or more"),
        ("direct", dict(norm="batch"), r"model.norm \('batch'\) must be one of"),
        ("direct", dict(strides=[2] * 6), r"picture is 32 x 32; both sides must be multiples of 64"),
        (
            "sharpener",
            {},
            "stage 'sharpener' is not one of proposal, fusion, translator, accompanying, direct",
        ),
    ],
)
def test_refused_fields(stage, fields, message):
    with pytest.raises(InputError, match=message):
        context = fields.pop("context", 16)
        build.make_network(stages.get(stage), fields, 32, 32, context=context)


@pytest.mark.parametrize(
    ("network", "fields", "message"),
    [
        ("gan", {}, r"network \('gan'\) must be one of unet, pix2pixhd"),
        ("pix2pixhd", dict(levels=9), r"model.levels \(9\) must be 0 to 8"),
        ("pix2pixhd", dict(width=0), r"model.width \(0\) must be 1 or more"),
        ("pix2pixhd", dict(reference_frames=-1), r"model.reference_frames \(-1\) must be 0 or more"),
        ("pix2pixhd", dict(norm="x"), r"model.norm \('x'\) must be one of"),
        ("pix2pixhd", dict(levels=6), r"picture is 32 x 32; both sides must be multiples of 64"),
    ],
)
def test_refused_networks(network, fields, message):
    with pytest.raises(InputError, match=message):
        build.make_network(stages.get("translator"), fields, 32, 32, name=network)
