"""Which runs a predictor is made of: those named, the newest pair, or weights of the package."""

import os
import pathlib
from collections.abc import Callable

from vidpred_jax import processes
from vidpred_jax.checkpoints import runs
from vidpred_jax.data import sizes
from vidpred_jax.inference import networks
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.types import InputError

# What comes with the package: trained on real clips (128 x 128), on the demo's sprites (64 x 64).
WEIGHTS = ("real", "sprites")


def load(
    fusion: str | os.PathLike | None = None,
    translator: str | os.PathLike | None = None,
    accompanying: str | os.PathLike | None = None,
    *,
    folder: str | os.PathLike = "runs",
    quantize_labels: int | None = None,
    weights: str | None = None,
    size: tuple[int, int] | None = None,
    step: int | None = None,
) -> Predictor:
    """A predictor from run folders; where none of stages 1 and 2 is named, of the newest pair.

    That is the newest run of stage 2 under `folder` with the run of stage 1 that it was trained on;
    without such a pair the weights `real` are taken. fusion, translator: runs of stages 1 and 2.
    accompanying: a run of stage 3 that sharpens the frames, or `newest`; None goes without. weights:
    those that come with the package, by their name in WEIGHTS, instead of runs. quantize_labels: see
    `rollout.make_rollout`; None takes the fusion run's. size: height and width of the frames, for a
    stage 2 that needs no fusion pictures, as that of `real`; None takes those it was trained at. step:
    the checkpoint of each named run; None takes the best by validation, or the newest. Raises
    InputError if a run is missing, damaged, of another stage, or if they do not fit.
    """
    if weights and (fusion or translator):
        raise InputError(f"weights ({weights!r}) are instead of runs; name these or those")
    if not (weights or fusion or translator):
        (fusion, translator), _ = find(folder)
    elif weights:
        fusion, translator = bundled(weights)
    named = {"fusion": fusion, "translator": translator}
    for stage, run in named.items():
        other = next(run for name, run in named.items() if name != stage)
        named[stage] = run or _newest(stage, folder, beside=other)
    if accompanying is not None:
        own = None if accompanying == "newest" else accompanying
        named["accompanying"] = own or _newest("accompanying", folder)
    return load_runs(
        *named.values(), stages=tuple(named), quantize_labels=quantize_labels, size=size, step=step
    )


def load_runs(
    *folders: str | os.PathLike,
    stages: tuple[str | None, ...] | None = None,
    quantize_labels: int | None = None,
    size: tuple[int, int] | None = None,
    step: int | None = None,
) -> Predictor:
    """A predictor of runs of any stages that fit together, as of `load`.

    stages: that each must be of; None: whatever it is.
    """
    if size and not (len(size) == 2 and all(side > 0 for side in size)):
        raise InputError(f"size ({size!r}) must be a height and a width, each above 0")
    loaded = []
    for run, stage in zip(folders, stages or [None] * len(folders), strict=True):
        network = networks.load(run, stage, step)
        if size and network.stage.role != "predict" and tuple(size) != network.size:
            network = _resized(network, run, step, tuple(size))
        loaded.append(network)
    return Predictor(*loaded, quantize_labels=quantize_labels)


def _resized(network, run, step, size):
    if network.stage.role != "translate" or network.module.needs_fusion:
        raise InputError(
            f"size {sizes.by(size)}: {network.stage.name} run {os.fspath(run)!r} needs fusion pictures and "
            f"predicts at {sizes.by(network.size)} alone; weights real predict at others"
        )
    try:
        return networks.load(run, step=step, size=size)
    except InputError as error:
        raise InputError(f"size {sizes.by(size)}: {error}") from error


def find(
    folder: str | os.PathLike = "runs",
    *,
    accept: Callable[[str], bool] = lambda data: True,
    otherwise: str | None = "real",
) -> tuple[tuple[str, str] | None, str]:
    """The newest pair of runs, or the weights `otherwise` (None: nothing), and in words which and why.

    accept: of the name of the data set that a pair was trained on. Of several processes the first
    decides.
    """
    found = processes.from_main(lambda: runs.newest_pair(folder, accept))
    if found:
        return tuple(found), f"the newest pair of runs under {os.fspath(folder)!r}"
    why = f"no pair of runs of stages 1 and 2 under {os.fspath(folder)!r}"
    return (bundled(otherwise), f"weights {otherwise}: {why}") if otherwise else (None, why)


def bundled(weights: str) -> tuple[str, str]:
    """Stages 1 and 2 of weights that come with the package. Raises InputError for an unknown name."""
    if weights not in WEIGHTS:
        raise InputError(f"weights ({weights!r}) must be one of {', '.join(WEIGHTS)}")
    folder = pathlib.Path(__file__).parents[1] / "weights" / weights
    return tuple(os.fspath(folder / stage) for stage in ("fusion", "translator"))


def _newest(stage: str, folder, beside: str | os.PathLike | None = None) -> str:
    """The newest run of a stage; beside: trained on the same data as this one."""
    data = networks.read_config(beside)["data"]["name"] if beside else None
    run = processes.from_main(lambda: runs.newest(stage, folder, data))
    if run is None:
        where = f"under {os.fspath(folder)!r}" + (f" trained on {data!r}" if data else "")
        raise InputError(
            f"no {stage} run {where}: train one by python -m vidpred_jax.train "
            f"--config=configs/{stage}.py, or name one by --{stage}"
        )
    return run
