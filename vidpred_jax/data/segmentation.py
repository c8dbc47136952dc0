"""Labels for clips, computed from motion or by a user's network.

Every function returns uint8 (t, h, w); 0 is background and an object keeps its id over the clip. The
labels that `segment` gives frame t depend on frames 0 to t alone.
"""

import functools
import itertools
import os
import pathlib

import cv2
import numpy as np

from vidpred_jax.types import InputError, reason

METHODS = ("motion", "onnx:MODEL")
MOTION_LABELS = 4  # Background and three objects.
MAX_MODEL_BYTES = 2 << 30
_FARNEBACK = 0.5, 4, 15, 2, 5, 1.2, 0
_WIDTH = 192  # At which motion is looked at, in wider frames.
# Of the evidence that a pixel moves, from 0 to 1: what is left of it a frame later, and how much of it a new
# label and a known one need.
_MEMORY, _APPEARS, _STAYS = 0.83, 0.35, 0.15
_STEADY_MEMORY = 0.75  # Of a network's labels.


def segment(frames: np.ndarray, method: str = "motion") -> np.ndarray:
    """Labels of uint8 (t, h, w, 3) frames by a method of METHODS. Raises InputError."""
    if method == "motion":
        return motion(frames)
    if method.startswith("onnx:"):
        return onnx(frames, method.removeprefix("onnx:"))
    raise InputError(f"segmentation {method!r} is not one of {', '.join(METHODS)}")


def motion(
    frames: np.ndarray, threshold: float = 0.8, min_area: float = 0.004, max_objects: int = MOTION_LABELS - 1
) -> np.ndarray:
    """Objects are the regions that move relative to the camera, carried along by the flow.

    Camera motion is a partial affine map fitted to the flow at corners (RANSAC). A region moves where the
    dense flow (Farneback) from the frame before differs from it by more than `threshold` pixels, at a width
    of 192; regions below `min_area` of the frame are dropped, and all where more than half of it moves, as
    after a cut. An id passes on to the region that overlaps it most. Evidence of an id gathers over frames:
    an object appears where it has moved for some, keeps its label for as long after it stops, and is
    background while flow forward and backward do not agree where it is.
    """
    height, width = frames.shape[1:3]
    scale = min(1.0, _WIDTH / width)
    size = max(int(width * scale), 16), max(int(height * scale), 16)
    grey = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in frames
    ]
    previous = np.zeros(size[::-1], np.uint8)
    labels, evidence = [previous], np.zeros((max_objects, *size[::-1]), np.float32)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for before, after in itertools.pairwise(grey):
        back, magnitude = _residual(after, before)
        moving = (cv2.GaussianBlur(magnitude, (0, 0), 1.5) > threshold).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, kernel)
        moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, kernel, iterations=2)
        was_cut = moving.mean() > 0.5
        if was_cut:
            moving[:], evidence[:] = 0, 0
        carried = np.stack([_carry(e, back) if e.any() else e for e in evidence])
        known = _strongest(carried, _carry(previous, back, cv2.INTER_NEAREST))
        found = _track(moving, known, min_area * moving.size, max_objects)
        ids = np.arange(1, max_objects + 1).reshape(-1, 1, 1)
        evidence = _MEMORY * carried + (1 - _MEMORY) * (found == ids)
        previous = _strongest(evidence, known)
        if previous.any():
            forward = _coarse_flow(before, after)
        for i in np.unique(previous[previous > 0]):
            own = previous == i
            again = _carry(_carry(own.astype(np.float32), forward), back) > 0.5
            agree = (own & again).sum() >= 0.5 * (own | again).sum()
            if not (min_area <= own.mean() <= 0.5 and agree):
                previous[own] = 0
        labels.append(previous)
    shape = (width, height)
    return np.stack([cv2.resize(each, shape, interpolation=cv2.INTER_NEAREST) for each in labels])


def _carry(plane, flow, interpolation=cv2.INTER_LINEAR):
    """plane (h, w) of one frame, seen from another: flow leads from each pixel there to where it was."""
    y, x = _grid(*plane.shape)
    return cv2.remap(plane, x + flow[..., 0], y + flow[..., 1], interpolation)


@functools.lru_cache(maxsize=8)
def _grid(height, width):
    """The row and the column of each pixel."""
    return np.mgrid[:height, :width].astype(np.float32)


def _strongest(evidence, known):
    """The id of most evidence (k, h, w), where there is enough; less will do where it is `known`."""
    best, most = np.ones(known.shape, np.uint8), evidence[0].copy()
    for i, plane in enumerate(evidence[1:], 2):  # Five times faster than argmax over few planes.
        best[plane > most] = i
        np.maximum(most, plane, out=most)
    enough = np.where(best == known, _STAYS, _APPEARS)
    return np.where(most > enough, best, 0).astype(np.uint8)


def _coarse_flow(first, second):
    """The flow of half-size pictures, at full size: enough to see where a label comes from."""
    halves = [cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for x in (first, second)]
    flow = cv2.calcOpticalFlowFarneback(*halves, None, *_FARNEBACK)
    return 2 * cv2.resize(flow, first.shape[::-1])


def _residual(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the flow from first to second, its length in pixels without the camera's)."""
    flow = cv2.calcOpticalFlowFarneback(first, second, None, *_FARNEBACK)
    camera = np.zeros_like(flow)
    corners = cv2.goodFeaturesToTrack(first, 400, 0.01, 5)
    if corners is not None and len(corners) >= 12:
        corners = corners[:, 0]
        x, y = corners.T.astype(int)
        moved = corners + flow[y, x]
        affine, _ = cv2.estimateAffinePartial2D(corners, moved, ransacReprojThreshold=1.0)
        if affine is not None:
            y, x = _grid(*first.shape)
            camera[..., 0] = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2] - x
            camera[..., 1] = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2] - y
    across, down = cv2.split(flow - camera)
    return flow, np.sqrt(across * across + down * down)


def _track(moving, previous, min_area, max_objects) -> np.ndarray:
    """Labels of the largest connected regions of `moving`: the id of `previous` that a region overlaps
    most, else a free one."""
    count, blobs, stats, _ = cv2.connectedComponentsWithStats(moving, connectivity=8)
    order = sorted(range(1, count), key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    order = [i for i in order if stats[i, cv2.CC_STAT_AREA] >= min_area][:max_objects]
    labels, free = np.zeros_like(previous), set(range(1, max_objects + 1))
    unmatched = []
    for blob in order:
        overlap = np.bincount(previous[blobs == blob], minlength=max_objects + 1)
        candidates = [i for i in free if overlap[i]]
        if candidates:
            label = max(candidates, key=lambda i: overlap[i])
            free.remove(label)
            labels[blobs == blob] = label
        else:
            unmatched.append(blob)
    for blob in unmatched:
        label = min(free)
        free.remove(label)
        labels[blobs == blob] = label
    return labels


def onnx(frames: np.ndarray, model: str) -> np.ndarray:
    """Labels of a segmentation network: input (1, 3, h, w), RGB in [0, 1] at the frame's size;
    output (1, k, h', w') scores (k > 1: argmax; k = 1: logit above 0), resized to the frame and carried
    along by the flow: see `steady`.
    """
    path = pathlib.Path(model)
    if not path.is_file():
        raise InputError(f"ONNX model {model!r} does not exist")
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise InputError(f"ONNX model {model!r} has {path.stat().st_size} bytes; at most {MAX_MODEL_BYTES}")
    height, width = frames.shape[1:3]
    labels = []
    try:
        network = cv2.dnn.readNetFromONNX(os.fspath(path))
        for frame in frames:
            network.setInput(cv2.dnn.blobFromImage(frame, 1 / 255))
            scores = network.forward()
            if scores.ndim != 4 or scores.shape[0] != 1:
                raise InputError(f"ONNX model {model!r} gives shape {scores.shape}; (1, k, h, w) is needed")
            label = scores[0].argmax(0) if scores.shape[1] > 1 else scores[0, 0] > 0
            if label.max() > 255:
                raise InputError(f"ONNX model {model!r} finds class {label.max()}; classes are 0 to 255")
            label = label.astype(np.uint8)
            labels.append(cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST))
    except cv2.error as error:
        raise InputError(f"ONNX model {model!r} cannot be run: {reason(error)}") from error
    return steady(frames, np.stack(labels))


def steady(frames: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of frames each for itself, without flicker: a label goes where the flow (Farneback) leads, until
    others have been found there for some frames."""
    evidence, steadied, before = {}, [], None
    for frame, found in zip(frames, labels, strict=True):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if before is not None:
            back = cv2.calcOpticalFlowFarneback(grey, before, None, *_FARNEBACK)
            evidence = {label: _STEADY_MEMORY * _carry(e, back) for label, e in evidence.items()}
        new = 1.0 if before is None else 1 - _STEADY_MEMORY
        for label in np.unique(found):
            evidence[label] = evidence.get(label, 0) + np.float32(new) * (found == label)
        ids = np.array(list(evidence), np.uint8)
        steadied.append(ids[np.argmax(list(evidence.values()), 0)])
        before = grey
    return np.stack(steadied)
