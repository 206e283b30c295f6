"""What the labels of a clip say about time: what rests, what has just changed, what was left."""

from __future__ import annotations

import numpy as np

from edge_seg.arrays import Label
from edge_seg.errors import FrameError
from edge_seg.metrics import IGNORE, Binary

SETTLING = 0.2  # s: a truth that changed so recently is not static; also how far back ghosts come
CLOSE = 1e-6  # s: times that differ by less are the same


class Truth:
    """What the labels of a clip say about time, pixel by pixel; the same for every method.

    All are arrays of the label's shape.

    person, valid      of this frame; ignored pixels are not valid
    changed, sign      the truth changed in this frame; last to person (1) or from it (-1)
    changed_at         when it last changed or was ignored, seconds; -inf: never
    static             it did not, now or in the last SETTLING
    left               background now, person within SETTLING
    age                frames since the last change; -1: none seen
    clean              where that change came after SETTLING of rest: its delay can be seen

    label: uint8 (H, W), 0, 1, 255 = ignored. time: seconds.
    """

    def __init__(self, label: Label, time: float) -> None:
        shape = label.shape
        self.label, self.time, self.frames = label, time, 0
        self.person, self.valid = label == 1, label != IGNORE
        self.person_before = self.person
        self.changed = np.zeros(shape, bool)
        self.sign = np.zeros(shape, np.int8)
        self.age = np.full(shape, -1, np.int32)  # -1: no change seen
        self.clean = np.zeros(shape, bool)
        self.changed_at = np.full(shape, -np.inf)
        self.person_at = np.where(self.person, time, -np.inf)

    def advance(self, label: Label, time: float) -> None:
        """Take the next frame's label. Raises FrameError for another size or an earlier time."""
        if label.shape != self.label.shape:
            raise FrameError(
                f"wanted labels of one size in a clip, found {self.label.shape} and then "
                f"{label.shape}; judge the parts apart"
            )
        if not time > self.time:
            raise FrameError(
                f"wanted times in seconds that grow, found {self.time:g} and then {time:g}; "
                "correct the clip's times"
            )
        person = label == 1
        self.valid = label != IGNORE
        both = self.valid & (self.label != IGNORE)
        self.changed = (person != self.person) & both
        self.sign = np.where(self.changed, np.where(person, 1, -1), self.sign).astype(np.int8)
        rested = time - self.changed_at >= SETTLING - CLOSE
        self.clean = np.where(self.changed, rested, self.clean & both)
        self.age = np.where(self.changed, 0, np.where(self.age >= 0, self.age + 1, -1))
        self.changed_at[self.changed | ~both] = time
        self.person_before = self.person
        self.label, self.person, self.time = label, person, time
        self.person_at[person] = time
        self.frames += 1

    @property
    def static(self) -> Binary:
        """Where the truth has been the same for longer than SETTLING (or since the start)."""
        return self.valid & (self.time - self.changed_at > SETTLING + CLOSE)

    @property
    def left(self) -> Binary:
        """Where a person was within SETTLING and is no more."""
        return self.valid & ~self.person & (self.time - self.person_at <= SETTLING + CLOSE)
