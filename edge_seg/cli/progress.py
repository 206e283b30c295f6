"""Progress on stderr, gone when it ends, and nothing where stderr is no terminal.

frames_bar   frames: how many, of how many, how fast
steps_bar    the steps of one long job, each with its own count
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


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

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(
        *columns, Rate(), TimeRemainingColumn(), console=console, transient=True, disable=quiet
    ) as display:
        task = display.add_task(label, total=total)
        yield lambda: display.advance(task)


@contextlib.contextmanager
def steps_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Yield progress(message, done, total); a total of 0 is an unknown one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=quiet
    ) as display:
        task = display.add_task("starting", total=None)

        def progress(message: str, done: int, total: int) -> None:
            display.update(task, description=message, completed=done, total=total or None)

        yield progress
