"""A camera read in a thread of its own: the newest frame is kept, and a lost camera comes back.

Dropping the oldest keeps the delay at one frame however slow the reader of frames is. A frame
older than the deadline is never handed out. A call that hangs in a driver is left behind and
counted: closing never waits for it for long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from edge_seg.arrays import Picture
from edge_seg.camera.policy import LiveCounters, LivePolicy
from edge_seg.camera.reader import GRACE, SLICE, Mailbox, Reader
from edge_seg.camera.shots import Shot, Source
from edge_seg.camera.stream import Stream, Taken
from edge_seg.camera.timing import Clock, RealClock
from edge_seg.errors import CameraError, CameraLost

log = logging.getLogger("edge_seg")


class LiveSource(Source):
    """A camera as a Source. counters: what was dropped, missed, mended.

    Waits for the first frame. Raises CameraError where the camera cannot be opened or gives no
    frame within `policy.start`.
    """

    counters: LiveCounters

    def __init__(
        self,
        connect: Callable[[], Stream],
        *,
        name: str,
        policy: LivePolicy | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(iter(()), describe=name, live=True)
        self.name = name
        self.policy = policy or LivePolicy()
        self.counters = LiveCounters()
        self._clock = clock or RealClock()
        self._connect = connect
        self._mail = Mailbox(name, self.policy, self.counters, self._clock)
        self._last = -math.inf
        self._behind: list[Reader] = []
        self._reader = self._begin()
        try:
            self._await_first()
        except BaseException:  # Ctrl-C too: the thread must not keep the camera
            self.close()
            raise

    def _begin(self) -> Reader:
        return Reader(self._connect, name=self.name, mail=self._mail, clock=self._clock)

    def _await_first(self) -> None:
        limit = self._clock.now() + self.policy.start
        with self._mail.changed:
            while not self._mail.began:
                self._mail.check()
                left = limit - self._clock.now()
                if left <= 0:
                    raise CameraError(
                        f"{self.name}: wanted a first frame within {self.policy.start:g} s, found "
                        "none; is it switched on, connected, and not in use by another program?"
                    )
                self._mail.changed.wait(min(left, SLICE))
        assert self._mail.stream is not None
        self.describe = self._mail.stream.describe
        self.fps = self.policy.fps or self._mail.stream.fps

    def read(self, seconds: float | None = None) -> Shot | None:
        """Return the newest frame, waiting for it; None where none came within `seconds`.

        Raises CameraLost where the camera is given up (`policy.give_up`, `policy.hung`).
        """
        limit = math.inf if seconds is None else self._clock.now() + seconds
        while True:
            with self._mail.changed:
                if self.ended:
                    return None
                self._mail.check()
                taken = self._mail.take()
                if taken is None and self._clock.now() < limit:
                    self._mail.changed.wait(min(limit - self._clock.now(), SLICE))
                    taken = self._mail.take()
            if taken is not None:
                return self._upright(self._shot(*taken))
            self._look_after_reader()
            if self._clock.now() >= limit:
                return None

    def pattern(self) -> Picture | None:
        """Return the colour pattern as it comes through this camera's path; None: cannot be had."""
        return None if self._mail.stream is None else self._mail.stream.pattern()

    def _shot(self, taken: Taken, at: float) -> Shot:
        self._last = max(at, math.nextafter(self._last, math.inf))
        name = f"{self.counters.delivered:06d}"
        self.counters.delivered += 1
        self.lores_format = taken.lores_format
        return Shot(taken.frame, self._last, name, taken.lores)

    def _look_after_reader(self) -> None:
        """Leave a thread behind that hangs in the driver; give up where that is the policy."""
        now, policy = self._clock.now(), self.policy
        if policy.give_up is not None and now - self._mail.alive > policy.give_up:
            self.close()
            raise CameraLost(
                f"{self.name}: wanted a frame, found none for {policy.give_up:g} s; "
                "check the cable and start again"
            )
        if not self._reader.hangs(now):
            return
        self.counters.hung += 1
        self._reader.stop()
        self._behind = [r for r in (*self._behind, self._reader) if r.thread.is_alive()]
        if len(self._behind) > policy.hung:
            self.close()
            raise CameraLost(
                f"{self.name}: wanted a frame, found {len(self._behind)} calls that hang in its "
                "driver; restart the process"
            )
        log.warning("%s: a call hangs in the driver; opening the camera again beside it", self.name)
        self._reader = self._begin()

    def close(self) -> None:
        """Free the camera; may be called twice. Waits at most two seconds for its driver."""
        if self.ended:
            return
        self.ended = True
        reader = self._reader
        reader.stop()
        reader.thread.join(GRACE)
        if reader.thread.is_alive():
            log.warning("%s: the driver did not let go in %g s; left behind", self.name, GRACE)
