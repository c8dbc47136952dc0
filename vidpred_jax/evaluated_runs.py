"""The runs that an evaluation measures: loaded by name; their fusion pictures are of one size."""

import functools
import math

import numpy as np

from vidpred_jax import baselines, checkpoint, direct, fusion, predictor, runs
from vidpred_jax.types import CONTEXT, InputError

DEFAULT_SIZE = (128, 128)  # Of the published tables; where no run says otherwise.
_PIXELS = 16 * 128 * 128  # Of frames, one of each window that is predicted at once.
LEAST_CONTEXT = CONTEXT // 2 + 1  # What can be mirrored to 16 frames.


def load(texts: list[str], accompanying: str | None = None, log=lambda line: None) -> dict:
    """{name: Predictor or DirectPredictor} of texts as --runs takes them.

    Each NAME=FUSION_RUN,TRANSLATOR_RUN[,ACCOMPANYING_RUN], NAME=DIRECT_RUN, `newest` (called ours, with
    `accompanying`) or `none`. After @ a size of frames for a stage 2 that looks at frames alone, as of
    `parse_size`. Raises InputError.
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
                loaded["ours"] = predictor.load(accompanying=accompanying)
            else:
                log("no runs of both stages under runs/: naive predictors alone")
            continue
        pair, at, size = pair.rpartition("@") if _names_size(pair) else (pair, "", "")
        size = parse_size(size, f"--runs={text}: the size after @ ({size})") if at else None
        parts = pair.split(",")
        if not (equals and name and len(parts) in (1, 2, 3) and all(parts)):
            raise InputError(
                f"--runs={text} must be NAME=FUSION_RUN,TRANSLATOR_RUN[,ACCOMPANYING_RUN][@SIZE], "
                "NAME=DIRECT_RUN, newest or none"
            )
        if len(parts) == 1 and size:
            raise InputError(f"--runs={text}: a direct run predicts at its own size alone")
        one = len(parts) == 1
        loaded[name] = direct.DirectPredictor(*parts) if one else predictor.load(*parts, size=size)
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


def parse_size(text: str, what: str) -> tuple[int, int]:
    """(height, width) of HEIGHTxWIDTH or SIDE, each 11 (SSIM's window) or more. Raises InputError."""
    sides = text.split("x")
    if len(sides) > 2 or not all(s.isdecimal() and int(s) >= 11 for s in sides):
        raise InputError(f"{what} must be HEIGHTxWIDTH or SIDE, 11 or more")
    return int(sides[0]), int(sides[-1])


def common_sizes(loaded: dict, asked: str | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the fusion pictures that every run predicts, and those at which frames are
    measured: no larger than any run's. asked: as of `parse_size`; None: what the runs predict.

    Raises InputError.
    """
    size = parse_size(asked, f"--resolution={asked}") if asked else None
    size = size or next((run.frame_size for run in loaded.values()), DEFAULT_SIZE)
    for name, run in loaded.items():
        if any(own < side for own, side in zip(run.frame_size, size, strict=True)):
            raise InputError(
                f"run {name!r} predicts {_by(run.frame_size)}, less than {_by(size)}; change "
                "--resolution or --runs"
            )
    pictures = {name: (r.height, r.width) for name, r in loaded.items() if is_staged(r)}
    if len(set(pictures.values())) > 1:
        found = ", ".join(f"{name!r} {_by(each)}" for name, each in pictures.items())
        raise InputError(f"--runs predict fusion pictures of several sizes: {found}")
    return next(iter(pictures.values()), size), size


def _by(size) -> str:
    return f"{size[0]} x {size[1]}"


def frames_fields(loaded: dict, naive: list[str], size: tuple[int, int]) -> dict[str, tuple]:
    """What `pipeline.evaluation_windows` puts into elements for these runs and naive predictors: `frames`
    at the size at which they are measured, and those of other sizes that are seen.
    """
    sizes = [run.frame_size for run in loaded.values()]
    for text in naive:
        _, own = _parse_naive(text)
        if own and any(a < b for a, b in zip(own, size, strict=True)):
            raise InputError(f"--baselines={text} predicts less than {_by(size)}: change either")
        sizes += [own] * bool(own)
    return {"frames": size, **{_field(own): own for own in sizes if own != size}}


def _field(size) -> str:
    return f"frames {_by(size)}"


def naive_predictors(texts: list[str], horizon: int) -> dict:
    """Naive predictors by their text, NAME or NAME@SIZE: the same, of frames seen at another size.

    As of `evaluate.compare`, whose elements `frames_fields` tells. Raises InputError.
    """
    found = {}
    for text in texts:
        name, size = _parse_naive(text)
        predict = functools.partial(_predict_at, name, horizon, size)
        found[text] = predict if size else baselines.predictors(horizon, [name])[name]
    return found


def _parse_naive(text):
    name, at, size = text.partition("@")
    if name not in baselines.BASELINES:
        raise InputError(f"--baselines: {name!r} is not one of {', '.join(baselines.BASELINES)}")
    what = f"--baselines={text}: the size after @ ({size})"
    return name, parse_size(size, what) if at else None


def _predict_at(name, horizon, size, elements):
    field = _seen_field(size, elements)
    predict = baselines.predictors(horizon, [name], field)[name]
    return {"frames": _reduce(predict(elements)[field], elements)}


def _seen_field(size, elements):
    return "frames" if size == elements[0]["frames"].shape[1:3] else _field(size)


def predict(run, elements: list[dict], horizon: int, context: int) -> dict[str, np.ndarray]:
    """`frames` and, of staged runs, `fusion` pictures of elements; `frames` at their `frames`' size."""
    pictures, frames = _in_parts(
        run, elements, context, lambda part: run.predict_batch(part, horizon)
    )
    return {"frames": frames, **({} if pictures is None else {"fusion": pictures})}


def translate(run, elements: list[dict], context: int) -> dict[str, np.ndarray]:
    """`frames` by stage 2 alone, from the true fusion pictures, as of `predict`."""
    return {
        "frames": _in_parts(run, elements, context, lambda part: (None, run.translate_batch(part)))[
            1
        ]
    }


def _in_parts(run, elements, context, predict):
    """(pictures or None, frames) by `predict` of so many elements at once as memory is meant for."""
    field = _seen_field(run.frame_size, elements)
    shown = fill_context([{**each, "frames": each[field]} for each in elements], context)
    at_once = max(_PIXELS // math.prod(run.frame_size), 1)
    found = []
    for start in range(0, len(shown), at_once):
        pictures, frames = predict(shown[start : start + at_once])
        found.append((pictures, _reduce(frames, elements)))
    pictures, frames = zip(*found, strict=True)
    return None if pictures[0] is None else np.concatenate(pictures), np.concatenate(frames)


def _reduce(frames, elements):
    size = elements[0]["frames"].shape[1:3]
    return np.stack([fusion.resize_frames(np.asarray(each), *size) for each in frames])


def table_kind(loaded: dict, data: str, split: str) -> str:
    """Whether clips of a split are new to the runs: `in-sample` where any stage of any was trained on
    them, else `validation`, on which runs are chosen, or `held-out`. Each has tables of its own.
    """
    stages = [run for each in loaded.values() for run in each.runs]
    known = [checkpoint.read_meta(stage)["config"]["data"] for stage in stages]
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
