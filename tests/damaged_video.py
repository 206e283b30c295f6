"""A Motion JPEG video some of whose frames hold nothing that can be decoded."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path


def damage(path: Path, frames: Iterable[int]) -> None:
    """Overwrite these frames of a Motion JPEG in AVI, all but the container's own bytes."""
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(b"00dc....\xff\xd8", data, re.DOTALL)]
    for frame in frames:
        (size,) = struct.unpack("<I", data[starts[frame] + 4 : starts[frame] + 8])
        data[starts[frame] + 8 : starts[frame] + 8 + size] = b"\x55" * size
    path.write_bytes(data)
