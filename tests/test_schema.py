"""A config from anywhere is taken whole or refused by field, value and rule."""

import itertools
import math

import pytest
from smoke import get_config

from vidpred_jax import schema
from vidpred_jax.models import build
from vidpred_jax.types import InputError

_STAGES = ("fusion", "translator", "accompanying")


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        *itertools.product(_STAGES, ("smoke", "cpu", "full", "paper")),
        *itertools.product(("compositor", "pix2pixhd", "simvp"), ("smoke", "cpu", "full")),
        ("compositor", "davis"),
        *itertools.product(("paper",), ("fusion", "translator", "fusion_256", "translator_256")),
    ],
)
def test_presets_hold_every_field(name, preset):
    config = get_config(name, "data", preset)
    schema.check(config)
    optional = ("skip_nonfinite", "precision", "convolutions", "network", "step_sampling_power")
    for field in config:
        rest = {k: v for k, v in config.items() if k != field}
        if field in optional:
            schema.check(rest)  # Not in a config of before.
            continue
        message = "stage None is not one of" if field == "stage" else f"no field '{field}'"
        with pytest.raises(InputError, match=message):
            schema.check(rest)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", True, r"batch_size \(True\) must be a whole number"),
        ("batch_size", 2.0, r"batch_size \(2.0\) must be a whole number"),
        ("num_steps", 2**40, r"num_steps \(1099511627776\) must be 1 to 2147483646"),
        ("seed", -1, r"seed \(-1\) must be 0 or more"),
        ("ema_decay", math.nan, r"ema_decay \(nan\) must be 0 to 1"),
        ("ema_decay", "x" * 500, r"ema_decay \('x+ \.\.\.\) must be a number"),
        ("data", [], r"data \(\[\]\) must be a group of fields"),
        ("data__height", None, r"data.height \(None\) must be a whole number"),
        ("data__data_dir", "", r"data.data_dir \(''\) must name a folder"),
        ("data__data_dir", "a\0", r"data.data_dir \('a.x00'\) must name a folder"),
        ("data__name", 3, r"data.name \(3\) must be text"),
        ("data__augmentation", 3, r"data.augmentation \(3\) must be a group"),
        ("loss__l1", -0.5, r"loss.l1 \(-0.5\) must be 0 or more"),
        ("loss__l1", math.inf, r"loss.l1 \(inf\) must be 0 to"),
        ("optimizer__schedule", 1, r"optimizer.schedule \(1\) must be text"),
    ],
)
def test_wrong_types_and_ranges(field, value, message):
    with pytest.raises(InputError, match=message):
        schema.check(get_config("fusion", "data", **{field: value}))


def test_not_a_config():
    with pytest.raises(InputError, match=r"the config \(\[1\]\) must be a group of fields"):
        schema.check([1])
    with pytest.raises(InputError, match="stage 'x' is not one of fusion, translator, accomp"):
        schema.check({"stage": "x"})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("widths", 8, r"model.widths \(8\) must be a list of at most 32 whole numbers"),
        ("widths", [8, "8"], r"model.widths \(\[8, '8'\]\) must hold whole numbers from 1"),
        ("widths", [8] * 33, "must be a list of at most 32"),
        ("blocks", 1e9, r"model.blocks \(1000000000.0\) must be a whole number"),
        ("blocks", 10**9, r"model.blocks \(1000000000\) must be 0 to 64"),
        ("norm", None, r"model.norm \(None\) must be text"),
        ("dtype", [], r"model.dtype \(\[\]\) must be one of float32, bfloat16"),
    ],
)
def test_fields_of_a_network(field, value, message):
    with pytest.raises(InputError, match=message):
        build.make_generator("fusion", {"widths": [8, 8], field: value}, 32, 32)
