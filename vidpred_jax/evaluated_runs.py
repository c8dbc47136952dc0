"""The runs that an evaluation measures: loaded by name, of one picture size."""

import numpy as np

from vidpred_jax import checkpoint, direct, predictor, runs
from vidpred_jax.types import CONTEXT, InputError

DEFAULT_SIZE = (128, 128)  # Of the published tables; where no run says otherwise.
LEAST_CONTEXT = CONTEXT // 2 + 1  # What can be mirrored to 16 frames.


def load(texts: list[str], accompanying: str | None = None, log=lambda line: None) -> dict:
    """{name: Predictor or DirectPredictor} of texts as --runs takes them.

    Each NAME=FUSION_RUN,TRANSLATOR_RUN[,ACCOMPANYING_RUN], NAME=DIRECT_RUN, `newest` (called ours, with
    `accompanying`) or `none`. Raises InputError.
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
        parts = pair.split(",")
        if not (equals and name and len(parts) in (1, 2, 3) and all(parts)):
            raise InputError(
                f"--runs={text} must be NAME=FUSION_RUN,TRANSLATOR_RUN[,ACCOMPANYING_RUN], "
                "NAME=DIRECT_RUN, newest or none"
            )
        one = len(parts) == 1
        loaded[name] = direct.DirectPredictor(*parts) if one else predictor.load(*parts)
    if accompanying and not any(is_staged(run) and run.accompanying_run for run in loaded.values()):
        raise InputError(
            f"--accompanying={accompanying} goes with the newest runs; other runs take theirs as "
            "the third part of --runs"
        )
    return loaded


def is_staged(run) -> bool:
    """Whether it predicts fusion pictures and translates them."""
    return isinstance(run, predictor.Predictor)


def common_size(loaded: dict, asked: str | None) -> tuple[int, int]:
    """(height, width) that every run predicts. asked: HEIGHTxWIDTH or SIDE. Raises InputError."""
    sizes = {name: (run.height, run.width) for name, run in loaded.items()}
    size = next(iter(sizes.values()), DEFAULT_SIZE)
    if asked:
        sides = asked.split("x")
        if len(sides) > 2 or not all(s.isdecimal() and int(s) >= 11 for s in sides):
            raise InputError(f"--resolution={asked} must be HEIGHTxWIDTH or SIDE, 11 or more")
        size = int(sides[0]), int(sides[-1])
    for name, found in sizes.items():
        if found != size:
            raise InputError(
                f"run {name!r} predicts {found[0]} x {found[1]}, not {size[0]} x {size[1]}; change "
                "--resolution or --runs"
            )
    return size


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
