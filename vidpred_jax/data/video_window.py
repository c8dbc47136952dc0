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
    newest = start + (context - 1) * step
    needed = newest + 1 - start
    frames = video_io.read(path, start, needed, at_most=True)
    if len(frames) < needed:
        raise InputError(
            f"{path} has {len(frames)} frames from frame {start} on; at least {needed} are needed"
        )
    frames = frames[::step]
    labels = None
    if choice.masks:
        count = video_io.count(path)
        options = {"start": start, "stop": newest + 1, "frames": path, "log": log}
        labels = masks.read_masks(choice.masks, count, frames.shape[1:3], **options)[::step]
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
    name, element = clip.name, pipeline.to_batch_element(clip, size)
    del clip, frames, labels  # Of a large video they fill the memory; what follows is resized as it comes.
    coming = itertools.islice(video_io.frames(path, newest, horizon * step + 1), step, None, step)
    following = [fusion.resize_frames(frame[None], *size) for frame in coming]
    element["frames"] = np.concatenate([element["frames"], *following])
    return name, start, element
