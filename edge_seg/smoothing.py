"""Stable masks in seconds, not in frames: still where the picture is still, at once where it moves.

    mask       float32 (h, w) 0..1        at the network's output size, before it is enlarged (a
                                          per-pixel filter costs about thirty times more at 720p)
    picture    uint8 (H, W, 3)            what the network saw
    timestamp  seconds, any origin        None: no time is known

`Steady` is the smoother that is on by default for streams. Per pixel of the mask it keeps a mean
of the last masks and, with the same weights, of the picture. Where the picture differs from that
mean by more than the camera's noise, the mask goes through at once; where it does not, the mask is
averaged over a half-life, and a mask that contradicts the mean in a still picture must last
`PATIENCE` (or one further frame) to be believed: a blink is not. docs/smoothing.md has the
measurements and what was tried instead; `baselines` has the classics.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import FrameError, SettingError
from edge_seg.formats import check_picture
from edge_seg.guide import GOES, Guide, share_of
from edge_seg.pixels import shrink
from edge_seg.timestamps import FrameTimes, number

log = logging.getLogger("edge_seg")
Soft = NDArray[np.float32]
Picture = NDArray[np.uint8]
Where = NDArray[np.bool_]

DEFAULT = "default"  # `smoother=` of the segmenter: a Steady with its own half-life
HALF_LIFE = 0.8  # s
LONGEST_HALF_LIFE = 10.0  # s
PATIENCE = 0.1  # s for which a contradiction must last in a still picture
YOUNG = 1.25  # frames that the first one of a mean counts for: what moved may still be settling
GRID = 64  # most cells a side on which the picture is compared
# Levels of 255 by which a cell of the small picture must differ from its mean: up to the first it
# is still, from the second it moves. Both grow with the camera's noise: in medians of a frame's
# differences, most of which are noise. Chosen on the tuning clips of benchmarks/clips.py.
STILL, MOVING = 0.5, 2.0
STILL_NOISE, MOVING_NOISE = 3.0, 5.0
CROWD = 2.0  # of 9 cells around, so many moving ones move the middle one: noise is alone
# Cells around one: the network sees beyond a pixel, so its mask changes beside what moves.
AROUND = np.ones((5, 5), np.uint8)
# Of probability. Up to the first a difference in what moves is averaged, from the second it is not.
SLIGHT, PLAIN = 0.02, 0.15
CONTRADICTION = 0.3  # of probability: what differs less in a still picture is averaged, not judged
TOUCH = 0.1  # share of a contradiction beside motion that explains all of it
# Share of cells that move, from which the camera does: then what looks still is plain, not still.
# At .2 people who fill the frame lose their smoothing, at .4 a panning camera's masks are averaged.
PANS = 0.3
CUT_LEVEL, CUT_SHARE = 16.0, 0.6  # levels, and the share of cells over it: another scene
GAIN_STEP = 1.15  # the most a row's light may differ from the whole frame's change
GAIN_MOST = 3.0  # a larger step of the whole frame's light is another scene (or a black frame)
DARK = 4.0  # levels added before light is divided by light
# Rows average their gain with their neighbours'. No response below 0 at any frequency: the mean is
# corrected by what it differs by, and a box of 3 (-1/3 for rows in turn) would swing up, frame by
# frame.
NEIGHBOURS = np.array([[0.25], [0.5], [0.25]], np.float32)


class Smoother(Protocol):
    """Anything with these two methods can be passed as `EdgeSegmenter.open(smoother=...)`.

    One that is a `Guiding`, as `Steady` is, is asked for the picture that contours are drawn by;
    otherwise it is the frame's own.
    """

    def update(
        self, mask: NDArray[np.float32], picture: NDArray[np.uint8], timestamp: float | None
    ) -> NDArray[np.float32]:
        """Return the smoothed mask, of the same shape.

        mask: float32 (h, w) 0..1 at the network's output size. picture: uint8 (H, W, 3), what the
        network saw. timestamp: seconds, any origin, monotonic; None where the caller has none.
        """
        ...

    def reset(self) -> None:
        """Forget what was seen: the next mask is a first one."""
        ...


@runtime_checkable
class Guiding(Smoother, Protocol):
    """A smoother that also says which picture a mask's contours are drawn by."""

    def steadied(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture for the mask of the last `update`, uint8 (H, W, 3) as given."""
        ...

    def between(self, picture: NDArray[np.uint8], timestamp: float) -> NDArray[np.uint8]:
        """The same for a frame without an `update`, whose mask was carried."""
        ...


def resolve(smoother: Smoother | str | None) -> Smoother | None:
    """Return what `smoother=` means: "default" is a fresh `Steady`, None is none.

    Raises SettingError for anything that is no smoother.
    """
    if isinstance(smoother, str):
        if smoother == DEFAULT:
            return Steady()
    elif smoother is None:
        return None
    elif not isinstance(smoother, type) and all(hasattr(smoother, v) for v in ("update", "reset")):
        return smoother
    raise SettingError(
        f"wanted smoother= as {DEFAULT!r}, None or an object with update() and reset(), found "
        f"{smoother!r}; edge_seg.baselines.baseline(name) makes the classics"
    )


def checked(mask: NDArray[np.floating], known: Soft | None) -> Soft:
    """Return a mask as float32 (h, w) without NaN: there what was known, else background.

    Raises FrameError for anything but floats (h, w).
    """
    if mask.ndim != 2 or mask.dtype.kind != "f" or not mask.size:
        raise FrameError(
            f"wanted a mask of floats 0..1 (height, width), found {mask.dtype} {mask.shape}; pass "
            "the network's decoded mask"
        )
    soft: Soft = np.asarray(mask, dtype=np.float32)
    if math.isfinite(float(soft.sum())):  # one sum finds any NaN or infinity
        return soft
    bad = ~np.isfinite(soft)
    log.warning(
        "wanted a mask of numbers, found %d of %d pixels that are none; they keep their last value",
        np.count_nonzero(bad),
        soft.size,
    )
    return np.where(bad, np.float32(0) if known is None else known, soft).astype(np.float32)


class Steady:
    """The default smoother. half_life: seconds over which a still pixel forgets half.

    A frame is taken as a first one, and its mask returned as it is: after `reset`, where the
    timestamp is absent, not finite or earlier than the last, after a pause of more than 1 s, where
    mask or picture change their size, and where most of the picture changes at once (a scene cut,
    a black frame). A repeated timestamp adds no time: what moves goes through, the rest stays; a
    clock that stands is said, and its frames are first ones.

    Raises SettingError for a half-life that is none.

    >>> smoother = Steady(half_life=0.3)
    >>> mask, picture = np.ones((56, 56), np.float32), np.zeros((224, 224, 3), np.uint8)
    >>> float(smoother.update(mask, picture, 0.0).min())
    1.0
    """

    def __init__(self, half_life: float = HALF_LIFE) -> None:
        seconds = number(half_life)
        if seconds is None or not 0 < seconds <= LONGEST_HALF_LIFE:
            raise SettingError(
                f"wanted a half-life above 0 and up to {LONGEST_HALF_LIFE:g} seconds, found "
                f"{half_life!r}; give seconds, or no smoother to switch it off"
            )
        self.half_life = half_life = seconds
        self._times = FrameTimes()
        self._picture_shape: tuple[int, ...] = ()
        self._guide = Guide(half_life)
        self._moving: Soft | None = None  # of the last update; None: it was a first frame
        self._shown_at = 0.0  # s: of the last picture that was averaged
        self._unseen = 0  # updates since `steadied` was asked
        self._mask: Soft | None = None
        self._mean: Soft  # of the picture, float32 (3, rows, columns)
        self._age: Soft  # s over which the means were taken
        self._waited: Soft  # s of the contradiction less those without between; below 0: over
        self._more: Where  # of the contradiction: more person, or less

    def reset(self) -> None:
        """Forget what was seen: the next mask is a first one."""
        self._times.reset()
        self._guide.reset()
        self._mask = self._moving = None

    def steadied(self, picture: Picture) -> Picture:
        """Return the picture of the last `update`, averaged over the half-life where it is still.

        uint8 (H, W, 3) as given; the picture itself for a first frame, and where an update passed
        without being asked for its picture.
        """
        if self._unseen > 1:
            self._guide.reset()
        self._unseen = 0
        return self._shown(picture, self._moving, self._times.last)

    def between(self, picture: Picture, timestamp: float) -> Picture:
        """The same for a frame without an `update`, whose mask was carried."""
        if self._mask is None or self._unseen or picture.shape != self._picture_shape:
            return picture
        moving = self._motion(reduced(picture, self._mask.shape))
        return self._shown(picture, moving, timestamp)

    def _shown(self, picture: Picture, moving: Soft | None, at: float) -> Picture:
        seconds, self._shown_at = max(0.0, at - self._shown_at), at
        return self._guide.update(picture, moving, seconds)

    def update(self, mask: Soft, picture: Picture, timestamp: float | None) -> Soft:
        """Return the smoothed mask, float32 of the mask's shape, a new array.

        Raises FrameError for a mask, picture or timestamp that is none.
        """
        last = self._mask if self._mask is not None and self._mask.shape == mask.shape else None
        soft = checked(mask, last)
        small = reduced(picture, soft.shape)
        seconds = self._times.step(timestamp)
        self._unseen += 1
        if last is None or seconds is None or picture.shape != self._picture_shape:
            return self._first(soft, picture, small)
        moving = self._motion(small)
        if moving is None:
            return self._first(soft, picture, small)
        self._moving = moving
        return self._blend(soft, small, moving, seconds)

    def _first(self, soft: Soft, picture: Picture, small: Soft) -> Soft:
        self._picture_shape = picture.shape
        self._moving = None
        self._mask, self._mean = soft.copy(), small
        self._age = np.zeros(small.shape[1:], np.float32)
        self._waited = np.full_like(soft, -1)
        self._more = np.zeros(soft.shape, bool)
        return soft.copy()

    def _motion(self, small: Soft) -> Soft | None:
        """Return how much each cell moves, 0..1; None where it is another scene.

        The mean picture is first brought to the light of this frame, row by row, so that
        exposure steps and the bands of lamps are no motion.
        """
        gains = _gains(small, self._mean)
        if gains is None:
            return None
        self._mean *= gains[:, None]
        difference = np.abs(small - self._mean).max(axis=0)
        if share_of(difference > CUT_LEVEL) > CUT_SHARE:
            return None
        noise = float(_median(difference[::2, ::2].ravel()))
        still = max(STILL, STILL_NOISE * noise)
        span = max(MOVING, MOVING_NOISE * noise) - still
        moving = np.clip((difference - np.float32(still)) * np.float32(1 / span), 0, 1)
        crowd = np.minimum(cv2.blur(moving, (3, 3)) * np.float32(9 / CROWD), 1)
        if share_of(crowd > GOES) > PANS:
            crowd.fill(1)
        return np.asarray(crowd, dtype=np.float32)

    def _blend(self, soft: Soft, small: Soft, moving: Soft, seconds: float) -> Soft:
        assert self._mask is not None
        rests = self._resting(seconds)
        self._mean += (rests + (1 - rests) * moving) * (small - self._mean)
        self._age = (self._age + np.float32(seconds)) * (1 - moving)
        rests, fast = _sized(rests, soft.shape), _sized(moving, soft.shape)
        difference = soft - self._mask
        size_of = np.abs(difference)
        weight = (size_of - np.float32(SLIGHT)) * np.float32(1 / (PLAIN - SLIGHT))
        np.clip(weight, 0, 1, out=weight)
        weight *= fast
        weight += rests - weight * rests
        differs = size_of > CONTRADICTION
        if differs.any():
            beside = _sized(cv2.dilate(moving, AROUND), soft.shape) >= 0.5
            believed, waits = self._judge(difference > 0, differs, beside, seconds)
            weight[believed], weight[waits] = 1, 0
        else:
            self._waited -= np.float32(seconds)
        self._mask += weight * difference
        return self._mask.copy()

    def _resting(self, seconds: float) -> Soft:
        """Return the weight of this frame where nothing moves.

        That of the half-life, or of a plain mean over fewer frames where the mean is still young.
        """
        least = np.float32(1 - 2 ** (-seconds / self.half_life))
        if not seconds:
            return np.full_like(self._age, least)
        step = np.float32(seconds)
        return np.maximum(step / (self._age + YOUNG * step), least).astype(np.float32)

    def _judge(
        self, more: Where, differs: Where, beside: Where, seconds: float
    ) -> tuple[Where, Where]:
        """Return which contradictions are believed now, and which wait.

        Beside motion they are believed at once; in a still picture they must last. A frame between
        that agrees counts against them: lamps make some networks blink in every third frame.
        """
        step = np.float32(seconds)
        against = differs & ~beside
        goes_on = against & (more == self._more) & (self._waited > -step / 2)
        waited = (self._waited + step) * goes_on
        # Believed in the last frame that is not later than PATIENCE, or in the first further one.
        lasted = goes_on & (waited + step > PATIENCE + 1e-3) & (waited > 0)
        waits = against & ~lasted
        moved = differs & beside
        if moved.any() and waits.any():
            waits[waits] = ~_touched(differs, moved, waits)
        self._waited -= step
        self._waited[differs] = -1
        np.copyto(self._waited, waited, where=waits)
        np.copyto(self._more, more, where=differs)
        return differs & ~waits, waits


def reduced(picture: Picture, size: tuple[int, ...]) -> Soft:
    """Return the picture on a grid, float32 (3, rows, columns) 0..255. Raises FrameError.

    The grid is the mask's, or for a mask with a side over `GRID` one of cells of so many whole
    pixels that it has no more: halving twice takes a third of the time of what is no halving.
    """
    check_picture(picture, "picture", "; pass what the network saw")
    height, width = size
    if max(size) > GRID:
        cell = -(-max(picture.shape) // GRID)
        height, width = (max(1, round(side / cell)) for side in picture.shape[:2])
    small = shrink(picture, (height, width))
    return np.ascontiguousarray(small.transpose(2, 0, 1), dtype=np.float32)


def _gains(now: Soft, before: Soft) -> Soft | None:
    """Return by how much each row's light changed: the median of the quotient along the row.

    A row that a person fills is held to what the whole frame did, within `GAIN_STEP`. None where
    the whole frame's light changed by more than `GAIN_MOST`.
    """
    bright, was = now[:, :, ::2].sum(axis=0), before[:, :, ::2].sum(axis=0)
    rows = _median((bright + 3 * DARK) / (was + 3 * DARK))
    whole = float(_median(rows))
    if not 1 / GAIN_MOST <= whole <= GAIN_MOST:
        return None
    rows = cv2.filter2D(rows.astype(np.float32)[:, None], -1, NEIGHBOURS)[:, 0]
    return np.asarray(np.clip(rows, whole / GAIN_STEP, whole * GAIN_STEP), dtype=np.float32)


def _median(values: Soft) -> Soft:
    """Return the median along the last axis: np.median without what it does for NaN and masks.

    So few values are sorted sooner than np.partition sets them apart.
    """
    low, high = (values.shape[-1] - 1) // 2, values.shape[-1] // 2
    ordered = np.sort(values, axis=-1)
    return np.asarray((ordered[..., low] + ordered[..., high]) / 2, dtype=np.float32)


def _sized(cells: Soft, size: tuple[int, ...]) -> Soft:
    """Return what is known per cell of the grid at the mask's size (height, width)."""
    if cells.shape == size:
        return cells
    return np.asarray(cv2.resize(cells, (size[1], size[0])), dtype=np.float32)


def _touched(differs: Where, moved: Where, where: Where) -> Where:
    """Return which pixels of `where` are of a connected difference of which over `TOUCH` moved.

    differs, moved, where: bool (h, w), the latter two parts of the first; result: bool, one per
    pixel of `where`. Who comes in is one contradiction, also where they look like the wall.
    """
    count, labels = cv2.connectedComponents(differs.view(np.uint8), connectivity=8)
    moves, areas = (np.bincount(labels[part], minlength=count) for part in (moved, differs))
    touched = moves / np.maximum(areas, 1) > TOUCH
    return np.asarray(touched[labels[where]], dtype=bool)
