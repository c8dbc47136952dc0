"""Whatever is called a network is missed when it is gone, as the card of its weights says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vidpred_jax import metrics, ops
from vidpred_jax.checkpoints import cards
from vidpred_jax.data import fusion, pipeline, preparation
from vidpred_jax.data.datasets import synthesis
from vidpred_jax.data.datasets.moving_digits import load_sklearn_digits, to_rgb
from vidpred_jax.evaluation import ablations
from vidpred_jax.inference import loading
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.inference.system import make_predict
from vidpred_jax.models import regions

HORIZON, KEPT = 32, 0.8
STAGES = {"fusion": "predict", "translator": "translate"}


@functools.cache
def clips(size) -> list[dict]:
    """Four clips of sprites that no weights were trained on."""
    rng = np.random.default_rng(20_261_129)
    found = [synthesis.sprite_clip(rng, str(i), 16 + HORIZON, size[0]) for i in range(4)]
    found = [preparation.prepare_clip(c.name, c.frames, labels=c.labels) for c in found]
    return [pipeline.to_batch_element(clip, size) for clip in found]


def predict(run):
    seen = [{f: x[:16] for f, x in element.items()} for element in clips(run.size)]
    return run.predict_batch(seen, HORIZON)


def score(frames, size):
    """(PSNR, LPIPS) over the clips; LPIPS None where it is not installed."""
    truth = np.stack([element["frames"][16:] for element in clips(size)])
    pairs = list(zip(frames, truth, strict=True))
    psnr = np.mean([metrics.psnr(*pair) for pair in pairs])
    measured = metrics.perceptual_available()
    return psnr, np.mean([metrics.lpips(*pair) for pair in pairs]) if measured else None


def without(run, *stages):
    """The run with the outputs of some networks at zero: `paint`, their last layer."""

    def silenced(network):
        params = dict(network.variables["params"])
        params["paint"] = jax.tree.map(np.zeros_like, params["paint"])
        return {**network.variables, "params": params}

    changed = {
        STAGES[stage]: dataclasses.replace(network, variables=silenced(network))
        for stage in stages
        if (network := getattr(run.system, STAGES[stage])) is not None
    }
    return Predictor(system=dataclasses.replace(run.system, **changed))


@pytest.mark.parametrize("name", cards.names())
def test_each_network_of_the_weights_does_what_its_card_says(name):
    run, card = loading.load(name), cards.read(name)
    if not run.system.networks:
        assert run.system.proposals and card["networks"] == "none"
        assert cards.describe(name) == f"{name} (proposals only, no network)"
        return
    assert set(card["networks"]) == {network.stage.name for network in run.system.networks}
    if not run.system.proposals:
        return check_alone(name, run, card["networks"])
    check_silence(run)
    psnr, lpips = score(predict(run)[1], run.size)
    for stage, added in card["networks"].items():
        less_psnr, more_lpips = score(predict(without(run, stage))[1], run.size)
        assert psnr - less_psnr >= min(KEPT * added["psnr"], added["psnr"]), stage
        if lpips is not None:
            lost = more_lpips / lpips - 1
            assert lost >= min(KEPT * added["lpips"], added["lpips"]), stage


def check_alone(name, run, networks):
    """Of networks without proposals: the rows without each, on clips or digits of another set, so that no
    more is asked for than what makes a network worth its name."""
    whole, horizon = clips(run.size), HORIZON
    if name == "moving_mnist":
        digits, rng, horizon = load_sklearn_digits(), np.random.default_rng(0), 10
        grey = [synthesis.moving_digits(rng, digits, run.context + horizon, run.size[0]) for _ in range(8)]
        found = [preparation.prepare_clip("digits", to_rgb(x), labels=synthesis.ink(x)) for x in grey]
        whole = [pipeline.to_batch_element(clip, run.size) for clip in found]
    seen = [{field: x[: run.context] for field, x in element.items()} for element in whole]
    rows = ablations.variants(name, run, horizon, ablate=True)

    def psnr(row):
        frames = rows[row].predict(seen)["frames"]
        return np.mean(
            [metrics.psnr(f, e["frames"][run.context :]) for f, e in zip(frames, whole, strict=True)]
        )

    for number, stage in enumerate(("fusion", "translator"), 1):
        less = psnr(name) - psnr(f"{name}, no stage {number}")
        assert less >= cards.LEAST_PSNR and cards.adds(networks[stage]), (stage, less)


def check_silence(run):
    """With the networks' outputs at zero, frames and maps are the proposal's bit for bit."""
    bare = dict(predict=None, translate=None, sharpen=None)
    proposed = predict(Predictor(system=dataclasses.replace(run.system, **bare)))
    for found, expected in zip(predict(without(run, *STAGES)), proposed, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_stage_2_adds_to_the_motion_that_is_computed_for_it():
    """Computed alone: the background where the map shows it, else the newest reference moved by label."""
    run = loading.load("sprites_networks")
    system, whole = run.system, clips(run.size)
    clip = {f: jnp.stack([element[f][: run.context] for element in whole]) for f in system.inputs}
    fields = {"fields": ("maps", "frames"), "finish": lambda x: x}
    found = jax.jit(make_predict(system, HORIZON, **fields))(system.variables, clip)
    frames, observed = fusion.to_float(clip["frames"]), system.form.encode(clip[system.form.field])
    maps, seen = found["maps"], observed[..., 1]
    pan, steps = (
        regions.velocity(frames, seen),
        jnp.broadcast_to(jnp.arange(1.0, HORIZON + 1), maps.shape[:2]),
    )
    flow = regions.describe(maps, observed[:, -1], steps, pan)[..., :2]
    moved = ops.warp(jnp.repeat(frames[:, -1], HORIZON, 0), flow.reshape(-1, *flow.shape[2:]))
    behind = regions.behind(frames, seen, pan)[:, None]
    behind = regions.carry(jnp.repeat(behind, HORIZON, 1), pan, steps)
    shown = (maps[..., 1:2] > 0.5) & (behind[..., 3:] > 0.5)
    computed = jnp.where(shown, behind[..., :3], moved.reshape(*flow.shape[:-1], 3))
    ours, without = (score(np.asarray(fusion.to_uint8(x)), run.size) for x in (found["frames"], computed))
    assert ours[0] - without[0] >= 0.5
    assert ours[1] is None or without[1] / ours[1] >= 1.1
