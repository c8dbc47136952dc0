"""Variants of a run that stand beside it: what each network and its proposals bring; classical sharpening."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from vidpred_jax.data import sizes
from vidpred_jax.evaluation import predictors, sharpening
from vidpred_jax.inference.predictor import Predictor
from vidpred_jax.proposals import naive


@dataclasses.dataclass(frozen=True)
class Variant:
    """predict: as `compare.compare` takes it. sees: fields whose future it is given."""

    predict: Callable
    sees: tuple[str, ...] = ()


def variants(
    name: str,
    run: Predictor,
    horizon: int,
    *,
    ablate: bool = False,
    sharpen: list[str] = (),
    other: Callable[[dict], dict] | None = None,
) -> dict[str, Variant]:
    """A run and its variants, by the names of their rows; each is the run itself but for what its name says.

    ablate: the rows of --ablate in docs/evaluation.md, as far as the run has what is taken away. other:
    `(element) -> element of another clip`, for `shuffled fusion`. sharpen: of `sharpening.SHARPENERS`.
    """
    found = {name: Variant(functools.partial(_predict, run, horizon))}
    system = run.system
    plain = _without(run, sharpen=None) if system.sharpen else run
    for method in sharpen:
        row = functools.partial(_sharpened, plain, method, horizon)
        found[f"{name}, {method}"] = Variant(row)
    if not ablate or not (system.predict or system.translate):
        return found
    rows, field = {}, system.form.field
    if system.proposals:
        proposed = Predictor(system=system.without_networks, device=run.device)
        rows["no networks"] = Variant(functools.partial(_predict, proposed, horizon))
    else:
        rows["no networks"] = Variant(functools.partial(naive.copied, horizon))
    frozen = Variant(functools.partial(_translated, run, functools.partial(_frozen, horizon)))
    if system.predict and system.translate:
        proposed = functools.partial(_predict, _without(run, predict=None), horizon)
        rows["no stage 1"] = Variant(proposed) if system.proposals else frozen
        plainer = functools.partial(_predict, _without(run, translate=None), horizon)
        rows["no stage 2"] = Variant(plainer)
    if system.sharpen:
        rows["no stage 3"] = Variant(functools.partial(_predict, plain, horizon))
    if system.proposals and system.predict and system.translate:
        alone = _without(run, alone=True)
        rows["no proposals"] = Variant(functools.partial(_predict, alone, horizon))
    if system.translate:
        true = functools.partial(_translated, run, lambda run, element: element)
        rows["true fusion"] = Variant(true, (field,))
        if other is not None:
            shuffled = functools.partial(_shuffled, other)
            rows["shuffled fusion"] = Variant(functools.partial(_translated, run, shuffled))
        rows["frozen fusion"] = frozen
    return found | {f"{name}, {row}": variant for row, variant in rows.items()}


def proposals(run: Predictor, horizon: int) -> dict[str, Callable]:
    """Each of a run's proposals alone, by its name."""
    bare = Predictor(system=run.system.without_networks, device=run.device)
    return {
        name: functools.partial(_predict, _without(bare, proposals={name: proposal}), horizon)
        for name, proposal in bare.system.proposals.items()
    }


def _without(run, **changes) -> Predictor:
    """The same run with parts of its system changed."""
    return Predictor(system=dataclasses.replace(run.system, **changes), device=run.device)


def _predict(run, horizon, seen):
    return predictors.predict(run, seen, horizon)


def _translated(run, maps, seen):
    """Frames by stage 2 from maps that are given: `(run, element) -> the element, its maps going on`, where
    the element is at the run's own size."""
    return predictors.translate(run, seen, functools.partial(maps, run))


def _frozen(horizon, run, element):
    field = run.system.form.field
    still = naive.copy_last(element[field], horizon)
    return {**element, field: np.concatenate([element[field], still])}


def _shuffled(other, run, element):
    field = run.system.form.field
    coming = sizes.at(run.size, other(element))[field][len(element[field]) :]
    return {**element, field: np.concatenate([element[field], coming])}


def _sharpened(run, method, horizon, seen):
    return {"frames": sharpening.sharpen(method, _predict(run, horizon, seen)["frames"])}
