"""Frames as video hardware makes them: brightness at full size, colour at a quarter of it.

    nv12     uint8 (3H/2, W): H rows of luma, then H/2 rows of U and V in turn
    yuv420   uint8 (3H/2, W): H rows of luma, then all of U, then all of V, each (H/2, W/2)

H and W are even. Colours are ITU-R BT.601 in video range (16..235), which is what OpenCV and V4L2
mean by these names unless they say something else; a camera that can choose is told to give it, and
what one that says something else gives is brought to it by `to_bt601` (edge_seg/camera).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture
from edge_seg.errors import FrameError

PLANAR = ("nv12", "yuv420")
_WHOLE = {
    ("nv12", "bgr"): cv2.COLOR_YUV2BGR_NV12,
    ("nv12", "rgb"): cv2.COLOR_YUV2RGB_NV12,
    ("yuv420", "bgr"): cv2.COLOR_YUV2BGR_I420,
    ("yuv420", "rgb"): cv2.COLOR_YUV2RGB_I420,
}


# How much of luma is red, and how much blue, by the standards a camera may state.
MATRICES = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}
# Levels from black to white, and from the least to the most of a colour difference (BT.601, 2.5.3).
_VIDEO, _FULL = (219.0, 224.0), (255.0, 255.0)


def _bgr_of(matrix: str) -> NDArray[np.float64]:
    """Return the 3x3 matrix from (Y 0..1, U and V -0.5..0.5) to (B, G, R) 0..1 (BT.601, 2.5.1)."""
    red, blue = MATRICES[matrix]
    green = 1.0 - red - blue
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    return np.array(
        [
            [1.0, to_blue, 0.0],
            [1.0, -to_blue * blue / green, -to_red * red / green],
            [1.0, 0.0, to_red],
        ]
    )


def _matrix() -> NDArray[np.float64]:
    """Return the 3x4 matrix from (Y, U, V, 1) to (B, G, R): BT.601 in video range, 8 bit."""
    luma, chroma = _VIDEO
    rows = 255 * _bgr_of("bt601") / (luma, chroma, chroma)
    return np.column_stack([rows, -rows @ (16.0, 128.0, 128.0)])


_TO_BGR = _matrix()
_TO = {"bgr": _TO_BGR, "rgb": np.ascontiguousarray(_TO_BGR[::-1])}


def size_of(frame: object, format: str) -> tuple[int, int]:
    """Return (H, W) of an "nv12" or "yuv420" frame. Raises FrameError for anything else."""
    wanted = f"wanted a frame of uint8 (3 * height / 2, width), {format!r}"
    if not isinstance(frame, np.ndarray):
        raise FrameError(f"{wanted}, found {type(frame).__name__}; pass a numpy array")
    found = f"found {frame.dtype} {frame.shape}"
    if frame.ndim != 2 or frame.dtype != np.uint8:
        raise FrameError(f"{wanted}, {found}; say format= as the frame is")
    rows, width = frame.shape
    # Two rows of luma need one of colour, so the height is even where this divides.
    if rows < 3 or width < 2 or rows % 3 or width % 2:
        raise FrameError(f"{wanted} with even sides, {found}; is a row of it padded?")
    return rows // 3 * 2, width


def check_sides(format: str, size: tuple[int, int]) -> None:
    """Raise FrameError where (height, width) cannot be planes: colour is made for two by two."""
    height, width = size
    if min(size) < 2 or height % 2 or width % 2:
        raise FrameError(
            f"wanted {format!r} with even sides, found {width}x{height}; ask the camera for an "
            "even size, or for bgr"
        )


def planes(frame: Picture, format: str) -> list[Picture]:
    """Return [Y (H, W), UV (H/2, W/2, 2)] of "nv12", [Y, U, V] of "yuv420": views where it can."""
    height, width = size_of(frame, format)
    luma, chroma = frame[:height], frame[height:]
    if format == "nv12":
        return [luma, chroma.reshape(height // 2, width // 2, 2)]
    u, v = chroma.reshape(2, height // 2, width // 2)
    return [luma, u, v]


def join(parts: list[Picture]) -> Picture:
    """Return the frame that `planes` took apart; a new array."""
    height, width = parts[0].shape
    frame = np.empty((height // 2 * 3, width), dtype=np.uint8)
    frame[:height] = parts[0]
    rest = frame[height:].reshape(-1)
    np.concatenate([part.reshape(-1) for part in parts[1:]], out=rest)
    return frame


def to_color(parts: list[Picture], color: str) -> Picture:
    """Return uint8 (h, w, 3) in `color` ("bgr" | "rgb") of planes brought to one size."""
    return cv2.transform(cv2.merge(parts), _TO[color])


def whole_to_color(frame: Picture, format: str, color: str) -> Picture:
    """Return the full-size frame, uint8 (H, W, 3) in `color`; for display, not for the network."""
    size_of(frame, format)
    return cv2.cvtColor(np.ascontiguousarray(frame), _WHOLE[format, color])


def to_bt601(frame: Picture, format: str, *, matrix: str, full: bool) -> Picture:
    """Return planes of another standard as BT.601 in video range, within 2 levels; a new array.

    matrix: one of MATRICES. full: levels of 0..255 (JPEG), not of video range.
    """
    height = size_of(frame, format)[0]
    of_luma, of_chroma = _FULL if full else _VIDEO
    luma = _scaled(frame[:height], _VIDEO[0] / of_luma, zero=0 if full else 16, becomes=16)
    scale = _VIDEO[1] / of_chroma
    if matrix == "bt601":
        return np.vstack([luma, _scaled(frame[height:], scale, zero=128, becomes=128)])
    chroma = planes(frame, format)[1:]
    pairs = np.ascontiguousarray(chroma[0]) if format == "nv12" else cv2.merge(chroma)
    # Luma adds nothing to the colour differences: its column is 1, 0, 0.
    change = np.linalg.solve(_bgr_of("bt601"), _bgr_of(matrix))[:, 1:]
    more = cv2.transform(pairs.astype(np.float32), _about_128(change[:1] * _VIDEO[0] / of_chroma))
    more = cv2.resize(np.rint(more).astype(np.int16), luma.shape[::-1])
    luma = cv2.add(luma, more, dtype=cv2.CV_8U)
    pairs = cv2.transform(pairs, _about_128(change[1:] * scale, becomes=128))
    return join([luma, pairs] if format == "nv12" else [luma, *cv2.split(pairs)])


def _scaled(plane: Picture, scale: float, *, zero: int, becomes: int) -> Picture:
    """Return becomes + scale * (plane - zero), rounded."""
    levels = (np.arange(256) - zero) * scale + becomes
    return cv2.LUT(plane, (levels + 0.5).astype(np.uint8))


def _about_128(rows: NDArray[np.floating[Any]], becomes: int = 0) -> NDArray[np.floating[Any]]:
    """Return rows for cv2.transform in which 128 counts as zero."""
    return np.column_stack([rows, becomes - 128 * rows.sum(axis=1)])


def unpad(buffer: Picture, format: str, size: tuple[int, int], stride: int) -> Picture:
    """Return the frame of (height, width) in a buffer whose rows are `stride` bytes apart.

    A "yuv420" buffer's colour rows are half as far apart. What follows the last row is ignored.
    Raises FrameError where a side is odd, the buffer too short or the stride too small.
    """
    check_sides(format, size)
    height, width = size
    data = buffer.reshape(-1)
    needed = stride * height // 2 * 3
    if stride < width or stride % 2 or data.size < needed:
        raise FrameError(
            f"wanted {format!r} of {width}x{height} in rows of {stride} bytes ({needed} in all), "
            f"found {data.size} bytes; read the stream's format back from the camera"
        )
    rows = data[:needed].reshape(-1, stride)
    if stride == width:
        return rows.copy()
    if format == "nv12":
        return np.ascontiguousarray(rows[:, :width])
    u, v = rows[height:].reshape(2, height // 2, stride // 2)[:, :, : width // 2]
    return join([rows[:height, :width], np.ascontiguousarray(u), np.ascontiguousarray(v)])
