"""`edge-seg convert MODEL --int8 --to TARGETS --calibration SOURCE --labels LIST -o BUNDLE`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edge_seg.cli import arguments, networks
from edge_seg.cli.figures import ALONE, FIGURES, print_times
from edge_seg.cli.networks import NamedNetwork
from edge_seg.cli.progress import steps_bar
from edge_seg.errors import ConversionError, OutputError

if TYPE_CHECKING:
    from edge_seg.backends import Progress
    from edge_seg.board import Board
    from edge_seg.bundle import ModelBundle
    from edge_seg.calibration.dataset import Pair, SceneRule
    from edge_seg.calibration.frames import CalibrationSet
    from edge_seg.converters.conversion import Job, Row
    from edge_seg.converters.targets import Network

TARGETS = ("tflite", "openvino", "onnx")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "convert",
        help="turn a trained network into a measured int8 bundle",
        description="Turn a trained network into a bundle: float and int8 artifacts for every "
        "target, measured against each other on labelled pictures. A target whose int8 lost too "
        "much is refused and left out (exit 3); where none passes, nothing is written.",
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=Path,
        metavar="MODEL",
        help="a trained network: .onnx; a folder of `edge-seg train`, or a checkpoint of one; a "
        "PaddlePaddle inference model (its folder, .pdmodel or .json); a bundle that keeps its "
        "float ONNX, or the name of one that ships (default: portrait)",
    )
    parser.add_argument("--int8", action="store_true", help="quantise to int8 (integer in and out)")
    parser.add_argument(
        "--to",
        type=_targets,
        default=("tflite",),
        metavar="TARGETS",
        help="comma-separated: tflite (Raspberry Pi), openvino (Intel NPU, GPU, CPU), onnx "
        "(Jetson's TensorRT, ONNX Runtime), or all (default: tflite)",
    )
    parser.add_argument(
        "--keep-onnx",
        action="store_true",
        help="put the float ONNX into the bundle too, to convert again (--to onnx does so as well)",
    )
    _add_pictures(parser)
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="points that int8 may lose: of mIoU and of person IoU with --labels (default 0.5), "
        "of agreement with float without (default 5)",
    )
    parser.add_argument(
        "--spec", type=Path, metavar="FILE.toml", help="input contract of a network we do not know"
    )
    where = "folder to write (default: MODEL's name; portrait-int8 for portrait)"
    parser.add_argument("-o", "--output", type=Path, metavar="BUNDLE", help=where)
    parser.set_defaults(run=run)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    """Add what the quantiser sees, and what it is judged on."""
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="SOURCE",
        help="frames for the quantiser: a list, a folder of pictures, a clip folder or a video",
    )
    parser.add_argument(
        "--frames",
        type=arguments.count,
        default=100,
        metavar="N",
        help="calibration frames (default 100)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="which frame the choice begins with (default 0); the same seed, the same choice",
    )
    parser.add_argument(
        "--scenes",
        metavar="pp-humanseg14k|REGEX",
        help="what makes pictures one scene (group 1 is its name); else every picture is its own, "
        "and a clip or video is one. No scene is both calibrated and judged on",
    )
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="FILE",
        help="draw the calibration pictures, as the network sees them, on one page (.png, .jpg)",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="LIST",
        help="labelled pictures to judge by (picture<space>label per line), or a clip folder; "
        "without it, agreement with the float network is judged",
    )


def run(args: argparse.Namespace) -> int:
    """Convert, show the table, write the bundle; exit 3 where a target was refused."""
    from edge_seg.cli import DONE, REFUSED

    _check(args)
    from edge_seg.board import detect
    from edge_seg.calibration.manifest import describe, summary
    from edge_seg.converters.conversion import convert

    with steps_bar() as progress, tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
        named = networks.read(args.model, args.spec, Path(folder), progress)
        job = _job(args, named, progress)
        made = convert(job, _target(args), progress=progress, table=_print)
    print(f"contract: {job.network.input}")
    print(f"calibration: {summary(describe(job.calibration))}")
    for sentence in job.calibration.notes:
        print(f"note: {sentence}")
    for sentence in job.calibration.skipped:
        print(f"skipped: {sentence}")
    print_times(made.compared)
    bundle = made.bundle
    print(f"wrote {bundle.path} ({', '.join(a.name for a in bundle.artifacts)})")
    if made.refused:
        print(
            f"edge-seg: refused: {', '.join(made.refused)}; the bundle holds the targets that "
            "passed",
            file=sys.stderr,
        )
        return REFUSED
    missed = first_choice(bundle, detect())
    if missed:
        print(f"advice: {missed}")
    return DONE


def first_choice(bundle: ModelBundle, board: Board) -> str:
    """Say where a board would first run a format that the bundle lacks; "" where it has it."""
    from edge_seg.backends import entry

    formats = list(dict.fromkeys(artifact.format for artifact in bundle.artifacts))
    first = board.runtimes[0]
    wanted = entry(first.backend).format
    if wanted not in TARGETS or wanted in formats:
        return ""
    return (
        f"this machine is of the kind {board.name} ({board.title}), which runs {first} first; "
        f"`--to {','.join([*formats, wanted])}` makes it"
    )


def _targets(text: str) -> tuple[str, ...]:
    """Read --to; argparse words the error."""
    asked = tuple(dict.fromkeys(t.strip() for t in text.split(",") if t.strip()))
    if asked == ("all",):
        return TARGETS
    unknown = [t for t in asked if t not in TARGETS]
    if unknown or not asked:
        found = ", ".join(unknown) or "none"
        raise argparse.ArgumentTypeError(
            f"wanted targets from {', '.join(TARGETS)}, or all, found {found}"
        )
    return asked


def _target(args: argparse.Namespace) -> Path:
    if args.output is not None:
        return Path(args.output)
    from edge_seg.bundle import locate

    if args.model is None or locate(args.model) != args.model:  # one that ships, by its name
        return Path(f"{args.model or 'portrait'}-int8")
    return Path(args.model.stem)


def _job(args: argparse.Namespace, named: NamedNetwork, progress: Progress) -> Job:
    """Read everything the user named; what is wrong is said before minutes are spent."""
    from edge_seg.calibration.dataset import clip_scene, named_rule, pairs_of, where_it_fits
    from edge_seg.converters.conversion import Job
    from edge_seg.converters.gate import exam_from_labels

    scene = named_rule(args.scenes) if args.scenes else clip_scene
    exam = None
    judged: list[Pair] = []
    if args.labels:
        what = "reading labelled pictures"
        exam = exam_from_labels(args.labels, progress=lambda done: progress(what, done, 0))
        judged = pairs_of(args.labels, scene=where_it_fits(scene))
    calibration = _calibration(args, named.network, judged, scene, progress)
    return Job(
        named.network,
        calibration,
        targets=args.to,
        labelled=exam,
        max_drop=args.max_drop,
        keep_onnx=args.keep_onnx,
        name=named.name,
        origin=named.origin,
    )


def _calibration(
    args: argparse.Namespace,
    network: Network,
    judged: list[Pair],
    scene: SceneRule,
    progress: Progress,
) -> CalibrationSet:
    """Pick the frames the quantiser sees, and draw them where that was asked for."""
    from edge_seg.calibration import contact_sheet
    from edge_seg.calibration.frames import HELD_BACK, gather

    found = gather(
        args.calibration,
        network.input,
        count=args.frames,
        seed=args.seed,
        hold_back=0 if judged else HELD_BACK,
        judged=judged,
        scene=scene,
        progress=lambda done, total: progress("looking at calibration frames", done, total),
    )
    if args.contact_sheet is not None:
        contact_sheet.save(args.contact_sheet, found, network.input)
    return found


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded."""
    if not args.int8:
        raise ConversionError(
            "wanted --int8, found no precision; say `edge-seg convert MODEL.onnx --int8 ...` "
            "(the float artifact is kept beside it)"
        )
    if args.calibration is None:
        raise ConversionError(
            "wanted calibration frames, found none; name pictures like those the camera will see: "
            f"edge-seg convert {args.model or 'MODEL.onnx'} --int8 --calibration FOLDER "
            "--labels LIST -o BUNDLE"
        )
    if args.seed < 0:
        raise ConversionError(f"wanted --seed of 0 or more, found {args.seed}")
    if args.max_drop is not None and not 0 <= args.max_drop <= 100:
        raise ConversionError(f"wanted --max-drop in 0..100 points, found {args.max_drop}")
    _check_target(args)


def _check_target(args: argparse.Namespace) -> None:
    """Refuse a place that is taken before the network is converted, not after."""
    from edge_seg.calibration import contact_sheet
    from edge_seg.staging import check_target

    target = _target(args)
    try:
        check_target(target)
        if args.contact_sheet is not None:
            contact_sheet.check_name(args.contact_sheet)
    except OutputError as error:  # nothing was begun: the user's words are wrong
        raise ConversionError(str(error)) from error
    same = args.model is not None and args.model.is_dir() and target.exists()
    if same and not args.keep_onnx and target.samefile(args.model):
        raise ConversionError(
            f"wanted another place than MODEL for the new bundle, found {target} for both: its "
            "float ONNX would be lost; name another folder with -o, or add --keep-onnx"
        )


def _print(rows: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    first = rows[0].figures
    labelled = first["kind"] == "labels"
    what = "quality" if labelled else "agreement with the float network"
    table = Table(title=f"{what} on {first['on']} ({first['n']} pictures), {ALONE}, percent")
    table.add_column("artifact")
    for title in ("kB", *FIGURES.values()):
        table.add_column(title if labelled or title != "mIoU" else "agreement", justify="right")
    table.add_column("verdict")
    for row in rows:
        figures = [f"{100 * row.figures[k]:.2f}" if row.figures else "-" for k in FIGURES]
        size = f"{row.size / 1000:.0f}" if row.size else "-"
        table.add_row(row.artifact, size, *figures, "refused" if row.reasons else "passed")
    Console().print(table)
    for row in rows:
        for reason in row.reasons:
            print(f"{row.artifact}: {reason}")
