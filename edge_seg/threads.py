"""Threads of ours that call a vendor's library: a runtime's, a camera's driver.

None may be in it when the process ends, which would abort it (on Pythons before 3.14): they are
asked to end, and waited for at exit, two seconds at most.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable

GRACE = 2.0  # seconds that whoever closes or ends waits for a call that is still running


class Thread(threading.Thread):
    """A thread that calls a vendor's library. stop: asks it to end, and does not wait."""

    def __init__(self, work: Callable[[], None], stop: Callable[[], None], name: str) -> None:
        super().__init__(target=work, name=name, daemon=True)  # a hang must not keep the process
        self.stop = stop


@atexit.register
def _let_go() -> None:
    """Ask our threads to end, and wait for them."""
    until = time.monotonic() + GRACE
    ours = [thread for thread in threading.enumerate() if isinstance(thread, Thread)]
    for thread in ours:
        thread.stop()
    for thread in ours:
        thread.join(max(0.0, until - time.monotonic()))
