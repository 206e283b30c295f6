"""Measuring speed: one bundle, one board's runtime, this machine.

Opening, the first call, then the steady state per stage of `EdgeSegmenter.segment`, from a frame
in the hand to a mask of the frame's size. Nothing else is timed: no camera, no decoding of video.
What is measured is always this machine, and the report says which that is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_seg import machine
from edge_seg._version import __version__
from edge_seg.arrays import Picture
from edge_seg.board import Board, detect, resolve
from edge_seg.bundle import ModelBundle
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.smoothing import DEFAULT, Smoother

GENERATED_SIZE = (720, 1280)
GENERATED_FRAMES = 8
MAX_FRAMES = 16  # kept in memory: 16 frames of 720p are 44 MB
WARM_UP = 10  # calls after the first, not counted: caches, frequency, the library's own lazy work
CALLS = 200
MAX_SECONDS = 60.0
CAMERA_FPS = 30  # of the times the frames are given, which only a smoother looks at
UNAVAILABLE = "unavailable"


@dataclass
class Report:
    """What was measured, where, with what. Times in milliseconds, memory in bytes.

    stages: name -> {"p50", "p90", "p99"} in ms, in the order a frame meets them.
    end_to_end: the same for a whole call, "fps" the calls per second. frame_sizes: (height, width).
    """

    measured_on: str
    is_board: bool
    board: str
    board_title: str
    bundle: str
    artifact: str
    runtime: str
    refused: str
    source: str
    frame_sizes: list[tuple[int, int]]
    calls: int
    init_ms: float
    first_ms: float
    stages: dict[str, dict[str, float]]
    end_to_end: dict[str, float]
    peak_memory: int
    temperature: dict[str, float | str]
    throttled: str
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The first line: whose figures these are."""
        if self.is_board:
            return f"Measured on {self.measured_on}."
        return (
            f"Measured on {self.measured_on} with the runtimes and threads of "
            f"{self.board_title}: not a figure of that board."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what the table shows as plain JSON types; keys carry their unit."""
        return {
            "measured_on": self.measured_on,
            "is_board": self.is_board,
            "board": self.board,
            "note": self.headline,
            "version": __version__,
            "bundle": self.bundle,
            "artifact": self.artifact,
            "runtime": self.runtime,
            "refused": self.refused,
            "source": self.source,
            "frame_sizes": [list(size) for size in self.frame_sizes],
            "calls": self.calls,
            "init_ms": self.init_ms,
            "first_ms": self.first_ms,
            "stages": self.stages,
            "end_to_end": self.end_to_end,
            "peak_memory_bytes": self.peak_memory,
            "temperature_c": self.temperature,
            "throttled": self.throttled,
            "quality": self.quality,
        }


class StageClock:
    """Gathers how long each stage of a call took; handed to `segment` as its clock."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}
        self.totals: list[float] = []
        self._began = self._last = 0.0

    def start(self) -> None:
        """Begin a call."""
        self._began = self._last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.times.setdefault(stage, []).append(now - self._last)
        self._last = now

    def stop(self) -> None:
        """End a call."""
        self.totals.append(time.perf_counter() - self._began)


def measure(
    bundle: ModelBundle | str | Path | None,
    *,
    board: str | Path | Board = "auto",
    threads: int | None = None,
    frames: tuple[str, Sequence[Picture]] | None = None,
    calls: int = CALLS,
    smoother: Smoother | str | None = DEFAULT,
    edges: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Measure a bundle with a board's runtimes and threads on this machine.

    frames: where they came from, for the report, and uint8 (H, W, 3) BGR, used in turn; None for a
    generated 1280x720 sequence. calls: timed calls, ended early after 60 s. smoother, edges: as
    `EdgeSegmenter.open` takes them; the stages "smooth" and "edges" are theirs. progress: called
    with the calls done.

    Raises what `EdgeSegmenter.open` and `segment` raise.
    """
    if frames is None:
        frames = f"generated {GENERATED_SIZE[1]}x{GENERATED_SIZE[0]} sequence", generated()
    source, pictures = frames
    chosen = resolve(board)
    heat = machine.temperature()
    began = time.perf_counter()
    opening = EdgeSegmenter.open(
        bundle, board=chosen, threads=threads, smoother=smoother, edges=edges
    )
    with opening as segmenter:
        opened = time.perf_counter()
        segmenter.segment(pictures[0])
        first = time.perf_counter()
        clock = _steady(segmenter, pictures, calls, progress)
        return Report(
            **_where(segmenter, chosen),
            bundle=_name(bundle),
            source=source,
            frame_sizes=sorted({(p.shape[0], p.shape[1]) for p in pictures}),
            calls=len(clock.totals),
            init_ms=1e3 * (opened - began),
            first_ms=1e3 * (first - opened),
            stages={stage: percentiles(times) for stage, times in clock.times.items()},
            end_to_end=percentiles(clock.totals) | {"fps": len(clock.totals) / sum(clock.totals)},
            peak_memory=machine.peak_memory(),
            temperature=_heat(heat, machine.temperature()),
            throttled=machine.throttled() or UNAVAILABLE,
        )


def _where(segmenter: EdgeSegmenter, board: Board) -> dict[str, Any]:
    """The fields of a report that say what ran on what."""
    assert segmenter.artifact is not None
    return {
        "measured_on": machine.measured_on(segmenter.backend.library),
        "is_board": board == detect() or board.is_here(Path("/")),
        "board": board.name,
        "board_title": board.title,
        "artifact": segmenter.artifact.name,
        "runtime": str(segmenter.runtime),
        "refused": segmenter.reason,
    }


def _steady(
    segmenter: EdgeSegmenter,
    frames: Sequence[Picture],
    calls: int,
    progress: Callable[[int], None] | None,
) -> StageClock:
    for i in range(-WARM_UP, 0):
        segmenter.segment(frames[i % len(frames)], i / CAMERA_FPS)
    clock = StageClock()
    end = time.perf_counter() + MAX_SECONDS
    for i in range(calls):
        clock.start()
        segmenter.segment(frames[i % len(frames)], i / CAMERA_FPS, clock=clock)
        clock.stop()
        if progress is not None:
            progress(i + 1)
        if time.perf_counter() > end:
            break
    return clock


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return {"p50", "p90", "p99"} in milliseconds."""
    values = np.percentile(np.asarray(seconds) * 1e3, (50, 90, 99))
    return {name: float(v) for name, v in zip(("p50", "p90", "p99"), values, strict=True)}


def generated() -> list[Picture]:
    """Return 8 frames of 1280x720, a bright disk that moves over a gradient with noise.

    The speed of a network does not depend on what it sees; the same numbers come every time.
    """
    height, width = GENERATED_SIZE
    rng = np.random.default_rng(0)
    rows, columns = np.linspace(0, 120, height), np.linspace(0, 80, width)
    room = (rows[:, None] + columns[None])[:, :, None] + rng.integers(0, 24, (height, width, 3))
    frames = []
    for i in range(GENERATED_FRAMES):
        frame = room.astype(np.uint8)
        centre = (width // 2 + 20 * (i - GENERATED_FRAMES // 2), height // 2)
        cv2.circle(frame, centre, height // 4, (200, 210, 230), -1)
        frames.append(frame)
    return frames


def _name(bundle: ModelBundle | str | Path | None) -> str:
    if isinstance(bundle, ModelBundle):
        return bundle.name
    return "default" if bundle is None else str(bundle)


def _heat(before: float | None, after: float | None) -> dict[str, float | str]:
    return {
        "before": UNAVAILABLE if before is None else before,
        "after": UNAVAILABLE if after is None else after,
    }
