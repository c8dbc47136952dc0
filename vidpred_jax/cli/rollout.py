"""Predicts the frames after a clip, or after every clip of a data set, and writes what came out.

python scripts/rollout.py                                  # newest runs, sprites' test split
python scripts/rollout.py --video=clip.mp4 --output=out    # your clip

Writes prediction.webm, .gif, fusion.webm, strip.png and, where the truth is known, metrics.json
(per step: ours, its proposals and every naive baseline).
"""

import itertools
import json
import pathlib

import numpy as np
from absl import flags

from vidpred_jax.checkpoints import cards
from vidpred_jax.cli import common
from vidpred_jax.data import cuts, masks, pipeline, preparation, segmentation, sizes, video_io, writing
from vidpred_jax.data.datasets import registry
from vidpred_jax.evaluation import ablations, compare, predictors, strip
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
_SHOWN_CLIPS, _SUFFIXES, _FPS = 4, (".webm", ".gif"), 12.0


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    names = [f"{name}{suffix}" for name in ("prediction", "fusion") for suffix in _SUFFIXES]
    writing.check_writable(output, [*names, "strip.png", "metrics.json"])
    for given, what in ((_VIDEO.value, "frames"), (_MASKS.value, "masks")):
        if given and output.resolve() == pathlib.Path(given).resolve():
            raise InputError(f"--output={output} is the folder of the video's {what}; name another")
    if _MASKS.value and not _VIDEO.value:
        raise InputError(f"--masks ({_MASKS.value!r}) needs --video")
    ours, fps = _load(), _FPS
    if _VIDEO.value:
        info = video_io.probe(_VIDEO.value)
        ours, fps = ours.at_aspect(info.height, info.width), info.fps
    windows = _video_windows(ours, fps) if _VIDEO.value else _data_windows(ours)
    first = next(windows, None)
    if first is None:
        frames = ours.context + _HORIZON.value
        raise InputError(f"no clip of {_DATA.value} {_SPLIT.value} has {frames} frames")
    known = min(len(first[2]["frames"]) - ours.context, _HORIZON.value)
    shown, elements = [], []

    def predict(seen):
        """Predicted once: the first are shown as well."""
        found = predictors.predict(ours, seen, _HORIZON.value)
        room = _SHOWN_CLIPS - len(shown)
        for i in range(min(room, len(seen))):
            shown.append({field: np.array(video[i]) for field, video in found.items()})
        return {"frames": found["frames"][:, :known]}

    def remembered(windows):
        for window in windows:
            if len(elements) < _SHOWN_CLIPS:
                elements.append(window[2])
            yield window

    if known < 1:
        elements.append(first[2])
        predict([first[2]])
        _write_pictures(ours, elements, shown, output, (), fps)
        print(f"no frame after the {ours.context} observed ones: the truth is unknown, no metrics.json")
        return
    table = compare.compare(
        remembered(itertools.chain([first], windows)),
        {"ours": predict, **_baselines(ours, known)},
        context=ours.context,
        log=lambda line: print(line, flush=True),
    )
    _write_pictures(ours, elements, shown, output, ("metrics.json",), fps)
    found = summary.summarize(table.clips, table.values)
    report = {
        "data": _VIDEO.value or f"{_DATA.value} {_SPLIT.value}",
        "runs": ours.runs,
        "clarity": ours.clarity,
        "height": ours.size[0],
        "width": ours.size[1],
        "windows": len(table.clips),
        "steps": known,
        "seed": ours.seed,
        "command": common.command(),
        "machine": common.machine(),
        "protocol": "psnr and ssim per frame on 8-bit RGB, means over windows",
        "predictors": found,
    }
    writing.write_text(output / "metrics.json", json.dumps(report, indent=1) + "\n")
    print(f"\n{report['windows']} windows of {report['data']} at {report['width']} x {report['height']}")
    print(summary.format_table(found))
    for name in ours.system.proposals if ours.system.networks else ():
        added = found["ours"]["psnr"]["mean"] - found[name]["psnr"]["mean"]
        print(f"the networks add {added:+.2f} dB to the proposal {name}")
    print(f"wrote {output / 'metrics.json'}")


def _baselines(ours, known):
    """The run's proposals, where it has networks beside them, and the naive baselines."""
    proposals = ablations.proposals(ours, known) if ours.system.networks else {}
    return {**proposals, **naive.predictors(known)}


def _load():
    """The predictor, told with the reason why these runs were taken."""
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
    return _told(loading.load(*named, size=size, step=_STEP.value), why)


def _told(ours, why):
    """The predictor at the clarity asked for."""
    ours = ours if _CLARITY.value is None else ours.at_clarity(_CLARITY.value)
    at = "" if ours.clarity is None else f", clarity {ours.clarity:g}"
    print(f"predicting with {', '.join(ours.described)} ({why}){at}", flush=True)
    return ours


def _video_windows(ours, fps):
    wanted, start, context = ours.context + _HORIZON.value, _START.value, ours.context
    frames = video_io.read(_VIDEO.value, start, wanted, at_most=True)
    if len(frames) < context:
        raise InputError(
            f"{_VIDEO.value} has {len(frames)} frames from frame {start} on; at least {context} are needed"
        )
    labels = None
    if _MASKS.value:
        window = start, start + len(frames)
        count = video_io.count(_VIDEO.value)
        labels = masks.read_masks(_MASKS.value, count, frames.shape[1:3], *window, frames=_VIDEO.value)
    cut = cuts.last(frames[:context])
    if cut:
        print(f"a scene cut before frame {start + cut}: of the observed frames those from there on are used")
    clip = preparation.prepare_clip(
        pathlib.Path(_VIDEO.value).stem,
        frames,
        labels=labels,
        method=_SEGMENTATION.value,
        edge_rule=ours.edge_rule,
        fps=fps,
        observed=(0, context),
    )
    yield clip.name, start, pipeline.to_batch_element(clip, ours.size)


def _data_windows(ours):
    source = registry.open_split(_DATA.value, _SPLIT.value, data_dir=_DATA_DIR.value, config=_CONFIG.value)
    return pipeline.evaluation_windows(
        source, num_frames=ours.context + _HORIZON.value, wanted=[ours.size], clips=_CLIPS.value or None
    )


def _write_pictures(ours, elements, shown, output, others, fps):
    """Videos and a strip of the first clips: truth, prediction and fusion one above the other.

    others: names of files that will be written beside them.
    """
    rows = []
    for element, found in zip(elements, shown, strict=True):
        truth = element["frames"][ours.context :]
        if len(truth) >= _HORIZON.value:
            rows.append(("truth", truth))
        rows.append(("predicted", found["frames"]))
        if "fusion" in found:
            rows.append(("fusion", found["fusion"]))
    names = {"prediction": "frames", "fusion": "fusion"}
    names = {name: field for name, field in names.items() if field in shown[0]}
    videos = [f"{name}{suffix}" for name in names for suffix in _SUFFIXES]
    writing.renew(output, [*videos, "strip.png", *others])
    for name, field in names.items():
        video = np.concatenate([found[field] for found in shown], 2)
        for suffix in _SUFFIXES:
            video_io.write_video(output / f"{name}{suffix}", video, fps)
            print(f"wrote {output / name}{suffix}")
    video_io.write_image(output / "strip.png", strip.draw(rows))
    print(f"wrote {output / 'strip.png'}", flush=True)
