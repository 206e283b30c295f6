"""The network on every n-th frame: its mask carried by motion, held, or made anew every frame.

    python benchmarks/cadence.py [BUNDLE] [--data ../shared/data] [--artifact NAME] [--quick]

Means over the clips of `report` (people are drawn without data), as `run` does it: smoothing and
edges on (--smoothing off). Holding the last mask is what a lower frame rate of the network means
for whoever shows every frame. Then the cost of a frame from 1280x720.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import clips
import cv2
import numpy as np
from numpy.typing import NDArray
from tables import show, told

from edge_seg.bundle import ModelBundle
from edge_seg.cadence import Cadence
from edge_seg.comparison import ROUNDS, side_by_side
from edge_seg.evaluation import evaluate_clip
from edge_seg.segmenter import EdgeSegmenter, open_artifact
from edge_seg.smoothing import Steady
from edge_seg.stability.figures import Figures

RATES = (30.0, 15.0, 10.0)
EVERY = (2, 3)


class Held(Cadence):
    """The last mask, where it was."""

    def carry(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the kept mask."""
        assert self._mask is not None
        self._carried += 1
        return self._mask.copy()


def ways() -> Iterator[tuple[str, Cadence | None]]:
    """The rows: name and cadence."""
    yield "every frame", None
    for every in EVERY:
        yield f"every {every}, held", Held(every)
        yield f"every {every}, carried", Cadence(every)


def opened(
    bundle: ModelBundle, args: argparse.Namespace, cadence: Cadence | None = None
) -> EdgeSegmenter:
    """Open an artifact as `run` would."""
    segmenter = open_artifact(bundle, bundle.named(args.artifact))
    segmenter.edges, segmenter.cadence = True, cadence
    segmenter.smoother = Steady() if args.smoothing == "on" else None
    return segmenter


def quality(bundle: ModelBundle, args: argparse.Namespace) -> None:
    """Print a table per frame rate."""
    made = clips.clips(args.data, "report")
    made = made[:: 4 if args.quick else 1]
    rendered = [list(clip.render()) for clip in told(made, "rendering clips")]
    for fps in RATES:
        found: dict[str, list[Figures]] = {}
        for shots in told(rendered, f"clips at {fps:g} frames/s"):
            segmenters = {name: opened(bundle, args, c) for name, c in ways()}
            for name, figures in evaluate_clip(segmenters, clips.sampled(shots, fps)).items():
                found.setdefault(name, []).append(figures)
        first = found["every frame"]
        rows = [[name, *_cells(figures, first)] for name, figures in found.items()]
        columns = ("mIoU %", "worst clip", "boundary F %", "MAE %", "ghosting %", "lag ms")
        show(f"{len(first)} clips at {fps:g} frames/s, means", ("network", *columns), rows)


def _cells(figures: list[Figures], first: list[Figures]) -> list[str]:
    def mean(name: str) -> float:
        values = [getattr(f, name) for f in figures]
        return float(np.mean([v for v in values if v is not None]))

    worst = min(100 * (a.miou - b.miou) for a, b in zip(figures, first, strict=True))
    miou, boundary = 100 * mean("miou"), 100 * mean("boundary_f")
    others = (f"{mean(name):.{digits}f}" for name, digits in (("mae", 2), ("ghosting", 1)))
    return [f"{miou:.2f}", f"{worst:+.1f}", f"{boundary:.2f}", *others, f"{mean('lag'):.0f}"]


def cost(bundle: ModelBundle, args: argparse.Namespace) -> None:
    """Print what a frame costs on average, and a carried one alone."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (45, 80, 3), dtype=np.uint8)
    frame = cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC)
    with opened(bundle, args) as full, opened(bundle, args) as skips:
        times = (number / 30 for number in count())
        skips.cadence = Cadence(30)
        skips.segment(frame, 0.0, dtype="uint8")

        def carried() -> None:
            assert skips.cadence is not None
            skips.cadence._carried = 0  # noqa: SLF001 - never its turn while it is timed
            skips.segment(frame, 0.0, dtype="uint8")

        found = side_by_side(
            {
                "inferred": lambda: full.segment(frame, next(times), dtype="uint8"),
                "carried": carried,
            },
            rounds=8 if args.quick else ROUNDS,
        )
    whole, light = found["inferred"], found["carried"]
    rows = [["every frame", f"{whole:.2f}", "1.00x"], ["a carried frame", f"{light:.2f}", ""]]
    for every in EVERY:
        mean = (whole + (every - 1) * light) / every
        rows.append([f"every {every}, carried, mean", f"{mean:.2f}", f"{mean / whole:.2f}x"])
    show("1280x720 to mask, one thread, medians", ("network", "ms", "of every frame"), rows)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--smoothing", choices=("on", "off"), default="on")
    parser.add_argument("--quick", action="store_true", help="a quarter of the clips")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = ModelBundle.load(args.bundle)
    cost(bundle, args)
    quality(bundle, args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
