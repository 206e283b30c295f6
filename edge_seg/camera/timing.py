"""Two clocks: ours, which waits, and the camera's, which drifts.

`Clock` is everything of time and threads a live source uses, so that a test can put hours into
seconds. `CameraClock` says when, by our clock, the camera took a frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Condition(AbstractContextManager[Any], Protocol):
    """What of `threading.Condition` is used."""

    def wait(self, timeout: float | None = None) -> bool:
        """Release, sleep until notified or for `timeout` seconds, take again."""
        ...

    def notify_all(self) -> None:
        """Wake who waits."""
        ...


class Thread(Protocol):
    """What of `threading.Thread` is used."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        ...

    def is_alive(self) -> bool:
        """True until it ends."""
        ...


class Clock(Protocol):
    """Time, and waiting in it. now: seconds, monotonic."""

    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def condition(self) -> Condition:
        """Return a new condition that waits in this time."""
        ...

    def start(self, work: Callable[[], None], name: str) -> Thread:
        """Start a thread that does not keep the process alive."""
        ...


class RealClock:
    """The time of day's monotonic sister, `time.monotonic`."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def condition(self) -> Condition:
        """Return a `threading.Condition`."""
        return threading.Condition()

    def start(self, work: Callable[[], None], name: str) -> Thread:
        """Start a daemon thread: one that hangs in a driver must not keep the process alive."""
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread


class CameraClock:
    """When, on our clock, a camera took its frames.

    A camera stamps frames with a clock of its own: another origin, a little faster or slower. A
    frame reaches us late by a delay that is never negative, so the smallest (ours - camera's) seen
    is the offset plus the shortest delay. What was seen long ago counts less, by the drift two
    crystals can have: the passive synchronisation of Olson ("A Passive Solution to the Sensor
    Synchronization Problem", IROS 2010). A frame that waited in a queue thus shows its age.

    A connection's first frames may have waited before anybody could see it (a camera server sends
    what it kept). Such frames come faster than they were taken, so they are `settled` only once one
    came at no more than twice the pace.

    drift: how much the clocks may disagree, as a share; crystals stay under 1e-4, and what an
    operating system does to its clock under 5e-4.
    """

    def __init__(self, drift: float = 5e-4) -> None:
        self._drift = drift
        self._best: tuple[float, float] | None = None  # (camera's, ours) with the least delay
        self._last = self._arrived = float("-inf")
        self.settled = False

    def ours(self, taken: float, arrived: float) -> float:
        """Return the time, on our clock, of a frame stamped `taken` that arrived at `arrived`."""
        if self._best is None or taken < self._last:  # the first, or the camera began anew
            self._best = (taken, arrived)
            self.settled = False
        else:
            self.settled |= arrived - self._arrived >= 0.5 * (taken - self._last)
            then, at = self._best
            slack = self._drift * (taken - then)
            if arrived - taken <= at - then + slack:
                self._best = (taken, arrived)
        self._last, self._arrived = taken, arrived
        then, at = self._best
        return min(arrived, at + (taken - then))

    def forget(self) -> None:
        """Begin anew: another connection, another origin."""
        self._best, self._last, self.settled = None, float("-inf"), False
