"""Measures trained runs, naive baselines and predictions of other systems on the same windows.

python scripts/evaluate.py --data=sprites --split=test --output=evaluation
python scripts/evaluate.py --data=davis --runs=none --resolution=128 --stride=8
python scripts/evaluate.py --data=mine --write_windows=windows    # what another system must predict
python scripts/evaluate.py --data=mine --predictions=theirs=DIR   # and how it fares
"""

import functools
import pathlib
import time

import jax
import numpy as np
from absl import flags

from vidpred_jax import metrics, processes
from vidpred_jax.checkpoints import cards
from vidpred_jax.cli import common
from vidpred_jax.data import pipeline, sizes, writing
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import ablations, compare, external, predictors, report, sharing, sharpening
from vidpred_jax.metrics import named, summary
from vidpred_jax.proposals import naive
from vidpred_jax.types import HORIZON, InputError

_DATA = flags.DEFINE_string("data", "sprites", "Prepared data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where data sets are.")
_CONFIG = flags.DEFINE_string("data_config", "", "The data set's configuration; its first.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of the data set.")
_RUNS = flags.DEFINE_multi_string(
    "runs",
    None,
    "A predictor NAME=RUN[,RUN ...] of runs that go together, such as stages 1 and 2; again for another. "
    "`newest`: the newest pair under runs/, called ours, if there is one (the default without --weights); "
    "`none`: no run.",
)
_WEIGHTS = flags.DEFINE_multi_string(
    "weights", [], f"Weights that come with the package, of {', '.join(cards.names())}; again for more."
)
_SHARPEN = flags.DEFINE_list(
    "sharpen", [], f"Also each run sharpened by: {', '.join(sharpening.SHARPENERS)}."
)
_PREDICTIONS = flags.DEFINE_multi_string(
    "predictions", [], "Another system's predictions, NAME=FOLDER; again for another."
)
_BASELINES = flags.DEFINE_list("baselines", list(naive.BASELINES), "Baselines.")
_METRICS = flags.DEFINE_list(
    "metrics", [], f"Of {', '.join(named.METRICS)}; `all`; default those of a report."
)
_FVD = flags.DEFINE_list(
    "fvd", [], "Predictors whose Fréchet video distance is measured too, or `all`: slow on a CPU."
)
_ABLATE = flags.DEFINE_bool(
    "ablate",
    False,
    "Also each run without its networks, each stage, its proposals; given true, another clip's or frozen "
    "maps.",
)
_CLARITY = flags.DEFINE_list(
    "clarity",
    None,
    "Rows of each run that has a choice, as the weights real: from 0, the most accurate mean of what may "
    "come, to 1, one clear future; default 0,1.",
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol",
    "block",
    ["block", "paper"],
    "block: windows side by side; paper: a window at every frame. Only unseen frames count.",
)
_HORIZON = flags.DEFINE_integer("horizon", HORIZON, "Frames to predict.", 1)
_CONTEXT = flags.DEFINE_integer("context", None, "Observed frames; those of the runs, else 16.", 2)
_RESOLUTION = flags.DEFINE_string(
    "resolution", None, "HEIGHTxWIDTH or SIDE at which frames are measured; the runs', else 128."
)
_STRIDE = flags.DEFINE_integer("stride", None, "Frames between windows, over the protocol's.", 1)
_START = flags.DEFINE_integer("start", 0, "First frame of a clip's first window.", 0)
_CLIPS = flags.DEFINE_integer("clips", 0, "At most this many clips (0: all).", 0)
_BATCH = flags.DEFINE_integer(
    "batch_size",
    None,
    "Windows that a process reads and measures together; 16, on several GPUs 16 for each.",
    1,
)
_SHOW = flags.DEFINE_integer("show", 4, "Clips to play on the page and to draw as strips.", 0)
_REFERENCE = flags.DEFINE_string("reference", None, "CSV of published curves to draw beside ours.")
_SEQUENCE = flags.DEFINE_string("reference_sequence", "", "Only its rows of this sequence.")
_WRITE = flags.DEFINE_string("write_windows", None, "Only write each window's frames as npz, here.")
_OUTPUT = flags.DEFINE_string("output", "evaluation", "Folder to write to.")


before = processes.initialize


def main(_):
    with processes.watched():
        _main()


def _main():
    start = time.perf_counter()
    output = pathlib.Path(_WRITE.value or _OUTPUT.value)
    writing.check_writable(output, () if _WRITE.value else ("per_step.csv", "summary.json", "index.html"))
    reference = report.read_reference(_REFERENCE.value, _SEQUENCE.value) if _REFERENCE.value else []
    runs = _RUNS.value or ([] if _WEIGHTS.value else ["newest"])
    devices = jax.local_devices()
    loaded = predictors.load(runs, _WEIGHTS.value, _log, devices if len(devices) > 1 else None)
    loaded = predictors.at_clarities(loaded, _CLARITY.value)
    for name in _WEIGHTS.value:
        _log(f"weights {cards.describe(name)}")
    context = predictors.common_context(loaded, _CONTEXT.value)
    height, width = predictors.common_size(loaded, _RESOLUTION.value)
    wanted = sizes.seen_by((height, width), predictors.sizes_seen(loaded))
    source = registry.open_split(
        _DATA.value, _SPLIT.value, data_dir=_DATA_DIR.value, config=_CONFIG.value, log=_log
    )
    chosen = _metrics(height, width, max(source.num_labels, 2))
    length = context + _HORIZON.value
    stride = _STRIDE.value or (1 if _PROTOCOL.value == "paper" else length)
    places = pipeline.window_places(source, length, stride, _START.value)
    kept = set(list(dict.fromkeys(clip for clip, _ in places))[: _CLIPS.value or None])
    places = [(clip, begin) for clip, begin in places if clip in kept]
    if not places:
        later = f" from frame {_START.value} on" * bool(_START.value)
        raise InputError(f"no clip of {_DATA.value} {_SPLIT.value} has {length} frames{later}")
    _log(f"{len(places)} windows of {len(kept)} clips at {width} x {height}, stride {stride}")
    read = functools.partial(
        pipeline.evaluation_windows,
        source,
        num_frames=length,
        wanted=wanted,
        stride=stride,
        first=_START.value,
    )
    first_of = {}  # {clip: its first window}
    for place in places:
        first_of.setdefault(place[0], place)
    if _WRITE.value:
        names = [f"{external.window_name(*place)}.npz" for place in places]
        write = lambda: _export(read(places=set(places)), context, output, names)
        return processes.in_main_process(write)
    others = {clip: next(read(places={first_of[clip]}))[2] for clip in sorted(kept)[:2]}
    compared, sees, rows = _predictors(loaded, chosen, places, height, width, others)
    seen_by_i3d = _fvd(compared, len(places))
    began = time.perf_counter()
    share = -(-jax.device_count() // jax.process_count())  # Devices of a process: equal in all.
    whole = -(-16 // share) * share if jax.default_backend() == "cpu" else 16 * share
    batch_size = _BATCH.value or whole
    mine = sharing.of_this_process(places, batch_size)
    parts = compare.parts(
        read(places=mine),
        compared,
        context=context,
        metrics=chosen,
        sees=sees,
        batch_size=batch_size,
        show=set(list(first_of.values())[: _SHOW.value]),
        features=lambda row, frames: metrics.i3d_logits(frames) if row in seen_by_i3d else None,
        total=len(mine),
        log=_log,
    )
    table = sharing.joined(list(parts))
    seconds = time.perf_counter() - began
    about = {
        "data": f"{_DATA.value} {_SPLIT.value}",
        "table": predictors.table_kind(loaded, _DATA.value, _SPLIT.value),
        "protocol": f"{_PROTOCOL.value}: {context} frames observed, {_HORIZON.value} predicted, windows "
        f"every {stride} frames from {_START.value} on; means over a clip's windows, then over clips",
        "height": height,
        "width": width,
        "predicted_at": {name: list(run.size) for name, run in loaded.items() if run.size != (height, width)},
        "steps": _HORIZON.value,
        "runs": {name: run.runs for name, run in loaded.items()},
        "seed": {name: run.seed for name, run in loaded.items()},
        "command": common.command(),
        "machine": common.machine(),
        "seconds": round(time.perf_counter() - start, 1),
        "windows_per_second": round(len(places) / seconds, 2),
        "seconds_spent": {name: round(value, 1) for name, value in table.seconds.items()},
        "peak_memory_mib": common.peak_memory_mib(),
    }
    processes.in_main_process(lambda: _report(output, table, about, rows, reference))


def _report(output, table, about, rows, reference):
    written = report.write(
        output,
        table,
        about,
        naive=(*_BASELINES.value, *(row for row, of in rows.items() if of is None)),
        variants={row: of for row, of in rows.items() if of},
        fvd=metrics.fvd(table.features, table.clips, _HORIZON.value),
        reference=reference,
    )
    print(summary.format_table(written["predictors"]))
    for name, found in written.get("fvd", {}).items():
        print(f"FVD {name} {found['value']:.1f} ({found['videos']} videos of {found['frames']} frames)")
    print(f"wrote {output / 'index.html'}, per_step.csv, summary.json, curves and strips")


def _log(line):
    if jax.process_index() == 0:
        print(line, flush=True)


def _metrics(height, width, num_labels) -> dict:
    names = _METRICS.value
    if not names or names == ["all"]:
        extra = ["ssim_paper"] * bool(_REFERENCE.value)
        names = named.METRICS if names else [*named.REPORTED, *extra]
        names = named.possible(names, height, width)
    return named.choose(names, height, width, num_labels)


def _check(flag, names, known):
    for name in names:
        if name not in known:
            raise InputError(f"--{flag}: {name!r} is not one of {', '.join(known)}")


def _predictors(loaded, chosen, places, height, width, others):
    """(predictors, the futures they may see, {row: the run that it is a variant of, or None of a proposal}).

    others: {clip: a window of it} of two clips, or of the only one.
    """
    _check("sharpen", _SHARPEN.value, sharpening.SHARPENERS)

    def other(element):
        return next(window for clip, window in others.items() if clip != element["clip"])

    if len(others) < 2 and _ABLATE.value:
        _log("one clip alone: no row `shuffled fusion`, which needs another clip's maps")
    found, rows, sees = {}, {}, {}
    for name, run in loaded.items():
        variants = ablations.variants(
            name,
            run,
            _HORIZON.value,
            ablate=_ABLATE.value,
            sharpen=_SHARPEN.value,
            other=other if len(others) > 1 else None,
        )
        found |= {row: variant.predict for row, variant in variants.items()}
        sees |= {row: variant.sees for row, variant in variants.items()}
        rows |= {row: name for row in variants if row != name}
        if run.system.networks:
            for proposal, predict in ablations.proposals(run, _HORIZON.value).items():
                taken = proposal in {*loaded, *found} or ", clarity " in name
                row = f"{name}, {proposal}" if taken else proposal
                found[row], rows[row] = predict, None
    for text in _PREDICTIONS.value:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise InputError(f"--predictions={text} must be NAME=FOLDER")
        if name in found or name == "truth":
            raise InputError(f"--predictions={text}: a predictor called {name!r} is there already")
        found[name] = external.Folder(folder, places, _HORIZON.value, height, width)
    baselines = naive.predictors(_HORIZON.value, _BASELINES.value)
    clash = set(baselines) & set(found)
    if clash:
        raise InputError(f"two predictors are called {clash.pop()!r}")
    staged = any("fusion" in run.system.fields for run in loaded.values())
    if staged and "copy_last" in baselines:  # In fusion pictures as well, beside stage 1.
        baselines["copy_last"] = functools.partial(naive.copied, _HORIZON.value)
    found |= baselines
    if not found:
        raise InputError("nothing to evaluate: no run, no --predictions and no --baselines")
    if not staged and all(metric.field == "fusion" for metric in chosen.values()):
        raise InputError(f"--metrics: {', '.join(chosen)} of fusion pictures need a run")
    return found, sees, rows


def _fvd(predictors, num_windows) -> list[str]:
    """The rows whose FVD is asked for, and the truth."""
    clarities = lambda name: [row for row in predictors if row.startswith(f"{name}, clarity ")]
    names = [row for name in _FVD.value for row in clarities(name) or [name]]
    names = list(predictors) if names == ["all"] else names
    if names and (num_windows < 2 or _HORIZON.value < metrics.MIN_I3D_FRAMES):
        raise InputError(
            f"--fvd needs 2 windows and a horizon of {metrics.MIN_I3D_FRAMES} or more, not "
            f"{num_windows} and {_HORIZON.value}"
        )
    _check("fvd", names, predictors)
    if names and not metrics.perceptual_available():
        raise InputError("--fvd needs: pip install 'vidpred_jax[perceptual]'")
    return [*names, "truth"] if names else []


def _export(windows, context, output, names):
    writing.check_writable(output, names)
    writing.renew(output, names)
    count = 0
    for clip, begin, element in windows:
        path = output / f"{external.window_name(clip, begin)}.npz"
        with writing.atomic(path) as temporary, open(temporary, "wb") as stream:
            frames = element["frames"]
            np.savez_compressed(stream, context=frames[:context], truth=frames[context:])
        count += 1
    print(f"wrote {count} windows of `context` and `truth`, uint8 (t, h, w, 3), into {output}")
