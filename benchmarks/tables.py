"""How the benchmarks print a table, and how far they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from edge_seg.cli.progress import steps_bar

T = TypeVar("T")


def show(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    width: int | None = None,
) -> None:
    """Print a table: the first column to the left, figures to the right. width: in characters."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=width).print(table)


def told(items: Sequence[T], what: str) -> Iterator[T]:
    """Yield the items, saying on stderr how many are done."""
    with steps_bar() as progress:
        for done, item in enumerate(items):
            progress(what, done, len(items))
            yield item
