"""What a source really gives: for `edge-seg doctor --camera`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from edge_seg.arrays import Picture
from edge_seg.camera import open_source
from edge_seg.camera.colors import judge, name_of
from edge_seg.camera.live import LiveSource
from edge_seg.camera.shots import Source

SECONDS = 2.0


@dataclass(frozen=True)
class Remark:
    """One line of the report. good: nothing is wrong with it."""

    good: bool
    text: str


def check(text: str, seconds: float = SECONDS) -> Iterator[Remark]:
    """Watch a source for so long and say what was seen. Raises CameraError, CameraLost."""
    with open_source(text) as source:
        shot = source.read(seconds)
        if shot is None:
            yield Remark(False, f"{source.describe} gives no frame")
            return
        height, width = shot.frame.shape[:2]
        yield Remark(True, f"{source.describe} gives frames of {width}x{height}")
        if isinstance(source, LiveSource):
            yield _pace(source, seconds)
            yield _colors(source.pattern())
        yield _middle(shot.frame, source)


def _pace(source: LiveSource, seconds: float) -> Remark:
    began, stamps, ages = time.monotonic(), [], []
    while time.monotonic() - began < seconds:
        shot = source.read(0.5)
        if shot is not None:
            stamps.append(shot.timestamp)
            ages.append(time.monotonic() - shot.timestamp)
    if len(stamps) < 2:
        return Remark(False, f"{len(stamps)} frames came in {seconds:g} s")
    rate = (len(stamps) - 1) / (stamps[-1] - stamps[0])
    stated = "it states no rate" if source.fps is None else f"it states {source.fps:g}"
    counters = source.counters
    return Remark(
        True,
        f"{rate:.1f} frames/s ({stated}), handed over {1e3 * sorted(ages)[len(ages) // 2]:.0f} ms "
        f"after the quickest so far; {counters.dropped} replaced, {counters.stale} too old",
    )


def _colors(pattern: Picture | None) -> Remark:
    if pattern is None:
        return Remark(True, "colours: no test picture can be put in this camera's way")
    wrong = judge(pattern)
    text = wrong or "a test picture's red comes out red through this camera's format"
    return Remark(not wrong, f"colours: {text}")


def _middle(frame: Picture, source: Source) -> Remark:
    """Say the colour in the middle: the lens, the sensor and the driver are judged by eye."""
    height, width = frame.shape[:2]
    patch = frame[height * 4 // 9 : height * 5 // 9 + 1, width * 4 // 9 : width * 5 // 9 + 1]
    blue, green, red = patch.reshape(-1, 3).mean(axis=0)
    text = f"the middle is {name_of(patch)} (red {red:.0f}, green {green:.0f}, blue {blue:.0f})"
    hint = "; hold something red there: it must say red" if source.live else ""
    return Remark(True, text + hint)
