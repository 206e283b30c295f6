"""The command where its streams lead nowhere: a reader that goes away, streams that are closed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg.recording import frames_in

COMMAND = f"{shlex.quote(sys.executable)} -X dev -W error -m edge_seg"


def _shell(line: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-c", f"set -o pipefail; {line}"]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.fixture
def edited(fake_bundle: Path) -> Path:
    """A bundle with an artifact that was edited: `verify` exits 2."""
    path = fake_bundle / "fake-fp32.json"
    path.write_bytes(path.read_bytes().replace(b"64", b"65"))
    return fake_bundle


@pytest.mark.parametrize("option", ["", "PYTHONUNBUFFERED=1"])
def test_a_reader_that_goes_away_changes_no_exit_code(edited: Path, option: str) -> None:
    """`true` is gone before Python has begun."""
    verify = f"{option} {COMMAND} verify {shlex.quote(str(edited))}"
    assert _shell(f"{verify} | true").returncode == 2
    said = _shell(f"{COMMAND} boards | true")
    assert (said.returncode, said.stderr) == (0, "")
    assert _shell(f"{COMMAND} no-such-verb |& true").returncode == 2


def test_the_figures_are_written_whoever_reads_the_table(
    fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    found = tmp_path / "found.json"
    words = shlex.join(["bench", str(fake_bundle), "--board", str(fake_board), "--calls", "3"])
    done = _shell(f"{COMMAND} {words} --json {shlex.quote(str(found))} | true")
    assert done.returncode == 0, done.stderr
    assert json.loads(found.read_text())["board"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code_and_no_file(
    closed: str, fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    frames, out = tmp_path / "clip" / "frames", tmp_path / "out.webm"
    frames.mkdir(parents=True)
    for index in range(6):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((48, 64, 3), 40 * index, np.uint8))
    words = ["run", str(fake_bundle), "--board", str(fake_board), "--source", str(frames.parent)]
    done = _shell(f"{COMMAND} {shlex.join([*words, '-o', str(out)])} {closed}")
    assert (done.returncode, done.stderr) == (0, "")
    assert frames_in(out) == 6


def test_what_is_said_of_an_error_never_lands_in_stdout(tmp_path: Path) -> None:
    done = _shell(f"cd {shlex.quote(str(tmp_path))}; {COMMAND} inspect nothing 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_figures_on_stdout_are_nothing_but_json(fake_bundle: Path, fake_board: Path) -> None:
    words = ["bench", str(fake_bundle), "--board", str(fake_board), "--calls", "3", "--json", "-"]
    done = _shell(f"{COMMAND} {shlex.join(words)}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["calls"] > 0
    assert "frame to mask" in done.stderr


def test_a_pipe_as_a_source_is_called_one(tmp_path: Path) -> None:
    out = shlex.quote(str(tmp_path / "out.webm"))
    done = _shell(f"echo | {COMMAND} run --source /dev/stdin -o {out}")
    assert done.returncode == 2
    assert "found a pipe or a device" in done.stderr
