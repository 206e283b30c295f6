"""The classics: each against its formula, computed another way."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg.arrays import Soft
from edge_seg.baselines import (
    BASELINES,
    ExponentialAverage,
    FlowBlend,
    OneEuro,
    UncertaintyBlend,
    baseline,
)
from edge_seg.errors import FrameError, SettingError
from edge_seg.smoothing import Smoother

SIZE = (144, 256)


def flat(value: float) -> Soft:
    return np.full(SIZE, value, np.float32)


def texture(shift: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    base = cv2.GaussianBlur(rng.integers(0, 256, (144, 320, 3)).astype(np.uint8), (0, 0), 2)
    wide = cv2.normalize(base, None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(wide[:, 32 - shift : 288 - shift])


PICTURE = texture()


def one_value(smoother: Smoother, values: list[float], times: list[float | None]) -> list[float]:
    out = [smoother.update(flat(v), PICTURE, t) for v, t in zip(values, times, strict=True)]
    return [float(mask[70, 100]) for mask in out]


def test_the_average_keeps_a_power_per_frame_whatever_the_time() -> None:
    found = one_value(ExponentialAverage(0.6), [0, 1, 1, 1], [0.0, 0.2, 0.2, 9.0])
    assert found == pytest.approx([0, 1 - 0.6, 1 - 0.6**2, 1 - 0.6**3])


@pytest.mark.parametrize(
    ("new", "kept"),
    [(0.5, 0.70), (0.4, 0.66), (0.3, 0.54), (0.2, 0.37), (0.1, 0.15), (0.05, 0.06), (0.02, 0.01)],
)
def test_the_uncertain_mask_keeps_more_of_the_last(new: float, kept: float) -> None:
    before = 1.0
    found = one_value(UncertaintyBlend(0.7), [before, new], [0.0, 0.1])[1]
    assert (found - new) / (before - new) == pytest.approx(kept, abs=0.006)
    entropy = -sum(p * math.log2(p) for p in (new, 1 - new))
    assert found == pytest.approx(new + (before - new) * 0.7 * entropy**2, abs=0.0013)


def test_a_confident_flip_passes_the_uncertainty_blend() -> None:
    assert one_value(UncertaintyBlend(), [0.0, 1.0], [0.0, 0.1])[1] == pytest.approx(1, abs=1e-4)


def euro(values: list[float], times: list[float], cutoff: float, beta: float) -> list[float]:
    """The algorithm of Casiez et al. (CHI 2012), one number at a time."""

    def alpha(hertz: float, rate: float) -> float:
        tau = 1 / (2 * math.pi * hertz)
        return 1 / (1 + tau * rate)

    out, speed = [values[0]], 0.0
    for i in range(1, len(values)):
        rate = 1 / (times[i] - times[i - 1])
        change = (values[i] - out[-1]) * rate
        speed = alpha(1.0, rate) * change + (1 - alpha(1.0, rate)) * speed
        weight = alpha(cutoff + beta * abs(speed), rate)
        out.append(weight * values[i] + (1 - weight) * out[-1])
    return out


@pytest.mark.parametrize("fps", [30.0, 15.0, 10.0, 5.0])
def test_one_euro_is_the_published_filter(fps: float) -> None:
    rng = np.random.default_rng(1)
    values = [float(v) for v in rng.random(12)]
    times = [float(t) for t in np.cumsum(rng.uniform(0.5, 1.5, 12)) / fps]
    found = one_value(OneEuro(0.5, 2.0), values, list(times))
    assert found == pytest.approx(euro(values, times, 0.5, 2.0), abs=1e-5)


def test_one_euro_takes_a_thirtieth_where_times_do_not_say() -> None:
    known = one_value(OneEuro(), [0, 1, 1], [0.0, 1 / 30, 2 / 30])
    for times in ([None, None, None], [0.0, 0.0, 0.0], [0.0, -1.0, -2.0], [math.nan] * 3):
        assert one_value(OneEuro(), [0, 1, 1], list(times)) == pytest.approx(known)


@pytest.mark.parametrize(
    ("new", "before", "shipped", "mended"),
    [(1, 0, 0.30, 0.30), (0, 1, 0.70, 0.70), (0.5, 1, 0.85, 0.975), (0.95, 0.2, 0.425, 0.425)],
)
def test_flow_on_a_still_picture(new: float, before: float, shipped: float, mended: float) -> None:
    for smoother, told in ((FlowBlend(), shipped), (FlowBlend(mended=True), mended)):
        found = one_value(smoother, [before, new], [0.0, 0.1])[1]
        assert found == pytest.approx(told, abs=1e-5)


@pytest.mark.parametrize(
    ("new", "before", "shipped", "mended"),
    [(1, 0, 0.40, 0.40), (0, 1, 0.60, 0.60), (0.5, 1, 0.80, 0.85), (0.95, 0.2, 0.50, 0.50)],
)
def test_flow_on_a_moving_picture(new: float, before: float, shipped: float, mended: float) -> None:
    for smoother, told in ((FlowBlend(), shipped), (FlowBlend(mended=True), mended)):
        smoother.update(flat(before), texture(), 0.0)
        found = smoother.update(flat(new), texture(4), 0.1)[16:-16, 32:-32]
        assert np.median(found) == pytest.approx(told, abs=1e-5)


def test_flow_carries_the_mask_along() -> None:
    mask = np.zeros(SIZE, np.float32)
    mask[40:100, 60:120] = 1
    smoother = FlowBlend()
    smoother.update(mask, texture(), 0.0)
    found = smoother.update(np.roll(mask, 4, axis=1), texture(4), 0.1)
    assert found[50:90, 68:120].min() > 0.99 and found[50:90, 121:124].min() > 0.99


def test_flow_does_not_believe_a_new_scene() -> None:
    smoother = FlowBlend()
    smoother.update(flat(1), texture(), 0.0)
    other = cv2.flip(texture(), -1)
    assert smoother.update(flat(0), other, 0.1).mean() < 0.5  # most is untracked: new


def flow_by_the_book(
    last: Soft,
    new: Soft,
    forward: NDArray[np.float32],
    backward: NDArray[np.float32],
    mended: bool,
) -> Soft:
    """PP-HumanSeg's optic_flow_process.py pixel by pixel, masks from 0 to 255 as there.

    mended: the limits of certainty, 0.1 and 0.9, on that scale too.
    """
    low, high = (25.5, 229.5) if mended else (0.1, 0.9)
    height, width = new.shape
    carried: dict[tuple[int, int], tuple[float, float]] = {}  # pixel -> (mask, weight of the new)
    for row, column in np.ndindex(height, width):
        along, down = (round(float(v)) for v in forward[row, column])
        at = row + down, column + along
        if not (0 <= at[0] < height and 0 <= at[1] < width):
            continue
        back_along, back_down = (round(float(v)) for v in backward[at])
        if (along + back_along) ** 2 + (down + back_down) ** 2 >= 8:
            continue
        rests = (along, down, back_along, back_down) == (0, 0, 0, 0)
        # Once at 0.05 a pixel stays there, whatever else is carried to it.
        static = rests or (at in carried and carried[at][1] == 0.05)
        carried[at] = 255 * float(last[row, column]), 0.05 if static else 0.3
    out = new.copy()
    for at, (before, weight) in carried.items():
        now = 255 * float(new[at])
        if now > high or now < low:
            weight = 0.3 if weight < 0.1 else 0.4
        out[at] = (weight * now + (1 - weight) * before) / 255
    return out


def moving(frame: int) -> NDArray[np.uint8]:
    """A texture that rests on the left and drifts on the right, and a patch that goes past it."""
    rows, columns = np.mgrid[:72, :96].astype(np.float32)
    speed = 3 * np.clip((columns - 24) / 48, 0, 1)
    source = cv2.resize(texture(), (128, 72), interpolation=cv2.INTER_AREA)
    moved = cv2.remap(source, columns + 16 - frame * speed, rows, cv2.INTER_LINEAR)
    top, left = 8 + 4 * frame, 50 - 4 * frame
    moved[top : top + 32, left : left + 30] = source[31::-1, 90:120]
    return np.asarray(moved, np.uint8)


@pytest.mark.parametrize("mended", [False, True])
def test_flow_is_the_published_loop_over_pixels(mended: bool) -> None:
    rng = np.random.default_rng(3)
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(2)  # of a mask with a side of 65 to 160 px
    smoother = FlowBlend(mended=mended)
    before, last = moving(0), np.zeros((72, 96), np.float32)
    for frame in range(4):
        # Beside certain pixels the uncertain, and those between 0 and 0.9 / 255.
        soft = rng.choice([0, 0.002, 0.05, 0.5, 0.97, 1], (72, 96)) + rng.uniform(0, 1e-3, (72, 96))
        mask = np.clip(soft, 0, 1).astype(np.float32)
        picture = moving(frame)
        found = smoother.update(mask, picture, frame / 10)
        if frame == 0:
            wanted = mask
        else:
            grey = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in (before, picture)]
            forward, backward = dis.calc(*grey, None), dis.calc(*grey[::-1], None)
            wanted = flow_by_the_book(last, mask, forward, backward, mended)
        assert np.allclose(found, wanted, atol=1e-5), frame
        before, last = picture, wanted


@pytest.mark.parametrize("name", BASELINES)
def test_all_are_smoothers_that_begin_raw_forget_and_take_other_sizes(name: str) -> None:
    rng = np.random.default_rng(2)
    first, second = (rng.random(SIZE, np.float32) for _ in range(2))
    used, fresh = baseline(name), baseline(name)
    assert np.array_equal(used.update(first, PICTURE, 0.0), first)
    used.update(second, PICTURE, 0.1)
    small = rng.random((36, 64), np.float32)
    assert np.array_equal(used.update(small, PICTURE, 0.2), small)
    used.reset()
    for i in range(3):
        inputs = (rng.random(SIZE, np.float32), texture(i), i / 10)
        copies = inputs[0].copy()
        found, other = used.update(*inputs), fresh.update(*inputs)
        assert np.array_equal(found, other) and np.array_equal(inputs[0], copies)
        assert found.dtype == np.float32 and 0 <= found.min() and found.max() <= 1
        found[:] = 9  # the caller's own
    with pytest.raises(FrameError, match="mask of floats"):
        used.update(np.zeros(SIZE, np.uint8), PICTURE, 1.0)


@pytest.mark.parametrize("name", ["flow", "flow-mended"])
def test_a_mask_too_small_for_flow_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(FrameError, match=r"16 px .*, found \(15, 64\); "):
        baseline(name).update(np.zeros((15, 64), np.float32), PICTURE, 0.0)
    smallest = baseline(name)
    for time in (0.0, 0.1):
        smallest.update(np.zeros((16, 64), np.float32), PICTURE, time)


@pytest.mark.parametrize("name", BASELINES)
def test_a_time_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(FrameError, match="number of seconds"):
        baseline(name).update(np.zeros(SIZE, np.float32), PICTURE, "now")  # type: ignore[arg-type]


def test_wrong_names_and_settings_are_refused() -> None:
    with pytest.raises(SettingError, match=r"average, one-euro, uncertainty, flow"):
        baseline("kalman")
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(SettingError, match="from 0 to 1"):
            ExponentialAverage(wrong)
        with pytest.raises(SettingError, match="from 0 to 1"):
            UncertaintyBlend(wrong)
    for wrong in (0, -1, math.nan, math.inf):
        with pytest.raises(SettingError, match="above 0 Hz"):
            OneEuro(cutoff=wrong)
    with pytest.raises(SettingError, match="beta"):
        OneEuro(beta=-1)
