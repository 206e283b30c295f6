"""Drop-outs: runs of frames in which much of the person is missing and comes back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edge_seg.stability.truth import CLOSE

DROP = 0.2  # of the person's area
MEMORY, RETURN = 0.5, 1.0  # s


@dataclass
class Dropouts:
    """Counts runs of frames that cover DROP less of the person than before, and come back.

    "Before" is the best of the last MEMORY, and the frame before however long ago that was: at one
    frame a second there is no other.
    """

    count: int = 0
    _recent: deque[tuple[float, float]] = field(default_factory=deque)
    _lost: tuple[float, float] | None = None  # (since when, what was covered before)

    def add(self, covered: float | None, time: float) -> None:
        """Count one frame. covered: share of the person, None: nobody is there; time: seconds."""
        if covered is None:  # nothing to lose, nothing to return to
            self._recent.clear()
            self._lost = None
            return
        while len(self._recent) > 1 and time - self._recent[0][0] > MEMORY + CLOSE:
            self._recent.popleft()
        best = max((share for _, share in self._recent), default=covered)
        if self._lost is None:
            if covered < best - DROP:
                self._lost = (time, best)
        elif covered >= self._lost[1] - DROP:
            self.count += time - self._lost[0] <= RETURN + CLOSE
            self._lost = None
            self._recent.clear()
        if self._lost is None:
            self._recent.append((time, covered))
