"""What a config must hold: its fields, their types, ranges and defaults.

A config may come from a stranger's file: whatever it holds, `parse` returns or raises InputError.
Fields of `model` and `discriminator` are those of the network (`fields.check_types`).
"""

import os
from typing import Annotated, Any, Literal

import pydantic

from vidpred_jax import stages, stores
from vidpred_jax.fields import Entries, Group, Names, real, shorten, validate, whole
from vidpred_jax.types import CONTEXT, MAX_SIDE, MIN_SIDE, InputError

# What older versions knew, and what stands in its place.
_REMOVED = {
    "self_fed": "use max_unroll",
    "targets": "use targets_per_clip",
    "nearness": "use step_sampling_power",
    "model.flows": "use proposals=('flow_blend',)",
    "model.match": "use proposals=('flow_blend',)",
    "model.labels": "of model: it is the data set's number of labels",
    "model.detail": "use model.head_features",
    "model.accompanying": "train stage 3, configs/accompanying.py",
    "evaluation.snap_labels": "maps are planes, which need no rounding",
    "evaluation.quantize_labels": "maps are planes, which need no rounding",
    "model.num_flows": "use proposals=('flow_blend',)",
    "model.flow_levels": "of stages 1 and 2: use proposals=('flow_blend',)",
    "model.num_labels": "it is the data set's",
    "model.label_colors": "use proposals=('scene',)",
    "model.scene": "use proposals=('scene',)",
    "model.seen_frames": "all model.reference_frames are input",
    "model.appearance": "train a translator without proposals",
    "data.augmentation.camera": "crops stay in place; use data.augmentation.crop",
    "data.num_frames": "use data.future_frames, the frames after the context",
    "data.min_frames": "use data.min_future_frames, the frames after the context",
    "loss.path": "configs/proposal.py:scene has it as loss.trajectory",
    "loss.trajectory": "configs/proposal.py:scene has it",
    "selection": "stage 3 trains the reference, then the pair",
}
# Fields of stage 3 until 0.4, at what it does now.
_KEPT_SELECTION = {"optimisation": "weighted", "from_reference": True}


def _folder(value: str) -> str:
    if not value or "\0" in value:  # Empty, data sets would be made in the working folder.
        raise ValueError("must name a folder")
    return _local(value)


def _local(value: str) -> str:
    if "://" in value and not stores.is_address(value):
        raise ValueError("must be local, or begin with gs://, s3:// or az://")
    return os.path.expanduser(value)


Run = Annotated[str, pydantic.AfterValidator(_local)]
Runs = Annotated[Names, pydantic.AfterValidator(lambda runs: [_local(run) for run in runs])]


_Side, _NumFrames = whole(MIN_SIDE, MAX_SIDE), whole(1, 10_000)


class Augmentation(Group):
    """Which augmentations of training windows are drawn at random; the default is none.

    crop: smallest side of a crop, as a share of the clip's (1: no crop).
    speeds: a window takes every n-th frame, n drawn from these.
    reverse: half of the windows run backwards. transpose: half of the square clips swap h and w.
    """

    flip: bool = False
    flip_vertical: bool = False
    transpose: bool = False
    reverse: bool = False
    crop: Annotated[real(0, 1), pydantic.Field(gt=0)] = 1.0
    speeds: Annotated[Entries, pydantic.Field(min_length=1)] = [1]


class Data(Group):
    """future_frames: of a training window, after the context; min_future_frames: of a short clip."""

    name: str
    data_dir: Annotated[str, pydantic.AfterValidator(_folder)]
    config: str = ""
    split: str = "train"
    height: _Side
    width: _Side
    future_frames: _NumFrames
    min_future_frames: _NumFrames = pydantic.Field(default_factory=lambda data: data["future_frames"])
    cache_bytes: whole(0) = 2 << 30
    augmentation: Augmentation = Augmentation()


class Loss(Group):
    """Generator's loss, the sum of its weighted terms. Of pictures: l1; mse, the mean square; psnr, which is
    -PSNR / 10 dB; ssim, which is 1 - SSIM; perceptual, which is LPIPS. Of planes: edges and labels,
    cross-entropies in nats. adversarial: the GAN loss of kind `gan`; matching: L1 between the
    discriminator's features of both frames.
    """

    l1: real(0) = 1.0
    mse: real(0) = 0.0
    psnr: real(0) = 0.0
    ssim: real(0) = 0.0
    perceptual: real(0) = 0.0
    edges: real(0) = 1.0
    labels: real(0) = 1.0
    adversarial: real(0) = 0.0
    matching: real(0) = 0.0
    gan: Literal["bce", "hinge", "lsgan"] = "bce"

    @pydantic.field_validator("matching")
    @classmethod
    def _needs_discriminator(cls, value, info):
        if value and not info.data.get("adversarial"):
            raise ValueError("needs loss.adversarial above 0: a discriminator")
        return value

    @property
    def terms(self) -> dict[str, float]:
        """The weights above 0 of the terms of `Forward`; L1 is always among them, to be logged."""
        weights = self.model_dump(exclude={"adversarial", "matching", "gan"})
        return {name: weight for name, weight in weights.items() if weight or name == "l1"}


class ProposalLoss(Loss):
    """trajectory: the error of extrapolated objects, where the proposal tracks them."""

    trajectory: real(0) = 0.1


class SharpeningLoss(Group):
    l1: real(0) = 10.0
    ssim: real(0) = 1.0
    sharpness: real(0) = 0.0


class Optimizer(Group):
    """clip: largest global norm of the gradient, 0 for none. accumulate: steps whose gradients are averaged
    for one update, so that a large batch fits a small memory.
    """

    kind: Literal["adam", "muon"] = "adam"
    learning_rate: real(0) = 2e-4
    warmup_steps: whole(0) = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    b1: real(0, 1) = 0.5
    b2: real(0, 1) = 0.999
    clip: real(0) = 0.0
    accumulate: whole(1, 2**20) = 1


class GanOptimizer(Optimizer):
    """discriminator_rate: the discriminator's learning rate; 0 for the generator's."""

    discriminator_rate: real(0) = 0.0


class Evaluation(Group):
    """stride: frames between windows; 0: side by side."""

    every: whole(1)
    clips: whole(0)
    horizon: _NumFrames
    stride: whole(0) = 0


class Config(Group):
    """What every stage has; a stage's role adds its own.

    maps: the form of maps, planes of edges and labels or the paper's picture.
    """

    stage: str
    network: str = ""  # The stage's first.
    seed: whole(0, 2**31 - 2)
    batch_size: whole(1, 2**20)
    num_steps: whole(1, 2**31 - 2)
    log_every: whole(1)
    save_every: whole(1)
    skip_nonfinite: whole(0) = 0
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    convolutions: Literal["fast", "native"] = "fast"
    ema_decay: real(0, 1)
    context: whole(4, 32) = CONTEXT
    maps: Literal["planes", "picture"] = "planes"
    data: Data
    model: dict[str, Any]
    loss: Loss
    optimizer: Optimizer
    evaluation: Evaluation
    discriminator: dict[str, Any] = {}


class Proposing(Config):
    """Role `propose`."""

    targets_per_clip: _NumFrames
    step_sampling_power: real(0, 10) = 1.0
    loss: ProposalLoss
    optimizer: GanOptimizer


class Adding(Config):
    """proposals: what the network adds to, by name; proposal_runs: the run of each, () for the newest.
    proposal_clarity: at which they forecast, where they have a choice. proposal_dropout: the share of clips
    that are shown none.
    """

    optimizer: GanOptimizer

    proposals: Names = []
    proposal_runs: Runs = []
    proposal_clarity: real(0, 1) = 0.0
    proposal_dropout: real(0, 1) = 0.3


class Predicting(Adding):
    """Role `predict`."""

    max_unroll: whole(0, 1000) = 0


class Translating(Adding):
    """Role `translate`. fusion_run: "none" where the proposals' maps are translated, as without stage 1."""

    targets_per_clip: _NumFrames
    step_sampling_power: real(0, 10) = 1.0
    predicted_fraction: real(0, 1)
    fusion_run: Run


class Sharpening(Config):
    """Role `sharpen`."""

    targets_per_clip: _NumFrames
    predicted_fraction: real(0, 1)
    reference_steps: whole(1)
    fusion_run: Run
    translator_run: Run
    loss: SharpeningLoss


_ROLES = {"propose": Proposing, "predict": Predicting, "translate": Translating, "sharpen": Sharpening}


def parse(config: Any) -> dict:
    """The config as a plain dict with every default filled in; not its `model` and the like.

    Raises InputError, naming the field, its value and the rule.
    """
    if not isinstance(config, dict):
        raise InputError(f"the config ({shorten(config)}) must be a group of fields")
    stage = stages.get(config.get("stage"))
    inner = [config]
    for _ in range(4):  # As deep as data.augmentation.speeds.
        inner = [x for part in inner for x in (part.values() if isinstance(part, dict) else part)]
        inner = [x for x in inner if isinstance(x, (dict, list, tuple))]
    if inner:
        raise InputError("the config holds groups or lists deeper than any field needs")
    if stage.role == "sharpen" and config.get("selection") == _KEPT_SELECTION:
        config = {name: value for name, value in config.items() if name != "selection"}
    for field, instead in _REMOVED.items():
        *parts, name = field.split(".")
        if stage.role == "propose" and field in ("model.flow_levels", "loss.trajectory"):
            continue  # It has these still.
        group = config
        for part in parts:
            group = group.get(part) if isinstance(group, dict) else None
        if isinstance(group, dict) and name in group:
            raise InputError(f"{field} was removed: {instead}")
    found = _plain(validate(_ROLES[stage.role], config))
    if found["data"]["config"] == "tiny" and found["data"]["name"] not in ("sprites", "moving_digits"):
        found["data"]["config"] = ""  # Preset smoke's, of embedded sets.
    return {**found, "network": found["network"] or next(iter(stage.networks), "")}


def removed(name: str) -> str:
    """What replaced the removed field whose last part is `name`; '' for any other."""
    return next((x for field, x in _REMOVED.items() if field.split(".")[-1] == name), "")


def _plain(value: Any) -> Any:
    if isinstance(value, Group):
        value = dict(value)
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    return list(value) if isinstance(value, (list, tuple)) else value
