"""What calibration frames are chosen from: a list, a folder of pictures, a clip folder, a video.

Every frame can be looked at reduced, one at a time, in order (`views`), and some of them read whole
afterwards (`read`): a source of any length takes the memory of one frame.

    view   uint8 (h, w, 3) BGR, its shorter side at least VIEW_SIDE where the frame's is
    frame  uint8 (H, W, 3) BGR, as the camera would hand it over
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_seg import formats, pictures, pixels
from edge_seg.arrays import Picture
from edge_seg.calibration.dataset import (
    IGNORE,
    Pair,
    SceneRule,
    clip_scene,
    is_clip,
    load_image,
    load_label,
    read_list,
)
from edge_seg.camera import open_source
from edge_seg.camera.disk import LIST_SUFFIXES
from edge_seg.errors import CameraError, DatasetError, FrameError

VIEW_SIDE = 64  # px: eight cells of eight pixels, and a mean that a detail does not move


@dataclass(frozen=True)
class View:
    """A frame as choosing needs it.

    sha256: of the picture file; "" for a frame of a video. person: share of person among the
    label's pixels that count, 0..1; None where there is no label that can be read.
    """

    picture: Picture = field(repr=False)
    sha256: str = ""
    person: float | None = None


@dataclass(frozen=True)
class Frames:
    """A source looked into. pairs: one per picture, in order; none of a video (one scene)."""

    source: Path
    pairs: list[Pair]
    is_video: bool = False

    def scene(self, index: int) -> str:
        """Return the scene of a frame."""
        return self.source.resolve().as_posix() if self.is_video else self.pairs[index].scene

    def name(self, index: int) -> str:
        """Return a frame's name without the way to the source: that is nobody's business."""
        if self.is_video:
            return f"{self.source.name}#{index:06d}"
        return inner_name(self.pairs[index].image, self.source)

    def views(self, wanted: list[int]) -> Iterator[tuple[int, View | DatasetError]]:
        """Yield (index, view), or the error in its place; wanted: indices in rising order.

        A video is read to its end whatever is wanted: its length is not known before.
        """
        if self.is_video:
            with open_source(self.source) as video:
                for index, shot in enumerate(video):
                    yield index, View(pixels.shrink(shot.frame, _view_size(shot.frame)))
            return
        for index in wanted:
            try:
                yield index, _view(self.pairs[index])
            except DatasetError as error:
                yield index, error

    def read(self, wanted: list[int]) -> Iterator[tuple[int, Picture | DatasetError]]:
        """Yield (index, frame), or the error in its place; wanted: indices in rising order."""
        if self.is_video:
            yield from self._read_video(wanted)
            return
        for index in wanted:
            image = self.pairs[index].image
            try:
                yield index, formats.check_frame(load_image(image))
            except DatasetError as error:
                yield index, error
            except FrameError as error:  # readable, but of a form the runtime does not take
                yield index, DatasetError(f"{image}: {error}")

    def _read_video(self, wanted: list[int]) -> Iterator[tuple[int, Picture]]:
        among, last = set(wanted), max(wanted, default=-1)
        with open_source(self.source) as video:
            for index, shot in enumerate(video):
                if index in among:
                    yield index, shot.frame
                if index >= last:
                    return


def open_frames(source: Path, *, scene: SceneRule = clip_scene) -> Frames:
    """Look into a source; nothing is decoded yet. scene: the rule for pictures.

    Raises DatasetError: no such file, a folder that cannot be read, a list's wrong line.
    """
    if source.is_dir():
        return Frames(source, _of_folder(source, scene))
    if source.suffix.lower() in LIST_SUFFIXES:
        return Frames(source, read_list(source, scene=scene))
    if source.exists():
        return Frames(source, [], is_video=True)
    raise DatasetError(
        f"{source}: wanted a list, folder, clip or video of calibration frames, "
        "found no such file; check the path"
    )


def inner_name(path: Path, source: Path) -> str:
    """Return a picture's path relative to its source's folder; what lies elsewhere, by name."""
    folder = os.path.abspath(source if source.is_dir() else source.parent)
    try:
        return Path(os.path.abspath(path)).relative_to(folder).as_posix()
    except ValueError:
        return path.name


def _of_folder(source: Path, scene: SceneRule) -> list[Pair]:
    """The pictures of a folder or clip, in name order, with a clip's masks where it has them."""
    clip = is_clip(source)
    folder = source / "frames" if clip else source
    try:
        files = sorted(path for path in folder.iterdir() if pictures.is_named_picture(path))
    except OSError as error:
        raise DatasetError(
            f"{folder}: wanted a folder of calibration frames, found: {error.strerror}; "
            "check its permissions"
        ) from error
    if not clip:
        return [Pair(file, None, scene(file)) for file in files]
    name = source.resolve().as_posix()
    masks = {file: source / "masks" / f"{file.stem}.png" for file in files}
    return [Pair(f, masks[f] if masks[f].is_file() else None, name) for f in files]


def _view(pair: Pair) -> View:
    """Look at a picture, reduced by its decoder where that is cheaper. Raises DatasetError."""
    try:
        data = pictures.picture_bytes(pair.image)
        picture = pictures.decode_picture(data, pair.image, side=VIEW_SIDE)
        formats.check_frame(picture)
    except CameraError as error:
        raise DatasetError(str(error)) from None
    except FrameError as error:
        raise DatasetError(f"{pair.image}: {error}") from None
    small = pixels.shrink(picture, _view_size(picture))
    return View(small, hashlib.sha256(data).hexdigest(), person_share(pair.label))


def _view_size(frame: Picture) -> tuple[int, int]:
    """(height, width) of the view of a frame: its shorter side VIEW_SIDE, never enlarged."""
    height, width = frame.shape[:2]
    scale = min(1.0, VIEW_SIDE / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def person_share(label: Path | None) -> float | None:
    """Return the share of person among a label's pixels that count, 0..1.

    None without a label, or with one that cannot be read: it only helps to choose.
    """
    if label is None:
        return None
    try:
        plane = load_label(label)
    except DatasetError:
        return None
    counted = plane.size - int(np.count_nonzero(plane == IGNORE))
    return int(np.count_nonzero(plane == 1)) / counted if counted else None
