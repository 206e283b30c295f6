"""What a temporal smoother is to the segmenter. None ships in this version: masks are per frame.

A smoother works at the network's output size, before the mask is enlarged (a per-pixel filter
costs about thirty times more at 720p), and in seconds, never in frames.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Smoother(Protocol):
    """Anything with these two methods can be passed as `EdgeSegmenter.open(smoother=...)`."""

    def update(
        self, mask: NDArray[np.float32], picture: NDArray[np.uint8], timestamp: float | None
    ) -> NDArray[np.float32]:
        """Return the smoothed mask, of the same shape.

        mask: float32 (h, w) 0..1 at the network's output size. picture: uint8 (H, W, 3), what the
        network saw. timestamp: seconds, any origin, monotonic; None where the caller has none.
        """
        ...

    def reset(self) -> None:
        """Forget what was seen: the next mask is a first one."""
        ...
