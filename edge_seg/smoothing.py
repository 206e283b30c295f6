"""Stable masks in seconds, not in frames: still where the picture is still, at once where it moves.

    mask       float32 (h, w) 0..1        at the network's output size, before it is enlarged (a
                                          per-pixel filter costs about thirty times more at 720p)
    picture    uint8 (H, W, 3)            what the network saw
    timestamp  seconds, any origin        None: no time is known

`Steady` is the smoother that is on by default for streams. It keeps a mean of the last masks and,
with the same weights, of the picture (`movement`). Where the picture differs from that mean by more
than the camera's noise, the mask goes through at once. Where it does not, the mask is averaged over
a half-life; a mask that contradicts the mean there is believed only once the contradiction has
lasted `PATIENCE`, or one further frame: a blink does not. docs/smoothing.md has the measurements
and what was tried instead; `baselines` has the classics.
"""

from __future__ import annotations

import logging
import math
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture, Soft
from edge_seg.errors import FrameError, SettingError
from edge_seg.guide import Guide
from edge_seg.movement import Movement, reduced
from edge_seg.timestamps import FrameTimes, number

log = logging.getLogger("edge_seg")
Where = NDArray[np.bool_]

DEFAULT = "default"  # `smoother=` of the segmenter: a Steady with its own half-life
HALF_LIFE = 0.8  # s
LONGEST_HALF_LIFE = 10.0  # s
PATIENCE = 0.1  # s for which a contradiction must last in a still picture
# Cells around one: the network sees beyond a pixel, so its mask changes beside what moves.
AROUND = np.ones((5, 5), np.uint8)
# Of probability. Up to the first a difference in what moves is averaged, from the second it is not.
SLIGHT, PLAIN = 0.02, 0.15
CONTRADICTION = 0.3  # of probability: what differs less in a still picture is averaged, not judged
TOUCH = 0.1  # share of a contradiction beside motion that explains all of it


class Smoother(Protocol):
    """Anything with these two methods can be passed as `EdgeSegmenter.open(smoother=...)`.

    A `Guiding`, such as `Steady`, also gives the picture that contours are drawn by; with any other
    smoother that is the frame's own.
    """

    def update(
        self, mask: NDArray[np.float32], picture: NDArray[np.uint8], timestamp: float
    ) -> NDArray[np.float32]:
        """Return the smoothed mask, of the same shape.

        mask: float32 (h, w) 0..1 at the network's output size. picture: uint8 (H, W, 3), what the
        network saw. timestamp: seconds, any origin, monotonic; frames without one are left alone.
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
    """Return what `smoother=` means: "default" is a fresh `Steady`, None no smoother.

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
        "wanted a mask of numbers, found NaN or infinity in %d of %d pixels; they keep their last "
        "value",
        np.count_nonzero(bad),
        soft.size,
    )
    return np.where(bad, np.float32(0) if known is None else known, soft).astype(np.float32)


def checked_answer(found: Soft, given: Soft) -> Soft:
    """Return a smoother's mask cut to 0..1: one of somebody else's may go beyond.

    given: the mask that it got. Raises FrameError for another shape or dtype, and for NaN.
    """
    if not isinstance(found, np.ndarray) or found.shape != given.shape or found.dtype != np.float32:
        form = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found)
        raise FrameError(
            f"wanted a smoother's mask as float32 {given.shape}, as it was given, found {form}; "
            "correct its update()"
        )
    if np.isnan(found).any():  # it would become "nobody"
        raise FrameError(
            "wanted a smoother's mask of 0..1, found NaN in it; correct its update() "
            "(does it divide by zero?)"
        )
    return np.clip(found, 0, 1)


class Steady:
    """The default smoother. half_life: seconds over which a still pixel forgets half.

    A frame is taken as a first one, and its mask returned as it is: after `reset`, where the
    timestamp is absent, not finite or earlier than the last, after a pause of more than 1 s, where
    mask or picture change their size, and where most of the picture changes at once (a scene cut,
    a black frame). A repeated timestamp adds no time: what moves goes through, the rest stays.
    Where the same one comes again and again, a log line says so, and those frames are first ones.

    Raises SettingError unless 0 < half_life <= 10 s.

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
        self._movement = Movement(half_life)
        self._guide = Guide(half_life)
        self._moving: Soft | None = None  # of the last update; None: it was a first frame
        self._shown_at = 0.0  # s: of the last picture that was averaged
        self._unseen = 0  # updates since `steadied` was asked
        self._mask: Soft | None = None
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
        moving = self._movement.of(reduced(picture, self._mask.shape))
        return self._shown(picture, moving, timestamp)

    def _shown(self, picture: Picture, moving: Soft | None, at: float) -> Picture:
        seconds, self._shown_at = max(0.0, at - self._shown_at), at
        return self._guide.update(picture, moving, seconds)

    def update(self, mask: Soft, picture: Picture, timestamp: float | None) -> Soft:
        """Return the smoothed mask, float32 of the mask's shape, a new array.

        Raises FrameError for a mask, picture or timestamp of the wrong form.
        """
        last = self._mask if self._mask is not None and self._mask.shape == mask.shape else None
        soft = checked(mask, last)
        small = reduced(picture, soft.shape)
        seconds = self._times.step(timestamp)
        self._unseen += 1
        if last is None or seconds is None or picture.shape != self._picture_shape:
            return self._first(soft, picture, small)
        moving = self._movement.of(small)
        if moving is None:
            return self._first(soft, picture, small)
        self._moving = moving
        return self._blend(soft, small, moving, seconds)

    def _first(self, soft: Soft, picture: Picture, small: Soft) -> Soft:
        self._picture_shape = picture.shape
        self._moving = None
        self._movement.begin(small)
        self._mask = soft.copy()
        self._waited = np.full_like(soft, -1)
        self._more = np.zeros(soft.shape, bool)
        return soft.copy()

    def _blend(self, soft: Soft, small: Soft, moving: Soft, seconds: float) -> Soft:
        assert self._mask is not None
        rests = self._movement.learn(small, moving, seconds)
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
        lasted = goes_on & (waited + step > PATIENCE + 1e-3)
        waits = against & ~lasted
        moved = differs & beside
        if moved.any() and waits.any():
            waits[waits] = ~_touched(differs, moved, waits)
        self._waited -= step
        self._waited[differs] = -1
        np.copyto(self._waited, waited, where=waits)
        np.copyto(self._more, more, where=differs)
        return differs & ~waits, waits


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
