"""Quality by kind of picture: source, darkness, form of the frame, several people, empty rooms.

    python benchmarks/slices.py BUNDLE [BUNDLE ...] --data DIR [--mediapipe FILE]

DIR is laid out as for `edge-seg train`. Crops are cut from the labelled pictures of val.txt, wide
ones from a tenth above the highest person pixel. "several" are two or three of the cut-outs that
training leaves out, one frame of 16:9 each, over backgrounds that training may have seen. Clips
with a mask per frame (videos/masked), a clip each, were never trained on. "from behind" are people
who turn their back to a camera that stands still; their labels are made here, by the difference
from the empty room, and leave out what is not sure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from peer import PEER, open_peer
from tables import told

from edge_seg.bundle import ModelBundle
from edge_seg.calibration.dataset import Pair, labelled_pairs, load_cutout, load_image, load_pair
from edge_seg.files import check_place, write_whole
from edge_seg.metrics import Quality, binary, empty_rooms
from edge_seg.segmenter import EdgeSegmenter, open_artifact
from edge_seg.training import cards
from edge_seg.training.collection import Collection, cutouts_of, find

DARK = 80  # mean pixel
CARDS = 200  # pictures of nothing (edge_seg.training.cards): of the kind trained on, other seeds
GROUPS = 60  # composites of several people
BEHIND = "videos/intel_people/one-by-one-person-detection.mp4"
EMPTY = range(0, 56, 4)  # frames of it before anybody comes
BEHIND_STEP = 38  # frames
SURE, MAYBE = 36, 14  # levels of 255 that a pixel differs from the empty room
LEAST_PERSON = 0.02  # of the frame: less is a foot that comes in, or a shadow
Sample = tuple[np.ndarray, np.ndarray]
Rows = dict[str, dict[str, float | int]]


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


def frames_of(source: cv2.VideoCapture, step: int) -> Iterator[np.ndarray]:
    """The next frame of a video, and from there on each so many frames further."""
    number = 0
    while source.grab():
        if number % step == 0:
            yield source.retrieve()[1]
        number += 1


def from_behind(video: Path) -> Iterator[Sample]:
    """Frames with a person, and 1 where they surely stand, 255 where they may."""
    source = cv2.VideoCapture(str(video))
    first = [source.read()[1] for _ in range(EMPTY.stop)]
    empty = np.median(np.stack([first[n] for n in EMPTY]), axis=0).astype(np.float32)
    for frame in frames_of(source, BEHIND_STEP):
        # What the camera's exposure did since, by colour; 8 levels keep black from deciding it.
        gain = np.median((frame + np.float32(8)) / (empty + 8), axis=(0, 1))
        expected = np.clip(empty * gain, 0, 255).astype(np.uint8)
        levels = cv2.GaussianBlur(cv2.absdiff(frame, expected), (5, 5), 0).max(axis=2)
        sure = cv2.morphologyEx(
            (levels > SURE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)
        )
        maybe = cv2.dilate((levels > MAYBE).astype(np.uint8), np.ones((7, 7), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(sure)
        large = stats[:, cv2.CC_STAT_AREA] > LEAST_PERSON * sure.size
        large[0] = False
        if large.any():
            label = np.where(large[labels], 1, np.where(maybe | sure, 255, 0))
            yield frame, label.astype(np.uint8)


def slices(files: Collection, cutouts: list[Path]) -> dict[str, Callable[[], Iterator[Sample]]]:
    """The samples of every slice, made as they are needed."""
    pairs = {pair: load_pair(pair) for pair in files.val}
    found: dict[str, Callable[[], Iterator[Sample]]] = {"all": lambda: iter(pairs.values())}
    names = [pair.image.name for pair in pairs]
    for source in sorted({name.split("_")[0] for name in names if "_" in name}):
        found[source] = partial(_named, pairs, f"{source}_")
    found["dark"] = lambda: (s for s in pairs.values() if s[0].mean() < DARK)
    found["a quarter as bright"] = lambda: ((f // 4, lb) for f, lb in pairs.values())
    for name, aspect in (("4:3", 4 / 3), ("16:9", 16 / 9), ("9:16", 9 / 16)):
        found[f"cropped to {name}"] = partial(_wide, pairs, aspect)
    if cutouts and files.rooms:
        found["several people"] = lambda: several(files, cutouts)
    return found


def _named(pairs: dict[Pair, Sample], start: str) -> Iterator[Sample]:
    return (sample for pair, sample in pairs.items() if pair.image.name.startswith(start))


def _wide(pairs: dict[Pair, Sample], aspect: float) -> Iterator[Sample]:
    return (wide(sample, aspect) for sample in pairs.values())


def clips_of(data: Path) -> dict[str, Callable[[], Iterator[Sample]]]:
    """The slices that are cut from videos, where those are there."""
    found: dict[str, Callable[[], Iterator[Sample]]] = {}
    for clip in sorted((data / "videos" / "masked").glob("*/")):
        found[f"clip {clip.name}"] = partial(labelled_pairs, clip)
    if (data / BEHIND).is_file():
        found["from behind"] = lambda: from_behind(data / BEHIND)
    return found


def measured(segmenter: EdgeSegmenter, samples: Iterator[Sample]) -> dict[str, float | int]:
    """mIoU, person IoU, boundary F, SC, and n."""
    quality = Quality()
    for frame, label in samples:
        quality.add(segmenter.segment(np.ascontiguousarray(frame), size=label.shape), label)
    return quality.to_dict()


def rows_of(segmenter: EdgeSegmenter, files: Collection, cutouts: list[Path], data: Path) -> Rows:
    """All figures of one network."""
    samples = {**slices(files, cutouts), **clips_of(data)}
    rows: Rows = {name: measured(segmenter, samples[name]()) for name in told([*samples], "slices")}
    rows = {name: row for name, row in rows.items() if row["n"]}  # no picture is no figure
    if files.hard_rooms:
        rooms = [load_image(room) for room in files.hard_rooms]
        rows["empty rooms"] = nobody(segmenter, rooms)
        rows["empty rooms at night"] = nobody(segmenter, at_night(rooms))
    shown = [cards.draw(np.random.default_rng([7, n]), 480) for n in range(CARDS)]
    rows["test cards"] = nobody(segmenter, shown)
    return rows


def at_night(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """The same with an eighth of the light, and a sensor's noise: 3 levels of 255, seeded."""
    random = np.random.default_rng(0)
    dim = (picture / 8 + random.normal(0, 3, picture.shape) for picture in pictures)
    return [np.clip(picture, 0, 255).astype(np.uint8) for picture in dim]


def nobody(segmenter: EdgeSegmenter, pictures: list[np.ndarray]) -> dict[str, float | int]:
    """Of pictures without people: the share of person pixels, and of false alarms."""
    shares = [float(binary(segmenter.segment(p), p.shape[:2]).mean()) for p in pictures]
    share, alarms = empty_rooms(shares)
    return {"n": len(pictures), "share": share, "alarms": alarms}


def main() -> None:
    """Print a table per slice; --json keeps it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--mediapipe", type=Path, help="its .tflite file, to stand beside")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.json:
        check_place(args.json)
    files = find(args.data)
    cutouts = cutouts_of(args.data)[1]
    table: dict[str, Rows] = {}
    for path in args.bundles:
        bundle = ModelBundle.load(path)
        with open_artifact(bundle, bundle.named(args.artifact)) as segmenter:
            table[str(path)] = rows_of(segmenter, files, cutouts, args.data)
    if args.mediapipe:
        with open_peer(args.mediapipe) as segmenter:
            table[PEER] = rows_of(segmenter, files, cutouts, args.data)
    for name in next(iter(table.values())):
        print(f"\n{name} ({next(iter(table.values()))[name]['n']})")
        for path, rows in table.items():
            shown = {k: v for k, v in rows[name].items() if isinstance(v, float)}
            shown = {k: v for k, v in shown.items() if not k.endswith("_share") and k != "specks"}
            figures = "  ".join(f"{k} {100 * v:.2f}" for k, v in shown.items())
            print(f"  {figures}  {path}")
    if args.json:
        write_whole(args.json, json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
