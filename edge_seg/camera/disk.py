"""Frames from files: a video, a picture, a folder of pictures, a clip folder, a list file."""

from __future__ import annotations

import errno
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.camera.shots import Shot, Source, known_fps
from edge_seg.errors import CameraError, DatasetError, SettingError
from edge_seg.files import is_utf8
from edge_seg.formats import MAX_PIXELS, MAX_SIDE
from edge_seg.pictures import (
    PICTURE_SUFFIXES,
    decode_picture,
    in_natural_order,
    is_animated,
    is_named_picture,
    picture_bytes,
    read_list,
)

log = logging.getLogger("edge_seg")

LIST_SUFFIXES = (".txt", ".lst", ".list")
# Pictures whose size is not known before they take memory (`pictures.picture_size`), or that this
# OpenCV may not read.
OTHER_PICTURES = (
    *(".tif", ".tiff", ".gif", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".jfif", ".jpe"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".psd", ".ppm", ".pgm", ".pnm", ".exr"),
)
MAY_MOVE = (".gif", ".avif")  # of these, what is read as a video where it is named itself
LOST = (  # what reading gives once a stick is pulled out or a share is gone; no descriptors left
    *(errno.EIO, errno.ENODEV, errno.ESTALE, errno.ENOTCONN),
    *(errno.EMFILE, errno.ENFILE),
)
FEW = 3  # names that a line about several files holds
CLIP_FPS = 30.0  # frames/ of a clip carry no time
PICTURE_FPS = 1.0  # unrelated pictures shown as a video: one a second
LEAST_FPS = 0.1  # packets without times look like hours between two
EBML = b"\x1aE\xdf\xa3"  # how a Matroska file, and so a WebM, begins
CUT_SHORT = 0.9  # of the frames a header announces; headers of whole files are wrong by one or two
VIDEO_FPS = 30.0  # where a container states none, and no times either
MOST_DAMAGED = 300  # frames in a row before it is the end: ten seconds, a usual key frame's reach
AV1 = "av01"  # FFmpeg's name; the wheels of OpenCV open such a video and have no decoder for it
ON_DISK = (
    "a video file, a picture, a folder of pictures, a clip folder with frames/, or a list file "
    f"({', '.join(LIST_SUFFIXES)})"
)


def open_path(path: Path, *, format: str, fps: float | None) -> Source:
    """Open a file or folder; `open_source` says what the arguments are. Raises CameraError."""
    if format in yuv.PLANAR:
        raise SettingError(
            f"{path}: wanted frames as {format!r}, found a source that is decoded to colours; "
            "ask for bgr or rgb"
        )
    try:
        is_folder, is_file, is_there = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # a folder above it one may not enter, a name too long for the disk
        raise CameraError(
            f"{path}: wanted a camera, {ON_DISK}, found: {error.strerror or error}; check the path "
            "and its permissions"
        ) from error
    if is_folder:
        return _folder(path, format, fps)
    if not is_there:
        raise CameraError(
            f"{path}: wanted a camera, {ON_DISK}, found no such file or folder; check the path"
        )
    if not is_file:
        raise CameraError(
            f"{path}: wanted a camera, {ON_DISK}, found a pipe or a device; write what comes from "
            "it to a file first"
        )
    suffix = path.suffix.lower()
    if suffix in LIST_SUFFIXES:
        return _list(path, format, fps)
    if suffix in (*PICTURE_SUFFIXES, *OTHER_PICTURES) and suffix not in MAY_MOVE:
        return _pictures([path], str(path), format=format, fps=fps or PICTURE_FPS)
    return _video(path, format)


def _folder(path: Path, format: str, fps: float | None) -> Source:
    clip = path / "frames"
    # os.path: Path.is_dir raises in a folder one may not enter; iterdir says so below.
    folder, moving = (clip, True) if os.path.isdir(clip) else (path, False)
    try:
        files = sorted(folder.iterdir(), key=in_natural_order)
    except OSError as error:
        raise CameraError(
            f"{folder}: wanted a folder of pictures, found: {error.strerror}; check its permissions"
        ) from error
    found = [path for path in files if is_named_picture(path)]
    if not found:
        raise CameraError(
            f"{folder}: wanted pictures ({', '.join(PICTURE_SUFFIXES)}), found {_instead(files)}"
        )
    if others := _others(files):
        log.warning(
            "%s: wanted pictures as %s, found %s: left out; convert them to have them too",
            *(folder, ", ".join(PICTURE_SUFFIXES), others),
        )
    rate = fps or (CLIP_FPS if moving else PICTURE_FPS)
    describe = f"{path} ({len(found)} {'frames' if moving else 'pictures'})"
    return _pictures(found, describe, format=format, fps=rate, moving=moving)


def _instead(files: list[Path]) -> str:
    """Say what a folder without a picture holds, and what to do."""
    if others := _others(files):
        return f"{others}: convert them"
    inner = [p.name for p in files if p.is_dir() and not p.name.startswith(".")]
    return f"none, but folders ({_few(inner)}); name one" if inner else "none; check the path"


def _others(files: list[Path]) -> str:
    """Say which of a folder's files are pictures of formats that are not read; "" for none."""
    names = [p.name for p in files if is_named_picture(p, OTHER_PICTURES)]
    return f"{len(names)} of other formats ({_few(names)})" if names else ""


def _few(names: list[str]) -> str:
    return ", ".join([*names[:FEW], *(["..."] if len(names) > FEW else [])])


def _list(path: Path, format: str, fps: float | None) -> Source:
    try:
        pairs = read_list(path)
    except DatasetError as error:
        raise CameraError(str(error)) from error
    source = _pictures(
        [picture for picture, _ in pairs],
        f"{path} ({len(pairs)} pictures)",
        format=format,
        fps=fps or PICTURE_FPS,
    )
    source.labels = tuple(label for _, label in pairs if label is not None)
    return source


def _pictures(
    paths: list[Path], describe: str, *, format: str, fps: float, moving: bool = False
) -> Source:
    unread: list[Path] = []

    def shots() -> Iterator[Shot]:
        for index, path in enumerate(paths):
            try:
                picture = _picture(path)
            except CameraError as error:
                if len(paths) == 1 or _is_lost(error):
                    raise
                unread.append(path)
                _check_some_are_left(paths, unread, error)
                log.warning("left out: %s", error)
                continue
            yield Shot(_ordered(picture, format), index / fps, path.stem)

    source = Source(shots(), describe=describe, moving=moving, fps=fps, files=tuple(paths))
    source.unread = unread
    return source


def _is_lost(error: CameraError) -> bool:
    """True where the disk or the process, not the picture, is why it cannot be read."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in LOST


def _check_some_are_left(paths: list[Path], unread: list[Path], error: CameraError) -> None:
    """Raise where no picture can be read, or none any more: a stick was pulled out."""
    if len(unread) == len(paths):
        raise CameraError(f"of {len(paths)} pictures none can be read; the last: {error}")
    if not os.path.isdir(unread[-1].parent):
        raise CameraError(f"{error} (the folder {unread[-1].parent} is gone)")


def _picture(path: Path) -> Picture:
    data = picture_bytes(path)
    if is_animated(data):
        log.warning(
            "%s: wanted one picture, found an animation: its first frame alone is read; "
            "convert it to a video or a GIF to have the others",
            path,
        )
    return decode_picture(data, path)


def _ordered(frame: Picture, format: str) -> Picture:
    return frame if format == "bgr" else cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


# --- video ---------------------------------------------------------------------------------------


def _video(path: Path, format: str) -> Source:
    place = os.path.abspath(path)  # FFmpeg would take what is before a colon for a protocol
    if not is_utf8(Path(place)):  # OpenCV would take the process down
        raise CameraError(
            f"{path}: wanted a video's name in UTF-8, found another encoding; rename it, or the "
            "folder that has it"
        )
    capture = cv2.VideoCapture(place)
    try:
        first, damaged = _first(capture, path)
    except CameraError:
        capture.release()
        raise
    fps = known_fps(capture.get(cv2.CAP_PROP_FPS))
    if fps is None:  # then FFmpeg's number of frames is that of its clock's ticks
        fps, count = _measured(path)
    else:
        count = _stated_count(capture, path)
    rate = fps or VIDEO_FPS

    def left_out(frames: int) -> int:
        source.damaged += frames
        return source.damaged

    shots = _video_shots(capture, first, left_out, path=path, format=format, fps=rate)
    source = Source(
        _counted(shots, path, count, rate),
        describe=f"{path} ({first.shape[1]}x{first.shape[0]}, {rate:g} fps)",
        fps=fps,
        count=count,
        close=capture.release,
    )
    source.damaged = damaged
    return source


def _first(capture: cv2.VideoCapture, path: Path) -> tuple[Picture, int]:
    """Return (the first frame, how many damaged ones before it).

    The size is looked at before a frame takes memory.
    """
    if not capture.isOpened():
        raise CameraError(
            f"{path}: wanted {ON_DISK}, found a file that holds no video this OpenCV can read; "
            "check it with a player, or copy it again"
        )
    sides = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    _check_size(path, *sides)
    codec = _codec(capture)
    av1 = codec.lower() == AV1
    first, damaged = _next_whole(capture, 1 if av1 else MOST_DAMAGED)  # each try prints a line
    if first is None:
        found = "for which it has no decoder" if av1 else "of which it decodes no frame"
        raise CameraError(
            f"{path}: wanted a video this OpenCV can decode, found {codec} {found}; if a player "
            "shows the file, convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    return first, damaged


def _codec(capture: cv2.VideoCapture) -> str:
    """Return the four letters by which FFmpeg names what a video is coded with."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
    letters = "".join(c for c in code.to_bytes(4, "little").decode("latin-1") if c.isprintable())
    return letters.strip() or "codec"


def _next_whole(capture: cv2.VideoCapture, most: int = MOST_DAMAGED) -> tuple[Picture | None, int]:
    """Return (the next frame that can be decoded, how many before it could not); None: the end.

    A damaged frame reads like the end of the video; but behind the end nothing comes any more.
    """
    for damaged in range(most):
        ok, frame = capture.read()
        if ok:
            return frame, damaged
    return None, 0


def _stated_count(capture: cv2.VideoCapture, path: Path) -> int | None:
    """Return a video's number of frames as its header has it; call it after the first frame.

    FFmpeg makes it of the duration, and a WebM or MKV of a stream that ran before counts that from
    the stream's beginning, not from its own first frame.
    """
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    with path.open("rb") as file:
        matroska = file.read(4) == EBML
    before = getattr(cv2, "CAP_PROP_PTS", None)  # in frames; since OpenCV 4.12
    if matroska and before is not None and 0 < capture.get(before) < count:
        count -= capture.get(before)
    return int(count) if math.isfinite(count) and 0 < count < 1e9 else None


def _measured(path: Path) -> tuple[float | None, int | None]:
    """Return (mean rate, number of frames) of a video that states no rate, as browsers record.

    By its packets' times, without decoding; None for what they do not tell.
    """
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    times = []
    while capture.isOpened() and capture.grab():
        times.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0)
    capture.release()
    span = max(times, default=0.0) - min(times, default=0.0)
    mean = (len(times) - 1) / span if span > 0 else 0.0
    return known_fps(mean) if mean >= LEAST_FPS else None, len(times) or None


def _check_size(path: Path, width: float, height: float) -> None:
    """Raise CameraError for frames the segmenter would refuse; a header may hold no size."""
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise CameraError(
            f"{path}: wanted a video of at most {MAX_PIXELS} pixels and {MAX_SIDE} a side, found "
            f"{width:.0f}x{height:.0f}; reduce it"
        )


def _counted(shots: Iterator[Shot], path: Path, count: int | None, fps: float) -> Iterator[Shot]:
    """Pass frames on; say so where a video ends well before its header's number of them.

    And before its time: where that number is only the duration's at a steady rate, it is too high
    for a video whose rate varies.
    """
    read, until = 0, 0.0
    for read, shot in enumerate(shots, 1):  # noqa: B007 - counted, used after the loop
        _check_size(path, *shot.frame.shape[1::-1])  # a header may say less than frames have
        until = shot.timestamp + 1.0 / fps
        yield shot
    if count is not None and read < CUT_SHORT * count and until < CUT_SHORT * count / fps:
        log.warning(
            "%s: wanted about %d frames as its header says, found %d: the file may be cut short",
            path,
            count,
            read,
        )


def _video_shots(
    capture: cv2.VideoCapture,
    first: Picture,
    left_out: Callable[[int], int],
    *,
    path: Path,
    format: str,
    fps: float,
) -> Iterator[Shot]:
    """Yield the frames. left_out: told of damaged ones, it returns how many there are by now."""
    index, timestamp = 0, -math.inf
    frame: Picture | None = first
    while frame is not None:
        stated = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        # A container may repeat, omit or turn back its times; a smoother needs them to grow.
        after = timestamp + 1.0 / fps
        later = math.isfinite(stated) and stated > timestamp and (index == 0 or stated > 0)
        timestamp = stated if later else (after if index else 0.0)
        yield Shot(_ordered(frame, format), timestamp, f"{index:06d}")
        frame, damaged = _next_whole(capture)
        left_out(damaged)
        index += 1
    if count := left_out(0):
        log.warning(
            "%s: wanted every frame, found %d damaged: left out, those behind them were read; copy "
            "the file again to have them",
            path,
            count,
        )
