"""`edge-seg prepare [BUNDLE] [--board NAME] [--cache DIR]`: build ahead what opening would build.

Exit 0 if a runtime of the board is ready, 1 if something was built and could not be kept, 4 if no
runtime works here.
"""

from __future__ import annotations

import argparse
import os

from edge_seg.cli import CANNOT_RUN, DONE, UNFINISHED, arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "prepare",
        help="build engines and caches ahead, so that opening is quick",
        description="Build what the board's runtimes build at their first start (TensorRT's "
        "engine, OpenVINO's compiled network) and keep it. Made for images: run it on one board "
        "of the kind and copy the folder; afterwards it may be read-only. Works offline.",
    )
    arguments.add_bundle(parser)
    arguments.add_board(parser)
    arguments.add_cache(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare every runtime; a line for each."""
    from edge_seg.board import resolve
    from edge_seg.bundle import ModelBundle
    from edge_seg.cache import ENVIRONMENT, cache_folder
    from edge_seg.cli.progress import steps_bar
    from edge_seg.preparation import prepare

    bundle, board = ModelBundle.load(args.bundle), resolve(args.board)
    folder = cache_folder(args.cache)
    print(f"bundle {bundle.path}, board {board.name}, cache {folder}")
    with steps_bar() as progress:
        done = prepare(bundle, board, cache=folder, progress=progress)
    for number, prepared in enumerate(done, 1):
        print(f"  {number}. {prepared.runtime}: {prepared}")
    first = next((p for p in done if p.opens), None)
    if first is None:
        print(f"nothing can be prepared here; see `edge-seg doctor --board {args.board}`")
        return CANNOT_RUN
    if any(prepared.lost for prepared in done):
        print(
            f"not everything is kept: name a folder that can be written with --cache, not {folder}"
        )
        return UNFINISHED
    print(f"ready: {first.runtime} is what opening will choose.")
    if os.path.abspath(folder) != os.path.abspath(cache_folder()):
        print(f"where it runs, set {ENVIRONMENT}={os.path.abspath(folder)}")
    return DONE
