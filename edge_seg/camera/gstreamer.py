"""Network cameras, CSI cameras and any GStreamer pipeline, through GStreamer's own Python bindings.

    rtsp://HOST/PATH, rtsps://, http://, https://      whatever GStreamer can open and decode
    csi://0                                            a Jetson's or (by libcamera) a Pi's camera
    gst:ELEMENTS                                       the head of a pipeline: gst:videotestsrc

It does not matter how OpenCV was built. Only the newest frame waits in the pipeline; frames keep
the times of its clock. Planes ("nv12", "yuv420") come as they are where the source has them; where
their caps state other colours than BT.601 in video range (`colorimetry=`; GStreamer takes BT.709
for what is higher than 576 rows and states none), they are brought to it here: videoconvert takes
four times as long for another matrix, and between planes passes another range on as it is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.camera import colors
from edge_seg.camera.buffers import Layout, frame_of
from edge_seg.camera.shots import shown
from edge_seg.camera.stream import Request, Stream, Taken
from edge_seg.errors import CameraError, CameraLost

TO_GST = {"bgr": "BGR", "rgb": "RGB", "nv12": "NV12", "yuv420": "I420"}
FULL_RANGE = 1  # GST_VIDEO_COLOR_RANGE_0_255, a name that is none in Python
LATENCY = 200  # ms a network stream is held back to smooth its jitter; GStreamer's default is 2000
TAIL = (
    "videoconvert name=convert ! video/x-raw,format={format} ! "
    "appsink name=sink max-buffers=1 drop=true sync=false"
)
# A Jetson decodes into its own memory, video/x-raw(memory:NVMM), which videoconvert cannot read;
# nvvidconv copies out of it, and takes what another decoder leaves in ordinary memory as well.
DECODED = "uridecodebin name=source"
COPIED = "nvvidconv ! video/x-raw,format=(string){BGRx,NV12,I420}"
PATTERN = "appsrc name=source is-live=true format=time caps={caps} ! "
INSTALL = (
    "sudo apt install -y python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base "
    "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad, and make the environment with "
    "python3 -m venv --system-site-packages"
)
# element, head of the pipeline: the first whose element is here. {n}: the camera's number.
CSI = (
    (
        "nvarguscamerasrc",  # Jetson: its ISP's memory, copied out by nvvidconv
        "nvarguscamerasrc sensor-id={n} ! video/x-raw(memory:NVMM){size}{rate} ! nvvidconv ! "
        "video/x-raw,format=(string){{BGRx,NV12}}",
    ),
    ("libcamerasrc", "libcamerasrc ! video/x-raw{size}{rate}"),
)


def driver(text: str, request: Request) -> Callable[[], Stream]:
    """Return what opens a URI or pipeline. Raises CameraError for a form that means nothing."""
    scheme, _, rest = text.partition(":")
    if scheme == "csi" and re.fullmatch(r"//\d+", rest) is None:
        raise CameraError(f"wanted csi://N with the camera's number, found {text!r}; correct it")
    if scheme == "gst" and not rest.strip():
        raise CameraError(
            "wanted gst:ELEMENTS, such as gst:v4l2src device=/dev/video0, found none; name them"
        )

    def connect() -> Stream:
        return GstreamerStream(_library(), text, request=request)

    return connect


def _library() -> Any:
    """Return the namespace Gst, initialised. Raises CameraError where it is not here."""
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        gi.require_version("GstVideo", "1.0")
        from gi.repository import Gst, GstApp, GstVideo  # noqa: F401 - GstApp: for appsink's methods
    except (ImportError, ValueError) as error:
        where = "" if sys.prefix == sys.base_prefix else f" in the environment {sys.prefix}"
        raise CameraError(
            f"wanted GStreamer's Python bindings, found none{where} ({error}); {INSTALL}"
        ) from error
    Gst.init(None)
    return Gst


class GstreamerStream:
    """One running pipeline. gst: the namespace `gi.repository.Gst`."""

    blocks = 0.0

    def __init__(self, gst: Any, text: str, *, request: Request) -> None:
        self._gst, self._text, self._request = gst, text, request
        self._size: tuple[int, int] | None = None
        self.fps: float | None = request.fps
        self._pipeline = self._build()
        self._sink = self._pipeline.get_by_name("sink")
        self._bus = self._pipeline.get_bus()
        if self._pipeline.set_state(gst.State.PLAYING) == gst.StateChangeReturn.FAILURE:
            error = self._complaint() or "it would not start"
            self.close()
            raise CameraError(
                f"{shown(text)}: wanted a running pipeline, found: {error}; correct it"
            )

    def _build(self) -> Any:
        gst, text = self._gst, self._text
        scheme, _, rest = text.partition(":")
        uri = scheme not in ("gst", "csi")
        if uri:
            head = _decoded(gst)
        else:
            head = (
                rest if scheme == "gst" else _csi(gst, int(rest.removeprefix("//")), self._request)
            )
        tail = TAIL.format(format=TO_GST[self._request.format])
        pipeline = _parse(gst, f"{head} ! {tail}", text)
        if uri:  # set, not written into the pipeline: a URI may hold anything
            source = pipeline.get_by_name("source")
            source.set_property("uri", text)
            source.connect("source-setup", _settle_source)
        return pipeline

    @property
    def describe(self) -> str:
        """What is open, and the size once it is known."""
        name = shown(self._text)
        return name if self._size is None else f"{name} ({self._size[1]}x{self._size[0]})"

    def read(self, seconds: float) -> Taken | None:
        """Return the next frame; None where none came in time. Raises CameraLost."""
        sample = self._sink.try_pull_sample(int(seconds * self._gst.SECOND))
        if sample is None:
            error = self._complaint()
            mend = "check the source and the way to it"
            if error is None and self._sink.is_eos():
                error = "the end of the stream"
                mend = "a camera has none: save a video or a picture to disk and give its path"
            if error is not None:
                raise CameraLost(f"{self.describe}: wanted the next frame, found: {error}; {mend}")
            return None
        layout = self._layout(sample)
        self._size = layout.size
        buffer = sample.get_buffer()
        known, mapped = buffer.map(self._gst.MapFlags.READ)
        if not known:
            raise CameraLost(f"{self.describe}: wanted the frame's memory, found it out of reach")
        try:
            data = np.frombuffer(mapped.data, np.uint8)
            frame = frame_of(data, layout, self._request.format)
        finally:
            buffer.unmap(mapped)
        stamp = buffer.pts
        return Taken(frame, None if stamp == self._gst.CLOCK_TIME_NONE else stamp / 1e9)

    def _layout(self, sample: Any) -> Layout:
        from gi.repository import GstVideo

        info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
        meta = GstVideo.buffer_get_video_meta(sample.get_buffer())
        # A decoder may pad rows more than the format asks for; only the buffer knows.
        where = info if meta is None else meta
        number = info.finfo.n_planes
        planes = tuple((where.offset[i], where.stride[i]) for i in range(number))
        if info.fps_n > 0 and self._request.fps is None:
            self.fps = info.fps_n / info.fps_d
        matrix = info.colorimetry.matrix.value_nick
        return Layout(
            self._request.format,
            (info.height, info.width),
            planes[0][1],
            planes if number > 1 else (),
            matrix if matrix in yuv.MATRICES else "bt601",  # unknown, or of colours
            info.colorimetry.range == GstVideo.VideoColorRange(FULL_RANGE),
        )

    def _complaint(self) -> str | None:
        message = self._bus.pop_filtered(self._gst.MessageType.ERROR)
        if message is None:
            return None
        error, details = message.parse_error()
        last = (details or "").strip().splitlines()[-1:]
        return shown(" - ".join([error.message, *last]))

    def pattern(self) -> Picture | None:
        """Return the colour pattern sent through the same converter and sink."""
        gst, format = self._gst, self._request.format
        height, width = 96, 128
        caps = f"video/x-raw,format=BGR,width={width},height={height},framerate=1/1"
        tail = TAIL.format(format=TO_GST[format])
        pipeline = _parse(gst, PATTERN.format(caps=f'"{caps}"') + tail, "colour test")
        source, sink = pipeline.get_by_name("source"), pipeline.get_by_name("sink")
        pipeline.set_state(gst.State.PLAYING)
        try:
            buffer = gst.Buffer.new_wrapped(colors.bars(height, width).tobytes())
            buffer.pts = 0
            source.emit("push-buffer", buffer)
            sample = sink.try_pull_sample(3 * gst.SECOND)
            if sample is None:
                return None
            _, mapped = sample.get_buffer().map(gst.MapFlags.READ)
            data = np.frombuffer(mapped.data, np.uint8)
            frame = frame_of(data, self._layout(sample), format)
            sample.get_buffer().unmap(mapped)
            return frame
        finally:
            pipeline.set_state(gst.State.NULL)

    def close(self) -> None:
        """Stop the pipeline and free what it holds."""
        self._pipeline.set_state(self._gst.State.NULL)


def _parse(gst: Any, description: str, text: str) -> Any:
    try:
        return gst.parse_launch(description)
    except Exception as error:  # GLib.Error, which only exists where gi is
        reason = getattr(error, "message", str(error))
        raise CameraError(
            f"{shown(text)}: wanted a pipeline, found: {shown(reason)}; correct it, or install the "
            "plugin (gst-inspect-1.0 lists what is here)"
        ) from error


def _decoded(gst: Any) -> str:
    """Return the head of the pipeline for a URI: decoded, in memory that can be read."""
    here = gst.ElementFactory.find("nvvidconv") is not None
    return f"{DECODED} ! {COPIED}" if here else DECODED


def _csi(gst: Any, number: int, request: Request) -> str:
    """Return the head of the pipeline for the CSI camera of this board. Raises CameraError."""
    size = "" if request.size is None else f",width={request.size[1]},height={request.size[0]}"
    rate = "" if request.fps is None else f",framerate={round(request.fps * 1000)}/1000"
    for element, head in CSI:
        if gst.ElementFactory.find(element) is None:
            continue
        if number and "{n}" not in head:
            raise CameraError(
                f"csi://{number}: wanted another camera than the first, found that {element} goes "
                "by names; use gst:libcamerasrc camera-name=... (cam -l lists them)"
            )
        return head.format(n=number, size=size, rate=rate)
    raise CameraError(
        f"csi://{number}: wanted one of {', '.join(e for e, _ in CSI)}, found neither in "
        "GStreamer: on a Jetson install JetPack's multimedia packages, on a Raspberry Pi "
        "sudo apt install gstreamer1.0-libcamera (or use picamera2)"
    )


def _settle_source(element: Any, source: Any) -> None:
    """Keep a network source near the present, and let it notice that the other side is gone."""
    for name, value in (
        ("latency", LATENCY),
        ("drop-on-latency", True),
        ("tcp-timeout", 5_000_000),
    ):
        if source.find_property(name) is not None:
            source.set_property(name, value)
