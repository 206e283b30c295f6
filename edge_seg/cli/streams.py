"""The process's three streams, as a shell or a service manager may have left them.

settle     those that are closed lead nowhere; stdout and stderr outlive whoever reads them
ToStderr   log lines to stderr as it is at the time: a progress bar takes its place, to stay below
"""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Any, TextIO


def settle() -> None:
    """See to the three streams; to be called before anything is opened or printed."""
    _fill()
    sys.stdout = _lasting(sys.stdout, sys.__stdout__)
    sys.stderr = _lasting(sys.stderr, sys.__stderr__)
    # As stderr does, stdout shows the name of any file: not every one is UTF-8.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


class ToStderr(logging.Handler):
    """A handler for `sys.stderr`, whatever it is when a line is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # logging's own way: a line that cannot be written ends nothing
            self.handleError(record)


def _fill() -> None:
    """Open what is closed, to nowhere: the next file opened would have its number, and what C
    libraries print would be written into that file.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            setattr(sys, name, open(nowhere, "w", encoding="utf-8", closefd=False))


def _lasting(stream: TextIO, own: TextIO | None) -> TextIO:
    """Return the process's own stream as one that outlives its reader; any other as it is."""
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw: Any = _Lasting(stream.fileno(), "w", closefd=False)
    buffered = isinstance(stream.buffer, io.BufferedWriter)  # not so with `python -u`
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if buffered else raw,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Lasting(io.FileIO):
    """Once its reader is gone (`| head -1`), what is written goes nowhere: the command has files
    to write and an exit code to give all the same.
    """

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data) or 0
