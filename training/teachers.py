"""Teachers: several networks' masks of the same pictures, averaged, as targets for a smaller one.

A teachers file is JSON, a list of

    {"model": "default" | a bundle's folder | a .tflite or .onnx file, "weight": 0.7,
     "input": {...}, "output": {...}}

with the contract (`input` and `output`, the fields of `edge_seg.spec`) where the model is a bare
file. Every network sees the picture and its mirror image. The masks are 8-bit PNGs named after
the pictures, which `edge-seg train --teacher` reads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_seg.arrays import Picture, Soft
from edge_seg.calibration.dataset import Pair, load_image, load_pair
from edge_seg.errors import DatasetError
from edge_seg.files import whole_file, write_whole, writing
from edge_seg.metrics import Quality
from edge_seg.spec import InputSpec, OutputSpec

Segment = Callable[[Picture], Soft]
RECORD = "teachers.json"  # beside the masks: whose they are
KNOWN = {"model", "weight", "input", "output"}


@dataclass(frozen=True)
class Teacher:
    """One network and how much it counts. `input`, `output`: of a bare model file, else None."""

    model: str
    weight: float
    input: InputSpec | None = None
    output: OutputSpec | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        row: dict[str, Any] = {"model": self.model, "weight": self.weight}
        if self.input is not None and self.output is not None:
            row |= {"input": self.input.to_dict(), "output": self.output.to_dict()}
        return row


def read_teachers(path: Path) -> list[Teacher]:
    """Read a teachers file. Raises DatasetError, and BundleError for a wrong contract."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: wanted teachers as JSON, found: {error}; correct the file"
        ) from None
    if not isinstance(rows, list) or not rows:
        raise DatasetError(
            f"{path}: wanted a list of teachers, found {rows!r:.60}; name at least one"
        )
    return [_teacher(row, f"{path}, teacher {n}") for n, row in enumerate(rows, 1)]


def _teacher(row: Any, where: str) -> Teacher:
    if not isinstance(row, dict) or not isinstance(row.get("model"), str) or set(row) - KNOWN:
        raise DatasetError(
            f"{where}: wanted an object with model, weight, and input and output for a bare file, "
            f"found {row!r:.80}; correct it"
        )
    weight = row.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight <= 1e6:
        raise DatasetError(f"{where}: wanted a weight above 0, found {weight!r:.40}; correct it")
    bare = Path(row["model"]).suffix.lower() in (".tflite", ".onnx")
    if bare != ("input" in row) or bare != ("output" in row):
        found = "a contract beside a bundle" if not bare else "a model file without its contract"
        raise DatasetError(
            f"{where}: wanted input and output for a .tflite or .onnx file, and for nothing else, "
            f"found {found}; correct it"
        )
    if not bare:
        return Teacher(row["model"], float(weight))
    for name in ("input", "output"):
        if not isinstance(row[name], dict):
            raise DatasetError(f"{where}: wanted {name} as an object, found {row[name]!r:.40}")
    return Teacher(
        row["model"],
        float(weight),
        InputSpec.from_dict(row["input"], f"{where}, input"),
        OutputSpec.from_dict(row["output"], f"{where}, output"),
    )


def average(frame: Picture, teachers: Sequence[tuple[Segment, float]]) -> Soft:
    """The weighted mean of the teachers' masks of a frame and of its mirror image, at its size."""
    mirrored = np.ascontiguousarray(frame[:, ::-1])
    total = np.zeros(frame.shape[:2], np.float32)
    for segment, weight in teachers:
        total += weight / 2 * segment(frame)
        total += weight / 2 * segment(mirrored)[:, ::-1]
    return total / np.float32(sum(weight for _, weight in teachers))


def write_masks(
    pictures: Iterable[Path],
    segment: Segment,
    folder: Path,
    *,
    record: list[dict[str, Any]],
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write the mask of every picture that has none yet; returns how many were made.

    record: whose masks these are; kept beside them, so that a folder never mixes two ensembles.
    Raises DatasetError where the folder holds another ensemble's, OutputError for a full disk.
    """
    made, remedy = 0, "free space or choose another -o; what was made is kept"
    with writing(folder, "to write masks there", remedy):
        folder.mkdir(parents=True, exist_ok=True)
        _keep_record(folder, record)
        for done, path in enumerate(pictures, 1):
            target = folder / f"{path.stem}.png"
            if not target.is_file():
                _write_png(target, segment(load_image(path)))
                made += 1
            progress(done)
    return made


def _keep_record(folder: Path, record: list[dict[str, Any]]) -> None:
    path = folder / RECORD
    text = json.dumps(record, indent=1) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise DatasetError(
            f"{path}: wanted masks of the same teachers, found those of others; choose another -o"
        )
    if not path.is_file():
        if any(folder.glob("*.png")):
            raise DatasetError(
                f"{folder}: wanted an empty folder or one of edge-seg teach, found PNGs of unknown "
                "origin; choose another -o"
            )
        write_whole(path, text)


def _write_png(path: Path, mask: Soft) -> None:
    code = cv2.imencode(".png", np.rint(255 * mask).astype(np.uint8))[1]
    with whole_file(path) as beside:
        beside.write_bytes(code.tobytes())


def measure(
    pairs: Iterable[Pair], segment: Segment, progress: Callable[[int], None] = lambda done: None
) -> Quality:
    """The quality of a teacher, or of their mean, on labelled pictures."""
    quality = Quality()
    for pair in pairs:
        frame, label = load_pair(pair)
        quality.add(cv2.resize(segment(frame), label.shape[::-1]), label)
        progress(quality.n)
    return quality
