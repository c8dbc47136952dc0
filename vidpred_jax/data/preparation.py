"""From frames to a prepared clip: the same steps for a data set's clips and for a clip to predict."""

import dataclasses

import numpy as np

from vidpred_jax.data import cuts, fusion, segmentation
from vidpred_jax.types import Clip

_THIRDS = ((np.arange(256) + 42) // 85 * 85).astype(np.uint8)  # The nearest of 0, 85, 170 and 255.


def prepare_clip(
    name: str,
    frames: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    method: str = "motion",
    edge_rule: fusion.EdgeRule = fusion.EdgeRule(),
    fps: float = 24.0,
    encoded: list[bytes] | None = None,
    observed: tuple[int, int] | None = None,
) -> Clip:
    """A clip of uint8 (t, h, w, 3) frames with labels and edges. Raises InputError.

    labels: uint8 (t, h, w); None: computed by `method` of `segmentation.METHODS`. Labels and edges of
    frame t then depend on frames 0 to t alone. encoded: as of `Clip`. observed: the first and the end of the
    frames that a prediction observes; the frame after a scene cut among them takes the place of all before.
    """
    if observed and (cut := cuts.last(frames[slice(*observed)])):
        frames = cuts.hold(frames, observed[0] + cut)
        labels = labels if labels is None else cuts.hold(labels, observed[0] + cut)
    least = 1
    if labels is None:
        labels = segmentation.segment(frames, method)
        # What is trained on them must take as many as another video may have.
        least = segmentation.MOTION_LABELS if method == "motion" else 1
    return Clip(name, frames, labels, edge_rule.apply(frames), fps, encoded, least)


def reduced(clip: Clip, side: int) -> Clip:
    """The clip with its shorter side reduced to `side`, its edges to their share of each pixel, in thirds;
    a smaller one as it is."""
    height, width = clip.frames.shape[1:3]
    if min(height, width) <= side:
        return clip
    size = [round(x * side / min(height, width)) for x in (height, width)]
    planes = fusion.resize_planes(fusion.stack_planes(clip.edges, clip.labels), *size)
    edges = _THIRDS[planes[..., 0]]  # All shares need three times the bytes.
    frames = fusion.resize_frames(clip.frames, *size)
    return dataclasses.replace(clip, frames=frames, edges=edges, labels=planes[..., 1], encoded=None)
