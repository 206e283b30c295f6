"""What a camera shows when it shows nothing: a covered lens, a lost signal, a test card, a wall.

No photograph of a room holds them, and a network that never saw one may answer anything: one of
ours called a fifth of a black frame and half of the colour bars a person. None shows a person,
so the target is 0 everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from edge_seg.arrays import Picture

Rng = np.random.Generator


def draw(rng: Rng, size: int) -> Picture:
    """A picture without anything in it, uint8 (size, size, 3)."""
    card = CARDS[int(rng.integers(len(CARDS)))](rng, size)
    if rng.random() < 0.3:  # cards are laid over each other: captions, borders, half a signal
        other = CARDS[int(rng.integers(len(CARDS)))](rng, size)
        low, high = np.sort(rng.integers(0, size + 1, (2, 2)), axis=0)
        card[low[0] : high[0], low[1] : high[1]] = other[low[0] : high[0], low[1] : high[1]]
    return card


def _colour(rng: Rng) -> tuple[float, float, float]:
    """Black, white, grey, a pure colour or any."""
    kind = rng.random()
    if kind < 0.25:
        return (float(rng.integers(0, 24)),) * 3
    if kind < 0.5:
        return (float(rng.integers(0, 256)),) * 3
    if kind < 0.75:
        level = float(rng.choice([128, 192, 255]))
        blue, green, red = (float(n) * level for n in rng.integers(0, 2, 3))
        return blue, green, red
    blue, green, red = (float(n) for n in rng.integers(0, 256, 3))
    return blue, green, red


def _flat(rng: Rng, size: int) -> Picture:
    """One colour: a covered lens, a blank signal."""
    return np.full((size, size, 3), _colour(rng), np.uint8)


def _covered(rng: Rng, size: int) -> Picture:
    """Nearly black, with a sensor's noise: a lens cap, a hand, a room at night."""
    level, spread = rng.uniform(0, 24), rng.uniform(0, 6)
    noise = rng.normal(0, spread, (size, size, 3)) + rng.normal(0, 2, 3)
    return np.clip(np.rint(level + noise), 0, 255).astype(np.uint8)


def _slope(rng: Rng, size: int) -> Picture:
    """One colour passing into another, straight or round: a lit wall, a hand over the lens."""
    y, x = np.mgrid[0:size, 0:size] / max(1, size - 1)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        share = 0.5 + (x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle)
    else:
        centre_x, centre_y = rng.uniform(0, 1, 2)
        share = np.hypot(x - centre_x, y - centre_y) / rng.uniform(0.3, 1.2)
    share = np.clip(share, 0, 1)[:, :, None]
    first, last = np.array(_colour(rng)), np.array(_colour(rng))
    return np.rint(first + share * (last - first)).astype(np.uint8)


def _bars(rng: Rng, size: int) -> Picture:
    """Bars of colour or grey steps, upright or lying, in one band or several."""
    card = np.empty((size, size, 3), np.uint8)
    bands = np.sort(rng.integers(0, size, int(rng.integers(0, 3))))
    edges = [0, *bands.tolist(), size]
    for top, bottom in zip(edges, edges[1:], strict=False):
        count = int(rng.integers(2, 12))
        for bar in range(count):
            left, right = bar * size // count, (bar + 1) * size // count
            card[top:bottom, left:right] = _colour(rng)
    return np.ascontiguousarray(np.rot90(card)) if rng.random() < 0.3 else card


def _checks(rng: Rng, size: int) -> Picture:
    """A chessboard or a grid of lines, as lenses are measured with."""
    step = max(2, round(size / rng.uniform(3, 24)))
    y, x = np.indices((size, size)) + rng.integers(0, step, 2)[:, None, None]
    if rng.random() < 0.6:
        odd = (y // step + x // step) % 2
    else:
        odd = ((y % step < max(1, step // 8)) | (x % step < max(1, step // 8))).astype(np.int64)
    return np.array([_colour(rng), _colour(rng)], np.uint8)[odd]


def _figures(rng: Rng, size: int) -> Picture:
    """Discs, ellipses and rectangles: a test card's circle, a logo, a screen saver."""
    card = _flat(rng, size)
    for _ in range(int(rng.integers(1, 5))):
        middle = tuple(int(n) for n in rng.uniform(0, size, 2))
        axes = tuple(int(n) for n in rng.uniform(0.05, 0.45, 2) * size)
        thickness = -1 if rng.random() < 0.7 else max(1, size // 60)
        if rng.random() < 0.6:
            axes = (axes[0], axes[0]) if rng.random() < 0.5 else axes
            cv2.ellipse(card, middle, axes, rng.uniform(0, 180), 0, 360, _colour(rng), thickness)
        else:
            corner = (middle[0] + axes[0], middle[1] + axes[1])
            cv2.rectangle(card, middle, corner, _colour(rng), thickness)
    return card


def _rings(rng: Rng, size: int) -> Picture:
    """Rings in rings, a zone plate or a star of wedges: a lens chart, a fan, a tunnel of light."""
    y, x = np.mgrid[0:size, 0:size] / max(1, size - 1) - rng.uniform(0.2, 0.8, 2)[:, None, None]
    radius = np.hypot(x * rng.uniform(0.7, 1.4), y)
    kind = rng.random()
    if kind < 0.5:
        phase = radius * rng.uniform(3, 30)
    elif kind < 0.75:
        phase = radius**2 * rng.uniform(5, 60)  # a zone plate: finer towards the rim
    else:
        phase = np.arctan2(y, x) / (2 * math.pi) * 2 * rng.integers(2, 24)
    share = (np.cos(2 * math.pi * (phase + rng.random())) + 1) / 2
    if rng.random() < 0.5:
        share = (share > 0.5).astype(np.float64)
    first, last = np.array(_colour(rng)), np.array(_colour(rng))
    return np.rint(first + share[:, :, None] * (last - first)).astype(np.uint8)


def _snow(rng: Rng, size: int) -> Picture:
    """Noise of any grain, grey or coloured: a lost signal, a sensor in the dark."""
    grain = int(rng.integers(1, 1 + max(1, size // 12)))
    small = -(-size // grain)
    channels = 1 if rng.random() < 0.5 else 3
    low, high = np.sort(rng.integers(0, 256, 2))
    noise = rng.integers(low, high + 1, (small, small, channels)).astype(np.uint8)
    noise = np.repeat(noise, 3 // channels, axis=2)
    flag = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(noise, (size, size), interpolation=flag), dtype=np.uint8)


CARDS: tuple[Callable[[Rng, int], Picture], ...] = (
    _flat,
    _covered,
    _slope,
    _bars,
    _checks,
    _figures,
    _rings,
    _snow,
)
