"""What is missing: every runtime of a board tried, each refusal a sentence with its remedy.

Nothing here raises: whatever a library does when it is opened becomes a finding.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_seg.backends import find_library
from edge_seg.board import Board, Runtime
from edge_seg.bundle import ModelBundle
from edge_seg.errors import EdgeSegError
from edge_seg.segmenter import open_runtime


@dataclass(frozen=True)
class Finding:
    """One runtime of a board. opens: it works here. text: its library, or the refusal."""

    runtime: Runtime
    opens: bool
    text: str


def examine(board: Board, bundle: ModelBundle | None = None) -> list[Finding]:
    """Try a board's runtimes in order; without a bundle, only whether their libraries are here."""
    return [_examine(runtime, bundle) for runtime in board.runtimes]


def _examine(runtime: Runtime, bundle: ModelBundle | None) -> Finding:
    try:
        library = find_library(runtime.backend)
        if bundle is not None:
            backend, _ = open_runtime(bundle, runtime)
            backend.close()
    except EdgeSegError as refusal:
        return Finding(runtime, False, str(refusal))
    # A vendor's library may raise anything while it loads; that is what a doctor is for.
    except Exception as error:
        return Finding(
            runtime, False, f"{runtime.backend}: failed to load: {type(error).__name__}: {error}"
        )
    return Finding(runtime, True, library)
