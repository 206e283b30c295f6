"""`edge-seg boards`: the boards there are, and which one this is."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "boards",
        help="list the boards and their runtimes",
        description="List the boards, their aliases and their runtimes in order of preference.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one block per board."""
    from edge_seg.board import boards, detect

    here = detect()
    for board in boards():
        mark = "   (this machine)" if board.name == here.name else ""
        print(f"{board.name:<18} {board.title}{mark}")
        if board.aliases:
            print(f"  also called      {', '.join(board.aliases)}")
        for number, runtime in enumerate(board.runtimes, 1):
            optional = "   (where its library is installed)" if runtime.optional else ""
            print(f"  runtime {number}        {runtime}{optional}")
    return 0
