"""The rate of a finished WebM, changed in place: its frames are neither read nor written again.

A WebM's times are whole numbers of TimestampScale nanoseconds, and a track states how long a frame
is shown, DefaultDuration (Matroska, RFC 9559, 5.1.2.9 and 5.1.4.1.13). Both lie before the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

HEAD = 4096  # bytes looked through; FFmpeg's head of one video track takes 500
SEGMENT, INFO, TRACKS, TRACK = 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE
TIMESTAMP_SCALE, DEFAULT_DURATION, CLUSTER = 0x2AD7B1, 0x23E383, 0x1F43B675
HOLD_OTHERS = (SEGMENT, INFO, TRACKS, TRACK)


def stretch(path: Path, factor: float) -> bool:
    """Make a WebM last `factor` times as long, its frames as much further apart.

    Returns False, with the file as it was, where it states no such times or has no room for the new
    ones (FFmpeg's 16 times as long, a frame shown for 4 s). Raises OSError.
    """
    with open(path, "r+b") as file:
        head = file.read(HEAD)
        places = dict(_elements(head))
        changes = []
        for element in (TIMESTAMP_SCALE, DEFAULT_DURATION):
            if element not in places:
                return False
            at, size = places[element]
            value = round(int.from_bytes(head[at : at + size], "big") * factor)
            if not 0 < value < 1 << 8 * size:
                return False
            changes.append((at, value.to_bytes(size, "big")))
        for at, content in changes:
            file.seek(at)
            file.write(content)
    return True


def _elements(head: bytes) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield (element, (place, size)) of what lies before the first frame, whole within `head`."""
    at = 0
    while at < len(head):
        element, at = _number(head, at, marked=True)
        size, at = _number(head, at, marked=False)
        if element == CLUSTER or element == 0:
            return
        if element in HOLD_OTHERS:
            continue
        if at + size <= len(head):
            yield element, (at, size)
        at += size


def _number(head: bytes, at: int, *, marked: bool) -> tuple[int, int]:
    """Return EBML's number at a place, and the place behind it; 0 at the end of `head`.

    Its length in bytes is told by how many zeros it begins with (RFC 8794, 4). marked: the bit
    that ends these belongs to it, as in an element's name.
    """
    if at >= len(head) or head[at] == 0:
        return 0, len(head)
    length = 9 - head[at].bit_length()
    number = int.from_bytes(head[at : at + length], "big")
    return (number if marked else number & ~(1 << 7 * length)), at + length
