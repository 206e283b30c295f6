"""The frames a quantiser sees: chosen from a source, prepared as the runtime prepares them.

    source   a list, a folder of pictures, a clip folder or a video file
    picture  uint8 (h, w, 3), the network's size and colour: `pixels.prepare` of a frame

Unreadable pictures are skipped, named and counted; too many of them, or too few frames, refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_seg import pixels
from edge_seg.calibration.dataset import PICTURE_SUFFIXES, load_image, read_list
from edge_seg.camera import open_source
from edge_seg.errors import DatasetError, FrameError
from edge_seg.spec import InputSpec

Frame = NDArray[np.uint8]
T = TypeVar("T")

COUNT = 100  # frames; past about 100 the figures stop moving
LEAST = 8  # fewer say nothing about the ranges of a network
MOST = 1000  # prepared pictures are held in memory: 1000 of 398x224 take 1.1 GB as floats
HELD_BACK = 50  # frames on which agreement is judged where there are no labels
LEAST_HELD_BACK = 2
SKIP_SHARE = 0.1  # more unreadable pictures than this is not an accident


@dataclass(frozen=True)
class CalibrationSet:
    """What the quantiser sees, and what may be judged on without labels.

    pictures: uint8 (h, w, 3) each. skipped: one sentence per unreadable picture. held_back:
    frames, uint8 (H, W, 3) BGR, that the quantiser does not see.
    """

    pictures: list[Frame]
    skipped: list[str] = field(default_factory=list)
    held_back: list[Frame] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Hash of the pictures, in order, after preparation: what the quantiser really saw."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            digest.update(picture.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Frames:
    """What a source holds. files: one per frame, none for a video. read: yields (index, frame),
    or the error in the frame's place, for indices in rising order.
    """

    count: int
    files: list[Path]
    read: Callable[[list[int]], Iterator[tuple[int, Frame | DatasetError]]]


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
    hold_back: int = 0,
    judged: frozenset[Path] = frozenset(),
    progress: Callable[[int, int], None] | None = None,
) -> CalibrationSet:
    """Choose frames evenly over a source and prepare them.

    count: frames for the quantiser, 8..1000, fewer where the source has fewer. hold_back: frames
    kept from it to judge on. judged: resolved paths of the pictures that quality is measured on;
    any of them in the source is a leak and refused. progress: called with (read, of how many).
    Raises DatasetError (leak, too few frames, too many unreadable), CameraError.
    """
    if not LEAST <= count <= MOST:
        raise DatasetError(f"wanted {LEAST}..{MOST} calibration frames, found {count}; correct it")
    frames = _frames(source)
    _refuse_leak(source, frames.files, judged)
    least = LEAST + (LEAST_HELD_BACK if hold_back else 0)
    if frames.count < least:
        raise DatasetError(
            f"{source}: wanted at least {least} calibration frames, found {frames.count}; "
            "name a larger folder (its own pictures count, not those of folders in it), list or "
            "clip"
        )
    held = min(hold_back, max(LEAST_HELD_BACK, frames.count // 5))
    chosen = spread(range(frames.count), min(count, frames.count - held))
    taken = set(chosen)
    rest = set(spread([i for i in range(frames.count) if i not in taken], held))
    found = CalibrationSet([])
    for done, (index, frame) in enumerate(frames.read(sorted(taken | rest)), start=1):
        if index in taken:
            _add(found, frame, spec)
        elif not isinstance(frame, DatasetError):  # an unreadable one judges nothing
            found.held_back.append(frame)
        if progress is not None:
            progress(done, len(taken) + len(rest))
    _refuse_unreadable(source, found, len(chosen))
    return found


def _add(found: CalibrationSet, frame: Frame | DatasetError, spec: InputSpec) -> None:
    if isinstance(frame, DatasetError):
        found.skipped.append(str(frame))
    else:
        found.pictures.append(pixels.prepare(frame, spec)[0])


def _refuse_unreadable(source: Path, found: CalibrationSet, wanted: int) -> None:
    skipped = found.skipped
    if len(skipped) > max(1, SKIP_SHARE * wanted) or len(found.pictures) < LEAST:
        first = f", first: {skipped[0]}" if skipped else ""
        raise DatasetError(
            f"{source}: wanted {wanted} readable calibration pictures, found {len(skipped)} that "
            f"are not{first}; repair or remove them"
        )


def _frames(source: Path) -> _Frames:
    """Look into a source: pictures by name, a video by counting its frames."""
    if source.is_dir():
        folder = source / "frames" if (source / "frames").is_dir() else source
        try:
            files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
        except OSError as error:
            raise DatasetError(
                f"{folder}: wanted a folder of calibration frames, found: {error.strerror}; "
                "check its permissions"
            ) from error
    elif source.suffix.lower() in (".txt", ".lst", ".list"):
        files = [pair.image for pair in read_list(source)]
    elif source.exists():
        with open_source(source) as video:
            count = sum(1 for _ in video)
        return _Frames(count, [], lambda wanted: _of_video(source, wanted))
    else:
        raise DatasetError(
            f"{source}: wanted a list, folder, clip or video of calibration frames, "
            "found no such file; check the path"
        )
    return _Frames(len(files), files, lambda wanted: _of_files(files, wanted))


def _of_files(files: list[Path], wanted: list[int]) -> Iterator[tuple[int, Frame | DatasetError]]:
    for index in wanted:
        try:
            yield index, pixels.check_frame(load_image(files[index]))
        except DatasetError as error:
            yield index, error
        except FrameError as error:  # readable, but of a form the runtime does not take
            yield index, DatasetError(f"{files[index]}: {error}")


def _of_video(source: Path, wanted: list[int]) -> Iterator[tuple[int, Frame | DatasetError]]:
    among = set(wanted)
    with open_source(source) as video:
        for index, shot in enumerate(video):
            if index in among:
                yield index, shot.frame


def _refuse_leak(source: Path, files: list[Path], judged: frozenset[Path]) -> None:
    leaks = [file for file in files if file.resolve() in judged]
    if leaks:
        raise DatasetError(
            f"{source}: wanted calibration frames that quality is not measured on, found "
            f"{len(leaks)} of the labelled pictures among them, first: {leaks[0]}; "
            "calibrate on other pictures"
        )
