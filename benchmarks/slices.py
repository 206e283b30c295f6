"""Quality by kind of picture: source, darkness, form of the frame, several people, empty rooms.

    python benchmarks/slices.py BUNDLE [BUNDLE ...] --data DIR [--artifact tflite-int8]

DIR is laid out as for `edge-seg train`. Crops are cut from the labelled pictures of val.txt, wide
ones from a tenth above the highest person pixel. "several" are two or three of the cut-outs that
training leaves out, one frame of 16:9 each, over backgrounds that training may have seen.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from edge_seg.bundle import ModelBundle
from edge_seg.calibration.dataset import load_cutout, load_image, load_pair
from edge_seg.metrics import Quality, binary, empty_rooms
from edge_seg.segmenter import EdgeSegmenter, open_artifact
from edge_seg.training import cards
from edge_seg.training.collection import HELD_OUT_CUTOUT, Collection, find

DARK = 80  # mean pixel
CARDS = (
    200  # pictures of nothing, from edge_seg.training.cards: of the kind trained on, other seeds
)
GROUPS = 60  # composites of several people
Sample = tuple[np.ndarray, np.ndarray]


def wide(sample: Sample, aspect: float) -> Sample:
    """The widest crop of this aspect (width / height) that begins just above the head."""
    frame, label = sample
    height, width = label.shape
    rows = np.flatnonzero((label == 1).any(axis=1))
    if width / height > aspect:
        inner = round(height * aspect)
        left = (width - inner) // 2
        return frame[:, left : left + inner], label[:, left : left + inner]
    inner = round(width / aspect)
    highest = int(rows[0]) if len(rows) else 0
    top = int(np.clip(highest - inner // 10, 0, height - inner))
    return frame[top : top + inner], label[top : top + inner]


def several(files: Collection, cutouts: list[Path]) -> Iterator[Sample]:
    """Frames of 512x288 with two or three people side by side."""
    random = np.random.default_rng(0)
    for _ in range(GROUPS):
        room = load_image(files.rooms[random.integers(len(files.rooms))])
        canvas = cv2.resize(room, (512, 288), interpolation=cv2.INTER_AREA).astype(np.float32)
        mask = np.zeros((288, 512), np.float32)
        count = int(random.integers(2, 4))
        for place in range(count):
            person, alpha = load_cutout(cutouts[random.integers(len(cutouts))])
            tall = random.uniform(0.6, 1.0) * 288
            matrix = np.array([[tall / alpha.shape[0], 0, 0], [0, tall / alpha.shape[0], 0]])
            matrix[0, 2] = 512 * (place + 0.5) / count - matrix[0, 0] * alpha.shape[1] / 2
            matrix[1, 2] = 288 - tall
            cover = cv2.warpAffine(alpha, matrix, (512, 288)).astype(np.float32) / 255
            cut = cv2.warpAffine(person, matrix, (512, 288)).astype(np.float32)
            canvas += cover[:, :, None] * (cut - canvas)
            mask = np.maximum(mask, cover)
        yield np.rint(canvas).astype(np.uint8), (mask >= 0.5).astype(np.uint8)


def slices(files: Collection, cutouts: list[Path]) -> dict[str, Callable[[], Iterator[Sample]]]:
    """The samples of every slice, made as they are needed."""
    pairs = {pair: load_pair(pair) for pair in files.val}
    found: dict[str, Callable[[], Iterator[Sample]]] = {"all": lambda: iter(pairs.values())}
    for source in sorted({pair.image.name.split("_")[0] for pair in pairs}):
        found[source] = lambda source=source: (
            sample for pair, sample in pairs.items() if pair.image.name.startswith(f"{source}_")
        )
    found["dark"] = lambda: (s for s in pairs.values() if s[0].mean() < DARK)
    found["a quarter as bright"] = lambda: ((f // 4, lb) for f, lb in pairs.values())
    for name, aspect in (("4:3", 4 / 3), ("16:9", 16 / 9), ("9:16", 9 / 16)):
        found[f"cropped to {name}"] = lambda aspect=aspect: (
            wide(sample, aspect) for sample in pairs.values()
        )
    if cutouts and files.rooms:
        found["several people"] = lambda: several(files, cutouts)
    return found


def measured(segmenter: EdgeSegmenter, samples: Iterator[Sample]) -> dict[str, float | int]:
    """mIoU, person IoU, boundary F, SC, and n."""
    quality = Quality()
    for frame, label in samples:
        quality.add(segmenter.segment(np.ascontiguousarray(frame), size=label.shape), label)
    return quality.to_dict()


def main() -> None:
    """Print a table per slice; --json keeps it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    files = find(args.data)
    every = sorted((args.data / "cutouts").rglob("*.png"))
    cutouts = [path for n, path in enumerate(every, 1) if n % HELD_OUT_CUTOUT == 0]
    table: dict[str, dict[str, dict[str, float | int]]] = {}
    for path in args.bundles:
        bundle = ModelBundle.load(path)
        with open_artifact(bundle, bundle.named(args.artifact)) as segmenter:
            rows = {
                name: measured(segmenter, samples())
                for name, samples in slices(files, cutouts).items()
            }
            if files.hard_rooms:
                rooms = [load_image(room) for room in files.hard_rooms]
                shares = [float(binary(segmenter.segment(r), r.shape[:2]).mean()) for r in rooms]
                share, alarms = empty_rooms(shares)
                rows["empty rooms"] = {"n": len(rooms), "share": share, "alarms": alarms}
            shown = [cards.draw(np.random.default_rng([7, n]), 480) for n in range(CARDS)]
            shares = [float(binary(segmenter.segment(c), c.shape[:2]).mean()) for c in shown]
            share, alarms = empty_rooms(shares)
            rows["test cards"] = {"n": CARDS, "share": share, "alarms": alarms}
        table[str(path)] = rows
    for name in next(iter(table.values())):
        print(f"\n{name} ({next(iter(table.values()))[name]['n']})")
        for path, rows in table.items():
            shown = {k: v for k, v in rows[name].items() if isinstance(v, float)}
            shown = {k: v for k, v in shown.items() if not k.endswith("_share") and k != "specks"}
            figures = "  ".join(f"{k} {100 * v:.2f}" for k, v in shown.items())
            print(f"  {figures}  {path}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
