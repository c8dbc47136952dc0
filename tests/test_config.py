"""A config from anywhere is taken whole, its defaults filled in, or refused by field, value and rule."""

import itertools
import json
import math
import random
import typing

import fuzz_damage
import pytest
from smoke import get_config

from vidpred_jax import config, processes, stages
from vidpred_jax.config import parse
from vidpred_jax.fields import check_types
from vidpred_jax.models import build, convolution
from vidpred_jax.training import steps
from vidpred_jax.types import InputError

_PRESETS = [
    *itertools.product(("fusion", "translator", "accompanying"), ("smoke", "cpu", "full", "paper")),
    *itertools.product(("pix2pixhd", "simvp", "direct"), ("smoke", "cpu", "full")),
    *itertools.product(("fusion", "translator", "simvp", "direct"), ("moving_mnist",)),
    *itertools.product(("fusion", "translator"), ("sprites",)),
    ("translator", "real"),
    *itertools.product(("proposal",), ("scene", "flow_blend", "davis", "smoke", "smoke_blend")),
    *itertools.product(("paper",), ("fusion", "translator", "fusion_256", "translator_256")),
]
_OPTIONAL = ("skip_nonfinite", "precision", "convolutions", "network", "step_sampling_power")
_OPTIONAL += ("context", "discriminator", "max_unroll", "maps")
_OPTIONAL += ("proposals", "proposal_runs", "proposal_clarity", "proposal_dropout")


@pytest.mark.parametrize(("name", "preset"), _PRESETS)
def test_presets_hold_every_field(name, preset):
    found = get_config(name, "data", preset)
    whole = parse(found)
    assert parse(whole) == whole and json.loads(json.dumps(whole)) == whole
    for field, value in found.items():  # What a preset says is kept.
        kept = whole[field]
        assert ({k: kept[k] for k in value} if isinstance(value, dict) else kept) == value
        rest = {k: v for k, v in found.items() if k != field}
        if field in _OPTIONAL:
            parse(rest)
            continue
        message = "stage None is not one of" if field == "stage" else f"no field '{field}'"
        with pytest.raises(InputError, match=message):
            parse(rest)


@pytest.mark.parametrize("stage", ["fusion", "translator", "accompanying", "simvp", "direct"])
def test_the_default_preset_is_that_of_the_machine(stage, monkeypatch):
    for accelerator, preset in ((False, "cpu"), (True, "full")):
        monkeypatch.setattr(processes, "has_accelerator", lambda found=accelerator: found)
        assert get_config(stage, "data", "") == get_config(stage, "data", preset)
    with pytest.raises(ValueError, match="preset 'huge' is not one of smoke, cpu, full"):
        get_config(stage, "data", "huge")


def test_what_is_left_out_is_filled_in():
    found = get_config("translator", "data", data__future_frames=20)
    for field in ("context", "skip_nonfinite", "precision", "convolutions", "discriminator"):
        del found[field]
    found["data"] = {k: found["data"][k] for k in ("name", "data_dir", "height", "width")}
    found["data"]["future_frames"] = 20
    found |= {"loss": {"l1": 3}, "optimizer": {}}
    whole = parse(found)
    top = ("context", "skip_nonfinite", "precision", "convolutions", "network", "discriminator")
    assert [whole[k] for k in top] == [16, 0, "float32", "fast", "unet", {}]
    assert whole["step_sampling_power"] == 1.0 and whole["proposals"] == []
    assert whole["loss"]["l1"] == 3 and whole["loss"]["psnr"] == 0 and whole["loss"]["gan"] == "bce"
    assert whole["data"]["min_future_frames"] == 20 and whole["data"]["split"] == "train"
    assert whole["data"]["augmentation"]["speeds"] == [1]


def test_choices_are_those_of_who_uses_them():
    choices = lambda model, field: typing.get_args(model.model_fields[field].annotation)
    assert choices(config.Config, "precision") == tuple(build.PRECISIONS)
    assert choices(config.Config, "convolutions") == convolution.FORMS
    assert choices(config.Loss, "gan") == tuple(steps.GAN_LOSSES)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", True, r"batch_size \(True\) must be a whole number"),
        ("batch_size", 2.0, r"batch_size \(2.0\) must be a whole number"),
        ("batch_size", 0, r"batch_size \(0\) must be 1 or more"),
        ("num_steps", 2**40, r"num_steps \(1099511627776\) must be 1 to 2147483646"),
        pytest.param("num_steps", 10**5000, r"num_steps \(a int\) must be 1 to", id="huge"),
        ("seed", -1, r"seed \(-1\) must be 0 or more"),
        ("context", 3, r"context \(3\) must be 4 or more"),
        ("context", 33, r"context \(33\) must be 4 to 32"),
        ("ema_decay", math.nan, r"ema_decay \(nan\) must be 0 to 1"),
        ("ema_decay", "x" * 500, r"ema_decay \('x+ \.\.\.\) must be a number"),
        ("precision", "half", r"precision \('half'\) must be one of float32, tf32, bfloat16"),
        ("convolutions", "slow", r"convolutions \('slow'\) must be one of fast, native"),
        ("data", [], r"data \(\[\]\) must be a group of fields"),
        ("model", 3, r"model \(3\) must be a group of fields"),
        ("data__height", None, r"data.height \(None\) must be a whole number"),
        ("data__height", 9000, r"data.height \(9000\) must be 11 to 8192"),
        ("data__data_dir", "", r"data.data_dir \(''\) must name a folder"),
        ("data__data_dir", "a\0", r"data.data_dir \('a.x00'\) must name a folder"),
        ("data__name", 3, r"data.name \(3\) must be text"),
        ("data__colour", 3, r"data.colour is not a field: name, data_dir, config, split"),
        ("data__future_frames", 0, r"data.future_frames \(0\) must be 1 or more"),
        ("data__augmentation", 3, r"data.augmentation \(3\) must be a group"),
        ("data__augmentation", {"flip": 1}, r"data.augmentation.flip \(1\) must be True or False"),
        ("data__augmentation", {"speeds": [1, 0]}, r"speeds \(\[1, 0\]\) must hold whole numbers"),
        ("data__augmentation", {"speeds": []}, r"speeds \(\[\]\) must hold whole numbers from 1"),
        ("data__augmentation", {"crop": 0.0}, r"data.augmentation.crop \(0.0\) must be above 0"),
        ("data__augmentation", {"crop": 1.5}, r"data.augmentation.crop \(1.5\) must be 0 to 1"),
        ("targets_per_clip", 3, "targets_per_clip is not a field: stage, network, seed"),
        ("a" * 999, 3, r"'a+ \.\.\. is not a field: stage"),
        ("\ud800", 3, "the config has a field whose name is not text"),
        ("data__\ud800", 3, "data has a field whose name is not text"),
        ("model", {3: 3}, r"model \({3: 3}\) must be text"),
        (3, 3, "the config has a field whose name is not text"),
        ("model", {"widths": [[[8]]]}, "groups or lists deeper than any field needs"),
        ("loss__l1", -0.5, r"loss.l1 \(-0.5\) must be 0 or more"),
        ("loss__l1", math.inf, r"loss.l1 \(inf\) must be 0 to"),
        ("loss__l1", 10**400, r"loss.l1 \(10+ \.\.\.\) must be a number"),
        ("loss__matching", 1.0, r"loss.matching \(1.0\) needs loss.adversarial above 0: a discrim"),
        ("loss__gan", "wgan", r"loss.gan \('wgan'\) must be one of bce, hinge, lsgan"),
        ("optimizer__kind", "sgd", r"optimizer.kind \('sgd'\) must be one of adam, muon"),
        ("optimizer__schedule", 1, r"optimizer.schedule \(1\) must be one of cosine, constant"),
        ("optimizer__schedule", "\ud800", r"\('.ud800'\) must be one of cosine, constant"),
    ],
)
def test_wrong_names_types_and_ranges(field, value, message):
    found = get_config("fusion", "data")
    part, _, name = field.rpartition("__") if isinstance(field, str) else ("", "", field)
    (found[part] if part else found)[name] = value
    with pytest.raises(InputError, match=message):
        parse(found)


@pytest.mark.parametrize(
    ("stage", "field", "message"),
    [
        ("fusion", "self_fed", "self_fed was removed: use max_unroll"),
        ("translator", "targets", "targets was removed: use targets_per_clip"),
        ("translator", "nearness", "nearness was removed: use step_sampling_power"),
        ("fusion", "model__flows", "model.flows was removed: use proposals="),
        ("fusion", "model__labels", "model.labels was removed: of model: it is"),
        ("translator", "model__match", "model.match was removed: use proposals="),
        ("translator", "model__detail", "model.detail was removed: use model.head_features"),
        ("translator", "model__accompanying", "model.accompanying was removed: train stage 3"),
        ("fusion", "evaluation__snap_labels", "removed: maps are planes"),
        ("fusion", "data__num_frames", "data.num_frames was removed: use data.future_frames"),
        ("fusion", "data__min_frames", "data.min_frames was removed: use data.min_future_frames"),
        ("fusion", "loss__path", "loss.path was removed: configs/proposal.py:scene has it"),
        ("fusion", "loss__trajectory", "loss.trajectory was removed: configs/proposal.py"),
        ("accompanying", "selection", "selection was removed: stage 3 trains the reference"),
    ],
)
def test_removed_fields_name_what_replaced_them(stage, field, message):
    with pytest.raises(InputError, match=message):
        parse(get_config(stage, "data", **{field: 1}))
    assert config.removed(field.split("__")[-1]) in message or "removed: " in message
    found = get_config(stage, "data")
    found["data"]["augmentation"]["camera"] = 0.0
    with pytest.raises(InputError, match="data.augmentation.camera was removed: crops stay in pl"):
        parse(found)


def test_a_run_of_stage_3_by_an_older_version_is_read():
    """Where it was trained as stage 3 is now."""
    found = get_config("accompanying", "data")
    before = {**found, "selection": {"optimisation": "weighted", "from_reference": True}}
    assert parse(before) == parse(found)
    for name, value in (("optimisation", "all"), ("from_reference", False)):
        changed = {**before, "selection": {**before["selection"], name: value}}
        with pytest.raises(InputError, match="selection was removed: stage 3 trains the reference"):
            parse(changed)


def test_not_a_config():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match=r"the config \(\[1\]\) must be a group of fields"):
        parse([1])
    with pytest.raises(InputError, match=r"the config \(a list\) must be a group of fields"):
        parse(deep)
    for stage in ("x", [], None, "sharpener"):
        with pytest.raises(InputError, match="stage .* is not one of proposal, fusion, translator"):
            parse({"stage": stage})
    for field in ("seed", "data__name", "model__widths", "loss__gan"):
        with pytest.raises(InputError, match="deeper than any field needs"):
            parse(get_config("fusion", "data", **{field: deep}))


def test_any_damage_ends_in_a_config_or_one_refusal():
    rng, refused = random.Random(0), 0
    for name, preset in _PRESETS:
        sound = get_config(name, "data", preset)
        for _ in range(40):
            damaged = fuzz_damage.damage_json(fuzz_damage.damage_json(sound, rng), rng)
            try:
                whole = parse(damaged)
                assert parse(whole) == whole
            except InputError as error:
                assert len(str(error)) < 400
                refused += 1
    assert 0.4 < refused / (40 * len(_PRESETS)) < 0.95


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("widths", 8, r"model.widths \(8\) must be a list of at most 32 whole numbers"),
        ("widths", [8, "8"], r"model.widths \(\[8, '8'\]\) must hold whole numbers from 1"),
        ("widths", [8] * 33, "must be a list of at most 32"),
        ("blocks", 1e9, r"model.blocks \(1000000000.0\) must be a whole number"),
        ("blocks", 10**9, r"model.blocks \(1000000000\) must be 0 to 64"),
        ("block", None, r"model.block \(None\) must be text"),
        ("remat", 1, r"model.remat \(1\) must be True or False"),
        ("dtype", [], r"model.dtype \(\[\]\) must be one of float32, bfloat16"),
        ("parent", 1, r"model.parent is not a field of FusionPredictor: block, blocks, context"),
    ],
)
def test_fields_of_a_network(field, value, message):
    with pytest.raises(InputError, match=message):
        build.make_network(stages.get("fusion"), {"widths": [8, 8], field: value}, 32, 32)
    with pytest.raises(InputError, match=r"model \(\[1\]\) must be a group of fields"):
        check_types(build.FusionPredictor, [1], "model")
