"""How late the true changes of a clip show in its masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_seg.arrays import Soft
from edge_seg.stability.means import Mean
from edge_seg.stability.truth import CLOSE, Truth

TRACE = 0.4  # s after a true change in which a delay is looked for, and at least TRACE_FRAMES
TRACE_FRAMES = 3
# Of a step's height: raw masks that answer by less do not follow, and their quotient is noise's.
# On the `report` clips (benchmarks/clips.py) the network that ships answers by .06 to .96.
LEAST_STEP = 0.02


@dataclass
class Lag:
    """How late true changes arrive, in frames, against raw masks and raw masks one frame late.

    After a clean step of the truth the raw mask is ahead of a delayed one by (raw - out) * sign.
    Summed over the frames after the step this is the area between the two step responses: the
    mean delay times the height of the step. The same sum for raw masks that are exactly one frame
    late gives that height, so the quotient is the delay in frames, whatever the network's blur.
    """

    own: dict[int, Mean] = field(default_factory=dict)
    one: dict[int, Mean] = field(default_factory=dict)

    def add(self, truth: Truth, out: Soft, raw: Soft, raw_before: Soft) -> None:
        """Count one frame. out, raw, raw_before: float32 of the label's shape."""
        since = truth.time - truth.changed_at
        near = (since <= TRACE + CLOSE) | (truth.age < TRACE_FRAMES)
        where = truth.clean & near & truth.valid & (truth.age >= 0)
        if not where.any():
            return
        ages, sign = truth.age[where], truth.sign[where]
        count = np.bincount(ages)
        for table, late in ((self.own, out), (self.one, raw_before)):
            ahead = np.bincount(ages, weights=(raw[where] - late[where]) * sign)
            for age in np.flatnonzero(count):
                table.setdefault(int(age), Mean()).add(float(ahead[age]), float(count[age]))

    @property
    def frames(self) -> float | None:
        """The delay in frames; None where no step was seen, or raw masks do not follow it."""
        own, one = (sum(m.value or 0.0 for m in t.values()) for t in (self.own, self.one))
        return own / one if one > LEAST_STEP else None
