"""Where frames come from: a camera, a video file, a folder of pictures, a list file, a clip folder.

    open_source(source) -> Source       context manager and iterator of Shot

Nothing is skipped in silence. What cannot be opened raises CameraError. Of several pictures those
that cannot be read are left out, each with a line in the log, and listed (`source.unread`); where
none can be, that raises CameraError. A folder's pictures of other formats are left out with one
line that names them; what a live source drops is counted (`source.counters`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_seg.camera import disk
from edge_seg.camera.disk import ON_DISK
from edge_seg.camera.live import LiveSource
from edge_seg.camera.orientation import check_turn, orient
from edge_seg.camera.policy import LIMITS, LiveCounters, LivePolicy
from edge_seg.camera.shots import Shot, Source, shown
from edge_seg.camera.stream import Request, Stream
from edge_seg.errors import CameraError, SettingError
from edge_seg.formats import MAX_SIDE, check_format
from edge_seg.ranges import within

__all__ = [
    "LiveCounters",
    "LivePolicy",
    "LiveSource",
    "Shot",
    "Source",
    "open_source",
    "orient",
]

GSTREAMER = ("csi", "rtsp", "rtsps", "http", "https", "gst")
ACCEPTED = (
    "a camera index (0), /dev/videoN, picamera2, csi://0, rtsp://..., http://..., gst:ELEMENTS, "
    f"fake:, {ON_DISK}"
)


def open_source(
    source: str | int | Path,
    *,
    format: str = "bgr",
    fps: float | None = None,
    rotate: int = 0,
    mirror: bool = False,
    size: tuple[int, int] | None = None,
    lores: tuple[int, int] | None = None,
    policy: LivePolicy | None = None,
) -> Source:
    """Open a camera, video, picture, folder, clip folder or list file.

    source: a camera index (0), /dev/videoN, picamera2, csi://0, rtsp://..., gst:ELEMENTS, fake:,
    or a path. format: of the frames handed out: "bgr", "rgb", or a camera's own "nv12", "yuv420".
    fps: frames per second, 0.001 to 1000, asked of a camera and handed out at most; of pictures on
    disk, which carry no time (default: 30 for a clip's frames/, 1 for a folder or list); a video's
    own times are kept. rotate, mirror: turn every frame clockwise by so many degrees, then swap
    left and right. size: (height, width) asked of a camera; it may give another. lores: (height,
    width) of a second, small stream where the camera has one (picamera2), in `Shot.lores`. policy:
    what a live source does when frames come too fast, too late or not at all.

    Raises CameraError: what was wanted, what was found, what to do; SettingError for an argument
    other than the source. CameraLost, while reading, where a camera that worked is given up.

    >>> with open_source("clip.mkv") as source:                         # doctest: +SKIP
    ...     for shot in source:
    ...         print(shot.name, shot.timestamp, shot.frame.shape)
    """
    check_format(format)
    check_turn(rotate, mirror)
    _check_rate(fps)
    size, lores = _checked_size("size", size), _checked_size("lores", lores)
    _check_policy(policy)
    text = _named(source)
    connect = _driver(text, Request(format=format, size=size, fps=fps, lores=lores))
    opened: Source
    if connect is None:
        opened = disk.open_path(Path(text), format=format, fps=fps)
    else:
        policy = policy or LivePolicy()
        if fps is not None and policy.fps is None:
            policy = replace(policy, fps=fps)
        opened = LiveSource(connect, name=shown(text), policy=policy)
    opened.format = format
    opened.turn(rotate, mirror)
    return opened


def _check_rate(fps: Any) -> None:
    least, most = LIMITS["fps"]
    if fps is not None and not within(fps, least, most):
        raise SettingError(
            f"wanted fps= from {least:g} to {most:g} frames per second, found {fps!r:.40}; correct "
            "it, or leave it out for the source's own rate"
        )


def _checked_size(name: str, size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = size if isinstance(size, (tuple, list)) else ()
    if len(pair) != 2 or not all(within(side, 1, MAX_SIDE, whole=True) for side in pair):
        raise SettingError(
            f"wanted {name}= as (height, width), whole pixels from 1 to {MAX_SIDE}, found "
            f"{size!r:.60}; correct it, or leave it out for the camera's own"
        )
    return int(pair[0]), int(pair[1])


def _check_policy(policy: Any) -> None:
    if policy is not None and not isinstance(policy, LivePolicy):
        raise SettingError(
            f"wanted policy= as a LivePolicy or None, found {policy!r:.60}; a Policy, which says "
            "when a runtime is given up, is for EdgeSegmenter.open"
        )


def _named(source: Any) -> str:
    """Return a source as text. Raises CameraError for what names none, a list of frames too."""
    # As a path an empty name would be the folder one stands in.
    if isinstance(source, str) and not source.strip():
        raise CameraError(f"wanted {ACCEPTED}, found an empty name; is a variable not set?")
    if isinstance(source, (str, os.PathLike)) or within(source, 0, math.inf, whole=True):
        return str(source)
    found = " ".join(f"{source!r:.60}".split())  # an array's lines in one
    raise CameraError(f"wanted {ACCEPTED}, found {found}; for frames of your own call segment()")


def _driver(text: str, request: Request) -> Callable[[], Stream] | None:
    """Return what opens a camera; None where `text` is a path. A driver loads when it is named."""
    device = f"/dev/video{int(text)}" if text.isascii() and text.isdigit() else text
    if re.fullmatch(r"/dev/video[0-9]+", device):
        from edge_seg.camera import v4l2

        return v4l2.driver(device, request)
    scheme, colon, _ = text.partition(":")
    if text == "picamera2" or scheme == "picamera2":
        from edge_seg.camera import picamera2

        return picamera2.driver(text, request)
    if colon and scheme in GSTREAMER:
        from edge_seg.camera import gstreamer

        return gstreamer.driver(text, request)
    if colon and scheme == "fake":
        from edge_seg.camera import fake

        return fake.driver(text, request)
    if re.match(r"[a-z][a-z0-9+.-]+://", text):
        raise CameraError(
            f"wanted {ACCEPTED}, found a URI of kind {scheme!r}: {shown(text)}; correct it"
        )
    return None
