"""The smoothers others publish, under their names, to compare with; `smoothing` has ours.

    name             what it is                                              in what it counts
    average          exponential average of the mask                         frames
    one-euro         1-Euro filter per pixel (Casiez et al., CHI 2012)       seconds
    uncertainty      MediaPipe's SegmentationSmoothingCalculator             frames
    flow             PP-HumanSeg's optic_flow_process.py as it ships         frames
    flow-mended      the same with its limits on the scale they are for      frames

All are Smoothers. A mask of another size than the last is a first one, as is the mask after
`reset`; the first mask comes back as it is. Only `one-euro` looks at the timestamp: without one,
or with one that does not grow, it takes 1/30 s.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import cv2
import numpy as np

from edge_seg.arrays import Picture, Soft
from edge_seg.errors import FrameError, SettingError
from edge_seg.smoothing import Smoother, checked
from edge_seg.timestamps import checked_time

LEAST_SIDE = 16  # px of a mask: the flow's patches are 8x8, on a pyramid
NO_TIME = 1 / 30  # s between frames whose times do not say


class _Recursive(ABC):
    """The part all share: the first mask, and a mask of another size."""

    def __init__(self) -> None:
        self._last: Soft | None = None

    def reset(self) -> None:
        """Forget what was seen: the next mask is a first one."""
        self._last = None

    def update(self, mask: Soft, picture: Picture, timestamp: float | None) -> Soft:
        """Return the smoothed mask, float32 of the mask's shape, a new array.

        Raises FrameError for a mask or timestamp of the wrong form.
        """
        same = self._last is not None and self._last.shape == mask.shape
        soft = checked(mask, self._last if same else None)
        timestamp = checked_time(timestamp)
        if self._last is None or not same:
            self._last = self._begin(soft, picture, timestamp)
        else:
            self._last = self._next(self._last, soft, picture, timestamp)
        return self._last.copy()

    def _begin(self, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        return soft.copy()

    @abstractmethod
    def _next(self, last: Soft, soft: Soft, picture: Picture, timestamp: float | None) -> Soft: ...


class ExponentialAverage(_Recursive):
    """keep * last + (1 - keep) * new, per frame. keep: weight of what was, 0..1."""

    def __init__(self, keep: float = 0.6) -> None:
        super().__init__()
        self.keep = _share("keep", keep)

    def _next(self, last: Soft, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        return (soft + np.float32(self.keep) * (last - soft)).astype(np.float32)


class UncertaintyBlend(_Recursive):
    """MediaPipe's blend: the less certain the new mask, the more of the old one stays.

    out = new + (last - new) * u * ratio, with u = 1 - min(1, x (c1 + x (c2 + ...))) of
    x = (new - 0.5)^2 and the constants of segmentation_smoothing_calculator.cc: u is the square of
    the entropy in bits to within 0.0013. ratio: `combine_with_previous_ratio`, 0.7 in its graphs.
    """

    COEFFICIENTS = (5.68842, -0.748699, -57.8051, 291.309, -624.717)

    def __init__(self, ratio: float = 0.7) -> None:
        super().__init__()
        self.ratio = _share("ratio", ratio)

    def _next(self, last: Soft, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        x = np.square(soft - np.float32(0.5))
        total = np.zeros_like(x)
        for coefficient in reversed(self.COEFFICIENTS):
            total = (total + np.float32(coefficient)) * x
        uncertainty = 1 - np.minimum(total, 1)
        return np.asarray(soft + (last - soft) * uncertainty * np.float32(self.ratio), np.float32)


class OneEuro(_Recursive):
    """The 1-Euro filter on every pixel: a low-pass whose cutoff grows with the pixel's speed.

    a(f) = 1 / (1 + 1 / (2 pi f dt)); speed = low-pass of (new - last filtered) / dt at
    `speed_cutoff`; cutoff = `cutoff` + beta * |speed|. cutoff, speed_cutoff: Hz; beta: Hz per
    (probability / s).
    """

    def __init__(self, cutoff: float = 0.5, beta: float = 2.0, speed_cutoff: float = 1.0) -> None:
        super().__init__()
        for name, value in (("cutoff", cutoff), ("speed_cutoff", speed_cutoff)):
            if not 0 < value < math.inf:
                raise SettingError(f"wanted {name} above 0 Hz, found {value:g}; correct it")
        if not 0 <= beta < math.inf:
            raise SettingError(f"wanted beta of 0 or more, found {beta:g}; correct it")
        self.cutoff, self.beta, self.speed_cutoff = cutoff, beta, speed_cutoff
        self._speed: Soft
        self._time: float | None = None

    def _begin(self, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        self._speed = np.zeros_like(soft)
        self._time = timestamp
        return soft.copy()

    def _next(self, last: Soft, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        seconds = self._seconds(timestamp)
        smooth = 1 / (1 + 1 / (2 * math.pi * self.speed_cutoff * seconds))
        self._speed += np.float32(smooth) * ((soft - last) / np.float32(seconds) - self._speed)
        cutoff = np.float32(self.cutoff) + np.float32(self.beta) * np.abs(self._speed)
        weight = 1 / (1 + 1 / (np.float32(2 * math.pi * seconds) * cutoff))
        return np.asarray(last + weight * (soft - last), dtype=np.float32)

    def _seconds(self, timestamp: float | None) -> float:
        before, self._time = self._time, timestamp
        if before is None or timestamp is None or not 0 < timestamp - before < math.inf:
            return NO_TIME
        return timestamp - before


class FlowBlend(_Recursive):
    """PP-HumanSeg's optical-flow smoothing (contrib/PP-HumanSeg/src/optic_flow_process.py).

    The last result is carried along DIS flow (ultrafast), rounded to whole pixels, where the flow
    back agrees (|forward + backward|^2 < 8), and blended with the new mask at a weight of 0.3, or
    0.05 on carried pixels without flow. Where the new mask is certain (above 0.9, below 0.1) the
    weight is 0.4, or 0.3 where it would be 0.05. Pixels that nothing was carried to stay new.

    mended=False keeps the flaw of the original: masks count 0..255 but the limits of certainty
    0..1, so that all but the blackest pixels are "certain".

    Masks with a side under 16 are a FrameError: OpenCV has no such flow.
    """

    def __init__(self, mended: bool = False) -> None:
        super().__init__()
        self.mended = mended
        self._grey: Picture
        self._flow: cv2.DISOpticalFlow

    def _begin(self, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        least = min(soft.shape)
        if least < LEAST_SIDE:
            raise FrameError(
                f"wanted a mask of {LEAST_SIDE} px or more a side for optical flow, found "
                f"{soft.shape}; take another smoother"
            )
        self._grey = _grey(picture, soft.shape)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(1 if least <= 64 else 2 if least <= 160 else 3)
        return soft.copy()

    def _next(self, last: Soft, soft: Soft, picture: Picture, timestamp: float | None) -> Soft:
        grey = _grey(picture, soft.shape)
        forward = np.rint(self._flow.calc(self._grey, grey, None)).astype(np.int32)
        backward = np.rint(self._flow.calc(grey, self._grey, None)).astype(np.int32)
        self._grey = grey
        height, width = soft.shape
        rows, columns = np.mgrid[:height, :width]
        x, y = columns + forward[..., 0], rows + forward[..., 1]
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        there = backward[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        tracked = inside & (((forward + there) ** 2).sum(axis=2) < 8)
        rests = tracked & ~forward.any(axis=2) & ~there.any(axis=2)
        carried = np.zeros_like(soft)
        reached, weight = np.zeros(soft.shape, bool), np.full_like(soft, 0.3)
        # In raster order, the last one wins: as NumPy assigns repeated indices.
        carried[y[tracked], x[tracked]] = last[tracked]
        reached[y[tracked], x[tracked]] = True
        weight[y[rests], x[rests]] = 0.05
        scale = np.float32(1 if self.mended else 255)
        certain = (soft * scale > 0.9) | (soft * scale < 0.1)
        weight = np.where(certain, np.where(weight < 0.1, 0.3, 0.4), weight).astype(np.float32)
        blended = weight * soft + (1 - weight) * carried
        return np.asarray(np.where(reached, blended, soft), dtype=np.float32)


def _grey(picture: Picture, size: tuple[int, ...]) -> Picture:
    small = cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise SettingError(f"wanted {name} from 0 to 1, found {value:g}; correct it")
    return value


BASELINES: dict[str, Callable[[], Smoother]] = {
    "average": ExponentialAverage,
    "one-euro": OneEuro,
    "uncertainty": UncertaintyBlend,
    "flow": FlowBlend,
    "flow-mended": lambda: FlowBlend(mended=True),
}


def baseline(name: str) -> Smoother:
    """Return a fresh smoother by its name.

    name: "average", "one-euro", "uncertainty", "flow" or "flow-mended".
    Raises SettingError with the names there are.
    """
    if name not in BASELINES:
        raise SettingError(
            f"wanted one of {', '.join(BASELINES)}, found {name!r}; name one of them"
        )
    return BASELINES[name]()
