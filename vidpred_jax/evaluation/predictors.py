"""The runs that an evaluation measures: loaded by name; their fusion pictures are of one size."""

import math

import numpy as np

from vidpred_jax.checkpoints import restore, runs
from vidpred_jax.data import sizes
from vidpred_jax.inference import direct, loading, predictor
from vidpred_jax.types import CONTEXT, InputError

DEFAULT_SIZE = (128, 128)  # Of the published tables; where no run says otherwise.
_PIXELS = 16 * 128 * 128  # Of frames, one of each window that is predicted at once.
LEAST_CONTEXT = CONTEXT // 2 + 1  # What can be mirrored to 16 frames.


def load(texts: list[str], accompanying: str | None = None, log=lambda line: None) -> dict:
    """{name: Predictor or DirectPredictor} of texts as --runs takes them.

    Each NAME=FUSION_RUN,TRANSLATOR_RUN[,ACCOMPANYING_RUN], NAME=DIRECT_RUN, `newest` (called ours, with
    `accompanying`) or `none`. After @ a size of frames for a stage 2 that looks at frames alone, as of
    `sizes.parse`. Raises InputError.
    """
    loaded = {}
    for text in texts:
        if text == "none":
            continue
        name, equals, pair = ("ours", "=", "") if text == "newest" else text.partition("=")
        if name in loaded or name == "truth":
            raise InputError(f"--runs={text}: a predictor called {name!r} is there already")
        if text == "newest":
            if all(runs.newest(stage, "runs") for stage in ("fusion", "translator")):
                loaded["ours"] = loading.load(accompanying=accompanying)
            else:
                log("no runs of both stages under runs/: naive predictors alone")
            continue
        pair, at, size = pair.rpartition("@") if _names_size(pair) else (pair, "", "")
        size = sizes.parse(size, f"--runs={text}: the size after @ ({size})") if at else None
        parts = pair.split(",")
        if not (equals and name and len(parts) in (1, 2, 3) and all(parts)):
            raise InputError(
                f"--runs={text} must be NAME=FUSION_RUN,TRANSLATOR_RUN[,ACCOMPANYING_RUN][@SIZE], "
                "NAME=DIRECT_RUN, newest or none"
            )
        if len(parts) == 1 and size:
            raise InputError(f"--runs={text}: a direct run predicts at its own size alone")
        one = len(parts) == 1
        loaded[name] = direct.DirectPredictor(*parts) if one else loading.load(*parts, size=size)
    if accompanying and not any(is_staged(run) and run.accompanying_run for run in loaded.values()):
        raise InputError(
            f"--accompanying={accompanying} goes with the newest runs; other runs take theirs as "
            "the third part of --runs"
        )
    return loaded


def _names_size(pair):
    """Whether what stands after the last @ is no part of a path."""
    _, at, rest = pair.rpartition("@")
    return bool(at) and not set(rest) & set("/\\,")


def is_staged(run) -> bool:
    """Whether it predicts fusion pictures and translates them."""
    return isinstance(run, predictor.Predictor)


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


def predict(run, elements: list[dict], horizon: int, context: int) -> dict[str, np.ndarray]:
    """`frames` and, of staged runs, `fusion` pictures of elements; `frames` at their `frames`' size."""
    names = ("fusion", "frames") if is_staged(run) else ("frames",)
    by_part = lambda part: run.predict_batch(part, horizon)[-len(names) :]
    return dict(zip(names, _in_parts(run, elements, context, by_part), strict=True))


def translate(run, elements: list[dict], context: int) -> dict[str, np.ndarray]:
    """`frames` by stage 2 alone, from the true fusion pictures, as of `predict`."""
    (frames,) = _in_parts(run, elements, context, lambda part: [run.translate_batch(part)])
    return {"frames": frames}


def _in_parts(run, elements, context, predict):
    """What `predict` makes, frames last, of so many elements at once as memory is meant for."""
    field = sizes.field(run.frame_size, elements)
    shown = fill_context([{**each, "frames": each[field]} for each in elements], context)
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
    stages = [run for each in loaded.values() for run in each.runs]
    known = [restore.read_meta(stage)["config"]["data"] for stage in stages]
    known = [config.get("split", "train") for config in known if config["name"] == data]
    parts = set(split.split("+"))
    if any(parts & set(trained.split("+")) for trained in known):
        return "in-sample"
    return "validation" if known and "validation" in parts else "held-out"


def fill_context(elements: list[dict], context: int) -> list[dict]:
    """Clips of which `context` frames were observed, for runs, which see 16: what is missing before
    them is their own beginning, backwards. (Not in any paper: ours, for protocols of 10 frames.)

    elements: dicts whose arrays are (t, h, w, c), t of `context` or more.
    """
    missing = CONTEXT - context
    if not missing:
        return elements
    mirror = lambda x: np.concatenate([x[missing:0:-1], x]) if isinstance(x, np.ndarray) else x
    return [{field: mirror(x) for field, x in element.items()} for element in elements]
