"""Progress on stderr: a bar on a terminal, gone when it ends; plain lines in a log.

frames_bar   frames: how many, of how many, how fast; in a log one line a minute
steps_bar    the steps of one long job, each with its own count; in a log one line as each begins
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

MINUTE = 60.0  # seconds between two lines about frames in a log


@contextlib.contextmanager
def frames_bar(label: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Yield a function to call after each frame; total None draws a moving bar."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("-- fps" if task.speed is None else f"{task.speed:.1f} fps")

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _frames_lines(label, total)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, Rate(), TimeRemainingColumn(), console=console, transient=True
    ) as display:
        task = display.add_task(label, total=total)
        yield lambda: display.advance(task)


@contextlib.contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield progress(message, done, total); a total of 0 is an unknown one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _steps_lines()
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as display:
        task = display.add_task("starting", total=None)

        def progress(message: str, done: int, total: int) -> None:
            display.update(task, description=message, completed=done, total=total or None)

        yield progress


def _frames_lines(label: str, total: int | None) -> Callable[[], None]:
    done, said = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, said
        done += 1
        if time.monotonic() - said >= MINUTE:
            said = time.monotonic()
            _line(f"{label}: {done}" if total is None else f"{label}: {done} of {total}")

    return advance


def _steps_lines() -> Callable[[str, int, int], None]:
    told: set[str] = set()  # steps may take turns

    def progress(message: str, done: int, total: int) -> None:
        if message not in told:
            told.add(message)
            _line(message)

    return progress


def _line(said: str) -> None:
    print(f"edge-seg: {said}", file=sys.stderr, flush=True)
