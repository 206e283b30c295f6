"""What a frame is: its formats, its limits, and the sentences for what is no frame.

bgr, rgb       uint8 (H, W, 3)
nv12, yuv420   uint8 (3H/2, W), a camera's own planes (`yuv`)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.errors import FrameError, SettingError
from edge_seg.ranges import within

FORMATS = ("bgr", "rgb", *yuv.PLANAR)
MAX_PIXELS = 1 << 26  # 64 megapixels: twice an 8K frame
MAX_SIDE = (1 << 15) - 2  # cv2.warpAffine counts in 16 bits


def check_picture(
    picture: object, what: str = "frame", end: str = "; pass pixels 0..255"
) -> Picture:
    """Return `picture` if it is uint8 (H, W, 3) with pixels in it, else raise FrameError.

    what, end: the sentence's word for it, and how it ends.
    """
    if not _is_picture(picture):
        raise _refusal(picture, what, end)
    return picture  # type: ignore[return-value]


def check_frame(frame: object) -> Picture:
    """Return `frame` if it is uint8 (H, W, 3) of 1 px to 64 megapixels, else raise FrameError."""
    if not _is_picture(frame):
        raise _refusal(frame, "frame", _what_it_is(frame) if isinstance(frame, np.ndarray) else "")
    picture: Picture = frame  # type: ignore[assignment]
    _check_limits(picture, picture.shape[0], picture.shape[1])
    return picture


def _is_picture(picture: object) -> bool:
    return (
        isinstance(picture, np.ndarray)
        and picture.ndim == 3
        and picture.shape[2] == 3
        and picture.dtype == np.uint8
        and picture.size > 0
    )


def _refusal(picture: object, what: str, end: str) -> FrameError:
    wanted = f"wanted a {what} of uint8 (height, width, 3)"
    if not isinstance(picture, np.ndarray):
        return FrameError(f"{wanted}, found {type(picture).__name__}; pass a numpy array")
    return FrameError(f"{wanted}, found {picture.dtype} {picture.shape}{end}")


def _what_it_is(frame: NDArray[np.generic]) -> str:
    """Return how the sentence ends for an array that is no frame."""
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        return (
            ": grey (use cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)), or a camera's own planes (say "
            f"which: format= one of {yuv.PLANAR})"
        )
    if frame.ndim == 3 and frame.shape[2] == 4:
        return ": with alpha; pass frame[:, :, :3]"
    if frame.ndim != 3 or frame.shape[2] != 3:
        return "; pass one colour picture"
    if frame.dtype != np.uint8:
        return "; pass pixels 0..255 as uint8"
    return ": empty; the camera delivered no pixels"


def check_format(format: str) -> None:
    """Raise SettingError where a frame's format is none of FORMATS."""
    if format not in FORMATS:
        raise SettingError(f"wanted a frame format in {FORMATS}, found {format!r}")


def frame_size(frame: object, format: str = "bgr") -> tuple[int, int]:
    """Return (height, width) of a frame in `format`. Raises FrameError where it is no frame."""
    check_format(format)
    if format not in yuv.PLANAR:
        checked = check_frame(frame)
        return checked.shape[0], checked.shape[1]
    height, width = yuv.size_of(frame, format)
    assert isinstance(frame, np.ndarray)
    _check_limits(frame, height, width)
    return height, width


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) of a mask that is asked for. Raises SettingError for any other."""
    pair = tuple(size) if isinstance(size, (tuple, list, np.ndarray)) else ()
    whole = len(pair) == 2 and all(within(n, 1, MAX_SIDE, whole=True) for n in pair)
    height, width = (int(n) for n in pair) if whole else (0, 0)
    if not 1 <= height * width <= MAX_PIXELS:
        raise SettingError(
            f"wanted size= as (height, width) of 1 to {MAX_PIXELS} pixels and at most {MAX_SIDE} "
            f"a side, found {size}; correct it"
        )
    return height, width


def _check_limits(frame: Picture, height: int, width: int) -> None:
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise FrameError(
            f"wanted a frame of at most {MAX_PIXELS} pixels and {MAX_SIDE} a side, "
            f"found {frame.dtype} {frame.shape}; reduce it before segmenting"
        )
