"""Clips x predictors -> per-step tables, the same for ours and for every naive baseline."""

from collections.abc import Callable, Iterable

import numpy as np

from vidpred_jax import baselines, metrics

METRICS = {"psnr": metrics.psnr, "ssim": metrics.ssim}
SHOWN_STEPS = (1, 4, 8, 16, 32)


def compare(
    windows: Iterable[tuple],
    predictors: dict[str, Callable],
    *,
    context: int,
    field: str = "frames",
    hidden: tuple[str, ...] = ("frames", "fusion"),
    batch_size: int = 16,
    log: Callable = lambda line: None,
) -> dict:
    """{predictor: {metric: float array (windows, horizon)}}.

    windows: (name, start, element) with element[field] of context + horizon frames. A predictor
    maps a list of elements, whose `hidden` fields are cut to the context, to pictures (n, horizon,
    h, w, 3) in [0, 255]. Nothing but one batch of predictions is ever held.
    """
    table = {name: {metric: [] for metric in METRICS} for name in predictors}
    done = 0
    for batch in _batches(windows, batch_size):
        target = np.stack([element[field][context:] for _, _, element in batch])
        seen = [
            {k: v[:context] if k in hidden else v for k, v in element.items()}
            for _, _, element in batch
        ]
        for name, predict in predictors.items():
            pred = predict(seen)
            for metric, function in METRICS.items():
                table[name][metric].append(np.asarray(function(pred, target)))
        done += len(batch)
        log(f"evaluated {done} windows")
    return {
        name: {metric: np.concatenate(rows) for metric, rows in found.items()}
        for name, found in table.items()
    }


def _batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def naive_predictors(
    horizon: int, names: Iterable[str] = tuple(baselines.BASELINES), field: str = "frames"
) -> dict:
    """The naive baselines with the interface of `compare`."""

    def batched(function):
        return lambda seen: np.stack([function(element[field], horizon) for element in seen])

    return {name: batched(baselines.BASELINES[name]) for name in names}


def summarize(table: dict) -> dict:
    """{predictor: {metric: {"mean": over steps, "per_step": [...]}}}, means over windows."""
    return {
        name: {
            metric: {
                "mean": round(float(rows.mean()), 4),
                "per_step": [round(float(v), 4) for v in rows.mean(0)],
            }
            for metric, rows in found.items()
        }
        for name, found in table.items()
    }


def format_table(summary: dict) -> str:
    """A text table: PSNR at a few steps, its mean, and the mean SSIM."""
    horizon = len(next(iter(summary.values()))["psnr"]["per_step"])
    shown = [s for s in SHOWN_STEPS if s <= horizon]
    head = [
        f"{'predictor':<14}",
        *(f"{f't+{s}':>7}" for s in shown),
        f"{'PSNR':>8}",
        f"{'SSIM':>7}",
    ]
    lines = ["".join(head)]
    for name, found in summary.items():
        steps = (f"{found['psnr']['per_step'][s - 1]:7.2f}" for s in shown)
        means = f"{found['psnr']['mean']:8.2f}{found['ssim']['mean']:7.3f}"
        lines.append(f"{name:<14}{''.join(steps)}{means}")
    lines.append(f"PSNR in dB at steps, its mean and the mean SSIM over steps 1-{horizon}")
    return "\n".join(lines)
