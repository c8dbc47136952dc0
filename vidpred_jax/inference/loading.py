"""Which runs a predictor is made of: those named, the newest pair, or weights of the package."""

import os
from collections.abc import Callable

from vidpred_jax import processes
from vidpred_jax.checkpoints import cards, runs
from vidpred_jax.inference import networks
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.types import InputError


def load(
    fusion: str | os.PathLike | None = None,
    translator: str | os.PathLike | None = None,
    accompanying: str | os.PathLike | None = None,
    *,
    folder: str | os.PathLike = "runs",
    weights: str | None = None,
    size: tuple[int, int] | None = None,
    step: int | None = None,
) -> Predictor:
    """A predictor from run folders; where none of stages 1 and 2 is named, of the newest pair.

    That is the newest run of stage 2 under `folder` with the run of stage 1 that it was trained on;
    without such a pair the weights `real` are taken. fusion, translator: runs of stages 1 and 2.
    accompanying: a run of stage 3 that sharpens the frames, or `newest`; None goes without. weights:
    those that come with the package, by their name in WEIGHTS, instead of runs. size: height and width of
    the frames, for proposals alone, as `real`; None takes that of training, for a video the one
    nearest to its aspect with the same lesser side. step: the checkpoint of each
    named run; None takes the best by validation, or the newest. Raises InputError if a run is missing,
    damaged, of another stage, or if they do not fit.
    """
    if weights and (fusion or translator):
        raise InputError(f"weights ({weights!r}) are instead of runs; name these or those")
    if weights:
        named = cards.runs_of(weights)
    elif fusion or translator:
        named = (
            fusion or newest("fusion", folder, beside=translator),
            translator or newest("translator", folder, beside=fusion),
        )
        for run, stage in zip(named, ("fusion", "translator"), strict=True):
            networks.check_stage(run, stage, step)
    else:
        named, _ = find(folder)
    if accompanying is not None:
        third = newest("accompanying", folder) if accompanying == "newest" else accompanying
        networks.check_stage(third, "accompanying", step)
        named = (*named, third)
    return load_runs(*named, size=size, step=step)


def load_runs(
    *folders: str | os.PathLike, size: tuple[int, int] | None = None, step: int | None = None
) -> Predictor:
    """A predictor of runs of any stages that fit together, as of `load`."""
    found = Predictor(*(networks.load(run, step=step) for run in folders))
    found = found.at_clarity(1.0) if found.system.has_clarity else found
    return found.at_size(size) if size is not None else found


def find(
    folder: str | os.PathLike = "runs",
    *,
    accept: Callable[[str], bool] = lambda data: True,
    otherwise: str | None = "real",
) -> tuple[tuple[str, ...] | None, str]:
    """The newest pair of runs, or the weights `otherwise` (None: nothing), and in words which and why.

    accept: of the name of the data set that a pair was trained on. Of several processes the first
    decides.
    """
    found = processes.from_main(lambda: runs.newest_pair(folder, accept))
    if found:
        return tuple(found), f"the newest pair of runs under {os.fspath(folder)!r}"
    why = f"no pair of runs of stages 1 and 2 under {os.fspath(folder)!r}"
    if not otherwise:
        return None, why
    return cards.runs_of(otherwise), f"weights {cards.describe(otherwise)}: {why}"


def newest(stage: str, folder: str | os.PathLike = "runs", beside: str | os.PathLike | None = None) -> str:
    """The newest run of a stage; beside: trained on the same data as this one. Raises InputError."""
    data = networks.read_config(beside)["data"]["name"] if beside else None
    run = processes.from_main(lambda: runs.newest(stage, folder, data))
    if run is None:
        where = f"under {os.fspath(folder)!r}" + (f" trained on {data!r}" if data else "")
        raise InputError(
            f"no {stage} run {where}: train one by python -m vidpred_jax.train "
            f"--config=configs/{stage}.py, or name one by --{stage}"
        )
    return run
