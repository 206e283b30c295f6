"""The times of a stream's frames: numbers of seconds, any origin, and the steps between them."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from edge_seg.errors import FrameError

log = logging.getLogger("edge_seg")

GAP = 1.0  # s: after a longer pause the next frame is a first one (cadence.OLDEST is half of it)
SHORTEST_STEP = 1e-6  # s: less is the same time
REPEATS = 3  # of one time, in a row, that may be frames shown twice; more is a clock that stands
LATE_STEPS = 3  # steps too long to be seconds, in a row, before that is said
SHORTEST_PAUSE = 4.0  # steps below are pauses; above they may be a camera's in ms (250 a second)
# Units in which cameras, containers and RTP (90 kHz, RFC 3551) count, and how many make a second.
UNITS = {"milliseconds": 1e3, "ticks of 1/90000 s": 9e4, "microseconds": 1e6, "nanoseconds": 1e9}
FASTEST = 250.0  # frames a second
USUAL = 30.0  # of the units that may be meant, the one whose rate is nearest is named first


def _units_of(step: float) -> list[str]:
    """The units in which a step is one from frame to frame, the likeliest first."""
    rates = {unit: per_second / step for unit, per_second in UNITS.items()}
    camera = {unit: rate for unit, rate in rates.items() if 1 / GAP <= rate <= FASTEST}
    return sorted(camera, key=lambda unit: abs(math.log(camera[unit] / USUAL)))


def checked_time(timestamp: object) -> float | None:
    """Return a frame's time in seconds as a float; None where it has none.

    Any number will do, NaN too (it is no time). Raises FrameError for what is no number.
    """
    if timestamp is None or type(timestamp) is float:
        return timestamp
    seconds = number(timestamp)
    if seconds is None:
        raise FrameError(
            f"wanted a frame's time as a number of seconds, found {timestamp!r:.60}; pass one "
            "(time.monotonic(), a datetime's .timestamp()), or None for a frame that stands alone"
        )
    return seconds


def number(value: Any) -> float | None:
    """Return what is meant as a number as a float; None for text, True and dates."""
    if isinstance(value, (str, bytes, bool, np.bool_, np.datetime64, np.timedelta64)):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


class FrameTimes:
    """Turns timestamps into steps of seconds, and says when they cannot be seconds.

    step() returns the seconds since the last frame, or None where the frame is a first one: none
    before it, no (finite) time given, time that ran backwards, or a pause longer than `GAP`. A
    repeated time is a step of 0, and None from the fourth in a row: such a clock stands.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._late: list[float] = []
        self._repeats = 0
        self._said: set[str] = set()  # one line of each kind

    @property
    def last(self) -> float:
        """The last frame's time, s; 0 where there is none."""
        return 0.0 if self._last is None else self._last

    def step(self, timestamp: float | None) -> float | None:
        """Return the seconds since the last frame, or None. Raises FrameError for no number."""
        now = checked_time(timestamp)
        if now is None or not math.isfinite(now):
            self._last = None
            return None
        last, self._last = self._last, now
        if last is None:
            return None
        seconds = now - last
        if 0 < seconds < SHORTEST_STEP:
            seconds = 0.0
        self._repeats = 0 if seconds else self._repeats + 1
        if self._repeats > REPEATS:
            self._stands()
            return None
        if 0 <= seconds <= GAP:
            self._late.clear()
            return seconds
        self._suspect(seconds)
        return None

    def _stands(self) -> None:
        if "stands" not in self._said:
            self._said.add("stands")
            log.warning(
                "wanted timestamps that grow, found the same %d times in a row: nothing is "
                "smoothed; pass each frame's own time in seconds",
                self._repeats + 1,
            )

    def _suspect(self, seconds: float) -> None:
        """Say once that times step by what would be a camera's rate in another unit."""
        if seconds < SHORTEST_PAUSE:
            self._late.clear()
            return
        self._late.append(seconds)
        if len(self._late) < LATE_STEPS or "unit" in self._said:
            return
        usual = sorted(self._late)[len(self._late) // 2]
        self._late.clear()
        meant = _units_of(usual)
        if meant:
            self._said.add("unit")
            log.warning(
                "wanted timestamps in seconds, found steps of %g: nothing is smoothed over pauses "
                "so long; %s",
                usual,
                ", ".join(f"if they are {unit}, divide by {UNITS[unit]:g}" for unit in meant),
            )

    def reset(self) -> None:
        """Forget the last time."""
        self._last = None
        self._repeats = 0
        self._late.clear()
