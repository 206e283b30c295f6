"""`--json FILE`: what was measured, for programs. FILE may be `-`, stdout: tables go to stderr."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STDOUT = Path("-")


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --json; what: for the help."""
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help=f"write {what} as JSON; - writes it to stdout, and the tables to stderr",
    )


@contextlib.contextmanager
def json_file(place: Path | None) -> Iterator[Callable[[Any], None]]:
    """Yield what writes the figures to `place`. Raises OutputError at once for no such place."""
    from edge_seg.files import check_place, write_whole

    if place is None:
        yield lambda found: None
    elif place == STDOUT:
        stdout = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            yield lambda found: print(json.dumps(found, indent=2), file=stdout)
    else:
        check_place(place)
        yield lambda found: write_whole(place, json.dumps(found, indent=2) + "\n")
