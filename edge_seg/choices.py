"""Runtimes that may be opened, tried in their order until one answers.

    Choice    a runtime that may be opened
    Opening   the attempt: here (`walk`), or in a thread of ours beside the caller (`start`, `wait`)
    Opened    what came of it

A runtime counts as opened once it has answered two `silhouettes`: a device that opens and cannot
run is refused like one that does not open.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edge_seg.calls import free
from edge_seg.engine import Engine
from edge_seg.errors import EdgeSegError
from edge_seg.threads import Thread
from edge_seg.watch import silhouettes


@dataclass(frozen=True)
class Choice:
    """A runtime that may be opened. open raises BackendUnavailable or BundleError."""

    name: str
    open: Callable[[], Engine]


@dataclass(frozen=True)
class Opened:
    """An engine that answered its first calls. tells_apart: its two answers differed."""

    index: int
    name: str
    engine: Engine
    tells_apart: bool


@dataclass
class Opening:
    """Opens the first runtime of `order` that works.

    refusals: a sentence for each that did not. opened: the one that did, None until then. After
    `cancel` nothing stays open: what has been opened is closed, and so is what opens later.
    """

    choices: Sequence[Choice]
    order: range
    refusals: list[str] = field(default_factory=list)
    opened: Opened | None = None
    _done: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cancelled: bool = False
    _begun: bool = False
    _walker: int = 0  # the thread that tries them

    def walk(self) -> None:
        """Try one after the other, in this thread."""
        self._begun, self._walker = True, threading.get_ident()
        try:
            for index in self.order:
                if self._cancelled or self._open(index):
                    return
        finally:
            self._done.set()

    def _open(self, index: int) -> bool:
        choice, engine = self.choices[index], None
        try:
            engine = choice.open()
            one, other = (engine.run(picture) for picture in silhouettes(engine.shape))
        except Exception as refusal:  # a vendor's library may raise anything while it loads
            if engine is not None:
                free(engine, choice.name)
            kind = "" if isinstance(refusal, EdgeSegError) else f"{type(refusal).__name__}: "
            self.refusals.append(f"{choice.name}: {kind}{refusal}")
            return False
        with self._lock:
            self.opened = Opened(index, choice.name, engine, one.tobytes() != other.tobytes())
            unwanted = self._cancelled
        if unwanted:
            free(engine, choice.name)
        return True

    def start(self) -> None:
        """Walk in a thread of ours, unless it has begun."""
        if not self._begun:
            self._begun = True
            Thread(self.walk, self.cancel, "edge_seg-opening").start()

    def wait(self, seconds: float | None) -> bool:
        """Return True once a runtime has opened or all were tried; begin where nobody has."""
        self.start()
        return self._done.wait(seconds)

    def ended(self, seconds: float) -> bool:
        """Return True once nothing is being opened any more; to be asked after `cancel`.

        In a signal's handler amid `walk`, too: that goes on, and closes what it opens.
        """
        amid = self._walker == threading.get_ident()
        return not self._begun or amid or self._done.wait(seconds)

    def cancel(self) -> None:
        """Close what was opened, or will be. Does not wait."""
        with self._lock:
            self._cancelled, opened = True, self.opened
        if opened is not None:
            free(opened.engine, opened.name)
