"""A watch over a runtime's answers: is it stuck, the same for pictures that are not?

An answer repeated by right (an empty room) is only suspicious. Who suspects a runtime asks it about
two `silhouettes`, which it told apart when it was opened.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture

CHANGED = 3.0  # levels of 255, mean over a picture: more than a sensor's noise, less than a person
STRIDE = 8  # pictures are compared on every eighth pixel: 0.01 ms


class Watch:
    """Counts identical answers to pictures that changed. limit: how many are suspicious; 0: off."""

    def __init__(self, limit: int) -> None:
        self._limit, self._count = limit, 0
        self._answer = b""
        self._seen: Picture | None = None

    def suspects(self, picture: Picture, answer: NDArray[np.generic]) -> bool:
        """Take note of an answer; True where the runtime should be examined."""
        if not self._limit:
            return False
        said = answer.tobytes()  # compared to the first byte that differs; NaNs are equal, too
        if said != self._answer:
            self._answer, self._count, self._seen = said, 0, None
            return False
        seen = np.ascontiguousarray(picture[::STRIDE, ::STRIDE])
        if self._seen is None or self._seen.shape != seen.shape:
            self._seen = seen
            return False
        # Not cv2.norm: in OpenCV 5.0 a signal's handler that raises within it ends the process.
        if int(cv2.absdiff(seen, self._seen).sum()) < CHANGED * seen.size:
            return False
        self._seen, self._count = seen, self._count + 1
        if self._count < self._limit:
            return False
        self._count = 0
        return True


def silhouettes(shape: tuple[int, ...]) -> list[Picture]:
    """Return two pictures of that shape: a bright head and shoulders on dark, left and right."""
    height, width = shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    pictures = []
    for centre in (0.3, 0.7):
        x, y = (columns / width - centre) / 0.18, rows / height
        head = x**2 + ((y - 0.35) / 0.18) ** 2 < 1
        body = (x / 1.6) ** 2 + ((y - 1.05) / 0.5) ** 2 < 1
        tone = np.where(head | body, 200, 40 + 30 * columns / width)
        pictures.append(np.repeat(tone.astype(np.uint8)[..., None], 3, axis=2))
    return pictures
