"""Strips: rows of frames side by side, each row with its name and the steps on top."""

import cv2
import numpy as np

DEFAULT_STEPS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)
_MARGIN, _HEADER = 84, 18


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
    picture = np.full(
        (_HEADER + len(rows) * height, _MARGIN + len(steps) * width, 3), 255, np.uint8
    )
    for column, step in enumerate(steps):
        _write(picture, f"t+{step}", (_MARGIN + column * width + 4, 13))
        for row, (_, frames) in enumerate(rows):
            frame = frames[step - 1] if step else newest
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST)
            top, left = _HEADER + row * height, _MARGIN + column * width
            picture[top : top + height, left : left + width] = frame
    for row, (name, _) in enumerate(rows):
        _write(picture, name, (3, _HEADER + row * height + height // 2))
    return picture


def _write(picture, text, place):
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
