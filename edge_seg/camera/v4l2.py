"""/dev/videoN through OpenCV: USB cameras, and whatever else has a V4L2 driver.

Times are the driver's own (a frame's first moment on the monotonic clock, for most). OpenCV hands
out colours only: for a camera's own planes use GStreamer (`gst:v4l2src device=/dev/video0`).
Left to itself OpenCV takes uncompressed frames first, and USB 2 carries few large ones: 1280x720
comes at 10 frames a second. So where more is asked for than it carries, Motion JPEG is asked for;
a camera without it keeps what it has (opencv, modules/videoio/src/cap_v4l.cpp).
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2

from edge_seg import yuv
from edge_seg.camera.shots import known_fps
from edge_seg.camera.stream import Request, Stream, Taken
from edge_seg.errors import CameraError, CameraLost, SettingError
from edge_seg.pictures import in_natural_order

UNCOMPRESSED = 640 * 480, 30.0  # pixels, frames a second: what USB 2 carries of them
MOTION_JPEG = cv2.VideoWriter.fourcc(*"MJPG")


def driver(device: str, request: Request) -> Callable[[], Stream]:
    """Return what opens /dev/videoN as asked. Raises SettingError for a format it cannot give."""
    if request.format in yuv.PLANAR:
        raise SettingError(
            f"{device}: wanted frames as {request.format!r}, found that OpenCV gives colours only; "
            f"use gst:v4l2src device={device}, or ask for bgr or rgb"
        )

    def connect() -> Stream:
        interface = cv2.CAP_ANY
        if sys.platform.startswith("linux"):
            check_device(Path(device))
            interface = cv2.CAP_V4L2  # or OpenCV may take GStreamer: no driver's times
        index = int(device.removeprefix("/dev/video"))
        return V4l2Stream(cv2.VideoCapture(index, interface), device=device, request=request)

    return connect


class V4l2Stream:
    """One opened device. capture: a cv2.VideoCapture, which is closed by `close`."""

    blocks = 10.0  # OpenCV's wait for a frame (OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT)

    def __init__(self, capture: Any, *, device: str, request: Request) -> None:
        self._capture, self._device, self._format = capture, device, request.format
        self._stamped = True
        if capture.isOpened():
            self._ask(request)
        self._first = self._read()
        if self._first is None:
            capture.release()
            raise CameraError(
                f"{device}: wanted frames, found a device that gives none: it may be in use by "
                "another program, or be no camera (a Pi's CSI camera is picamera2, not a "
                "/dev/video); close other programs, or try another /dev/videoN"
            )
        height, width = self._first.frame.shape[:2]
        self.describe = f"camera {device} ({width}x{height})"
        self.fps = known_fps(capture.get(cv2.CAP_PROP_FPS))

    def _ask(self, request: Request) -> None:
        height, width = request.size or (0, 0)
        pixels, rate = UNCOMPRESSED
        wanted: dict[int, float | None] = {}  # in this order: a size is looked up in a format
        if height * width > pixels or (request.fps or 0) > rate:
            wanted[cv2.CAP_PROP_FOURCC] = MOTION_JPEG
        if request.size is not None:
            wanted |= {cv2.CAP_PROP_FRAME_HEIGHT: height, cv2.CAP_PROP_FRAME_WIDTH: width}
        wanted[cv2.CAP_PROP_FPS] = request.fps
        for what, value in wanted.items():
            if value is not None:
                self._capture.set(what, value)

    def _read(self) -> Taken | None:
        ok, frame = self._capture.read()
        if not ok or frame is None:
            return None
        if self._format == "rgb":
            frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        stamp = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0
        # Some drivers and OpenCV's other camera interfaces leave it at 0 or -1.
        self._stamped = self._stamped and math.isfinite(stamp) and stamp > 0
        return Taken(frame, stamp if self._stamped else None)

    def read(self, seconds: float) -> Taken | None:
        """Return the next frame; OpenCV waits as long as it likes. Raises CameraLost."""
        first, self._first = self._first, None
        taken = first or self._read()
        if taken is None:
            raise CameraLost(
                f"{self._device}: wanted the next frame, found that the camera stopped; "
                "check the cable"
            )
        return taken

    def pattern(self) -> None:
        """Return nothing: OpenCV hands out its own order, and no picture can be put in its way."""

    def close(self) -> None:
        """Free the device."""
        self._capture.release()


def check_device(device: Path) -> None:
    """Raise CameraError where the device is not there, or may not be opened by this user."""
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
