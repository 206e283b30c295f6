"""Pictures on disk, and lists of them: untrusted files in, uint8 (H, W, 3) BGR out.

A picture's size is known before its pixels take memory, and one that is truncated is refused by
name, whatever this OpenCV would have made of it. Errors name the file and, in a list, the line.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path

import cv2
import numpy as np

from edge_seg.arrays import Picture
from edge_seg.errors import CameraError, DatasetError
from edge_seg.formats import MAX_PIXELS, MAX_SIDE

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MAX_FILE_BYTES = 256 << 20  # of one picture: an uncompressed 64-megapixel BMP is 192 MiB
MAX_LIST_BYTES = 64 << 20
MOST_CUTS = 15  # of a list's line into picture and label
REDUCED = {  # what a JPEG decoder does in the frequency domain, for next to nothing
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def is_named_picture(path: Path, suffixes: tuple[str, ...] = PICTURE_SUFFIXES) -> bool:
    """True for what a folder holds as a picture, by its name: no folder, and nothing hidden (macOS
    lays a ._NAME.jpg beside NAME.jpg).
    """
    named = path.suffix.lower() in suffixes and not path.name.startswith(".")
    return named and not os.path.isdir(path)


def read_picture(path: Path) -> Picture:
    """Return a picture as uint8 (H, W, 3) BGR, turned upright where its EXIF says so.

    Grey becomes colour, alpha is dropped, 16 bit becomes 8. Raises CameraError naming the file:
    missing, not a picture, truncated, over 64 megapixels or 32766 px a side.
    """
    return decode_picture(picture_bytes(path), path)


def picture_bytes(path: Path) -> bytes:
    """Return a picture file's bytes, up to 256 MiB of them. Raises CameraError naming the file."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise CameraError(
                    f"{path}: wanted a picture, found a pipe or a device; check the path"
                )
            if facts.st_size > MAX_FILE_BYTES:
                raise CameraError(
                    f"{path}: wanted a picture's file of at most {MAX_FILE_BYTES >> 20} MiB, found "
                    f"{facts.st_size >> 20}; reduce it"
                )
            return file.read()
    except CameraError:
        raise
    except OSError as error:
        raise CameraError(
            f"{path}: wanted a picture, found: {error.strerror or error}; check the path"
        ) from error
    except MemoryError as error:
        raise _no_memory(path) from error


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for who writes into a pipe."""
    try:
        return os.open(path, flags | os.O_NONBLOCK)
    except BlockingIOError:  # a file that a file server lends to somebody: it is given back soon
        return os.open(path, flags)


def decode_picture(data: bytes, path: Path, *, side: int = 0) -> Picture:
    """Decode what `picture_bytes` returned, as `read_picture` describes; path: for errors.

    side: where it is not 0 a small picture is enough, of at least so many pixels on its shorter
    side: a JPEG is then decoded to a half, a quarter or an eighth (in a fraction of the time and
    memory); other formats come whole.
    """
    width, height = picture_size(data)
    if data and not width * height:
        # OpenCV would go by the content and decode formats whose size we do not check.
        raise CameraError(
            f"{path}: wanted a JPEG, PNG, BMP or WebP picture, found other bytes (or a header cut "
            "short); convert, replace or remove it"
        )
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise CameraError(
            f"{path}: wanted a picture of at most {MAX_PIXELS} pixels and {MAX_SIDE} a side, found "
            f"{width}x{height}; reduce it"
        )
    jpeg = data[:2] == b"\xff\xd8"
    flag = cv2.IMREAD_COLOR
    if side and jpeg:
        halvings = [n for n in REDUCED if min(width, height) >= n * side]
        flag = REDUCED[max(halvings)] if halvings else flag
    frame = None
    if not (jpeg and jpeg_is_cut(data)):
        try:
            frame = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
        except cv2.error as error:
            if error.code == cv2.Error.StsNoMem:
                raise _no_memory(path, f" for {width}x{height} pixels") from error
            frame = None
    if frame is None:
        raise CameraError(
            f"{path}: wanted a whole picture, found {len(data)} bytes that are not one "
            "(truncated?); replace or remove it"
        )
    return frame


def _no_memory(path: Path, what: str = "") -> CameraError:
    return CameraError(f"{path}: wanted memory{what}, found too little here; reduce the picture")


def at_most(picture: Picture, side: int) -> Picture:
    """Return a picture, uint8 (H, W) or (H, W, C), reduced to `side` px; itself if no longer."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = tuple(max(1, round(scale * n)) for n in picture.shape[1::-1])
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def is_animated(data: bytes) -> bool:
    """True where a PNG or WebP holds more than the one picture that is read of it."""
    if data[:4] == b"RIFF":  # the flag of an extended WebP (RFC 9649, 2.7.1)
        return data[12:16] == b"VP8X" and bool(data[20:21] and data[20] & 2)
    # An APNG's acTL stands before the first data (PNG, third edition, 11.3.6.1).
    return data[:4] == b"\x89PNG" and b"acTL" in data[: max(0, data.find(b"IDAT"))]


def picture_size(data: bytes) -> tuple[int, int]:
    """Return (width, height) as a PNG, JPEG, BMP or WebP header states them, (0, 0) if it does not.

    Only the header is read: a file of a few kB can announce gigabytes of pixels.
    """
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", data[16:24])
        elif data[:2] == b"BM":
            old = data[14:18] == b"\x0c\0\0\0"  # OS/2's header has 16-bit sides
            width, height = struct.unpack(*(("<HH", data[18:22]) if old else ("<ii", data[18:26])))
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            width, height = _webp_size(data)
        elif data[:2] == b"\xff\xd8":
            width, height = _jpeg_size(data)
        else:
            return 0, 0
    except (struct.error, IndexError):
        return 0, 0
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    # The three forms of a first chunk (RFC 9649): extended, lossy, lossless.
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if kind != b"VP8L" or len(data) < 25:
        return 0, 0
    bits = int.from_bytes(data[21:25], "little")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while True:
        marker = data[at + 1]
        if data[at] == 0xFF and marker == 0xFF:
            at += 1  # fill byte
            continue
        # SOF0..SOF15 without the three numbers in between that are tables (ITU T.81, B.1.1.3).
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        if data[at] != 0xFF or marker == 0xDA:
            return 0, 0
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])


def jpeg_is_cut(data: bytes) -> bool:
    """True where a JPEG ends before its end marker.

    OpenCV before 5 decodes such a file without a word and fills the rest with grey. Markers are
    walked, not searched for: a thumbnail inside has an end marker too, and a phone may append
    a video.
    """
    at = 2
    while True:
        if at + 4 > len(data) and data[at : at + 2] != b"\xff\xd9":
            return True
        if data[at] != 0xFF:
            return False  # not the structure we know: the decoder is to judge
        marker = data[at + 1]
        if marker == 0xD9:
            return False
        if marker == 0xFF:
            at += 1  # fill byte
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            # Entropy-coded data: 0xFF is followed by 0 or a restart marker until the scan ends.
            end = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]").search(data, at)
            if end is None:
                return True
            at = end.start()


def in_natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of a path: frame2 before frame10."""
    parts = [p for p in re.split(r"([0-9]+)", path.name) if p]
    return [(0, int(p), p) if p.isascii() and p.isdigit() else (1, 0, p) for p in parts]


def read_list(path: Path) -> list[tuple[Path, Path | None]]:
    """Return the (picture, label or None) pairs of a list file, in its order.

    One line per picture, `picture<space>label`, the label optional; paths relative to the list's
    folder or absolute; empty lines are skipped. A name may hold spaces where the files are there
    to tell. Raises DatasetError naming the file and the line: a missing file, a wrong line, an
    empty list.
    """
    lines = read_lines(path)
    pairs = [_pair(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise DatasetError(f"{path}: wanted a line per picture, found an empty list")
    return pairs


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list file, UTF-8 with or without the mark that Windows puts before it,
    up to 64 MiB. Raises DatasetError naming the file.
    """
    if path.exists() and not path.is_file():  # it may never end, and is read more than once
        raise DatasetError(
            f"{path}: wanted a list file (text), found a folder, a device or a pipe; write the "
            "list to a file"
        )
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DatasetError(f"{path}: wanted a list of pictures under {MAX_LIST_BYTES} bytes")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        remedy = "check the path" if isinstance(error, OSError) else "save it as text in UTF-8"
        raise DatasetError(
            f"{path}: wanted a list file (text), found: {reason}; {remedy}"
        ) from error


def _pair(line: str, path: Path, number: int) -> tuple[Path, Path | None]:
    line = line.strip()
    # The whole line first, then every way to cut it in two: a name may hold spaces.
    gaps = [match.span() for match in re.finditer(r"\s+", line)]
    cuts = [(line, ""), *((line[:start], line[end:]) for start, end in gaps[:MOST_CUTS])]
    for picture, label in cuts:
        first = path.parent / picture
        second = path.parent / label if label else None
        if not _lacks(first) and (second is None or not _lacks(second)):
            return first, second
    words = line.split()
    missing = next((f"{w!r:.200}, {why}" for w in words if (why := _lacks(path.parent / w))), "")
    what = missing if missing and len(words) <= 2 else f"{line!r:.200}"
    raise DatasetError(
        f"{path} line {number}: wanted `picture label` (relative to the list's folder, or "
        f"absolute), found {what}; correct the line"
    )


def _lacks(path: Path) -> str:
    """Say what a path lacks to be a file; "" for one that is."""
    try:
        return "" if path.is_file() else "which is not a file"
    except OSError as error:  # a name too long for the disk, a folder one may not enter
        return f"which is not a file ({error.strerror or error})"
