"""What moves between two pictures, on hand-made grids: light, noise, people, pans and cuts."""

from __future__ import annotations

import numpy as np
import pytest

from edge_seg.arrays import Soft
from edge_seg.movement import Movement

ROWS, COLUMNS = 40, 64


def picture(seed: int = 0) -> Soft:
    """A textured room of 80 to 120 levels, float32 (3, rows, columns)."""
    grey = np.random.default_rng(seed).uniform(80, 120, (1, ROWS, COLUMNS))
    return np.repeat(grey, 3, axis=0).astype(np.float32)


def noise(seed: int, spread: float = 2.0) -> Soft:
    return np.random.default_rng(seed).normal(0, spread, (3, ROWS, COLUMNS)).astype(np.float32)


def moves(before: Soft, now: Soft) -> Soft | None:
    movement = Movement(0.8)
    movement.begin(before.copy())
    return movement.of(now.astype(np.float32))


def moving(before: Soft, now: Soft) -> Soft:
    found = moves(before, now)
    assert found is not None, "another scene"
    assert found.shape == (ROWS, COLUMNS) and found.dtype == np.float32
    return found


# --- light ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gain", [0.4, 0.95, 2.5])
def test_more_and_less_light_is_no_motion(gain: float) -> None:
    assert moving(picture(), picture() * gain).max() < 0.05


@pytest.mark.parametrize("gain", [0.2, 4.0])
def test_a_step_of_light_that_no_exposure_makes_is_another_scene(gain: float) -> None:
    dim = picture() / 2
    assert moves(dim, dim * gain) is None


def test_a_band_of_light_along_the_rows_is_no_motion_and_one_of_columns_is() -> None:
    band = 1 + 0.06 * np.sin(np.pi * np.clip(np.arange(64) - 12, 0, 12) / 12)
    assert moving(picture(), picture() * band[:ROWS, None]).max() < 0.2
    assert moving(picture(), picture() * band)[:, 15:21].min() == 1


def test_somebody_who_fills_a_row_and_turns_brighter_moves() -> None:
    """Rows follow the frame's light within 15 %; of a quarter brighter a part is left."""
    now = picture()
    now[:, 10:18, :50] *= 1.25
    found = moving(picture(), now + noise(3, 1.0))
    assert found[12:16, 2:48].min() > 0.9 and found[20:].mean() < 0.01


def test_black_rows_are_still() -> None:
    before = picture()
    before[:, 20:] = 0
    found = moving(before, before)
    assert np.isfinite(found).all() and found.max() == 0


# --- what moves, and noise ------------------------------------------------------------------------


def test_noise_alone_is_still_and_what_exceeds_it_moves() -> None:
    """The largest of three channels has a median of 1.26 spreads, and three of it are still."""
    now = picture() + noise(1)
    assert (moving(picture(), now) > 0.1).mean() < 0.005
    now[:, 10:16, 30:40] = (picture() + 5.2 * 1.26 * 2.0)[:, 10:16, 30:40]
    assert moving(picture(), now)[10:16, 30:40].min() > 0.9


def test_where_there_is_no_noise_two_cells_of_two_levels_move() -> None:
    now = picture()
    now[:, 20, 30:32] += 2.1
    found = moving(picture(), now)
    assert found[20, 30:32].min() > 0.9 and found[24:].max() == 0
    now = picture()
    now[:, 20:24, 30:34] += 0.4
    assert moving(picture(), now).max() == 0


def test_another_colour_of_the_same_light_moves() -> None:
    now = picture()
    now[0, 10:16, 30:40] += 20
    now[2, 10:16, 30:40] -= 20
    assert moving(picture(), now)[11:15, 31:39].min() == 1


# --- pans and cuts --------------------------------------------------------------------------------


def changed(share: float, levels: float) -> Soft:
    """The picture with so many of its columns brighter or darker, two and two: the light stays."""
    signs = np.where(np.arange(COLUMNS) % 4 < 2, 1, -1) * (np.arange(COLUMNS) < share * COLUMNS)
    return (picture() + levels * signs).astype(np.float32)


def test_where_much_moves_all_of_it_counts_as_moving() -> None:
    assert moving(picture(), changed(0.22, 10))[:, 20:].max() == 0
    assert moving(picture(), changed(0.4, 10)).min() == 1


def test_a_scene_is_another_one_where_most_of_it_changed_by_much() -> None:
    assert moves(picture(), changed(0.7, 20)) is None
    assert moves(picture(), changed(0.7, 12)) is not None
    assert moves(picture(), changed(0.5, 20)) is not None


# --- the mean -------------------------------------------------------------------------------------


def test_a_young_mean_is_a_plain_one_and_an_old_one_has_its_half_life() -> None:
    """The frame that a mean begins with counts for a quarter, as it may still be settling."""
    movement, still = Movement(0.8), np.zeros((ROWS, COLUMNS), np.float32)
    movement.begin(picture())
    begun = still.copy()
    begun[:, 32:] = 1  # here something moves in the fifth frame: there it begins again
    for number in range(1, 60):
        weight = movement.learn(picture(), begun if number == 5 else still, 0.1)
        least = 1 - 0.5 ** (0.1 / 0.8)
        for side, age in ((0, number), (63, number - 5 if number > 5 else number)):
            assert weight[0, side] == pytest.approx(max(1 / (age + 0.25), least), rel=1e-3)


def test_the_mean_follows_at_once_what_moves_and_by_its_weight_what_is_still() -> None:
    movement, half = Movement(0.8), np.zeros((ROWS, COLUMNS), np.float32)
    half[:, :8] = 1
    movement.begin(picture())
    now = changed(0.25, 14)  # a fifth of it, 2.8 levels, is not learned where it is still
    assert movement.learn(now, half, 0.1)[0, 0] == pytest.approx(0.8)
    found = movement.of(now)
    assert found is not None
    assert found[:, :7].max() == 0 and found[:, 9:15].min() == 1 and found[:, 18:].max() == 0


def test_a_repeated_time_has_no_weight() -> None:
    movement = Movement(0.8)
    movement.begin(picture())
    for seconds in (0.0, 0.1, 0.0):
        weight = movement.learn(picture(), np.zeros((ROWS, COLUMNS), np.float32), seconds)
        assert (weight == 0).all() == (seconds == 0) and np.isfinite(weight).all()
