"""Putting a frame together with a mask: blur, replace, cut out, overlay.

    frame, background   uint8 (H, W, 3), one channel order for all      result   the same
    mask                uint8 (H, W) 0..255, or float32 0..1: the share of the frame

Where the mask is 1 the result is the frame exactly, where it is 0 the background exactly; between
them it is within one level of background + mask * (frame - background).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import FrameError

Picture = NDArray[np.uint8]
Mask = NDArray[np.float32] | NDArray[np.uint8]

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


def blend(frame: Picture, background: Picture, mask: Mask) -> Picture:
    """Return background + mask * (frame - background), rounded; a new array.

    Raises FrameError where the sizes differ or the mask is of another dtype.
    """
    _check(frame, mask)
    if background.shape != frame.shape or background.dtype != np.uint8:
        raise FrameError(
            f"wanted a background of uint8 {frame.shape}, found {background.dtype} "
            f"{background.shape}; use `cover` to fit a picture"
        )
    if mask.dtype == np.uint8:
        # Three times faster than blendLinear at 720p. Two roundings: one level at most.
        share = cv2.merge((mask, mask, mask))
        front = cv2.multiply(frame, share, scale=1 / 255)
        return cv2.add(front, cv2.multiply(background, cv2.bitwise_not(share), scale=1 / 255))
    # blendLinear divides by the weights' sum + 1e-5; weights up to 255 make that too small to see.
    weight = cv2.multiply(mask, 255.0)
    return cv2.blendLinear(frame, background, weight, cv2.subtract(255.0, weight))


def firm(mask: Mask) -> Mask:
    """Return the mask as a share to composite with: its edge twice as steep about 0.5.

    A network's mask is a probability, unsure over more pixels than a contour is wide: as a share it
    lets the old background shine through on both sides, a halo. The 0.5 contour stays where it is.
    """
    if mask.dtype == np.uint8:
        return cv2.LUT(mask, _FIRM)
    return np.clip(FIRMNESS * (mask - 0.5) + 0.5, 0, 1).astype(np.float32)


def blurred(frame: Picture, mask: Mask) -> Picture:
    """Return the frame's background, blurred, without the person's colours in it.

    A plain blur paints a halo of the person round the person. Here every pixel counts by how much
    it is background (normalised convolution, Knutsson and Westin, CVPR 1993).
    """
    _check(frame, mask)
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
    """Return the frame with its background blurred."""
    return blend(frame, blurred(frame, mask), mask)


def plain(size: tuple[int, int], color: tuple[int, int, int]) -> Picture:
    """Return a background of one colour; size: (height, width); color in the frame's order."""
    picture = np.empty((*size, 3), dtype=np.uint8)
    picture[:] = color
    return picture


def cover(picture: Picture, size: tuple[int, int]) -> Picture:
    """Enlarge or reduce a picture until it covers (height, width), and cut what hangs over.

    Proportions are kept; the cut is centred.
    """
    height, width = size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    # Cut first: a strip of 3x6000 enlarged whole would be gigabytes.
    high = min(picture.shape[0], max(1, round(height / scale)))
    wide = min(picture.shape[1], max(1, round(width / scale)))
    top, left = (picture.shape[0] - high) // 2, (picture.shape[1] - wide) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    part = picture[top : top + high, left : left + wide]
    return np.asarray(cv2.resize(part, (width, height), interpolation=method), dtype=np.uint8)


def cut_out(frame: Picture, mask: Mask) -> Picture:
    """Return uint8 (H, W, 4): the frame with the mask as its alpha."""
    _check(frame, mask)
    return cv2.merge((frame, _as_bytes(mask)))


def overlay(
    frame: Picture, mask: Mask, *, color: tuple[int, int, int] = (0, 200, 0), share: float = 0.5
) -> Picture:
    """Return the frame with the person tinted, for reports. share: 0..1 of the colour."""
    _check(frame, mask)
    tinted = np.clip(_as_bytes(mask) * share + 0.5, 0, 255).astype(np.uint8)
    return blend(plain(frame.shape[:2], color), frame, tinted)


def _as_bytes(mask: Mask) -> NDArray[np.uint8]:
    if mask.dtype == np.uint8:
        return mask  # type: ignore[return-value]
    return np.clip(np.floor(mask * 255.0 + 0.5), 0, 255).astype(np.uint8)


def _check(frame: Picture, mask: Mask) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise FrameError(f"wanted a frame of uint8 (H, W, 3), found {frame.dtype} {frame.shape}")
    if mask.shape != frame.shape[:2] or mask.dtype not in (np.uint8, np.float32):
        raise FrameError(
            f"wanted a mask of uint8 or float32 {frame.shape[:2]}, found {mask.dtype} "
            f"{mask.shape}; segment() gives one of the frame's size"
        )
