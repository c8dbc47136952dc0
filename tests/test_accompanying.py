"""The accompanying convolution: what is passed on, the frozen schedule, refused fields."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_stack
from small_stack import STACK, make_params

from vidpred_jax.models import accompanying, build, losses, schedules
from vidpred_jax.types import InputError

KEEP, A, B, P = "keep", "a", "b", "p"


@pytest.fixture(scope="module")
def frames():
    return small_stack.make_frames()


def test_who_is_passed_on_by_hand():
    """Rows: the qualities of a, b, p; then the winner (0, 1, 2) and whether the pair is behind."""
    cases = np.float32(
        [
            [30, 20, 10, 0, 0],
            [20, 30, 10, 1, 0],
            [20, 30, 31, 2, 1],
            [30, 30, 10, 0, 0],  # A tie within the pair: a.
            [20, 30, 30, 1, 0],  # A tie with the reference: the pair.
            [30, 30, 30, 0, 0],
        ]
    ).T
    quality, winner, behind = jnp.asarray(cases[:3]), cases[3], cases[4]
    assert accompanying.choose(quality).tolist() == winner.tolist()
    assert accompanying.behind(quality).tolist() == behind.tolist()


def test_weights_of_selective_optimisation():
    quality = jnp.float32([[30, 10], [20, 10], [25, 25]])  # Ahead, behind.
    assert accompanying.pair_weights(quality).tolist() == [0.25, 1]


def test_psnr_at_scale_and_sharpness_by_hand():
    checker = jnp.indices((32, 32)).sum(0) % 2 * 2.0 - 1
    checker = jnp.broadcast_to(checker[None, ..., None], (1, 32, 32, 3))
    grey = jnp.zeros_like(checker)
    # Errors of 1 in a range of 2 are 6.02 dB; at half the scale the pattern is gone.
    assert float(accompanying.level_psnr(grey, checker, 1)[0]) == pytest.approx(6.0206, abs=1e-3)
    assert float(accompanying.level_psnr(grey, checker, 2)[0]) == pytest.approx(100, abs=1e-3)
    assert float(losses.sharpness(checker, checker)[0]) == 0
    # Every difference is 2 in both directions: energies of 8, and .5 at a quarter of the contrast.
    expected = np.log(8.001 / 0.501)
    assert float(losses.sharpness(checker / 4, checker)[0]) == pytest.approx(expected, rel=1e-4)


def test_a_pass_equals_a_plain_loop(frames):
    params = make_params(0)
    found = jax.jit(
        lambda params, x: accompanying.run_pair(STACK, params, x.frame, x.fusion, x.steps_ahead, x.target)
    )(params, frames)
    for i in range(4):  # One frame after the other, Python's own choice.
        one = jax.tree.map(lambda x, i=i: x[i : i + 1], frames)
        feed = reference = one.frame
        for number, scale in enumerate(STACK.scales):
            outputs = {
                name: STACK.apply(
                    {"params": params[name]}, number, fed, one.fusion, one.steps_ahead, method="level"
                )
                for name, fed in {"a": feed, "b": feed, "p": reference}.items()
            }
            quality = {
                name: float(accompanying.level_psnr(x, one.target, scale)[0]) for name, x in outputs.items()
            }
            best = "a" if quality["a"] >= quality["b"] else "b"
            winner = best if quality[best] >= quality["p"] else "p"
            feed, reference = outputs[winner], outputs["p"]
            np.testing.assert_allclose(found[number]["passed"][i], feed[0], atol=1e-5)
            np.testing.assert_allclose(found[number]["quality"][:, i], list(quality.values()), atol=1e-3)


def test_gradients_do_not_cross_a_transmission(frames):
    """The loss of the second stage says nothing to the first."""
    params = make_params(0)

    def loss(params):
        passes = accompanying.run_pair(
            STACK, params, frames.frame, frames.fusion, frames.steps_ahead, frames.target
        )
        return sum(jnp.square(passes[1]["frames"][name]).sum() for name in ("a", "b", "p"))

    grads = jax.jit(jax.grad(loss))(params)
    firsts = jax.tree.leaves([grads[name]["levels_0"] for name in ("a", "b")])
    assert all((x == 0).all() for x in firsts)
    assert all((x == 0).all() for x in jax.tree.leaves(grads["p"]))
    assert all((x != 0).any() for x in jax.tree.leaves(grads["a"]["levels_1"]))


def test_a_route_is_frozen_by_the_mean_over_clips(frames):
    """Corrections by hand: a adds .1, b takes it away, p adds .3; the true frame is .1 brighter."""
    still = jax.tree.map(jnp.zeros_like, make_params(0))
    for name, shift in {"a": 0.1, "b": -0.1, "p": 0.3}.items():
        for stage in ("levels_0", "levels_1"):
            still[name][stage]["correction"]["bias"] += shift
    grey = jnp.zeros((3, 32, 32, 3))

    def batch(brightness):
        return accompanying.Translated(grey, grey, jnp.ones(3), grey + brightness)

    def freeze(*brightness, params=still):
        return schedules.freeze_schedule(STACK, params, [batch(x) for x in brightness])

    def apply(schedule, params=still):
        return float(schedules.apply_schedule(STACK, params, schedule, grey, grey, jnp.ones(3))[0, 0, 0, 0])

    assert apply([A, KEEP]) == pytest.approx(0.1) and apply([KEEP, KEEP]) == 0
    assert freeze(-0.2, -0.2) == [B, B] and apply([B, B]) == pytest.approx(-0.2)
    assert freeze(0.05) == [A, B] and apply([A, B]) == 0  # As good as before: not worse.
    assert freeze(0.0) == [A, B]
    # Without b's second stage a's first is worse than nothing, or better than nothing but alone.
    spoilt = jax.tree.map(jnp.copy, still)
    for name in "abp":
        spoilt[name]["levels_1"]["correction"]["bias"] += 1.0
    assert freeze(0.0, params=spoilt) == [KEEP, KEEP]
    assert freeze(0.1, params=spoilt) == [A, KEEP]
    # .6: the reference wins twice, on a chain of its own; then a takes over from it.
    assert freeze(0.6) == [P, P] and apply([P, P]) == pytest.approx(0.6)
    assert freeze(0.4) == [P, A] and apply([P, A]) == pytest.approx(0.4)
    assert apply([A, P]) == pytest.approx(0.6)  # What a added is not on the reference's chain.
    # Of two stages that are well alone and not together, the better stack's are kept.
    assert schedules.keep_best(STACK, still, [[B, B], [A, A], [A, KEEP]], [batch(0.2)]) == [A, A]
    assert schedules.keep_best(STACK, still, [[B, B], [A, P]], [batch(0.1)]) == [A, KEEP]


def test_the_route_equals_a_plain_loop_over_videos(frames):
    params, schedule = make_params(3), [B, A]
    videos = [x.reshape(2, 2, *x.shape[1:]) for x in (frames.frame, frames.fusion, frames.steps_ahead)]
    found = jax.jit(lambda *v: schedules.sharpen(STACK, params, schedule, *v))(*videos)
    for i, t in itertools.product(range(2), range(2)):
        frame, rest = videos[0][i, t][None], (videos[1][i, t][None], videos[2][i, t][None])
        for number, name in enumerate("ba"):
            frame = STACK.apply({"params": params[name]}, number, frame, *rest, method="level")
        np.testing.assert_allclose(found[i, t], frame[0], atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scales": [2], "widths": [8, 8]}, r"scales \(2,\) and model.widths \(8, 8\) must have one length"),
        ({"scales": [3], "widths": [8]}, r"3 x model.patch \(2\) must divide the picture size"),
        ({"scales": [8], "widths": [8]}, r"and 8 leave 8 x 8"),
        ({"layers": 1}, r"model.layers \(1\) must be 2 or more"),
        ({"depth": 3}, r"model.depth is not a field of AccompanyingStack"),
    ],
)
def test_refused_fields(fields, message):
    fields = {"scales": [2, 1], "widths": [8, 8], **fields}
    with pytest.raises(InputError, match=message):
        build.make_stack(fields, 32, 32)


@pytest.mark.parametrize(
    "schedule", [None, [A], "ab", [A, "c"], [A, [B]], [A, 1], [A, B, B], {"a": 1, "b": 2}]
)
def test_a_route_that_does_not_fit_is_refused(schedule):
    with pytest.raises(InputError, match="must name one of a, b, p, keep for each of 2"):
        schedules.check_schedule(schedule, STACK, "run")
