"""`edge-seg eval [BUNDLE|MODEL.onnx] --labels LIST`: measure artifacts on labelled pictures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import arguments, clips, mistakes
from edge_seg.cli.figures import FIGURES, draws, say_collapse, with_what
from edge_seg.cli.figures_file import add_json, json_file
from edge_seg.cli.mistakes import Result
from edge_seg.cli.progress import frames_bar
from edge_seg.errors import BackendUnavailable, ConversionError

if TYPE_CHECKING:
    from edge_seg.bundle import Artifact, ModelBundle
    from edge_seg.segmenter import EdgeSegmenter


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "eval",
        help="measure a bundle's artifacts, or an ONNX network, on labelled pictures",
        description="Measure quality on labelled pictures: mIoU, person IoU, boundary F, SC. On a "
        "clip folder (frames/ and masks/) also how still, how right and how late the masks are, "
        "without and with smoothing.",
    )
    parser.add_argument(
        "model", nargs="?", metavar="BUNDLE|MODEL.onnx", help="default: the network that ships"
    )
    parser.add_argument(
        "--labels", type=Path, required=True, metavar="LIST", help="labelled list or clip folder"
    )
    parser.add_argument(
        "--artifact",
        metavar="NAME",
        help="<format>-<precision>, or all (default: the one this machine would run)",
    )
    parser.add_argument("--spec", type=Path, metavar="FILE.toml", help="input contract of an ONNX")
    parser.add_argument(
        "--threads", type=arguments.threads, default=1, metavar="N", help="CPU threads"
    )
    arguments.add_edges(parser)
    clips.add_fps(parser)
    add_json(parser, "the rows")
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write a page for the browser: the figures, and the pictures with the most wrong "
        "pixels, painted by what is wrong",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    with json_file(args.json) as write:
        write(_measured(args))
    return 0


def _measured(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure, print and write the report; return the rows."""
    from edge_seg.calibration.dataset import labelled_pairs, pairs_of
    from edge_seg.calibration.manifest import seen_among
    from edge_seg.files import check_place

    if args.report is not None:
        check_place(args.report)
    labelled_pairs(args.labels)  # a wrong list is said before anything is opened
    clips.check(args.labels, args.fps)
    with tempfile.TemporaryDirectory() as scratch:
        if args.model is not None and args.model.endswith(".onnx"):
            bundle = _wrap(Path(args.model), args.spec, Path(scratch))
        else:
            bundle = _load(args)
        chosen = _chosen(bundle, args.artifact)
        for artifact in chosen:
            bundle.file(artifact)  # a damaged one is said before the others are measured
        results = _results(bundle, chosen, args)
        if args.report:
            mistakes.write(args.report, args.labels, bundle.name, results)
        seen = seen_among(bundle.path, pairs_of(args.labels))
    rows = [result.row for result in results]
    _print(rows, args.labels.name)
    if args.report:
        print(f"wrote {args.report}")
    if seen:
        print(
            f"edge-seg: {len(seen)} of these pictures were seen by calibration, first: {seen[0]}; "
            "the figures flatter: measure on others",
            file=sys.stderr,
        )
    return rows


def _load(args: argparse.Namespace) -> ModelBundle:
    from edge_seg.bundle import ModelBundle

    if args.spec is not None:
        raise ConversionError(
            "wanted --spec beside an .onnx file, found a bundle, which has its own contract; "
            "leave --spec out"
        )
    return ModelBundle.load(args.model)


def _chosen(bundle: ModelBundle, name: str | None) -> list[Artifact]:
    if name == "all":
        return list(bundle.artifacts)
    if name is not None:
        return [bundle.named(name)]
    if len(bundle.artifacts) == 1:
        return list(bundle.artifacts)
    from edge_seg.segmenter import EdgeSegmenter

    with EdgeSegmenter.open(bundle) as segmenter:
        assert segmenter.artifact is not None
        return [segmenter.artifact]


def _results(bundle: ModelBundle, chosen: list[Artifact], args: argparse.Namespace) -> list[Result]:
    """Measure the artifacts; of several, one whose library is not here is said and left out."""
    results, refusals = [], []
    for artifact in chosen:
        try:
            results.append(_result(bundle, artifact, args))
        except BackendUnavailable as refusal:
            if len(chosen) == 1:
                raise
            refusals.append(f"{artifact.name}: {refusal}")
    if not results:
        listed = "\n".join(f"  - {refusal}" for refusal in refusals)
        raise BackendUnavailable(f"wanted an artifact that opens here, found none:\n{listed}")
    for sentence in refusals:
        print(f"edge-seg: not measured: {sentence}", file=sys.stderr)
    return results


def _result(bundle: ModelBundle, artifact: Artifact, args: argparse.Namespace) -> Result:
    from edge_seg.calibration.dataset import labelled_pairs
    from edge_seg.evaluation import evaluate
    from edge_seg.segmenter import open_artifact

    def opened() -> EdgeSegmenter:
        segmenter = open_artifact(bundle, artifact, threads=args.threads)
        segmenter.edges = args.edges == "on"
        return segmenter

    with opened() as segmenter, frames_bar(artifact.name, None) as advance:
        # Read anew for every artifact: a set may be larger than memory.
        quality = evaluate(segmenter, labelled_pairs(args.labels), progress=lambda done: advance())
        row: dict[str, Any] = {
            "artifact": artifact.name,
            "edges": draws(segmenter),
            **quality.to_dict(),
        }
    clip = clips.measure(args.labels, args.fps, opened)
    if clip is not None:
        row["clip"] = clip
    return Result(row, quality.wrong, opened)


def _wrap(model: Path, spec: Path | None, folder: Path) -> ModelBundle:
    """Put an ONNX file into a bundle of its own, reduced to one logit, so that it can be run."""
    from edge_seg.bundle import ModelBundle, describe
    from edge_seg.converters.family import reduced
    from edge_seg.spec import OutputSpec

    input_spec, _, graph = reduced(model, spec)
    path = folder / "model-fp32.onnx"
    path.write_bytes(graph.SerializeToString())
    artifact = describe(path, format="onnx", precision="fp32")
    return ModelBundle(folder, model.stem, input_spec, OutputSpec("logit", 0), (artifact,))


def _print(rows: list[dict[str, Any]], name: str) -> None:
    from rich.console import Console
    from rich.table import Table

    how = with_what(rows[0]["edges"])
    table = Table(title=f"quality on {name} ({rows[0]['n']} pictures), {how}, percent")
    table.add_column("artifact")
    for title in FIGURES.values():
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(row["artifact"], *(f"{100 * row[key]:.2f}" for key in FIGURES))
    Console().print(table)
    for row in rows:
        say_collapse(row["artifact"], row)
    for row in rows:
        if "clip" in row:
            clips.show(row["clip"], f"stability of {row['artifact']} on {name}, {how}")
    clips.say_of_delay([row["clip"] for row in rows if "clip" in row])
