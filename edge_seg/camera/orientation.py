"""Turning frames upright: kiosks stand on their side, and a mirror is what people expect."""

from __future__ import annotations

import cv2
import numpy as np

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.errors import SettingError

TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


def check_turn(rotate: int, mirror: bool) -> None:
    """Raise SettingError unless `rotate` is 0, 90, 180 or 270, and `mirror` True or False."""
    if rotate not in (0, *TURNS):
        raise SettingError(
            f"wanted a rotation of 0, 90, 180 or 270 degrees, found {rotate!r:.60}; correct it"
        )
    if not isinstance(mirror, (bool, np.bool_)):
        raise SettingError(f"wanted mirror as True or False, found {mirror!r:.60}; correct it")


def orient(
    frame: Picture, *, rotate: int = 0, mirror: bool = False, format: str = "bgr"
) -> Picture:
    """Turn a frame clockwise by 0, 90, 180 or 270 degrees, then mirror it left to right.

    The frame itself where nothing is to be done. Planes ("nv12", "yuv420") stay planes. Raises
    SettingError.
    """
    check_turn(rotate, mirror)
    if not rotate and not mirror:
        return frame
    if format in yuv.PLANAR:
        return yuv.join([_turn(p, rotate, mirror) for p in yuv.planes(frame, format)])
    return _turn(frame, rotate, mirror)


def _turn(plane: Picture, rotate: int, mirror: bool) -> Picture:
    if rotate:
        plane = cv2.rotate(plane, TURNS[rotate])
    return cv2.flip(plane, 1) if mirror else plane
