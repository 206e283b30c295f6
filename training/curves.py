"""Curves of a run, as a small PNG and as TensorBoard's files."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from edge_seg.files import whole_file, writing

Row = dict[str, float]
# One axis each: a tenth of a point of mIoU matters, and SC moves by whole points.
PANELS: dict[str, dict[str, tuple[str, float]]] = {
    "loss": {"loss": ("loss", 1.0)},
    "on val, %": {"miou": ("mIoU", 100.0), "person_iou": ("person IoU", 100.0)},
    "contours on val, %": {"boundary_f": ("boundary F", 100.0), "sc": ("SC", 100.0)},
    "rooms with an alarm, %": {"room_alarms": ("alarms", 100.0)},
}


def draw(history: list[Row], path: Path) -> None:
    """Draw loss and figures over steps into a PNG, replaced whole. Raises OutputError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    steps = [row["step"] for row in history]
    for axes, (title, panel) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for name, (label, factor) in panel.items():
            values = [factor * row.get(name, float("nan")) for row in history]
            axes.plot(steps, values, marker=".", label=label)
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
        if len(panel) > 1:
            axes.legend()
    remedy = "free space, then run the same command again"
    with writing(path, "to draw the run's curves there", remedy), whole_file(path) as beside:
        figure.savefig(beside, format="png")


class Board:
    """Writes rows to TensorBoard; rows after `step` of an earlier try disappear, its own stays."""

    def __init__(self, folder: Path, *, step: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, row: Row) -> None:
        """Write every figure of a row at its step."""
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(row["step"]))

    def close(self) -> None:
        """Write what is still held back."""
        self._writer.close()
