"""Labels for clips, computed from motion, colour or a user's network.

Every function returns uint8 (t, h, w); 0 is background and an object keeps its id over the clip. The
labels that `segment` gives frame t depend on frames 0 to t alone.
"""

import os
import pathlib

import cv2
import numpy as np

from vidpred_jax.types import InputError

METHODS = ("motion", "kmeans", "onnx:MODEL")
MAX_MODEL_BYTES = 2 << 30


def segment(frames: np.ndarray, method: str = "motion") -> np.ndarray:
    """Labels of uint8 (t, h, w, 3) frames by a method of METHODS. Raises InputError."""
    if method == "motion":
        return motion(frames)
    if method == "kmeans":
        return kmeans(frames)
    if method.startswith("onnx:"):
        return onnx(frames, method.removeprefix("onnx:"))
    raise InputError(f"segmentation {method!r} is not one of {', '.join(METHODS)}")


def motion(
    frames: np.ndarray, threshold: float = 1.0, min_area: float = 0.004, max_objects: int = 3
) -> np.ndarray:
    """Objects are the regions that move relative to the camera; frame 0 is all background.

    Camera motion is a partial affine map fitted to tracked corners (RANSAC). An object is a region
    where the dense flow (Farneback) from the frame before differs from it by more than `threshold`
    pixels, at a width of 320. Regions below `min_area` of the frame are dropped, and all where more than
    half of it moves, as after a cut. An id passes on to the region that overlaps it most.
    """
    num_frames, height, width, _ = frames.shape
    scale = min(1.0, 320 / width)
    size = max(int(width * scale), 16), max(int(height * scale), 16)
    grey = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in frames
    ]
    residual = [np.zeros(size[::-1], np.float32)]
    residual += [_residual(grey[t - 1], grey[t]) for t in range(1, num_frames)]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    labels, previous = [], np.zeros(size[::-1], np.uint8)
    for magnitude in residual:
        moving = (cv2.GaussianBlur(magnitude, (0, 0), 1.5) > threshold).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, kernel)
        moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, kernel, iterations=2)
        if moving.mean() > 0.5:
            moving[:] = 0
        previous = _track(moving, previous, min_area * moving.size, max_objects)
        labels.append(cv2.resize(previous, (width, height), interpolation=cv2.INTER_NEAREST))
    return np.stack(labels)


def _residual(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Length in pixels of the flow from first to second minus the camera's."""
    flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 4, 15, 3, 5, 1.2, 0)
    height, width = first.shape
    camera = np.zeros_like(flow)
    corners = cv2.goodFeaturesToTrack(first, 400, 0.01, 5)
    if corners is not None and len(corners) >= 12:
        tracked, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None)
        kept = found.ravel() == 1
        if kept.sum() >= 12:
            affine, _ = cv2.estimateAffinePartial2D(corners[kept], tracked[kept], ransacReprojThreshold=1.0)
            if affine is not None:
                y, x = np.mgrid[:height, :width].astype(np.float32)
                camera[..., 0] = affine[0, 0] * x + affine[0, 1] * y + affine[0, 2] - x
                camera[..., 1] = affine[1, 0] * x + affine[1, 1] * y + affine[1, 2] - y
    return np.linalg.norm(flow - camera, axis=-1).astype(np.float32)


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


def kmeans(frames: np.ndarray, clusters: int = 4, seed: int = 0) -> np.ndarray:
    """Clusters of colour and position, fitted to frame 0; label 0 covers most of its border."""
    height, width = frames.shape[1:3]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    place = 40 * np.stack([y / height, x / width], -1)

    def features(frame):
        lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB).astype(np.float32)
        return np.concatenate([lab, place], -1).reshape(-1, 5)

    rng = np.random.default_rng(seed)
    sample = features(frames[0])
    sample = sample[rng.permutation(len(sample))[:20_000]]
    cv2.setRNGSeed(seed)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 30, 0.1)
    clusters = min(clusters, len(sample))
    centers = cv2.kmeans(sample, clusters, None, criteria, 3, cv2.KMEANS_PP_CENTERS)[2]
    labels = np.stack([_nearest(features(frame), centers).reshape(height, width) for frame in frames])
    first = labels[0]
    border = np.concatenate([first[0], first[-1], first[:, 0], first[:, -1]])
    order = np.argsort(-np.bincount(border, minlength=clusters), kind="stable")
    return np.argsort(order).astype(np.uint8)[labels]


def _nearest(points, centers):
    distance = np.square(centers).sum(1) - 2 * points @ centers.T
    return distance.argmin(1)


def onnx(frames: np.ndarray, model: str) -> np.ndarray:
    """Labels of a segmentation network: input (1, 3, h, w), RGB in [0, 1] at the frame's size;
    output (1, k, h', w') scores (k > 1: argmax; k = 1: logit above 0), resized to the frame.
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
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"ONNX model {model!r} cannot be run: {reason}") from error
    return np.stack(labels)
