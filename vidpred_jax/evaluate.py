"""Clips x predictors -> one value per predictor, metric, window and step; ours, naive or foreign.

A predictor maps elements (dicts of `clip`, `start` and the context of `frames` and `fusion`) to a
dict of what it predicts: `frames`, `fusion` or both, (n, horizon, h, w, 3) in [0, 255].
"""

import collections
import concurrent.futures
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterable

import numpy as np

from vidpred_jax import baselines, metrics

SHOWN_STEPS = (1, 4, 8, 16, 32)
_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Metric:
    """function: (pred, target, prepared) -> (n, t); pred and target (n, t, h, w, 3) in [0, 255].

    field: what is compared. prepare: (target, newest observed picture) -> prepared, once for all
    predictors. higher_is_better: None where a value should be the truth's. unclipped: takes a
    predictor's `unclipped` pictures, where it gives them beside the 8-bit ones. of_truth: the truth's
    own value is told as well, as predictor `truth`.
    """

    function: Callable
    prepare: Callable = lambda target, last: None
    field: str = "frames"
    higher_is_better: bool | None = True
    unit: str = ""
    unclipped: bool = False
    of_truth: bool = False

    def best(self, values):
        """The best of some means; None where only the truth's own is good."""
        if self.higher_is_better is None:
            return None
        return (max if self.higher_is_better else min)(values)


def _pairwise(function, **fields):
    return Metric(lambda pred, target, prepared: function(pred, target), **fields)


def miou_metric(num_labels: int) -> Metric:
    return _pairwise(functools.partial(metrics.miou, num_labels=num_labels), field="fusion")


METRICS = {
    "psnr": _pairwise(metrics.psnr, unit="dB"),
    "ssim": _pairwise(metrics.ssim),
    "ssim_paper": _pairwise(metrics.ssim_paper),
    "ssim_openstl": _pairwise(metrics.ssim_openstl),
    "mse_openstl": _pairwise(metrics.mse_openstl, higher_is_better=False, unclipped=True),
    "mae_openstl": _pairwise(metrics.mae_openstl, higher_is_better=False, unclipped=True),
    "ms_ssim_running": _pairwise(metrics.ms_ssim_running),
    "warp_error": Metric(
        lambda pred, target, prepared: metrics.warp_error(pred, *prepared),
        lambda target, last: (metrics.true_flow(target, last), last),
        higher_is_better=None,
        of_truth=True,
    ),
    "lpips": _pairwise(metrics.lpips, higher_is_better=False),
    "fusion_psnr": _pairwise(metrics.psnr, field="fusion", unit="dB"),
    "edge_f1": _pairwise(metrics.edge_f1, field="fusion"),
    "miou": miou_metric(4),
}


def pixel_metrics(field: str) -> dict[str, Metric]:
    """`psnr` and `ssim` of a field."""
    return {name: dataclasses.replace(METRICS[name], field=field) for name in ("psnr", "ssim")}


@dataclasses.dataclass
class Table:
    """clips: the clip of each window. values: {predictor: {metric: float32 (windows, horizon)}}.

    shown: the first windows of as many clips, {"clip", "start", "context", "truth", and
    "predictions": {predictor: frames}}, for people to look at. seconds: where the time went.
    """

    clips: list[str]
    values: dict[str, dict[str, np.ndarray]]
    shown: list[dict]
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def compare(
    windows: Iterable[tuple],
    predictors: dict[str, Callable],
    *,
    context: int,
    metrics: dict[str, Metric] | None = None,
    sees: dict[str, tuple[str, ...]] | None = None,
    batch_size: int = 16,
    show: int = 0,
    observe: Callable = lambda name, frames: None,
    log: Callable = lambda line: None,
) -> Table:
    """Predicts every window by every predictor and measures it; only one batch is ever held.

    windows: (clip, start, element), element[field] of context + horizon pictures. metrics: None is
    PSNR and SSIM of the frames. sees: fields whose future a predictor is given, e.g. {"translator":
    ("fusion",)}. observe: called with each predictor's frames, and with "truth" and the true ones.
    """
    metrics = pixel_metrics("frames") if metrics is None else metrics
    clips, shown, clock = [], [], _Clock()
    rows = {name: collections.defaultdict(list) for name in (*predictors, "truth")}
    for batch in _ahead(_batches(windows, batch_size)):
        whole = {f: np.stack([e[f] for _, _, e in batch]) for f in ("frames", "fusion")}
        # The first window of a clip may be shown.
        new = {clip: i for i, (clip, _, _) in reversed(list(enumerate(batch))) if clip not in clips}
        entries = {i: _entry(*batch[i], context) for i in sorted(new.values())[: show - len(shown)]}
        clock.lap("reading")
        prepared = {
            label: m.prepare(whole[m.field][:, context:], whole[m.field][:, context - 1])
            for label, m in metrics.items()
        }
        observe("truth", whole["frames"][:, context:])
        for label, metric in metrics.items():
            if metric.of_truth:
                target = whole[metric.field][:, context:]
                rows["truth"][label].append(metric.function(target, target, prepared[label]))
        clock.lap("measuring")
        for name, predict in predictors.items():
            found = predict(_seen(batch, context, (sees or {}).get(name, ())))
            clock.lap("predicting")
            for label, metric in metrics.items():
                if metric.field in found:
                    target = whole[metric.field][:, context:]
                    pred = found[metric.field]
                    if metric.unclipped:
                        pred = found.get("unclipped", pred)
                    value = metric.function(pred, target, prepared[label])
                    rows[name][label].append(np.asarray(value, np.float32))
            if "frames" in found:
                observe(name, found["frames"])
                for i, entry in entries.items():
                    # A copy: a view would hold the whole batch.
                    entry["predictions"][name] = np.array(found["frames"][i])
            clock.lap("measuring")
        clips += [clip for clip, _, _ in batch]
        shown += entries.values()
        log(f"evaluated {len(clips)} windows")
    values = {
        name: {label: np.concatenate(parts) for label, parts in found.items()}
        for name, found in rows.items()
        if found
    }
    return Table(clips, values, shown, dict(clock.seconds))


def _entry(clip, start, element, context):
    frames = element["frames"]
    pictures = {"context": np.array(frames[:context]), "truth": np.array(frames[context:])}
    return {"clip": clip, "start": start, **pictures, "predictions": {}}


def _seen(batch, context, future):
    """Elements cut to the context, but for the fields of `future`."""
    return [
        {
            "clip": clip,
            "start": start,
            **{f: x if f in future else x[:context] for f, x in element.items()},
        }
        for clip, start, element in batch
    ]


class _Clock:
    """Seconds since the last lap, added up by what they were spent on."""

    def __init__(self):
        self.seconds, self._last = collections.defaultdict(float), time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name] += now - self._last
        self._last = now


def _batches(items, size):
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(items):
    """The same items, the next one made by a thread while this one is used."""
    made, done, stop = queue.Queue(maxsize=1), object(), threading.Event()

    def put(item):
        while not stop.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make():
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
            put((done, None))
        except BaseException as error:  # Raised where the items are used.
            put((done, error))

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = made.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()


def naive_predictors(
    horizon: int, names: Iterable[str] = tuple(baselines.BASELINES), field: str = "frames"
) -> dict:
    """The naive baselines as predictors of one field."""

    def batched(function):
        def predict(seen):
            with concurrent.futures.ThreadPoolExecutor() as pool:  # OpenCV works without the GIL.
                found = pool.map(lambda e: function(e[field], horizon), seen)
                return {field: np.stack(list(found))}

        return predict

    return {name: batched(baselines.BASELINES[name]) for name in names}


def summarize(table: Table, seed: int = 0) -> dict:
    """{predictor: {metric: {"mean", "low", "high", "per_step", "per_step_low", "per_step_high"}}}.

    Means over a clip's windows, then over clips; "mean" is over steps as well. low and high:
    bootstrap 95 % interval over clips (Efron's percentiles, 2,000 resamples), None for one clip.
    """
    names = list(dict.fromkeys(table.clips))
    number = {name: i for i, name in enumerate(names)}
    place = np.array([number[clip] for clip in table.clips])
    rng, n = np.random.default_rng(seed), len(names)
    # How often each resample holds each clip: its mean is then one matrix product.
    weights = np.empty((_RESAMPLES, n), np.float32)
    for row in weights:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n) / n
    summary = {}
    for name, found in table.values.items():
        summary[name] = {}
        for metric, rows in found.items():
            rows = rows.astype(np.float64)
            by_clip = np.zeros((n, rows.shape[1]))
            np.add.at(by_clip, place, rows)
            by_clip /= np.bincount(place)[:, None]
            overall = _interval(by_clip.mean(1, keepdims=True), weights)
            mean, low, high = (None if values is None else values[0] for values in overall)
            steps = _interval(by_clip, weights)
            summary[name][metric] = {
                **{"mean": mean, "low": low, "high": high},
                **dict(zip(("per_step", "per_step_low", "per_step_high"), steps, strict=True)),
            }
    return summary


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
