"""What a camera's buffer holds, as it was read back from the camera, and what was asked for.

Cameras give what they can: rows padded to what their hardware likes, another channel order than
the name says, another format than the one asked for. One place turns all of that into a frame.

    layout.format   bgr  rgb  bgrx  rgbx  yuyv  grey  nv12  yuv420   order of the bytes in memory
    layout.size     (height, width) of the picture
    layout.stride   bytes from one row to the next; of luma, where there are planes
    layout.matrix   of planes, the standard their colours are made by (`yuv.MATRICES`), and
    layout.full     whether their levels are 0..255: both are brought to BT.601 in video range
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.errors import FrameError, SettingError

BYTES = {"bgr": 3, "rgb": 3, "bgrx": 4, "rgbx": 4, "yuyv": 2, "grey": 1}
_CONVERSIONS = {
    ("bgr", "rgb"): cv2.COLOR_BGR2RGB,
    ("rgb", "bgr"): cv2.COLOR_RGB2BGR,
    ("bgrx", "bgr"): cv2.COLOR_BGRA2BGR,
    ("bgrx", "rgb"): cv2.COLOR_BGRA2RGB,
    ("rgbx", "bgr"): cv2.COLOR_RGBA2BGR,
    ("rgbx", "rgb"): cv2.COLOR_RGBA2RGB,
    ("yuyv", "bgr"): cv2.COLOR_YUV2BGR_YUYV,
    ("yuyv", "rgb"): cv2.COLOR_YUV2RGB_YUYV,
    ("grey", "bgr"): cv2.COLOR_GRAY2BGR,
    ("grey", "rgb"): cv2.COLOR_GRAY2RGB,
}


@dataclass(frozen=True)
class Layout:
    """How a buffer is to be read. size: (height, width). stride: bytes per row.

    planes: (offset, stride) of every plane, where they do not simply follow each other. matrix,
    full: what the camera states of their colours.
    """

    format: str
    size: tuple[int, int]
    stride: int
    planes: tuple[tuple[int, int], ...] = ()
    matrix: str = "bt601"
    full: bool = False


def gives(native: str, wanted: str) -> bool:
    """True where a frame in `wanted` can be made from a buffer in `native`."""
    if native in yuv.PLANAR:
        return wanted == native or wanted not in yuv.PLANAR
    return wanted == native or (native, wanted) in _CONVERSIONS


def frame_of(buffer: Picture, layout: Layout, wanted: str) -> Picture:
    """Return the buffer's picture in the format `wanted`, without padding: a new array.

    buffer: uint8, any shape, of at least stride * rows bytes. Raises FrameError where it is
    shorter or planes have an odd side, SettingError where `wanted` cannot be made of it.
    """
    if not gives(layout.format, wanted):
        possible = [f for f in ("bgr", "rgb", *yuv.PLANAR) if gives(layout.format, f)]
        raise SettingError(
            f"wanted frames as {wanted!r}, found a camera that gives {layout.format!r}; "
            f"ask for {' or '.join(possible)}"
        )
    if layout.format in yuv.PLANAR:
        if layout.planes:
            frame = _from_planes(buffer.reshape(-1), layout)
        else:
            frame = yuv.unpad(buffer, layout.format, layout.size, layout.stride)
        if layout.matrix != "bt601" or layout.full:
            frame = yuv.to_bt601(frame, layout.format, matrix=layout.matrix, full=layout.full)
        return (
            frame if wanted == layout.format else yuv.whole_to_color(frame, layout.format, wanted)
        )
    packed = _packed(buffer, layout)
    if wanted == layout.format:
        return np.array(packed)
    return cv2.cvtColor(np.ascontiguousarray(packed), _CONVERSIONS[layout.format, wanted])


def _from_planes(data: Picture, layout: Layout) -> Picture:
    """Return the frame whose planes lie where the layout says."""
    yuv.check_sides(layout.format, layout.size)
    height, width = layout.size
    shapes = [(height, width)]
    shapes += [(height // 2, width)] if layout.format == "nv12" else [(height // 2, width // 2)] * 2
    parts = []
    for (offset, stride), (rows, row) in zip(layout.planes, shapes, strict=True):
        part = _rows(data[offset:], rows, row=row, stride=stride, layout=layout)
        parts.append(np.ascontiguousarray(part))
    return yuv.join(parts)


def _rows(data: Picture, rows: int, *, row: int, stride: int, layout: Layout) -> Picture:
    """Return a view of (rows, row) bytes in rows that are `stride` apart."""
    needed = stride * (rows - 1) + row  # the last row may lack its padding
    if stride < row or data.size < needed:
        raise FrameError(
            f"wanted {layout.format!r} of {layout.size[1]}x{layout.size[0]} in rows of {stride} "
            f"bytes ({needed} in all), found {data.size} bytes; ask the camera what it gives"
        )
    return np.lib.stride_tricks.as_strided(
        data, shape=(rows, row), strides=(stride, 1), writeable=False
    )


def _packed(buffer: Picture, layout: Layout) -> Picture:
    """Return a view of (height, width, bytes per pixel) without what pads the rows."""
    height, width = layout.size
    each = BYTES[layout.format]
    data = buffer.reshape(-1)
    rows = _rows(data, height, row=width * each, stride=layout.stride, layout=layout)
    return rows.reshape(height, width, each) if each > 1 else rows


def buffer_of(picture: Picture, native: str, *, pad: int = 0) -> tuple[Picture, Layout]:
    """Return a BGR picture as a camera's memory holds it in `native`, `pad` bytes behind each row.

    The inverse of `frame_of`, for tests of colour: not for yuyv and grey.
    """
    height, width = picture.shape[:2]
    if native in yuv.PLANAR:
        frame = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
        if native == "nv12":
            luma, u, v = yuv.planes(frame, "yuv420")
            frame = yuv.join([luma, np.dstack([u, v])])
        rows, stride = frame.shape[0], width + pad
        buffer = np.full((rows, stride), 0x55, np.uint8)
        if native == "nv12":
            buffer[:, :width] = frame
        else:
            buffer[:height, :width] = frame[:height]
            small = buffer[height:].reshape(height, stride // 2)
            small[:, : width // 2] = frame[height:].reshape(height, width // 2)
        return buffer.reshape(-1), Layout(native, (height, width), stride)
    if "x" in native:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA)
    if native.startswith("rgb"):
        picture = picture[:, :, [2, 1, 0, *range(3, picture.shape[2])]]
    row = width * picture.shape[2]
    buffer = np.full((height, row + pad), 0x55, np.uint8)
    buffer[:, :row] = picture.reshape(height, row)
    return buffer.reshape(-1), Layout(native, (height, width), row + pad)
