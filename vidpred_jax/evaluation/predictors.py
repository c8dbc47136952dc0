"""The runs that an evaluation measures: loaded by name; their fusion pictures are of one size."""

import math

import numpy as np

from vidpred_jax.data import sizes
from vidpred_jax.inference import loading
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.types import CONTEXT, InputError

DEFAULT_SIZE = (128, 128)  # Of the published tables; where no run says otherwise.
_PIXELS = 16 * 128 * 128  # Of frames, one of each window that is predicted at once.


def load(
    texts: list[str], weights: list[str], accompanying: str | None = None, log=lambda line: None
) -> dict[str, Predictor]:
    """{name: Predictor} of texts as --runs takes them, and of weights that come with the package.

    Each NAME=RUN[,RUN ...] of stages that go together, `newest` (the newest pair of runs, called ours,
    with `accompanying`) or `none`. After @ a size of frames for a stage 2 that needs no fusion pictures,
    as of `sizes.parse`. Raises InputError.
    """
    loaded = {name: loading.load(weights=name) for name in weights}
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
            loaded["ours"] = loading.load(*pair, accompanying)
            continue
        named, at, size = named.rpartition("@") if _names_size(named) else (named, "", "")
        size = sizes.parse(size, f"--runs={text}: the size after @ ({size})") if at else None
        parts = named.split(",")
        if not (equals and name and all(parts)):
            raise InputError(f"--runs={text} must be NAME=RUN[,RUN ...][@SIZE], newest or none")
        loaded[name] = loading.load_runs(*parts, size=size)
    if accompanying and not any(run.run_of("accompanying") for run in loaded.values()):
        raise InputError(
            f"--accompanying={accompanying} goes with the newest runs; other runs name theirs in --runs"
        )
    return loaded


def common_context(loaded: dict, asked: int | None) -> int:
    """Observed frames: those of the runs, else `asked` or 16. Raises InputError where they differ."""
    found = {name: run.context for name, run in loaded.items()}
    if len(set(found.values()) | ({asked} if asked else set())) > 1:
        told = ", ".join(f"{name!r} {n}" for name, n in found.items())
        also = f"--context={asked}, " if asked else ""
        raise InputError(f"{also}runs observe {told} frames; they must be equal (or --runs=none)")
    return next(iter(found.values()), asked or CONTEXT)


def _names_size(pair):
    """Whether what stands after the last @ is no part of a path."""
    _, at, rest = pair.rpartition("@")
    return bool(at) and not set(rest) & set("/\\,")


def is_staged(run: Predictor) -> bool:
    """Whether it predicts fusion pictures and translates them."""
    return "fusion" in run.system.fields


def common_sizes(loaded: dict, asked: str | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the fusion pictures that every run predicts, and those at which frames are
    measured. asked: as of `sizes.parse`; None: what the first run predicts. Raises InputError.
    """
    size = next((run.frame_size for run in loaded.values()), DEFAULT_SIZE)
    size = sizes.parse(asked, f"--resolution={asked}") if asked else size
    pictures = {name: (r.height, r.width) for name, r in loaded.items() if is_staged(r)}
    if len(set(pictures.values())) > 1:
        found = ", ".join(f"{name!r} {sizes.by(each)}" for name, each in pictures.items())
        raise InputError(f"--runs predict fusion pictures of several sizes: {found}")
    return next(iter(pictures.values()), size), size


def sizes_seen(loaded: dict) -> dict[str, tuple[int, int]]:
    """The size of the frames that each run sees, as of `sizes.fields`."""
    return {f"run {name!r}": run.frame_size for name, run in loaded.items()}


def predict(run: Predictor, elements: list[dict], horizon: int) -> dict[str, np.ndarray]:
    """`frames` and, of staged runs, `fusion` pictures of elements; `frames` at their `frames`' size."""
    names = ("fusion", "frames") if is_staged(run) else ("frames",)
    by_part = lambda part: run.predict_batch(part, horizon)[-len(names) :]
    return dict(zip(names, _in_parts(run, elements, by_part), strict=True))


def translate(run: Predictor, elements: list[dict]) -> dict[str, np.ndarray]:
    """`frames` by stage 2 alone, from the true fusion pictures, as of `predict`."""
    (frames,) = _in_parts(run, elements, lambda part: [run.translate_batch(part)])
    return {"frames": frames}


def _in_parts(run, elements, predict):
    """What `predict` makes, frames last, of so many elements at once as memory is meant for."""
    field = sizes.field(run.frame_size, elements)
    shown = [{**each, "frames": each[field]} for each in elements]
    at_once = max(_PIXELS // math.prod(run.frame_size), 1)
    found = []
    for start in range(0, len(shown), at_once):
        *pictures, frames = predict(shown[start : start + at_once])
        found.append((*pictures, sizes.reduce(frames, elements)))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def table_kind(loaded: dict, data: str, split: str) -> str:
    """Whether clips of a split are new to the runs: `in-sample` where any stage of any was trained on
    them, else `validation`, on which runs are chosen, or `held-out`. Each has tables of its own.
    """
    networks = [network for run in loaded.values() for network in run.system.networks]
    known = [network.config["data"] for network in networks]
    known = [trained["split"] for trained in known if trained["name"] == data]
    parts = set(split.split("+"))
    if any(parts & set(trained.split("+")) for trained in known):
        return "in-sample"
    return "validation" if known and "validation" in parts else "held-out"
