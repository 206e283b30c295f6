"""What the temporal numbers mean: how still, how right and how late the masks of a clip are.

A mask is float (h, w) 0..1 and is judged at its label's size; labels are uint8 0, 1, 255 = ignored;
times are seconds. A pixel is *static* while its truth is the same as in every frame of the last
200 ms: what changed just now may still be settling. Means are over a frame's pixels, then over
frames; those marked * over the pixels of all frames at once.

    figure      unit          formula and source
    dtssd       percent       sqrt(mean(((a_t - a_t-1) - (g_t - g_t-1))^2)): Erofeev et al., BMVC
                              2015, as Robust Video Matting's evaluate_lr.py scales it
    flicker     percent       mean |a_t - a_t-1| over static pixels
    warped      percent       sqrt(mean((a_t - W(a_t-1))^2)) where the flow holds: the root of Lai
                              et al., ECCV 2018; W by OpenCV's DIS flow, forward-backward check
    flips       1/s           changes of a >= 0.5 per static pixel and second
    steady      fraction *    pixels static for 500 ms and right in all its frames: VC of VSPW (Miao
                              et al., CVPR 2021, a mean of frames there) with seconds for frames;
                              wants accuracy too
    ghosting    percent *     mean a where the truth is background and was person within 200 ms
    dropouts    count         runs of frames that cover 20 points less of the person than the best
                              of the 500 ms before (at least of one frame), and return within 1 s
    lag         ms            how much later than the raw masks true changes arrive, divided by the
                              same for raw masks one frame late (`Lag`)
    delay       ms            the same against the truth itself: how late a true change shows
    contrast    fraction *    mean a over the person less mean a over the background, where right
    moves       fraction      of the frames in which the truth changes: those in which a does
    mae         percent       mean |a - g|
    miou, boundary_f          `metrics`

No stability figure means anything alone: an empty mask and a frozen one are perfectly still, and
half the contrast halves every difference. `Figures.doubts` therefore names masks whose stillness
says nothing, and `gain` judges against the raw masks and names every figure that was paid with;
only what it accepts is better.

    motion      where each pixel was in the frame before
    truth       what the labels say about time
    lag, dropouts, means      parts of the gathering
    figures     the figures of a clip, and doubts of them
    gain        a method's figures against those of the raw masks
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Label, Soft
from edge_seg.errors import FrameError
from edge_seg.metrics import THRESHOLD, Areas, boundary_f, chance_miou, soft_at
from edge_seg.stability.dropouts import Dropouts
from edge_seg.stability.figures import Figures
from edge_seg.stability.lag import Lag
from edge_seg.stability.means import Mean
from edge_seg.stability.motion import Motion
from edge_seg.stability.truth import CLOSE, Truth

STEADY = 0.5  # s over which a pixel must be right to be steadily right
LEAST_PERSON = 0.005  # of the picture: less is no person to lose
UNCHANGED = 1e-6  # mean |a_t - a_t-1| of a mask that did not change: rounding


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
        self._mae, self._dtssd, self._flicker = Mean(), Mean(), Mean()
        self._warped, self._flips, self._ghosts = Mean(), Mean(), Mean()
        self._steady = Mean()
        self._wrong_at: NDArray[np.float64] | None = None
        self._dropouts, self._lag, self._delay = Dropouts(), Lag(), Lag()
        self._person, self._room, self._moves = Mean(), Mean(), Mean()
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
        `warped`. Raises FrameError for integers, NaN, values far from 0..1, labels of two sizes, a
        motion of another, times that do not grow.
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
        if truth.valid.any():
            self._boundary.append(boundary_f(person, truth.label))
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
            self._moves.add(float(np.abs(change[both]).mean() > UNCHANGED))
        if (static := truth.static).any():
            self._flicker.add(float(np.abs(change[static]).mean()))
            flipped = ((soft >= THRESHOLD) != (before >= THRESHOLD))[static].mean()
            self._flips.add(float(flipped), seconds)
        if motion is not None:
            came_from_valid = motion.warp(valid_before.astype(np.float32)) > 0.999
            known = motion.valid & truth.valid & came_from_valid
            if known.any():
                error = (soft - motion.warp(before))[known]
                self._warped.add(float(np.sqrt((error**2).mean())))
        if raw is not None and raw_before is not None:
            self._lag.add(truth, soft, raw, raw_before)
        ideal, ideal_before = (p.astype(np.float32) for p in (truth.person, truth.person_before))
        self._delay.add(truth, soft, ideal, ideal_before)

    def figures(self) -> Figures:
        """Return the figures so far.

        Raises FrameError where no frame was added, or every pixel of all is ignored.
        """
        if self._truth is None:
            raise FrameError("wanted a clip to judge, found no frame; add some")
        if self._mae.value is None:
            raise FrameError(
                "wanted labels of 0 and 1 to judge by, found every pixel ignored (255); check the "
                "labels"
            )
        frames = self._truth.frames
        frame_ms = 1e3 * (self._truth.time - self._began) / frames if frames else None
        person, room = self._person.value, self._room.value
        areas = self._areas
        return Figures(
            miou=areas.miou,
            boundary_f=float(np.mean(self._boundary)),
            mae=100 * self._mae.value,
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
            n=frames + 1,
        )


def _times(frames: float | None, frame_ms: float | None) -> float | None:
    return None if frames is None or frame_ms is None else frames * frame_ms


def _percent(mean: Mean) -> float | None:
    return None if mean.value is None else 100 * mean.value


def _seconds(time: float) -> float:
    seconds = float(time)  # NumPy's numbers would end in figures that JSON does not take
    if not math.isfinite(seconds):
        raise FrameError(
            f"wanted times in seconds that grow, found {time}; correct the clip's times"
        )
    return seconds


def _at(mask: NDArray[np.floating], size: tuple[int, ...]) -> Soft:
    if mask.dtype.kind == "f":
        mask = mask.astype(np.float32, copy=False)
        if not math.isfinite(float(mask.sum())):  # one sum finds any NaN or infinity
            bad = int(np.count_nonzero(~np.isfinite(mask)))
            raise FrameError(
                f"wanted a mask of numbers, found NaN or infinity in {bad} of {mask.size} pixels; "
                "correct what made it: figures of it would mean nothing"
            )
    return np.asarray(soft_at(mask, (size[0], size[1])), dtype=np.float32)
