"""Frames of a video file, by FFmpeg's libraries (PyAV).

What a container says of its length and clock is not believed: a frame counts when it has been decoded, and
one that is not whole is never given out.
"""

import collections
import contextlib
import itertools
import logging
import os
import pathlib
import threading
from collections.abc import Iterator

import av
import numpy as np
from av.video.frame import PictureType

from vidpred_jax.data import containers, sizes
from vidpred_jax.types import MAX_FPS, InputError, Limits

# Containers of one file. Others name further files or addresses, which are never opened.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,m4v,flv,asf,ogg,dv,mxf,ivf,nut,rm,"
    "h264,hevc,av1,obu,yuv4mpegpipe,mjpeg,wtv,apng,webp"
)
# Recordings end in the middle of a frame.
_ENDS_ANYWHERE = ("mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc", "mjpeg")
# Of which each frame's packet bears the time at which it is shown: MP4 and Matroska.
_CLOCKED = ("mov", "matroska")
_TAIL = 16  # Frames that may be shown after one that was decoded last.
# Tags that are no UTF-8 are no reason to refuse a file; from 19 on PyAV asks for nothing to keep them.
_TAGS = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
_FAR = 100  # From this frame on it is sought rather than decoded up to.

# What FFmpeg's other threads log while `_heard` listens to one would stand beside our line.
logging.getLogger("libav").addHandler(logging.NullHandler())
logging.getLogger("libav").propagate = False
_QUIET = -8  # FFmpeg's AV_LOG_QUIET.
_HEARING = threading.Lock()  # Its log has one level for all.
_ERRORS = av.logging.ERROR + 1  # Which no other program asks for.


def probe(path: pathlib.Path, limits: Limits) -> tuple[int, int, float]:
    """(height, width, frames a second; 24 if unknown) as frames are shown. Raises InputError."""
    with _opened(path, limits) as (container, stream):
        first = next(_decoded(path, container, stream), None)
        if first is None:
            raise InputError(f"{path} holds 0 frames that can be decoded; it is truncated or damaged")
        size = first.height, first.width
        return *(size[::-1] if _way_shown(path, first)[0] else size), fps_of(stream)


def fps_of(stream) -> float:
    """Frames a second; 24 where the container tells none, or one that cannot be."""
    rates = (float(rate) for rate in (stream.guessed_rate, stream.average_rate) if rate)
    return next((rate for rate in rates if 0 < rate <= MAX_FPS), 24.0)


def count(path: pathlib.Path, limits: Limits) -> int:
    """Frames that the file holds, by its packets; of a recording, which may begin within a frame, decoded."""
    with _opened(path, limits) as (container, stream):
        if container.format.name in _ENDS_ANYWHERE:
            return sum(1 for _ in _decoded(path, container, stream))
        return len(_packets(container, stream))


def frames(path: pathlib.Path, start: int, limits: Limits, check) -> Iterator[np.ndarray]:
    """Frames from frame `start` on, uint8 (h, w, 3), RGB.

    check: called with the path at each frame; it may raise. Raises InputError where a file is cut off or a
    frame cannot be decoded.
    """
    for frame in _from(path, start, limits, check):
        yield _rgb(path, frame)


def _from(path, start, limits, check) -> Iterator[av.VideoFrame]:
    """Frames from `start` on: from the key frame before it, where as many packets as frames come between.

    A key frame in name may be one from which on a picture is refreshed part by part: it is no intra picture.
    """
    if start >= _FAR:
        with _opened(path, limits) as (container, stream):
            begin, pts, between = _seek(container, stream, start) or (0, 0, None)
            frames, intra = _decoded(path, container, stream, start), False
            for first in frames if between is not None else ():
                intra |= first.pts == begin and first.pict_type == PictureType.I
                if first.pts is None or first.pts >= pts:
                    break
                between -= first.pts >= begin
            if intra and between == 0 and first.pts == pts:
                for frame in itertools.chain([first], frames):
                    check(path)
                    yield frame
                return
    with _opened(path, limits) as (container, stream):
        for number, frame in enumerate(_decoded(path, container, stream)):
            check(path)
            if number >= start:
                yield frame


def _packets(container, stream) -> list[tuple[int | None, int | None, bool]]:
    """(time shown, time decoded, whether it is a key frame) of every frame."""
    found = []
    try:
        for packet in _demux(container, stream):
            if packet.size and not packet.is_discard:
                found.append((packet.pts, packet.dts, packet.is_keyframe))
    except av.FFmpegError:
        pass  # Cut off: what stands before it counts.
    return found


def _seek(container, stream, start) -> tuple[int, int, int] | None:
    """Goes to the key frame that frame `start` needs: (the time at which that is shown, the time of frame
    `start`, the frames between); None where packets do not tell it."""
    packets = _packets(container, stream) if container.format.name.startswith(_CLOCKED) else []
    if any(None in packet for packet in packets):
        return None
    packets.sort()
    if not start < len({pts for pts, *_ in packets}) == len(packets) or not packets[0][2]:
        return None
    key = next(i for i in range(start, -1, -1) if packets[i][2])
    container.seek(packets[key][1], stream=stream)
    return packets[key][0], packets[start][0], start - key


def _rgb(path, frame) -> np.ndarray:
    """uint8 (h, w, 3), turned and mirrored as the file says it is shown."""
    picture = frame.to_ndarray(format="rgb24")
    transposed, down, across = _way_shown(path, frame)
    picture = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(picture[::down, ::across])


def _way_shown(path, frame) -> tuple[bool, int, int]:
    """(whether rows become columns; then the steps, 1 or -1, through rows and columns), by its display
    matrix. Raises InputError for an angle between.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, 1, 1
    # A pixel (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = map(int, np.frombuffer(bytes(matrix), np.int32)[:5])
    straight, turned = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, turned) > 0.02 * max(straight, turned):
        raise InputError(
            f"{path} is to be shown turned by {frame.rotation} degrees; multiples of 90 are read"
        )
    down, across = (b, c) if turned > straight else (d, a)
    return turned > straight, -1 if down < 0 else 1, -1 if across < 0 else 1


@contextlib.contextmanager
def _opened(path, limits):
    """(container, its first stream of moving pictures)."""
    allowed = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        # A name with a colon is no address.
        container = av.open(f"file:{os.fspath(path)}", container_options=allowed, **_TAGS)
    except (av.FFmpegError, ValueError, OSError) as error:
        raise InputError(
            f"{path} cannot be opened as a video; it is truncated, damaged or not a video"
        ) from error
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not streams and containers.is_cut_off(path, container):
            raise InputError(f"{path} is truncated: what tells of its pictures is missing")
        if not streams:
            raise InputError(f"{path} holds no moving pictures, but sound, a still cover or other data")
        stream = streams[0]
        if stream.codec_context is None:
            raise InputError(f"{path} is of a codec that is not read; convert it, to H.264 for example")
        size = stream.codec_context.height, stream.codec_context.width
        if size[0] * size[1] > limits.max_pixels:
            raise InputError(f"{path} is {sizes.by(size)}; at most {limits.max_pixels} pixels are read")
        stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
        stream.thread_type = "AUTO"
        yield container, stream


def _decoded(path, container, stream, number: int = 0) -> Iterator[av.VideoFrame]:
    """Whole frames in the order in which they are shown; the first is called `number` in errors.

    What stands before the first key frame of a recording, and a part of a frame at its end, are left out.
    Raises InputError where any other frame cannot be decoded, and at the end of a file that is cut off.
    """
    tail = _TAIL if container.format.name in _ENDS_ANYWHERE else 0
    packets, packet, begun, lost, late = _ahead(_demux(container, stream)), True, not tail, False, 0
    while packet is not None:
        try:
            packet = None
            packet, following = next(packets, (None, ()))
            if packet and packet.is_corrupt and not _is_joint(packet, following):
                lost = begun
            found = packet.decode() if packet else []
        except (av.FFmpegError, ValueError):
            lost, found = begun, [] if packet else _rest(stream)
        for frame in found:
            if frame.is_corrupt or lost:
                lost, late = begun, late + (lost and begun)
            else:
                begun = True
                yield frame
                number += 1
        if late > tail or (lost and not tail):
            raise InputError(f"{path} is truncated or damaged: frame {number} cannot be decoded")
    if containers.is_cut_off(path, container, stream):
        raise InputError(f"{path} is truncated: what follows frame {number - 1} is missing")


def _demux(container, stream) -> Iterator[av.Packet]:
    """Its packets, the last of them empty; but those of streams that PyAV does not know.

    Raises av.FFmpegError where a Matroska file is damaged: FFmpeg goes on behind it and tells its log alone.
    """
    packets, tells = container.demux(stream), "matroska" in container.format.name
    while True:
        with _heard() if tells else contextlib.nullcontext([]) as told:
            try:
                packet = next(packets, None)
            except IndexError:
                packets = container.demux(stream)
                continue
        if any("matroska" in name for _, name, _ in told):
            raise av.InvalidDataError(0, told[0][2])
        if packet is None:
            return
        yield packet


@contextlib.contextmanager
def _heard():
    """What FFmpeg's log says of errors in this thread within the block, which one thread at a time is in."""
    with _HEARING:
        yield from _listening()


def _listening():
    before, repeats = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)
    av.logging.set_level(_ERRORS)
    try:
        with av.logging.Capture() as told:
            yield told
    finally:
        av.logging.set_skip_repeated(repeats)
        if before not in (None, _ERRORS):
            av.logging.set_level(before)
        else:  # The level stays: without one, a decoder's thread that is about to log would fail.
            av.logging.set_libav_level(_QUIET)
            av.logging.restore_default_callback()


def _ahead(packets, count: int = 4) -> Iterator[tuple[av.Packet, list[av.Packet]]]:
    """(packet, the next ones)."""
    waiting, failure = collections.deque(), None
    try:
        for packet in packets:
            waiting.append(packet)
            if len(waiting) > count:
                yield waiting.popleft(), list(waiting)
    except av.FFmpegError as error:
        failure = error
    while waiting:
        yield waiting.popleft(), list(waiting)
    if failure is not None:
        raise failure


def _is_joint(packet, following) -> bool:
    """Whether recordings may meet here, at a key frame: a packet before is called corrupt, but is whole."""
    return any(each.is_keyframe for each in (packet, *following))


def _rest(stream) -> list[av.VideoFrame]:
    """What the decoder still holds."""
    try:
        return stream.codec_context.decode(None)
    except av.FFmpegError:
        return []
