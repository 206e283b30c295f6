"""`edge-seg eval --report FILE.html`: which pictures an artifact gets wrong, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import clips
from edge_seg.cli.figures import FIGURES, with_what
from edge_seg.cli.progress import frames_bar

if TYPE_CHECKING:
    from edge_seg.report import Shown
    from edge_seg.segmenter import EdgeSegmenter

WORST = 20  # pictures on a page


@dataclass(frozen=True)
class Result:
    """What `eval` measured of one artifact.

    row: its figures as JSON holds them. wrong: as `metrics.Quality.wrong`. opened: opens it again.
    """

    row: dict[str, Any]
    wrong: list[float | None]
    opened: Callable[[], EdgeSegmenter]


def write(path: Path, labels: Path, name: str, results: list[Result]) -> None:
    """Write the page of these results; runs each artifact once more on the worst pictures."""
    from edge_seg import report

    columns = [
        report.Column(
            result.row["artifact"],
            {title: f"{100 * result.row[key]:.2f} %" for key, title in FIGURES.items()},
            result.wrong,
        )
        for result in results
    ]
    tables = [
        report.Table(
            f"Over time: {result.row['artifact']}",
            ["", clips.RAW, clips.SMOOTHED],
            [[words, *cells] for words, cells in clips.rows(result.row["clip"])],
        )
        for result in results
        if "clip" in result.row
    ]
    first = results[0].row
    report.write_page(
        path,
        title=f"{name} on {labels.name}",
        about=f"{first['n']} pictures, {with_what(first['edges'])}",
        columns=columns,
        shown=_shown(labels, report.worst(columns, WORST), results),
        tables=tables,
    )


def _shown(labels: Path, numbers: list[int], results: list[Result]) -> list[Shown]:
    from edge_seg.calibration.dataset import load_pair, pairs_of
    from edge_seg.report import Shown, painted

    pairs = pairs_of(labels)
    shown = [Shown(pairs[number].image.name) for number in numbers]
    for order, result in enumerate(results):
        name = result.row["artifact"]
        with result.opened() as segmenter, frames_bar(f"{name}, the worst", len(numbers)) as step:
            for number, picture in zip(numbers, shown, strict=True):
                frame, label = load_pair(pairs[number])
                if order == 0:
                    picture.add("the picture", frame)
                mask = segmenter.segment(frame, size=label.shape)
                wrong = 100 * (result.wrong[number] or 0.0)
                picture.add(f"{name}: {wrong:.1f} % wrong", painted(frame, mask, label))
                step()
    return shown
