"""The environment onnx2tf lives in: made once, whole or not at all, and nothing leaks into it."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_seg.converters import environment
from edge_seg.converters.words import last_lines
from edge_seg.errors import ConversionError, OutputError

TOOL = environment.ONNX2TF


def quiet(message: str, done: int, total: int) -> None:
    """Say nothing."""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_cache_folder_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SEG_CACHE", "/somewhere/else")
    assert environment.cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("EDGE_SEG_CACHE")
    assert environment.cache_folder() == Path.home() / ".cache" / "edge-seg"


def test_what_is_run_sees_nothing_of_this_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("https_proxy", "")
    ask = "import os; print(os.environ.get('PYTHONPATH'), os.environ['https_proxy'], os.getcwd())"
    ended = environment.run(python(ask), folder=tmp_path, seconds=30, what="ask")
    assert ended.stdout.split() == ["None", "http://127.0.0.1:9", str(tmp_path)]


def test_what_is_run_cannot_reach_the_network() -> None:
    code = (
        "import urllib.request as u\n"
        "try: u.urlopen('http://example.com/', timeout=5); print('reached')\n"
        "except OSError: print('refused')"
    )
    ended = environment.run(python(code), folder=None, seconds=30, what="fetch")
    assert ended.stdout.strip() == "refused"


def test_what_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    with pytest.raises(ConversionError, match="wanted to sleep within 1 s, found it still running"):
        environment.run(python("import time; time.sleep(60)"), folder=None, seconds=1, what="sleep")
    assert time.monotonic() - started < 30


def test_errors_are_the_last_lines_that_say_something() -> None:
    output = (
        "\x1b[31mreading\x1b[0m\nlower:  50%|####     | 1/2 [00:00<00:00, 9it/s]\r"
        "lower: 100%|#########| 2/2 [00:00<00:00, 9it/s]\n\nERROR: no operator Foo\n"
    )
    assert last_lines(output) == "  reading\n  ERROR: no operator Foo"


def test_a_full_disk_is_said_as_one(tmp_path: Path) -> None:
    code = "import os; raise OSError(28, os.strerror(28), 'made/model.tflite')"
    with pytest.raises(OutputError, match="wanted room to convert it, found the disk full; free"):
        environment.run(python(code), folder=tmp_path, seconds=60, what="convert it")


def test_two_processes_do_not_make_it_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the lock: wait, say so, and in the end give up in words."""
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path))
    monkeypatch.setattr(environment, "LOCK_SECONDS", 1)
    monkeypatch.setattr(environment, "_make", lambda *_: pytest.fail("made despite the lock"))
    said: list[str] = []
    lock = next(iter(_lock_names(monkeypatch)))
    with open(tmp_path / lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConversionError, match="found another process doing so"):
            environment.python(lambda message, done, total: said.append(message), TOOL)
    assert "waiting for another process that sets up onnx2tf" in said


def _lock_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let `python` get as far as the lock, and return the name of the lock file it made."""
    with monkeypatch.context() as patch:
        patch.setattr(environment, "_make", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.python(quiet, TOOL)
    return [p.name for p in environment.cache_folder().iterdir() if p.suffix == ".lock"]


def _interrupted(folder: Path, tool: environment.Tool, progress: environment.Progress) -> None:
    (folder / "bin").mkdir(parents=True)
    environment.interpreter(folder).touch()
    raise KeyboardInterrupt


def test_a_half_made_environment_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path))
    _lock_names(monkeypatch)  # interrupted half-way, its interpreter already there
    made: list[Path] = []
    monkeypatch.setattr(environment, "_make", lambda folder, *_: made.append(folder))
    environment.python(quiet, TOOL)
    environment.python(quiet, TOOL)  # now complete: reused
    assert len(made) == 1


def test_other_pins_are_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path))
    made: list[Path] = []

    def make(folder: Path, tool: environment.Tool, progress: environment.Progress) -> None:
        made.append(folder)
        (folder / "bin").mkdir(parents=True)
        environment.interpreter(folder).touch()

    monkeypatch.setattr(environment, "_make", make)
    environment.python(quiet, TOOL)
    environment.python(quiet, replace(TOOL, pins=(*TOOL.pins, "more==1")))
    environment.python(quiet, environment.PADDLE2ONNX)
    assert len(set(made)) == 3


def test_a_cache_that_cannot_be_written_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ConversionError, match="EDGE_SEG_CACHE"):
        environment.python(quiet, TOOL)


def test_every_pin_is_exact() -> None:
    for tool in (environment.ONNX2TF, environment.PADDLE2ONNX):
        assert all("==" in pin for pin in tool.pins)


@pytest.mark.slow
def test_pip_without_a_network_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(
        ConversionError, match=r"(?s)wanted to install onnx2tf==.*check the network"
    ):
        environment.python(quiet, TOOL)


@pytest.mark.slow
def test_it_is_made_once_with_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path))
    steps: list[tuple[str, int, int]] = []
    interpreter = environment.python(lambda *step: steps.append(step), TOOL)
    done = [step[1] for step in steps]
    assert done == sorted(done) and done[-1] == steps[-1][2]
    ended = environment.run(
        [str(interpreter), "-c", "import onnx2tf; print(onnx2tf.__version__)"],
        folder=None,
        seconds=120,
        what="ask",
    )
    assert ended.stdout.split()[-1] == environment.ONNX2TF.version
    steps.clear()
    assert environment.python(lambda *step: steps.append(step), TOOL) == interpreter
    assert steps == []
