"""`edge-seg convert MODEL.onnx --int8 --calibration SOURCE --labels LIST -o BUNDLE`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_seg.errors import ConversionError, DatasetError

if TYPE_CHECKING:
    from edge_seg.calibration.frames import CalibrationSet
    from edge_seg.converters.conversion import Row
    from edge_seg.converters.gate import Exam
    from edge_seg.spec import InputSpec, OutputSpec

TARGETS = ("tflite",)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "convert",
        help="turn a trained network into a measured int8 bundle",
        description="Turn a trained ONNX network into a bundle: float and int8 artifacts, measured "
        "against each other on labelled pictures. An int8 artifact that lost too much is refused "
        "(exit 3) and nothing is written.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL",
        help="a trained network, .onnx, or a bundle that keeps its float ONNX "
        "(default: the network that ships)",
    )
    parser.add_argument("--int8", action="store_true", help="quantise to int8 (integer in and out)")
    parser.add_argument("--to", default="tflite", help="targets, comma-separated: tflite")
    parser.add_argument(
        "--keep-onnx",
        action="store_true",
        help="put the float ONNX into the bundle too: for ONNX Runtime, and to convert again",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="SOURCE",
        help="frames for the quantiser: a list, a folder of pictures, a clip folder or a video",
    )
    parser.add_argument(
        "--frames", type=int, default=100, metavar="N", help="calibration frames (default 100)"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="LIST",
        help="labelled pictures to judge by (picture<space>label per line), or a clip folder; "
        "without it, agreement with the float network is judged",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="points of mIoU and of person IoU that int8 may lose (default 0.5)",
    )
    parser.add_argument(
        "--spec", type=Path, metavar="FILE.toml", help="input contract of a network we do not know"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="BUNDLE",
        help="folder to write (default: MODEL's name)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, show the table, write the bundle."""
    _check(args)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from edge_seg.converters.conversion import Job, convert

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as display:
        task = display.add_task("reading", total=None)

        def progress(message: str, done: int, total: int) -> None:
            display.update(task, description=message, completed=done, total=total or None)

        model, input_spec, output_spec = _network(args)
        exam = _exam(args.labels) if args.labels else None
        judged = _pictures(args.labels) if args.labels else frozenset()
        calibration = _calibration(args, input_spec, judged)
        job = Job(
            model,
            input_spec,
            output_spec,
            calibration,
            labelled=exam,
            max_drop=args.max_drop,
            keep_onnx=args.keep_onnx,
        )
        target = args.output or Path(args.model.stem if args.model else "portrait-int8")
        bundle = convert(job, target, progress=progress, table=_print)
    for sentence in calibration.skipped:
        print(f"skipped: {sentence}")
    print(f"wrote {bundle.path} ({', '.join(a.name for a in bundle.artifacts)})")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded."""
    unknown = [t for t in args.to.split(",") if t not in TARGETS]
    if unknown:
        raise ConversionError(
            f"wanted --to from {', '.join(TARGETS)}, found {', '.join(unknown)}; "
            "other targets are not in this version"
        )
    if not args.int8:
        raise ConversionError(
            "wanted --int8, found no precision; say `edge-seg convert MODEL.onnx --int8 ...` "
            "(the float artifact is kept beside it)"
        )
    if args.calibration is None:
        raise ConversionError(
            "wanted calibration frames, found none; name pictures like those the camera will see: "
            f"edge-seg convert {args.model or ''} --int8 --calibration FOLDER --labels LIST "
            "-o BUNDLE"
        )
    if not 0 <= args.max_drop <= 100:
        raise ConversionError(f"wanted --max-drop in 0..100 points, found {args.max_drop}")
    if not 8 <= args.frames <= 10_000:
        raise ConversionError(f"wanted --frames in 8..10000, found {args.frames}")


def _network(args: argparse.Namespace) -> tuple[Path, InputSpec, OutputSpec]:
    """Return the ONNX file and its contract: a file's, or a bundle's that keeps its ONNX."""
    from edge_seg.bundle import ModelBundle
    from edge_seg.converters import family, onnx
    from edge_seg.spec import load_spec

    if args.model is None or args.model.is_dir():
        bundle = ModelBundle.load(args.model)
        return bundle.file(bundle.find("onnx", "fp32")), bundle.input, bundle.output
    if args.spec is not None:
        return (args.model, *load_spec(args.spec))
    return (args.model, *family.known_spec(onnx.load(args.model)))


def _exam(labels: Path) -> Exam:
    from edge_seg.bundle import sha256_of
    from edge_seg.calibration.dataset import labelled_pairs
    from edge_seg.converters.gate import LABELS, Exam

    digest = sha256_of(labels) if labels.is_file() else ""
    return Exam(list(labelled_pairs(labels)), LABELS, labels.name, digest)


def _pictures(labels: Path) -> frozenset[Path]:
    from edge_seg.calibration.dataset import pairs_of

    return frozenset(pair.image.resolve() for pair in pairs_of(labels))


def _calibration(
    args: argparse.Namespace, spec: InputSpec, judged: frozenset[Path]
) -> CalibrationSet:
    from edge_seg.calibration.frames import gather

    try:
        return gather(args.calibration, spec, count=args.frames, judged=judged)
    except OSError as error:
        raise DatasetError(
            f"{args.calibration}: wanted calibration frames, found: {error}"
        ) from error


def _print(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    first = rows[0].figures
    what = "quality" if first["kind"] == "labels" else "agreement with the float network"
    table = Table(title=f"{what} on {first['on']} ({first['n']} pictures)")
    for column in ("artifact", "size", "mIoU", "person IoU", "boundary F", "SC", "verdict"):
        table.add_column(column, justify="left" if column in ("artifact", "verdict") else "right")
    if first["kind"] != "labels":
        table.columns[2].header = "agreement"
    for row in rows:
        figures = [
            f"{100 * row.figures[k]:.2f}" for k in ("miou", "person_iou", "boundary_f", "sc")
        ]
        verdict = "; ".join(row.reasons) or "passed"
        table.add_row(row.artifact, f"{row.size / 1024:.0f} KB", *figures, verdict)
    Console().print(table)
