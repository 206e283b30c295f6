"""Building ahead: what `edge-seg prepare` keeps is what opening uses, wherever it was copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
pytest.importorskip("onnx", reason="the tiny network is written with onnx")

import numpy as np
import onnx

from edge_seg import EdgeSegmenter
from edge_seg.board import load
from edge_seg.bundle import ModelBundle, describe, save_manifest
from edge_seg.cli import main
from edge_seg.converters import openvino
from edge_seg.preparation import prepare
from edge_seg.spec import InputSpec, OutputSpec
from tests import tiny_networks

BOARD = """\
title = "A PC"
aliases = []

[[runtime]]
backend = "openvino"
precision = "fp16"
options = { device = "NPU" }

[[runtime]]
backend = "openvino"
precision = "fp16"
options = { device = "CPU", threads = 1 }
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with one OpenVINO artifact: the tiny network."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    path = folder / "model-fp16.xml"
    openvino.to_float(onnx.load(tiny_networks.save_onnx(tmp_path / "tiny.onnx")), path)
    artifact = describe(
        path, format="openvino", precision="fp16", beside=[path.with_suffix(".bin")]
    )
    save_manifest(
        ModelBundle(
            path=folder,
            name="tiny",
            input=InputSpec(tiny_networks.HEIGHT, tiny_networks.WIDTH, fit="stretch"),
            output=OutputSpec("logit", 0),
            artifacts=(artifact,),
        )
    )
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "pc" / "board.toml"
    path.parent.mkdir()
    path.write_text(BOARD)
    return path


def files(cache: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in cache.rglob("*") if p.is_file()}


def test_what_is_prepared_is_used_and_opening_then_writes_nothing(
    bundle: Path, board: Path, tmp_path: Path
) -> None:
    cache, told = tmp_path / "cache", []
    npu, cpu = prepare(
        ModelBundle.load(bundle), load(str(board)), cache=cache, progress=lambda *s: told.append(s)
    )
    assert not npu.opens and npu.refusal.startswith("openvino: wanted device NPU")
    assert cpu.opens and cpu.built and not cpu.lost and len(cpu.kept) == 1
    assert [message for message, _, _ in told] == [f"{cpu.runtime}: compiling for CPU"]
    before = files(cache)
    frame = np.full((48, 64, 3), 200, np.uint8)
    with EdgeSegmenter.open(bundle, board=str(board), cache=cache) as prepared:
        mask = prepared.segment(frame)
    assert files(cache) == before
    with EdgeSegmenter.open(bundle, board=str(board), cache=tmp_path / "other") as fresh:
        assert np.array_equal(mask, fresh.segment(frame))


def test_an_image_may_hold_the_bundle_and_the_cache_elsewhere(
    bundle: Path, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["prepare", str(bundle), "--board", str(board), "--cache", str(tmp_path / "a")]
    assert main(words) == 0
    shutil.copytree(tmp_path / "a", tmp_path / "image" / "cache")
    shutil.copytree(bundle, tmp_path / "image" / "bundle")
    shutil.rmtree(tmp_path / "a")
    cache = tmp_path / "image" / "cache"
    before = files(cache)
    monkeypatch.setenv("EDGE_SEG_CACHE", str(cache))
    EdgeSegmenter.open(tmp_path / "image" / "bundle", board=str(board)).close()
    assert files(cache) == before, "found, not compiled again"


def test_preparing_twice_builds_once(
    bundle: Path, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", str(bundle), "--board", str(board), "--cache", str(tmp_path / "cache")]
    assert main(words) == 0
    first, (entry,) = capsys.readouterr().out, files(tmp_path / "cache")
    told = f"{entry.name} ({entry.stat().st_size / 1e6:.1f} MB)"
    assert "built in" in first and told in first.replace("\n", " ") and "EDGE_SEG_CACHE=" in first
    assert main(words) == 0
    assert "nothing is left to build" in capsys.readouterr().out


def test_a_damaged_entry_is_built_again_and_kept(bundle: Path, board: Path, tmp_path: Path) -> None:
    for turn in range(2):
        _, cpu = prepare(
            ModelBundle.load(bundle), load(str(board)), cache=tmp_path / "cache", progress=print
        )
        (entry,) = files(tmp_path / "cache")
        assert cpu.built and cpu.kept == (entry,), turn
        entry.write_bytes(entry.read_bytes()[:-1])


def test_a_cache_that_cannot_be_written_is_said_and_is_not_a_success(
    bundle: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", str(bundle), "--board", str(board), "--cache", "/proc/nowhere"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "not kept" in said and "/proc/nowhere" in said


def test_a_board_nothing_works_on_is_exit_4(
    bundle: Path, board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board.write_text(BOARD.replace('"CPU", threads = 1', '"GPU"'))
    assert main(["prepare", str(bundle), "--board", str(board)]) == 4
    said = capsys.readouterr().out
    assert "wanted device NPU" in said and "wanted device GPU" in said and "doctor" in said


def test_a_library_that_fails_in_its_own_way_is_a_refusal_and_the_next_is_tried(
    fake_bundle: Path, fake_board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_seg.backends import fake

    opening = fake.FakeBackend.__init__

    def fail_once(self: fake.FakeBackend, path: Path, **options: int) -> None:
        if "int8" in path.name:
            raise RuntimeError("Exception from src/inference: the driver is lost")
        opening(self, path, **options)

    monkeypatch.setattr(fake.FakeBackend, "__init__", fail_once)
    told = prepare(
        ModelBundle.load(fake_bundle), load(str(fake_board)), cache=tmp_path, progress=print
    )
    assert [one.opens for one in told] == [False, True]
    assert "RuntimeError" in told[0].refusal and "the driver is lost" in told[0].refusal


def test_a_runtime_that_builds_nothing_is_ready(
    fake_bundle: Path, fake_board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", str(fake_bundle), "--board", str(fake_board)]) == 0
    assert "fake int8" in capsys.readouterr().out


def test_nothing_is_looked_up_on_a_network(
    bundle: Path, board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def refuse(*args: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)
    words = ["prepare", str(bundle), "--board", str(board), "--cache", str(tmp_path / "cache")]
    assert main(words) == 0


@pytest.mark.slow
def test_two_processes_that_prepare_at_once_leave_one_whole_entry(
    bundle: Path, board: Path, tmp_path: Path
) -> None:
    words = ["prepare", str(bundle), "--board", str(board), "--cache", str(tmp_path / "cache")]
    script = f"import sys; from edge_seg.cli import main; sys.exit(main({words!r}))"
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert len(files(tmp_path / "cache")) == 1
    before = files(tmp_path / "cache")
    EdgeSegmenter.open(bundle, board=str(board), cache=tmp_path / "cache").close()
    assert files(tmp_path / "cache") == before, "it is whole: not compiled again"


IMAGE = """\
title = "An image"
aliases = []

[[runtime]]
backend = "tflite"
precision = "int8"

[[runtime]]
backend = "openvino"
precision = "int8"
options = { device = "CPU" }

[[runtime]]
backend = "onnxruntime"
precision = "int8"
options = { provider = "CPU" }
"""
SHUT_IN = """
mount -o remount,bind,ro / && mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"
"""
TRIES = """
import errno, socket, sys
def write():
    open(sys.argv[1], "w")
def connect():
    socket.create_connection(("192.0.2.1", 80), timeout=5)
for attempt in (write, connect):
    try:
        attempt()
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
SEGMENTS = """
import hashlib, sys
from dataclasses import replace
import numpy as np
from edge_seg import EdgeSegmenter
from edge_seg.board import load
board = load(sys.argv[1])
frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8).repeat(16, 0).repeat(16, 1)
for runtime in board.runtimes:
    with EdgeSegmenter.open(board=replace(board, runtimes=(runtime,))) as segmenter:
        mask = segmenter.segment(frame)
    print(runtime.backend, mask.shape, hashlib.sha256(mask.tobytes()).hexdigest())
"""


def shut_in(folder: Path) -> list[str]:
    """The words before a command: no network, and `/` and a folder read-only."""
    refused = "there is no unshare"
    for spaces in (("--map-root-user", "--net", "--mount"), ("--net", "--mount")):
        words = ["unshare", *spaces, "sh", "-c", SHUT_IN, str(folder)]
        if shutil.which("unshare") is not None:
            tried = subprocess.run([*words, "true"], capture_output=True, text=True)
            if tried.returncode == 0:
                return words
            refused = tried.stderr
    pytest.skip(f"no read-only root without a network can be made here: {refused}")


@pytest.mark.slow
def test_a_prepared_image_runs_read_only_and_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [onnxruntime] is not installed")
    cache, board = tmp_path / "cache", tmp_path / "image" / "board.toml"
    board.parent.mkdir()
    board.write_text(IMAGE)
    assert main(["prepare", "--board", str(board), "--cache", str(cache)]) == 0
    python, inside = [sys.executable, "-c"], shut_in(cache)

    def told(*words: str) -> subprocess.CompletedProcess[str]:
        known = {**os.environ, "EDGE_SEG_CACHE": str(cache)}
        done = subprocess.run(words, env=known, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done

    for folder in (cache / "openvino", Path(__file__).parent):
        tried = told(*inside, *python, TRIES, str(folder / "written"))
        assert tried.stdout.split() == ["EROFS", "ENETUNREACH"]
    shut, free = told(*inside, *python, SEGMENTS, str(board)), told(*python, SEGMENTS, str(board))
    assert len(shut.stdout.splitlines()) == 3 and shut.stdout == free.stdout
    assert "anew" not in shut.stderr, "what was prepared is taken"
    said = told(*inside, sys.executable, "-m", "edge_seg", "doctor", "--board", str(board)).stdout
    assert said.count(" works ") == 3 and f"{cache} is read-only and holds 1 prepared entry" in said
