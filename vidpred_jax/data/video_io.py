"""Video files and frame folders <-> uint8 RGB arrays.

Readers are bounded by `Limits` and decode only the window asked for; writers leave nothing
half-written under the final name.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import tempfile
import time
import warnings

import cv2
import imageio.v3 as imageio
import numpy as np
from PIL import Image

from vidpred_jax.data import sizes
from vidpred_jax.types import MAX_FPS, InputError, Limits, UserError

# Our error about a file that cannot be read is one line; its decoder's messages would stand beside it.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

VIDEO_SUFFIXES = (".mp4", ".avi", ".webm", ".gif", ".mov", ".mkv")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
IMAGE_FORMATS = ("JPEG", "PNG", "BMP")  # Pillow runs external programs to open some other formats.
_VP9 = ["-crf", "28", "-b:v", "0", "-deadline", "realtime", "-cpu-used", "6"]
_ENCODERS = {
    ".mp4": {"codec": "libx264"},
    ".webm": {"codec": "libvpx-vp9", "output_params": _VP9},
    ".avi": {"codec": "mjpeg", "pixelformat": "yuvj420p", "output_params": ["-qscale:v", "2"]},
}


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """num_frames: exact for a folder, else the container's count (0: unknown). fps: 24 if unknown."""

    num_frames: int
    height: int
    width: int
    fps: float


def natural_key(path: pathlib.Path):
    """Sorts frame2 before frame10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name.lower())]


def list_images(folder: str | os.PathLike) -> list[pathlib.Path]:
    found = (f for f in pathlib.Path(folder).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
    return sorted((f for f in found if f.is_file()), key=natural_key)


def list_videos(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Clips in a folder: video files, and sub-folders that hold images."""
    entries = sorted(pathlib.Path(folder).iterdir(), key=natural_key)
    return [e for e in entries if e.suffix.lower() in VIDEO_SUFFIXES or (e.is_dir() and list_images(e))]


def probe(path: str | os.PathLike, limits: Limits = Limits()) -> VideoInfo:
    """Size and length without decoding the video. Raises InputError."""
    path = _existing(path)
    if path.is_dir():
        files = list_images(path)
        if not files:
            raise InputError(f"{path} holds 0 frames; a frame folder needs {', '.join(IMAGE_SUFFIXES)}")
        height, width = image_size(files[0], limits)
        info = VideoInfo(len(files), height, width, 24.0)
    else:
        with _capture(path) as capture:
            info = VideoInfo(
                max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0),
                int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
                int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
                fps if 0 < (fps := capture.get(cv2.CAP_PROP_FPS)) <= MAX_FPS else 24.0,
            )
    _check_pixels(path, (info.height, info.width), limits)
    if info.num_frames > limits.max_frames:
        raise InputError(f"{path} has {info.num_frames} frames; at most {limits.max_frames} are read")
    return info


def read(
    path: str | os.PathLike,
    start: int = 0,
    num_frames: int | None = None,
    limits: Limits = Limits(),
    at_most: bool = False,
) -> np.ndarray:
    """Frames `start` to `start + num_frames` (None: to the end) as uint8 (t, h, w, 3), RGB.

    at_most: the video may end before num_frames. Raises InputError for a missing, unreadable, truncated,
    empty or oversized video, and for a folder whose frames differ in size.
    """
    path = _existing(path)
    info = probe(path, limits)
    wanted = limits.max_frames + 1 if num_frames is None else num_frames
    expected = max(min(info.num_frames - start, wanted), 0)
    if expected * info.height * info.width * 3 > limits.max_bytes:
        raise InputError(
            f"{path} would decode to {expected * info.height * info.width * 3} bytes; "
            f"at most {limits.max_bytes} are read at once"
        )
    if path.is_dir():
        files = list_images(path)[start : start + wanted]
        frames = _read_folder(files, (info.height, info.width), limits)
    else:
        frames = _read_file(path, start, wanted, info, limits)
    if num_frames is not None and not at_most and len(frames) < num_frames:
        raise InputError(f"{path} has {start + len(frames)} frames; {start + num_frames} were asked for")
    if len(frames) > limits.max_frames:  # The container's count was missing or wrong.
        raise InputError(f"{path} has more than {limits.max_frames} frames, which are not read")
    if not len(frames):
        raise InputError(f"{path} holds 0 frames from frame {start} on")
    return np.stack(frames)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """One image as uint8 (h, w, 3), RGB."""
    image = cv2.imread(os.fspath(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise InputError(f"{path} cannot be decoded as an image; it is damaged or not an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(path: str | os.PathLike, limits: Limits = Limits()) -> tuple[int, int]:
    """(height, width) from the header. Raises InputError beyond `limits` and for a wrong PNG checksum."""
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            width, height = image.size
            image.verify()
    except Exception as error:  # Of many kinds, for damaged files.
        raise InputError(f"{path} cannot be opened as an image: {_one_line(error)}") from error
    _check_pixels(path, (height, width), limits)
    return height, width


def _check_pixels(path, size, limits):
    if size[0] * size[1] > limits.max_pixels:
        raise InputError(f"{path} is {sizes.by(size)}; at most {limits.max_pixels} pixels are read")


def _read_folder(files, size, limits) -> list[np.ndarray]:
    frames, check = [], _timer(limits)
    for file in files:
        check(file.parent)
        found = image_size(file)
        if found != size:
            raise InputError(
                f"{file} is {sizes.by(found)}; every frame of the folder must be {sizes.by(size)}, "
                "as the first"
            )
        frames.append(read_image(file))
    return frames


def _read_file(path, start, wanted, info, limits) -> list[np.ndarray]:
    frames, check = [], _timer(limits)
    with _capture(path) as capture:
        # Seeking by index is unreliable across codecs; skipping without converting is exact.
        position = 0
        while position < start and capture.grab():
            check(path)
            position += 1
        while len(frames) < wanted:
            check(path)
            ok, frame = capture.read()
            if not ok:
                break
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            if len(frames) * frame.size > limits.max_bytes:
                raise InputError(f"{path} decodes to more than {limits.max_bytes} bytes")
        decoded = position + len(frames)
    # Containers may be wrong by a frame or two in a hundred; a damaged file lacks more.
    expected = min(info.num_frames, start + wanted)
    if decoded < expected - max(1, info.num_frames // 50):
        raise InputError(
            f"{path} is truncated or damaged: {decoded} of {info.num_frames} frames can be decoded"
        )
    return frames


def _timer(limits):
    """`check(path)`, which raises InputError when decoding takes too long."""
    begin = time.monotonic()

    def check(path):
        if time.monotonic() - begin > limits.max_seconds:
            raise InputError(f"{path} takes more than {limits.max_seconds:g} s to decode")

    return check


@contextlib.contextmanager
def _capture(path):
    capture = cv2.VideoCapture(os.fspath(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise InputError(f"{path} cannot be opened as a video; it is truncated, damaged or not a video")
        yield capture
    finally:
        capture.release()


def _existing(path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; a video file or a folder of frames is needed")
    return path


def _one_line(error) -> str:
    return " ".join(str(error).split())[:200]


@contextlib.contextmanager
def atomic(path: str | os.PathLike):
    """Gives a temporary path with the same suffix, which is moved to `path` if the block succeeds.

    Raises UserError (exit code 1) when the folder cannot be written or the disk is full.
    """
    path = pathlib.Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=".writing-", dir=path.parent)
        os.close(handle)
        temporary = pathlib.Path(name)
        yield temporary
        if not temporary.stat().st_size:
            raise OSError("nothing was written; the disk may be full")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or _one_line(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike) -> None:
    """Raises UserError at once if files could not be written there, before hours of work."""
    with atomic(pathlib.Path(folder, ".check")) as probe_file:
        probe_file.write_text("x")
    pathlib.Path(folder, ".check").unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


def write_image(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Writes uint8 (h, w, 3), RGB."""
    ok, data = cv2.imencode(pathlib.Path(path).suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert ok, path
    with atomic(path) as temporary:
        temporary.write_bytes(data.tobytes())


def write_video(path: str | os.PathLike, frames: np.ndarray, fps: float = 12.0) -> None:
    """Writes uint8 (t, h, w, 3), RGB, as .webm (VP9), .gif, .mp4 (H.264) or .avi (MJPEG).

    Raises InputError for another suffix and for .mp4 of odd sizes, UserError where it cannot write.
    """
    suffix = pathlib.Path(path).suffix
    height, width = frames.shape[1:3]
    if suffix == ".mp4" and (height % 2 or width % 2):
        raise InputError(f"{path} would be {width} x {height}; .mp4 needs even sizes, .webm does not")
    with atomic(path) as temporary:
        if suffix == ".gif":
            duration = round(1000 / fps)
            imageio.imwrite(temporary, frames, extension=".gif", duration=duration, loop=0)
        elif suffix in _ENCODERS:
            options = {"fps": fps, "macro_block_size": 1, "ffmpeg_log_level": "error"}
            with warnings.catch_warnings():  # JAX warns of every fork; FFmpeg's is harmless.
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                imageio.imwrite(temporary, frames, plugin="FFMPEG", **options, **_ENCODERS[suffix])
        else:
            raise InputError(f"{path} ends in {suffix!r}; videos are written as .webm, .gif, .mp4 or .avi")
