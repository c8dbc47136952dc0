"""Which runs a predictor is made of: those named, the newest, or weights that come with the package."""

import os
import pathlib

from vidpred_jax.checkpoints import restore, runs
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.types import InputError

# What comes with the package: trained on real clips (128 x 128), on the demo's sprites (64 x 64).
WEIGHTS = ("real", "sprites")
_A = {"fusion": "a fusion", "translator": "a translator", "accompanying": "an accompanying"}


def load(
    fusion: str | os.PathLike | None = None,
    translator: str | os.PathLike | None = None,
    accompanying: str | os.PathLike | None = None,
    *,
    folder: str | os.PathLike = "runs",
    quantize_labels: int | None = None,
    weights: str | None = None,
    size: tuple[int, int] | None = None,
) -> Predictor:
    """A predictor from run folders; None takes the newest run of that stage under `folder`.

    weights: instead of runs, those that come with the package, by their name in WEIGHTS; None takes
    `real` where no run is named and there is none of either stage. accompanying: a run of stage 3
    that sharpens the frames, or `newest`; None goes without. quantize_labels: see `make_rollout`;
    None takes the fusion run's. size: height and width of the frames, for a stage 2 that looks at
    frames alone, as that of `real`; None takes those it was trained at. Raises InputError if a run is
    missing, damaged, of another stage, or if they do not fit.
    """
    stages = ("fusion", "translator")
    if weights and (fusion or translator):
        raise InputError(f"--weights ({weights!r}) are instead of runs; name these or those")
    if weights or not (fusion or translator or any(runs.newest(s, folder) for s in stages)):
        fusion, translator = (bundled(weights or "real") / stage for stage in stages)
    fusion_run = _find("fusion", fusion, folder)
    translator_run = _find("translator", translator, folder)
    if accompanying is not None:
        newest = None if accompanying == "newest" else accompanying
        accompanying = _find("accompanying", newest, folder)
    return Predictor(fusion_run, translator_run, quantize_labels, accompanying, size)


def bundled(weights: str) -> pathlib.Path:
    """The folder of weights that come with the package. Raises InputError for an unknown name."""
    if weights not in WEIGHTS:
        raise InputError(f"--weights ({weights!r}) must be one of {', '.join(WEIGHTS)}")
    return pathlib.Path(__file__).parent / "weights" / weights


def _find(stage: str, run: str | os.PathLike | None, folder) -> str:
    if run is None:
        run = runs.newest(stage, folder)
        if run is None:
            raise InputError(
                f"no {stage} run under {str(folder)!r}: train one by python -m vidpred_jax.train "
                f"--config=configs/{stage}.py, or name one by --{stage}"
            )
    found = restore.read_meta(run)["stage"]
    if found != stage:
        raise InputError(f"--{stage} ({str(run)!r}) holds a {found} run; {_A[stage]} run is needed")
    return os.fspath(run)
