"""What a segmenter counts about itself: what went wrong how often, how long its masks took.

Plain numbers that only grow, kept by the segmenter and read from any thread; nothing is sent
anywhere. `edge_seg.exporter` shows them to Prometheus where that is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

# Seconds; from a small network on a PC to a large one on a Pi, and the seconds of a fallback.
BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass
class Counters:
    """How often each of these happened since opening.

    failures: calls that failed, retried ones included. hangs: calls given up at the deadline.
    stuck: runtimes left because their answers had frozen. switches: times another runtime took
    over. returns: times an earlier choice came back. lost: frames that got an error for a mask.
    """

    failures: int = 0
    hangs: int = 0
    stuck: int = 0
    switches: int = 0
    returns: int = 0
    lost: int = 0


@dataclass
class Latency:
    """How long calls took, until there was a mask or it was given up as late.

    count: calls. total: seconds of all of them. buckets[i]: calls of at most BOUNDS[i] seconds and
    more than the bound before; the last bucket holds the longer ones.
    """

    count: int = 0
    total: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, seconds: float) -> None:
        """Count one call."""
        self.count += 1
        self.total += seconds
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
