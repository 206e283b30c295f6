"""Curves of a run, as a small PNG and as TensorBoard's files."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from edge_seg.errors import OutputError
from edge_seg.files import whole_file

FIGURES = ("miou", "person_iou", "boundary_f", "sc")
Row = dict[str, float]


def draw(history: list[Row], path: Path) -> None:
    """Draw loss and figures over steps into a PNG, replaced whole. Raises OutputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [row["step"] for row in history]
    left.plot(steps, [row.get("loss", float("nan")) for row in history])
    left.set(xlabel="step", title="loss")
    for name in FIGURES:
        right.plot(steps, [100 * row.get(name, float("nan")) for row in history], label=name)
    right.set(xlabel="step", title="on val, percent")
    right.legend()
    right.grid(alpha=0.3)
    try:
        with whole_file(path) as beside:
            figure.savefig(beside, format="png")
    except OSError as error:
        raise OutputError(
            f"{path}: wanted to draw the run's curves there, found: {error.strerror or error}; "
            "free space, then run the same command again"
        ) from error


class Board:
    """Writes rows to TensorBoard; rows after `step` of an earlier try disappear."""

    def __init__(self, folder: Path, *, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step)

    def add(self, row: Row) -> None:
        """Write every figure of a row at its step."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()
