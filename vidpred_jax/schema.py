"""What a config must hold: its fields, their types and ranges. It may come from a stranger's file.

Fields of `model`, `selection` and `discriminator` are those of the network: types are checked here,
what they mean together by its own `check`.
"""

import dataclasses
import math
from typing import Any

from vidpred_jax.types import InputError

STAGES = ("fusion", "translator", "accompanying", "direct")
_OPTIONAL = (
    "skip_nonfinite",
    "precision",
    "convolutions",
    "evaluation.quantize_labels",
    "evaluation.stride",
    "data.augmentation",
    "data.min_frames",
    "data.split",
    "network",
    "step_sampling_power",
)
_MOST = 2**40  # Of any whole number, so that it fits where it is used.
_MOST_WIDTH, _MOST_ENTRIES = 16_384, 32  # Of a network's numbers, and of a list of them.


@dataclasses.dataclass(frozen=True)
class _Number:
    kind: type
    low: float | int
    high: float | int = _MOST

    def fault(self, value) -> str:
        """Which rule a value breaks, or ''."""
        if isinstance(value, bool) or not isinstance(value, (int, self.kind)):
            return "must be a whole number" if self.kind is int else "must be a number"
        if self.low <= value <= self.high and math.isfinite(value):
            return ""
        if self.high > 1 and value < self.low:
            return f"must be {self.low} or more"
        return f"must be {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class _Kind:
    kind: type
    rule: str

    def fault(self, value) -> str:
        return "" if isinstance(value, self.kind) else self.rule


@dataclasses.dataclass(frozen=True)
class _Numbers:
    low: int

    def fault(self, value) -> str:
        if not isinstance(value, (list, tuple)) or len(value) > _MOST_ENTRIES:
            return f"must be a list of at most {_MOST_ENTRIES} whole numbers"
        bad = [x for x in value if _Number(int, self.low, _MOST_WIDTH).fault(x)]
        return f"must hold whole numbers from {self.low} to {_MOST_WIDTH}" if bad else ""


_whole = lambda low, high=_MOST: _Number(int, low, high)
_real = lambda low, high=3e38: _Number(float, low, high)
_TEXT, _SWITCH, _GROUP = (
    _Kind(str, "must be text"),
    _Kind(bool, "must be True or False"),
    _Kind(dict, "must be a group of fields"),
)


@dataclasses.dataclass(frozen=True)
class _Folder:
    def fault(self, value) -> str:
        named = isinstance(value, str) and value and "\0" not in value
        return "" if named else "must name a folder"


_FOLDER = _Folder()
_FIELDS: dict[str, Any] = {
    "stage": _TEXT,
    "seed": _whole(0, 2**31 - 2),
    "batch_size": _whole(1, 2**20),
    "num_steps": _whole(1, 2**31 - 2),
    "log_every": _whole(1),
    "save_every": _whole(1),
    "skip_nonfinite": _whole(0),
    "precision": _TEXT,
    "network": _TEXT,
    "convolutions": _TEXT,
    "ema_decay": _real(0, 1),
    "data": _GROUP,
    "data.name": _TEXT,
    "data.data_dir": _FOLDER,  # Empty, data sets would be made in the working folder.
    "data.config": _TEXT,
    "data.split": _TEXT,
    "data.height": _whole(11, 8192),  # SSIM's window.
    "data.width": _whole(11, 8192),
    "data.num_frames": _whole(17, 10_000),
    "data.min_frames": _whole(17, 10_000),
    "data.cache_bytes": _whole(0),
    "data.augmentation": _GROUP,
    "model": _GROUP,
    "loss": _GROUP,
    "optimizer": _GROUP,
    "evaluation": _GROUP,
    "evaluation.every": _whole(1),
    "evaluation.clips": _whole(0),
    "evaluation.horizon": _whole(1, 10_000),
    "evaluation.quantize_labels": _whole(0, 256),
    "evaluation.stride": _whole(0),
}
_OF_STAGE: dict[str, dict[str, Any]] = {
    **{
        stage: {"max_unroll": _whole(0, 1000), "discriminator": _GROUP}
        for stage in ("fusion", "direct")
    },
    "translator": {
        "targets_per_clip": _whole(1, 10_000),
        "step_sampling_power": _real(0, 10),
        "predicted_fraction": _real(0, 1),
        "fusion_run": _TEXT,
        "discriminator": _GROUP,
    },
    "accompanying": {
        "targets_per_clip": _whole(1, 10_000),
        "predicted_fraction": _real(0, 1),
        "reference_steps": _whole(1),
        "fusion_run": _TEXT,
        "translator_run": _TEXT,
        "selection": _GROUP,
    },
}
# Fields within groups whose names are checked where they are used.
_KNOWN_TYPES: dict[str, Any] = {
    **{
        f"loss.{name}": _real(0)
        for name in ("l1", "psnr", "ssim", "adversarial", "matching", "sharpness")
    },
    "loss.gan": _TEXT,
    **{f"optimizer.{name}": _real(0) for name in ("learning_rate", "clip")},
    **{f"optimizer.{name}": _real(0, 1) for name in ("b1", "b2")},
    "optimizer.warmup_steps": _whole(0),
    "optimizer.accumulate": _whole(1, 2**20),
    "optimizer.schedule": _TEXT,
    "data.augmentation.crop": _real(0, 1),
    "data.augmentation.speeds": _Numbers(1),
    **{
        f"data.augmentation.{name}": _SWITCH
        for name in ("flip", "flip_vertical", "transpose", "reverse")
    },
}
_REPEATED, _DEPTH = ("blocks", "layers"), _whole(0, 64)  # Layers: each is traced.
_ANNOTATED: dict[Any, Any] = {
    int: _whole(0, _MOST_WIDTH),
    float: _real(0, 1),
    bool: _SWITCH,
    str: _TEXT,
    tuple[int, ...]: _Numbers(1),
}


def check(config: Any) -> None:
    """Raises InputError, naming the field, its value and the rule, unless the config can be used."""
    if not isinstance(config, dict):
        raise InputError(f"the config ({_short(config)}) must be a group of fields")
    stage = config.get("stage")
    if stage not in STAGES:
        raise InputError(f"stage {_short(stage)} is not one of {', '.join(STAGES)}")
    for field, rule in {**_FIELDS, **_OF_STAGE[stage]}.items():
        part, _, name = field.rpartition(".")
        group = config[part] if part else config
        if name in group:
            _check(field, group[name], rule)
        elif field not in _OPTIONAL:
            raise InputError(f"the config has no field {field!r}")
    for field, rule in _KNOWN_TYPES.items():
        *parts, name = field.split(".")
        group = config
        for part in parts:
            group = group.get(part, {})
        if name in group:
            _check(field, group[name], rule)


def check_types(owner, fields: Any, prefix: str) -> None:
    """The same for a group of fields of `owner`, a dataclass or module, by its annotations."""
    if not isinstance(fields, dict):
        raise InputError(f"{prefix} ({_short(fields)}) must be a group of fields")
    annotations = {name: field.type for name, field in owner.__dataclass_fields__.items()}
    for name, value in fields.items():
        rule = _ANNOTATED.get(annotations.get(name))
        if rule is not None:
            _check(f"{prefix}.{name}", value, _DEPTH if name in _REPEATED else rule)


def _check(field, value, rule) -> None:
    fault = rule.fault(value)
    if fault:
        raise InputError(f"{field} ({_short(value)}) {fault}")


def _short(value) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."
