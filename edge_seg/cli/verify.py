"""`edge-seg verify BUNDLE`: is every artifact the one that was measured?"""

from __future__ import annotations

import argparse
import sys

from edge_seg.cli import DONE, WRONG_INPUT, arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "verify",
        help="check a bundle's files against its manifest",
        description="Check the size and sha256 of every artifact. Exit 0 if all are as measured, "
        "2 if one is not.",
    )
    arguments.add_bundle(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line per artifact that is well, one sentence per problem."""
    from edge_seg.bundle import ModelBundle

    bundle = ModelBundle.load(args.bundle)
    problems = bundle.verify()
    for problem in problems:
        print(f"edge-seg: {problem}", file=sys.stderr)
    if problems:
        print(f"{bundle.path}: {len(problems)} of {len(bundle.artifacts)} artifacts are wrong")
        return WRONG_INPUT
    names = ", ".join(a.name for a in bundle.artifacts)
    print(f"{bundle.path}: all {len(bundle.artifacts)} artifacts are as measured ({names})")
    return DONE
