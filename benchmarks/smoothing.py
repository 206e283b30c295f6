"""Every smoother on clips with truth: how still, how right, how late, at what cost.

    python benchmarks/smoothing.py --data ../shared/data -o out/smoothing

The clips are those of `clips.py` (rendered at 30 frames/s, sampled at 30, 15, 10 and 5); masks come
from one artifact of a bundle, once, and every method gets the same. Written into the folder:
smoothing.json (all figures of all clips), curves.png (stability against lag, each method over its
knob), and clips side by side. Ratios are to the raw masks of the same clip, geometric means. A
second table holds the masks' own figures, with the motion between frames by optical flow.

Two rows are bounds, not methods: "truth at rest" puts the truth wherever it has rested for 200 ms
and leaves the rest raw; "ideal mask" is the truth at the network's output size, enlarged like any
mask: what a network without error would give.

Masks are judged as they run: brought to the picture's contours where they are coarser than it
(--edges off: enlarged as they are).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from clips import PARTS, Clip, clips
from rich.progress import Progress
from smoothing_cost import METHODS, costs, print_costs
from smoothing_pictures import draw_curves, write_clip
from tables import show, told

from edge_seg import contours
from edge_seg.arrays import Label, Picture, Soft
from edge_seg.baselines import (
    ExponentialAverage,
    FlowBlend,
    OneEuro,
    UncertaintyBlend,
)
from edge_seg.bundle import ModelBundle
from edge_seg.files import write_whole
from edge_seg.segmenter import open_artifact
from edge_seg.smoothing import Smoother, Steady
from edge_seg.stability import Stability
from edge_seg.stability.figures import Figures
from edge_seg.stability.gain import gain_over_raw
from edge_seg.stability.motion import Motion, motion_between
from edge_seg.stability.truth import Truth

RATES = (30, 15, 10, 5)
Make = Callable[[], Smoother]
BOUNDS = ("truth at rest", "ideal mask")
# The knob of each method, from little smoothing to much; the published value is among them.
KNOBS: dict[str, dict[str, Make]] = {
    "steady": {f"{ms} ms": partial(Steady, ms / 1000) for ms in (50, 100, 200, 400, 800, 3000)},
    "average": {f"{k:g}": partial(ExponentialAverage, k) for k in (0.2, 0.4, 0.6, 0.8)},
    "one-euro": {
        f"{b:g}": partial(OneEuro, cutoff=c, beta=b)
        for c, b in ((2.0, 8.0), (1.0, 4.0), (0.5, 2.0), (0.25, 1.0), (0.1, 0.3))
    },
    "uncertainty": {f"{r:g}": partial(UncertaintyBlend, r) for r in (0.3, 0.5, 0.7, 0.9, 1.0)},
    "flow": {"shipped": FlowBlend, "mended": partial(FlowBlend, mended=True)},
}
CURVE_RATES = (30, 10)


@dataclass(frozen=True)
class Filmed:
    """A clip as the smoothers see it: raw masks, pictures as the network gets them, times.

    frames uint8 (H, W, 3) and labels uint8 (H, W): as large as masks are judged. edges: whether
    masks are brought to the picture's contours before they are judged.
    """

    name: str
    kind: str
    masks: list[Soft]
    pictures: list[Picture]
    frames: list[Picture]
    labels: list[Label]
    times: list[float]
    edges: bool = True

    def drawn(self, mask: Soft, guide: Picture) -> Soft:
        """Return the mask as a user gets it."""
        if not self.edges or not contours.is_coarse(mask.shape, guide):
            return mask
        return contours.refine(mask, guide) * np.float32(1 / 255)

    def smoothed(
        self, smoother: Smoother | None, mask: Soft, picture: Picture, time: float
    ) -> Soft:
        """Return the mask as `EdgeSegmenter` gives it."""
        if smoother is None:
            return self.drawn(mask, picture)
        out, steadied = smoother.update(mask, picture, time), getattr(smoother, "steadied", None)
        return self.drawn(out, steadied(picture) if steadied else picture)

    def at(self, fps: int) -> Iterator[tuple[Soft, Picture, Label, float]]:
        """Yield (mask, picture, label, time) as a camera of so many frames a second sees them."""
        step = _every(fps)
        rows = (self.masks[step], self.pictures[step], self.labels[step], self.times[step])
        return zip(*rows, strict=True)

    def motions(self, fps: int) -> list[Motion | None]:
        """Return the motion from each of these frames back to the one before; None: the first."""
        frames = self.frames[_every(fps)]
        return [None, *(motion_between(*two) for two in zip(frames, frames[1:], strict=False))]


def _every(fps: int) -> slice:
    return slice(None, None, round(30 / fps))


class Tap:
    """A smoother that changes nothing and keeps the last mask and picture."""

    def update(self, mask: Soft, picture: Picture, timestamp: float | None) -> Soft:
        """Keep both."""
        self.mask, self.picture = mask.copy(), picture.copy()
        return mask

    def reset(self) -> None:
        """Nothing to forget."""


def film(clip: Clip, bundle: ModelBundle, artifact: str, edges: bool = True) -> Filmed:
    """Run the network over a clip, once."""
    made = Filmed(clip.name, clip.kind, [], [], [], [], [], edges)
    with open_artifact(bundle, bundle.named(artifact)) as segmenter:
        segmenter.smoother = tap = Tap()
        for shot in clip.render():
            segmenter.segment(shot.frame, shot.time, size=(8, 8))
            made.masks.append(tap.mask)
            made.pictures.append(tap.picture)
            made.frames.append(shot.frame)
            made.labels.append(shot.label)
            made.times.append(shot.time)
    return made


Motions = Sequence[Motion | None]


def judged(filmed: Filmed, fps: int, make: Make | None, motions: Motions) -> Figures:
    """Return the figures of a method on a clip; None: the raw masks. motions: of the clip."""
    judge, smoother = Stability(), make() if make else None
    for (mask, picture, label, time), motion in zip(filmed.at(fps), motions, strict=True):
        out = filmed.smoothed(smoother, mask, picture, time)
        judge.add(out, label, time, raw=filmed.drawn(mask, picture), motion=motion)
    return judge.figures()


def bound(filmed: Filmed, fps: int, name: str, motions: Motions) -> Figures:
    """Return the figures of a mask that knows the truth (the module's docstring)."""
    judge, truth = Stability(), None
    for (mask, picture, label, time), motion in zip(filmed.at(fps), motions, strict=True):
        size = (label.shape[1], label.shape[0])
        large = cv2.resize(filmed.drawn(mask, picture), size)
        person = (label == 1).astype(np.float32)
        if name == "ideal mask":
            ideal = cv2.resize(person, mask.shape[::-1], interpolation=cv2.INTER_AREA)
            known = cv2.resize(filmed.drawn(ideal, picture), size)
        else:
            if truth is None:
                truth = Truth(label, time)
            else:
                truth.advance(label, time)
            known = np.where(truth.static, person, large)
        judge.add(known.astype(np.float32), label, time, raw=large, motion=motion)
    return judge.figures()


def halved(filmed: Filmed) -> Filmed:
    """The clip with frames and labels of half the size: a quarter of the work, for the curves."""

    def half(pictures: list[Picture], how: int) -> list[Picture]:
        return [cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=how) for x in pictures]

    return replace(
        filmed,
        frames=half(filmed.frames, cv2.INTER_AREA),
        labels=half(filmed.labels, cv2.INTER_NEAREST),
    )


Rows = list[dict[str, Any]]
_clips: list[Clip] = []  # of a worker's process: clips hold functions, which do not travel


def prepare(data: Path | None, part: str, only: str) -> None:
    """Make the clips, once in every process."""
    cv2.setNumThreads(1)
    _clips[:] = [clip for clip in clips(data, part) if only in clip.name]


def work(index: int, bundle: ModelBundle, args: argparse.Namespace) -> tuple[Rows, Rows]:
    """Judge all methods on one clip; return the rows of the table and of the curves."""
    filmed = film(_clips[index], bundle, args.artifact, args.edges == "on")
    small = halved(filmed)
    filmed = small if args.half else filmed
    table: Rows = []
    for fps in args.rates:
        motions = filmed.motions(fps)
        raw = judged(filmed, fps, None, motions)
        table.append(row(filmed, fps, "raw", raw, raw))
        for name, make in METHODS.items():
            table.append(row(filmed, fps, name, judged(filmed, fps, make, motions), raw))
        for name in BOUNDS:
            table.append(row(filmed, fps, name, bound(filmed, fps, name, motions), raw))
    drawn: Rows = []
    for fps in () if args.no_curves else CURVE_RATES:
        motions = small.motions(fps)
        raw = judged(small, fps, None, motions)
        for name, knob in KNOBS.items():
            for value, make in knob.items():
                found = row(small, fps, name, judged(small, fps, make, motions), raw)
                drawn.append({**found, "knob": value})
    return table, drawn


def row(filmed: Filmed, fps: int, method: str, found: Figures, raw: Figures) -> dict[str, Any]:
    """One line of the JSON."""
    against = gain_over_raw(found, raw)
    return {
        "clip": filmed.name,
        "kind": filmed.kind,
        "fps": fps,
        "method": method,
        "figures": found.to_dict(),
        "dtssd": against.dtssd,
        "flicker": against.flicker,
        "warped": against.warped,
        "miou": against.miou,
        "mae": found.mae - raw.mae,
        "boundary_f": 100 * (found.boundary_f - raw.boundary_f),
        "ghosting": None if found.ghosting is None else found.ghosting - (raw.ghosting or 0.0),
        "dropouts": found.dropouts - raw.dropouts,
        "lag": found.lag,
        "better": against.better,
        "paid": list(against.paid),
    }


# --- summaries -----------------------------------------------------------------------------------


def geometric(values: Sequence[float | None]) -> float:
    """Return the geometric mean of what is there; 0 counts as 0.001."""
    logs = [np.log(max(v, 1e-3)) for v in values if v is not None]
    return float(np.exp(np.mean(logs))) if logs else float("nan")


def summary(rows: Rows) -> dict[str, Any]:
    """Return the figures of one method at one rate over all clips."""

    def of(key: str, chosen: Rows = rows) -> list[Any]:
        return [r[key] for r in chosen if r[key] is not None]

    def own(key: str) -> list[Any]:
        return [r["figures"][key] for r in rows if r["figures"][key] is not None]

    heads = [r for r in rows if r["kind"] == "head"]
    return {
        "dtssd": geometric(of("dtssd")),
        "dtssd_heads": geometric(of("dtssd", heads)),
        "dtssd_worst": max(of("dtssd")),
        "flicker": geometric(of("flicker")),
        "flicker_heads": geometric(of("flicker", heads)),
        "warped": geometric(of("warped")),
        "miou": float(np.mean(of("miou"))),
        "miou_worst": min(of("miou")),
        "mae": float(np.mean(of("mae"))),
        "boundary_f": float(np.mean(of("boundary_f"))),
        "ghosting": float(np.mean(of("ghosting"))),
        "ghosting_worst": max(of("ghosting")),
        "lag": float(np.mean(of("lag"))),
        "lag_worst": max(of("lag")),
        "dropouts": sum(of("dropouts")),
        "better": sum(of("better")),
        "clips": len(rows),
        "own": {
            "miou": 100 * float(np.mean(own("miou"))),
            "boundary_f": 100 * float(np.mean(own("boundary_f"))),
            "mae": float(np.mean(own("mae"))),
            "warped": float(np.mean(own("warped"))),
            "flips": float(np.mean(own("flips"))),
            "dropouts": sum(own("dropouts")),
        },
    }


COLUMNS = {
    "dtSSD all/heads": "{dtssd:.2f}/{dtssd_heads:.2f}",
    "worst": "{dtssd_worst:.2f}",
    "flicker all/heads": "{flicker:.2f}/{flicker_heads:.2f}",
    "mIoU [worst]": "{miou:+.2f} [{miou_worst:+.2f}]",
    "MAE": "{mae:+.2f}",
    "boundary F": "{boundary_f:+.2f}",
    "ghosts [worst]": "{ghosting:+.1f} [{ghosting_worst:+.1f}]",
    "lag ms [worst]": "{lag:.0f} [{lag_worst:.0f}]",
    "drop-outs": "{dropouts:+d}",
    "better": "{better}/{clips}",
}
OWN = {
    "mIoU, %": "{own[miou]:.2f}",
    "boundary F, %": "{own[boundary_f]:.2f}",
    "MAE, %": "{own[mae]:.2f}",
    "flow-warped, %": "{own[warped]:.2f}",
    "times raw": "{warped:.2f}",
    "flips, 1/s": "{own[flips]:.4f}",
    "drop-outs": "{own[dropouts]}",
}


def print_tables(summaries: dict[str, dict[str, Any]], rates: Sequence[int]) -> None:
    """Print two tables per frame rate: against the raw masks, and the masks' own figures.

    In the first mIoU, MAE, boundary F and ghosting are in points. In the second drop-outs are those
    of all clips, flips are per static pixel, the rest are means over the clips.
    """
    against, own = (*METHODS, *BOUNDS), ("raw", *METHODS, *BOUNDS)
    for fps in rates:
        for names, columns, title in (
            (against, COLUMNS, "ratios and differences to the raw masks"),
            (own, OWN, "the masks' own figures"),
        ):
            rows = [
                [name, *(text.format(**summaries[f"{name} {fps}"]) for text in columns.values())]
                for name in names
            ]
            show(f"{fps} frames/s, {title}", ("method", *columns), rows, width=160)


def grouped(rows: Rows, *keys: str) -> dict[str, Rows]:
    """Return the rows by their values of some keys, joined by a blank."""
    groups: dict[str, Rows] = {}
    for found in rows:
        groups.setdefault(" ".join(str(found[key]) for key in keys), []).append(found)
    return groups


# --- the command ---------------------------------------------------------------------------------


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="default: the network that ships")
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--data", type=Path, help="the data folder; without it people are drawn")
    parser.add_argument("--part", choices=PARTS, default="report")
    parser.add_argument("--only", default="", help="clips whose name holds this")
    parser.add_argument(
        "--half", action="store_true", help="judge at half the size: 4 times faster"
    )
    parser.add_argument(
        "--rates", type=int, nargs="+", choices=RATES, default=RATES, help="frames/s to judge at"
    )
    parser.add_argument("--edges", choices=("on", "off"), default="on")
    parser.add_argument("--no-curves", action="store_true")
    parser.add_argument("--no-clips", action="store_true", help="no videos side by side")
    parser.add_argument("--reference", type=Path, help="bundle whose float inference costs 1")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/smoothing"))
    return parser.parse_args()


def main() -> int:
    """Measure, print, draw, write."""
    args = parsed()
    bundle = ModelBundle.load(args.bundle)
    which = (args.data, args.part, args.only)
    prepare(*which)
    args.output.mkdir(parents=True, exist_ok=True)
    print_costs(timed := costs(METHODS, bundle, args.artifact, args.reference))
    table: Rows = []
    curves: Rows = []
    context = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(args.jobs, context, initializer=prepare, initargs=which)
    with Progress() as progress, workers as pool:
        bar = progress.add_task("clips", total=len(_clips))
        every = range(len(_clips))
        jobs = [pool.submit(work, i, bundle, args) for i in every]
        for job in jobs:
            rows, drawn = job.result()
            table += rows
            curves += drawn
            progress.advance(bar)
    summaries = {name: summary(rows) for name, rows in grouped(table, "method", "fps").items()}
    print_tables(summaries, args.rates)
    drawn_curves = {
        name: summary(rows) for name, rows in grouped(curves, "method", "fps", "knob").items()
    }
    found = {
        "bundle": bundle.name,
        "artifact": args.artifact,
        "part": args.part,
        "half": args.half,
        "edges": args.edges,
        "drawn": args.data is None,
        "costs": timed,
        "summaries": summaries,
        "curves": drawn_curves,
        "clips": table,
    }
    write_whole(args.output / "smoothing.json", json.dumps(found, indent=1) + "\n")
    written = ["smoothing.json"]
    if curves:
        draw_curves(drawn_curves, args.output / "curves.png")
        written.append("curves.png")
    if not args.no_clips:
        for clip in told(_clips, "writing clips"):
            write_clip(film(clip, bundle, args.artifact, args.edges == "on"), args.output)
        written.append("clips side by side")
    print(f"{args.output}: {', '.join(written)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
