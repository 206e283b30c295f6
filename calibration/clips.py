"""Clips with truth on disk: a folder holding frames/ and masks/, every frame with its mask.

    frame  uint8 (H, W, 3) BGR     label  uint8 (H, W) 0, 1, 255 = ignored     time  seconds

Frames follow each other in name order at one rate, so times are frame number / rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge_seg.arrays import LabelledFrame
from edge_seg.calibration.dataset import clip_pairs, load_pair
from edge_seg.errors import DatasetError


def clip_shots(folder: Path, fps: float) -> Iterator[LabelledFrame]:
    """Return (frame, label, time) of every frame of a clip, read one at a time.

    fps: frames per second at which it was filmed. Raises DatasetError before anything is read: no
    masks, a frame without its mask, fewer than two frames; and while reading: a mask of another
    size than its frame, frames of two sizes.
    """
    pairs = clip_pairs(folder)
    if len(pairs) < 2:
        raise DatasetError(
            f"{folder}: wanted a clip of two frames or more, found one: nothing moves in it; name "
            "the picture and its mask in a list file to measure it alone"
        )

    def read() -> Iterator[LabelledFrame]:
        first: tuple[int, int] | None = None
        for index, pair in enumerate(pairs):
            frame, label = load_pair(pair)
            size = frame.shape[:2]
            first = first or size
            if size != first:
                raise DatasetError(
                    f"{pair.image}: wanted frames of one size in a clip, found {_by(first)} and "
                    f"then {_by(size)}; judge the parts apart"
                )
            yield frame, label, index / fps

    return read()


def _by(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
