"""Which runs a predictor is made of: those named, the newest pair, or weights of the package."""

import os
from collections.abc import Callable, Sequence

import jax

from vidpred_jax import processes, startup, stores
from vidpred_jax.checkpoints import cards, runs
from vidpred_jax.inference import networks
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.types import InputError


def load(
    *named: str | os.PathLike,
    folder: str | os.PathLike = "runs",
    size: tuple[int, int] | None = None,
    step: int | None = None,
    device: jax.Device | str | Sequence[jax.Device] | None = None,
    compilation_cache: str | None = None,
) -> Predictor:
    """A predictor of run folders whose stages go together, such as `load("runs/fusion", "runs/translator")`,
    of a folder that holds them, such as `load("runs/mine")`, or of weights that come with the package, by
    their name, such as `load("real")`.

    Where nothing is named, the newest run of stage 2 under `folder` with the run of stage 1 that it was
    trained on; without such a pair the weights `real`. size: height and width of the frames; None: that of
    training, for a video the one nearest to its aspect with the same lesser side. step: the checkpoint of
    each run; None: the best by validation, or the newest. device: as of `Predictor`. compilation_cache: the
    folder that keeps the process's compiled programs, told by its first call, or `off`; None: JAX's own where
    it has one, else ~/.cache/vidpred_jax. Raises InputError for runs that are damaged or do not fit.
    """
    if compilation_cache or not jax.config.jax_compilation_cache_dir:
        startup.keep_programs(compilation_cache)
    if len(named) == 1 and not (stores.is_address(named[0]) or os.path.exists(named[0])):
        if named[0] not in cards.names():
            raise InputError(
                f"{named[0]} is no run folder, nor one of the weights {', '.join(cards.names())}"
            )
        named = cards.runs_of(named[0])
    named = [run for folder in named for run in runs.within(folder)] or find(folder)[0]
    found = Predictor(*(networks.load(run, step=step) for run in named), device=device)
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
