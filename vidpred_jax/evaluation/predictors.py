"""The runs that an evaluation measures: loaded by name."""

import functools
import math
from collections.abc import Callable

import numpy as np

from vidpred_jax.checkpoints import cards
from vidpred_jax.data import fusion, sizes
from vidpred_jax.inference import loading
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.types import CONTEXT, InputError

DEFAULT_SIZE = (128, 128)  # Of the published tables; where no run says otherwise.
_PIXELS = 16 * 128 * 128  # Of frames, one of each window that an accelerator predicts at once.


def load(texts: list[str], weights: list[str], log=lambda line: None, device=None) -> dict[str, Predictor]:
    """{name: Predictor} of texts as --runs takes them, and of weights that come with the package.

    Each NAME=RUN[,RUN ...] of stages that go together, `newest` (the newest pair of runs, called ours) or
    `none`. device: as of `Predictor`. Raises InputError.
    """
    load_run = functools.partial(loading.load, device=device)
    loaded = {name: load_run(*cards.runs_of(name)) for name in weights}
    for text in texts:
        if text == "none":
            continue
        name, equals, named = ("ours", "=", "") if text == "newest" else text.partition("=")
        if name in loaded or name == "truth":
            raise InputError(f"--runs={text}: a predictor called {name!r} is there already")
        if text == "newest":
            pair, why = loading.find(otherwise=None)
            if pair is None:
                log(f"{why}: baselines alone")
                continue
            log(f"ours: {', '.join(pair)}, {why}")
            loaded["ours"] = load_run(*pair)
            continue
        parts = named.split(",")
        if not (equals and name and all(parts)):
            raise InputError(f"--runs={text} must be NAME=RUN[,RUN ...], newest or none")
        loaded[name] = load_run(*parts)
    return loaded


def at_clarities(loaded: dict[str, Predictor], asked: list[str] | None) -> dict[str, Predictor]:
    """The same with a predictor for each clarity asked for (None: 0 and 1) of those that have a choice:
    `NAME, clarity C`. Raises InputError."""
    if asked and not any(run.system.has_clarity for run in loaded.values()):
        raise InputError(f"--clarity={','.join(asked)}: no run has a choice; the weights real do")
    found = {}
    for name, run in loaded.items():
        if not run.system.has_clarity:
            found[name] = run
            continue
        for text in asked or ("0", "1"):
            try:
                clarity = float(text)
            except ValueError:
                raise InputError(f"--clarity: {text!r} is no number") from None
            row = f"{name}, clarity {clarity:g}"
            if row in found:
                raise InputError(f"--clarity={','.join(asked)} names {clarity:g} twice")
            found[row] = run.at_clarity(clarity)
    return found


def common_context(loaded: dict, asked: int | None) -> int:
    """Observed frames: those of the runs, else `asked` or 16. Raises InputError where they differ."""
    found = {name: run.context for name, run in loaded.items()}
    if len(set(found.values()) | ({asked} if asked else set())) > 1:
        told = ", ".join(f"{name!r} {n}" for name, n in found.items())
        also = f"--context={asked}, " if asked else ""
        raise InputError(f"{also}runs observe {told} frames; they must be equal (or --runs=none)")
    return next(iter(found.values()), asked or CONTEXT)


def common_size(loaded: dict, asked: str | None) -> tuple[int, int]:
    """(height, width) at which predictions are measured. asked: as of `sizes.parse`; None: what the first
    run predicts.
    """
    size = next((run.size for run in loaded.values()), DEFAULT_SIZE)
    return sizes.parse(asked, f"--resolution={asked}") if asked else size


def sizes_seen(loaded: dict) -> dict[str, tuple[int, int]]:
    """The size of what each run sees, as of `sizes.seen_by`."""
    return {f"run {name!r}": run.size for name, run in loaded.items()}


def predict(run: Predictor, elements: list[dict], horizon: int) -> dict[str, np.ndarray]:
    """uint8 `frames`, at the size of the elements' own; where they are of that size, `fusion` pictures too,
    and `unclipped`, the frames as float32 in [0, 255] before rounding."""

    def predicted(part):
        pictures, frames = run.predict_batch(part, horizon, exact=True)
        found = {"frames": fusion.quantize(frames), "unclipped": frames}
        return found if pictures is None else {**found, "fusion": fusion.quantize(pictures)}

    return _in_parts(run, elements, predicted)


def translate(run: Predictor, elements: list[dict], maps: Callable[[dict], dict]) -> dict[str, np.ndarray]:
    """`frames` by stage 2 alone, as of `predict`. maps: `(element at the run's size) -> the same with maps
    that go on`."""

    def known(part):
        frames = run.translate_batch([maps(element) for element in part], exact=True)
        return {"frames": fusion.quantize(frames), "unclipped": frames}

    return _in_parts(run, elements, known)


def _in_parts(run, elements, predict):
    """What `predict` makes of elements, as many of them at once as the devices are meant for."""
    shown = [sizes.at(run.size, element) for element in elements]
    # One at a time is what a CPU's caches hold; and so no figure depends on the batches.
    at_once = run.device_count * (1 if run.platform == "cpu" else max(_PIXELS // math.prod(run.size), 1))
    found = []
    for start in range(0, len(shown), at_once):
        made = predict(shown[start : start + at_once])
        if run.size != elements[0]["frames"].shape[1:3]:
            made = {"frames": sizes.reduce(made["frames"], elements)}
        found.append(made)
    return {field: np.concatenate([part[field] for part in found]) for field in found[0]}


def table_kind(loaded: dict, data: str, split: str) -> str:
    """Whether clips of a split are new to the runs: `in-sample` where any stage of any was trained on
    them, else `validation`, on which runs are chosen, or `held-out`. Each has tables of its own.
    """
    known = [config["data"] for run in loaded.values() for config in run.configs]
    known = [trained["split"] for trained in known if trained["name"] == data]
    parts = set(split.split("+"))
    if any(parts & set(trained.split("+")) for trained in known):
        return "in-sample"
    return "validation" if known and "validation" in parts else "held-out"
