"""A progress bar for frames: how many, of how many, how fast. On stderr, gone when it ends."""

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
