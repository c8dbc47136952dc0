"""The rows of `--ablate` by toys, whose answers are known bit for bit; and that proposals are rows."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import stages
from vidpred_jax.evaluation import ablations, predictors
from vidpred_jax.inference.networks import Network
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.inference.proposing import Proposal
from vidpred_jax.models.maps import Picture, Planes
from vidpred_jax.proposals.forecast import Forecast

SIZE, HORIZON, CONTEXT = (16, 16), 5, 4
CONFIG = {"context": CONTEXT, "precision": "float32", "convolutions": "fast", "seed": 0, "data": {}}
FACTS = {"num_labels": 3, "edge_rule": {"canny": [300.0, 350.0]}}


class Fading(nn.Module):
    """A proposal: the newest frame, darker with each step, and its edges and labels."""

    def observe(self, window):
        return window

    def propose(self, window, steps_ahead):
        frames = window.frames[:, -1:] - 0.125 * steps_ahead[..., None, None, None]
        repeat = lambda x: jnp.repeat(x[:, -1:], steps_ahead.shape[1], 1)
        edges, labels = repeat(window.edges), repeat(window.labels)
        return Forecast(jnp.clip(frames, -1, 1), edges, labels, jnp.full(edges.shape, 0.7))


class Predict(nn.Module):
    """Stage 1: its raw values are `scale` times the newest map, and 0.3 brighter where they are `wrong`."""

    scale: float = 0.0
    wrong: float = 0.0
    shift: int = 2
    outputs: int = 2
    context: int = CONTEXT

    def __call__(self, x, proposed=None):
        return jnp.repeat(self.scale * x[:, -1:] + self.wrong, self.outputs, 1)


class Translate(nn.Module):
    """Stage 2: `scale` times the newest reference, and `use` times the mean of the map."""

    scale: float = 0.0
    use: float = 0.0
    reference_frames: int = 1

    def __call__(self, maps, references, steps_ahead, proposed=None, **_):
        return self.scale * references[:, -1:, ..., :3] + self.use * maps.mean(-1, keepdims=True)


def make(form, first, second, proposals=()):
    proposals = {name: Proposal(name, Fading(), {}) for name in proposals}
    both = (("fusion", first, {"params": {}}), ("translator", second, {}))
    networks = [
        Network(stages.get(stage), module, CONFIG, SIZE, form, proposals, variables, facts=FACTS)
        for stage, module, variables in both
    ]
    return Predictor(*networks)


def elements(n=3):
    rng = np.random.default_rng(0)
    return [
        {
            "clip": str(i),
            "start": 0,
            "frames": rng.integers(0, 256, (CONTEXT, *SIZE, 3)).astype(np.uint8),
            "fusion": rng.integers(0, 256, (CONTEXT, *SIZE, 3)).astype(np.uint8),
            "planes": np.stack(
                [255 * rng.integers(0, 2, (CONTEXT, *SIZE)), rng.integers(0, 3, (CONTEXT, *SIZE))], -1
            ).astype(np.uint8),
        }
        for i in range(n)
    ]


def longer(element):
    """An element of another clip, with what follows."""
    return {
        f: np.concatenate([x, x[::-1], x])[: CONTEXT + HORIZON] if f in ("fusion", "planes") else x
        for f, x in element.items()
    }


def rows(run, seen, **options):
    other = longer(elements(5)[-1])
    found = ablations.variants("ours", run, HORIZON, ablate=True, other=lambda e: other, **options)
    predicted = {}
    for name, variant in found.items():
        shown = [{**e, **{field: longer(e)[field] for field in variant.sees}} for e in seen]
        predicted[name] = variant.predict(shown)["frames"]
    return predicted


def test_with_a_stage_2_that_ignores_maps_shuffled_fusion_equals_ours():
    found = rows(make(Planes(3), Predict(2.0, 0.5), Translate(0.5)), elements())
    for name in ("shuffled", "true", "frozen"):
        np.testing.assert_array_equal(found[f"ours, {name} fusion"], found["ours"])
    looks = rows(make(Planes(3), Predict(2.0, 0.5), Translate(0.5, 0.5)), elements())
    for name in ("shuffled", "true", "frozen"):
        assert (looks[f"ours, {name} fusion"] != looks["ours"]).any(), name


def test_with_a_stage_1_that_copies_no_stage_1_equals_ours():
    form = Picture(squash=False)
    found = rows(make(form, Predict(1.0), Translate(0.3, 0.6)), elements())
    np.testing.assert_array_equal(found["ours, no stage 1"], found["ours"])
    np.testing.assert_array_equal(found["ours, frozen fusion"], found["ours"])
    other = rows(make(form, Predict(0.9), Translate(0.3, 0.6)), elements())
    assert (other["ours, no stage 1"] != other["ours"]).any()


@pytest.mark.parametrize("form", [Planes(3), Picture()])
def test_with_zeroed_outputs_no_networks_equals_ours(form):
    seen = elements()
    run = make(form, Predict(), Translate(), ["fading"])
    found = rows(run, seen)
    for name in ("no networks", "no stage 1", "no stage 2"):
        np.testing.assert_array_equal(found[f"ours, {name}"], found["ours"])
    dark = np.stack([e["frames"][-1] for e in seen]).astype(float) - 0.125 * 127.5
    assert np.abs(found["ours"][:, 0] - np.clip(dark, 0, 255)).max() <= 1
    # Without its proposals nothing is left: grey.
    assert np.abs(found["ours, no proposals"] - 127.5).max() <= 0.5
    proposed = ablations.proposals(run, HORIZON)
    assert set(proposed) == {"fading"}
    np.testing.assert_array_equal(proposed["fading"](seen)["frames"], found["ours"])
    # Networks that do something are missed, each in its row.
    found = rows(make(form, Predict(1.0, 3.0), Translate(0.4, 0.3), ["fading"]), seen)
    for name in ("no networks", "no stage 1", "no stage 2", "no proposals"):
        assert (found[f"ours, {name}"] != found["ours"]).any(), name


def test_without_proposals_no_networks_is_the_last_frame_and_no_stage_2_mean_colours():
    seen = elements()
    found = rows(make(Planes(3), Predict(2.0), Translate(0.5)), seen)
    for frames, element in zip(found["ours, no networks"], seen, strict=True):
        np.testing.assert_array_equal(frames, np.repeat(element["frames"][-1:], HORIZON, 0))
    # A label's mean colour over the observed frames, where no edge is: by hand for the first step.
    run = make(Planes(3), Predict(50.0), Translate(0.5))
    filled = rows(run, seen)["ours, no stage 2"][0, 0]
    edges, labels = seen[0]["planes"][..., 0] > 0, seen[0]["planes"][..., 1]
    newest = edges[-1], labels[-1]
    for label in range(3):
        mean = seen[0]["frames"][~edges & (labels == label)].mean(0)
        shown = filled[~newest[0] & (newest[1] == label)].mean(0)
        # An edge of 0 is a logit of 0: half of its colour is that of edges.
        white = seen[0]["frames"][edges].mean(0)
        np.testing.assert_allclose(shown, (mean + white) / 2, atol=2)


def test_rows_of_the_right_run_alone():
    """Without stage 1 and 2 side by side there is nothing to shuffle; baselines keep their names."""
    run = make(Planes(3), Predict(), Translate(), ["fading"])
    assert set(ablations.variants("x", run, HORIZON)) == {"x"}
    names = {"no networks", "no stage 1", "no stage 2", "no proposals"}
    names |= {"true fusion", "frozen fusion"}
    found = ablations.variants("x", run, HORIZON, ablate=True)
    assert set(found) == {"x", *(f"x, {name}" for name in names)}
    assert found["x, true fusion"].sees == ("planes",) and found["x"].sees == ()


def test_runs_of_another_size_than_measured_have_every_row_at_the_measured_one():
    """Elements of 8 x 8 that hold every field at 16 x 16 too, where the run works."""

    def both(element):
        fields = {f: x for f, x in element.items() if f in ("frames", "fusion", "planes")}
        small = {f: x[:, ::2, ::2] for f, x in fields.items()}
        return {**element, **small, **{f"{f} 16 x 16": x for f, x in fields.items()}}

    run, seen = make(Planes(3), Predict(1.0), Translate(0.5, 0.5)), elements()
    other = both(longer(elements(5)[-1]))
    found = ablations.variants("x", run, HORIZON, ablate=True, other=lambda e: other)
    for name, variant in found.items():
        shown = [{**e, **{f: longer(e)[f] for f in variant.sees}} for e in seen]
        frames = variant.predict([both(e) for e in shown])["frames"]
        assert frames.shape == (3, HORIZON, 8, 8, 3), name


def test_frames_are_measured_before_they_are_rounded():
    """Where a metric asks for it: a translator's frames are the hyperbolic tangent of its output."""
    run, seen = make(Planes(3), Predict(1.0), Translate(scale=2.0)), elements()
    newest = np.stack([e["frames"][-1:] for e in seen]).repeat(HORIZON, 1)
    expected = np.tanh(2 * (newest / 127.5 - 1))
    coming = [{**e, "planes": e["planes"][-1:].repeat(CONTEXT + HORIZON, 0)} for e in seen]
    for found in (
        predictors.predict(run, seen, HORIZON),
        predictors.translate(run, coming, lambda element: element),
    ):
        np.testing.assert_allclose(found["unclipped"], (expected + 1) * 127.5, atol=1e-3)
        assert (found["unclipped"] % 1 != 0).mean() > 0.9
        assert found["frames"].dtype == np.uint8
        np.testing.assert_array_equal(found["frames"], found["unclipped"].round().clip(0, 255))
    np.testing.assert_array_equal(
        predictors.predict(run, seen, HORIZON)["frames"], run.predict_batch(seen, HORIZON)[1]
    )
