"""The file of weights beside a PaddlePaddle program, walked but not loaded.

paddle2onnx does not notice where the file ends: of a truncated one it fills the last weights with
whatever lies in memory, and says that all went well. So its length is checked here first.

One tensor after the other, little-endian (Paddle's SerializeToStream; walked to the last byte on
files that PaddlePaddle 3.3.1 wrote):

    uint32 version 0    uint64 count of LoD levels, each uint64 bytes + so many bytes
    uint32 version 0    int32 bytes of a TensorDesc (protobuf: 1 element type, 2 dims), itself, data
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from edge_seg.errors import ConversionError

# VarType of paddle/fluid/framework/framework.proto: bytes of an element.
ELEMENT_BYTES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2}
MAX_DESCRIPTION = 1024  # bytes of a TensorDesc: a type and a few dims
MAX_LEVELS = 16


class _Damaged(Exception):
    """What is wrong with the file, without its name."""


def check(path: Path) -> int:
    """Return the number of tensors, 1 or more, all whole; ConversionError otherwise."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            count = 0
            while file.tell() < size:
                _skip_tensor(file, size)
                count += 1
            if not count:
                raise _Damaged("an empty file")
    except _Damaged as error:
        raise ConversionError(
            f"{path}: wanted the weights of a PaddlePaddle inference model, found {error}; "
            "copy or export the model again"
        ) from None
    except OSError as error:
        raise ConversionError(
            f"{path}: wanted to read it, found: {error.strerror or error}; check the file"
        ) from error
    return count


def _skip_tensor(file: BinaryIO, size: int) -> None:
    start = file.tell()
    version, levels = _numbers(file, "<IQ")
    if version != 0 or levels > MAX_LEVELS:
        raise _Damaged(f"something else than a tensor at byte {start}")
    for _ in range(levels):
        _skip(file, _numbers(file, "<Q")[0], size)
    version, length = _numbers(file, "<Ii")
    if version != 0 or not 0 < length <= MAX_DESCRIPTION:
        raise _Damaged(f"something else than a tensor at byte {start}")
    kind, dims = _description(file.read(length))
    if kind not in ELEMENT_BYTES or any(d < 0 for d in dims):
        raise _Damaged(f"a tensor of element type {kind} and sizes {dims} at byte {start}")
    _skip(file, math.prod(dims) * ELEMENT_BYTES[kind], size)


def _numbers(file: BinaryIO, layout: str) -> tuple[int, ...]:
    content = file.read(struct.calcsize(layout))
    if len(content) < struct.calcsize(layout):
        raise _Damaged("the file's end within a tensor: it was cut off")
    return struct.unpack(layout, content)


def _skip(file: BinaryIO, count: int, size: int) -> None:
    end = file.tell() + count
    if end > size:
        raise _Damaged(f"a file of {size} bytes that claims to go on to byte {end}: it was cut off")
    file.seek(end)


def _description(content: bytes) -> tuple[int, list[int]]:
    """Read a TensorDesc: element type and dims, packed or one by one."""
    kind, dims, place = -1, [], 0
    while place < len(content):
        key, place = _varint(content, place)
        value, place = _varint(content, place)
        if key == 0x08:
            kind = value
        elif key == 0x10:
            dims.append(_signed(value))
        elif key == 0x12 and place + value <= len(content):  # packed
            end = place + value
            while place < end:
                value, place = _varint(content, place)
                dims.append(_signed(value))
        else:
            raise _Damaged("a tensor's description that cannot be read")
    return kind, dims


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            break
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise _Damaged("a tensor's description that cannot be read")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
