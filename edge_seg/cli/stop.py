"""Ctrl-C and SIGTERM while `train` works: heard at once, obeyed where the state can be saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from edge_seg.cli import Terminated
from edge_seg.errors import EdgeSegError

if TYPE_CHECKING:
    from edge_seg.training.fit import Run

AGAIN = 1.0  # seconds after which a second Ctrl-C is meant as one; some senders send two


class Stop:
    """Ctrl-C and SIGTERM while training: heard at once, obeyed at the end of a step.

    A second Ctrl-C acts at once where there is one process: torchrun passes the first one on, too.
    """

    def __init__(self, training: Run) -> None:
        self._training = training
        self._came: tuple[int, float] | None = None  # the first signal, and when
        self._old: dict[int, Any] = {}

    def asked(self) -> bool:
        """Tell whether a signal came."""
        return self._came is not None

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._old[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        # Also where another process was told to stop, and this one with it.
        stopped = kind is None and self._training.step < self._training.recipe.steps
        # A signal to all processes may have ended a worker before that could leave it to us.
        foreign = isinstance(error, RuntimeError) and not isinstance(error, EdgeSegError)
        if stopped or (foreign and self._came is not None):
            interrupt = self._came is not None and self._came[0] == signal.SIGINT
            raise KeyboardInterrupt if interrupt else Terminated

    def _hear(self, number: int, frame: FrameType | None) -> None:
        place = self._training.place
        if self._came is None:
            self._came = number, time.monotonic()
            once_more = "; Ctrl-C again: at once" if place.world == 1 else ""
            said = f"edge-seg: stopping at the end of this step{once_more}\n"
            if place.leads:
                with contextlib.suppress(OSError):
                    os.write(2, said.encode())  # print may be what was interrupted
        elif number == signal.SIGINT and place.world == 1:
            if time.monotonic() - self._came[1] > AGAIN:
                raise KeyboardInterrupt
