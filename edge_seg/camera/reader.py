"""The thread that reads one camera, and the place where it leaves the newest frame.

A camera that has given a frame is opened again, with growing pauses, when it stops; one that never
gave any is an error. A call that hangs in a driver holds this thread alone: `LiveSource` leaves it
behind.
"""

from __future__ import annotations

import logging
import math
import os
import weakref
from collections.abc import Callable

from edge_seg.camera.policy import LiveCounters, LivePolicy
from edge_seg.camera.stream import Stream, Taken
from edge_seg.camera.timing import CameraClock, Clock, Thread
from edge_seg.errors import CameraError, CameraLost

log = logging.getLogger("edge_seg")

SLICE = 0.25  # seconds a thread waits at most before it looks whether it should end
GRACE = 2.0  # seconds beyond what a call was given before it counts as hung, and to close in


class Mailbox:
    """One frame on its way from the thread to the reader of frames, and what both must know.

    alive: when the camera last gave a frame that was not too old, whoever wanted it or not.
    """

    def __init__(self, name: str, policy: LivePolicy, counters: LiveCounters, clock: Clock) -> None:
        self.changed = clock.condition()
        self.began = False
        self.alive = -math.inf
        self.stream: Stream | None = None
        self._name, self.policy, self._counters, self._clock = name, policy, counters, clock
        self._times = CameraClock()
        self._told = False
        self._slot: tuple[Taken, float] | None = None
        self._failure: CameraError | None = None
        self._due = -math.inf

    def opened(self, stream: Stream) -> None:
        with self.changed:
            self.stream = stream
            self._times.forget()

    def put(self, taken: Taken, reader: _Loop) -> bool:
        """Take a frame from the thread; False where it is too old to be of use."""
        with self.changed:
            if reader.is_stopped():  # left behind, and back: its camera is another's by now
                return False
            now = self._clock.now()
            at = now if taken.at is None else self._times.ours(taken.at, now)
            self._tell_of_odd_stamps()
            if self.policy.drop == "oldest" and self._is_old(taken, now - at):
                self._counters.stale += 1
                return False
            self.alive = now
            if self._early(at):
                self._counters.skipped += 1
                return True
            while self._slot is not None and self.policy.drop == "none" and not reader.is_stopped():
                reader.expect(SLICE)
                self.changed.wait(SLICE)
            if reader.is_stopped():
                return False
            if self._slot is not None:
                self._counters.dropped += 1
            self._slot, self.began = (taken, at), True
            self.changed.notify_all()
        return True

    def _tell_of_odd_stamps(self) -> None:
        if self._times.odd and not self._told:
            self._told = True
            log.warning(
                "%s: the camera's time stamps repeat or go back; frames count from their arrival",
                self._name,
            )

    def _is_old(self, taken: Taken, age: float) -> bool:
        unknown = taken.at is not None and not self._times.settled
        return unknown or age > self.policy.deadline

    def _early(self, at: float) -> bool:
        """True for a frame beyond the rate asked for: those nearest to its beat are kept.

        at: on our clock and never ahead of it, so no frame is due later than one and a half beats
        from now, whatever the camera's clock does.
        """
        if self.policy.fps is None:
            return False
        beat = 1.0 / self.policy.fps
        if at < self._due - 0.5 * beat:
            return True
        self._due = at + beat if at > self._due + beat else self._due + beat
        return False

    def take(self) -> tuple[Taken, float] | None:
        """Hand over the frame, and when it was taken; None where none is fresh. Lock held."""
        slot, self._slot = self._slot, None
        if slot is None:
            return None
        self.changed.notify_all()
        now = self._clock.now()
        if now - slot[1] > self.policy.deadline and self.policy.drop == "oldest":
            self._counters.stale += 1
            return None
        self.alive = now  # with drop="none" the camera had to wait for this
        return slot

    def fail(self, error: CameraError) -> None:
        with self.changed:
            self._failure = error
            self.changed.notify_all()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def count(self, what: str) -> None:
        with self.changed:
            setattr(self._counters, what, getattr(self._counters, what) + 1)


class Reader:
    """The thread that reads one camera, for who started it; ends, too, once nobody has this."""

    def __init__(
        self, connect: Callable[[], Stream], *, name: str, mail: Mailbox, clock: Clock
    ) -> None:
        self._name, self._process = name, os.getpid()
        self._loop = _Loop(connect, name=name, mail=mail, clock=clock)
        # Who drops a camera without closing it must not keep the device and a thread.
        weakref.finalize(self, self._loop.drop).atexit = False
        self.thread: Thread = clock.start(self._loop.work, self._loop.stop, "edge_seg-camera")

    def hangs(self, now: float) -> bool:
        """True where the present call is over its time. Raises CameraLost where it cannot end: in
        a process that was forked, which has no thread of its parent's.
        """
        if os.getpid() != self._process:
            raise CameraLost(
                f"{self._name}: wanted the process that opened the camera, found one forked from "
                "it; open the camera in the process that reads it"
            )
        return self._loop.hangs(now)

    def stop(self) -> None:
        """End the thread as soon as it comes back from the driver."""
        self._loop.stop()


class _Loop:
    """What the thread does: opens the camera, reads it, opens it again when it stops."""

    def __init__(
        self, connect: Callable[[], Stream], *, name: str, mail: Mailbox, clock: Clock
    ) -> None:
        self._stopped = False
        self._connect, self._name, self._mail, self._clock = connect, name, mail, clock
        self._policy = mail.policy
        self._attempts = 0
        self._lost_at: float | None = None
        self._due = math.inf
        self.expect(self._policy.start)

    def expect(self, seconds: float) -> None:
        """Say how long the call that follows may take."""
        self._due = self._clock.now() + seconds + GRACE

    def hangs(self, now: float) -> bool:
        """True where the present call is over its time."""
        return now > self._due

    def is_stopped(self) -> bool:
        """True once the thread is to end."""
        return self._stopped

    def stop(self) -> None:
        """End as soon as the driver comes back."""
        with self._mail.changed:
            self._stopped = True
            self._mail.changed.notify_all()

    def drop(self) -> None:
        """The same, taking no lock: the garbage collector may call this anywhere."""
        self._stopped = True

    def work(self) -> None:
        """Read until stopped, whatever the camera does."""
        while not self.is_stopped():
            try:
                self._session()
            except CameraError as error:
                self._settle(error)
            except Exception as error:  # a vendor's library may raise anything
                self._settle(CameraLost(f"{self._name}: {type(error).__name__}: {error}"))

    def _session(self) -> None:
        """Open the camera, read until it stops, free it."""
        self.expect(self._policy.start)
        stream = self._connect()
        try:
            if not self.is_stopped():
                self._mail.opened(stream)
                self._pump(stream)
        finally:
            self.expect(self._policy.stall)
            stream.close()

    def _pump(self, stream: Stream) -> None:
        fresh = self._clock.now()
        while not self.is_stopped():
            self.expect(max(self._policy.stall, stream.blocks))
            taken = stream.read(SLICE)
            if taken is not None and self._mail.put(taken, self):
                fresh, self._attempts = self._clock.now(), 0
                self._found_again()
            elif self._mail.began and self._clock.now() - fresh >= self._policy.stall:
                self._mail.count("stalls")
                raise CameraLost(f"no fresh frame for {self._policy.stall:g} s")

    def _found_again(self) -> None:
        if self._lost_at is not None:
            log.warning("%s: back after %.1f s", self._name, self._clock.now() - self._lost_at)
            self._lost_at = None

    def _settle(self, error: CameraError) -> None:
        """Wait before the next attempt; end where there was never a frame."""
        if self.is_stopped():
            return
        if not self._mail.began:
            self._stopped = True
            # Nothing was lost: it never worked.
            self._mail.fail(CameraError(str(error)) if isinstance(error, CameraLost) else error)
            return
        if self._lost_at is None:
            self._lost_at = self._clock.now()
            log.warning("%s: lost the camera (%s); trying again", self._name, error)
        pause = min(self._policy.longest_pause, self._policy.pause * 2.0**self._attempts)
        self._attempts = min(self._attempts + 1, 30)
        until = self._clock.now() + pause
        with self._mail.changed:
            while not self.is_stopped() and (left := until - self._clock.now()) > 0:
                self.expect(SLICE)
                self._mail.changed.wait(min(left, SLICE))
        if not self.is_stopped():
            self._mail.count("reconnects")
