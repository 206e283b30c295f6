"""A camera read in a thread of its own: the newest frame is kept, and a lost camera comes back.

    connect() -> Stream     opens the camera; raises CameraError with a sentence
    Stream.read(seconds)    the next frame, None where none came in time; raises CameraLost

Dropping the oldest keeps the delay at one frame however slow the reader of frames is. A frame
older than the deadline is never handed out. A camera that has given a frame is opened again, with
growing pauses, when it stops; one that never gave any is an error. A call that hangs in a driver
is left behind and counted: closing never waits for it for long.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_seg.camera.shots import Shot, Source
from edge_seg.camera.timing import CameraClock, Clock, RealClock, Thread
from edge_seg.errors import CameraError, CameraLost, SettingError
from edge_seg.ranges import within

log = logging.getLogger("edge_seg")
Picture = NDArray[np.uint8]

DROPS = ("oldest", "none")
SLICE = 0.25  # seconds a thread waits at most before it looks whether it should end
GRACE = 2.0  # seconds beyond what a call was given before it counts as hung, and to close in


@dataclass(frozen=True)
class Taken:
    """One frame from a camera. at: seconds on the camera's clock, None where it says nothing."""

    frame: Picture
    at: float | None = None
    lores: Picture | None = None
    lores_format: str = "yuv420"


@dataclass(frozen=True)
class Request:
    """What is asked of a camera, which may give something else. size, lores: (height, width).

    format: of the frames handed out, which it may not change.
    """

    format: str = "bgr"
    size: tuple[int, int] | None = None
    fps: float | None = None
    lores: tuple[int, int] | None = None


class Stream(Protocol):
    """An opened camera. Only the thread that opened it reads and closes it."""

    @property
    def describe(self) -> str:
        """For people: which camera, which size."""
        ...

    @property
    def fps(self) -> float | None:
        """Nominal rate, None where unknown."""
        ...

    @property
    def blocks(self) -> float:
        """Seconds a read may take at worst, whatever it was given: what the driver does."""
        ...

    def read(self, seconds: float) -> Taken | None:
        """Return the next frame, None where none came within `seconds`. Raises CameraLost."""
        ...

    def pattern(self) -> Picture | None:
        """Return `colors.bars` as they come through this camera's own path; None: no way to."""
        ...

    def close(self) -> None:
        """Free the camera."""
        ...


LIMITS: dict[str, tuple[float, float]] = {
    "start": (0.001, 600.0),
    "stall": (0.001, 300.0),
    "deadline": (0.001, 60.0),
    "pause": (0.001, 60.0),
    "longest_pause": (0.001, 3600.0),
    "give_up": (0.001, math.inf),
    "hung": (0, 1000),
    "fps": (0.001, 1000.0),
}
ENDLESS = ("start", "stall", "deadline")  # math.inf: no limit


@dataclass(frozen=True)
class LivePolicy:
    """What a live source does when frames come too fast, too late or not at all. Seconds.

    Raises SettingError for numbers that mean nothing, and for times that look like milliseconds.

    drop: "oldest" keeps only the newest frame; "none" lets the camera wait for the reader, which
        then sees frames as old as the camera's own queue. start: to the first frame, then it is an
        error. stall: without a fresh frame until the camera is opened again. deadline: the age at
        which a frame is thrown away. math.inf for one of these three: no limit. pause,
        longest_pause: between attempts to open it again, the first and, doubled every time, the
        last. give_up: without a frame until CameraLost is raised; None keeps trying. hung: calls
        that may hang at once before CameraLost is raised: each keeps a thread. fps: hand out no
        more frames per second than this.
    """

    drop: str = "oldest"
    start: float = 10.0
    stall: float = 3.0
    deadline: float = 1.0
    pause: float = 0.5
    longest_pause: float = 10.0
    give_up: float | None = None
    hung: int = 3
    fps: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no source could keep. Raises SettingError."""
        if self.drop not in DROPS:
            raise SettingError(f"wanted drop= one of {DROPS}, found {self.drop!r}; correct it")
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is None and name in ("give_up", "fps"):
                continue
            if name in ENDLESS and within(value, math.inf, math.inf):
                continue
            if not within(value, least, most, whole=name == "hung"):
                units = {"hung": "a whole number", "fps": "frames per second"}
                above = name not in units and within(value, most, math.inf)
                mend = "if it is in milliseconds, divide by 1000" if above else "correct it"
                raise SettingError(
                    f"wanted LivePolicy({name}=...) as {units.get(name, 'seconds')} from {least} "
                    f"to {most}, found {value!r:.40}; {mend}"
                )


@dataclass
class LiveCounters:
    """How often what happened. dropped: replaced by a newer frame before anybody took it. stale:
    older than the deadline. skipped: more than the rate asked for. stalls: no frame in time.
    reconnects: opened again. hung: calls left behind.
    """

    delivered: int = 0
    dropped: int = 0
    stale: int = 0
    skipped: int = 0
    stalls: int = 0
    reconnects: int = 0
    hung: int = 0


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
        self._mail = _Mailbox(name, self.policy, self.counters, self._clock)
        self._last = -math.inf
        self._behind: list[_Reader] = []
        self._reader = self._begin()
        try:
            self._await_first()
        except BaseException:  # Ctrl-C too: the thread must not keep the camera
            self.close()
            raise

    def _begin(self) -> _Reader:
        return _Reader(self._connect, name=self.name, mail=self._mail, clock=self._clock)

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


class _Mailbox:
    """One frame on its way from the thread to the reader of frames, and what both must know.

    alive: when the camera last gave a frame that was not too old, whoever wanted it or not.
    """

    def __init__(self, name: str, policy: LivePolicy, counters: LiveCounters, clock: Clock) -> None:
        self.changed = clock.condition()
        self.began = False
        self.alive = -math.inf
        self.stream: Stream | None = None
        self._name, self._policy, self._counters, self._clock = name, policy, counters, clock
        self._times = CameraClock()
        self._told = False
        self._slot: tuple[Taken, float] | None = None
        self._failure: CameraError | None = None
        self._due = -math.inf

    def opened(self, stream: Stream) -> None:
        with self.changed:
            self.stream = stream
            self._times.forget()

    def put(self, taken: Taken, reader: _Reader) -> bool:
        """Take a frame from the thread; False where it is too old to be of use."""
        with self.changed:
            if reader.is_stopped():  # left behind, and back: its camera is another's by now
                return False
            now = self._clock.now()
            at = now if taken.at is None else self._times.ours(taken.at, now)
            self._tell_of_odd_stamps()
            if self._policy.drop == "oldest" and self._is_old(taken, now - at):
                self._counters.stale += 1
                return False
            self.alive = now
            if self._early(at):
                self._counters.skipped += 1
                return True
            while (
                self._slot is not None and self._policy.drop == "none" and not reader.is_stopped()
            ):
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
        return unknown or age > self._policy.deadline

    def _early(self, at: float) -> bool:
        """True for a frame beyond the rate asked for: those nearest to its beat are kept.

        at: on our clock and never ahead of it, so no frame is due later than one and a half beats
        from now, whatever the camera's clock does.
        """
        if self._policy.fps is None:
            return False
        beat = 1.0 / self._policy.fps
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
        if now - slot[1] > self._policy.deadline and self._policy.drop == "oldest":
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


class _Reader:
    """The thread that reads one camera and opens it again when it stops."""

    def __init__(
        self, connect: Callable[[], Stream], *, name: str, mail: _Mailbox, clock: Clock
    ) -> None:
        self._stopped = False
        self._connect, self._name, self._mail, self._clock = connect, name, mail, clock
        self._policy = mail._policy
        self._attempts = 0
        self._lost_at: float | None = None
        self._due = math.inf
        self.expect(self._policy.start)
        self.thread: Thread = clock.start(self._work, "edge_seg-camera")

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
        """End the thread as soon as it comes back from the driver."""
        with self._mail.changed:
            self._stopped = True
            self._mail.changed.notify_all()

    def _work(self) -> None:
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
