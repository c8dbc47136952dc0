"""Windows x predictors -> one value per predictor, metric, window and step.

A predictor maps elements (dicts of `clip`, `start` and the context of `frames`, `fusion` and `planes`) to a
dict of what it predicts: `frames`, `fusion` or both, (n, horizon, h, w, 3) in [0, 255].
"""

import collections
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterable

import numpy as np

from vidpred_jax.metrics import named


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
    metrics: dict[str, named.Metric] | None = None,
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
    metrics = named.pixel_metrics("frames") if metrics is None else metrics
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
