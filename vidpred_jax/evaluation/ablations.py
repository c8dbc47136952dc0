"""Variants of a run that stand beside it: what each stage brings, and classical sharpening."""

import functools
from collections.abc import Callable

from vidpred_jax.evaluation import predictors, sharpening
from vidpred_jax.inference import loading
from vidpred_jax.inference.predictor import Predictor


def variants(
    name: str,
    run: Predictor,
    horizon: int,
    *,
    ablate: bool = True,
    sharpen: list[str] = (),
    quantize_labels: int | None = None,
) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """{predictor's name: predictor} of a run and its variants, as `compare.compare` takes them, and the
    names of those that show where error comes from; each is the run itself but for what its name says.

    `true fusion`, with `ablate`, is stage 2 given the true fusion pictures: an oracle for stage 1.
    sharpen: methods of `sharpening.SHARPENERS`. quantize_labels: also the run with its fusion pictures
    quantized to so many labels.
    """
    predict = lambda run: functools.partial(_predict, run, horizon)
    found = {name: predict(run)}
    plain, shown = run, [name]
    reload = functools.partial(loading.load_runs, size=run.frame_size)
    staged = predictors.is_staged(run)
    if staged and quantize_labels:
        quantized = reload(*run.runs, quantize_labels=quantize_labels)
        found[f"{name}, quantized"] = predict(quantized)
        shown.append(f"{name}, quantized")
    if run.run_of("accompanying"):
        plain = reload(*run.runs[:-1])
        found[f"{name}, no stage 3"] = predict(plain)
        shown.append(f"{name}, no stage 3")
    for method in sharpen:
        found[f"{name}, {method}"] = functools.partial(_sharpened, plain, method, horizon)
    if staged and ablate:
        found[true_fusion(name)] = functools.partial(_translate, run)
        shown.append(true_fusion(name))
    return found, tuple(shown) if staged and ablate else ()


def true_fusion(name: str) -> str:
    """The predictor that is shown the true fusion pictures."""
    return f"{name}, true fusion"


def _predict(run, horizon, seen):
    return predictors.predict(run, seen, horizon)


def _translate(run, seen):
    return predictors.translate(run, seen)


def _sharpened(run, method, horizon, seen):
    return {"frames": sharpening.sharpen(method, _predict(run, horizon, seen)["frames"])}
