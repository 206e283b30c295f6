"""`edge-seg teach --data DIR --teachers FILE.json -o MASKS`: several networks' masks, averaged."""

from __future__ import annotations

import argparse
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from edge_seg.cli import arguments
from edge_seg.cli.figures import FIGURES
from edge_seg.cli.progress import steps_bar
from edge_seg.errors import DatasetError

if TYPE_CHECKING:
    from edge_seg.calibration.dataset import SceneRule
    from edge_seg.metrics import Quality
    from edge_seg.segmenter import EdgeSegmenter
    from edge_seg.training.teachers import Segment, Teacher


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "teach",
        help="write the averaged masks of several networks, for `train --teacher`",
        description="Average the masks of several networks, of every picture and its mirror "
        "image, and write them as PNGs for `edge-seg train --teacher`. The same command goes on "
        "after a stop.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the folder that will be trained on: masks of train.txt (or images/) and unlabeled/",
    )
    parser.add_argument(
        "--teachers",
        type=Path,
        required=True,
        metavar="FILE.json",
        help="networks, weights, and the contracts of bare model files",
    )
    parser.add_argument(
        "--models",
        type=Path,
        metavar="DIR",
        help="where the model files it names lie (default: beside it)",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="LIST", help="measure the mean and each teacher on these"
    )
    arguments.add_scenes(parser)
    parser.add_argument("-o", dest="out", type=Path, metavar="MASKS", help="folder to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Open every teacher; measure where asked to; write the masks."""
    from edge_seg.calibration.dataset import named_rule
    from edge_seg.training import teachers

    if (args.out is None) != (args.data is None) or (args.out is None and args.labels is None):
        raise DatasetError(
            "wanted --data and -o (to write masks), or --labels (to measure), found neither whole; "
            "say which pictures, and where the masks go"
        )
    scene = named_rule(args.scenes)
    listed = teachers.read_teachers(args.teachers)
    folder = args.models or args.teachers.parent
    with ExitStack() as stack:
        opened = [(stack.enter_context(_open(t, folder)), t.weight) for t in listed]
        voices: list[tuple[Segment, float]] = [(s.segment, weight) for s, weight in opened]
        if args.labels is not None:
            _measure(args.labels, listed, voices)
        if args.out is not None:
            _write(args, listed, voices, scene=scene)
    return 0


def _open(teacher: Teacher, folder: Path) -> EdgeSegmenter:
    """Open a teacher's most exact artifact, or its bare file."""
    from edge_seg.backends import open_backend, readers
    from edge_seg.bundle import ModelBundle
    from edge_seg.engine import Engine
    from edge_seg.segmenter import EdgeSegmenter, open_artifact

    if teacher.input is not None and teacher.output is not None:
        path = folder / teacher.model
        if not path.is_file():
            raise DatasetError(f"{path}: wanted a teacher's model file, found none; see --models")
        reader = readers(path.suffix.lower().lstrip("."))[0]
        backend = open_backend(reader, path, {"threads": 1})
        return EdgeSegmenter.on(Engine(teacher.input, teacher.output, backend=backend))
    bundle = ModelBundle.load(None if teacher.model == "default" else folder / teacher.model)
    exact = [a for a in bundle.artifacts if a.precision == "fp32"] or list(bundle.artifacts)
    return open_artifact(bundle, exact[0])


def _measure(labels: Path, listed: list[Teacher], voices: list[tuple[Segment, float]]) -> None:
    """Print the figures of every teacher (with its mirror image) and of their mean."""
    from edge_seg.calibration.dataset import pairs_of
    from edge_seg.training import teachers

    pairs = pairs_of(labels)
    names = [Path(teacher.model).name for teacher in listed]
    asked = [(name, [voice]) for name, voice in zip(names, voices, strict=True)]
    with steps_bar() as bar:
        rows = [
            (
                name,
                teachers.measure(
                    pairs,
                    lambda frame, some=some: teachers.average(frame, some),  # type: ignore[misc]
                    lambda done, name=name: bar(f"measuring {name}", done, len(pairs)),  # type: ignore[misc]
                ),
            )
            for name, some in [*asked, ("their mean", voices)]
        ]
    _print(rows, labels.name)


def _print(rows: list[tuple[str, Quality]], name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"teachers on {name} ({rows[0][1].n} pictures), percent")
    table.add_column("network")
    for title in FIGURES.values():
        table.add_column(title, justify="right")
    for title, quality in rows:
        figures = quality.to_dict()
        table.add_row(title, *(f"{100 * figures[key]:.2f}" for key in FIGURES))
    Console().print(table)


def _write(
    args: argparse.Namespace,
    listed: list[Teacher],
    voices: list[tuple[Segment, float]],
    *,
    scene: SceneRule,
) -> None:
    from edge_seg.training import teachers
    from edge_seg.training.collection import to_teach

    pictures = to_teach(args.data, scene=scene)
    with steps_bar() as bar:
        made = teachers.write_masks(
            pictures,
            lambda frame: teachers.average(frame, voices),
            args.out,
            record=[teacher.to_dict() for teacher in listed],
            progress=lambda done: bar("writing masks", done, len(pictures)),
        )
    print(f"wrote {made} masks to {args.out} ({len(pictures) - made} were there)")
    scenes = f"--scenes {shlex.quote(args.scenes)} " if args.scenes is not None else ""
    data, masks = shlex.quote(str(args.data)), shlex.quote(str(args.out))
    print(f"next: edge-seg train --data {data} {scenes}--teacher {masks} -o RUN")
