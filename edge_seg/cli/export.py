"""`edge-seg export RUN [RUN ...] -o MODEL.onnx`: the best network of a run, ready for `convert`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from edge_seg.cli import networks
from edge_seg.errors import DatasetError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "export",
        help="write the best network of a training run as ONNX",
        description="Write the best network of a run (or of a checkpoint file, or the one that "
        "ships) as ONNX, and its input contract beside it as TOML. Of several runs that began from "
        "the same weights, the mean of their weights.",
    )
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folder, or a checkpoint, or portrait, the network that ships",
    )
    parser.add_argument(
        "-o",
        dest="out",
        type=Path,
        required=True,
        metavar="FILE",
        help="MODEL.onnx to write, or WEIGHTS.safetensors: a checkpoint to train or convert from",
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
    from edge_seg.training.export import export, export_weights

    otherwise = "edge-seg export portrait --side {side} -o lite.onnx"
    weights = [networks.weights_of(run, otherwise=otherwise) for run in args.runs]
    if args.out.suffix.lower() == ".safetensors":
        if args.side is not None:
            raise DatasetError(
                f"wanted --side beside an .onnx file, found {args.out}: weights have no size; "
                "leave --side out"
            )
        export_weights(weights, args.out)
        print(f"{args.out}: the weights of {len(weights)} run{'s' * (len(weights) > 1)}")
        return 0
    spec = export(weights, args.out, side=args.side)
    print(f"{args.out}: takes what {spec} says")
    model, contract = shlex.quote(str(args.out)), shlex.quote(str(spec))
    print(f"next: edge-seg convert {model} --spec {contract} --int8 --calibration ... -o BUNDLE")
    return 0
