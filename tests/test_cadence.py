"""Masks carried by motion: drawn pictures that move by known steps, and when the network runs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg.cadence import MOST_EVERY, Budget, Cadence
from edge_seg.errors import FrameError
from edge_seg.segmenter import EdgeSegmenter

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
    cadence.keep(mask, before)
    for i in (1, 2):  # the second one from the kept picture too: nothing adds up
        now, truth = drawn(i * step / 2)
        carried = cadence.carry(now)
        assert carried.shape == mask.shape and carried.dtype == np.float32
        assert wrong(carried, truth) < 0.4 * wrong(mask, truth) + 0.002


def test_what_does_not_move_stays_as_it_is() -> None:
    cadence = Cadence(2)
    picture, mask = drawn(0)
    cadence.keep(mask, picture)
    np.testing.assert_allclose(cadence.carry(picture), mask, atol=0.02)


def test_the_network_is_due_on_its_turn_and_where_nothing_can_be_carried() -> None:
    cadence = Cadence(3)
    picture, mask = drawn(0)
    assert cadence.due(picture), "a first frame"
    cadence.keep(mask, picture)
    turns = []
    for i in range(1, 7):
        now, truth = drawn(i)
        turns.append(cadence.due(now))
        if turns[-1]:
            cadence.keep(truth, now)
        else:
            cadence.carry(now)
    assert turns == [False, False, True, False, False, True]
    assert cadence.due(picture[:100]), "another size"
    assert cadence.due(255 - picture), "another scene"
    assert not cadence.due(drawn(7)[0])
    cadence.reset()
    assert cadence.due(picture)


def test_a_picture_too_small_for_motion_holds_the_mask() -> None:
    cadence = Cadence(2)
    picture, mask = (p[:12, :12] for p in drawn(0))
    cadence.keep(mask, picture)
    np.testing.assert_array_equal(cadence.carry(picture), mask)


def mean_time(budget: Budget, run: float, carry: float, frames: int = 360) -> float:
    """The mean time of the last half of frames that take `run` or `carry` seconds."""
    picture, mask = drawn(0)
    spent = []
    for _ in range(frames):
        due = budget.due(picture)
        if due:
            budget.keep(mask, picture)
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


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(FrameError, match="budget in seconds"):
        Budget(seconds)


def test_the_segmenter_tells_the_budget_what_frames_take(
    fake_bundle: Path, fake_board: Path
) -> None:
    frame, stages = np.full((90, 120, 3), 40, np.uint8), []
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        segmenter.cadence = Budget(1e-9)  # nothing is so fast
        for i in range(10):
            segmenter.segment(frame, i / 30, clock=stages.append)
        assert stages.count("carry") > stages.count("infer")
        segmenter.cadence = Budget(60.0)
        stages.clear()
        for i in range(10):
            segmenter.segment(frame, i / 30, clock=stages.append)
        assert stages.count("infer") == 10


@pytest.mark.parametrize("every", [0, -1, 31])
def test_a_cadence_that_is_none_is_refused(every: int) -> None:
    with pytest.raises(FrameError, match="every 1 to 30"):
        Cadence(every)
    with pytest.raises(FrameError, match="no"):
        Cadence(2).carry(drawn(0)[0])


@pytest.mark.parametrize("pause", [3600.0, -5.0])
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
