"""Accuracy against time: several networks in int8 TFLite beside MediaPipe's selfie segmenter.

    python benchmarks/tradeoff.py BUNDLE [BUNDLE ...] --labels LIST --mediapipe FILE --out DIR

Per bundle: the quality on the labelled pictures, of the network alone and with the picture's
contours (as the SDK runs it), its multiply-adds, and the bare call on one thread over MediaPipe's
in the same run. Writes tradeoff.json and tradeoff.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from budgets import library_call
from curves import macs
from peer import PEER, open_peer
from tables import show, told

from edge_seg import machine
from edge_seg.backends import Backend, open_backend
from edge_seg.bundle import ModelBundle
from edge_seg.calibration.dataset import labelled_pairs
from edge_seg.comparison import side_by_side
from edge_seg.evaluation import evaluate
from edge_seg.files import write_whole
from edge_seg.metrics import Quality
from edge_seg.segmenter import EdgeSegmenter, open_artifact

ARTIFACT = "tflite-int8"
FIGURES = ("miou", "person_iou", "boundary_f", "sc")
Row = dict[str, Any]


def named(bundles: list[ModelBundle]) -> dict[str, ModelBundle]:
    """The bundles by name; two of one name by their folders."""
    names = [bundle.name for bundle in bundles]
    return {b.name if names.count(b.name) == 1 else str(b.path): b for b in bundles}


def judged(segmenter: EdgeSegmenter, labels: Path) -> dict[str, float]:
    """The four figures, percent."""
    quality: Quality = evaluate(segmenter, labelled_pairs(labels))
    return {name: 100 * float(quality.to_dict()[name]) for name in FIGURES}


def ours(bundle: ModelBundle, labels: Path) -> Row:
    """What a bundle's int8 file answers, alone and with contours; its size."""
    with open_artifact(bundle, bundle.named(ARTIFACT)) as segmenter:
        alone = judged(segmenter, labels)
        segmenter.edges = True
        contours = judged(segmenter, labels)
    path = bundle.file(bundle.named(ARTIFACT))
    side = bundle.input.height
    return {"side": side, "mmacs": macs(path) / 1e6, "alone": alone, "contours": contours}


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--mediapipe", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    bundles = named([ModelBundle.load(path) for path in args.bundles])
    rows = {name: ours(bundles[name], args.labels) for name in told([*bundles], "judging")}
    with open_peer(args.mediapipe) as segmenter:
        rows[PEER] = {"side": 256, "alone": judged(segmenter, args.labels)}
    files = {name: bundle.file(bundle.named(ARTIFACT)) for name, bundle in bundles.items()}
    files[PEER] = args.mediapipe
    opened: dict[str, Backend] = {
        name: open_backend("tflite", path, {"threads": 1}) for name, path in files.items()
    }
    calls = {name: library_call(backend) for name, backend in opened.items()}
    times = side_by_side(calls, rounds=80)
    for name, row in rows.items():
        row |= {"ms": times[name], "over_mediapipe": times[name] / times[PEER]}
    print_table(rows)
    args.out.mkdir(parents=True, exist_ok=True)
    found = {"measured_on": machine.measured_on(), "labels": args.labels.name, "networks": rows}
    write_whole(args.out / "tradeoff.json", json.dumps(found, indent=1) + "\n")
    draw(rows, args.out / "tradeoff.png", found["measured_on"])


def print_table(rows: dict[str, Row]) -> None:
    """Print the table: figures alone, and with contours."""
    lines = []
    for name, row in rows.items():
        cells = [f"{row['alone'][n]:.2f}" for n in ("miou", "boundary_f", "sc")]
        shown = [f"{row['contours'][n]:.2f}" for n in FIGURES] if "contours" in row else []
        size = f"{row['mmacs']:.0f}" if "mmacs" in row else ""
        time = f"{row['over_mediapipe']:.2f}x"
        lines.append([name, str(row["side"]), size, time, *cells, ", ".join(shown)])
    columns = ("network", "side", "MMACs", "time", "mIoU", "boundary F", "SC", "with contours")
    show("int8, percent; bare call on one thread over MediaPipe's", columns, lines, width=140)


def draw(rows: dict[str, Row], path: Path, where: str) -> None:
    """Draw mIoU and boundary F over the time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axes, figure_name, title in zip(
        plots, ("miou", "boundary_f"), ("mIoU, %", "boundary F, %"), strict=True
    ):
        for way, mark in (("alone", "o"), ("contours", "^")):
            listed = [(name, row) for name, row in rows.items() if way in row and name != PEER]
            at = [row["over_mediapipe"] for _, row in listed]
            values = [row[way][figure_name] for _, row in listed]
            label = {"alone": "the network alone", "contours": "with the picture's contours"}[way]
            axes.plot(at, values, mark, label=label)
            if way == "alone":
                for (name, _), x, y in zip(listed, at, values, strict=True):
                    axes.annotate(name, (x, y), (4, -12), textcoords="offset points", fontsize=8)
        axes.plot(1.0, rows[PEER]["alone"][figure_name], "ks", label=PEER)
        axes.set(title=title, xlabel="bare call over MediaPipe's, one thread")
        axes.grid(alpha=0.3)
    plots[0].legend(loc="lower right")
    figure.suptitle(f"int8, LiteRT, {where}", fontsize=9)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
