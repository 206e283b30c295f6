"""`edge-seg export RUN -o MODEL.onnx`: the best network of a run, ready for `convert`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from edge_seg.cli import networks


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "export",
        help="write the best network of a training run as ONNX",
        description="Write the best network of a run (or of a checkpoint file, or the one that "
        "ships) as ONNX, and its input contract beside it as TOML.",
    )
    parser.add_argument(
        "run_folder",
        type=Path,
        metavar="RUN",
        help="run folder, or a checkpoint, or portrait, the network that ships",
    )
    parser.add_argument(
        "-o", dest="out", type=Path, required=True, metavar="MODEL.onnx", help="file to write"
    )
    parser.add_argument(
        "--side",
        type=int,
        metavar="PX",
        help="input side, a multiple of 32 (default: the one it was trained for); a smaller one is "
        "faster and sees less",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and say what comes next."""
    from edge_seg.training.export import export

    otherwise = "edge-seg export portrait --side {side} -o lite.onnx"
    weights = networks.weights_of(args.run_folder, otherwise=otherwise)
    spec = export(weights, args.out, side=args.side)
    print(f"{args.out}: takes what {spec} says")
    model, contract = shlex.quote(str(args.out)), shlex.quote(str(spec))
    print(f"next: edge-seg convert {model} --spec {contract} --int8 --calibration ... -o BUNDLE")
    return 0
