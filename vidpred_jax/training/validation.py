"""Validation while a run trains: its windows, how each stage predicts them, its summary."""

import collections

import numpy as np

from vidpred_jax import metrics, processes
from vidpred_jax.data import pipeline
from vidpred_jax.data.datasets import clips, registry
from vidpred_jax.metrics import summary
from vidpred_jax.proposals import naive

_AT_ONCE = 16  # Windows predicted at once.


def windows(config: dict, log) -> list:
    """Windows of the validation split's first `evaluation.clips` clips that are long enough; an empty
    list if it has none, or `data.split` trains on it: nothing is chosen by clips that were learnt.

    A clip's windows begin every `evaluation.stride` frames; it has one where that is not set.
    """
    data, options = config["data"], config["evaluation"]
    builder = registry.open_builder(data["name"], data_dir=data["data_dir"], config=data["config"], log=log)
    if "validation" not in builder.info.splits:
        return []
    if "validation" in data["split"].split("+"):
        log(f"no validation: data.split ({data['split']!r}) trains on it")
        return []
    length = config["context"] + options["horizon"]
    found = list(
        pipeline.evaluation_windows(
            clips.Source(builder, "validation"),
            num_frames=length,
            wanted=[(data["height"], data["width"])],
            stride=options["stride"] or None,
            clips=options["clips"],
        )
    )
    kept = {clip for clip, _, _ in found}
    log(f"validation: {len(found)} windows of {length} frames, of {len(kept)} clips")
    return found


def validate(experiment, current, windows) -> tuple[dict, list]:
    """Summary of ours (an Experiment) beside copy-last on windows, and what ours predicts of the first
    three; both are empty if there are no windows.
    """
    if not windows:
        return {}, []
    current, field = processes.to_host(current), experiment.field
    context = experiment.config["context"]
    horizon = len(windows[0][2][field]) - context
    predictors = {"ours": experiment.predict, **experiment.beside}
    rows, shown = collections.defaultdict(lambda: collections.defaultdict(list)), []
    for start in range(0, len(windows), _AT_ONCE):
        elements = [element for _, _, element in windows[start : start + _AT_ONCE]]
        seen = [
            {f: x if f in experiment.needs_future else x[:context] for f, x in element.items()}
            for element in elements
        ]
        target = np.stack([element[field][context:] for element in elements])
        found = {name: predict(current, seen) for name, predict in predictors.items()}
        found["copy_last"] = np.stack([naive.copy_last(e[field], horizon) for e in seen])
        shown.extend(np.array(found["ours"][: 3 - len(shown)]))
        for name, pred in found.items():
            for window in zip(pred, target, strict=True):
                rows[name]["psnr"].append(metrics.psnr(*window))
                rows[name]["ssim"].append(metrics.ssim(*window))
    values = {
        name: {metric: np.stack(parts) for metric, parts in by_metric.items()}
        for name, by_metric in rows.items()
    }
    return summary.summarize([clip for clip, _, _ in windows], values), shown


def discriminate(experiment, current, windows) -> float | None:
    """The area under the curve with which the discriminator tells true frames of windows from predicted
    ones: .5 at chance, 1 without an error; None without discriminator or windows."""
    if not windows or experiment.judge is None:
        return None
    current, scores = processes.to_host(current), []
    for start in range(0, len(windows), _AT_ONCE):
        elements = [element for _, _, element in windows[start : start + _AT_ONCE]]
        scores.append(experiment.judge(current, elements))
    return area_under_curve(*(np.concatenate(x) for x in zip(*scores, strict=True)))


def area_under_curve(higher: np.ndarray, lower: np.ndarray) -> float:
    """The chance that one of `higher` is above one of `lower`; equal ones count half."""
    lower = np.sort(lower, axis=None)
    below, up_to = (np.searchsorted(lower, higher.ravel(), side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * lower.size))
