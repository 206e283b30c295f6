"""`edge-seg bench [BUNDLE] [--board NAME]`: speed per stage, memory, heat, and quality if asked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import arguments, clips
from edge_seg.cli.figures import FIGURES, draws, print_times, say_collapse, with_what
from edge_seg.cli.figures_file import add_json, json_file
from edge_seg.cli.progress import frames_bar

if TYPE_CHECKING:
    from edge_seg.bench import Report
    from edge_seg.bundle import ModelBundle


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed (and quality) with a board's runtimes on this machine",
        description="Measure a bundle with a board's runtimes and threads on this machine: "
        "opening, first call, steady times per stage, memory, temperature. On another machine "
        "than the board the report says that it is not a figure of that board.",
    )
    arguments.add_bundle(parser)
    arguments.add_board(parser)
    arguments.add_threads(parser)
    parser.add_argument(
        "--source", metavar="CLIP", help="frames to use (default: a generated 1280x720 sequence)"
    )
    parser.add_argument(
        "--calls", type=arguments.count, default=200, metavar="N", help="timed calls (default 200)"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="LIST",
        help="also measure quality on a labelled list, or stability too on a clip folder",
    )
    clips.add_fps(parser)
    arguments.add_smoothing(parser, "800, as run does for video")
    arguments.add_edges(parser)
    add_json(parser, "the report")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    with json_file(args.json) as write:
        write(_measured(args))
    return 0


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; return the figures."""
    from edge_seg.bench import measure
    from edge_seg.board import resolve
    from edge_seg.bundle import ModelBundle
    from edge_seg.comparison import compare

    bundle = ModelBundle.load(args.bundle)
    if args.labels:
        clips.check(args.labels, args.fps)
    frames = _frames(args.source) if args.source else None
    with frames_bar("measuring", args.calls) as advance:
        report = measure(
            bundle,
            board=args.board,
            threads=args.threads,
            frames=frames,
            calls=args.calls,
            smoother=arguments.smoother(args.smoothing),
            edges=args.edges == "on",
            progress=lambda done: advance(),
        )
    if args.labels:
        report.quality = _quality(args, bundle)
    runtimes = [r.with_threads(args.threads) for r in resolve(args.board).runtimes]
    compared = compare(bundle, runtimes)
    _print(report)
    print_times(compared)
    return {**report.to_dict(), "precisions": compared.to_dict()}


def _frames(name: str) -> tuple[str, list[Any]]:
    from itertools import islice

    from edge_seg.bench import MAX_FRAMES
    from edge_seg.camera import open_source

    with open_source(name) as source:
        return source.describe, [shot.frame for shot in islice(source, MAX_FRAMES)]


def _quality(args: argparse.Namespace, bundle: ModelBundle) -> dict[str, Any]:
    from edge_seg.calibration.dataset import labelled_pairs
    from edge_seg.evaluation import evaluate
    from edge_seg.segmenter import EdgeSegmenter

    def opened() -> EdgeSegmenter:
        edges = args.edges == "on"
        return EdgeSegmenter.open(bundle, board=args.board, threads=args.threads, edges=edges)

    with opened() as segmenter, frames_bar("judging", None) as advance:
        pairs = labelled_pairs(args.labels)
        quality = evaluate(segmenter, pairs, progress=lambda done: advance())
        drawn = draws(segmenter)
    found = {"on": args.labels.name, "edges": drawn, **quality.to_dict()}
    clip = clips.measure(args.labels, args.fps, opened)
    return found if clip is None else {**found, "clip": clip}


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    print(report.headline)
    sizes = ", ".join(f"{w}x{h}" for h, w in report.frame_sizes[:3])
    more = " and others" if len(report.frame_sizes) > 3 else ""
    print(f"{report.artifact} of {report.bundle} on {report.runtime}")
    print(f"frames: {report.source} ({sizes}{more}), {report.calls} calls after warm-up")
    if report.refused:
        print(f"not the board's first choice: {report.refused}")
    table = Table()
    for title in ("stage", "p50 ms", "p90 ms", "p99 ms"):
        table.add_column(title, justify="left" if title == "stage" else "right")
    rows = {**report.stages, "frame to mask": report.end_to_end}
    for stage, times in rows.items():
        if stage == "frame to mask":
            table.add_section()
        table.add_row(stage, *(f"{times[p]:.2f}" for p in ("p50", "p90", "p99")))
    Console().print(table)
    print(f"{report.end_to_end['fps']:.1f} frames/s from frame to mask")
    print(f"opened in {report.init_ms:.0f} ms, first call {report.first_ms:.1f} ms")
    print(f"peak memory of the process {report.peak_memory / 2**20:.0f} MiB")
    heat = report.temperature
    print(f"temperature in degrees Celsius: before {heat['before']}, after {heat['after']}")
    print(f"throttled: {report.throttled}")
    if report.quality:
        figures = ", ".join(f"{t} {100 * report.quality[k]:.2f}" for k, t in FIGURES.items())
        how = with_what(report.quality["edges"])
        on, n = report.quality["on"], report.quality["n"]
        print(f"quality on {on} ({n} pictures), {how}: {figures}")
        say_collapse(report.artifact, report.quality)
        if "clip" in report.quality:
            clips.show(report.quality["clip"], f"stability on {on}, {how}")
            clips.say_of_delay([report.quality["clip"]])
