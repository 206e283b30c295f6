"""A coarse mask brought to the contours of the picture the network saw: a guided filter.

    mask     float32 (h, w) 0..1       the network's output, a fraction of the picture's size
    picture  uint8 (H, W, 3)           what the network saw
    result   uint8 (H, W) 0..255       the mask at the picture's size

In every small window the mask is taken for a linear function of the colours; what the colours can
explain of it, they place where they change. A bilinear enlargement of 56x56 cells draws a contour
of 4 px steps; this one follows the picture. Kaiming He, Jian Sun, Xiaoou Tang, "Guided Image
Filtering", PAMI 2013 (the colour form, equations 19 to 21), with the coefficients made at the
mask's size: "Fast Guided Filter", arXiv 1505.00996. It leaves crumbs of a pixel or two along the
contour, which a median takes away.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture, Soft
from edge_seg.errors import FrameError
from edge_seg.formats import check_picture

# Chosen on val.txt and the tuning clips; docs/decisions.md says what else was tried.
REACH = 4  # px of the picture that a window reaches to each side: one cell of a mask at 1/4
EPSILON = 1e-4  # of (range of a colour)^2: noise of 1 % explains nothing
CRUMB_PASSES = 3  # of a 3x3 median: they take what one of 5x5 takes, in a third of its time
FAINT = 0.02  # of probability: a mask below it everywhere has no contour to find
SLACK = 1e-3  # by which rounding may take a mask beyond 0..1
LEAST_RATIO = 1.5  # of the picture's sides to the mask's: a finer mask has its own contours


def refine(
    mask: Soft, picture: Picture, *, frame_at: tuple[int, int, int, int] | None = None
) -> NDArray[np.uint8]:
    """Return the mask at the picture's size, its contour where the picture has one.

    For masks that are coarser than the picture (`is_coarse`). frame_at: (top, left, height, width)
    of the frame in the picture, px; the bars around it explain nothing and get the mask of their
    neighbours. Raises FrameError for a mask that is not float32 (h, w) of 0..1, a picture that is
    not uint8 (H, W, 3), and a frame that is not within it.
    """
    _check(mask, picture)
    if frame_at is None or frame_at == (0, 0, *picture.shape[:2]):
        return _refined(mask, picture)
    top, left, height, width = _checked_frame(frame_at, picture)
    rows, high = _cells(top, height, picture.shape[0], mask.shape[0])
    columns, wide = _cells(left, width, picture.shape[1], mask.shape[1])
    fine = _refined(mask[rows, columns], picture[high, wide])
    bars = (high.start, picture.shape[0] - high.stop, wide.start, picture.shape[1] - wide.stop)
    return np.asarray(cv2.copyMakeBorder(fine, *bars, cv2.BORDER_REPLICATE), dtype=np.uint8)


def _checked_frame(
    frame_at: tuple[int, int, int, int], picture: Picture
) -> tuple[int, int, int, int]:
    whole = [int(n) for n in frame_at if isinstance(n, (int, np.integer))]
    if len(whole) == len(frame_at) == 4:
        top, left, height, width = whole
        inside = top + height <= picture.shape[0] and left + width <= picture.shape[1]
        if inside and min(top, left) >= 0 and min(height, width) >= 1:
            return top, left, height, width
    raise FrameError(
        f"wanted frame_at= as (top, left, height, width) px within {picture.shape[:2]}, found "
        f"{frame_at!r:.60}; pass the frame's place in the picture"
    )


def _cells(start: int, length: int, side: int, cells: int) -> tuple[slice, slice]:
    """The cells of the mask that lie wholly in [start, start + length) px, and their pixels.

    side, cells: the picture's side, px, and how many cells it has. Where none does, the ones it
    touches.
    """
    begin, stop = start * cells, (start + length) * cells  # in side-ths of a cell: whole numbers
    first, end = -(-begin // side), stop // side
    if first >= end:
        first, end = begin // side, -(-stop // side)
    return slice(first, end), slice(round(first * side / cells), round(end * side / cells))


def _refined(mask: Soft, picture: Picture) -> NDArray[np.uint8]:
    size = (picture.shape[1], picture.shape[0])
    if float(mask.max()) < FAINT:  # nobody is there: most frames of a kiosk
        return cv2.convertScaleAbs(cv2.resize(mask, size), alpha=255.0)
    ratio = min(picture.shape[0] / mask.shape[0], picture.shape[1] / mask.shape[1])
    small = cv2.resize(picture, mask.shape[::-1], interpolation=cv2.INTER_AREA)
    slopes, offset = coefficients(mask, small, radius=max(1, round(REACH / ratio)))
    planes = cv2.split(picture)
    result = cv2.resize(offset, size, interpolation=cv2.INTER_LINEAR)
    for slope, plane in zip(slopes, planes, strict=True):
        large = cv2.resize(slope, size, interpolation=cv2.INTER_LINEAR)
        cv2.accumulateProduct(large, plane.astype(np.float32), result)
    # Below 0 the nearest byte is 0, not the absolute value: so first the clip.
    positive = cv2.threshold(result, 0, 0, cv2.THRESH_TOZERO)[1]
    fine = cv2.convertScaleAbs(positive, alpha=255.0)
    for _ in range(CRUMB_PASSES):
        fine = cv2.medianBlur(fine, 3)
    return np.asarray(fine, dtype=np.uint8)


def is_coarse(size: tuple[int, ...], picture: Picture) -> bool:
    """True where a mask of (height, width) leaves contours to the picture."""
    return min(picture.shape[0] / size[0], picture.shape[1] / size[1]) >= LEAST_RATIO


def coefficients(
    mask: Soft, picture: Picture, *, radius: int, epsilon: float = EPSILON
) -> tuple[tuple[Soft, Soft, Soft], Soft]:
    """Return the guided filter's averaged slopes per colour and offset, each float32 (h, w).

    mask, picture: of one size. The filtered mask is offset + sum of slope * colour, colours 0..255.
    radius: px to each side of a window; beyond the border the picture is reflected. epsilon: of
    colours 0..1.
    """
    box = _box(radius)
    blue, green, red = (plane.astype(np.float32) for plane in cv2.split(picture))
    b, g, r, p = (box(plane) for plane in (blue, green, red, mask))
    # The covariances of the colours with each other (symmetric) and with the mask.
    ridge = np.float32(epsilon * 255**2)
    bb = box(blue * blue) - b * b + ridge
    gg = box(green * green) - g * g + ridge
    rr = box(red * red) - r * r + ridge
    bg = box(blue * green) - b * g
    br = box(blue * red) - b * r
    gr = box(green * red) - g * r
    bp, gp, rp = (
        box(colour * mask) - mean * p for colour, mean in ((blue, b), (green, g), (red, r))
    )
    # Three equations in three slopes, solved by elimination: first blue, then green.
    per_bb = 1 / bb
    green_of_blue, red_of_blue = bg * per_bb, br * per_bb
    per_gg = 1 / (gg - green_of_blue * bg)
    gr = gr - green_of_blue * br
    red_of_green = gr * per_gg
    gp = gp - green_of_blue * bp
    rr = rr - red_of_blue * br - red_of_green * gr
    slope_r = (rp - red_of_blue * bp - red_of_green * gp) / rr
    slope_g = gp * per_gg - red_of_green * slope_r
    slope_b = bp * per_bb - green_of_blue * slope_g - red_of_blue * slope_r
    offset = p - slope_b * b - slope_g * g - slope_r * r
    return (box(slope_b), box(slope_g), box(slope_r)), box(offset)


def _box(radius: int) -> Callable[[Soft], Soft]:
    """The mean over a window of every cell; a separable filter takes half of `cv2.blur`'s time."""
    side = 2 * radius + 1
    row = np.full(side, 1 / side, np.float32)

    def mean(plane: Soft) -> Soft:
        border = cv2.BORDER_REFLECT
        return np.asarray(cv2.sepFilter2D(plane, -1, row, row, borderType=border), dtype=np.float32)

    return mean


def _check(mask: Soft, picture: Picture) -> None:
    if mask.ndim != 2 or mask.dtype != np.float32 or not mask.size:
        raise FrameError(
            f"wanted a mask of float32 (height, width), found {mask.dtype} {mask.shape}; pass the "
            "network's decoded mask"
        )
    low, high = float(mask.min()), float(mask.max())
    if not (low >= -SLACK and high <= 1 + SLACK):  # NaN is neither
        raise FrameError(
            f"wanted a mask of 0..1, found values from {low:g} to {high:g}; pass the network's "
            "decoded mask"
        )
    check_picture(picture, "picture", "; pass what the network saw")
