"""Where a camera's picture moves: every cell of a grid against the mean of its last pictures.

    picture   uint8 (H, W, 3)                what the network saw
    small     float32 (3, rows, columns)     the picture on the grid (`reduced`), 0..255
    moving    float32 (rows, columns) 0..1   0: still, but for the camera's noise; 1: it moves

Each cell's mean follows at once what moves there, and averages what is still.
"""

from __future__ import annotations

import cv2
import numpy as np

from edge_seg.arrays import Picture, Soft
from edge_seg.formats import check_picture
from edge_seg.guide import GOES, share_of
from edge_seg.pixels import shrink

GRID = 64  # most cells a side on which pictures are compared
# Levels of 255 by which a cell of the small picture must differ from its mean: up to the first it
# is still, from the second it moves. Both grow with the camera's noise: in medians of a frame's
# differences, most of which are noise. Chosen on the tuning clips of benchmarks/clips.py.
STILL, MOVING = 0.5, 2.0
STILL_NOISE, MOVING_NOISE = 3.0, 5.0
CROWD = 2.0  # of 9 cells around, so many moving ones move the middle one: noise is alone
# Share of cells that move, from which the camera does: then what looks still is plain, not still.
# At .2 people who fill the frame lose their smoothing, at .4 a panning camera's masks are averaged.
PANS = 0.3
CUT_LEVEL, CUT_SHARE = 16.0, 0.6  # levels, and the share of cells over it: another scene
GAIN_STEP = 1.15  # the most a row's light may differ from the whole frame's change
GAIN_MOST = 3.0  # a larger step of the whole frame's light is another scene (or a black frame)
DARK = 4.0  # levels added before light is divided by light
# Rows average their gain with their neighbours'. No response below 0 at any frequency: the mean is
# corrected by what it differs by, and a box of 3 (-1/3 for rows in turn) would swing up, frame by
# frame.
NEIGHBOURS = np.array([[0.25], [0.5], [0.25]], np.float32)
YOUNG = 1.25  # less 1: frames that a mean's first one counts for; what moved may still be settling


class Movement:
    """What moves in one camera's pictures. half_life: seconds over which a still cell forgets half.

    Per frame: `of`, then `learn` with what it returned; `begin` for the first one, and for one that
    `of` calls another scene.
    """

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self._mean: Soft  # of the pictures, as `small`
        self._age: Soft  # s over which the mean was taken, per cell

    def begin(self, small: Soft) -> None:
        """Take a first picture; its memory is kept."""
        self._mean = small
        self._age = np.zeros(small.shape[1:], np.float32)

    def of(self, small: Soft) -> Soft | None:
        """Return how much each cell moves, float32 (rows, columns) 0..1; None: another scene.

        The mean picture is first brought to the light of this frame, row by row, so that
        exposure steps and the bands of lamps are no motion.
        """
        gains = _gains(small, self._mean)
        if gains is None:
            return None
        self._mean *= gains[:, None]
        difference = np.abs(small - self._mean).max(axis=0)
        if share_of(difference > CUT_LEVEL) > CUT_SHARE:
            return None
        noise = float(_median(difference[::2, ::2].ravel()))
        still = max(STILL, STILL_NOISE * noise)
        span = max(MOVING, MOVING_NOISE * noise) - still
        moving = np.clip((difference - np.float32(still)) * np.float32(1 / span), 0, 1)
        crowd = np.minimum(cv2.blur(moving, (3, 3)) * np.float32(9 / CROWD), 1)
        if share_of(crowd > GOES) > PANS:
            crowd.fill(1)
        return np.asarray(crowd, dtype=np.float32)

    def learn(self, small: Soft, moving: Soft, seconds: float) -> Soft:
        """Take a picture into the mean, so many seconds after the last.

        Returns the weight it had where nothing moves, float32 (rows, columns) 0..1.
        """
        rests = self._resting(seconds)
        self._mean += (rests + (1 - rests) * moving) * (small - self._mean)
        self._age = (self._age + np.float32(seconds)) * (1 - moving)
        return rests

    def _resting(self, seconds: float) -> Soft:
        """The weight of a frame that is so many seconds after the last, where nothing moves.

        That of the half-life, or of a plain mean over fewer frames where the mean is still young.
        """
        least = np.float32(1 - 2 ** (-seconds / self.half_life))
        if not seconds:
            return np.full_like(self._age, least)
        step = np.float32(seconds)
        return np.maximum(step / (self._age + YOUNG * step), least).astype(np.float32)


def reduced(picture: Picture, size: tuple[int, ...]) -> Soft:
    """Return the picture on a grid, float32 (3, rows, columns) 0..255. Raises FrameError.

    The grid is the mask's, or for a mask with a side over `GRID` one of cells of so many whole
    pixels that it has no more: halving twice takes a third of the time of what is no halving.
    """
    check_picture(picture, "picture", "; pass what the network saw")
    height, width = size
    if max(size) > GRID:
        cell = -(-max(picture.shape) // GRID)
        height, width = (max(1, round(side / cell)) for side in picture.shape[:2])
    small = shrink(picture, (height, width))
    return np.ascontiguousarray(small.transpose(2, 0, 1), dtype=np.float32)


def _gains(now: Soft, before: Soft) -> Soft | None:
    """Return by how much each row's light changed: the median of the quotient along the row.

    A row that a person fills is held to what the whole frame did, within `GAIN_STEP`. None where
    the whole frame's light changed by more than `GAIN_MOST`.
    """
    bright, was = now[:, :, ::2].sum(axis=0), before[:, :, ::2].sum(axis=0)
    rows = _median((bright + 3 * DARK) / (was + 3 * DARK))
    whole = float(_median(rows))
    if not 1 / GAIN_MOST <= whole <= GAIN_MOST:
        return None
    rows = cv2.filter2D(rows.astype(np.float32)[:, None], -1, NEIGHBOURS)[:, 0]
    return np.asarray(np.clip(rows, whole / GAIN_STEP, whole * GAIN_STEP), dtype=np.float32)


def _median(values: Soft) -> Soft:
    """Return the median along the last axis: np.median without what it does for NaN and masks.

    So few values are sorted sooner than np.partition sets them apart.
    """
    low, high = (values.shape[-1] - 1) // 2, values.shape[-1] // 2
    ordered = np.sort(values, axis=-1)
    return np.asarray((ordered[..., low] + ordered[..., high]) / 2, dtype=np.float32)
