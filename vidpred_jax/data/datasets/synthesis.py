"""Synthetic clips with exact labels: the pictures behind `sprites` and `moving_digits`.

Everything is drawn from one NumPy generator, so a seed gives the same clip on every machine.
"""

import math

import cv2
import numpy as np

from vidpred_jax.data.fusion import EdgeRule
from vidpred_jax.data.preparation import prepare_clip
from vidpred_jax.types import Clip

FPS = 12.0
_SHAPES = ("disc", "box", "triangle", "star", "cross")


def bounce(start: np.ndarray, velocity: np.ndarray, low, high, num_frames: int) -> np.ndarray:
    """Positions (num_frames, 2) of a point that moves straight and reflects at `low` and `high`."""
    span = np.maximum(np.asarray(high, float) - low, 1e-6)
    phase = (start - low + velocity * np.arange(num_frames)[:, None]) % (2 * span)
    return low + np.where(phase < span, phase, 2 * span - phase)


def _color(rng) -> np.ndarray:
    hsv = np.uint8([[[rng.integers(180), rng.integers(130, 256), rng.integers(110, 256)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _texture(rng, height: int, width: int) -> np.ndarray:
    """A background: smooth colour noise in three octaves, and flat tiles that give it edges."""
    picture = np.broadcast_to(_color(rng) * 0.45 + 60, (height, width, 3)).astype(np.float32)
    for cells, amplitude in ((3, 60.0), (8, 25.0), (24, 8.0)):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        picture = picture + amplitude * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(height * width // 900):
        center = rng.uniform((0, 0), (width, height))
        size = rng.uniform(5, 14, 2)
        corners = cv2.boxPoints(
            (tuple(map(float, center)), tuple(map(float, size)), float(rng.uniform(0, 90)))
        )
        color = _color(rng) * 0.6 + 30
        cv2.fillConvexPoly(picture, np.int32(corners * 16), tuple(map(float, color)), cv2.LINE_AA, 4)
    return np.clip(picture, 0, 255)


def _outline(shape: str) -> np.ndarray:
    """Polygon (n, 2) with circumradius 1."""
    if shape == "disc":
        angles, radii = np.linspace(0, 2 * np.pi, 33)[:-1], np.ones(32)
    elif shape == "box":
        angles, radii = np.pi / 4 + np.arange(4) * np.pi / 2, np.ones(4)
    elif shape == "triangle":
        angles, radii = np.arange(3) * 2 * np.pi / 3, np.ones(3)
    elif shape == "star":
        angles, radii = np.arange(10) * np.pi / 5, np.tile([1.0, 0.5], 5)
    else:
        angles = np.repeat(np.arange(4) * np.pi / 2, 3) + np.tile([-0.4, 0.4, np.pi / 4], 4)
        radii = np.tile([1.0, 1.0, 0.55], 4)
    return np.stack([np.cos(angles), np.sin(angles)], -1) * radii[:, None]


def _draw_polygon(canvas, corners, color) -> None:
    cv2.fillPoly(canvas, [np.int32(np.round(corners * 16))], color, cv2.LINE_AA, 4)


def sprite_clip(
    rng: np.random.Generator, name: str, num_frames: int, size: int, edge_rule: EdgeRule = EdgeRule()
) -> Clip:
    """Two or three textured objects that move, rotate, bounce and occlude over a panning background.

    Speeds scale with `size`; the background pans at constant velocity and never runs out.
    """
    scale = size / 64
    pan = rng.uniform(-0.3, 0.3, 2) * scale
    margin = int(np.ceil(0.3 * scale * num_frames)) + 2
    background = _texture(rng, size + 2 * margin, size + 2 * margin)
    objects = []
    for _ in range(rng.integers(2, 4)):
        radius = rng.uniform(8, 13) * scale
        direction, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 2.0) * scale
        objects.append(
            {
                "outline": _outline(_SHAPES[rng.integers(len(_SHAPES))]) * radius,
                "radius": radius,
                "color": _color(rng),
                "spot": _color(rng),
                "angle": rng.uniform(0, 2 * np.pi) + rng.uniform(-0.05, 0.05) * np.arange(num_frames),
                "center": bounce(
                    rng.uniform(radius, size - radius, 2),
                    speed * np.array([np.cos(direction), np.sin(direction)]),
                    radius * 0.8,
                    size - radius * 0.8,
                    num_frames,
                ),
            }
        )
    frames = np.empty((num_frames, size, size, 3), np.float32)
    labels = np.zeros((num_frames, size, size), np.uint8)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for t in range(num_frames):
        shift = margin + pan * (t - num_frames / 2)
        view = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
        frames[t] = cv2.warpAffine(background, view, (size, size), flags=flags)
    for label, item in enumerate(objects, start=1):
        cos, sin = np.cos(item["angle"]), np.sin(item["angle"])
        turn = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
        corners = item["outline"] @ turn + item["center"][:, None]
        spot = item["center"] + np.array([0.35, 0.0]) @ turn * item["radius"]
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * item["radius"] * 0.22
        square = square @ turn + spot[:, None]
        color = np.full((size, size, 3), item["color"], np.float32)
        for t in range(num_frames):
            mask, patch = np.zeros((size, size, 3), np.uint8), color.copy()
            _draw_polygon(mask, corners[t], (255, 255, 255))
            _draw_polygon(patch, square[t], tuple(map(float, item["spot"])))
            alpha = mask.astype(np.float32) / 255
            frames[t] = frames[t] * (1 - alpha) + patch * alpha
            labels[t][mask[..., 0] > 127] = label
    frames = np.clip(np.round(frames, out=frames), 0, 255, out=frames).astype(np.uint8)
    return prepare_clip(name, frames, labels=labels, edge_rule=edge_rule, fps=FPS)


def moving_digits(rng: np.random.Generator, digits: np.ndarray, num_frames: int, size: int) -> np.ndarray:
    """Two digits that bounce over black, uint8 (num_frames, size, size), as OpenSTL draws Moving MNIST.

    digits: uint8 (n, s, s), s < size. Each moves a tenth of its free range a frame; beyond a wall it is
    put back on it and that part of its direction flips, so it does not mirror. Places are cut to whole
    pixels; where digits overlap, the brighter value shows.
    """
    frames, side = np.zeros((num_frames, size, size), np.uint8), digits.shape[-1]
    for _ in range(2):
        digit = digits[rng.integers(len(digits))]
        start, angle = rng.random(2), rng.uniform(0, 2 * math.pi)
        steps = 0.1 * math.sin(angle), 0.1 * math.cos(angle)
        rows, columns = (
            _clamped(place, step, num_frames, size - side)
            for place, step in zip(start.tolist(), steps, strict=True)
        )
        for frame, y, x in zip(frames, rows, columns, strict=True):
            window = frame[y : y + side, x : x + side]
            np.maximum(window, digit, out=window)
    return frames


def _clamped(place: float, step: float, num_frames: int, free: int) -> list[int]:
    """Pixels of a place from 0 to 1 that moves on by `step` a frame and stops and turns at either end."""
    found = []  # Plain numbers: NumPy's take ten times as long.
    for _ in range(num_frames):
        place += step
        if not 0 < place < 1:
            place, step = min(max(place, 0.0), 1.0), -step
        found.append(int(place * free))
    return found


def ink(grey: np.ndarray) -> np.ndarray:
    """Labels of moving digits: 1 where a pixel is lit."""
    return (grey > 64).astype(np.uint8)
