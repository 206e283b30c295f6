"""The figures of a clip with truth: measured with and without smoothing, side by side."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import arguments
from edge_seg.cli.progress import frames_bar
from edge_seg.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_seg.segmenter import EdgeSegmenter
    from edge_seg.stability.gain import Gain

CLIP_FPS = 30.0
RAW, SMOOTHED = "raw", "smoothed"  # the columns, and the keys in JSON
# figure -> (title with its unit, factor, digits, why a clip may have none)
ROWS: dict[str, tuple[str, float, int, str]] = {
    "miou": ("mIoU, %", 100, 2, ""),
    "boundary_f": ("boundary F, %", 100, 2, ""),
    "mae": ("MAE, %", 1, 2, ""),
    "contrast": ("contrast, 0 to 1", 1, 2, "nowhere is a person, or nowhere is none, rightly seen"),
    "steady": ("steadily right, %", 100, 2, "the clip, or every rest in it, is under 500 ms"),
    "dtssd": ("dtSSD, %", 1, 2, "one frame, or all is ignored"),
    "flicker": ("static flicker, %", 1, 3, "no pixel's truth rests for 200 ms"),
    "flips": ("flips per static pixel, 1/s", 1, 4, "no pixel's truth rests for 200 ms"),
    "warped": ("flow-warped difference, %", 1, 2, "no flow holds, or a side is under 32 px"),
    "ghosting": ("ghosting, %", 1, 2, "no one leaves a place"),
    "dropouts": ("drop-outs", 1, 0, ""),
    "delay": ("delay behind the truth, ms", 1, 0, "nothing changes after a rest of 200 ms"),
    "lag": ("lag added to raw, ms", 1, 0, "nothing changes after a rest, or raw does not follow"),
}
ABOUT_DELAY = (
    "of the delay: raw masks have none of their own, each is made from its frame alone; what they "
    "show there is how coarsely their contours follow. Smoothed less raw is what smoothing delays."
)


def add_fps(parser: argparse.ArgumentParser) -> None:
    """Add --fps, the rate of a clip folder."""
    parser.add_argument(
        "--fps",
        type=arguments.frame_rate,
        metavar="N",
        help="frames per second of a clip folder (default 30)",
    )


def check(labels: Path, fps: float | None) -> None:
    """Read what can be read of a clip before anything is opened. Raises DatasetError."""
    from edge_seg.calibration.clips import clip_shots
    from edge_seg.calibration.dataset import is_clip

    if is_clip(labels):
        clip_shots(labels, fps or CLIP_FPS)
    elif fps is not None:
        raise DatasetError(
            f"wanted --fps beside a clip (a folder holding frames/ and masks/), found {labels}, "
            "whose pictures do not follow each other in time; leave --fps out"
        )


def measure(
    labels: Path, fps: float | None, open_one: Callable[[], EdgeSegmenter]
) -> dict[str, Any] | None:
    """Return a clip's figures as JSON holds them; None for a list, which has no time.

    open_one: opens the segmenter to judge, once for each column.
    """
    from edge_seg.calibration.clips import clip_shots
    from edge_seg.calibration.dataset import is_clip
    from edge_seg.evaluation import evaluate_clip
    from edge_seg.smoothing import DEFAULT, resolve
    from edge_seg.stability.gain import gain_over_raw

    if not is_clip(labels):
        return None
    rate = fps or CLIP_FPS
    smoothers = {RAW: None, SMOOTHED: resolve(DEFAULT)}
    with ExitStack() as stack:
        segmenters = {name: stack.enter_context(open_one()) for name in smoothers}
        for name, segmenter in segmenters.items():
            segmenter.smoother = smoothers[name]
        advance = stack.enter_context(frames_bar("stability", None))
        shots = clip_shots(labels, rate)
        found = evaluate_clip(segmenters, shots, progress=lambda done: advance())
    columns = {name: {**f.to_dict(), "doubts": list(f.doubts)} for name, f in found.items()}
    gain = _gain(gain_over_raw(found[SMOOTHED], found[RAW]))
    return {"fps": rate, "frames": found[RAW].n, **columns, "smoothing": gain}


def _gain(gain: Gain) -> dict[str, Any]:
    return {
        "better": gain.better,
        "summary": str(gain),
        "paid": list(gain.paid),
        "dtssd_ratio": gain.dtssd,
        "flicker_ratio": gain.flicker,
        "warped_ratio": gain.warped,
    }


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: a rounded -0.3 is 0, not -0


def rows(found: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return a clip's figures as a table shows them: title, then a text per column."""
    table = []
    for key, (words, factor, digits, _) in ROWS.items():
        values = [found[name][key] for name in (RAW, SMOOTHED)]
        cells = ["undefined" if v is None else _number(factor * v, digits) for v in values]
        table.append((words, cells))
    return table


def show(found: dict[str, Any], title: str) -> None:
    """Print the table of a clip, what is undefined on it, and what the figures come to."""
    from rich.console import Console
    from rich.table import Table

    print(f"{title}: {found['frames']} frames at {found['fps']:g} frames/s")
    table = Table()
    table.add_column("figure")
    columns = (RAW, SMOOTHED)
    for name in columns:
        table.add_column(name, justify="right")
    for words, cells in rows(found):
        table.add_row(words, *cells)
    Console().print(table)
    reasons: dict[str, list[str]] = {}
    for key, (words, _, _, reason) in ROWS.items():
        if None in [found[name][key] for name in columns]:
            reasons.setdefault(reason, []).append(words.split(",")[0])
    for reason, names in reasons.items():
        print(f"undefined on this clip: {', '.join(names)} ({reason})")
    for name in columns:
        doubts = found[name]["doubts"]
        verdict = (
            f"NOT to be judged by stillness: {'; '.join(doubts)}"
            if doubts
            else "neither empty, nor frozen, nor pale"
        )
        print(f"{name} masks: {verdict}")
    if not found[RAW]["doubts"]:
        print(f"smoothing against raw: {found['smoothing']['summary']}")


def say_of_delay(found: list[dict[str, Any]]) -> None:
    """Explain the delay of raw masks under the tables of clips, where one shows it."""
    if any(clip["raw"]["delay"] is not None for clip in found):
        print(ABOUT_DELAY)
