"""What `run` says at its end: what it wrote, what that took, and what was left out."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from edge_seg.cli.outputs import Written

if TYPE_CHECKING:
    from edge_seg.camera import Source
    from edge_seg.recording import PictureFile, PictureFolder
    from edge_seg.segmenter import EdgeSegmenter


def counted(number: int, thing: str) -> str:
    """Return "1 frame", "2 frames"."""
    return f"{number} {thing}{'s' * (number != 1)}"


def left(out: Written) -> list[str]:
    """Return what a run that ends early leaves, in words."""
    said = []
    if out.video is not None and out.video.frames:
        said.append(f"{out.video.path} holds the {counted(out.video.frames, 'frame')} made so far")
    if out.pictures is not None and out.pictures.written:
        said.append(_pictures(out.pictures, " made so far"))
    if out.masks is not None and out.masks.written:
        said.append(
            f"{out.masks.folder} holds the {counted(out.masks.written, 'mask')} made so far"
        )
    return said


def kept(out: Written) -> str:
    """Return what a run that ends early leaves, in one sentence."""
    late = f"; {counted(out.late, 'mask')} came later than --deadline" if out.late else ""
    return (", ".join(left(out)) or _nothing(out)) + late


def _nothing(out: Written) -> str:
    place = getattr(out.video or out.pictures, "path", None)
    older = f" (the older {place} is as it was)" if place is not None and place.exists() else ""
    return f"nothing was written{older}"


def _pictures(written: PictureFolder | PictureFile, so_far: str = "") -> str:
    from edge_seg.recording import PictureFolder

    if isinstance(written, PictureFolder):
        return f"{written.folder} holds the {counted(written.written, 'picture')}{so_far}"
    return f"{written.path} is made"


def missed(source: Source | None) -> str:
    """Say what a source counted: pictures that cannot be read; a camera's frames that came and
    were not used, and its new starts.
    """
    if source is None:
        return ""
    if source.counters is None:
        return f"; {_unread(source)}" if source.unread else ""
    counters = source.counters
    said = ""
    if counters.dropped or counters.stale:
        dropped = counted(counters.dropped, "frame")
        said += f"; {dropped} gave way to newer ones, {counters.stale} came too old"
    if counters.reconnects:
        said += f"; opened again {counted(counters.reconnects, 'time')}"
    return said


def say_written(out: Written, seconds: float) -> None:
    """Print what was written, and how fast. seconds: from the first frame to the last."""
    if out.video is not None and out.video.size is not None:
        (width, height), video = out.video.size, out.video
        print(
            f"{video.path}: {counted(video.frames, 'frame')}, {width}x{height}, {video.fps:g} fps"
        )
    if out.pictures is not None:
        print(_pictures(out.pictures))
    if out.masks is not None:
        print(f"{out.masks.folder}: {counted(out.masks.written, 'mask')}")
    done = out.frames - out.late
    print(f"{done / max(seconds, 1e-9):.1f} frames/s with reading and writing")


def warn_of_nothing(args: argparse.Namespace, out: Written) -> None:
    """Say why a run that came to its end has written nothing."""
    print(
        f"edge-seg: {_nothing(out)}: every mask came after --deadline {1e3 * args.deadline:g} ms, "
        f"of {counted(out.frames, 'frame')}; give it more time",
        file=sys.stderr,
    )


def warn_of_unread(source: Source) -> None:
    """Say how many pictures were left out, each of which was named."""
    if source.unread:
        print(f"edge-seg: {_unread(source)}", file=sys.stderr)


def _unread(source: Source) -> str:
    left_out = f"{len(source.unread)} of {counted(source.count or 0, 'picture')}"
    return f"left out, because they cannot be read: {left_out}, each named with its reason"


def say_times(out: Written, segmenter: EdgeSegmenter) -> None:
    """Say what the masks took, on what, and what was left out."""
    latency = segmenter.latency
    if latency.count:
        milliseconds = 1e3 * latency.total / latency.count
        of = f"mean of {latency.count}{', late ones included' if out.late else ''}"
        print(f"{milliseconds:.1f} ms from a frame to its mask ({of}), on {segmenter.runtime}")
    if out.late:
        said = f"{counted(out.late, 'mask')} left out, which came later than --deadline"
        if 2 * out.late > out.frames:
            said += (
                f": more than half of the {out.frames}; what was written shows few of the frames: "
                "give --deadline more time"
            )
        print(f"edge-seg: {said}", file=sys.stderr)
    from edge_seg.cadence import Budget

    cadence = segmenter.cadence
    if cadence is not None and cadence.seen:
        said = (
            f"the network on {cadence.seen} of {counted(cadence.seen + cadence.left_out, 'frame')}"
        )
        if isinstance(cadence, Budget):
            done = "kept" if cadence.kept else "NOT kept"
            said += (
                f"; budget of {1e3 * cadence.seconds:g} ms {done}: {1e3 * cadence.mean:.1f} ms, "
                f"the mean of the last {cadence.mean_of} frames measured"
            )
        print(said)
    elif cadence is not None:
        print(
            "edge-seg: --every and --budget change nothing for unrelated pictures: the network ran "
            "on all of them",
            file=sys.stderr,
        )


def warn_of_pace(
    args: argparse.Namespace, source: Source | None, out: Written, seconds: float
) -> None:
    """A video has one rate for all frames; say so where it is not the one they came at."""
    from edge_seg.recording import MAX_FPS, MIN_FPS

    video = out.video
    if source is None or video is None or not video.frames or not source.moving:
        return
    if source.left_out:  # the video repeats frames for them
        return
    if source.live:
        pace = video.pace or video.frames / seconds
    else:
        pace = _pace(out, source.fps or video.fps)
    if abs(pace - video.fps) <= (0.1 if source.live else 0.02) * video.fps:
        return
    mend = f"; record with --fps {min(max(pace, MIN_FPS), MAX_FPS):.1f}"
    if args.fps is not None and not source.live:
        mend = "; leave --fps out"
    print(
        f"edge-seg: the {'camera' if source.live else 'source'} gave {pace:.1f} frames/s and the "
        f"video says {video.fps:g}: it plays at {video.fps / pace:.1f} times the speed{mend}",
        file=sys.stderr,
    )


def _pace(out: Written, stated: float) -> float:
    """Return the frames per second of a file, by its frames' times where they differ from `stated`.

    A container rounds its times to a millisecond, which in a short video is more than a rate's
    hundredths.
    """
    span, expected = out.until - out.began, (out.frames - 1) / stated
    if span <= 0 or abs(span - expected) <= 0.002:
        return stated
    return (out.frames - 1) / span
