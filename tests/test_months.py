"""Running for months: memory, descriptors, threads, clocks, and bundles replaced while in use."""

from __future__ import annotations

import ast
import functools
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge_seg import EdgeSegmenter
from edge_seg.arrays import Picture
from edge_seg.board import Board, Runtime
from edge_seg.bundle import DEFAULT_BUNDLE, MANIFEST, ModelBundle
from edge_seg.cli import main
from edge_seg.recording import VideoFile, frames_in
from edge_seg.spec import InputSpec
from edge_seg.staging import staged
from edge_seg.supervision import Policy
from tests.conftest import make_fake_bundle

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from soak import Soak, descriptors, resident, slope, soak  # noqa: E402
from somebody import somebody  # noqa: E402

ROOT = Path(__file__).parent.parent
needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
needs_default = pytest.mark.skipif(
    not (DEFAULT_BUNDLE / MANIFEST).is_file(), reason="no default network ships in this version"
)


def person(left: int = 300) -> Picture:
    """A frame of 480x640 with a bright, person-like shape."""
    frame = np.full((480, 640, 3), 40, np.uint8)
    frame[140:240, left + 30 : left + 110] = 210
    frame[240:, left : left + 140] = 190
    return frame


# --- memory and descriptors -----------------------------------------------------------------------


@pytest.fixture
def alone() -> Iterator[ProcessPoolExecutor]:
    """A process of its own. In one where other tests ran, the kernel fills what they let go of
    with huge pages (khugepaged): 280 MB per 100,000 frames were seen that nobody had asked for.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.slow
@needs_proc
@needs_default
def test_twenty_thousand_frames_leave_no_trace(alone: ProcessPoolExecutor) -> None:
    found = alone.submit(soak, EdgeSegmenter.open, 20_000).result()
    assert not found.complaints, found
    assert found.seen > 0.1, "somebody must be seen: without anybody the contours cost nothing"


@dataclass
class Openings:
    """Resident MB and open descriptors after every tenth opening, and threads left at the end."""

    memory: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: int = 0


def open_and_close(times: int, policy: Policy | None) -> Openings:
    frame, found = somebody((480, 640), 1)[0], Openings()
    before = set(threading.enumerate())
    for number in range(times):
        with EdgeSegmenter.open(policy=policy) as segmenter:
            segmenter.segment(frame)
        if number % 10 == 9:
            gc.collect()
            found.memory.append(resident())
            found.descriptors.append(descriptors())
    end = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < end:  # they end on their own
        time.sleep(0.01)
    found.threads = len(set(threading.enumerate()) - before)
    return found


@pytest.mark.slow
@needs_proc
@needs_default
@pytest.mark.parametrize("policy", [None, Policy(deadline=10.0)], ids=["plain", "deadline"])
def test_opening_and_closing_five_hundred_times_leaves_no_trace(
    policy: Policy | None, alone: ProcessPoolExecutor
) -> None:
    found = alone.submit(open_and_close, 500, policy).result()
    assert slope(found.memory[10:]) * 50 < 2.0, "MB per 500 openings"
    assert found.descriptors[-1] <= found.descriptors[0] + (policy is not None), "descriptors"
    assert not found.threads


def test_the_soak_sees_a_leak() -> None:
    flat = [1.0] * 40
    leaks = [100 + 0.05 * i for i in range(40)]  # 2 MB in 20,000 frames
    seen = Soak(20_000, 1.0, "here", leaks, [5] * 40, flat, flat)
    assert seen.growth == pytest.approx(10) and "memory grows" in seen.complaints[0]
    settled = [80.0, 95.0, 99.0, *[100.0] * 37]  # what is filled once is no leak
    assert not Soak(20_000, 1.0, "here", settled, [5] * 40, flat, flat).complaints
    assert Soak(20_000, 1.0, "here", settled, [5] * 39 + [6], flat, flat).complaints
    assert Soak(20_000, 1.0, "here", settled, [5] * 40, flat, flat, 1.2, 1.0).complaints


def test_a_short_soak_does_not_take_its_warm_up_for_a_leak() -> None:
    flat = [1.0] * 40
    warming = [100 + 0.02 * i for i in range(40)]  # 0.8 MB in all
    short = Soak(2_000, 1.0, "here", warming, [5] * 40, flat, flat)
    assert not short.complaints and not short.tells_growth
    long = Soak(20_000, 1.0, "here", warming, [5] * 40, flat, flat)
    assert "memory grows" in long.complaints[0]
    assert Soak(2_000, 1.0, "here", warming, [5] * 39 + [6], flat, flat).complaints
    assert Soak(2_000, 1.0, "here", warming, [5] * 40, flat, flat, 1.2, 1.0).complaints


@pytest.mark.slow
@needs_proc
@needs_default
def test_the_soaks_command_says_when_frames_are_too_few() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "--frames", "80"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert "too few frames to say how it grows (--frames 20000 or more)" in done.stdout
    assert "NOT FLAT: memory" not in done.stdout


# --- threads --------------------------------------------------------------------------------------


@needs_default
def test_eight_segmenters_in_eight_threads_do_not_disturb_each_other() -> None:
    frames = somebody((480, 640), 8)
    with EdgeSegmenter.open() as alone:
        wanted = [alone.segment(frame) for frame in frames]
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        with EdgeSegmenter.open() as segmenter:
            start.wait(60)
            masks = [segmenter.segment(frames[number]) for _ in range(20)]
        return all(np.array_equal(mask, wanted[number]) for mask in masks)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len({mask.tobytes() for mask in wanted}) >= 4, "the frames must differ in their masks"


# --- signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", ["fake:size=320x240", "fake:size=320x240,hang=3+3600"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_live_camera_is_left_and_its_video_finished(
    camera: str,
    number: signal.Signals,
    code: int,
    fake_bundle: Path,
    fake_board: Path,
    tmp_path: Path,
) -> None:
    out, masks = tmp_path / "out.webm", tmp_path / "masks"
    command = [sys.executable, "-m", "edge_seg", "run", fake_bundle, "--board", fake_board]
    command += ["--source", camera, "-o", out, "--masks", masks]
    # A shell that starts CI in the background hands down SIGINT as ignored: a terminal does not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    end = time.monotonic() + 60
    # A frame's mask is written before its picture: four masks are at least three pictures.
    while len(list(masks.glob("*.png"))) < 4 and time.monotonic() < end:
        time.sleep(0.02)
    if "hang" in camera:
        time.sleep(4.0)  # until the camera's call does not come back
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == code and "Traceback" not in said
    assert frames_in(out) >= 3 and f"holds the {frames_in(out)} frames" in said


# --- clocks ---------------------------------------------------------------------------------------


def test_a_clock_that_jumps_back_changes_nothing(
    fake_bundle: Path, fake_board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, out = tmp_path / "clip.webm", tmp_path / "out.webm"
    with VideoFile(clip, fps=30) as video:
        for left in range(0, 200, 20):
            video.write(person(left))
    jumps = iter(range(10_000))
    monkeypatch.setattr(time, "time", lambda: 1.7e9 - 3600.0 * next(jumps))
    words = ["run", str(fake_bundle), "--source", str(clip), "--board", str(fake_board)]
    assert main([*words, "-o", str(out)]) == 0
    assert frames_in(out) == 10


def test_what_runs_on_the_board_measures_time_by_a_clock_nobody_sets() -> None:
    for path in (ROOT / "edge_seg").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                asked = f"{node.value.id}.{node.attr}"
                assert asked not in ("time.time", "datetime.now", "datetime.utcnow"), path


# --- a bundle replaced while in use ---------------------------------------------------------------


def turn(link: Path, target: Path) -> None:
    """Point a link elsewhere in one step, as docs/operations.md says."""
    beside = link.with_name(link.name + ".new")
    beside.symlink_to(target.name)
    os.replace(beside, link)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two bundles, v1 and v2, whose networks have other sizes, and a link `current` to v1."""
    for name, height in (("v1", 64), ("v2", 32)):
        folder = tmp_path / name
        folder.mkdir()
        make_fake_bundle(folder, InputSpec(height, 96))
    (tmp_path / "current").symlink_to("v1")
    return tmp_path / "current", tmp_path / "v1", tmp_path / "v2"


def test_roll_over_and_back(versions: tuple[Path, Path, Path], fake_board: Path) -> None:
    current, old, new = versions
    open = lambda: EdgeSegmenter.open(current, board=str(fake_board))  # noqa: E731
    with open() as before:
        turn(current, new)
        with open() as after:
            assert (before.spec.height, after.spec.height) == (64, 32)
        turn(current, old)
        with open() as back:
            assert back.spec.height == 64


def test_a_device_lost_after_the_roll_over_falls_back_within_its_own_bundle(
    versions: tuple[Path, Path, Path],
) -> None:
    current, _, new = versions
    breaks = Runtime("fake", "int8", {"fault": "lost", "after": 2 + 2})  # two when it opens
    board = Board("b", "B", (), {}, (breaks, Runtime("fake", "fp32")))
    with EdgeSegmenter.open(current, board=board) as segmenter:
        wanted = segmenter.segment(person())
        turn(current, new)
        for _ in range(5):
            mask = segmenter.segment(person())
        assert segmenter.degraded and segmenter.counters.lost == 0
        assert np.abs(mask - wanted).max() < 0.02


def test_a_link_turned_all_the_time_never_gives_half_of_each(
    versions: tuple[Path, Path, Path], fake_board: Path
) -> None:
    current, old, new = versions
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            turn(current, new)
            turn(current, old)

    spinning = threading.Thread(target=spin)
    spinning.start()
    try:
        heights = set()
        for _ in range(100):
            with EdgeSegmenter.open(current, board=str(fake_board)) as segmenter:
                heights.add(segmenter.spec.height)
                assert not segmenter.degraded
    finally:
        stop.set()
        spinning.join()
    assert heights <= {64, 32}


@needs_default
def test_a_bundle_replaced_in_its_place_leaves_the_open_one_alone(tmp_path: Path) -> None:
    place, frame = tmp_path / "bundle", somebody((480, 640), 1)[0]
    shutil.copytree(DEFAULT_BUNDLE, place)
    with EdgeSegmenter.open(place) as segmenter:
        before = segmenter.segment(frame)
        with staged(place) as folder:  # as `edge-seg convert -o` replaces one
            make_fake_bundle(folder)
        assert ModelBundle.load(place).name == "bright is person"
        for _ in range(20):
            assert np.array_equal(segmenter.segment(frame), before)
