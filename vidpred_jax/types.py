"""Clips, limits and the errors a user can meet.

Axis letters everywhere: `b` batch, `t` time, `h` height, `w` width, `c` channels (last).
"""

import dataclasses

import numpy as np

CONTEXT = 16  # Observed frames (paper: "Given 16 input frames").
MAX_FPS = 1000
MIN_SIDE, MAX_SIDE = 11, 8192  # Of frames; the least is SSIM's window.
HORIZON = 32  # Predicted frames (paper: "recursively generates 32 output frames").


class UserError(Exception):
    """A failure told in one line that begins with `label`; `exit_code` 1."""

    exit_code = 1
    label = "error"


class InputError(UserError, ValueError):
    """Bad input: names the field or file, its value and the rule; `exit_code` 2."""

    exit_code = 2


class Interrupted(UserError):
    """Stopped when asked to, and saved; the same command goes on. `exit_code` 75."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again.
    label = "stopped"


class DamagedWarning(UserWarning):
    """A file is damaged, and an older one is used instead."""


def reason(error: Exception) -> str:
    """What an error says, in one line; its kind, if it says nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a reader accepts before it refuses, so that one bad file cannot exhaust memory or time."""

    max_frames: int = 20_000
    max_pixels: int = 8192 * 8192  # Of one frame.
    max_bytes: int = 8 << 30  # Of one decoded window.
    max_seconds: float = 3600.0  # Of decoding it.


@dataclasses.dataclass
class Clip:
    """A video with its segmentation.

    frames: uint8 (t, h, w, 3), RGB. labels: uint8 (t, h, w), 0 is background.
    edges: uint8 (t, h, w), 0 or 255, or the share of a pixel between. fps: frames a second. encoded: the
    bytes of the JPEG or PNG files that the frames were read from; None if there are none. least_labels: as
    many are told apart, though fewer may occur.
    """

    name: str
    frames: np.ndarray
    labels: np.ndarray
    edges: np.ndarray
    fps: float = 24.0
    encoded: list[bytes] | None = None
    least_labels: int = 1

    def __post_init__(self):
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise InputError(
                f"frames of clip {self.name!r} are {self.frames.dtype} {self.frames.shape}; "
                "they must be uint8 (t, h, w, 3)"
            )
        for field, planes in (("labels", self.labels), ("edges", self.edges)):
            if planes.shape != self.frames.shape[:3] or planes.dtype != np.uint8:
                raise InputError(
                    f"{field} of clip {self.name!r} are {planes.dtype} {planes.shape}; "
                    f"they must be uint8 {self.frames.shape[:3]}, as the frames"
                )
        if not 0 < self.fps <= MAX_FPS:
            raise InputError(f"fps of clip {self.name!r} ({self.fps}) must be above 0 and at most {MAX_FPS}")

    def last(self, count: int) -> "Clip":
        """Its last frames."""
        arrays = {name: getattr(self, name)[-count:] for name in ("frames", "labels", "edges")}
        return dataclasses.replace(self, **arrays, encoded=None)
