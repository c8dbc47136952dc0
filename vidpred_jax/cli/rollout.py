"""Predicts the frames after a clip, or after every clip of a data set, and writes what came out.

python scripts/rollout.py                                  # newest runs, sprites' test split
python scripts/rollout.py --video=clip.mp4 --output=out    # your clip; --after: past its end

Writes prediction.mp4 (the observed frames in a blue border, then the predicted ones), strip.png and
index.html, which plays both beside the truth and the maps; where the truth is known also comparison.mp4 and
metrics.json (per step: ours, its proposals and every naive baseline).
"""

import itertools
import json
import pathlib
import time

import numpy as np
from absl import flags

from vidpred_jax.checkpoints import cards
from vidpred_jax.cli import common
from vidpred_jax.data import pipeline, segmentation, sizes, video_io, video_window, writing
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import ablations, compare, outcome, predictors
from vidpred_jax.inference import loading
from vidpred_jax.metrics import summary
from vidpred_jax.proposals import naive
from vidpred_jax.types import InputError

_RUNS = flags.DEFINE_list(
    "runs", [], "Runs that go together, or one that predicts frames itself; the newest pair."
)
_VIDEO = flags.DEFINE_string("video", None, "Video file or folder of frames to predict.")
_MASKS = flags.DEFINE_string("masks", None, "Folder of the video's mask images, one a frame.")
_SEGMENTATION = flags.DEFINE_string(
    "segmentation", "motion", f"Labels where there are no masks: {', '.join(segmentation.METHODS)}."
)
_START = flags.DEFINE_integer("start", 0, "First observed frame of the video.", lower_bound=0)
_AFTER = flags.DEFINE_bool("after", False, "Observe the video's last frames and predict what follows them.")
_FRAME_STEP = flags.DEFINE_integer(
    "frame_step", 1, "Take each so many-th frame of the video, as 2 of 60 fps.", 1
)
_DATA = flags.DEFINE_string("data", "sprites", "Prepared data set to predict without --video.")
_DATA_DIR = flags.DEFINE_string("data_dir", "data", "Where data sets are.")
_WEIGHTS = flags.DEFINE_string(
    "weights",
    None,
    f"The package's own, of {', '.join(cards.names())}, instead of runs; real for a video where there are no "
    "runs.",
)
_CONFIG = flags.DEFINE_string("data_config", "", "The data set's configuration; its first.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of the data set.")
_CLIPS = flags.DEFINE_integer("clips", 0, "At most this many clips (0: all).", lower_bound=0)
_HORIZON = flags.DEFINE_integer("horizon", 32, "Frames to predict.", lower_bound=1)
_STEP = flags.DEFINE_integer("step", None, "Checkpoint of the named runs; the best by validation.", 0)
_SIZE = flags.DEFINE_string(
    "size",
    None,
    "HEIGHTxWIDTH or SIDE of frames. Multiples of 32 fit (of real of 64 from 363 on). Default: the video's "
    "aspect, with the lesser side of training.",
)
_CLARITY = flags.DEFINE_float(
    "clarity",
    None,
    "From 0, the most accurate mean of what may come, to 1, one clear future (the default of weights that "
    "have a choice, as real).",
    0.0,
    1.0,
)
_OUTPUT = flags.DEFINE_string("output", "rollout", "Folder to write to.")
_GIF = flags.DEFINE_bool("gif", False, "Write prediction.gif too.")
_SAVE_FRAMES = flags.DEFINE_bool("save_frames", False, "Write each predicted frame and map as PNG too.")
_SHOWN_CLIPS, _FPS = 4, 12.0


def main(_):
    begin, output = time.perf_counter(), pathlib.Path(_OUTPUT.value)
    files = ("prediction.mp4", "comparison.mp4", "prediction.gif", "strip.png", "index.html", "metrics.json")
    writing.check_writable(output, files)
    _check_flags(output)
    (ours, weights), fps, shape = _load(), _FPS, None
    if _VIDEO.value:
        info = video_io.probe(_VIDEO.value)
        ours, fps = ours.at_aspect(info.height, info.width), info.fps / _FRAME_STEP.value
        shape = None if _SIZE.value else _exact(ours.size, info)
    windows = iter([_video_window(ours, fps)]) if _VIDEO.value else _data_windows(ours)
    first = next(windows, None)
    if first is None:
        frames = ours.context + _HORIZON.value
        raise InputError(f"no clip of {_DATA.value} {_SPLIT.value} has {frames} frames")
    known = min(len(first[2]["frames"]) - ours.context, _HORIZON.value)
    shown = []

    def predict(seen):
        """Predicted once: the first are shown as well."""
        found = predictors.predict(ours, seen, _HORIZON.value)
        room = _SHOWN_CLIPS - len(shown)
        for i in range(min(room, len(seen))):
            shown.append({field: np.array(video[i]) for field, video in found.items()})
        return {"frames": found["frames"][:, :known]}

    kept, windows = _remembered(itertools.chain([first], windows))
    if known < 1:
        predict([next(windows)[2]])
        found, counts = {}, {}
    else:
        table = compare.compare(
            windows,
            {"ours": predict, **_baselines(ours, known)},
            context=ours.context,
            log=lambda line: print(line, flush=True),
        )
        found = summary.summarize(table.clips, table.values)
        counts = {"windows": len(table.clips), "steps": known}
    about = {
        "data": _VIDEO.value or f"{_DATA.value} {_SPLIT.value}",
        "weights": weights,
        "runs": ours.runs,
        "clarity": ours.clarity,
        "height": ours.size[0],
        "width": ours.size[1],
        **counts,
        "seed": ours.seed,
        "command": common.command(),
        "machine": common.machine(),
        "seconds": round(time.perf_counter() - begin, 1),
        "protocol": "psnr and ssim per frame on 8-bit RGB, means over windows",
    }
    _write(output, ours, kept, shown, found, about, fps, shape)
    if not found:
        print(f"no frame after the {ours.context} observed ones: the truth is unknown, no metrics.json")
        return
    report = json.dumps({**about, "predictors": found}, indent=1) + "\n"
    writing.write_text(output / "metrics.json", report)
    print(f"\n{counts['windows']} windows of {about['data']} at {about['width']} x {about['height']}")
    print(summary.format_table(found))
    for name in ours.system.proposals if ours.system.networks else ():
        added = found["ours"]["psnr"]["mean"] - found[name]["psnr"]["mean"]
        print(f"the networks add {added:+.2f} dB to the proposal {name}")
    print(f"wrote {output / 'metrics.json'}")


def _check_flags(output):
    folders = [output, *(output / name for name in ("frames", "fusion") if _SAVE_FRAMES.value)]
    for given, what in ((_VIDEO.value, "frames"), (_MASKS.value, "masks")):
        if given and pathlib.Path(given).resolve() in [folder.resolve() for folder in folders]:
            raise InputError(f"--output: {given} is the folder of the video's {what}; name another")
    for flag in (_MASKS, _AFTER, _FRAME_STEP):
        if flag.value != flag.default and not _VIDEO.value:
            raise InputError(f"--{flag.name} ({flag.value!r}) needs --video")
    if _AFTER.value and _START.value:
        raise InputError(f"--start={_START.value} and --after name different frames; give one")


def _exact(size, info):
    """The video's own aspect in even numbers, as near to a size as that."""
    height = size[0] + size[0] % 2
    return height, max(2 * round(height * info.width / info.height / 2), 2)


def _remembered(windows):
    """(the first windows, which fill up as they come by; the windows)."""
    kept = []

    def passing():
        for window in windows:
            if len(kept) < _SHOWN_CLIPS:
                kept.append(window)
            yield window

    return kept, passing()


def _write(output, ours, kept, shown, found, about, fps, shape):
    """All but metrics.json, and what was done in a sentence."""
    context, clips = ours.context, []
    for (name, start, element), predicted in zip(kept, shown, strict=True):
        frames, fusion = element["frames"], predicted.get("fusion")
        truth = frames[context : context + _HORIZON.value]
        title = f"{name}, frames {start} to {start + (context - 1) * _FRAME_STEP.value}"
        clip = outcome.Clip(title, frames[:context], truth, predicted["frames"], fusion)
        clips.append(clip.resized(*shape) if shape else clip)
    observed = clips[0].title if _VIDEO.value else f"{context} frames of each clip"
    length = f", {_HORIZON.value / fps:.2f} s," if _VIDEO.value else ""
    told = f"{observed}, observed; the {_HORIZON.value} after them{length} predicted by "
    told += f"{about['weights'] or ', '.join(ours.described)} on {about['machine']['devices']}"
    print(told, flush=True)
    outcome.write(
        output,
        clips,
        fps=fps,
        headline=told,
        found=found,
        naive=tuple(naive.BASELINES),
        about=about,
        others=("metrics.json",) if found else (),
        gif=_GIF.value,
        save_frames=_SAVE_FRAMES.value,
    )
    print(f"wrote {', '.join(outcome.names(clips, gif=_GIF.value))} in {output}", flush=True)


def _baselines(ours, known):
    """The run's proposals, where it has networks beside them, and the naive baselines."""
    proposals = ablations.proposals(ours, known) if ours.system.networks else {}
    return {**proposals, **naive.predictors(known)}


def _load():
    """(the predictor, told with the reason why these runs were taken; which of the package's weights)."""
    named, weights, why = _RUNS.value, _WEIGHTS.value, "as named"
    if named and weights:
        raise InputError("--weights are instead of --runs")
    if weights:
        named, why = cards.runs_of(weights), f"weights {cards.describe(weights)}"
    elif not named:
        # Runs on embedded sets know no real video.
        accept = lambda data: not _VIDEO.value or data not in registry.EMBEDDED
        named, why = loading.find(accept=accept, otherwise="real" if _VIDEO.value else "sprites")
    size = _SIZE.value and sizes.parse(_SIZE.value, f"--size={_SIZE.value}")
    ours = loading.load(*named, size=size, step=_STEP.value)
    ours = ours if _CLARITY.value is None else ours.at_clarity(_CLARITY.value)
    at = "" if ours.clarity is None else f", clarity {ours.clarity:g}"
    print(f"predicting with {', '.join(ours.described)} ({why}){at}", flush=True)
    return ours, why.split(":")[0] if why.startswith("weights") else ""


def _video_window(ours, fps):
    start = None if _AFTER.value else _START.value
    choice = video_window.Choice(start, _FRAME_STEP.value, _MASKS.value, _SEGMENTATION.value)
    wanted = {"context": ours.context, "horizon": _HORIZON.value, "size": ours.size}
    return video_window.read(_VIDEO.value, choice, **wanted, edge_rule=ours.edge_rule, fps=fps)


def _data_windows(ours):
    source = registry.open_split(_DATA.value, _SPLIT.value, data_dir=_DATA_DIR.value, config=_CONFIG.value)
    return pipeline.evaluation_windows(
        source, num_frames=ours.context + _HORIZON.value, wanted=[ours.size], clips=_CLIPS.value or None
    )
