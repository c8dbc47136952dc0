"""Tables of an evaluation in figures: means over clips, their intervals, and text to read."""

import functools

import numpy as np

SHOWN_STEPS = (1, 4, 8, 16, 32)
_RESAMPLES = 2000


def summarize(
    clips: list[str], values: dict[str, dict[str, np.ndarray]], seed: int = 0
) -> dict[str, dict[str, dict]]:
    """{predictor: {metric: {"mean", "low", "high", "per_step", "per_step_low", "per_step_high"}}}.

    clips: the clip of each window. values: {predictor: {metric: (windows, steps)}}.
    Means over a clip's windows, then over clips; "mean" is over steps as well. low and high:
    bootstrap 95 % interval over clips (Efron's percentiles, 2,000 resamples), None for one clip.
    """
    weights, summary = _resamples(len(set(clips)), seed), {}
    for name, found in values.items():
        summary[name] = {}
        for metric, rows in found.items():
            by_clip = _by_clip(clips, rows)
            steps = _interval(by_clip, weights)
            summary[name][metric] = {
                **_overall(by_clip, weights),
                **dict(zip(("per_step", "per_step_low", "per_step_high"), steps, strict=True)),
            }
    return summary


def differences(
    clips: list[str], values: dict[str, dict[str, np.ndarray]], name: str, against: str, seed: int = 0
) -> dict[str, dict]:
    """{metric: {"mean", "low", "high"}} of one predictor minus another, paired over clips.

    Arguments and intervals as of `summarize`, by the same resamples; metrics that both have. A clip's
    difference is the mean over its windows and steps.
    """
    weights = _resamples(len(set(clips)), seed)
    ours, theirs = values[name], values[against]
    return {
        metric: _overall(_by_clip(clips, ours[metric]) - _by_clip(clips, theirs[metric]), weights)
        for metric in ours
        if metric in theirs
    }


@functools.lru_cache(maxsize=1)
def _resamples(n: int, seed: int):
    """How often each resample holds each of n clips, over n: its mean is then one matrix product."""
    rng, weights = np.random.default_rng(seed), np.empty((_RESAMPLES, n), np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n) / n
    return weights


def _by_clip(clips, rows):
    """(windows, steps) -> means over each clip's windows, (clips, steps)."""
    number = {name: i for i, name in enumerate(dict.fromkeys(clips))}
    place = np.array([number[clip] for clip in clips])
    by_clip = np.zeros((len(number), rows.shape[1]))
    np.add.at(by_clip, place, rows.astype(np.float64))
    return by_clip / np.bincount(place)[:, None]


def _overall(by_clip, weights):
    """Mean over steps and clips, with its interval."""
    found = _interval(by_clip.mean(1, keepdims=True), weights)
    values = (None if value is None else value[0] for value in found)
    return dict(zip(("mean", "low", "high"), values, strict=True))


def _interval(by_clip, weights):
    """Mean, low and high of (clips, k), as lists of k; low and high None for one clip."""
    rounded = lambda values: [round(float(v), 5) for v in values]
    if len(by_clip) < 2:
        return rounded(by_clip.mean(0)), None, None
    low, high = np.percentile(weights @ by_clip, (2.5, 97.5), axis=0)
    return rounded(by_clip.mean(0)), rounded(low), rounded(high)


def format_table(summary: dict) -> str:
    """A text table: PSNR at a few steps, its mean, and the mean of every other metric."""
    others = list(dict.fromkeys(m for found in summary.values() for m in found if m != "psnr"))
    horizon = max(len(x["per_step"]) for found in summary.values() for x in found.values())
    shown = [s for s in SHOWN_STEPS if s <= horizon]
    width = max(map(len, summary)) + 2
    head = f"{'predictor':<{width}}" + "".join(f"{f't+{s}':>7}" for s in shown) + f"{'psnr':>8}"
    lines = [head + "".join(f"{m:>{max(len(m), 6) + 2}}" for m in others)]
    for name, found in summary.items():
        line = f"{name:<{width}}"
        if "psnr" in found:
            line += "".join(f"{found['psnr']['per_step'][s - 1]:7.2f}" for s in shown)
            line += f"{found['psnr']['mean']:8.2f}"
        else:
            line += " " * (7 * len(shown) + 8)
        for metric in others:
            value = f"{found[metric]['mean']:.3f}" if metric in found else ""
            line += f"{value:>{max(len(metric), 6) + 2}}"
        lines.append(line.rstrip())
    lines.append(f"psnr (dB) at steps; then means over steps 1-{horizon}")
    return "\n".join(lines)
