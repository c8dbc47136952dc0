"""What the bytes of a video file tell beside FFmpeg: whether it is cut off, and where decoding can begin."""

import functools
import os
import pathlib
from collections.abc import Callable

import av


def is_cut_off(path: pathlib.Path, container) -> bool:
    """Whether a file that tells where its pictures lie, or its parts end, tells of more than it holds."""
    size, name = os.path.getsize(path), container.format.name
    entries = [entry for stream in container.streams.video[:1] for entry in stream.index_entries]
    if any(entry.pos + entry.size > size for entry in entries):
        return True
    with open(path, "rb") as file:
        if "matroska" in name:
            end = _matroska_end(file.read(4096))
            return end is not None and end > size
        begin, least, length_of = next((parts for kind, parts in _PARTS.items() if kind in name), (None,) * 3)
        if begin is None:
            return False
        at = begin(file.read(16))
        while at < size:
            file.seek(at)
            head = file.read(25)
            length = length_of(head) if len(head) >= least else 1 + least
            if length is None or length < least:  # No part begins here: what follows is not told.
                return False
            at += length
        return at > size


def _box(head: bytes) -> int | None:
    """ISO base media (ISO/IEC 14496-12): 32 bits, or 1 and 64 bits behind the name; 0 is to the end."""
    short = int.from_bytes(head[:4])
    return int.from_bytes(head[8:16]) if short == 1 else short or None


def _klv(head: bytes) -> int | None:
    """MXF (SMPTE 377): a key of 16 bytes, its length in BER."""
    if head[:4] != b"\x06\x0e\x2b\x34":
        return None
    more = head[16] & 0x7F if head[16] & 0x80 else 0
    return 17 + more + (int.from_bytes(head[17 : 17 + more]) if more else head[16])


_little = functools.partial(int.from_bytes, byteorder="little")
# By format: where the first part begins, by the file's first bytes; the bytes of a part's header at least;
# its length by them.
_PARTS: dict[str, tuple[Callable, int, Callable]] = {
    "mp4": (lambda head: 0, 8, _box),
    "mxf": (lambda head: 0, 17, _klv),
    "flv": (lambda head: int.from_bytes(head[5:9]) + 4, 11, lambda head: 15 + int.from_bytes(head[1:4])),
    "ivf": (lambda head: _little(head[6:8]), 12, lambda head: 12 + _little(head[:4])),
}


def _matroska_end(head: bytes) -> int | None:
    """Where the segment of a Matroska file ends, by its header (RFC 8794); None: it does not say."""
    at = 0
    for element in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        at += len(element)
        if head[at - len(element) : at] != element or at >= len(head) or not head[at]:
            return None
        length = 9 - head[at].bit_length()  # The leading zeros of the first byte count the bytes that follow.
        value = int.from_bytes(head[at : at + length]) & ((1 << 7 * length) - 1)
        if value == (1 << 7 * length) - 1:
            return None
        at += length + value
    return at


# Of H.264 and HEVC: the byte of the header with the size of lengths, the type of a unit by its first byte,
# and the types at which decoding begins anew.
_UNITS = {
    "h264": (4, lambda byte: byte & 0x1F, (5,)),
    "hevc": (21, lambda byte: byte >> 1 & 0x3F, range(16, 22)),
}


def restarts(stream) -> Callable[[av.Packet], bool]:
    """Whether decoding can begin at a packet of a stream.

    A mark as key frame tells it, but of H.264 and HEVC, which are also marked where a picture begins to be
    refreshed part by part: there the packet's units tell it, and where these bear no lengths nothing does.
    """
    name = stream.codec_context.name
    if name not in _UNITS:
        return lambda packet: packet.is_keyframe
    place, type_of, types = _UNITS[name]
    header = stream.codec_context.extradata or b""
    if header[:1] != b"\1" or len(header) <= place:
        return lambda packet: False
    width = (header[place] & 3) + 1

    def holds(packet):
        data, at = bytes(packet) if packet.is_keyframe else b"", 0
        while at + width < len(data):
            if type_of(data[at + width]) in types:
                return True
            at += width + int.from_bytes(data[at : at + width])
        return False

    return holds
