"""What is missing: every runtime of a board tried, each refusal a sentence with its remedy.

On this machine a runtime is opened for real. Under another root (a root file system copied from a
board) nothing can be opened: there its verdict is what `conditions` found in the files.
Nothing here raises: whatever a library does when it is opened becomes a finding.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from edge_seg.backends import Progress, entry, find_library
from edge_seg.board import Board, Runtime
from edge_seg.bundle import ModelBundle
from edge_seg.conditions import MISSING, Condition, conditions, name_of
from edge_seg.errors import EdgeSegError
from edge_seg.installation import Installation, is_frozen
from edge_seg.opening import open_runtime

HERE = Path("/")


@dataclass(frozen=True)
class Finding:
    """One runtime of a board. opens: it works here. text: its library, or the refusal."""

    runtime: Runtime
    opens: bool
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """A board's runtimes in order, and what was found of the machine."""

    findings: tuple[Finding, ...]
    conditions: tuple[Condition, ...]

    @property
    def first(self) -> Finding | None:
        """The runtime that opening would choose."""
        return next((f for f in self.findings if f.opens), None)


def diagnose(
    board: Board,
    bundle: ModelBundle | None = None,
    *,
    root: Path = HERE,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examine a board's runtimes and the machine. bundle: None looks at the libraries only.

    progress(message, done, total): told of what a runtime builds when it is opened.
    """
    try:
        installed = Installation.here() if root == HERE else Installation.under(root)
        found = tuple(conditions(board, root, installed))
    # Files of a machine we do not know, in a state we do not know.
    except Exception as error:
        text = f"could not be looked at: {type(error).__name__}: {error}"
        found = (Condition("machine", MISSING, text),)
    if root == HERE:
        here = Diagnosis(tuple(_try(r, bundle, progress) for r in board.runtimes), found)
        return _where_built(here) if is_frozen() else here
    return Diagnosis(tuple(_judge(r, bundle, found) for r in board.runtimes), found)


def _where_built(diagnosis: Diagnosis) -> Diagnosis:
    """Say where advice about Python's packages is to be followed that a frozen program gives."""

    def complete(text: str) -> str:
        if re.search(r"\b(pip|venv|wheel|python3-\w+)\b", text):
            return f"{text}, where this frozen program is built; then build it anew"
        return text

    return Diagnosis(
        tuple(f if f.opens else replace(f, text=complete(f.text)) for f in diagnosis.findings),
        tuple(replace(c, mend=complete(c.mend)) for c in diagnosis.conditions),
    )


def _try(runtime: Runtime, bundle: ModelBundle | None, progress: Progress | None) -> Finding:
    """Open a runtime; without a bundle, look for its library only."""
    try:
        library = find_library(runtime.backend)
        if bundle is not None:
            backend, _ = open_runtime(bundle, runtime, progress=progress)
            backend.close()
    except EdgeSegError as refusal:
        return Finding(runtime, False, str(refusal))
    # A vendor's library may raise anything while it loads; that is what a doctor is for.
    except Exception as error:
        return Finding(
            runtime, False, f"{runtime.backend}: failed to load: {type(error).__name__}: {error}"
        )
    return Finding(runtime, True, library)


def _judge(runtime: Runtime, bundle: ModelBundle | None, found: tuple[Condition, ...]) -> Finding:
    """Say whether a runtime would open, as far as files tell."""
    against = [c.text for c in found if c.blocks & {name_of(runtime), "*"}]
    if bundle is not None:
        try:
            bundle.find(entry(runtime.backend).format, runtime.precision)
        except EdgeSegError as refusal:
            against.append(str(refusal))
    if against:
        return Finding(runtime, False, "; ".join(against))
    return Finding(runtime, True, "nothing in its files speaks against it; not tried")
