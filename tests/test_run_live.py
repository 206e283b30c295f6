"""`edge-seg run` on a camera: turned, paced, interrupted, unplugged, full disks, no frame."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from edge_seg.recording import frames_in


def start(*words: object) -> subprocess.Popen[str]:
    """Start `edge-seg run`; a shell in the background hands SIGINT down as ignored, we do not."""
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "edge_seg", "run", *map(str, words)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    )


def wait_for(path: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert path.exists()


@pytest.fixture
def bundle(fake_bundle: Path, fake_board: Path) -> tuple[object, ...]:
    return (fake_bundle, "--board", fake_board)


def test_ctrl_c_with_a_frame_in_flight_keeps_what_was_recorded_upright_at_its_rate(
    bundle: tuple[object, ...], tmp_path: Path
) -> None:
    out, masks = tmp_path / "out.webm", tmp_path / "masks"
    camera = ("--source", "fake:size=96x64,fps=30", "--rotate", 90, "--mirror", "--fps", 10)
    running = start(*bundle, *camera, "-o", out, "--masks", masks)
    wait_for(masks / "000012.png")
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    held = frames_in(out)
    assert held >= 12 and f"holds the {held} frames" in errors and "Traceback" not in errors
    capture = cv2.VideoCapture(str(out))
    size = [capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    assert size == [64, 96] and round(capture.get(cv2.CAP_PROP_FPS)) == 10
    assert cv2.imread(str(masks / "000003.png"), cv2.IMREAD_UNCHANGED).shape == (96, 64)


def test_an_unplugged_camera_comes_back_and_both_are_said(
    bundle: tuple[object, ...], tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    source = "fake:size=64x48,fps=20,unplug=1+1,resize=2.2:96x64"
    running = start(*bundle, "--source", source, "--masks", masks)
    wait_for(masks / "000030.png")
    time.sleep(0.8)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "lost the camera" in errors and "back after" in errors
    assert re.search(r"opened again 1 time|opened again [2-9] times", errors), errors
    shapes = {cv2.imread(str(p), cv2.IMREAD_UNCHANGED).shape for p in masks.glob("*.png")}
    assert shapes == {(48, 64), (64, 96)}, "another size after the replug passes through"


def test_a_disk_that_fills_up_ends_a_recording_with_one_sentence(
    bundle: tuple[object, ...], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a small disk to fill up")
    try:
        source = ("--source", "fake:size=640x480,fps=30", "--masks", disk / "masks")
        _, errors = start(*bundle, *source).communicate(timeout=60)
        left = list((disk / "masks").glob(".*"))
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True)
    lines = [line for line in errors.splitlines() if line.startswith("edge-seg:")]
    assert any("No space left" in line and "choose another --masks" in line for line in lines)
    assert "Traceback" not in errors and not left


@pytest.mark.slow
def test_a_camera_that_never_starts_ends_the_run_after_ten_seconds(
    bundle: tuple[object, ...], tmp_path: Path
) -> None:
    began = time.monotonic()
    running = start(*bundle, "--source", "fake:silent", "-o", tmp_path / "out.webm")
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 2 and "within 10 s" in errors
    assert 10 < time.monotonic() - began < 25
    assert not list(tmp_path.glob("*.webm"))
