"""The colour self-test: a picture whose red must come out red.

Half of all reports about wrong colours are red and blue swapped: a camera's "RGB888" is blue first
in memory, OpenCV's order is blue first, everybody else's red first. `bars` is laid out as a camera
would hold it, goes through the source's own conversion, and `judge` looks at what comes out.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from edge_seg import yuv
from edge_seg.arrays import Picture

NAMES = ("red", "green", "blue")
_BGR = ((0, 0, 220), (0, 220, 0), (220, 0, 0))
_HUES = (  # degrees up to which a hue has the name
    *((20, "red"), (70, "yellow"), (165, "green"), (200, "turquoise")),
    *((265, "blue"), (330, "violet"), (361, "red")),
)


def bars(height: int, width: int) -> Picture:
    """Return uint8 (height, width, 3) BGR: a third red, a third green, a third blue, left to right.

    The left quarter of every bar is dark: rows that are read at the wrong distance slant it.
    """
    picture = np.empty((height, width, 3), np.uint8)
    for index, color in enumerate(_BGR):
        left, right = index * width // 3, (index + 1) * width // 3
        picture[:, left:right] = color
        picture[:, left : left + (right - left) // 4] = np.array(color, np.uint8) // 8
    return picture


def judge(frame: Picture, format: str = "bgr") -> str:
    """Return "" where a frame shows `bars` as they are, else what is wrong with it."""
    if format in yuv.PLANAR:
        frame, format = yuv.whole_to_color(frame, format, "bgr"), "bgr"
    if format == "rgb":
        frame = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    height, width = frame.shape[:2]
    wanted = bars(height, width).astype(np.int16)
    seen = [_middle(frame, index) for index in range(3)]
    if seen == list(NAMES[::-1]):
        return "red comes out blue: the channels are swapped"
    if seen != list(NAMES):
        return f"red, green and blue come out as {', '.join(seen)}"
    off = np.abs(frame.astype(np.int16) - wanted).max(axis=2) > 60
    if off.mean() > 0.02 + 12 / width:
        return "the bars are slanted or torn: rows are read at the wrong distance"
    return ""


def _middle(frame: Picture, index: int) -> str:
    height, width = frame.shape[:2]
    x = int((index + 0.6) * width / 3)
    return name_of(frame[height // 4 : 3 * height // 4, max(0, x - 2) : x + 3])


def name_of(patch: Picture) -> str:
    """Return what people call the mean colour of a BGR patch: red, ... , or black, grey, white."""
    blue, green, red = patch.reshape(-1, 3).mean(axis=0) / 255.0
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    if value < 0.15:
        return "black"
    if saturation < 0.25:
        return "white" if value > 0.8 else "grey"
    return next(name for limit, name in _HUES if 360 * hue < limit)
