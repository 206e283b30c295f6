"""The calls of one engine: in the caller's thread, or in a thread of ours that can be left behind.

    Here      call(), end(), wait(); what hangs here, hangs the caller
    Worker    the same with a limit of seconds: Hung where there was no answer in time

Both close the engine when its last call is over.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from dataclasses import dataclass

from edge_seg.arrays import Picture
from edge_seg.backends import Tensor
from edge_seg.engine import Engine, Tick
from edge_seg.errors import BackendFailure
from edge_seg.threads import Thread

log = logging.getLogger("edge_seg")


@dataclass
class Hung(Exception):
    """A call that did not answer in time."""

    seconds: float


def free(engine: Engine, name: str) -> None:
    """Close an engine. What a vendor's library raises then is said, and is in nobody's way."""
    try:
        engine.close()
    except Exception as error:
        log.warning("%s: closing it failed: %s: %s", name, type(error).__name__, error)


class Here:
    """Runs one engine's calls in the caller's thread."""

    busy = False  # what hangs here, hangs the caller

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        # Held by who uses the engine. Reentrant: a signal's handler may end it amid its own call.
        self._turn = threading.RLock()
        self._ended = self._closed = self._inside = False

    def call(self, picture: Picture, seconds: float | None, tick: Tick | None) -> Tensor:
        """Run the engine once; seconds: not looked at. Raises BackendFailure."""
        with self._turn:
            try:
                if self._ended:
                    raise BackendFailure("wanted an open runtime, found it closed; open again")
                self._inside = True
                return self._engine.run(picture, tick)
            finally:
                self._inside = False
                if self._ended:  # by a handler, or a thread that may have given up waiting
                    self._close()

    def end(self) -> None:
        """Close the engine; where a call is in it, that call does as it ends."""
        self._ended = True
        self.wait(0.0)

    def wait(self, seconds: float) -> bool:
        """True once the engine is closed; in a handler amid the call that will close it, too."""
        if not self._turn.acquire(timeout=seconds):
            return False
        try:
            if not self._inside:
                self._close()
        finally:
            self._turn.release()
        return True

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            free(self._engine, self._name)


class Worker:
    """A thread that runs one engine's calls; left behind, it closes the engine when it can.

    A process that is forked has its engine and not its thread: it begins one of its own.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine, self._name = engine, name
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._asked: queue.SimpleQueue[tuple[int, Picture] | None] = queue.SimpleQueue()
        self._said: queue.SimpleQueue[tuple[int, Tensor | Exception]] = queue.SimpleQueue()
        self._number = 0
        self._thread = Thread(self._work, self.end, "edge_seg-backend")
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True until the thread has closed the engine."""
        return self._thread.is_alive()

    def call(self, picture: Picture, seconds: float | None, tick: Tick | None) -> Tensor:
        """Run the engine once. Raises what it raises; Hung after so many seconds (None: never)."""
        if self._process != os.getpid():
            self._begin()
        self._number += 1
        self._asked.put((self._number, picture))
        until = None if seconds is None else time.monotonic() + seconds
        number = 0
        while number != self._number:  # a missed call, or Ctrl-C, left the answer to an earlier one
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                number, said = self._said.get(timeout=left)
            except queue.Empty:
                raise Hung(seconds or 0.0) from None
        if isinstance(said, Exception):
            raise said
        if tick is not None:
            tick("infer")
        return said

    def end(self) -> None:
        """Stop after the present call, whenever that ends; the thread closes the engine."""
        self._asked.put(None)

    def _newest(self) -> tuple[int, Picture] | None:
        """Wait for a request, and leave those out that a newer one has overtaken."""
        asked = self._asked.get()
        while asked is not None and not self._asked.empty():
            asked = self._asked.get()
        return asked

    def wait(self, seconds: float) -> bool:
        """True once the thread has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            asked = self._newest()
            if asked is None:
                free(self._engine, self._name)
                return
            number, picture = asked
            try:
                self._said.put((number, self._engine.run(picture)))
            except Exception as error:  # handed to the caller, whose call this is
                self._said.put((number, error))
