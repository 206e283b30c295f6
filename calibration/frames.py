"""The frames a quantiser sees: chosen from a source, prepared as the runtime prepares them.

    source   a list, a folder of pictures, a clip folder or a video file
    picture  uint8 (h, w, 3), the network's size and colour: `pixels.prepare` of a frame

Unreadable pictures are skipped, named and counted; too many of them, or too few frames, refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_seg import pixels
from edge_seg.calibration.dataset import PICTURE_SUFFIXES, load_image, read_list
from edge_seg.camera import open_source
from edge_seg.errors import DatasetError
from edge_seg.spec import InputSpec

Frame = NDArray[np.uint8]
Load = Callable[[], Frame]
T = TypeVar("T")

COUNT = 100  # frames; past about 100 the figures stop moving
LEAST = 8  # fewer say nothing about the ranges of a network
HELD_BACK = 50  # frames on which agreement is judged where there are no labels
SKIP_SHARE = 0.1  # more unreadable pictures than this is not an accident


@dataclass(frozen=True)
class Candidate:
    """One frame that could be used. file: its path where it is a file of its own."""

    name: str
    file: Path | None
    load: Load


@dataclass(frozen=True)
class CalibrationSet:
    """What the quantiser sees, and what may be judged on without labels.

    pictures: uint8 (h, w, 3) each. names: of the frames, in order. skipped: one sentence per
    unreadable picture. held_back: frames the quantiser does not see.
    """

    pictures: list[Frame]
    names: list[str]
    skipped: list[str]
    held_back: list[Frame]

    @property
    def sha256(self) -> str:
        """Hash of the pictures, in order, after preparation: what the quantiser really saw."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            digest.update(picture.tobytes())
        return digest.hexdigest()


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, evenly spaced over the sequence; all where there are no more."""
    if count >= len(items):
        return list(items)
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def gather(
    source: Path,
    spec: InputSpec,
    *,
    count: int = COUNT,
    judged: frozenset[Path] = frozenset(),
    progress: Callable[[int], None] | None = None,
) -> CalibrationSet:
    """Choose and prepare calibration frames.

    judged: resolved paths of the pictures that quality is measured on; any of them among the
    candidates is a leak and refused. progress: called with the frames read.
    Raises DatasetError (leak, too few frames, too many unreadable), CameraError.
    """
    candidates = list(_candidates(source))
    _refuse_leak(source, candidates, judged)
    if len(candidates) < LEAST:
        raise DatasetError(
            f"{source}: wanted at least {LEAST} calibration frames, found {len(candidates)}; "
            "name a larger folder, list or clip"
        )
    chosen = spread(candidates, min(count, max(LEAST, len(candidates) * 4 // 5)))
    taken = {id(c) for c in chosen}
    rest = spread([c for c in candidates if id(c) not in taken], HELD_BACK)
    pictures, names, skipped = _read(chosen, spec, progress)
    if len(skipped) > max(1, SKIP_SHARE * len(chosen)) or len(pictures) < LEAST:
        raise DatasetError(
            f"{source}: wanted {len(chosen)} readable calibration pictures, found {len(skipped)} "
            f"that are not, first: {skipped[0]}; repair or remove them"
        )
    return CalibrationSet(pictures, names, skipped, _frames(rest))


def _candidates(source: Path) -> Iterator[Candidate]:
    files = _files(source)
    if files is not None:
        for path in files:
            yield Candidate(path.name, path, lambda path=path: load_image(path))  # type: ignore[misc]
        return
    with open_source(str(source)) as opened:
        kept = [(shot.name, shot.frame) for shot in _thin(opened)]
    for name, frame in kept:
        yield Candidate(f"{source.name}#{name}", None, lambda frame=frame: frame)  # type: ignore[misc]


def _thin(shots: Iterable[T], *, most: int = COUNT + HELD_BACK) -> list[T]:
    """Keep at most `most` items of a stream, evenly spaced, without knowing its length."""
    kept: list[T] = []
    step = 1
    for index, shot in enumerate(shots):
        if index % step == 0:
            kept.append(shot)
        if len(kept) >= most:
            kept, step = kept[::2], step * 2
    return kept


def _files(source: Path) -> list[Path] | None:
    """The pictures of a list, folder or clip folder; None where the source is a video."""
    if source.is_dir():
        folder = source / "frames" if (source / "frames").is_dir() else source
        return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    if source.suffix.lower() in (".txt", ".lst", ".list"):
        return [pair.image for pair in read_list(source)]
    if not source.exists():
        raise DatasetError(
            f"{source}: wanted a list, folder, clip or video of calibration frames, "
            "found no such file"
        )
    return None


def _refuse_leak(source: Path, candidates: list[Candidate], judged: frozenset[Path]) -> None:
    leaks = [c for c in candidates if c.file is not None and c.file.resolve() in judged]
    if leaks:
        raise DatasetError(
            f"{source}: wanted calibration frames that quality is not measured on, found "
            f"{len(leaks)} of the labelled pictures among them, first: {leaks[0].name}; "
            "calibrate on other pictures"
        )


def _read(
    chosen: list[Candidate], spec: InputSpec, progress: Callable[[int], None] | None
) -> tuple[list[Frame], list[str], list[str]]:
    pictures, names, skipped = [], [], []
    for done, candidate in enumerate(chosen, start=1):
        try:
            pictures.append(pixels.prepare(candidate.load(), spec)[0])
            names.append(candidate.name)
        except DatasetError as error:
            skipped.append(str(error))
        if progress is not None:
            progress(done)
    return pictures, names, skipped


def _frames(candidates: list[Candidate]) -> list[Frame]:
    frames = []
    for candidate in candidates:
        try:
            frames.append(candidate.load())
        except DatasetError:
            continue  # held-back frames only judge; an unreadable one judges nothing
    return frames
