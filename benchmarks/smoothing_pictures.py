"""What a smoother does, to look at: curves, clips side by side, and a slice through time."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib as mpl
import numpy as np
from clips import Camera

from edge_seg.arrays import Picture, Soft
from edge_seg.baselines import ExponentialAverage, FlowBlend, OneEuro
from edge_seg.bundle import ModelBundle
from edge_seg.recording import VideoFile
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.smoothing import Smoother, Steady

mpl.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

if TYPE_CHECKING:
    from smoothing import Filmed

COLOURS = {
    "steady": "tab:blue",
    "average": "tab:gray",
    "one-euro": "tab:orange",
    "uncertainty": "tab:green",
    "flow": "tab:red",
}
SHOWN: dict[str, Callable[[], Smoother] | None] = {
    "raw": None,
    "average 0.6": ExponentialAverage,
    "flow, as shipped": FlowBlend,
    "steady (default)": Steady,
}
GREEN = (90, 200, 60)
SLICE_FPS, SLICE_SECONDS = 15.0, 6.0


def draw_curves(summaries: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Stability against lag and against ghosting: a line per method, a point per knob.

    summaries: "METHOD FPS KNOB" -> the figures of `smoothing.summary`.
    """
    rates = sorted({int(name.split()[1]) for name in summaries}, reverse=True)
    columns = (("lag", "lag added, ms"), ("ghosting", "ghosting above raw, points"))
    figure, axes = plt.subplots(len(rates), 2, figsize=(11, 4.2 * len(rates)), squeeze=False)
    for line, fps in zip(axes, rates, strict=True):
        for panel, (key, title) in zip(line, columns, strict=True):
            for method, colour in COLOURS.items():
                points = {
                    name.split(" ", 2)[2]: found
                    for name, found in summaries.items()
                    if name.split(" ", 2)[:2] == [method, str(fps)]
                }
                x = [p[key] for p in points.values()]
                y = [p["flicker"] for p in points.values()]
                panel.plot(x, y, "o-", color=colour, label=method, markersize=4)
                for knob, left, up in zip(points, x, y, strict=True):
                    panel.annotate(
                        knob, (left, up), fontsize=6, xytext=(3, 3), textcoords="offset points"
                    )
            panel.set_xlabel(title)
            panel.set_ylabel("static flicker, times raw")
            panel.set_title(f"{fps} frames/s")
            panel.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_clip(filmed: Filmed, folder: Path, fps: int = 15) -> Path:
    """Write a WebM of the clip with the masks of `SHOWN` in green; return its path."""
    smoothers = {name: make() if make else None for name, make in SHOWN.items()}
    path = folder / f"{filmed.name.split('/')[-1].replace(',', '').replace(' ', '-')}.webm"
    with VideoFile(path, fps=fps) as video:
        for mask, picture, label, time in filmed.at(fps):
            size = (label.shape[1], label.shape[0])
            frame = cv2.cvtColor(cv2.resize(picture, size), cv2.COLOR_RGB2BGR)
            views = [
                _titled(_tinted(frame, filmed.smoothed(s, mask, picture, time)), name)
                for name, s in smoothers.items()
            ]
            video.write(np.vstack([np.hstack(views[:2]), np.hstack(views[2:])]))
    return path


def _tinted(frame: Picture, mask: Soft) -> Picture:
    alpha = cv2.resize(mask, frame.shape[1::-1])[..., None]
    tint = np.array(GREEN, np.float32)
    return np.asarray(frame * (1 - 0.6 * alpha) + tint * 0.6 * alpha, dtype=np.uint8)


def _titled(frame: Picture, title: str) -> Picture:
    cv2.putText(frame, title, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(
        frame, title, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA
    )
    return frame


# --- a slice through time of a picture that may be shown -----------------------------------------


def astronaut(time: float, rng: np.random.Generator) -> Picture:
    """scikit-image's astronaut (public domain, NASA) under lamps, leaning aside after 3 s."""
    from skimage import data

    picture = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)[:400]
    lean = 24 * float(np.clip(2 * (time - 3), 0, 1))
    move = np.array([[1, 0, lean], [0, 1, 0]], np.float64)
    moved = cv2.warpAffine(picture, move, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    return Camera(noise=6.0, mains=50).expose(moved.astype(np.float32), time, rng)


def draw_slice(path: Path, bundle: ModelBundle, row: float = 0.62) -> None:
    """Draw one row of the masks over time, for several smoothers; row: share of the height."""
    methods: dict[str, Smoother | None] = {
        "raw": None,
        "average 0.6": ExponentialAverage(),
        "one-euro": OneEuro(),
        "steady (default)": Steady(),
    }
    rows: dict[str, list[Soft]] = {name: [] for name in methods}
    shown: Picture | None = None
    for name, smoother in methods.items():
        with EdgeSegmenter.open(bundle, board="generic", smoother=smoother) as segmenter:
            rng = np.random.default_rng(0)
            for i in range(round(SLICE_FPS * SLICE_SECONDS)):
                frame = astronaut(i / SLICE_FPS, rng)
                shown = frame if shown is None else shown
                mask = segmenter.segment(frame, i / SLICE_FPS)
                rows[name].append(mask[int(row * mask.shape[0])])
    assert shown is not None
    _draw_rows(path, rows, shown, row)


def _draw_rows(path: Path, rows: Mapping[str, Sequence[Soft]], shown: Picture, row: float) -> None:
    figure, axes = plt.subplots(1, len(rows) + 1, figsize=(13, 3.6))
    axes[0].imshow(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB))
    axes[0].axhline(row * shown.shape[0], color="yellow", linewidth=1)
    axes[0].set_title("first frame", fontsize=9)
    axes[0].set_axis_off()
    for panel, (name, found) in zip(axes[1:], rows.items(), strict=True):
        change = np.abs(np.diff(np.array(found), axis=0))[: int(2.9 * SLICE_FPS)].mean()
        panel.imshow(
            np.array(found),
            aspect="auto",
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(0, shown.shape[1], SLICE_SECONDS, 0),
            interpolation="nearest",
        )
        panel.set_title(f"{name}\nchange at rest {100 * change:.2f} %", fontsize=9)
        panel.set_xlabel("column", fontsize=8)
    axes[1].set_ylabel("seconds", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> int:
    """Draw the slice."""
    parser = argparse.ArgumentParser(description=draw_slice.__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    draw_slice(parser.parse_args().output, ModelBundle.load())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
