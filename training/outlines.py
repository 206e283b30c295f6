"""Outlines of what is not a person and stands before one, or where one might.

front   a table across the frame, or a chair's back
post    a thing taller than wide: a bottle, a lamp, a rocket, a rolled flag
about   a point turned about another
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
Rng = np.random.Generator


def front(rng: Rng, size: int) -> Plane:
    """What stands before the person: a table across the frame, or a chair's back at one side.

    uint8 (S, S), 255 inside; touches the lower edge, covers at most half of the frame.
    """
    shape = np.zeros((size, size), np.uint8)
    if rng.random() < 0.5:
        left, right = rng.uniform(0.65, 1.0, 2) * size
        corners = [(0, left), (size, right), (size, size), (0, size)]
        cv2.fillPoly(shape, [np.rint(corners).astype(np.int32)], 255)
        return shape
    centre = (int(rng.uniform(0.0, 1.0) * size), size)
    axes = (int(rng.uniform(0.1, 0.3) * size), int(rng.uniform(0.15, 0.5) * size))
    cv2.ellipse(shape, centre, axes, 0, 0, 360, 255, -1)
    return shape


def post(rng: Rng, size: int, tall: float) -> Plane:
    """A thing taller than wide, `tall` frames high: a bottle, a lamp, a rocket, a rolled flag.

    uint8 (S, S), 255 inside: a body, half of the time a narrower or pointed top, at times a foot.
    """
    shape = np.zeros((size, size), np.uint8)
    height = tall * size
    width = height * math.exp(rng.uniform(math.log(0.08), math.log(0.5)))
    left, foot = rng.uniform(-0.2, 1.0) * size, size * rng.uniform(0.5, 1.2)
    shoulder = foot - height * rng.uniform(0.5, 0.95)
    neck = width * (rng.uniform(0.0, 0.6) if rng.random() < 0.5 else 1.0)
    middle, spread = left + width / 2, width / 2 * rng.uniform(1.0, 2.0)
    rise = foot - (height * rng.uniform(0.02, 0.15) if rng.random() < 0.3 else 0.0)
    right = [
        (middle + neck / 2, foot - height),
        (middle + width / 2, shoulder),
        (middle + width / 2, rise),
        (middle + (spread if rise < foot else width / 2), foot),
    ]
    outline = [*right, *((2 * middle - x, y) for x, y in reversed(right))]
    turn = math.radians(rng.normal(0.0, 6.0))
    turned = [about(point, (middle, foot), turn) for point in outline]
    cv2.fillPoly(shape, [np.rint(turned).astype(np.int32)], 255)
    if rng.random() < 0.3:  # a head of its own: a lamp's shade, a sign
        radius = max(1, round(width * rng.uniform(0.3, 0.9)))
        head = about((middle, foot - height), (middle, foot), turn)
        cv2.circle(shape, (round(head[0]), round(head[1])), radius, 255, -1)
    return shape


def about(
    point: tuple[float, float], centre: tuple[float, float], turn: float
) -> tuple[float, float]:
    """Turn a point about another, so that a box turned about itself keeps what was at `centre`."""
    x, y = point[0] - centre[0], point[1] - centre[1]
    cosine, sine = math.cos(turn), math.sin(turn)
    return centre[0] + cosine * x - sine * y, centre[1] + sine * x + cosine * y
