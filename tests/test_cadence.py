"""Masks carried by motion: drawn pictures that move by known steps, and when the network runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from edge_seg import cadence as cadences
from edge_seg.cadence import MOST_EVERY, OLDEST, REMEMBERED, Budget, Cadence
from edge_seg.errors import FrameError, SettingError
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.smoothing import Steady
from edge_seg.timestamps import GAP

SIDE = 224


def drawn(x: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A patterned person `x` px to the right in a patterned room, and the exact mask at 56x56."""
    rng = np.random.default_rng(seed)
    room, cloth = (
        cv2.resize(rng.integers(lo, hi, (14, 14, 3), dtype=np.uint8), (SIDE, SIDE))
        for lo, hi in ((40, 130), (110, 240))
    )
    area = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(area, (90, 100), (32, 44), 0, 0, 360, 255, -1)
    cv2.ellipse(area, (90, 240), (62, 105), 0, 0, 360, 255, -1)
    move = np.array([[1.0, 0, x], [0, 1, 0]])
    area, cloth = (cv2.warpAffine(p, move, (SIDE, SIDE)) for p in (area, cloth))
    picture = np.where(area[..., None] > 127, cloth, room).astype(np.uint8)
    mask = cv2.resize(area.astype(np.float32) / 255, (56, 56), interpolation=cv2.INTER_AREA)
    return picture, mask


def wrong(mask: np.ndarray, truth: np.ndarray) -> float:
    return float(((mask >= 0.5) != (truth >= 0.5)).mean())


@pytest.mark.parametrize("step", [4.0, 8.0, -8.0, 14.0])
def test_a_carried_mask_is_where_the_person_went(step: float) -> None:
    cadence = Cadence(4)
    before, mask = drawn(0)
    cadence.keep(mask, before, 0.0)
    for i in (1, 2):  # the second one from the kept picture too: nothing adds up
        now, truth = drawn(i * step / 2)
        carried = cadence.carry(now)
        assert carried.shape == mask.shape and carried.dtype == np.float32
        assert wrong(carried, truth) < 0.4 * wrong(mask, truth) + 0.002


@pytest.mark.parametrize("turned", [False, True])
def test_a_wide_picture_s_mask_follows_both_ways(turned: bool) -> None:
    """Up, out of the picture's lower edge, and aside; the same of a tall one."""
    picture, mask = drawn(0)
    aside, truth = drawn(16)
    before, now = picture[24:144], aside[32:152]  # all of it 8 px up as well
    masks = [mask[6:36], truth[8:38]]
    if turned:
        before, now = (np.ascontiguousarray(p.transpose(1, 0, 2)) for p in (before, now))
        masks = [np.ascontiguousarray(m.T) for m in masks]
    cadence = Cadence(2)
    cadence.keep(masks[0], before, 0.0)
    carried = cadence.carry(now)
    assert wrong(carried, masks[1]) < 0.2 * wrong(masks[0], masks[1])
    found, there = ((m[:, -1] if turned else m[-1]) >= 0.5 for m in (carried, masks[1]))
    assert (found & there).sum() > 0.5 * there.sum(), "the edge is not lost"


def test_what_does_not_move_stays_as_it_is() -> None:
    cadence = Cadence(2)
    picture, mask = drawn(0)
    cadence.keep(mask, picture, 0.0)
    np.testing.assert_allclose(cadence.carry(picture), mask, atol=0.02)


def test_the_network_is_due_on_its_turn_and_where_nothing_can_be_carried() -> None:
    cadence = Cadence(3)
    picture, mask = drawn(0)
    assert cadence.due(picture, 0.0), "a first frame"
    cadence.keep(mask, picture, 0.0)
    turns = []
    for i in range(1, 7):
        now, truth = drawn(i)
        turns.append(cadence.due(now, i / 30))
        if turns[-1]:
            cadence.keep(truth, now, i / 30)
        else:
            cadence.carry(now)
    assert turns == [False, False, True, False, False, True]
    assert cadence.due(picture[:100], 0.2), "another size"
    assert cadence.due(255 - picture, 0.2), "another scene"
    assert not cadence.due(drawn(7)[0], 0.2)
    cadence.reset()
    assert cadence.due(picture, 0.2)


def test_another_photograph_is_another_scene_and_an_exposure_step_is_not() -> None:
    before, after = (cv2.resize(shot, (SIDE, SIDE)) for shot in (data.astronaut(), data.coffee()))
    cadence = Cadence(9)
    cadence.keep(drawn(0)[1], before, 0.0)
    assert cadence.due(after, 0.03)
    assert not cadence.due(cv2.convertScaleAbs(before, alpha=1.2), 0.03)
    before, after = (cv2.convertScaleAbs(shot, alpha=0.6) for shot in (before, after))
    cadence.keep(drawn(0)[1], before, 0.1)
    assert cadence.due(after, 0.13), "in dim light too"


def test_each_frame_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counter[int]()
    look = cadences._light

    def counting(picture: np.ndarray) -> np.ndarray:
        counted[int(picture[0, 0, 0])] += 1
        return look(picture)

    monkeypatch.setattr(cadences, "_light", counting)
    cadence = Cadence(3)
    for i in range(6):
        picture, mask = drawn(i)
        picture[0, 0] = i
        if cadence.due(picture, i / 30):
            cadence.keep(mask, picture, i / 30)
        else:
            cadence.carry(picture)
    assert counted == {i: 1 for i in range(6)}


def test_frames_that_come_in_one_memory_are_told_apart() -> None:
    one, other = Cadence(9), Cadence(9)
    memory, mask = drawn(0)
    for cadence in (one, other):
        cadence.keep(mask.copy(), memory, 0.0)
    assert not one.due(memory, 0.03)
    one.carry(memory)
    memory[:] = drawn(8)[0]
    np.testing.assert_array_equal(one.carry(memory), other.carry(memory))


@pytest.mark.parametrize("between", ["another picture", "too old", "reset"])
def test_what_was_looked_at_and_not_carried_is_forgotten(between: str) -> None:
    """A network that failed leaves a picture looked at behind, and the next one is kept or carried.

    What was kept is not the caller's memory either.
    """
    cadence, fresh = Cadence(9), Cadence(9)
    memory, mask = drawn(0)
    given = mask.copy()
    cadence.keep(given, memory, 0.0)
    assert not cadence.due(memory, 0.03)
    if between == "another picture":
        fresh.keep(mask, memory, 0.0)
    else:
        memory[:] = drawn(8)[0]
        if between == "reset":
            cadence.reset()
        else:
            assert cadence.due(memory, 0.7)
        cadence.keep(given, memory, 0.7)
        fresh.keep(mask, memory.copy(), 0.7)
    given[:] = 0
    now = drawn(12)[0]
    np.testing.assert_array_equal(cadence.carry(now), fresh.carry(now))


def test_a_picture_too_small_for_motion_holds_the_mask() -> None:
    cadence = Cadence(2)
    picture, mask = (p[:12, :12] for p in drawn(0))
    cadence.keep(mask, picture, 0.0)
    for _ in range(2):
        carried = cadence.carry(picture)
        np.testing.assert_array_equal(carried, mask)
        carried[:] = 7.0  # the caller may write into it


def mean_time(budget: Budget, run: float, carry: float, frames: int = 360) -> float:
    """The mean time of the last half of frames that take `run` or `carry` seconds."""
    picture, mask = drawn(0)
    spent = []
    for _ in range(frames):
        due = budget.due(picture, 0.0)
        if due:
            budget.keep(mask, picture, 0.0)
        else:
            budget.carry(picture)
        spent.append(run if due else carry)
        budget.spent(spent[-1])
    return float(np.mean(spent[frames // 2 :]))


@pytest.mark.parametrize(
    ("seconds", "run", "carry", "every"),
    [(0.020, 0.018, 0.004, 1), (0.020, 0.030, 0.010, 2), (0.020, 0.100, 0.010, 9)],
)
def test_a_budget_is_kept_with_as_few_frames_left_out_as_can_be(
    seconds: float, run: float, carry: float, every: int
) -> None:
    budget = Budget(seconds)
    assert mean_time(budget, run, carry) <= seconds + 1e-9
    assert budget.every == every
    if every > 1:
        assert (run + (every - 2) * carry) / (every - 1) > seconds, "one fewer would not keep it"


def test_a_budget_follows_a_processor_that_slows_and_recovers() -> None:
    budget = Budget(0.020)
    mean_time(budget, 0.015, 0.004)
    assert budget.every == 1
    assert mean_time(budget, 0.045, 0.012) <= 0.0225  # throttled to a third
    assert budget.every > 1
    mean_time(budget, 0.015, 0.004)
    assert budget.every == 1


def test_a_budget_that_carrying_alone_exceeds_runs_the_network_seldom_but_runs_it() -> None:
    budget = Budget(0.002)
    mean_time(budget, 0.015, 0.004)
    assert budget.every == MOST_EVERY


@pytest.mark.parametrize(
    "seconds",
    [*(0.0, -1.0, float("nan"), float("inf")), *("25", None, True, np.timedelta64(25, "ms"))],
)
def test_a_budget_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(SettingError, match="budget in seconds, more than 0"):
        Budget(seconds)
    assert Budget(np.float32(0.5)).seconds == 0.5


@pytest.mark.parametrize("milliseconds", [10.1, 25.0, np.int64(40)])
def test_a_budget_in_milliseconds_is_refused_and_the_unit_said(milliseconds: float) -> None:
    with pytest.raises(SettingError, match="if these are milliseconds, divide by 1000"):
        Budget(milliseconds)


@pytest.mark.parametrize(
    ("seconds", "run", "carry", "kept"),
    [
        *((0.020, 0.018, 0.004, True), (0.020, 0.030, 0.010, True), (0.020, 0.100, 0.010, True)),
        *((0.020, 0.100, 0.021, False), (0.020, 0.100, 0.0199, False)),
    ],
)
def test_a_budget_tells_whether_it_was_kept(
    seconds: float, run: float, carry: float, kept: bool
) -> None:
    budget = Budget(seconds)
    assert budget.kept and budget.mean == 0, "nothing was measured"
    found = mean_time(budget, run, carry)
    assert budget.kept == kept
    assert budget.mean == pytest.approx(found, rel=0.02)
    assert REMEMBERED <= budget.mean_of < REMEMBERED + budget.every


def test_a_budget_tells_from_the_first_frame_on_and_forgets_what_is_over() -> None:
    budget = Budget(0.020)
    mean_time(budget, 0.030, 0.010, frames=1)
    assert not budget.kept and budget.mean == pytest.approx(0.030) and budget.mean_of == 1
    mean_time(budget, 0.030, 0.010, frames=40)
    assert budget.kept
    mean_time(budget, 0.060, 0.025, frames=60)  # throttled to less than can be kept
    assert not budget.kept
    mean_time(budget, 0.015, 0.004, frames=80)
    assert budget.kept and budget.mean == pytest.approx(0.015)
    assert budget.mean_of == 9, "of the last ones, not of all"


def test_the_segmenter_tells_the_budget_what_frames_take(
    fake_bundle: Path, fake_board: Path
) -> None:
    frame, stages = np.full((90, 120, 3), 40, np.uint8), []
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        segmenter.cadence = Budget(1e-9)  # nothing is so fast
        for i in range(10):
            segmenter.segment(frame, i / 30, clock=stages.append)
        assert stages.count("carry") > stages.count("infer")
        segmenter.cadence = Budget(10.0)
        stages.clear()
        for i in range(10):
            segmenter.segment(frame, i / 30, clock=stages.append)
        assert stages.count("infer") == 10


@pytest.mark.parametrize("every", [0, -1, 31, "2", 2.5, 2.0, None, True, np.timedelta64(2, "s")])
def test_a_cadence_that_is_none_is_refused(every: int) -> None:
    with pytest.raises(SettingError, match="every 1 to 30"):
        Cadence(every)
    with pytest.raises(FrameError, match="no"):
        Cadence(2).carry(drawn(0)[0])


def test_a_number_of_numpy_s_is_a_cadence() -> None:
    assert Cadence(np.int64(2)).every == 2


@pytest.mark.parametrize("wrong", [2, "2", Cadence, True])
def test_what_is_no_cadence_is_refused_where_it_is_set(
    fake_bundle: Path, fake_board: Path, wrong: Any
) -> None:
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        segmenter.cadence = kept = Cadence(2)
        with pytest.raises(SettingError, match="wanted cadence as None or a Cadence or Budget"):
            segmenter.cadence = wrong
        assert segmenter.cadence is kept
        segmenter.cadence = None
        assert segmenter.segment(np.zeros((90, 120, 3), np.uint8), 0.0).shape == (90, 120)


def test_half_a_gap_of_smoothing_is_the_oldest_frame_to_carry_from() -> None:
    assert 2 * OLDEST == GAP


@pytest.mark.parametrize(
    ("fps", "longest"), [(60, 0.5), (25, 0.52), (8, 0.5), (5, 0.6), (2.2, 0.91), (1, 1)]
)
def test_smoothing_goes_on_between_the_network_s_frames_at_every_rate(
    fake_bundle: Path,
    fake_board: Path,
    caplog: pytest.LogCaptureFixture,
    fps: float,
    longest: float,
) -> None:
    seen: list[float] = []
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        smoother = segmenter.smoother
        assert isinstance(smoother, Steady)
        update = smoother.update
        smoother.update = lambda m, p, t: (seen.append(t), update(m, p, t))[1]  # type: ignore
        segmenter.cadence = Cadence(30)
        for i in range(round(8 * fps)):
            segmenter.segment(np.full((90, 120, 3), 40, np.uint8), 1000 + i / fps)
            assert smoother._moving is not None or len(seen) == 1, "a first frame"  # noqa: SLF001
    steps = np.diff(seen)
    assert steps.max() == pytest.approx(longest, abs=0.01) and longest <= GAP
    assert steps.min() == pytest.approx(longest, abs=0.01), "and no sooner"
    assert not caplog.text


def test_frames_seen_and_left_out_are_counted(fake_bundle: Path, fake_board: Path) -> None:
    frame = np.full((90, 120, 3), 40, np.uint8)
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        segmenter.cadence = cadence = Cadence(3)
        for i in range(7):
            segmenter.segment(frame, i / 30)
        assert (cadence.seen, cadence.left_out) == (3, 4)
        segmenter.segment(frame)  # has no time: not the cadence's
        segmenter.segment(frame, 0.4)
        assert (cadence.seen, cadence.left_out) == (4, 4)


@pytest.mark.parametrize("pause", [3600.0, 0.6, -5.0])
def test_no_mask_is_carried_over_a_pause(fake_bundle: Path, fake_board: Path, pause: float) -> None:
    frame = np.full((90, 120, 3), 40, np.uint8)
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        segmenter.cadence = Cadence(30)
        segmenter.segment(frame, 10.0)
        segmenter.segment(frame, 10.1)
        frame[60:, 50:70] = 220  # somebody came in meanwhile; most of the room is as it was
        mask = segmenter.segment(frame, 10.1 + pause)
        assert mask[70:, 55:65].min() > 0.9


@pytest.mark.parametrize("timed", [True, False])
def test_the_segmenter_leaves_frames_out_only_where_they_have_times(
    fake_bundle: Path, fake_board: Path, timed: bool
) -> None:
    stages: list[str] = []
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        segmenter.cadence = Cadence(3)
        for i in range(7):
            frame = np.full((90, 120, 3), 40, np.uint8)
            frame[20:, 40 + i : 80 + i] = 220
            mask = segmenter.segment(frame, i / 30 if timed else None, clock=stages.append)
            assert mask[50:, 48 + i : 72 + i].min() > 0.9 and mask[:, :30].max() < 0.1
    assert stages.count("infer") == (3 if timed else 7)
    assert stages.count("carry") == (4 if timed else 0)
    assert stages.count("restore") == 7
