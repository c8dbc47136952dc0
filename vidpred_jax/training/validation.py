"""Validation while a run trains: its windows, how each stage predicts them, its summary."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vidpred_jax import metrics, processes
from vidpred_jax.data import fusion, pipeline
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.inference import rollout
from vidpred_jax.metrics import summary
from vidpred_jax.proposals import naive
from vidpred_jax.types import CONTEXT

_AT_ONCE = 16  # Windows predicted at once.


def windows(config: dict, log) -> list:
    """Windows of the validation split's first `evaluation.clips` clips that are long enough; an empty
    list if it has none, or `data.split` trains on it: nothing is chosen by clips that were learnt.

    A clip's windows begin every `evaluation.stride` frames; it has one where that is not set.
    """
    data, options = config["data"], config["evaluation"]
    builder = registry.open_builder(
        data["name"], data_dir=data["data_dir"], config=data["config"], log=log
    )
    if "validation" not in builder.info.splits:
        return []
    if "validation" in data.get("split", "train").split("+"):
        log(f"no validation: data.split ({data['split']!r}) trains on it")
        return []
    source, length = clips.Source(builder, "validation"), CONTEXT + options["horizon"]
    long_enough = dict.fromkeys(clip for clip, _ in pipeline.window_places(source, length))
    kept = set(itertools.islice(long_enough, options["clips"]))
    found = list(
        pipeline.evaluation_windows(
            source,
            num_frames=length,
            height=data["height"],
            width=data["width"],
            stride=options.get("stride") or None,
            only=kept,
        )
    )
    log(f"validation: {len(found)} windows of {length} frames, of {len(kept)} clips")
    return found


def make_rollout_predict(model, horizon: int, quantize_labels: int = 0, field: str = "fusion"):
    """`(state, seen) -> uint8 (n, horizon, h, w, 3)`: the rollout of a field of each element."""
    roll = jax.jit(
        rollout.make_rollout(
            model, horizon, quantize_labels=quantize_labels, finish=fusion.to_uint8
        )
    )

    def predict(current, seen):
        context = fusion.to_float(jnp.asarray(np.stack([e[field][:CONTEXT] for e in seen])))
        return np.asarray(roll(current.ema, context))

    return predict


def make_translator_predict(model, predictor=None, horizon: int = 0, quantize_labels: int = 0):
    """The same for RGB frames: the whole pipeline where stage 1 (`predictor`) is at hand, else the
    translator alone, from the true fusion pictures after the context.
    """

    @jax.jit
    def predict_all(variables, frozen, frames, pictures):
        observed = fusion.to_float(pictures[:, :CONTEXT])
        seen = rollout.references(fusion.to_float(frames), observed, model.reference_frames)
        if predictor is not None:
            roll = rollout.make_rollout(
                predictor,
                horizon,
                quantize_labels=quantize_labels,
                translate=model.apply,
                finish=fusion.to_uint8,
            )
            return roll(frozen, observed, variables, seen)[1]
        return rollout.translate_pictures(
            model.apply, variables, pictures[:, CONTEXT:], seen, finish=fusion.to_uint8
        )

    def predict(current, seen):
        variables = {"params": current.ema, "batch_stats": current.batch_stats["g"]}
        frames = np.stack([e["frames"][:CONTEXT] for e in seen])
        pictures = np.stack([e["fusion"] for e in seen])
        return np.asarray(predict_all(variables, current.frozen, frames, pictures))

    return predict


def validate(experiment, current, windows, show: int = 3) -> tuple[dict, list]:
    """Summary of ours (an Experiment) beside copy-last on windows, and what ours predicts of the first
    `show`; both are empty if there are no windows.
    """
    if not windows:
        return {}, []
    current, field = processes.to_host(current), experiment.field
    horizon = len(windows[0][2]["frames"]) - CONTEXT
    # The translator alone is given the true fusion pictures of the future.
    future = () if field == "fusion" else ("fusion",)
    predictors = {"ours": experiment.predict, **experiment.beside}
    rows, shown = collections.defaultdict(lambda: collections.defaultdict(list)), []
    for start in range(0, len(windows), _AT_ONCE):
        elements = [element for _, _, element in windows[start : start + _AT_ONCE]]
        seen = [
            {f: x if f in future else x[:CONTEXT] for f, x in element.items()}
            for element in elements
        ]
        target = np.stack([element[field][CONTEXT:] for element in elements])
        found = {name: predict(current, seen) for name, predict in predictors.items()}
        found["copy_last"] = np.stack([naive.copy_last(e[field], horizon) for e in seen])
        shown.extend(np.array(found["ours"][: show - len(shown)]))
        for name, pred in found.items():
            for window in zip(pred, target, strict=True):
                rows[name]["psnr"].append(metrics.psnr(*window))
                rows[name]["ssim"].append(metrics.ssim(*window))
    values = {
        name: {metric: np.stack(parts) for metric, parts in by_metric.items()}
        for name, by_metric in rows.items()
    }
    return summary.summarize([clip for clip, _, _ in windows], values), shown
