"""Classical sharpening of predicted frames: what the accompanying convolution must beat.

Each maps one uint8 frame (h, w, 3) to one.
"""

import cv2
import numpy as np


def unsharp_mask(frame: np.ndarray) -> np.ndarray:
    """The frame and half of what a Gaussian of sigma 1 takes from it."""
    return cv2.addWeighted(frame, 1.5, cv2.GaussianBlur(frame, (0, 0), 1.0), -0.5, 0)


def laplacian(frame: np.ndarray) -> np.ndarray:
    """The frame less a quarter of its Laplacian (four neighbours)."""
    x = frame.astype(np.float32)
    return (x - 0.25 * cv2.Laplacian(x, cv2.CV_32F)).round().clip(0, 255).astype(np.uint8)


def detail_enhance(frame: np.ndarray) -> np.ndarray:
    """OpenCV's `detailEnhance` (Gastal & Oliveira 2011), with its own settings."""
    return cv2.detailEnhance(frame)


SHARPENERS = {f.__name__: f for f in (unsharp_mask, laplacian, detail_enhance)}


def sharpen(name: str, frames: np.ndarray) -> np.ndarray:
    """(..., h, w, 3) frames, each sharpened by a method of `SHARPENERS`."""
    flat = frames.reshape(-1, *frames.shape[-3:])
    return np.stack([SHARPENERS[name](frame) for frame in flat]).reshape(frames.shape)
