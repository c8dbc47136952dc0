"""Windows x predictors -> one value per predictor, metric, window and step.

A predictor maps elements (dicts of `clip`, `start` and the context of `frames`, `fusion` and `planes`) to a
dict of what it predicts: `frames`, `fusion` or both, (n, horizon, h, w, 3) in [0, 255].
"""

import collections
import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from vidpred_jax.data import workers
from vidpred_jax.metrics import named


@dataclasses.dataclass
class Table:
    """clips: the clip of each window. values: {predictor: {metric: float32 (windows, horizon)}}.

    shown: windows for people to look at, {"clip", "start", "context", "truth", and "predictions": {predictor:
    frames}}. features: {predictor: (windows, n)}, the truth's too. seconds: where the time went.
    """

    clips: list[str]
    values: dict[str, dict[str, np.ndarray]]
    shown: list[dict] = dataclasses.field(default_factory=list)
    features: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, parts: Sequence["Table"]) -> "Table":
        """The tables of consecutive windows as one."""
        joined = lambda get: np.concatenate([get(part) for part in parts])
        first = parts[0]
        values = {
            name: {metric: joined(lambda part, n=name, m=metric: part.values[n][m]) for metric in of}
            for name, of in first.values.items()
        }
        features = {name: joined(lambda part, n=name: part.features[n]) for name in first.features}
        seconds = collections.Counter()
        for part in parts:
            seconds.update(part.seconds)
        clips = [clip for part in parts for clip in part.clips]
        return cls(clips, values, [e for part in parts for e in part.shown], features, dict(seconds))


def compare(windows: Iterable[tuple], predictors: dict[str, Callable], **options) -> Table:
    """Predicts every window by every predictor and measures it; options as of `parts`."""
    return Table.of(list(parts(windows, predictors, **options)))


def parts(
    windows: Iterable[tuple],
    predictors: dict[str, Callable],
    *,
    context: int,
    metrics: dict[str, named.Metric] | None = None,
    sees: dict[str, tuple[str, ...]] | None = None,
    batch_size: int = 16,
    show: Collection[tuple[str, int]] = (),
    features: Callable = lambda name, frames: None,
    total: int | None = None,
    log: Callable = lambda line: None,
) -> Iterator[Table]:
    """The table of each batch of windows, in order; the next one is read meanwhile.

    windows: (clip, start, element), element[field] of context + horizon pictures. metrics: None is
    PSNR and SSIM of the frames. sees: fields whose future a predictor is given, e.g. {"translator":
    ("fusion",)}. show: (clip, start) of windows to be shown. features: called with each predictor's frames,
    and with "truth" and the true ones; None: none. total: the number of windows, where it is known.
    """
    metrics = named.pixel_metrics("frames") if metrics is None else metrics
    done, start = 0, time.perf_counter()

    def measured(batch, seconds):
        part = _measure(batch, predictors, context, metrics, sees or {}, show, features)
        part.seconds["reading"] = seconds
        return part

    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        for part in workers.in_order(pool, measured, _batches(windows, batch_size), 1):
            done += len(part.clips)
            left = (time.perf_counter() - start) / done * ((total or done) - done)
            log(f"evaluated {done} windows" + f" of {total}, {left / 60:.1f} min left" * bool(total))
            yield part
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _measure(batch, predictors, context, metrics, sees, show, features) -> Table:
    clock = _Clock()
    rows = {name: {} for name in (*predictors, "truth")}
    whole = {f: np.stack([e[f] for _, _, e in batch]) for f in ("frames", "fusion")}
    entries = {i: _entry(*window, context) for i, window in enumerate(batch) if window[:2] in show}
    prepared = {
        label: m.prepare(whole[m.field][:, context:], whole[m.field][:, context - 1])
        for label, m in metrics.items()
    }
    found_features = {"truth": features("truth", whole["frames"][:, context:])}
    for label, metric in metrics.items():
        if metric.of_truth:
            target = whole[metric.field][:, context:]
            rows["truth"][label] = metric.function(target, target, prepared[label])
    clock.lap("measuring")
    for name, predict in predictors.items():
        found = predict(_seen(batch, context, sees.get(name, ())))
        clock.lap("predicting")
        for label, metric in metrics.items():
            if metric.field in found:
                target = whole[metric.field][:, context:]
                pred = found[metric.field]
                if metric.unclipped:
                    pred = found.get("unclipped", pred)
                value = metric.function(pred, target, prepared[label])
                rows[name][label] = np.asarray(value, np.float32)
        if "frames" in found:
            found_features[name] = features(name, found["frames"])
            for i, entry in entries.items():
                # A copy: a view would hold the whole batch.
                entry["predictions"][name] = np.array(found["frames"][i])
        clock.lap("measuring")
    values = {name: of for name, of in rows.items() if of}
    found_features = {name: x for name, x in found_features.items() if x is not None}
    return Table(
        [clip for clip, _, _ in batch], values, list(entries.values()), found_features, clock.seconds
    )


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
            **{f: x if f.split(" ")[0] in future else x[:context] for f, x in element.items()},
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


def _batches(windows, size):
    """([as many windows], the seconds that they took to be read)."""
    batch, start = [], time.perf_counter()
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch, time.perf_counter() - start
            batch, start = [], time.perf_counter()
    if batch:
        yield batch, time.perf_counter() - start
