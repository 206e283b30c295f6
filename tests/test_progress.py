"""Progress in a log: somebody who reads it sees what is being done, and not a line per frame."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys

import pytest

from edge_seg.cli import progress
from edge_seg.cli.streams import ToStderr

SCRIPT = """
from edge_seg.cli.progress import frames_bar, steps_bar
with steps_bar() as progress:
    for step in ("reading", "calibrating"):
        for done in range(50):
            progress(step, done, 50)
with frames_bar("measuring", 50) as advance:
    for _ in range(50):
        advance()
"""


def test_a_log_gets_one_line_per_step_and_none_for_quick_frames() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == ["edge-seg: reading", "edge-seg: calibrating"]
    assert done.stdout == ""


def test_a_line_is_there_when_its_step_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.steps_bar() as step:
        step("reading", 0, 0)
        assert capsys.readouterr().err == "edge-seg: reading\n"
        step("reading", 7, 9)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("total", "said"), [(9, "clip: 3 of 9"), (None, "clip: 3")])
def test_frames_that_take_long_are_told_of_now_and_then(
    total: int | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with progress.frames_bar("clip", total) as advance:
        for frame in range(5):
            monkeypatch.setattr(progress, "MINUTE", 0.0 if frame == 2 else 60.0)
            advance()
    assert capsys.readouterr().err == f"edge-seg: {said}\n"


def test_a_terminal_gets_a_bar_and_no_such_line() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1 << 16):
            shown += piece
    except OSError:  # the other end was closed
        pass
    finally:
        os.close(ours)
    assert running.wait(60) == 0
    assert b"calibrating" in shown and b"edge-seg: " not in shown


def test_log_lines_go_to_stderr_as_it_is_at_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar puts itself in stderr's place, so that lines appear above it."""
    handler, first, second = ToStderr(), io.StringIO(), io.StringIO()
    record = logging.LogRecord("edge_seg", logging.WARNING, "", 0, "a line", None, None)
    for place in (first, second):
        monkeypatch.setattr(sys, "stderr", place)
        handler.handle(record)
    assert first.getvalue() == second.getvalue() == "a line\n"
