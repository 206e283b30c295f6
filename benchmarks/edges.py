"""Contours: a guided filter against plain enlargement, and composites against the true ones.

    python benchmarks/edges.py [BUNDLE] [--data ../shared/data] [--quick]

For an artifact whose masks are coarser than its pictures: quality on val.txt and on the clips of
`report`; error of composites made of the tenth of cutouts/ that training leaves out, seen before
one room and laid over another, in frames of 640x360 where the person is found (IoU > 0.85); time
from 1280x720. Without data only times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import clips
import cv2
import numpy as np
from numpy.typing import NDArray
from tables import show, told

from edge_seg import compositing
from edge_seg.bundle import ModelBundle
from edge_seg.calibration.dataset import load_pair, pairs_of
from edge_seg.comparison import ROUNDS, bare_call, side_by_side
from edge_seg.evaluation import evaluate_clip
from edge_seg.metrics import Quality, binary, boundary_f
from edge_seg.segmenter import EdgeSegmenter, open_artifact

Floats = NDArray[np.float32]
FRAME, FULL = (360, 640), (720, 1280)
BAND = 8  # px to each side of the true contour
FOUND = 0.85  # IoU from which a person counts as found
WAYS = {"bilinear": False, "guided": True}


def enlargement(open_one: Callable[[bool], EdgeSegmenter], data: Path, quick: bool) -> None:
    """Quality on single pictures."""
    rows = []
    for name, edges in WAYS.items():
        quality, fine = Quality(), []
        with open_one(edges) as segmenter:
            pairs = pairs_of(data / "val.txt")[:: 5 if quick else 1]
            for frame, label in map(load_pair, told(pairs, f"val.txt, {name}")):
                mask = np.asarray(segmenter.segment(frame, size=label.shape))
                quality.add(mask, label)
                fine.append(boundary_f(binary(mask, label.shape), label, radius=1))
        found = quality.to_dict()
        shares = [found[k] for k in ("miou", "boundary_f")] + [float(np.mean(fine)), found["sc"]]
        rows.append([name, *(f"{100 * share:.2f}" for share in shares)])
    columns = ("enlargement", "mIoU", "boundary F, 3 px", "1 px", "SC")
    show(f"val.txt, {quality.n} pictures, percent", columns, rows)


def in_time(open_one: Callable[[bool], EdgeSegmenter], data: Path, quick: bool) -> None:
    """Quality and stillness on clips, without smoothing."""
    gathered: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    made = clips.clips(data, "report")[:: 5 if quick else 1]
    for clip in told(made, "clips"):
        shots = clips.sampled(list(clip.render()), 10)
        with open_one(False) as plain, open_one(True) as guided:
            found = evaluate_clip({"bilinear": plain, "guided": guided}, shots)
        for name, f in found.items():
            values = (100 * f.miou, 100 * f.boundary_f, f.mae, f.dtssd or 0.0, f.flicker or 0.0)
            gathered[name].append([*values, f.flips or 0.0])
    rows = [[n, *(f"{v:.3g}" for v in np.mean(values, axis=0))] for n, values in gathered.items()]
    columns = (
        "enlargement",
        "mIoU %",
        "boundary F %",
        "MAE %",
        "dtSSD %",
        "flicker %",
        "flips 1/s",
    )
    show(f"{len(gathered['guided'])} clips of report at 10 frames/s, means", columns, rows)


@dataclass(frozen=True)
class Case:
    """A composite that is known. frame: the person before a room; truth: before `behind`."""

    frame: NDArray[np.uint8]
    alpha: Floats
    behind: NDArray[np.uint8]
    truth: Floats


def cases(data: Path, quick: bool) -> list[Case]:
    """Lay every held-out cutout into three rooms and over three others."""
    people, rooms = clips.cutouts(data), clips.rooms(data)
    rng, made = np.random.default_rng(0), []
    for i, person in enumerate(people[::4] if quick else people):
        front, alpha = placed(person.pictures[0], person.alphas[0])
        for j in range(3):
            before = compositing.cover(rooms[(7 * i + 5 * j) % len(rooms)], FRAME)
            behind = compositing.cover(rooms[(11 * i + 3 * j + 13) % len(rooms)], FRAME)
            share = alpha[..., None]
            seen = share * front + (1 - share) * before + rng.normal(0, 2, (*FRAME, 3))
            frame = np.clip(seen + 0.5, 0, 255).astype(np.uint8)
            made.append(Case(frame, alpha, behind, share * front + (1 - share) * behind))
    return made


def placed(picture: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Return the person's colours and alpha 0..1 in a frame, standing on its lower edge.

    Resized with premultiplied colours: what lies outside the alpha mixes in nowhere.
    """
    height, width = FRAME
    scale = min(0.95 * height / alpha.shape[0], 0.8 * width / alpha.shape[1])
    size = (round(alpha.shape[1] * scale), round(alpha.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    share = alpha.astype(np.float32) / 255
    colours = cv2.resize(picture * share[..., None], size, interpolation=way)
    share = np.clip(cv2.resize(share, size, interpolation=way), 0, 1)
    left = (width - size[0]) // 2
    box = (slice(height - size[1], height), slice(left, left + size[0]))
    front, area = np.zeros((*FRAME, 3), np.float32), np.zeros(FRAME, np.float32)
    front[box] = np.clip(colours / np.maximum(share, 0.02)[..., None], 0, 255)
    area[box] = np.where(share > 0.02, share, 0)
    return front, area


def estimated(frame: NDArray[np.uint8], alpha: Floats, radii: tuple[int, ...] = (12, 3)) -> Floats:
    """The person's own colours: blur fusion (Forte, "Approximate Fast Foreground Colour
    Estimation", ICIP 2021), once per radius.
    """
    seen = frame.astype(np.float32)
    front, back, share = seen, seen, alpha[..., None]
    for radius in radii:
        side = (2 * radius + 1, 2 * radius + 1)
        area = cv2.blur(alpha, side)[..., None]
        mean_front = cv2.blur(front * share, side) / (area + 1e-5)
        back = cv2.blur(back * (1 - share), side) / (1 - area + 1e-5)
        front = mean_front + share * (seen - share * mean_front - (1 - share) * back)
        front = np.clip(front, 0, 255)
    return front


def composites(open_one: Callable[[bool], EdgeSegmenter], data: Path, quick: bool) -> None:
    """Error of composites round the true contour, in levels of 255."""
    errors: dict[str, list[list[float]]] = {}
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * BAND + 1, 2 * BAND + 1))
    everyone = cases(data, quick)
    with open_one(False) as plain, open_one(True) as guided:
        for case in told(everyone, "composites"):
            coarse, mask = plain.segment(case.frame), guided.segment(case.frame)
            person = case.alpha >= 0.5
            if ((mask >= 0.5) & person).sum() < FOUND * ((mask >= 0.5) | person).sum():
                continue
            firm = np.asarray(compositing.firm(mask), np.float32)
            found: dict[str, NDArray[np.generic]] = {
                "bilinear mask": compositing.blend(case.frame, case.behind, coarse),
                "bilinear, firm": compositing.blend(
                    case.frame, case.behind, compositing.firm(coarse)
                ),
                "guided": compositing.blend(case.frame, case.behind, mask),
                "guided, firm (shipped)": compositing.blend(case.frame, case.behind, firm),
                "guided, firm, foreground": mixed(estimated(case.frame, firm), case.behind, firm),
                "the true alpha": compositing.blend(case.frame, case.behind, case.alpha),
            }
            seam = (case.alpha > 0.02) & (case.alpha < 0.98)
            band = cv2.dilate(seam.astype(np.uint8), disk) > 0
            parts = (band, band & (case.alpha <= 0.02), band & (case.alpha >= 0.98), seam)
            for name, composite in found.items():
                error = np.abs(composite.astype(np.float32) - case.truth).mean(axis=2)
                errors.setdefault(name, []).append([float(error[part].mean()) for part in parts])
    rows = [[n, *(f"{v:.2f}" for v in np.mean(values, axis=0))] for n, values in errors.items()]
    count = len(errors["the true alpha"])
    title = f"error of composites, levels, {count} of {len(everyone)} in which the person is found"
    show(title, ("mask", f"within {BAND} px", "outside", "inside", "in the seam"), rows)


def mixed(front: Floats, behind: NDArray[np.uint8], alpha: Floats) -> Floats:
    """Return the composite of a foreground that is not the frame."""
    share = alpha[..., None]
    return share * front + (1 - share) * behind


def times(open_one: Callable[[bool], EdgeSegmenter], quick: bool) -> None:
    """Milliseconds from 1280x720, side by side."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (45, 80, 3), dtype=np.uint8)
    frame = cv2.resize(coarse, FULL[::-1], interpolation=cv2.INTER_CUBIC)
    behind = np.ascontiguousarray(frame[::-1])
    with open_one(False) as plain, open_one(True) as guided:
        mask = np.asarray(guided.segment(frame, dtype="uint8"))
        found = side_by_side(
            {
                "the network alone": bare_call(plain.backend),
                "frame to mask, bilinear": lambda: plain.segment(frame, dtype="uint8"),
                "frame to mask, guided": lambda: guided.segment(frame, dtype="uint8"),
                "firm": lambda: compositing.firm(mask),
                "replace (blend)": lambda: compositing.blend(frame, behind, mask),
                "blur and blend": lambda: compositing.blur(frame, mask),
            },
            rounds=8 if quick else ROUNDS,
        )
        if not quick:
            share = (mask / 255).astype(np.float32)
            slow = side_by_side({"foreground": lambda: estimated(frame, share)}, rounds=2)
            found["foreground estimation"] = slow["foreground"]
    one = found["the network alone"]
    rows = [[name, f"{ms:.2f}", f"{ms / one:.2f}x"] for name, ms in found.items()]
    show("1280x720, one thread, medians", ("step", "ms", "of the network"), rows)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true", help="a fifth of the pictures and clips")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = ModelBundle.load(args.bundle)

    def open_one(edges: bool) -> EdgeSegmenter:
        segmenter = open_artifact(bundle, bundle.named(args.artifact))
        segmenter.edges = edges
        return segmenter

    times(open_one, args.quick)
    if args.data is not None:
        for table in (enlargement, in_time, composites):
            table(open_one, args.data, args.quick)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
