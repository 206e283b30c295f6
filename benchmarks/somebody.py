"""Frames of somebody who moves, for measurements: scikit-image's astronaut (NASA, public domain).

A drawing does not do: the network sees nobody in it, and then the contours cost nothing.
"""

from __future__ import annotations

import cv2
from skimage import data

from edge_seg.arrays import Picture


def somebody(size: tuple[int, int], steps: int) -> list[Picture]:
    """Return frames of (height, width) BGR, at most as tall as wide; she moves a few pixels."""
    height, width = size
    side = width + 3 * (steps - 1)
    large = cv2.resize(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), (side, side))
    return [large[:height, 3 * i : 3 * i + width].copy() for i in range(steps)]
