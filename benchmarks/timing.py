"""Times of several calls, side by side in one run: interleaved, warmed up, medians.

Interleaving lets a slow moment of the machine hit both sides; only ratios are quoted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

WARM_UP = 20


def side_by_side(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = 200, block: int = 5
) -> dict[str, float]:
    """Return the median milliseconds of each call.

    Each round times `block` calls of every side in turn; the median is over all single calls.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(1, rounds // block)):
        for name, call in calls.items():
            call()  # the first call after another side's work refills the caches
            for _ in range(block):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}
