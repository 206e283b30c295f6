"""A Raspberry Pi's camera through picamera2: two streams of one moment, resized by the ISP.

    picamera2           the first camera, picamera2:1 the second
    main                what is shown: 1280x720 unless a size is asked for
    lores               what the network sees, at its size: the CPU resizes nothing

What was asked for may have been adjusted without an error, so format, size, stride and main's
colour space are read back from `camera_configuration()`. "RGB888" is blue, green, red in memory
(the manual says so). The lores stream shows what main shows, squeezed where the proportions differ:
picamera2 crops it like main unless told otherwise, which is what a network that stretches its
frames expects.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable
from concurrent import futures
from typing import Any

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.camera import colors
from edge_seg.camera.buffers import Layout, buffer_of, frame_of, gives
from edge_seg.camera.stream import Request, Stream, Taken
from edge_seg.errors import CameraError

log = logging.getLogger("edge_seg")

MAIN_SIZE = (720, 1280)
LORES_FORMAT = "YUV420"  # the only kind a Pi 4 has there
# libcamera's names say the order in a little-endian word: the first letter is the last byte.
TO_LIBCAMERA = {"bgr": "RGB888", "rgb": "BGR888", "nv12": "NV12", "yuv420": "YUV420"}
FROM_LIBCAMERA = {
    **{name: ours for ours, name in TO_LIBCAMERA.items()},
    **{"XRGB8888": "bgrx", "XBGR8888": "rgbx", "YUYV": "yuyv"},
}
FROM_ENCODING = {"Rec601": "bt601", "Rec709": "bt709", "Rec2020": "bt2020"}
INSTALL = (
    "sudo apt install -y python3-picamera2, and make the environment with "
    "python3 -m venv --system-site-packages (libcamera is not on PyPI)"
)


def driver(text: str, request: Request) -> Callable[[], Stream]:
    """Return what opens `picamera2` or `picamera2:N`. Raises CameraError for another form."""
    found = re.fullmatch(r"picamera2(?::(?://)?(\d+))?", text)
    if found is None:
        raise CameraError(f"wanted picamera2 or picamera2:N, found {text!r}; correct it")
    number = int(found[1] or 0)

    def connect() -> Stream:
        library, colour_space = _library()
        return Picamera2Stream(library, number, request=request, colour_space=colour_space)

    return connect


def _library() -> tuple[Any, Any]:
    """Return the class Picamera2 and the colour space of our planes. Raises CameraError."""
    try:
        import libcamera
        import picamera2
    except ImportError as error:
        where = "" if sys.prefix == sys.base_prefix else f" in the environment {sys.prefix}"
        raise CameraError(
            f"wanted the library picamera2, found none{where} ({error}); {INSTALL}"
        ) from error
    except Exception as error:  # built for another numpy, another libcamera
        raise CameraError(
            f"wanted the library picamera2, found one that does not load: {error}; {INSTALL}, "
            "with numpy as apt has it (pip install --upgrade replaces it)"
        ) from error
    return picamera2.Picamera2, libcamera.ColorSpace.Smpte170m()


class Picamera2Stream:
    """One opened camera. library: the class Picamera2. colour_space: BT.601 as libcamera has it."""

    blocks = 0.0

    def __init__(
        self, library: Any, number: int, *, request: Request, colour_space: Any = None
    ) -> None:
        self._request = request
        self._job: Any = None
        try:
            self._camera = library(number)
        except Exception as error:  # RuntimeError, IndexError: by version
            raise CameraError(
                f"wanted camera {number} of picamera2, found: {error}; look at "
                "`rpicam-hello --list-cameras`, at the cable, and for other programs that use it"
            ) from error
        try:
            self._start(colour_space)
        except BaseException:
            self.close()
            raise

    def _start(self, colour_space: Any) -> None:
        height, width = _even(self._request.size or MAIN_SIZE)
        small = None if self._request.lores is None else _even(self._request.lores)
        if small is not None and (small[0] > height or small[1] > width):
            small = None  # there is nothing to save
        self._lores: Layout | None = None
        try:
            given = self._configure((height, width), small, colour_space)
        except RuntimeError as error:
            if small is None:
                raise
            log.info("picamera2: no second stream: %s", error)
            given = self._configure((height, width), None, colour_space)
        # Of main; of the same kind for lores where both are planes.
        space = given.get("colour_space")
        self._main = _layout(given["main"], self._request.format, space)
        if given.get("lores"):
            layout = _layout(
                given["lores"], None, space if self._main.format in yuv.PLANAR else None
            )
            # One that was adjusted to main's size saves nothing.
            if layout.format in yuv.PLANAR and layout.size < self._main.size:
                self._lores = layout
        self._camera.start()

    def _configure(
        self, size: tuple[int, int], small: tuple[int, int] | None, colour_space: Any
    ) -> dict[str, Any]:
        """Ask for the streams; return what the camera made of it."""
        fps = self._request.fps
        wanted = self._camera.create_video_configuration(
            main={"size": size[::-1], "format": TO_LIBCAMERA[self._request.format]},
            lores=small and {"size": small[::-1], "format": LORES_FORMAT},
            colour_space=colour_space,
            controls={} if fps is None else {"FrameDurationLimits": (round(1e6 / fps),) * 2},
            buffer_count=4,
        )
        self._camera.configure(wanted)
        given: dict[str, Any] = self._camera.camera_configuration()
        return given

    @property
    def describe(self) -> str:
        """Sizes and formats as the camera gives them."""
        (height, width), native = self._main.size, self._main.format
        text = f"picamera2 ({width}x{height} {native}"
        if self._lores is not None:
            text += f", lores {self._lores.size[1]}x{self._lores.size[0]}"
        return text + ")"

    @property
    def fps(self) -> float | None:
        """The rate asked for; the camera's own is not known before frames come."""
        return self._request.fps

    def read(self, seconds: float) -> Taken | None:
        """Return the next frame; None where none came within `seconds`: the wait goes on."""
        if self._job is None:
            self._job = self._camera.capture_request(wait=False)
        try:
            request = self._camera.wait(self._job, timeout=seconds)
        except (TimeoutError, futures.TimeoutError):  # two classes before Python 3.11
            return None
        self._job = None
        try:
            return self._taken(request)
        finally:
            request.release()

    def _taken(self, request: Any) -> Taken:
        stamp = request.get_metadata().get("SensorTimestamp")
        frame = frame_of(request.make_buffer("main"), self._main, self._request.format)
        at = stamp / 1e9 if stamp else None  # nanoseconds
        if self._lores is None:
            return Taken(frame, at)
        native = self._lores.format
        small = frame_of(request.make_buffer("lores"), self._lores, native)
        return Taken(frame, at, small, native)

    def pattern(self) -> Picture | None:
        """Return the colour pattern laid out as the camera said it lays out main."""
        native, (height, width) = self._main.format, self._main.size
        if native == "yuyv":
            return None
        tight = buffer_of(colors.bars(height, width), native)[1].stride
        pad = self._main.stride - tight
        buffer, layout = buffer_of(colors.bars(height, width), native, pad=pad)
        return frame_of(buffer, layout, self._request.format)

    def close(self) -> None:
        """Stop and free the camera; a frame still waited for is given up first."""
        give_up = getattr(self._camera, "cancel_all_and_flush", None)
        if self._job is not None and give_up is not None:
            give_up()
        self._job = None
        self._camera.close()  # stops it, too


def _even(size: tuple[int, int]) -> tuple[int, int]:
    height, width = size
    return height + height % 2, width + width % 2


def _layout(stream: dict[str, Any], wanted: str | None, space: Any) -> Layout:
    """Return how a stream's buffers are to be read, as the camera itself says.

    space: libcamera's ColorSpace of planes, None where nothing is stated.
    """
    native = FROM_LIBCAMERA.get(stream["format"])
    if native is None or (wanted is not None and not gives(native, wanted)):
        raise CameraError(
            f"wanted frames as {wanted or 'yuv420'!r}, found a camera that adjusted them to "
            f"{stream['format']}; ask for another format"
        )
    width, height = stream["size"]
    encoding = getattr(getattr(space, "ycbcrEncoding", None), "name", "")
    levels = getattr(getattr(space, "range", None), "name", "")
    matrix = FROM_ENCODING.get(encoding, "bt601")  # "Null": of colours
    return Layout(native, (height, width), stream["stride"], matrix=matrix, full=levels == "Full")
