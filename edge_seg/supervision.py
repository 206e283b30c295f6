"""Falling back aloud: what happens when a runtime that worked stops working.

    fails    an exception while running      retried after a pause, then the next runtime
    hangs    no answer within the deadline, twice in a row   abandoned and counted, then the next
    stuck    the same answer for pictures that changed, and for two that differ by construction

A call gives an answer or raises: never zeros, never the last answer again. With a deadline, it
does either in time, but for the rare call in which a runtime is examined (up to two calls more).
One log line per change of runtime; `counters` say what happened how often. A runtime that cannot
be freed stops nothing: that is said, and the next one takes over.

edge_seg/choices.py opens runtimes, edge_seg/calls.py makes the calls (with a deadline, in a thread
of ours), edge_seg/watch.py finds what is stuck.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_seg.arrays import Picture
from edge_seg.backends import Tensor
from edge_seg.calls import Here, Hung, Worker
from edge_seg.choices import Choice, Opened, Opening
from edge_seg.counters import Counters
from edge_seg.engine import Engine, Tick
from edge_seg.errors import BackendFailure, BackendUnavailable, MaskLate
from edge_seg.ranges import check
from edge_seg.threads import GRACE
from edge_seg.watch import Watch, silhouettes

log = logging.getLogger("edge_seg")

LONGEST_PAUSE = 30.0  # seconds between attempts once every runtime has failed
MOST_DOUBLINGS = 30  # of a pause: floats end at a thousand
WHOLE = 0.9  # of a deadline: a call that had less says little about a runtime just opened
# Of a policy's numbers: least and most; whole numbers where the least is one.
LIMITS: dict[str, tuple[float, float]] = {
    "deadline": (0.001, 60.0),
    "retries": (0, 1000),
    "pause": (0.0, 3600.0),
    "stuck": (0, 1_000_000),
    "misses": (1, 1000),
    "abandoned": (1, 1000),
    "return_after": (0.001, 604_800.0),
}
OPTIONAL = ("deadline", "return_after")  # None: never


@dataclass(frozen=True)
class Policy:
    """When to give a runtime up.

    deadline: seconds a call may take before it is abandoned; None runs in the caller's thread,
        where nothing can be abandoned (a thread's hand-off costs: benchmarks/supervision.py).
    retries: further calls of a runtime that failed, with this frame or the next one. pause: seconds
        before the first of them and before the first new attempt when all have failed; doubled
        every time.
    stuck: identical answers to changed pictures before a runtime is examined; 0 for never.
    misses: calls in a row that miss the deadline before a runtime is given up. The first call of a
        runtime that took over in the middle of a frame does not count: part of the time was gone.
    abandoned: hung calls left behind, each with a thread and memory. At so many no other runtime is
        opened until one of them ends.
    return_after: seconds after which runtimes before the present one are tried again; None: never.

    Raises SettingError for a number out of range, such as a deadline in milliseconds.
    """

    deadline: float | None = None
    retries: int = 1
    pause: float = 0.02
    stuck: int = 50
    misses: int = 2
    abandoned: int = 3
    return_after: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no supervisor could keep."""
        for name, limits in LIMITS.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            whole = isinstance(limits[0], int)
            unit = "a whole number" if whole else "seconds"
            check(f"Policy({name}=...)", value, limits, unit=unit, whole=whole)


class Supervisor:
    """The runtimes of one bundle, in order; `run` uses the first that works.

    Raises BackendUnavailable listing every refusal where none opens. Not for two threads at once.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy = policy or Policy()
        self.counters = Counters()
        self.reason = ""
        self._choices, self._clock, self._sleep = list(choices), clock, sleep
        self._closed = False
        # Held while the fields below change, never while a vendor's library is called. Reentrant:
        # a signal's handler may close in the middle of it.
        self._lock = threading.RLock()
        self._index = -1
        self._left_behind: list[_Seat] = []
        self._pauses = 0
        self._not_before = 0.0
        self._order = range(len(self._choices))
        self._seat: _Seat | None = None
        self._opening: Opening | None = None
        opening = Opening(self._choices, self._order)
        opening.walk()
        if opening.opened is None:
            raise BackendUnavailable("\n".join(f"  - {line}" for line in opening.refusals))
        self._sit(opening, _joined(*opening.refusals))

    @property
    def engine(self) -> Engine:
        """The opened runtime. Raises BackendFailure while there is none."""
        if self._seat is None:
            raise BackendFailure(f"wanted a runtime that works, found none: {self.reason}")
        return self._seat.engine

    @property
    def degraded(self) -> bool:
        """True where the present runtime is not the first choice, or there is none."""
        return self._index > 0 or (self._seat is None and not self._closed)

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    def run(self, picture: Picture, tick: Tick | None = None) -> tuple[Engine, Tensor]:
        """Return the engine that answered and its answer.

        tick: told the stages "encode" and "infer" as they end; with a deadline "infer" is both.
        Raises MaskLate (no answer to this picture in time; the next may have one),
        BackendFailure (every runtime failed; attempts go on with later calls; or closed meanwhile).
        """
        limit = None if self.policy.deadline is None else self._clock() + self.policy.deadline
        try:
            while True:
                seat = self._ready(limit)
                answer = self._attempt(seat, picture, limit, tick)
                if answer is not None:
                    self._pauses = 0
                    return seat.engine, answer
        except BackendFailure:
            self.counters.lost += 1
            raise

    def _attempt(
        self, seat: _Seat, picture: Picture, limit: float | None, tick: Tick | None
    ) -> Tensor | None:
        """Call once, and again where it failed; None where the runtime was given up."""
        while True:
            left = self._left(limit)
            if left == 0.0:
                found = self.reason or "that the call failed, and no time to try again"
                raise MaskLate(f"wanted a mask in time, found {found}; try the next frame")
            try:
                answer = seat.call(picture, left, tick)
                seat.failed = seat.missed = 0
                frozen = seat.watch.suspects(picture, answer) and self._is_stuck(seat, answer)
            except Hung as hung:
                self._check_open()
                self._miss(seat, hung.seconds)
                return None
            except BackendFailure as failure:
                self._check_open()
                self.counters.failures += 1
                seat.failed += 1  # also across frames: a deadline may leave no time to try again
                if seat.failed > self.policy.retries:
                    self._leave(seat, str(failure))
                    return None
                self._rest(self._pause(seat.failed - 1), limit)
                continue
            if frozen:
                self.counters.stuck += 1
                self._leave(seat, f"the same answer to {self.policy.stuck} changed pictures")
                return None
            return answer

    def _check_open(self) -> None:
        """Raise BackendFailure where another thread has closed this one."""
        if self._closed:
            raise BackendFailure("wanted an open segmenter, found it closed; open again")

    def _miss(self, seat: _Seat, seconds: float) -> None:
        """Count a missed deadline; give the runtime up where there were too many in a row.

        Raises MaskLate where it stays: its call goes on, and the next one waits behind it.
        """
        deadline = self.policy.deadline or 0.0
        if seat.answered or seconds >= WHOLE * deadline:
            seat.missed += 1
        if seat.missed < self.policy.misses:
            raise MaskLate(
                f"wanted a mask within {1e3 * deadline:.0f} ms, found that "
                f"{seat.name} takes longer; try the next frame"
            )
        self.counters.hangs += 1
        self._leave(seat, f"no answer in {1e3 * seconds:.0f} ms", hung=True)

    def _ready(self, limit: float | None) -> _Seat:
        """Return the runtime to use: one that returned, the present one, or a newly opened one."""
        self._check_open()
        self._look_back()
        seat = self._seat
        if seat is not None:
            return seat
        self._left_behind = [left for left in self._left_behind if left.busy]
        if len(self._left_behind) >= self.policy.abandoned:
            raise BackendFailure(
                f"wanted a runtime that answers, found {len(self._left_behind)} calls that hang: "
                f"{self.reason}; restart the process"
            )
        opening = self._opening
        if opening is None:
            if self._clock() < self._not_before:
                raise BackendFailure(
                    f"wanted a runtime that works, found none: {self.reason}; the next attempt "
                    f"follows in {self._not_before - self._clock():.1f} s"
                )
            if self._order.start == 0:
                self.reason = ""  # a new round: what failed before may work again
            opening = self._begin(self._order)
        return self._next(opening, limit)

    def _begin(self, order: range) -> Opening:
        """Return an opening that `close` knows of. Raises BackendFailure where it came first."""
        opening = Opening(self._choices, order)
        with self._lock:
            self._check_open()
            self._opening = opening
        return opening

    def _next(self, opening: Opening, limit: float | None) -> _Seat:
        """Wait for runtimes to open, no longer than the limit; sit on the first that does."""
        if limit is None:
            opening.walk()
        elif not opening.wait(self._left(limit)):
            raise MaskLate(
                f"wanted a mask within {1e3 * (self.policy.deadline or 0):.0f} ms, found the next "
                f"runtime still opening ({self.reason}); try the next frame"
            )
        if opening.opened is None:
            self._check_open()
            self._opening = None
            self._pauses += 1
            self._not_before = self._clock() + self._pause(self._pauses)
            self._order = range(len(self._choices))
            self.reason = _joined(self.reason, *opening.refusals)
            raise BackendFailure(
                f"wanted a runtime that works, found none: {self.reason}"
                f"{'' if opening.refusals else '; no other runtime'}"
            )
        seat = self._sit(opening, _joined(self.reason, *opening.refusals))
        self.counters.switches += 1
        why = f", because {self.reason}" if self.reason else " again"
        log.warning("running on %s%s", seat.name, why)
        return seat

    def _sit(self, opening: Opening, reason: str) -> _Seat:
        """Use what was opened. Raises BackendFailure if `close` came first: that has freed it."""
        assert opening.opened is not None
        threaded = self.policy.deadline is not None
        with self._lock:
            self._check_open()
            self._opening = None
            seat = _Seat(opening.opened, Watch(self.policy.stuck), threaded=threaded)
            self._seat, self._index, self._since = seat, seat.index, self._clock()
        self.reason = reason if seat.index > 0 else ""
        return seat

    def _leave(self, seat: _Seat, why: str, *, hung: bool = False) -> None:
        """Give the present runtime up; the ones after it come next."""
        with self._lock:
            self._seat = None
            opening, self._opening = self._opening, None
            if hung:
                self._left_behind.append(seat)
        self.reason = _joined(self.reason, f"{seat.name}: {why}")
        self._order = range(seat.index + 1, len(self._choices))
        if opening is not None:  # an earlier choice looked at again: it starts over
            opening.cancel()
        seat.end()

    def _look_back(self) -> None:
        """Try the runtimes before the present one again, beside it, when their time has come."""
        seat, after = self._seat, self.policy.return_after
        if seat is None or seat.index == 0 or after is None:
            return
        opening = self._opening
        if opening is None:
            if self._clock() - self._since >= after:
                self._since = self._clock()
                self._begin(range(seat.index)).start()
            return
        if not opening.wait(0):
            return
        if opening.opened is None:
            self._opening = None
            return
        back = self._sit(opening, _joined(*opening.refusals))
        self.counters.returns += 1
        log.warning("back on %s", back.name)
        seat.end()

    def _is_stuck(self, seat: _Seat, answer: Tensor) -> bool:
        """Ask the runtime about two pictures it told apart when it was opened.

        Each has the whole of a deadline: what is left of the frame's would condemn a runtime for
        being busy. Raises BackendFailure, Hung.
        """
        if not seat.tells_apart:
            return False  # by right it says the same of both: it cannot be examined so
        said = [seat.call(p, self.policy.deadline) for p in silhouettes(seat.engine.shape)]
        return all(answer.tobytes() == other.tobytes() for other in said)

    def _left(self, limit: float | None) -> float | None:
        return None if limit is None else max(0.0, limit - self._clock())

    def _pause(self, doublings: int) -> float:
        return min(LONGEST_PAUSE, self.policy.pause * 2.0 ** min(doublings, MOST_DOUBLINGS))

    def _rest(self, seconds: float, limit: float | None) -> None:
        left = self._left(limit)
        self._sleep(seconds if left is None else min(seconds, left))

    def close(self) -> None:
        """Close the runtime and whatever is being opened; may be called twice, from any thread.

        The device is free when this returns, unless it is still opening or in a call. That is
        waited for, two seconds at most; not by a signal's handler that interrupts it. What is left
        then frees itself when it ends. The call ends with its answer or BackendFailure.
        """
        until = time.monotonic() + GRACE
        with self._lock:
            self._closed = True
            opening, self._opening = self._opening, None
            seat, self._seat = self._seat, None
            ended, self._left_behind = self._left_behind, []
        if opening is not None:
            opening.cancel()
        if seat is not None:
            seat.end()
            ended.append(seat)
        for left in ended:
            if not left.wait(max(0.0, until - time.monotonic())):
                log.warning("%s: did not let go in %g s; left behind", left.name, GRACE)
        if opening is not None and not opening.ended(max(0.0, until - time.monotonic())):
            log.warning("a runtime was still opening after %g s; left behind", GRACE)


def _joined(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


class _Seat:
    """The runtime in use: its engine, and the thread its calls run in where they may hang."""

    def __init__(self, opened: Opened, watch: Watch, *, threaded: bool) -> None:
        self.index, self.name = opened.index, opened.name
        self.engine, self.watch = opened.engine, watch
        self.tells_apart = opened.tells_apart
        self.failed = 0  # calls in a row
        self.missed = 0  # deadlines in a row
        self.answered = False
        self._line: Here | Worker
        if threaded:
            self._line = Worker(opened.engine, opened.name)
            # Who drops a segmenter without closing it must not keep its thread and its memory.
            weakref.finalize(self, self._line.end)
        else:
            self._line = Here(opened.engine, opened.name)

    def call(self, picture: Picture, seconds: float | None, tick: Tick | None = None) -> Tensor:
        answer = self._line.call(picture, seconds, tick)
        self.answered = True
        return answer

    @property
    def busy(self) -> bool:
        """True while a call runs on in its thread."""
        return self._line.busy

    def end(self) -> None:
        """Close the engine; where a call runs in it, when that ends."""
        self._line.end()

    def wait(self, seconds: float) -> bool:
        """True once the engine is closed, after `end`."""
        return self._line.wait(seconds)
