"""Keeps of runs what prediction needs, without the state of their training: a tenth of their size.

python scripts/export.py --run=runs/fusion --output=slim/fusion
python scripts/export.py --runs=runs/fusion,runs/translator --card=card.json --evaluation=evaluation \\
    --output=weights/mine

A slim folder is a run as others are for rollout.py and evaluate.py, but training cannot go on from it. With
--runs a folder of weights is written: a run for each stage and their card, without which they are not saved.
"""

import json
import pathlib
import shutil

from absl import flags

from vidpred_jax.checkpoints import cards, export, restore
from vidpred_jax.data import writing
from vidpred_jax.types import InputError, UserError

_RUN = flags.DEFINE_string("run", None, "Run folder.")
_RUNS = flags.DEFINE_list("runs", [], "Run folders of the stages of one set of weights.")
_CARD = flags.DEFINE_string(
    "card", None, "JSON of the weights: description, data, terms, commands and seconds."
)
_EVALUATION = flags.DEFINE_string(
    "evaluation", None, "Folder of an evaluation of these runs with --ablate, for the card's figures."
)
_STEP = flags.DEFINE_integer("step", None, "Its checkpoint; the best by validation.", 0)
_OUTPUT = flags.DEFINE_string("output", None, "Folder to write; it must not exist.", required=True)


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    if output.exists():
        raise InputError(f"--output={output} exists already; name a new folder")
    if bool(_RUN.value) == bool(_RUNS.value):
        raise InputError("give one of --run=RUN and --runs=RUN,RUN")
    if _RUNS.value and not (_CARD.value and _EVALUATION.value):
        raise InputError("--runs need --card and --evaluation: weights are not saved without a card")
    try:
        files = export.export(_RUN.value, output, _STEP.value) if _RUN.value else _weights(output)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error
    print(f"wrote {output}: {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB")


def _weights(output) -> list:
    """A run for each stage, and the card."""
    if _STEP.value is not None:
        raise InputError("--step is for --run: of --runs the best by validation are taken")
    stages = {restore.read_meta(run)["stage"]: run for run in _RUNS.value}
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
