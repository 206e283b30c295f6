"""Where frames come from: a camera, a video file, a folder of pictures, a list file, a clip folder.

    open_source(source) -> Source       context manager and iterator of Shot
    Shot.frame       uint8 (H, W, 3), "bgr" or "rgb" as asked
    Shot.timestamp   seconds, float, strictly increasing, any origin
    Shot.name        the picture's stem, or %06d counted from 0 for video and cameras

Nothing is skipped in silence: whatever cannot be read raises CameraError and is named.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg import yuv
from edge_seg.errors import CameraError, CameraLost, DatasetError, FrameError
from edge_seg.pictures import PICTURE_SUFFIXES, in_natural_order, read_list, read_picture

log = logging.getLogger("edge_seg")
Picture = NDArray[np.uint8]

LIST_SUFFIXES = (".txt", ".lst", ".list")
CLIP_FPS = 30.0  # frames/ of a clip carry no time
PICTURE_FPS = 1.0  # unrelated pictures shown as a video: one a second
CUT_SHORT = 0.9  # of the frames a header announces; headers of whole files are wrong by one or two
MAX_FPS = 240.0  # above that a header counts ticks, not frames
VIDEO_FPS = 30.0  # where a container states none
TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
ACCEPTED = (
    "a camera index (0), /dev/videoN, a video file, a folder of pictures, a clip folder with "
    f"frames/, or a list file ({', '.join(LIST_SUFFIXES)})"
)
LATER = ("picamera2", "csi:", "rtsp:", "rtsps:", "http:", "https:")


@dataclass(frozen=True)
class Shot:
    """One frame with its time (seconds) and its name."""

    frame: Picture
    timestamp: float
    name: str


class Source:
    """Frames in order; made by `open_source`, closed by `close` or `with`.

    live: a camera (frames come whether or not they are read). moving: consecutive frames belong
    together (video, clip, camera), so a smoother may be used. fps: nominal rate, None where
    unknown. count: number of frames, None where unknown (a video's header may be wrong by one).
    names: the frames' names where known beforehand. describe: for people.
    """

    def __init__(
        self,
        shots: Iterator[Shot],
        *,
        describe: str,
        live: bool = False,
        moving: bool = True,
        fps: float | None = None,
        names: tuple[str, ...] | None = None,
        count: int | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.describe = describe
        self.live = live
        self.moving = moving
        self.fps = fps
        self.names = names
        self.count = len(names) if names is not None else count
        self._shots = shots
        self._close = close

    def __iter__(self) -> Iterator[Shot]:
        return self._shots

    def __next__(self) -> Shot:
        return next(self._shots)

    def close(self) -> None:
        """Free the camera or file; may be called twice."""
        close, self._close = self._close, None
        self._shots = iter(())
        if close is not None:
            close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_source(
    source: str | int | Path, *, format: str = "bgr", fps: float | None = None
) -> Source:
    """Open a camera index, /dev/videoN, video, picture, folder, clip folder or list file.

    format: "bgr" or "rgb", of the frames handed out. fps: frames per second of pictures on disk,
    which carry no time (default: 30 for a clip's frames/, 1 for a folder or list); a video's and
    a camera's own times are kept.

    Raises CameraError: what was wanted, what was found, what to do. CameraLost, while reading,
    where a camera that worked stops.

    >>> with open_source("clip.mkv") as source:                         # doctest: +SKIP
    ...     for shot in source:
    ...         print(shot.name, shot.timestamp, shot.frame.shape)
    """
    if format not in ("bgr", "rgb"):
        raise FrameError(f"wanted a frame format in ('bgr', 'rgb'), found {format!r}")
    text = str(source)
    if text.startswith(LATER):
        raise CameraError(
            f"wanted frames from {text!r}; this version reads {ACCEPTED}: "
            "use one of these (picamera2, csi and rtsp come with a later version)"
        )
    if text.isascii() and text.isdigit():
        return _camera(f"/dev/video{int(text)}", int(text), format)
    if re.fullmatch(r"/dev/video[0-9]+", text):
        return _camera(text, int(text.removeprefix("/dev/video")), format)
    path = Path(text)
    if path.is_dir():
        return _folder(path, format, fps)
    if not path.is_file():
        raise CameraError(
            f"{text}: wanted {ACCEPTED}, found no such file or folder; check the path"
        )
    suffix = path.suffix.lower()
    if suffix in LIST_SUFFIXES:
        return _list(path, format, fps)
    if suffix in PICTURE_SUFFIXES:
        return _pictures([path], str(path), format=format, fps=fps or PICTURE_FPS)
    return _video(path, format)


def orient(
    frame: Picture, *, rotate: int = 0, mirror: bool = False, format: str = "bgr"
) -> Picture:
    """Turn a frame clockwise by 0, 90, 180 or 270 degrees, then mirror it left to right."""
    if rotate not in (0, *TURNS):
        raise FrameError(f"wanted a rotation of 0, 90, 180 or 270 degrees, found {rotate}")
    if not rotate and not mirror:
        return frame
    if format in yuv.PLANAR:
        return yuv.join([_turn(p, rotate, mirror) for p in yuv.planes(frame, format)])
    return _turn(frame, rotate, mirror)


def _turn(plane: Picture, rotate: int, mirror: bool) -> Picture:
    if rotate:
        plane = cv2.rotate(plane, TURNS[rotate])
    return cv2.flip(plane, 1) if mirror else plane


def _folder(path: Path, format: str, fps: float | None) -> Source:
    clip = path / "frames"
    folder, moving = (clip, True) if clip.is_dir() else (path, False)
    try:
        found = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
    except OSError as error:
        raise CameraError(
            f"{folder}: wanted a folder of pictures, found: {error.strerror}; check its permissions"
        ) from error
    if not found:
        raise CameraError(
            f"{folder}: wanted pictures ({', '.join(PICTURE_SUFFIXES)}), found none; check the path"
        )
    rate = fps or (CLIP_FPS if moving else PICTURE_FPS)
    describe = f"{path} ({len(found)} {'frames' if moving else 'pictures'})"
    found.sort(key=in_natural_order)
    return _pictures(found, describe, format=format, fps=rate, moving=moving)


def _list(path: Path, format: str, fps: float | None) -> Source:
    try:
        found = [picture for picture, _ in read_list(path)]
    except DatasetError as error:
        raise CameraError(str(error)) from error
    describe = f"{path} ({len(found)} pictures)"
    return _pictures(found, describe, format=format, fps=fps or PICTURE_FPS)


def _pictures(
    paths: list[Path], describe: str, *, format: str, fps: float, moving: bool = False
) -> Source:
    def shots() -> Iterator[Shot]:
        for index, path in enumerate(paths):
            yield Shot(_ordered(read_picture(path), format), index / fps, path.stem)

    names = tuple(p.stem for p in paths)
    return Source(shots(), describe=describe, moving=moving, fps=fps, names=names)


def _ordered(frame: Picture, format: str) -> Picture:
    return frame if format == "bgr" else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


# --- video and cameras ---------------------------------------------------------------------------


def _video(path: Path, format: str) -> Source:
    capture = cv2.VideoCapture(str(path))
    ok, first = capture.read() if capture.isOpened() else (False, None)
    if not ok or first is None:
        capture.release()
        raise CameraError(
            f"{path}: wanted {ACCEPTED}, found a file that holds no video this OpenCV can read; "
            "check it with a player, or copy it again"
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    known = math.isfinite(fps) and 0 < fps <= MAX_FPS
    rate = float(fps) if known else VIDEO_FPS
    stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(stated) if math.isfinite(stated) and 0 < stated < 1e9 else None
    shots = _video_shots(capture, first, format=format, fps=rate)
    return Source(
        _counted(shots, path, count),
        describe=f"{path} ({first.shape[1]}x{first.shape[0]}, {rate:g} fps)",
        fps=rate if known else None,
        count=count,
        close=capture.release,
    )


def _counted(shots: Iterator[Shot], path: Path, count: int | None) -> Iterator[Shot]:
    """Pass frames on; say so where a video ends well before its header's number of them."""
    read = 0
    for read, shot in enumerate(shots, 1):  # noqa: B007 - counted, used after the loop
        yield shot
    if count is not None and read < CUT_SHORT * count:
        log.warning(
            "%s: wanted about %d frames as its header says, found %d: the file may be cut short",
            *(path, count, read),
        )


def _video_shots(
    capture: cv2.VideoCapture, first: Picture, *, format: str, fps: float
) -> Iterator[Shot]:
    index, timestamp = 0, -math.inf
    frame: Picture | None = first
    while frame is not None:
        stated = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        # A container may repeat, omit or turn back its times; a smoother needs them to grow.
        after = timestamp + 1.0 / fps
        later = math.isfinite(stated) and stated > timestamp and (index == 0 or stated > 0)
        timestamp = stated if later else (after if index else 0.0)
        yield Shot(_ordered(frame, format), timestamp, f"{index:06d}")
        ok, frame = capture.read()
        index, frame = index + 1, frame if ok else None


def _camera(device: str, index: int, format: str) -> Source:
    if sys.platform.startswith("linux"):
        _check_device(Path(device))
    capture = cv2.VideoCapture(index)
    ok, first = capture.read() if capture.isOpened() else (False, None)
    if not ok or first is None:
        capture.release()
        raise CameraError(
            f"{device}: wanted frames, found a device that gives none: it may be in use by another "
            "program, or be no camera (a Pi's CSI camera is not read through /dev/video in this "
            "version); close other programs, or try another /dev/videoN"
        )
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Source(
        _camera_shots(capture, first, format=format, device=device),
        describe=f"camera {device} ({first.shape[1]}x{first.shape[0]})",
        live=True,
        fps=float(fps) if math.isfinite(fps) and 0 < fps <= MAX_FPS else None,
        close=capture.release,
    )


def _check_device(device: Path) -> None:
    if not device.exists():
        there = sorted(Path("/dev").glob("video*"), key=in_natural_order)
        found = ", ".join(map(str, there)) if there else "no camera at all (/dev/video* is empty)"
        raise CameraError(
            f"wanted camera {device}, found {found}; plug it in, or name one that is there"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        raise CameraError(
            f"wanted camera {device}, found that this user may not open it; "
            "add the user to the group `video`: sudo usermod -aG video $USER, then log in again"
        )


def _camera_shots(
    capture: cv2.VideoCapture, first: Picture, *, format: str, device: str
) -> Iterator[Shot]:
    frame, index, last = first, 0, -math.inf
    while True:
        last = max(time.monotonic(), math.nextafter(last, math.inf))
        yield Shot(_ordered(frame, format), last, f"{index:06d}")
        ok, frame = capture.read()
        index += 1
        if not ok:
            raise CameraLost(
                f"{device}: wanted the next frame, found that the camera stopped after {index}; "
                "check the cable and start again"
            )
