"""Arguments that several verbs share, spelled once."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_seg.cadence import Cadence
    from edge_seg.supervision import Policy


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the positional BUNDLE; without it the network that ships is meant."""
    parser.add_argument(
        "bundle",
        nargs="?",
        metavar="BUNDLE",
        help="a folder made by `edge-seg convert`, or the name of a network that ships: portrait, "
        "portrait-lite (default: portrait)",
    )


def add_board(parser: argparse.ArgumentParser) -> None:
    """Add --board."""
    parser.add_argument(
        "--board",
        default="auto",
        metavar="NAME",
        help="a board's name or alias (see `edge-seg boards`), a board.toml, or auto (default)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add --threads."""
    parser.add_argument(
        "--threads", type=threads, metavar="N", help="CPU threads (default: the board's)"
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add --cache."""
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="folder of what `edge-seg prepare` builds (default: EDGE_SEG_CACHE, else "
        "~/.cache/edge-seg)",
    )


def add_policy(parser: argparse.ArgumentParser) -> None:
    """Add --deadline and --return-after."""
    parser.add_argument(
        "--deadline",
        type=deadline,
        metavar="MS",
        help="leave a frame out whose mask takes longer, 1 to 60000; after two in a row go on with "
        "the board's next runtime (default: wait for as long as it takes)",
    )
    parser.add_argument(
        "--return-after",
        type=return_after,
        metavar="S",
        help="after so many seconds try a runtime again that was given up (default: never)",
    )


def policy(args: argparse.Namespace) -> Policy:
    """What --deadline and --return-after ask for."""
    from edge_seg.supervision import Policy

    return Policy(deadline=args.deadline, return_after=args.return_after)


def add_scenes(parser: argparse.ArgumentParser) -> None:
    """Add --scenes, by which `teach` and `train` must split alike."""
    parser.add_argument(
        "--scenes",
        metavar="pp-humanseg14k|REGEX",
        help="what makes pictures one scene, where there is no val.txt; group 1 is its name",
    )


def add_smoothing(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --smoothing; default: what is done without it, for the help."""
    parser.add_argument(
        "--smoothing",
        type=half_life,
        metavar="MS|off",
        help="half-life in milliseconds of what stands still in the masks, 1 to 10000, or off "
        f"(default: {default})",
    )


def add_edges(parser: argparse.ArgumentParser) -> None:
    """Add --edges."""
    parser.add_argument(
        "--edges",
        choices=("on", "off"),
        default="on",
        help="bring the masks to the picture's contours where the network's output is coarser than "
        "its input (default: on); off enlarges them as they are",
    )


def add_cadence(parser: argparse.ArgumentParser) -> None:
    """Add --every and --budget."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--every",
        type=every,
        default=1,
        metavar="N",
        help="run the network on every N-th frame and carry its mask by motion between, 1 to 30 "
        "(default: 1, on all); see docs/cadence.md",
    )
    either.add_argument(
        "--budget",
        type=budget,
        metavar="MS",
        help="run the network as often as a frame takes this long in the mean, from the frame to "
        "its mask",
    )


def cadence(args: argparse.Namespace) -> Cadence | None:
    """What --every and --budget ask for; None where the network runs on all frames."""
    from edge_seg.cadence import Budget, Cadence

    if args.budget is not None:
        return Budget(args.budget)
    return Cadence(args.every) if args.every > 1 else None


def number(text: str, what: str, least: float, most: float) -> float:
    """Return a number within bounds; what: for the sentence where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"wanted {what}, found {text!r}")
    return value


def deadline(text: str) -> float:
    """Return seconds of 1 to 60000 milliseconds."""
    return number(text, "milliseconds from 1 to 60000", 1, 60000) / 1000


def budget(text: str) -> float:
    """Return seconds of milliseconds, more than 0 and at most 10000."""
    return number(text, "milliseconds, more than 0 and at most 10000", 1e-9, 10000) / 1000


def return_after(text: str) -> float:
    """Return a time in seconds, at least a millisecond and at most a week."""
    return number(text, "seconds from 0.001 to 604800 (a week)", 0.001, 604800)


def half_life(text: str) -> float:
    """Return seconds, 0 for "off", of a half-life in milliseconds from 1 to 10000."""
    if text == "off":
        return 0.0
    return number(text, "a half-life of 1 to 10000 milliseconds or off", 1, 10000) / 1000


def smoother(asked: float | None) -> Any:
    """Return what `EdgeSegmenter.open(smoother=...)` takes for --smoothing's value."""
    from edge_seg.smoothing import DEFAULT, Steady

    if asked is None:
        return DEFAULT
    return Steady(asked) if asked else None


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    return _whole(text, "a whole number of 1 or more", math.inf)


def threads(text: str) -> int:
    """Return a number of CPU threads, as many as a backend takes."""
    from edge_seg.backends import MAX_THREADS

    return _bounded(text, MAX_THREADS, "CPU threads")


def every(text: str) -> int:
    """Return a number of frames, as many as a mask is carried over."""
    from edge_seg.cadence import MOST_EVERY

    return _bounded(text, MOST_EVERY, "frames")


def _bounded(text: str, most: int, what: str) -> int:
    return _whole(text, f"a whole number of {what}, 1 to {most}", most)


def _whole(text: str, what: str, most: float) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 1 <= value <= most:
        raise argparse.ArgumentTypeError(f"wanted {what}, found {text!r:.40}; give one such")
    return value


def endpoint(text: str) -> tuple[str | None, int]:
    """Return (host or None, port) of "9102" or "0.0.0.0:9102"."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise argparse.ArgumentTypeError(
            f"wanted a port of 1 to 65535, or HOST:PORT, found {text!r}"
        )
    return host.strip("[]") or None, int(port)


def frame_rate(text: str) -> float:
    """Return frames per second, 0.1 to 240."""
    return number(text, "frames per second, 0.1 to 240", 0.1, 240)
