"""Strips: rows of frames side by side, each row with its name and the steps on top."""

import cv2
import numpy as np

DEFAULT_STEPS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)
_MARGIN, _HEADER = 84, 18
_BORDER, _BLUE = 3, (74, 127, 193)
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)


def enlarge(frames: np.ndarray, side: int = 128) -> np.ndarray:
    """Small frames (t, h, w, 3), each pixel as a block, at least `side` high: codecs blur pixels."""
    scale = max(1, -(-side // frames.shape[1]))
    return frames.repeat(scale, 1).repeat(scale, 2)


def framed(frames: np.ndarray) -> np.ndarray:
    """With a border, which tells observed frames from predicted ones."""
    shown = frames.copy()
    for frame in shown:
        cv2.rectangle(frame, (0, 0), (frame.shape[1] - 1, frame.shape[0] - 1), _BLUE, _BORDER)
    return shown


def even(frames: np.ndarray) -> np.ndarray:
    """Frames (t, h, w, 3) of even sides, as H.264 needs them, the last row and column repeated."""
    height, width = frames.shape[1:3]
    return np.pad(frames, [(0, 0), (0, height % 2), (0, width % 2), (0, 0)], "edge")


def draw(
    rows: list[tuple[str, np.ndarray]],
    steps: tuple[int, ...] = DEFAULT_STEPS,
    newest: np.ndarray | None = None,
) -> np.ndarray:
    """One uint8 (h, w, 3) picture of named videos uint8 (horizon, h, w, 3), at steps from 1 on.

    newest: the last frame observed (h, w, 3), shown first in each row, as step 0.
    """
    horizon, height, width, _ = rows[0][1].shape
    steps = [s for s in steps if s <= horizon]
    if newest is not None:
        steps = [0, *steps]
    # Small frames are enlarged so that pixels can be seen.
    scale = max(1, 128 // height)
    height, width = height * scale, width * scale
    margin = max(_MARGIN, *(cv2.getTextSize(name, *_FONT)[0][0] + 8 for name, _ in rows))
    picture = np.full((_HEADER + len(rows) * height, margin + len(steps) * width, 3), 255, np.uint8)
    for column, step in enumerate(steps):
        _write(picture, f"t+{step}", (margin + column * width + 4, 13))
        for row, (_, frames) in enumerate(rows):
            frame = frames[step - 1] if step else newest
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST)
            top, left = _HEADER + row * height, margin + column * width
            picture[top : top + height, left : left + width] = frame
    for row, (name, _) in enumerate(rows):
        _write(picture, name, (3, _HEADER + row * height + height // 2))
    return picture


def _write(picture, text, place):
    font, scale, thickness = _FONT
    cv2.putText(picture, text, place, font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
