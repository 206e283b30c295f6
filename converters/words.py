"""What other libraries and programs say: made short for a message, or kept off the screen."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Iterator


def first_lines(error: BaseException, count: int = 1) -> str:
    """Return the first lines of an error's text as one, at most 300 characters; else its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:count])[:300] or type(error).__name__


def last_lines(output: str, count: int = 6) -> str:
    """Return the last lines that say something: no colours, no progress bars."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output).replace("\r", "\n")
    lines = [line.rstrip() for line in plain.splitlines()]
    said = [line for line in lines if line.strip() and "it/s" not in line and "|" not in line]
    raised = [line for line in said if re.match(r"[\w.]+(Error|Exception): ", line)]
    if raised and any(line.startswith("Traceback ") for line in said):
        said = raised  # where in someone else's code is nothing to a user
    return "\n".join(f"  {line[:200]}" for line in said[-count:])


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep bars, prints and warnings off the screen; exceptions pass."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            yield
