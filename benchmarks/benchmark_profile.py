"""What takes the time of a traced call, as `benchmarks/benchmark.py --profile` reports it."""

import collections
import pathlib

import jax


def largest(folder: str, count: int = 12) -> list[dict]:
    """The operations of the newest trace below `folder` that took longest, their parts not counted twice.

    Each with its share of all time that the device's queues (GPU: streams; CPU: threads) were busy.
    """
    newest = max(pathlib.Path(folder).rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    total = collections.Counter()
    for plane in jax.profiler.ProfileData.from_file(str(newest)).planes:
        on_device = plane.name.startswith("/device:")
        for line in plane.lines:
            if line.name.startswith("Stream" if on_device else "tf_XLA"):
                total.update(_own_times(line.events, on_device))
    busy = sum(total.values())
    return [
        {"operation": name, "milliseconds": round(time / 1e6, 3), "share": round(time / busy, 3)}
        for name, time in total.most_common(count)
    ]


def _own_times(events, on_device) -> collections.Counter:
    """Nanoseconds of each operation of a queue, without what runs within it (a loop's body)."""
    found, open_ones = collections.Counter(), []
    timed = [(e.start_ns, -e.duration_ns, _name(e, on_device)) for e in events]
    for start, negative, name in sorted(event for event in timed if event[2]):
        while open_ones and open_ones[-1][0] <= start:
            open_ones.pop()
        if open_ones:
            found[open_ones[-1][1]] += negative
        found[name] -= negative
        open_ones.append((start - negative, name))
    return found


def _name(event, on_device) -> str:
    """The operation, on an accelerator with its kernel; "" for what is no operation."""
    operation = dict(event.stats).get("hlo_op", "")
    return f"{operation} {event.name}".strip() if on_device else operation
