"""Whether a segmenter can run for months: memory, descriptors and latency over very many frames.

    python benchmarks/soak.py [BUNDLE] --frames 200000 [--json FILE]        (make soak)

Frames of three sizes in turn, of somebody who moves, through one segmenter as it opens by default,
smoother and contours included; the memory it holds itself and its open descriptors are looked at
forty times. Flat means: memory grows by less than 1 MB per 100,000 frames, no descriptor is added,
and at the end a frame's median processor time is within a tenth of what a segmenter opened just
then takes, the two taking turns: a machine that has slowed meanwhile slows both. Of fewer than
20,000 frames the growth is not judged: it would be that of the warm-up.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from somebody import somebody

from edge_seg import machine
from edge_seg.bundle import DEFAULT_BUNDLE
from edge_seg.files import check_place, write_whole
from edge_seg.segmenter import EdgeSegmenter

SIZES = ((480, 640), (224, 224), (360, 640))
STEPS = 16  # different frames of a size
FPS = 30.0
LOOKS = 40
MAX_GROWTH = 1.0  # MB per 100,000 frames
ENOUGH = 20_000  # frames that tell growth from what is filled once
MAX_SLOWER = 1.10
TURNS = 40  # of STEPS frames each, the old segmenter and a new one


@dataclass
class Soak:
    """What was seen. memory: MB of its own, descriptors: open ones, median_ms: processor time of a
    frame, p99_ms: of wall time; one of each per look. old_ms, new_ms: processor times of a frame at
    the end, of this segmenter and of a new one. seen: mean of a mask at the end. growth: MB per
    100,000 frames, the median of the slopes between all pairs of looks (Theil-Sen) after the first
    tenth of them.
    """

    frames: int
    seconds: float
    measured_on: str
    memory: list[float]
    descriptors: list[int]
    median_ms: list[float]
    p99_ms: list[float]
    old_ms: float = 1.0
    new_ms: float = 1.0
    seen: float = 0.0

    @property
    def growth(self) -> float:
        """MB per 100,000 frames."""
        settled = self.memory[len(self.memory) // 10 :]
        return slope(settled) * 100_000 * len(self.memory) / self.frames

    @property
    def tells_growth(self) -> bool:
        """Whether these are frames enough to judge the growth by."""
        return self.frames >= ENOUGH

    @property
    def slower(self) -> float:
        """A frame's time at the end over the time a new segmenter takes."""
        return self.old_ms / self.new_ms

    @property
    def complaints(self) -> list[str]:
        """One sentence per thing that is not flat; [] when all is well."""
        found = []
        if self.tells_growth and self.growth >= MAX_GROWTH:
            found.append(f"memory grows by {self.growth:.2f} MB per 100,000 frames")
        if self.descriptors[-1] > self.descriptors[0]:
            found.append(f"descriptors grew from {self.descriptors[0]} to {self.descriptors[-1]}")
        if self.slower > MAX_SLOWER:
            found.append(f"a frame takes {self.slower:.2f}x the time a new segmenter takes")
        return found


def soak(
    open: Callable[[], EdgeSegmenter],
    frames: int,
    *,
    progress: Callable[[], None] = lambda: None,
) -> Soak:
    """Push frames through what `open` returns. progress: called after every frame."""
    shown = [somebody(size, STEPS) for size in SIZES]
    found = Soak(frames, 0.0, machine.measured_on(), [], [], [], [])
    block = max(1, frames // LOOKS)
    began = time.monotonic()
    with open() as segmenter:
        for number, first in enumerate(range(0, frames, block)):
            times = range(first, first + block)
            _look(found, *_block(segmenter, shown[number % len(shown)], times, progress))
        found.seconds = time.monotonic() - began
        found.seen = float(segmenter.segment(shown[0][0], frames / FPS).mean())
        with open() as fresh:
            found.old_ms, found.new_ms = _turns(segmenter, fresh, shown[0], frames)
    return found


def _turns(
    old: EdgeSegmenter, new: EdgeSegmenter, shown: Sequence[np.ndarray], first: int
) -> tuple[float, float]:
    """Median processor time of a frame, of each, in ms; the first turn of each warms up."""
    spent: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS):
        times = range(first + turn * STEPS, first + (turn + 1) * STEPS)
        for segmenter, ms in zip((old, new), spent, strict=True):
            ms += _block(segmenter, shown, times, lambda: None)[0]
    return tuple(1e3 * float(np.median(ms[STEPS:])) for ms in spent)  # type: ignore[return-value]


def _block(
    segmenter: EdgeSegmenter,
    shown: Sequence[np.ndarray],
    numbers: range,
    progress: Callable[[], None],
) -> tuple[list[float], list[float]]:
    busy, wall = [], []
    for i in numbers:
        start, spent = time.perf_counter(), time.thread_time()
        segmenter.segment(shown[i % len(shown)], i / FPS)
        busy.append(time.thread_time() - spent)
        wall.append(time.perf_counter() - start)
        progress()
    return busy, wall


def _look(found: Soak, busy: Sequence[float], wall: Sequence[float]) -> None:
    found.memory.append(resident())
    found.descriptors.append(descriptors())
    found.median_ms.append(1e3 * float(np.median(busy)))
    found.p99_ms.append(1e3 * float(np.percentile(wall, 99)))


def slope(values: Sequence[float]) -> float:
    """Return the median slope between all pairs of equally spaced values (Theil-Sen)."""
    y = np.asarray(values, dtype=np.float64)
    first, second = np.triu_indices(len(y), 1)
    return float(np.median((y[second] - y[first]) / (second - first))) if len(y) > 1 else 0.0


def resident() -> float:
    """Return what this process itself holds in memory, in MB (10^6 bytes).

    Pages of files are left out: the system drops them and reads them again as it likes.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(int(kilobytes) for kilobytes in held) * 1024 / 1e6


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def main() -> int:
    """Soak, print, exit 1 where something is not flat."""
    from edge_seg.cli.progress import frames_bar

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.json:
        check_place(args.json)
    with frames_bar("soaking", args.frames) as advance:
        found = soak(lambda: EdgeSegmenter.open(args.bundle), args.frames, progress=advance)
    print(f"{found.frames} frames in {found.seconds:.0f} s on {found.measured_on}")
    grows = f"{found.growth:+.3f} MB per 100,000 frames"
    if not found.tells_growth:
        grows = f"too few frames to say how it grows (--frames {ENOUGH} or more)"
    print(f"memory {found.memory[0]:.1f} -> {found.memory[-1]:.1f} MB of its own,", end=" ")
    print(f"{grows}; highest {max(found.memory):.1f} MB")
    print(f"descriptors {found.descriptors[0]} -> {found.descriptors[-1]}")
    alike = found.median_ms[:: len(SIZES)]  # looks at frames of one size
    print(f"a frame {alike[0]:.2f} -> {alike[-1]:.2f} ms of processor time,")
    print(f"at the end {found.slower:.2f}x the time of a segmenter just opened")
    if args.json:
        growth = found.growth if found.tells_growth else None
        figures = {"growth_mb_per_100000": growth, "slower": found.slower}
        write_whole(args.json, json.dumps({**asdict(found), **figures}, indent=1) + "\n")
    for complaint in found.complaints:
        print(f"NOT FLAT: {complaint}")
    return 1 if found.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
