"""What the bytes of a video file tell beside FFmpeg: whether it is cut off."""

import os
import pathlib
from collections.abc import Callable


def is_cut_off(path: pathlib.Path, container, stream=None) -> bool:
    """Whether a file that tells where its pictures lie, or its parts end, tells of more than it holds."""
    size, name = os.path.getsize(path), container.format.name
    if stream and any(entry.pos + entry.size > size for entry in stream.index_entries):
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
            length = length_of(head.ljust(25, b"\0"))
            if length is None or length < least:  # No part begins here: what follows is none.
                return False
            at += length
        return at > size


_BOXES = b"ftyp moov mdat moof mfra free skip sidx styp uuid wide pnot meta emsg prft udta".split()


def _box(head: bytes) -> int | None:
    """ISO base media (ISO/IEC 14496-12): 32 bits, or 1 and 64 bits behind the name; 0 is to the end."""
    # Cameras and programs append data of their own.
    short = int.from_bytes(head[:4]) if head[4:8] in _BOXES else 0
    return int.from_bytes(head[8:16]) if short == 1 else short or None


def _klv(head: bytes) -> int | None:
    """MXF (SMPTE 377): a key of 16 bytes, its length in BER."""
    if head[:4] != b"\x06\x0e\x2b\x34":
        return None
    more = head[16] & 0x7F if head[16] & 0x80 else 0
    return 17 + more + (int.from_bytes(head[17 : 17 + more]) if more else head[16])


# Where the first part begins, by the file's first bytes; a header's least length; a part's length by it.
_PARTS: dict[str, tuple[Callable, int, Callable]] = {
    "mp4": (lambda head: 0, 8, _box),
    "mxf": (lambda head: 0, 17, _klv),
    "flv": (lambda head: int.from_bytes(head[5:9]) + 4, 11, lambda head: 15 + int.from_bytes(head[1:4])),
    "ivf": (lambda head: int.from_bytes(head[7:5:-1]), 12, lambda head: 12 + int.from_bytes(head[3::-1])),
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
