"""Videos as browsers, screen recorders and old cards leave them: no rate, pauses, strange names."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg.camera import open_source
from edge_seg.cli import main
from edge_seg.recording import VideoFile, frames_in

SIZE = (48, 64)
# Of 60 frames, ms. A browser's recording has no more to go by.
BROWSER = np.cumsum(np.random.default_rng(0).uniform(40, 95, 60)).round() - 40
PAUSED = np.r_[0:30, 300:330] * 33  # nine seconds of a still screen are not recorded


def _packets(folder: Path, n: int) -> list[bytes]:
    """Frames encoded as VP8."""
    path = folder / "steady.webm"
    with VideoFile(path, fps=30) as video:
        for i in range(n):
            video.write(np.full((*SIZE, 3), 20 + 3 * i, np.uint8))
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    packets = [capture.read()[1].tobytes() for _ in range(n)]
    capture.release()
    return packets


def _element(name: str, data: bytes | int) -> bytes:
    """An element of EBML (RFC 8794), its length in eight bytes."""
    if isinstance(data, int):
        data = struct.pack(">Q", data)
    return bytes.fromhex(name) + struct.pack(">Q", len(data) | 1 << 56) + data


def write_webm(path: Path, milliseconds: Sequence[float], *, rate: bool = False) -> Path:
    """Write a WebM whose frames have these times; without `rate` its track states none."""
    kind = _element("4282", b"webm") + _element("4287", 2) + _element("4285", 2)
    until = struct.pack(">d", milliseconds[-1] + 33)
    about = _element("2AD7B1", 1_000_000) + _element("4489", until)
    size = _element("B0", SIZE[1]) + _element("BA", SIZE[0])
    track = _element("D7", 1) + _element("73C5", 1) + _element("83", 1)
    track += _element("23E383", 33_000_000) if rate else b""  # nanoseconds a frame
    track += _element("86", b"V_VP8") + _element("E0", size)
    body = _element("1549A966", about) + _element("1654AE6B", _element("AE", track))
    for i, packet in enumerate(_packets(path.parent, len(milliseconds))):
        block = b"\x81\0\0" + (b"\0" if i else b"\x80") + packet
        cluster = _element("E7", int(milliseconds[i])) + _element("A3", block)
        body += _element("1F43B675", cluster)
    path.write_bytes(_element("1A45DFA3", kind) + _element("18538067", body))
    return path


@pytest.fixture
def run(fake_bundle: Path, fake_board: Path) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        return main(["run", str(fake_bundle), "--board", str(fake_board), *map(str, arguments)])

    return call


def test_a_video_that_states_no_rate_is_written_at_the_mean_of_its_own(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_webm(tmp_path / "browser.webm", BROWSER)
    mean = 59 / ((BROWSER[-1] - BROWSER[0]) / 1000)
    with open_source(path) as source:
        assert source.count == 60 and source.fps == pytest.approx(mean, rel=1e-3)
    assert run("--source", path, "-o", tmp_path / "out.webm") == 0
    said = capsys.readouterr().err
    assert "cut short" not in said and "times the speed" not in said
    with open_source(tmp_path / "out.webm") as written:
        times = [shot.timestamp for shot in written]
    assert len(times) == 60 and times[-1] == pytest.approx(BROWSER[-1] / 1000, rel=0.01)
    assert run("--source", path, "-o", tmp_path / "out.webm", "--fps", 30) == 0
    assert "plays at 2.0 times the speed; leave --fps out" in capsys.readouterr().err


def test_a_video_whose_rate_varies_is_not_called_cut_short_and_its_pauses_are_said(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_webm(tmp_path / "screen.webm", PAUSED)
    assert run("--source", path, "-o", tmp_path / "out.webm") == 0
    said = capsys.readouterr().err
    assert "cut short" not in said
    assert re.search(r"gave 5.4 frames/s .* plays at 5.6 times the speed; record with", said), said


@pytest.mark.parametrize("whole", [True, False])
def test_times_that_begin_at_an_hour_make_no_video_longer(
    whole: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A part of a stream; its header counts the duration from the stream's beginning."""
    if not hasattr(cv2, "CAP_PROP_PTS"):
        pytest.skip("this OpenCV does not tell where a video begins")
    path = write_webm(tmp_path / "part.webm", 3_600_000 + 33 * np.arange(60), rate=True)
    if not whole:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with open_source(path) as source:
        assert source.count is not None and abs(source.count - 60) <= 1
        shots = list(source)
    assert ("cut short" in caplog.text) != whole
    assert shots[0].timestamp == 0 and (len(shots) == 60) == whole


def test_times_that_say_nothing_give_no_rate(tmp_path: Path) -> None:
    with open_source(write_webm(tmp_path / "still.webm", [0.0] * 60)) as source:
        assert source.fps is None and source.count == 60
        assert sum(1 for _ in source) == 60


@pytest.mark.parametrize("what", ["source", "output", "picture"])
def test_a_name_that_is_not_utf_8_takes_no_process_down(
    what: str, fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    latin = os.fsdecode(b"caf\xe9")
    cv2.imwrite(str(tmp_path / "me.png"), np.full((*SIZE, 3), 200, np.uint8))
    (tmp_path / f"{latin}.webm").write_bytes(b"\x1aE\xdf\xa3")
    command = [sys.executable, "-m", "edge_seg", "run", str(fake_bundle)]
    command += ["--board", str(fake_board)]
    command += {
        "source": ["--source", f"{latin}.webm", "--masks", "masks"],
        "output": ["--source", "me.png", "-o", f"new-{latin}.webm"],
        "picture": ["--source", "me.png", "-o", f"new-{latin}.png"],
    }[what]
    strict = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(
        command, cwd=tmp_path, env=strict, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == {"source": 2, "output": 1, "picture": 0}[what], done.stderr
    if what == "picture":
        assert r"caf\udce9.png is made" in done.stdout
    else:
        assert "UTF-8" in done.stderr and "defect" not in done.stderr


@pytest.mark.parametrize("name", ["12:30.webm", "concat:other.webm", "a%03d.webm"])
def test_a_name_that_means_something_to_ffmpeg_is_a_name(
    name: str, run: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoFile(tmp_path / "other.webm", fps=30) as video:
        video.write(np.zeros((*SIZE, 3), np.uint8))
    write_webm(tmp_path / "three.webm", [0, 33, 66]).rename(name)
    assert run("--source", name, "-o", f"out-{name}") == 0
    assert frames_in(Path(f"out-{name}")) == 3
