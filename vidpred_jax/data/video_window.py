"""A window of one video, as `pipeline.evaluation_windows` gives those of a data set."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable

import numpy as np

from vidpred_jax.data import cuts, fusion, masks, pipeline, preparation, video_io
from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.types import InputError


@dataclasses.dataclass(frozen=True)
class Choice:
    """start: the first observed frame; None: the video's last frames are observed. step: each so many-th
    frame is taken. masks: a folder of the video's mask images; None: labels by `segmentation`."""

    start: int | None = 0
    step: int = 1
    masks: str | None = None
    segmentation: str = "motion"


def read(
    path: str | os.PathLike,
    choice: Choice,
    *,
    context: int,
    horizon: int,
    size: tuple[int, int],
    edge_rule: EdgeRule,
    fps: float,
    log: Callable[[str], None] = print,
) -> tuple[str, int, dict]:
    """(name, first observed frame, element) of `context` frames and of those of the next `horizon` that the
    video has, of which `frames` alone go on. Raises InputError.
    """
    start, step = choice.start, choice.step
    if start is None:
        start = max(video_io.count(path) - (context - 1) * step - 1, 0)
    length = (context - 1) * step + 1
    coming = itertools.islice(video_io.frames(path, start, length + horizon * step), 0, None, step)
    frames = list(itertools.islice(coming, context))
    if len(frames) < context:
        raise InputError(
            f"{path} has {len(frames)} frames from frame {start} on; at least {context} are needed"
        )
    # Resized as they come: of a large video all would fill the memory.
    following = [fusion.resize_frames(frame[None], *size) for frame in coming]
    frames, labels = np.stack(frames), None
    if choice.masks:
        count = video_io.count(path)
        labels = masks.read_masks(
            choice.masks, count, frames.shape[1:3], start, start + length, frames=path, log=log
        )
        labels = labels[::step]
    cut = cuts.last(frames)
    if cut:
        cut = start + cut * step
        log(f"a scene cut before frame {cut}: of the observed frames those from there on are used")
    clip = preparation.prepare_clip(
        pathlib.Path(path).stem,
        frames,
        labels=labels,
        method=choice.segmentation,
        edge_rule=edge_rule,
        fps=fps,
        observed=(0, context),
    )
    element = pipeline.to_batch_element(clip, size)
    element["frames"] = np.concatenate([element["frames"], *following])
    return clip.name, start, element
