"""Boards: folders of facts, and finding out on which one we are.

A board is `boards/<name>/board.toml`: title, aliases, what identifies it (`match`, and `unless`
for what it must not show), and its runtimes in order of preference. A runtime is a backend + a
precision + options; an `optional` one is passed by where its library is not installed or the bundle
holds nothing for it. Data only: a user's own board is a file of the same form, named by its path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_seg.bundle import PRECISIONS
from edge_seg.errors import BundleError, UnknownBoard
from edge_seg.machine import read_text
from edge_seg.spec import read_toml, refuse_unknown, take, take_choice

GENERIC = "generic"
MAX_BOARD_BYTES = 64 * 1024
ENTRIES = ("title", "aliases", "match", "unless", "runtime")
RUNTIME_ENTRIES = ("backend", "precision", "options", "optional")
_INSTALLED = Path(__file__).parent / "boards"
# In a source tree (editable install) the folder is still where it was written.
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "boards"


Marks = Mapping[str, tuple[str, ...]]  # a file under the root -> texts in it


@dataclass(frozen=True)
class Runtime:
    """One way to run a bundle on a board.

    options: keyword arguments of the backend. optional: where its library is not installed, or the
    bundle has nothing for it, it is passed by, and the segmenter is not `degraded` for that.
    """

    backend: str
    precision: str
    options: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False

    def with_threads(self, threads: int | None) -> Runtime:
        """Return this runtime on so many threads; itself for None."""
        if threads is None:
            return self
        return replace(self, options={**self.options, "threads": threads})

    def __str__(self) -> str:
        extra = "".join(f", {k} {v}" for k, v in self.options.items())
        return f"{self.backend} {self.precision}{extra}"


@dataclass(frozen=True)
class Board:
    """A board's facts.

    match, unless: a file under the root -> texts that may stand in it. Any one of `match` found
    identifies the board, unless one of `unless` is found as well.
    """

    name: str
    title: str
    aliases: tuple[str, ...]
    match: Marks
    runtimes: tuple[Runtime, ...]
    unless: Marks = field(default_factory=dict)

    def is_here(self, root: Path) -> bool:
        """True where one of the board's marks is found under `root`."""
        return _shows(root, self.match) and not _shows(root, self.unless)


def _shows(root: Path, marks: Marks) -> bool:
    return any(text in _words(root / file) for file, texts in marks.items() for text in texts)


def _words(path: Path) -> str:
    # The device tree ends its strings with NUL and separates "compatible" entries so.
    return read_text(path).replace("\0", "\n")


def load(name: str) -> Board:
    """Return the board of that name or alias, or of that path to a board.toml.

    Raises UnknownBoard (the names there are), BundleError (a board file that is wrong).
    """
    if name.endswith(".toml"):
        return _parse(Path(name))
    everything = boards()
    for board in everything:
        if name == board.name or name in board.aliases:
            return board
    known = ", ".join("/".join((b.name, *b.aliases)) for b in everything)
    raise UnknownBoard(f"wanted board {name!r}, found none of that name; known: {known}, auto")


def resolve(board: str | os.PathLike[str] | Board) -> Board:
    """Return the Board of a name, alias or path, or for "auto" that of this machine.

    A Board is returned as it is.

    Raises UnknownBoard, BundleError.
    """
    if isinstance(board, Board):
        return board
    if not isinstance(board, (str, os.PathLike)):
        raise UnknownBoard(
            f"wanted a board's name, a path to a board.toml or a Board, found {board!r:.60}; "
            '"auto" finds out'
        )
    return detect() if board == "auto" else load(os.fspath(board))


def boards() -> list[Board]:
    """Return every board that ships, by name, generic last."""
    found = [_parse(path) for path in sorted(FOLDER.glob("*/board.toml"))]
    return sorted(found, key=lambda b: (b.name == GENERIC, b.name))


def detect(root: Path = Path("/")) -> Board:
    """Return the board this machine is, `generic` where none of them matches."""
    for board in boards():
        if board.is_here(root):
            return board
    return load(GENERIC)


def _parse(path: Path) -> Board:
    where = str(path)
    data = read_toml(path, what="a board file", length="a page", most=MAX_BOARD_BYTES)
    refuse_unknown(data, ENTRIES, where)
    runtimes = [_runtime(r, where) for r in take(data, "runtime", list, where)]
    if not runtimes:
        raise BundleError(f"{where}: wanted at least one [[runtime]], found none")
    return Board(
        name=path.absolute().parent.name,
        title=take(data, "title", str, where),
        aliases=tuple(str(a) for a in take(data, "aliases", list, where)),
        match=_marks(data, "match", where),
        runtimes=tuple(runtimes),
        unless=_marks(data, "unless", where),
    )


def _marks(data: dict[str, Any], key: str, where: str) -> Marks:
    marks = take(data, key, dict, where) if key in data else {}
    return {file: tuple(str(t) for t in take(marks, file, list, where)) for file in marks}


def _runtime(data: Any, where: str) -> Runtime:
    if not isinstance(data, dict):
        raise BundleError(f"{where}: wanted [[runtime]] tables, found {data!r:.60}")
    refuse_unknown(data, RUNTIME_ENTRIES, f"{where} [[runtime]]")
    return Runtime(
        backend=take(data, "backend", str, where),
        precision=take_choice(data, "precision", PRECISIONS, where),
        options=take(data, "options", dict, where) if "options" in data else {},
        optional=take(data, "optional", bool, where) if "optional" in data else False,
    )
