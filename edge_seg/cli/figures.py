"""The figures that every table of quality shows, in percent, and the table of times."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_seg.comparison import Comparison
    from edge_seg.segmenter import EdgeSegmenter

FIGURES = {"miou": "mIoU", "person_iou": "person IoU", "boundary_f": "boundary F", "sc": "SC"}
ALONE = "the network alone"  # as `convert` measures, and as a manifest holds it


def draws(segmenter: EdgeSegmenter) -> bool:
    """True where its masks follow the picture's contours: figures of the network alone differ."""
    import numpy as np

    from edge_seg.contours import is_coarse

    seen, answered = segmenter.backend.input.size, segmenter.backend.output.size
    return segmenter.edges and is_coarse(answered, np.empty((*seen, 3), np.uint8))


def say_collapse(name: str, figures: Mapping[str, Any]) -> None:
    """Say where masks are no better than chance; four low figures alone are easily passed over."""
    from edge_seg.metrics import collapse

    sentence = collapse(figures)
    if sentence:
        print(
            f"edge-seg: {name}: {sentence}; convert the float network again with --labels: "
            "`edge-seg convert` names the likely cause",
            file=sys.stderr,
        )


def with_what(drawn: bool) -> str:
    """Words for the title of a table."""
    return "with the picture's contours" if drawn else ALONE


def print_times(compared: Comparison) -> None:
    """Print bare calls side by side, and which precision they speak for on this machine."""
    from rich.console import Console
    from rich.table import Table

    if not compared.timings:
        return
    table = Table(title="bare calls side by side on this machine, median")
    table.add_column("runtime")
    table.add_column("ms", justify="right")
    judged = any("miou" in timing.artifact.quality for timing in compared.timings)
    if judged:
        table.add_column(f"mIoU when converted, {ALONE}", justify="right")
    for timing in compared.timings:
        quality = timing.artifact.quality.get("miou")
        cells = [f"{100 * quality:.2f}" if isinstance(quality, float) else "-"] if judged else []
        table.add_row(str(timing.runtime), f"{timing.milliseconds:.2f}", *cells)
    Console().print(table)
    print(f"measured on {compared.timings[0].machine}")
    for sentence in compared.refusals:
        print(f"not measured: {sentence}")
    for sentence in compared.advice:
        print(f"advice: {sentence}")
