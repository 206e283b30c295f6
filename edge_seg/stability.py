"""What the temporal numbers mean: how still, how right and how late the masks of a clip are.

A mask is float (h, w) 0..1 and is judged at its label's size; labels are uint8 0, 1, 255 = ignored;
times are seconds. A pixel is *static* while its truth is the same as in every frame of the last
200 ms: what changed just now may still be settling. Means are over pixels, then over frames.

    figure      unit          formula and source
    dtssd       percent       sqrt(mean(((a_t - a_t-1) - (g_t - g_t-1))^2)): Erofeev et al., BMVC
                              2015, as Robust Video Matting's evaluate_lr.py scales it
    flicker     percent       mean |a_t - a_t-1| over static pixels
    warped      percent       sqrt(mean((a_t - W(a_t-1))^2)) where the flow holds: Lai et al.,
                              ECCV 2018; W by OpenCV's DIS flow, forward-backward check
    flips       1/s           changes of a >= 0.5 per static pixel and second
    steady      fraction      pixels static for 500 ms and right in all its frames: VC of VSPW (Miao
                              et al., CVPR 2021) with seconds for frames; wants accuracy too
    ghosting    percent       mean a where the truth is background and was person within 200 ms
    dropouts    count         runs of frames that cover 20 points less of the person than the best
                              of the 500 ms before, and return within 1 s
    lag         ms            how much later than the raw masks true changes arrive, divided by the
                              same for raw masks one frame late (`Lag`)
    delay       ms            the same against the truth itself: how late a true change shows
    contrast    fraction      mean a over the person less mean a over the background, where right
    moves       fraction      of the frames in which the truth changes: those in which a does
    mae         percent       mean |a - g|
    miou, boundary_f          `metrics`

No stability figure means anything alone: an empty mask and a frozen one are perfectly still, and
half the contrast halves every difference. `doubts` therefore names masks whose stillness says
nothing, and `compare` judges against the raw masks and names every figure that was paid with; only
what it accepts is better.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import FrameError
from edge_seg.metrics import (
    IGNORE,
    LEAST_ABOVE_CHANCE,
    THRESHOLD,
    Areas,
    Binary,
    boundary_f,
    chance_miou,
)

Soft = NDArray[np.float32]
Label = NDArray[np.uint8]
Picture = NDArray[np.uint8]

SETTLING = 0.2  # s: a truth that changed so recently is not static; also how far back ghosts come
STEADY = 0.5  # s over which a pixel must be right to be steadily right
TRACE = 0.4  # s after a true change in which a delay is looked for, and at least TRACE_FRAMES
TRACE_FRAMES = 3
DROP = 0.2  # of the person's area
DROP_MEMORY, DROP_RETURN = 0.5, 1.0  # s
FLOW_ERROR = 8.0  # px^2 of |forward + backward|^2: where more, the flow is not believed
LEAST_PERSON = 0.005  # of the picture: less is no person to lose
CLOSE = 1e-6  # s: times that differ by less are the same

# What `compare` forgives: the limits, per clip. Fractions of mIoU, percent of ghosting.
MIOU_LOSS, GHOST_GAIN, MAE_GAIN, BOUNDARY_LOSS = 0.001, 0.5, 1.02, 0.005
LAG_MOST, LAG_FRAMES = 40.0, 0.5  # ms, frames: whichever is longer

# What `doubts` takes for no segmentation that moves: contrast (networks that work have 0.85 to
# 0.98, halved ones half of that), moves.
LEAST_CONTRAST, LEAST_MOVES = 0.6, 0.5
UNCHANGED = 1e-6  # mean |a_t - a_t-1| of a mask that did not change: rounding


@dataclass(frozen=True)
class Motion:
    """Where each pixel was in the frame before: maps x, y float32 (H, W), and where that holds."""

    x: Soft
    y: Soft
    valid: Binary

    def warp(self, mask: Soft) -> Soft:
        """Return the earlier mask carried to the later frame."""
        return np.asarray(
            cv2.remap(mask, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            dtype=np.float32,
        )


def motion_between(before: Picture, after: Picture) -> Motion:
    """Return the motion from `after` back to `before`, both uint8 (H, W, 3), by DIS flow.

    A pixel counts where following the flow back and forth ends within sqrt(8) px of its start
    (the check of PP-HumanSeg) and inside the picture. Raises FrameError for frames of two sizes.
    """
    if before.shape != after.shape:
        raise FrameError(
            f"wanted frames of one size in a clip, found {before.shape} and then {after.shape}; "
            "judge the parts apart"
        )
    grey = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in (before, after)]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    back, forth = dis.calc(grey[1], grey[0], None), dis.calc(grey[0], grey[1], None)
    height, width = grey[0].shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + back[..., 0], rows + back[..., 1]
    there = cv2.remap(forth, x, y, cv2.INTER_LINEAR)
    error = ((back + there) ** 2).sum(axis=2)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return Motion(x, y, inside & (error < FLOW_ERROR))


@dataclass
class _Mean:
    """A mean over what there was; None where there was nothing."""

    total: float = 0.0
    count: float = 0.0

    def add(self, value: float, count: float = 1.0) -> None:
        self.total += value
        self.count += count

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class Truth:
    """What the labels of a clip say about time, pixel by pixel; the same for every method.

    changed: the truth changed in this frame. static: it did not, now or in the last SETTLING.
    left: background now, person within SETTLING. age: frames since the last change, and `clean`
    where that change came after SETTLING of rest: a clean step whose delay can be seen.
    """

    def __init__(self, label: Label, time: float) -> None:
        shape = label.shape
        self.label, self.time, self.first_time, self.frames = label, time, time, 0
        self.person, self.valid = label == 1, label != IGNORE
        self.person_before = self.person
        self.changed = np.zeros(shape, bool)
        self.sign = np.zeros(shape, np.int8)
        self.age = np.full(shape, -1, np.int32)  # -1: no change seen
        self.clean = np.zeros(shape, bool)
        self.changed_at = np.full(shape, -np.inf)
        self.person_at = np.where(self.person, time, -np.inf)
        self.unignored_at = np.where(self.valid, time, np.inf)

    def advance(self, label: Label, time: float) -> None:
        """Take the next frame's label. Raises FrameError for another size or an earlier time."""
        if label.shape != self.label.shape:
            raise FrameError(
                f"wanted labels of one size in a clip, found {self.label.shape} and then "
                f"{label.shape}; judge the parts apart"
            )
        if not time > self.time:
            raise FrameError(
                f"wanted times in seconds that grow, found {self.time:g} and then {time:g}; "
                "correct the clip's times"
            )
        person = label == 1
        self.valid = label != IGNORE
        both = self.valid & (self.label != IGNORE)
        self.changed = (person != self.person) & both
        self.sign = np.where(self.changed, np.where(person, 1, -1), self.sign).astype(np.int8)
        rested = time - self.changed_at >= SETTLING - CLOSE
        self.clean = np.where(self.changed, rested, self.clean & both)
        self.age = np.where(self.changed, 0, np.where(self.age >= 0, self.age + 1, -1))
        self.changed_at[self.changed | ~both] = time
        self.person_before = self.person
        self.label, self.person, self.time = label, person, time
        self.person_at[person] = time
        self.frames += 1

    @property
    def static(self) -> Binary:
        """Where the truth has been the same for longer than SETTLING (or since the start)."""
        return self.valid & (self.time - self.changed_at > SETTLING + CLOSE)

    @property
    def left(self) -> Binary:
        """Where a person was within SETTLING and is no more."""
        return self.valid & ~self.person & (self.time - self.person_at <= SETTLING + CLOSE)


@dataclass
class Lag:
    """How late true changes arrive, in frames, against raw masks and raw masks one frame late.

    After a clean step of the truth the raw mask is ahead of a delayed one by (raw - out) * sign.
    Summed over the frames after the step this is the area between the two step responses: the
    mean delay times the height of the step. The same sum for raw masks that are exactly one frame
    late gives that height, so the quotient is the delay in frames, whatever the network's blur.
    """

    own: dict[int, _Mean] = field(default_factory=dict)
    one: dict[int, _Mean] = field(default_factory=dict)

    def add(self, truth: Truth, out: Soft, raw: Soft, raw_before: Soft) -> None:
        """Count one frame."""
        since = truth.time - truth.changed_at
        near = (since <= TRACE + CLOSE) | (truth.age < TRACE_FRAMES)
        where = truth.clean & near & truth.valid & (truth.age >= 0)
        if not where.any():
            return
        ages, sign = truth.age[where], truth.sign[where]
        count = np.bincount(ages)
        for table, late in ((self.own, out), (self.one, raw_before)):
            ahead = np.bincount(ages, weights=(raw[where] - late[where]) * sign)
            for age in np.flatnonzero(count):
                table.setdefault(int(age), _Mean()).add(float(ahead[age]), float(count[age]))

    @property
    def frames(self) -> float | None:
        """The delay in frames; None where no step was seen."""
        own, one = (sum(m.value or 0.0 for m in t.values()) for t in (self.own, self.one))
        return own / one if one > 0 else None


@dataclass
class _Dropouts:
    """Runs of frames in which much of the person is missing and comes back."""

    count: int = 0
    _recent: deque[tuple[float, float]] = field(default_factory=deque)
    _lost: tuple[float, float] | None = None  # (since when, what was covered before)

    def add(self, covered: float | None, time: float) -> None:
        if covered is None:  # no person: nothing to lose, nothing to return to
            self._recent.clear()
            self._lost = None
            return
        while self._recent and time - self._recent[0][0] > DROP_MEMORY + CLOSE:
            self._recent.popleft()
        best = max((share for _, share in self._recent), default=covered)
        if self._lost is None:
            if covered < best - DROP:
                self._lost = (time, best)
        elif covered >= self._lost[1] - DROP:
            self.count += time - self._lost[0] <= DROP_RETURN + CLOSE
            self._lost = None
            self._recent.clear()
        if self._lost is None:
            self._recent.append((time, covered))


@dataclass(frozen=True)
class Figures:
    """The figures of one method on one clip; None where the clip has nothing to measure it on."""

    miou: float
    boundary_f: float
    mae: float
    steady: float | None
    dtssd: float | None
    flicker: float | None
    warped: float | None
    flips: float | None
    ghosting: float | None
    dropouts: int
    lag: float | None
    delay: float | None
    contrast: float | None
    moves: float | None
    chance: float | None  # the mIoU of a mask that covers as much of the picture, anywhere
    frame_ms: float | None
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures as JSON holds them."""
        return dict(vars(self))

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the stillness of these masks says nothing, in words; () where nothing speaks so.

        An empty mask and one of noise are no better than chance, a frozen one shows true changes
        never, and a pale one hides its differences. `delay` is no test of its own: a contour that
        creeps over a coarse mask shows late in every network's masks.
        """
        found = []
        if self.chance is not None and self.miou <= self.chance + LEAST_ABOVE_CHANCE:
            found.append(
                f"no better than chance (mIoU {100 * self.miou:.1f}, a mask that covers as much "
                f"anywhere {100 * self.chance:.1f})"
            )
        if self.contrast is not None and self.contrast < LEAST_CONTRAST:
            found.append(f"pale (person and background only {self.contrast:.2f} of 1 apart)")
        if self.moves is not None and self.moves < LEAST_MOVES:
            found.append(f"frozen (in {1 - self.moves:.0%} of the frames in which the truth moves)")
        return tuple(found)


class Stability:
    """Gathers the figures of a clip's masks, frame by frame.

    >>> judge = Stability()
    >>> for mask, label, time in clip:                                    # doctest: +SKIP
    ...     judge.add(mask, label, time)
    >>> judge.figures()                                                    # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._truth: Truth | None = None
        self._areas = Areas()
        self._boundary: list[float] = []
        self._mae, self._dtssd, self._flicker = _Mean(), _Mean(), _Mean()
        self._warped, self._flips, self._ghosts = _Mean(), _Mean(), _Mean()
        self._steady = _Mean()
        self._wrong_at: NDArray[np.float64] | None = None
        self._dropouts, self._lag, self._delay = _Dropouts(), Lag(), Lag()
        self._person, self._room, self._moves = _Mean(), _Mean(), _Mean()
        self._before: tuple[Soft, Soft | None, NDArray[np.bool_]] | None = None
        self._began = 0.0

    def add(
        self,
        mask: NDArray[np.floating],
        label: Label,
        time: float,
        *,
        raw: NDArray[np.floating] | None = None,
        motion: Motion | None = None,
    ) -> None:
        """Count one frame.

        mask: float (h, w) 0..1; label: uint8 (H, W); time: seconds, growing. raw: the mask before
        smoothing, for the lag. motion: from this frame back to the last, at the label's size, for
        `warped`. Raises FrameError for integers, NaN, labels of two sizes, a motion of another,
        times that do not grow.
        """
        time = _seconds(time)
        if motion is not None and motion.valid.shape != label.shape:
            raise FrameError(
                f"wanted the motion at the label's size {label.shape}, found {motion.valid.shape}; "
                "bring labels to their frames' size"
            )
        soft = _at(mask, label.shape)
        raw_soft = None if raw is None else _at(raw, label.shape)
        if self._truth is None:
            self._truth, self._began = Truth(label, time), time
        else:
            seconds = time - self._truth.time
            self._truth.advance(label, time)
            self._add_change(soft, raw_soft, motion, seconds)
        truth = self._truth
        self._add_picture(soft, truth)
        self._before = (soft, raw_soft, truth.valid)

    def _add_picture(self, soft: Soft, truth: Truth) -> None:
        person = soft >= THRESHOLD
        self._areas.add(person, truth.label)
        self._boundary.append(boundary_f(person, truth.label))
        if truth.valid.any():
            self._mae.add(float(np.abs(soft - truth.person)[truth.valid].mean()))
        for right, mean in (
            (person & truth.person & truth.valid, self._person),
            (~person & ~truth.person & truth.valid, self._room),
        ):
            mean.add(float(soft[right].sum()), float(np.count_nonzero(right)))
        if (left := truth.left).any():
            self._ghosts.add(float(soft[left].sum()), float(np.count_nonzero(left)))
        size = int(np.count_nonzero(truth.person))
        seen = int(np.count_nonzero(person & truth.person))
        self._dropouts.add(seen / size if size >= LEAST_PERSON * person.size else None, truth.time)
        if self._wrong_at is None:
            self._wrong_at = np.full(soft.shape, -np.inf)
        self._wrong_at[person != truth.person] = truth.time
        if truth.time - self._began >= STEADY - CLOSE:
            resting = truth.valid & (truth.time - truth.changed_at > STEADY + CLOSE)
            right = resting & (truth.time - self._wrong_at > STEADY + CLOSE)
            self._steady.add(float(np.count_nonzero(right)), float(np.count_nonzero(resting)))

    def _add_change(
        self, soft: Soft, raw: Soft | None, motion: Motion | None, seconds: float
    ) -> None:
        assert self._before is not None and self._truth is not None
        before, raw_before, valid_before = self._before
        truth = self._truth
        both = truth.valid & valid_before
        change = soft - before
        true_change = truth.sign * truth.changed
        if both.any():
            self._dtssd.add(float(np.sqrt(((change - true_change)[both] ** 2).mean())))
        if truth.changed.any():
            self._moves.add(float(np.abs(change).mean() > UNCHANGED))
        if (static := truth.static).any():
            self._flicker.add(float(np.abs(change[static]).mean()))
            flipped = ((soft >= THRESHOLD) != (before >= THRESHOLD))[static].mean()
            self._flips.add(float(flipped), seconds)
        if motion is not None and (known := motion.valid & both).any():
            error = (soft - motion.warp(before))[known]
            self._warped.add(float(np.sqrt((error**2).mean())))
        if raw is not None and raw_before is not None:
            self._lag.add(truth, soft, raw, raw_before)
        ideal, ideal_before = (p.astype(np.float32) for p in (truth.person, truth.person_before))
        self._delay.add(truth, soft, ideal, ideal_before)

    def figures(self) -> Figures:
        """Return the figures so far. Raises FrameError where no frame was added."""
        if self._truth is None:
            raise FrameError("wanted a clip to judge, found no frame; add some")
        frames = self._truth.frames
        frame_ms = 1e3 * (self._truth.time - self._began) / frames if frames else None
        person, room = self._person.value, self._room.value
        areas = self._areas
        return Figures(
            miou=areas.miou,
            boundary_f=float(np.mean(self._boundary)),
            mae=_percent(self._mae) or 0.0,
            steady=self._steady.value,
            dtssd=_percent(self._dtssd),
            flicker=_percent(self._flicker),
            warped=_percent(self._warped),
            flips=self._flips.value,
            ghosting=_percent(self._ghosts),
            dropouts=self._dropouts.count,
            lag=_times(self._lag.frames, frame_ms),
            delay=_times(self._delay.frames, frame_ms),
            contrast=None if person is None or room is None else person - room,
            moves=self._moves.value,
            chance=chance_miou(areas.predicted_share, areas.true_share)
            if 0 < areas.true_share < 1
            else None,
            frame_ms=frame_ms,
            n=len(self._boundary),
        )


def _times(frames: float | None, frame_ms: float | None) -> float | None:
    return None if frames is None or frame_ms is None else frames * frame_ms


def _percent(mean: _Mean) -> float | None:
    return None if mean.value is None else 100 * mean.value


def _seconds(time: float) -> float:
    seconds = float(time)  # NumPy's numbers would end in figures that JSON does not take
    if not math.isfinite(seconds):
        raise FrameError(
            f"wanted times in seconds that grow, found {time}; correct the clip's times"
        )
    return seconds


def _at(mask: NDArray[np.floating], size: tuple[int, ...]) -> Soft:
    if mask.dtype.kind != "f":
        raise FrameError(f"wanted a soft mask of floats 0..1, found {mask.dtype}; divide it by 255")
    soft = mask.astype(np.float32, copy=False)
    if not math.isfinite(float(soft.sum())):  # one sum finds any NaN or infinity
        bad = int(np.count_nonzero(~np.isfinite(soft)))
        raise FrameError(
            f"wanted a mask of numbers, found {bad} of {soft.size} pixels that are none (NaN or "
            "infinite); correct what made it, figures of it would be none"
        )
    if soft.shape != size:
        soft = cv2.resize(soft, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return soft


@dataclass(frozen=True)
class Comparison:
    """A method's masks against the raw ones of the same clip.

    dtssd, flicker, warped: ratios, below 1 is stiller; None where raw has nothing to divide by.
    paid: what it cost, in words. `better` only where nothing was paid and something was gained.
    """

    dtssd: float | None
    flicker: float | None
    warped: float | None
    miou: float  # points
    paid: tuple[str, ...]

    @property
    def better(self) -> bool:
        """Stiller by dtSSD and flicker, and no figure of accuracy or lag lost more than allowed."""
        ratios = [r for r in (self.dtssd, self.flicker) if r is not None]
        return not self.paid and bool(ratios) and max(ratios) < 1.0

    def __str__(self) -> str:
        """One line for people: the gain, or why there is none."""
        if self.paid:
            return f"not better: {'; '.join(self.paid)}"
        shown = (("dtSSD", self.dtssd), ("flicker", self.flicker), ("warped", self.warped))
        return ", ".join(f"{name} {ratio:.2f}x" for name, ratio in shown if ratio is not None)


def compare(found: Figures, raw: Figures) -> Comparison:
    """Return how a method compares with the raw masks on one clip.

    What it pays for stillness is named: mIoU more than 0.1 points down, boundary F more than 0.5
    points, MAE more than 2 % up, steadily right pixels lost, ghosting more than 0.5 points up,
    drop-outs more, lag over 40 ms and half a frame, dtSSD above raw.
    """
    paid = []
    if found.miou < raw.miou - MIOU_LOSS:
        paid.append(f"mIoU {100 * (found.miou - raw.miou):+.2f} points")
    if found.boundary_f < raw.boundary_f - BOUNDARY_LOSS:
        paid.append(f"boundary F {100 * (found.boundary_f - raw.boundary_f):+.2f} points")
    if found.mae > raw.mae * MAE_GAIN + CLOSE:
        paid.append(f"MAE {found.mae - raw.mae:+.2f} points")
    if found.steady is not None and raw.steady is not None and found.steady < raw.steady - 0.001:
        paid.append(f"steadily right {100 * (found.steady - raw.steady):+.2f} points")
    if found.ghosting is not None and raw.ghosting is not None:
        if found.ghosting > raw.ghosting + GHOST_GAIN:
            paid.append(f"ghosting {found.ghosting - raw.ghosting:+.1f} points")
    if found.dropouts > raw.dropouts:
        paid.append(f"{found.dropouts - raw.dropouts} more drop-outs")
    if found.lag is not None and found.frame_ms is not None:
        if found.lag > max(LAG_MOST, LAG_FRAMES * found.frame_ms):
            paid.append(f"lag {found.lag:.0f} ms")
    dtssd = _ratio(found.dtssd, raw.dtssd)
    if dtssd is not None and dtssd > 1.0 + CLOSE:
        paid.append(f"dtSSD {dtssd:.2f}x")
    return Comparison(
        dtssd=dtssd,
        flicker=_ratio(found.flicker, raw.flicker),
        warped=_ratio(found.warped, raw.warped),
        miou=100 * (found.miou - raw.miou),
        paid=tuple(paid),
    )


def _ratio(found: float | None, raw: float | None) -> float | None:
    return None if found is None or raw is None or raw < 1e-6 else found / raw
