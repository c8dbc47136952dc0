"""Videos, as files or as folders of frames, <-> uint8 RGB arrays.

Readers are bounded by `Limits` and decode only the window asked for.
"""

import base64
import dataclasses
import itertools
import os
import pathlib
import tempfile
import time
import warnings
from collections.abc import Iterator

import cv2
import imageio.v3 as imageio
import numpy as np

from vidpred_jax.data import images, sizes, video_file, writing
from vidpred_jax.types import InputError, Limits, reason

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".f4v", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg")
VIDEO_SUFFIXES += (".m2v", ".vob", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".ogv", ".dv", ".mxf")
VIDEO_SUFFIXES += (".y4m", ".ivf", ".apng", ".npy")
_VP9 = ["-crf", "28", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6"]
_ENCODERS = {
    ".mp4": {"codec": "libx264"},
    ".webm": {"codec": "libvpx-vp9", "output_params": _VP9},
    ".avi": {"codec": "mjpeg", "pixelformat": "yuvj420p", "output_params": ["-qscale:v", "2"]},
}


def is_video_file(path: pathlib.Path) -> bool:
    """By its suffix, in letters of either case; of .webp and .png those that are animated."""
    suffix = path.suffix.lower()
    return path.is_file() and (suffix in VIDEO_SUFFIXES or images.is_animated(path))


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Of frames as they are shown. fps: 24 if unknown."""

    height: int
    width: int
    fps: float


def probe(path: str | os.PathLike, limits: Limits = Limits()) -> VideoInfo:
    """Size and rate, by the first frame. Raises InputError."""
    path = _existing(path)
    if path.is_dir() or path.suffix.lower() in (".npy", *images.ANIMATED):
        fps = images.animation_fps(path) if path.suffix.lower() in images.ANIMATED else 24.0
        return VideoInfo(*read(path, 0, 1, limits).shape[1:3], fps)
    return VideoInfo(*video_file.probe(path, limits))


def count(path: str | os.PathLike, limits: Limits = Limits()) -> int:
    """Frames; of a damaged file an estimate. Raises InputError."""
    path = _existing(path)
    if path.is_dir():
        return len(_frames_of(path))
    if path.suffix.lower() == ".npy":
        return len(_array(path, limits))
    if path.suffix.lower() in images.ANIMATED:
        return sum(1 for _ in images.read_animation(path, 0, limits, _timer(limits)))
    return video_file.count(path, limits)


def read(
    path: str | os.PathLike,
    start: int = 0,
    num_frames: int | None = None,
    limits: Limits = Limits(),
    at_most: bool = False,
) -> np.ndarray:
    """Frames `start` to `start + num_frames` (None: to the end) as uint8 (t, h, w, 3), RGB.

    path: a video file, a folder of images, or uint8 (t, h, w, 3) in a .npy file. at_most: the video may end
    before num_frames. Raises InputError for a missing, unreadable, truncated, empty or oversized video, and
    for one whose frames differ in size; `limits` are of what is read.
    """
    for name, number, least in (("start", start, 0), ("num_frames", num_frames, 1)):
        if number is not None and (number < least or number != int(number)):
            raise InputError(f"{name} ({number}) of {path} must be a whole number, {least} or more")
    path = _existing(path)
    wanted = limits.max_frames + 1 if num_frames is None else num_frames
    if path.is_dir():
        _check_length(path, len(_frames_of(path)[start : start + wanted]), limits)
    found = []
    for frame in frames(path, start, wanted, limits):
        found.append(frame)
        if len(found) * frame.size > limits.max_bytes:
            raise InputError(f"{path} decodes to more than {limits.max_bytes} bytes")
    if not found:
        raise InputError(f"{path} holds 0 frames from frame {start} on")
    if num_frames is not None and not at_most and len(found) < num_frames:
        raise InputError(f"{path} has {start + len(found)} frames; {start + num_frames} were asked for")
    _check_length(path, len(found), limits)
    return np.stack(found)


def frames(
    path: str | os.PathLike, start: int, num_frames: int, limits: Limits = Limits()
) -> Iterator[np.ndarray]:
    """At most `num_frames` frames from `start` on, one by one, as of `read`."""
    path, check, end, size = _existing(path), _timer(limits), start + num_frames, None
    if path.is_dir():
        found = images.read_folder(_frames_of(path)[start:end], limits, check)
    elif path.suffix.lower() in images.ANIMATED:
        found = itertools.islice(images.read_animation(path, start, limits, check), num_frames)
    elif path.suffix.lower() == ".npy":
        found = map(np.array, _array(path, limits)[start:end])
    else:
        found = itertools.islice(video_file.frames(path, start, limits, check), num_frames)
    for number, frame in enumerate(found, start):
        size = size or frame.shape[:2]
        if frame.shape[:2] != size:
            old, new = sizes.by(size), sizes.by(frame.shape[:2])
            raise InputError(f"{path} changes from {old} to {new} at frame {number}; one size is needed")
        yield frame


def _frames_of(folder) -> list[pathlib.Path]:
    files = images.list_images(folder)
    if not files:
        raise InputError(f"{folder} holds 0 frames; a frame folder needs {', '.join(images.SUFFIXES)}")
    return files


def _array(path, limits) -> np.ndarray:
    """The array of a .npy file, not yet in memory."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array: {reason(error)}") from error
    if found.dtype != np.uint8 or found.ndim != 4 or found.shape[-1] != 3 or not found.size:
        raise InputError(f"{path} holds {found.dtype} {found.shape}; a video is uint8 (t, h, w, 3)")
    images.check_pixels(path, found.shape[1:3], limits)
    return found


def _check_length(path, length, limits):
    if length > limits.max_frames:
        raise InputError(f"{path} has more than {limits.max_frames} frames; at most so many are read at once")


def _timer(limits):
    """`check(path)`, which raises InputError when decoding takes too long."""
    begin = time.monotonic()

    def check(path):
        if time.monotonic() - begin > limits.max_seconds:
            raise InputError(f"{path} takes more than {limits.max_seconds:g} s to decode")

    return check


def _existing(path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; a video file or a folder of frames is needed")
    return path


def write_image(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes uint8 (h, w, 3), RGB."""
    ok, data = cv2.imencode(pathlib.Path(path).suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert ok, path
    with writing.atomic(path) as temporary:
        temporary.write_bytes(data.tobytes())


def to_uri(frames: np.ndarray, fps: float = 12.0) -> str:
    """A video as an address that holds it, for pages: as of `write_video`, .webm."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "video.webm")
        write_video(path, frames, fps)
        return f"data:video/webm;base64,{base64.b64encode(path.read_bytes()).decode()}"


def write_video(path: str | os.PathLike, frames: np.ndarray, fps: float = 12.0) -> None:
    """Writes uint8 (t, h, w, 3), RGB, as .webm (VP9), .gif, .mp4 (H.264) or .avi (MJPEG).

    Raises InputError for another suffix and for .mp4 of odd sizes, UserError where it cannot write.
    """
    suffix = pathlib.Path(path).suffix
    height, width = frames.shape[1:3]
    if suffix == ".mp4" and (height % 2 or width % 2):
        raise InputError(f"{path} would be {width} x {height}; .mp4 needs even sizes, .webm does not")
    with writing.atomic(path) as temporary:
        if suffix == ".gif":
            # Below 20 players slow down to 10 frames a second; beyond, the format has no number.
            duration = min(max(round(1000 / fps), 20), 655_350)
            imageio.imwrite(temporary, frames, extension=".gif", duration=duration, loop=0)
        elif suffix in _ENCODERS:
            options = {"fps": fps, "macro_block_size": 1, "ffmpeg_log_level": "error"}
            with warnings.catch_warnings():  # JAX warns of every fork; FFmpeg's is harmless.
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                imageio.imwrite(temporary, frames, plugin="FFMPEG", **options, **_ENCODERS[suffix])
        else:
            raise InputError(f"{path} ends in {suffix!r}; videos are written as .webm, .gif, .mp4 or .avi")
