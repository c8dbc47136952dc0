"""Predicts the frames after a clip, or after every clip of a data set, and writes what came out.

python scripts/rollout.py                                  # newest runs, sprites' test split
python scripts/rollout.py --video=clip.mp4 --output=out    # your clip

Writes prediction.webm, .gif, fusion.webm, strip.png and, where the truth is known, metrics.json
(per step: ours and every naive baseline).
"""

import itertools
import json
import os
import pathlib
import sys

import jax
import numpy as np
from absl import flags

from vidpred_jax.checkpoints import runs
from vidpred_jax.data import pipeline, segmentation, sizes, video_io
from vidpred_jax.data.datasets import registry
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.evaluation import compare, predictors, strip
from vidpred_jax.inference import loading
from vidpred_jax.metrics import summary
from vidpred_jax.proposals import naive
from vidpred_jax.types import CONTEXT, InputError

_FUSION = flags.DEFINE_string("fusion", None, "Run folder of stage 1; the newest under runs/.")
_TRANSLATOR = flags.DEFINE_string("translator", None, "Run folder of stage 2; the newest.")
_ACCOMPANYING = flags.DEFINE_string(
    "accompanying",
    None,
    "Run folder of stage 3, which sharpens the frames, or newest; default none.",
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
    "The package's own, `real` or `sprites`, instead of runs; real for a video where there are no runs.",
)
_CONFIG = flags.DEFINE_string("data_config", "", "The data set's configuration; its first.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of the data set.")
_CLIPS = flags.DEFINE_integer("clips", 0, "At most this many clips (0: all).", lower_bound=0)
_HORIZON = flags.DEFINE_integer("horizon", 32, "Frames to predict.", lower_bound=1)
_SNAP = flags.DEFINE_integer("quantize_labels", None, "Labels to snap to (0: off); the run's own.")
_SIZE = flags.DEFINE_string(
    "size",
    None,
    "HEIGHTxWIDTH or SIDE of frames, multiples of 32 (of 64 from 363 on), where stage 2 looks at frames "
    "alone, as that of real; the runs'.",
)
_OUTPUT = flags.DEFINE_string("output", "rollout", "Folder to write to.")
_SHOWN_CLIPS = 4


def main(_):
    output = pathlib.Path(_OUTPUT.value)
    video_io.check_writable(output)
    ours = loading.load(
        _FUSION.value,
        _TRANSLATOR.value,
        _ACCOMPANYING.value,
        quantize_labels=_SNAP.value,
        weights=_weights(),
        size=_SIZE.value and sizes.parse(_SIZE.value, f"--size={_SIZE.value}"),
    )
    third = f", stage 3 from {ours.accompanying_run}" if ours.accompanying_run else ""
    print(f"stage 1 from {ours.fusion_run}, stage 2 from {ours.translator_run}{third}", flush=True)
    if _MASKS.value and not _VIDEO.value:
        raise InputError(f"--masks ({_MASKS.value!r}) needs --video")
    windows = iter(_video_windows(ours) if _VIDEO.value else _data_windows(ours))
    first = list(itertools.islice(windows, _SHOWN_CLIPS))
    if not first:
        frames = CONTEXT + _HORIZON.value
        raise InputError(f"no clip of {_DATA.value} {_SPLIT.value} has {frames} frames")
    known = min(len(first[0][2]["frames"]) - CONTEXT, _HORIZON.value)
    _write_pictures(ours, [element for _, _, element in first], output)
    if known < 1:
        print("no frame after the 16 observed ones: the truth is unknown, no metrics.json")
        return
    table = compare.compare(
        itertools.chain(first, windows),
        {
            "ours": lambda seen: {"frames": _predict(ours, seen)["frames"][:, :known]},
            **naive.predictors(known),
        },
        context=CONTEXT,
        log=lambda line: print(line, flush=True),
    )
    found = summary.summarize(table.clips, table.values)
    report = {
        "data": _VIDEO.value or f"{_DATA.value} {_SPLIT.value}",
        "fusion_run": ours.fusion_run,
        "translator_run": ours.translator_run,
        "accompanying_run": ours.accompanying_run,
        "height": ours.frame_size[0],
        "width": ours.frame_size[1],
        "windows": len(table.clips),
        "steps": known,
        "seed": ours.config["seed"],
        "command": " ".join(["python", *sys.argv]),
        "machine": {
            "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
            "cpus": os.cpu_count(),
            "jax": jax.__version__,
        },
        "protocol": "psnr and ssim per frame on 8-bit RGB, means over windows",
        "predictors": found,
    }
    video_io.write_text(output / "metrics.json", json.dumps(report, indent=1) + "\n")
    print(
        f"\n{report['windows']} windows of {report['data']} at {report['width']} x {report['height']}"
    )
    print(summary.format_table(found))
    print(f"wrote {output / 'metrics.json'}")


def _predict(ours, seen):
    return predictors.predict(ours, seen, _HORIZON.value, CONTEXT)


def _weights() -> str | None:
    """Those of the package, where they are asked for or there is no run at all."""
    stages = ("fusion", "translator")
    named = _FUSION.value or _TRANSLATOR.value
    if _WEIGHTS.value or named or any(runs.newest(stage) for stage in stages):
        return _WEIGHTS.value
    return "real" if _VIDEO.value else "sprites"


def _video_windows(ours):
    info = video_io.probe(_VIDEO.value)
    wanted, start = CONTEXT + _HORIZON.value, _START.value
    if 0 < info.num_frames < start + CONTEXT:
        raise InputError(
            f"{_VIDEO.value} has {max(info.num_frames - start, 0)} frames from frame {start} "
            f"on; at least {CONTEXT} are needed"
        )
    frames = video_io.read(_VIDEO.value, start, wanted, at_most=True)
    if len(frames) < CONTEXT:
        raise InputError(
            f"{_VIDEO.value} has {len(frames)} frames from frame {start} on; at least {CONTEXT} are needed"
        )
    if _MASKS.value:
        count = info.num_frames
        if not pathlib.Path(_VIDEO.value).is_dir():
            # A container may not know how many frames it holds, or be wrong by one.
            masks = len(video_io.list_images(_MASKS.value)) if os.path.isdir(_MASKS.value) else 0
            count = masks if not count or abs(masks - count) <= 1 else count
        labels = segmentation.read_masks(
            _MASKS.value, count, frames.shape[1:3], start, start + len(frames)
        )
    else:
        # The future is not looked at: labels come from the observed frames alone.
        labels = np.zeros(frames.shape[:3], np.uint8)
        labels[:CONTEXT] = segmentation.segment(frames[:CONTEXT], _SEGMENTATION.value)
    clip = prepare_clip(pathlib.Path(_VIDEO.value).stem, frames, labels=labels, fps=info.fps)
    frames = {"frames": ours.frame_size}
    element = pipeline.to_batch_element(clip, ours.height, ours.width, frames)
    return [(clip.name, _START.value, element)]


def _data_windows(ours):
    source = registry.open_split(
        _DATA.value, _SPLIT.value, data_dir=_DATA_DIR.value, config=_CONFIG.value
    )
    num_frames = CONTEXT + _HORIZON.value
    windows = pipeline.evaluation_windows(
        source,
        num_frames=num_frames,
        height=ours.height,
        width=ours.width,
        frames={"frames": ours.frame_size},
    )
    return itertools.islice(windows, _CLIPS.value or None)


def _write_pictures(ours, elements, output):
    """Videos and a strip of the first clips: truth, prediction and fusion one above the other."""
    seen = [{k: v[:CONTEXT] for k, v in element.items()} for element in elements]
    found = _predict(ours, seen)
    pictures, frames = found["fusion"], found["frames"]
    rows = []
    for element, picture, frame in zip(elements, pictures, frames, strict=True):
        truth = element["frames"][CONTEXT:]
        if len(truth) >= _HORIZON.value:
            rows.append(("truth", truth))
        rows += [("predicted", frame), ("fusion", picture)]
    videos = {
        "prediction": np.concatenate(list(frames), 2),
        "fusion": np.concatenate(list(pictures), 2),
    }
    for name, video in videos.items():
        for suffix in (".webm", ".gif"):
            video_io.write_video(output / f"{name}{suffix}", video)
            print(f"wrote {output / name}{suffix}")
    video_io.write_image(output / "strip.png", strip.draw(rows))
    print(f"wrote {output / 'strip.png'}", flush=True)
