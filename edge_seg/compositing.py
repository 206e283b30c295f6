"""Putting a frame together with a mask: blur, replace, cut out, overlay.

    frame, background   uint8 (H, W, 3), one channel order for all      result   the same
    mask                uint8 (H, W) 0..255, float32 0..1, or bool: the share of the frame

Where the mask is 1 the result is the frame exactly, where it is 0 the background exactly; between
them it is within one level of background + mask * (frame - background).

A mask of another size or dtype, and a float32 one with NaN or beyond 0..1, is a FrameError. A uint8
mask of 0 and 1 alone is nobody in 0..255 and taken as that, for an empty room gives such masks;
where more than a twentieth of it is 1, a log line says once what to pass if 1 means the person.
"""

from __future__ import annotations

import functools
import logging
import operator
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture
from edge_seg.errors import FrameError, SettingError
from edge_seg.formats import MAX_PIXELS, MAX_SIDE, check_picture
from edge_seg.ranges import within

Share = NDArray[np.float32] | NDArray[np.uint8]
Mask = Share | NDArray[np.bool_]
Pixels = TypeVar("Pixels", bound=Share)
log = logging.getLogger("edge_seg")

# Blur is done on a copy reduced by a power of two (what video sizes divide by: OpenCV's area
# averaging is three times faster then) to a short side of 90 to 179 px: at 720p 1.6 ms instead of
# 33 (one x86 core), and no eye sees a blur's fine detail.
BLUR_SIDE = 90
BLUR_SIGMA = 0.03  # of the short side: about 22 px at 720p
# How much steeper `firm` makes a mask's edge: error of composites round the contour falls from 12.3
# to 8.8 levels (benchmarks/edges.py); with 5 by half a level more, and edges look cut.
FIRMNESS = 2.0
_LEVELS = np.arange(256, dtype=np.float64) / 255
_FIRM = np.floor(255 * np.clip(FIRMNESS * (_LEVELS - 0.5) + 0.5, 0, 1) + 0.5).astype(np.uint8)
LEAST_WEIGHT = 1 / 1024  # of a person's own pixel in the blurred background: never 0 / 0
ROUNDING = 1 / 256  # how far beyond 0..1 a float32 mask may lie
# So much of 1 in a uint8 mask of 0 and 1 is worth a log line. No error: the network that ships gave
# 1 in 3.7 % of the picture of a dark room with nobody in it, and nothing above.
ONES = 0.05


def blend(frame: Picture, background: Picture, mask: Mask) -> Picture:
    """Return background + mask * (frame - background), rounded; a new array.

    Raises FrameError where the sizes differ, and for a mask of another dtype, NaN or beyond 0..1.
    """
    share = _share_of(frame, mask)
    if not isinstance(background, np.ndarray):
        raise FrameError(
            f"wanted a background of uint8 {frame.shape}, found {type(background).__name__}; "
            "use `plain` for a colour, `cover` to fit a picture"
        )
    if background.shape != frame.shape or background.dtype != np.uint8:
        raise FrameError(
            f"wanted a background of uint8 {frame.shape}, found {background.dtype} "
            f"{background.shape}; use `cover` to fit a picture"
        )
    return _blend(frame, background, share)


def _blend(frame: Picture, background: Picture, mask: Share) -> Picture:
    if mask.dtype == np.uint8:
        # Three times faster than blendLinear at 720p. Two roundings: one level at most.
        share = cv2.merge((mask, mask, mask))
        front = cv2.multiply(frame, share, scale=1 / 255)
        return cv2.add(front, cv2.multiply(background, cv2.bitwise_not(share), scale=1 / 255))
    # blendLinear divides by the weights' sum + 1e-5; weights up to 255 make that too small to see.
    weight = cv2.multiply(mask, 255.0)
    return cv2.blendLinear(frame, background, weight, cv2.subtract(255.0, weight))


def firm(mask: Mask, *, own: bool = False) -> Share:
    """Return the mask as a share to composite with: its edge twice as steep about 0.5.

    A network's mask is a probability, unsure over more pixels than a contour is wide: as a share it
    lets the old background shine through on both sides, a halo. The 0.5 contour stays where it is.
    own: True for a mask that `segment` made: then no log line asks whether a uint8 mask of 0 and 1
    should have been one of 0 and 255. Raises FrameError.
    """
    share = _checked(mask, own=own)
    if share.dtype == np.uint8:
        return cv2.LUT(share, _FIRM)
    return np.clip(FIRMNESS * (share - 0.5) + 0.5, 0, 1).astype(np.float32)


def blurred(frame: Picture, mask: Mask) -> Picture:
    """Return the frame's background, blurred, without the person's colours in it.

    A plain blur paints a halo of the person round the person. Here every pixel counts by how much
    it is background (normalised convolution, Knutsson and Westin, CVPR 1993). Raises FrameError.
    """
    return _blurred(frame, _share_of(frame, mask))


def _blurred(frame: Picture, mask: Share) -> Picture:
    height, width = frame.shape[:2]
    factor = 1
    while min(height, width) >= 2 * factor * BLUR_SIDE:
        factor *= 2
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    person = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    full = 255.0 if mask.dtype == np.uint8 else 1.0
    # Half a person counts as a person: a reduced pixel on the edge has both colours in it.
    weight = np.maximum(1.0 - 2.0 / full * person, LEAST_WEIGHT)
    four = cv2.merge((small * weight[:, :, None], weight))
    sigma = max(0.5, BLUR_SIGMA * min(size))
    four = cv2.GaussianBlur(four, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    colour = four[:, :, :3] / four[:, :, 3:]
    small8 = np.clip(colour + 0.5, 0, 255).astype(np.uint8)
    return cv2.resize(small8, (width, height), interpolation=cv2.INTER_LINEAR)


def blur(frame: Picture, mask: Mask) -> Picture:
    """Return the frame with its background blurred. Raises FrameError."""
    share = _share_of(frame, mask)
    return _blend(frame, _blurred(frame, share), share)


def plain(size: tuple[int, int], color: tuple[int, int, int]) -> Picture:
    """Return a background of one colour; size: (height, width); color in the frame's order.

    Raises SettingError for a size that is not two whole numbers from 1, or a colour that is not
    three numbers 0..255.
    """
    try:
        levels = np.array(color, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        levels = np.empty(0)
    if levels.shape != (3,) or not ((levels >= 0) & (levels <= 255)).all():
        raise SettingError(
            f"wanted a colour of three numbers 0..255, found {color!r:.60}; correct it"
        )
    picture = np.empty((*_checked_size(size), 3), dtype=np.uint8)
    picture[:] = levels.astype(np.uint8)
    return picture


def cover(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """Enlarge or reduce a picture until it covers (height, width), and cut what hangs over.

    picture: uint8 (H, W, 3), or a mask as `segment` gives it, uint8 or float32 (H, W); the answer
    has its dtype. Proportions are kept; the cut is centred. Raises FrameError, and SettingError for
    a size that is not two whole numbers from 1, of a frame's limits.
    """
    height, width = _checked_size(size)
    wanted = "wanted a picture of uint8 (H, W, 3), or a mask of uint8 or float32 (H, W)"
    if not isinstance(picture, np.ndarray):
        raise FrameError(f"{wanted}, found {type(picture).__name__}; could its file not be read?")
    dtypes = (np.uint8, np.float32) if picture.ndim == 2 else (np.uint8,)
    is_map = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype not in dtypes or not is_map or picture.size == 0:
        raise FrameError(f"{wanted}, found {picture.dtype} {picture.shape}; pass pixels 0..255")
    scale = max(height / picture.shape[0], width / picture.shape[1])
    # Cut first: a strip of 3x6000 enlarged whole would be gigabytes.
    high = min(picture.shape[0], max(1, round(height / scale)))
    wide = min(picture.shape[1], max(1, round(width / scale)))
    top, left = (picture.shape[0] - high) // 2, (picture.shape[1] - wide) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = picture[top : top + high, left : left + wide]
    return cv2.resize(part, (width, height), interpolation=method)


def cut_out(frame: Picture, mask: Mask) -> Picture:
    """Return uint8 (H, W, 4): the frame with the mask as its alpha. Raises FrameError."""
    alpha = _as_bytes(_share_of(frame, mask))
    return cv2.merge((frame, alpha))


def overlay(
    frame: Picture, mask: Mask, *, color: tuple[int, int, int] = (0, 200, 0), share: float = 0.5
) -> Picture:
    """Return the frame with the person tinted, for reports. share: 0..1 of the colour.

    Raises FrameError, and SettingError for a share beyond 0..1 or a colour as in `plain`.
    """
    alpha = _as_bytes(_share_of(frame, mask))
    if not within(share, 0, 1):
        raise SettingError(f"wanted share= from 0 to 1, found {share!r:.60}; correct it")
    tinted = np.clip(alpha * share + 0.5, 0, 255).astype(np.uint8)
    return _blend(plain(frame.shape[:2], color), frame, tinted)


def _as_bytes(mask: Share) -> NDArray[np.uint8]:
    if mask.dtype == np.uint8:
        return mask  # type: ignore[return-value]
    return np.clip(np.floor(mask * 255.0 + 0.5), 0, 255).astype(np.uint8)


def _share_of(frame: Picture, mask: Mask) -> Share:
    """Return the mask as `_checked` does, where the frame is one and the mask has its size."""
    check_picture(frame)
    if isinstance(mask, np.ndarray) and mask.shape != frame.shape[:2]:
        raise FrameError(
            f"wanted a mask of the frame's size {frame.shape[:2]}, found {mask.dtype} "
            f"{mask.shape}; segment() gives one"
        )
    return _checked(mask)


def _checked(mask: Mask, *, own: bool = False) -> Share:
    """Return a mask that can be composited with; a bool one becomes 0 and 255."""
    wanted = "wanted a mask of uint8 0..255, float32 0..1 or bool, (H, W)"
    if not isinstance(mask, np.ndarray):
        raise FrameError(f"{wanted}, found {type(mask).__name__}; segment() gives one")
    if mask.ndim != 2 or mask.size == 0 or mask.dtype not in (np.uint8, np.float32, np.bool_):
        raise FrameError(f"{wanted}, found {mask.dtype} {mask.shape}; segment() gives one")
    if mask.dtype == np.bool_:
        return mask.view(np.uint8) * np.uint8(255)
    if mask.dtype == np.uint8:
        if not own and mask.max() == 1 and cv2.countNonZero(mask) > ONES * mask.size:
            _say_ones()
        return mask  # type: ignore[return-value]
    low, high = float(mask.min()), float(mask.max())  # NaN where there is one in the mask
    if not (low >= -ROUNDING and high <= 1 + ROUNDING):
        raise FrameError(
            f"wanted a float32 mask of 0..1, found values from {low:.3g} to {high:.3g}; divide a "
            "mask of 0..255 by 255, use np.nan_to_num for NaN, np.clip for what a filter overshot"
        )
    return mask  # type: ignore[return-value]


@functools.cache  # once: a camera gives thirty masks a second
def _say_ones() -> None:
    log.warning(
        "wanted a uint8 mask of 0..255, found one of 0 and 1 alone, which is nobody anywhere; if 1 "
        "means the person, pass a bool mask or multiply by 255"
    )


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (operator.index(side) for side in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise SettingError(
            f"wanted size as (height, width), whole pixels from 1 to {MAX_SIDE} and {MAX_PIXELS} "
            f"in all, found {size!r:.60}; frame.shape[:2] is a frame's"
        )
    return height, width
