"""`edge-seg doctor [BUNDLE] [--board NAME] [--camera SOURCE] [--root DIR]`: what works, what lacks.

Exit 0 if one of the board's runtimes would open, 4 if none would, 2 where the camera asked for
gives no frame.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_seg.cli import CANNOT_RUN, DONE, WRONG_INPUT, arguments, pip
from edge_seg.errors import BundleError, CameraError

if TYPE_CHECKING:
    from edge_seg.bundle import ModelBundle


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what works here and what is missing, for any board",
        description="Try every runtime of a board, in order, and say what is missing and how to "
        "mend it. Exit 0 if one would open, 4 if none.",
    )
    arguments.add_bundle(parser)
    arguments.add_board(parser)
    parser.add_argument(
        "--camera", metavar="SOURCE", help="also watch this source: size, rate, colours"
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="examine a root file system copied from a board: its files; nothing is opened",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings."""
    from edge_seg._version import __version__
    from edge_seg.board import detect, load
    from edge_seg.cli.progress import steps_bar
    from edge_seg.doctor import diagnose

    root = _root(args.root)
    here = detect(root)
    board = here if args.board == "auto" else load(args.board)
    print(f"edge-seg {__version__} on {_machine(root)}")
    it = "this machine" if root == Path("/") else "the machine of these files"
    which = it if board == here else f"{it} is not one; it is {here.name!r}"
    print(f"board {board.name}: {board.title} ({which})")
    bundle = _bundle(args.bundle)
    with steps_bar() as progress:
        diagnosis = diagnose(board, bundle, root=root, progress=progress)
    for number, finding in enumerate(diagnosis.findings, 1):
        verdict = ("works  " if root == Path("/") else "likely ") if finding.opens else "missing"
        print(f"  {number}. {verdict}  {finding.runtime}: {finding.text}")
    print("the machine:")
    for condition in diagnosis.conditions:
        print(f"  {condition.state:<7}  {condition.subject}: {condition.text}")
        if condition.mend:
            print(f"           mend: {condition.mend}")
    advice = [condition.mend for condition in diagnosis.conditions]
    advice += [finding.text for finding in diagnosis.findings if not finding.opens]
    if root == Path("/") and pip() != "pip" and any("pip install" in text for text in advice):
        print(f"pip above is this environment's: {pip()}")
    first = diagnosis.first
    what = "would run on" if bundle is not None else "has the library for"
    what = what if root == Path("/") else "would probably run on"
    print(f"edge-seg {what} {first.runtime}." if first else "edge-seg cannot run here as it is.")
    seen = _look(args.camera) if args.camera else True
    if first is None:
        return CANNOT_RUN
    return DONE if seen else WRONG_INPUT


def _root(named: str | None) -> Path:
    root = Path(named or "/")
    if not root.is_dir():
        raise BundleError(f"{root}: wanted a root file system, found no folder; correct --root")
    return root.resolve()


def _machine(root: Path) -> str:
    from edge_seg import machine
    from edge_seg.installation import Installation

    if root == Path("/"):
        return machine.measured_on()
    if Installation.under(root).absent:
        return f"{root}, in which no system was found"
    return f"{machine.model(root)}, {machine.distribution(root)}, as its files in {root} tell"


def _bundle(name: str | None) -> ModelBundle | None:
    from edge_seg.bundle import ModelBundle

    try:
        bundle = ModelBundle.load(name)
    except BundleError as error:
        if name is not None:
            raise
        print(f"bundle: {error}; looking at the libraries only")
        return None
    print(f"bundle {bundle.path}: {', '.join(a.name for a in bundle.artifacts)}")
    return bundle


def _look(source: str) -> bool:
    """Print what the source gives; False where it gives no frame, or wrong colours."""
    from edge_seg.camera.checkup import check

    good = True
    try:
        for remark in check(source):
            print(f"camera: {remark.text}")
            good &= remark.good
    except CameraError as error:
        print(f"camera: {error}")
        return False
    return good
