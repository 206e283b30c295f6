"""Two clocks: ours, which waits, and the camera's, which drifts.

`Clock` is everything of time and threads a live source uses, so that a test can put hours into
seconds. `CameraClock` says when, by our clock, the camera took a frame.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from edge_seg import threads


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

    def start(self, work: Callable[[], None], stop: Callable[[], None], name: str) -> Thread:
        """Start a thread that does not keep the process alive. stop: asks it to end."""
        ...


class RealClock:
    """The time of day's monotonic sister, `time.monotonic`."""

    def now(self) -> float:
        """Seconds, monotonic."""
        return time.monotonic()

    def condition(self) -> Condition:
        """Return a `threading.Condition`."""
        return threading.Condition()

    def start(self, work: Callable[[], None], stop: Callable[[], None], name: str) -> Thread:
        """Start a thread of ours, which is stopped and waited for when the process ends."""
        thread = threads.Thread(work, stop, name)
        thread.start()
        return thread


WINDOW = 20.0  # seconds of frames whose delays are compared: clocks 1000 ppm apart are 20 ms off
ODD = 3  # stamps that do not grow, before a camera's stamps are no longer believed
FORGIVEN = 100  # stamps in a row that grow: a clock is set back now and then


class CameraClock:
    """When, on our clock, a camera took its frames.

    A camera stamps frames with a clock of its own: another origin, a little faster or slower. A
    frame reaches us late by a delay that is never negative, so the smallest (ours - camera's) of
    the last WINDOW seconds is the offset plus the shortest delay: the passive synchronisation of
    Olson ("A Passive Solution to the Sensor Synchronization Problem", IROS 2010), with a window for
    his bound on the drift, as some cameras stamp 29.97 frames/s as 30. A frame that waited in a
    queue thus shows its age. The window is of the camera's time: however long frames are held back,
    they are compared with those before.

    A connection's first frames may have waited before anybody could see it (a camera server sends
    what it kept). Such frames come faster than they were taken, so they are `settled` only once one
    came at no more than twice the pace.

    Stamps that repeat or go back again and again (the order of decoding, a driver that fills in a
    constant) say nothing: `odd`. The time of arrival takes their place until `forget`.
    """

    def __init__(self) -> None:
        self.odd = False
        self._strange = self._good = 0
        self._begin()

    def forget(self) -> None:
        """Begin anew: another connection, another origin, stamps that may be believed."""
        self._begin()
        self._strange = self._good = 0
        self.odd = False

    def _begin(self) -> None:
        """Forget what was seen of delays."""
        self._least: deque[tuple[float, float]] = deque()  # (camera's, offset), both growing
        self._last = self._arrived = float("-inf")
        self.settled = False

    def ours(self, taken: float, arrived: float) -> float:
        """Return the time, on our clock, of a frame stamped `taken` that arrived at `arrived`."""
        self._judge(taken)
        if self.odd:
            self.settled = True
            return arrived
        if taken < self._last:  # the camera began anew
            self._begin()
        elif self._least:
            self.settled |= arrived - self._arrived >= 0.5 * (taken - self._last)
        self._last, self._arrived = taken, arrived
        least, offset = self._least, arrived - taken
        while least and least[-1][1] >= offset:
            least.pop()
        least.append((taken, offset))
        while least[0][0] < taken - WINDOW:
            least.popleft()
        return min(arrived, taken + least[0][1])

    def _judge(self, taken: float) -> None:
        """Count stamps that do not grow, and forgive them where many in a row do."""
        if taken <= self._last:
            self._strange, self._good = self._strange + 1, 0
            self.odd |= self._strange >= ODD
        else:
            self._good += 1
            if self._good >= FORGIVEN:
                self._strange = 0
