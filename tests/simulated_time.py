"""Time that passes only while everybody waits: threads of real code, hours in seconds.

One thread runs at a time; when it waits, the next that was notified runs, or else time jumps to
the nearest time-out. So a run is the same every time, and a deadlock is an error, not a hang.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any


class Deadlock(AssertionError):
    """Everybody waits and nothing will ever happen."""


class _Task:
    """A thread and the baton that lets it run."""

    def __init__(self) -> None:
        self.baton = threading.Semaphore(0)
        self.until = float("inf")
        self.ready = False
        self.order = 0
        self.done = False


class SimulatedClock:
    """A `Clock`. The thread that makes it takes part; `start` adds others."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._tasks: list[_Task] = []
        self._current = self._join()
        self._orders = itertools.count(1)
        self.steps = 0

    def now(self) -> float:
        return self._now

    def condition(self) -> SimulatedCondition:
        return SimulatedCondition(self)

    def sleep(self, seconds: float) -> None:
        self.wait(seconds)

    def start(
        self, work: Callable[[], None], stop: Callable[[], None], name: str
    ) -> SimulatedThread:
        task = self._join()
        task.ready, task.order = True, next(self._orders)

        def run() -> None:
            task.baton.acquire()
            try:
                work()
            finally:
                task.done = True
                self._tasks.remove(task)
                self._switch()

        threading.Thread(target=run, name=name, daemon=True).start()
        return SimulatedThread(self, task)

    def _join(self) -> _Task:
        task = _Task()
        self._tasks.append(task)
        return task

    @property
    def threads(self) -> int:
        """How many others take part."""
        return len(self._tasks) - 1

    def wait(self, seconds: float | None) -> bool:
        """Let others run until notified or the time is over; True where notified."""
        me = self._current
        me.until = float("inf") if seconds is None else self._now + max(0.0, seconds)
        me.ready, me.order = False, next(self._orders)
        self._switch()
        me.baton.acquire()
        return me.ready

    def _switch(self) -> None:
        """Hand the baton to whoever is next."""
        self.steps += 1
        ready = [t for t in self._tasks if t.ready]
        if ready:
            chosen = min(ready, key=lambda t: t.order)
        else:
            chosen = min(self._tasks, key=lambda t: (t.until, t.order))
            if chosen.until == float("inf"):
                raise Deadlock("everybody waits for ever")
            self._now = max(self._now, chosen.until)
        self._current = chosen
        chosen.baton.release()


class SimulatedCondition:
    """What of `threading.Condition` is used. One thread runs at a time: the lock is for show."""

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._waiting: list[_Task] = []
        self._held = False

    def __enter__(self) -> SimulatedCondition:
        assert not self._held, "taken twice: with a real lock this would hang"
        self._held = True
        return self

    def __exit__(self, *error: Any) -> None:
        self._held = False

    def wait(self, timeout: float | None = None) -> bool:
        assert self._held, "waits without holding the lock"
        me = self._clock._current
        self._waiting.append(me)
        self._held = False
        said = self._clock.wait(timeout)
        self._held = True
        if me in self._waiting:
            self._waiting.remove(me)
        return said

    def notify_all(self) -> None:
        assert self._held, "notifies without holding the lock"
        for task in self._waiting:
            task.ready = True
        self._waiting.clear()


class SimulatedThread:
    """What of `threading.Thread` is used."""

    def __init__(self, clock: SimulatedClock, task: _Task) -> None:
        self._clock, self._task = clock, task

    def is_alive(self) -> bool:
        return not self._task.done

    def join(self, timeout: float | None = None) -> None:
        until = self._clock.now() + (1e9 if timeout is None else timeout)
        while not self._task.done and self._clock.now() < until:
            self._clock.wait(0.01)
