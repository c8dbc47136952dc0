"""Keeps of runs what prediction needs: as folders a tenth of their size, or as a file that JAX alone runs.

python scripts/export.py --run=runs/fusion --output=slim/fusion
python scripts/export.py --runs=runs/fusion,runs/translator --card=card.json --evaluation=evaluation \\
    --output=weights/mine
vidpred export real --format=stablehlo --size=128x224 --output=real.stablehlo   # examples/serve_exported.py

A slim folder is a run as others are for rollout.py and evaluate.py, but training cannot go on from it. With
--runs a folder of weights is written: a run for each stage and their card, without which they are not saved.
StableHLO files take and give uint8 frames, of any number of clips, on CPU, CUDA and TPU.
"""

import json
import pathlib
import shutil

from absl import flags

from vidpred_jax import stores
from vidpred_jax.checkpoints import cards, export, restore
from vidpred_jax.data import sizes, writing
from vidpred_jax.inference import loading, stablehlo
from vidpred_jax.types import HORIZON, InputError, UserError

_FORMAT = flags.DEFINE_enum("format", "weights", ["weights", "stablehlo"], "What is written.")
_RUN = flags.DEFINE_string("run", None, "Run folder; of stablehlo also one of both stages, or weights' name.")
_RUNS = flags.DEFINE_list("runs", [], "Run folders of the stages of one set of weights.")
_CARD = flags.DEFINE_string(
    "card", None, "JSON of the weights: description, data, terms, commands and seconds."
)
_EVALUATION = flags.DEFINE_string(
    "evaluation", None, "Folder of an evaluation of these runs with --ablate, for the card's figures."
)
_STEP = flags.DEFINE_integer("step", None, "Its checkpoint; the best by validation.", 0)
_HORIZON = flags.DEFINE_integer("horizon", HORIZON, "Frames that a stablehlo file predicts.", 1)
_BATCH = flags.DEFINE_integer("batch", 0, "Clips that it takes; 0: any number, one after the other.", 0)
_PLATFORMS = flags.DEFINE_list("platforms", list(stablehlo.PLATFORMS), "Where it can run.")
_SIZE = flags.DEFINE_string("size", None, "Its HEIGHTxWIDTH or SIDE of frames; that of training.")
_CLARITY = flags.DEFINE_float("clarity", None, "Its clarity, as of rollout.py.", 0.0, 1.0)
_OUTPUT = flags.DEFINE_string("output", None, "Folder or file to write; it must not exist.", required=True)


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    if output.exists():
        raise InputError(f"--output={output} exists already; name another")
    own = {"weights": (_CARD, _EVALUATION), "stablehlo": (_HORIZON, _BATCH, _PLATFORMS, _SIZE, _CLARITY)}
    for flag in (flag for form, some in own.items() if form != _FORMAT.value for flag in some):
        if flag.value != flag.default:
            raise InputError(f"--{flag.name} is not for --format={_FORMAT.value}")
    if bool(_RUN.value) == bool(_RUNS.value):
        raise InputError("give one of --run=RUN and --runs=RUN,RUN")
    if _FORMAT.value == "weights" and _RUNS.value and not (_CARD.value and _EVALUATION.value):
        raise InputError("--runs need --card and --evaluation: weights are not saved without a card")
    try:
        if _FORMAT.value == "stablehlo":
            return _stablehlo(output)
        files = export.export(_RUN.value, output, _STEP.value) if _RUN.value else _weights(output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    print(f"wrote {output}: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB")


def _stablehlo(output):
    for name in _PLATFORMS.value:
        if name not in stablehlo.PLATFORMS:
            raise InputError(f"--platforms: {name!r} is not one of {', '.join(stablehlo.PLATFORMS)}")
    size = _SIZE.value and sizes.parse(_SIZE.value, f"--size={_SIZE.value}")
    found = loading.load(*(_RUNS.value or [_RUN.value]), size=size, step=_STEP.value)
    found = found if _CLARITY.value is None else found.at_clarity(_CLARITY.value)
    data, takes = stablehlo.export(found, _HORIZON.value, _BATCH.value or None, _PLATFORMS.value)
    with writing.atomic(output) as path:
        path.write_bytes(data)
    height, width = found.size
    print(
        f"wrote {output}: {len(data) / 2**20:.1f} MiB; {' and '.join(takes)} of {found.context} frames of "
        f"{width} x {height} -> the {_HORIZON.value} after them, on {', '.join(_PLATFORMS.value)}"
    )


def _weights(output) -> list:
    """A run for each stage, and the card."""
    if _STEP.value is not None:
        raise InputError("--step is for --run: of --runs the best by validation are taken")
    stages = {restore.read_meta(stores.local(run))["stage"]: run for run in _RUNS.value}
    if len(stages) < len(_RUNS.value):
        raise InputError(f"--runs: {', '.join(_RUNS.value)} are not one of each stage")
    summary = _read(f"{_EVALUATION.value}/summary.json")
    card = cards.make(_read(_CARD.value), summary, stages)
    temporary = output.with_name(f".{output.name}")
    try:
        files = []
        for stage, run in stages.items():
            files += export.export(run, temporary / stage)
        writing.write_text(temporary / cards.FILE, json.dumps(card, indent=1) + "\n")
        cards.read_file(temporary / cards.FILE)
        temporary.rename(output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [f for f in output.rglob("*") if f.is_file()]


def _read(path):
    try:
        found = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} must be a JSON object")
    return found
