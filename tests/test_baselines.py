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
