"""The picture that contours are drawn by, still where the camera sees nothing new.

    picture  uint8 (H, W, 3)          what the network saw
    moving   float32 (h, w) 0..1      how much each cell of a grid over it moves (smoothing.Steady)
    result   uint8 (H, W, 3)          the picture, averaged in time where nothing moves

`contours` puts the mask's edge where the picture has one. A picture's noise moves that edge in
every frame, also of a mask that stands still: drawn by single frames, contours give back a third to
a half of the flicker that smoothing took away (docs/smoothing.md).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture, Soft

GOES = 0.1  # of a cell's motion: above it the picture goes through. At .3 ghosts exceed 0.5 points
# Share of such cells above which all of the picture goes through: what seems still beside so much
# motion is often only plain. Of .5, .3, .2 and .12 the first to cost a panning camera nothing, and
# none of them cost a standing one's stillness.
BUSY = 0.12


class Guide:
    """An average of one camera's pictures.

    half_life: seconds over which a still pixel forgets half.

    >>> guide = Guide(half_life=0.8)
    >>> bright, dark = (np.full((8, 8, 3), level, np.uint8) for level in (200, 100))
    >>> int(guide.update(bright, None, 0.0).max())
    200
    >>> int(guide.update(dark, np.zeros((2, 2), np.float32), 0.8).max())
    150
    """

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self._mean: Soft | None = None  # (H, W, 3)

    def reset(self) -> None:
        """Forget what was seen: the next picture is a first one."""
        self._mean = None

    def update(self, picture: Picture, moving: Soft | None, seconds: float) -> Picture:
        """Return the picture to draw by; a first one as it is.

        moving: None for a first frame. seconds: since the last picture. A picture of another size
        is a first one.
        """
        busy = 0.0 if moving is None else share_of(moving > GOES)
        if moving is None or self._mean is None or self._mean.shape != picture.shape or busy > BUSY:
            self._mean = picture.astype(np.float32)
            return picture
        share = 1 - 2 ** (-seconds / self.half_life)
        cv2.accumulateWeighted(picture, self._mean, share)
        if busy:
            _take(self._mean, picture, moving)
        return np.asarray(cv2.convertScaleAbs(self._mean), dtype=np.uint8)


def _take(mean: Soft, picture: Picture, moving: Soft) -> None:
    """Set the mean to the picture where that moves.

    A mask makes `accumulateWeighted` three times slower, so it gets the rectangle that moves alone.
    """
    goes = cv2.resize(moving, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR) > GOES
    mask = goes.view(np.uint8)
    left, top, width, height = cv2.boundingRect(mask)
    if not width:  # a cell just above GOES has no pixel that is
        return
    part = np.s_[top : top + height, left : left + width]
    cv2.accumulateWeighted(picture[part], mean[part], 1.0, mask=mask[part])


def share_of(where: NDArray[np.bool_]) -> float:
    """Return how much of it is True, 0..1: `mean` in a third of its time."""
    return np.count_nonzero(where) / where.size
