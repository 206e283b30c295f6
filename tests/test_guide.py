"""The picture contours are drawn by: noise goes, motion stays, and masks are stiller for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from skimage import data

from edge_seg import EdgeSegmenter
from edge_seg.arrays import Picture
from edge_seg.cadence import Cadence
from edge_seg.guide import GOES, Guide
from edge_seg.smoothing import Steady

STILL = np.zeros((16, 16), np.float32)


def noisy(picture: Picture, seed: int, spread: float = 6.0) -> Picture:
    noise = np.random.default_rng(seed).normal(0, spread, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def portrait() -> Picture:
    """scikit-image's astronaut (NASA, public domain), 512x512 BGR."""
    return cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)


def test_a_first_picture_and_one_after_a_reset_come_back_as_they_are(portrait: Picture) -> None:
    guide = Guide(0.8)
    assert np.array_equal(guide.update(portrait, None, 0.0), portrait)
    guide.update(noisy(portrait, 1), STILL, 0.03)
    guide.reset()
    other = noisy(portrait, 2)
    assert np.array_equal(guide.update(other, STILL, 0.03), other)
    for small in (other[:, ::2], other[::2, ::2], other):
        small = np.ascontiguousarray(small)
        assert np.array_equal(guide.update(small, STILL, 0.03), small), (
            "another size is a first one"
        )


@pytest.mark.parametrize("fps", [5, 30])
def test_still_pixels_are_the_mean_over_the_half_life(portrait: Picture, fps: int) -> None:
    guide, mean = Guide(0.4), portrait.astype(float)
    share = 1 - 0.5 ** (1 / fps / 0.4)
    guide.update(portrait, None, 0.0)
    for number in range(2 * fps):
        picture = noisy(portrait, number)
        mean += share * (picture - mean)
        shown = guide.update(picture, STILL, 1 / fps)
    assert np.abs(shown - mean).max() <= 0.51


def test_what_moves_goes_through_at_once_and_the_rest_does_not(portrait: Picture) -> None:
    guide, moving = Guide(0.8), STILL.copy()
    moving[:, 15:] = 1
    guide.update(portrait, None, 0.0)
    other = 255 - portrait
    shown = guide.update(other, moving, 0.03)
    assert np.array_equal(shown[:, 500:], other[:, 500:])
    assert np.abs(shown[:, :456].astype(int) - portrait[:, :456]).max() <= 8


def test_between_two_things_that_move_the_picture_is_averaged(portrait: Picture) -> None:
    guide, moving = Guide(0.8), STILL.copy()
    moving[2, 3] = moving[12, 13] = 1
    portrait = portrait[:300]  # a wide one
    guide.update(portrait, None, 0.0)
    other = 255 - portrait
    shown = guide.update(other, moving, 0.03)
    goes = cv2.resize(moving, (512, 300), interpolation=cv2.INTER_LINEAR) > GOES
    assert np.array_equal(shown[goes], other[goes])
    assert np.abs(shown[~goes].astype(int) - portrait[~goes]).max() <= 8


def test_a_cell_that_hardly_moves_moves_no_pixel(portrait: Picture) -> None:
    """Between cells the motion falls off, so no pixel may have so much of it as its cell."""
    guide, moving = Guide(0.8), STILL.copy()
    moving[8, 8] = GOES + 0.001
    guide.update(portrait, None, 0.0)
    shown = guide.update(255 - portrait, moving, 0.03)
    assert np.abs(shown.astype(int) - portrait).max() <= 8


def test_where_much_moves_all_of_the_picture_goes_through(portrait: Picture) -> None:
    """Beside so much motion, what looks still is often only plain: a wall in a panning camera."""
    guide, moving = Guide(0.8), STILL.copy()
    moving[:, 14:] = 1  # an eighth
    guide.update(portrait, None, 0.0)
    other = 255 - portrait
    assert np.array_equal(guide.update(other, moving, 0.03), other)
    assert np.array_equal(guide.update(other, STILL, 0.03), other), "nothing of before is left"


def shots(portrait: Picture) -> Iterator[tuple[Picture, float]]:
    """A still portrait under a noisy camera, 15 frames/s."""
    for number in range(24):
        yield noisy(portrait, number, 8.0), number / 15


def flicker(segmenter: EdgeSegmenter, portrait: Picture) -> float:
    masks = [segmenter.segment(frame, time) for frame, time in shots(portrait)]
    return float(
        np.mean([np.abs(b - a).mean() for a, b in zip(masks[8:], masks[9:], strict=False)])
    )


class Bare(Steady):
    """As it was: contours drawn by single frames."""

    steadied = between = None  # type: ignore[assignment]


def test_the_masks_contours_stand_still_in_a_still_picture(portrait: Picture) -> None:
    with EdgeSegmenter.open(smoother=Steady()) as segmenter:
        steady = flicker(segmenter, portrait)
        segmenter.smoother = Bare()
        bare = flicker(segmenter, portrait)
        segmenter.smoother = None
        raw = flicker(segmenter, portrait)
    assert steady < 0.6 * bare and bare < raw


def test_between_the_network_s_frames_contours_stand_still_too(portrait: Picture) -> None:
    changes = {}
    with EdgeSegmenter.open(smoother=Steady()) as segmenter:
        for name, smoother in (("steady", Steady()), ("bare", Bare())):
            segmenter.smoother, segmenter.cadence = smoother, Cadence(2)
            changes[name] = flicker(segmenter, portrait)
            assert segmenter.cadence.left_out == 12
    assert changes["steady"] < 0.6 * changes["bare"]


def test_a_guide_that_was_not_asked_for_a_while_begins_anew(portrait: Picture) -> None:
    smoother, mask = Steady(), np.zeros((112, 112), np.float32)
    small = cv2.resize(portrait, (224, 224), interpolation=cv2.INTER_AREA)
    other = np.ascontiguousarray(small[::-1])
    for number in range(60):  # the contours are off while the scene changes, and then for good
        smoother.update(mask, small if number < 20 else other, number / 30)
        if number < 20:
            smoother.steadied(small)
    assert np.array_equal(smoother.steadied(other), other)


@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_a_frame_whose_time_is_no_time_is_drawn_by_itself(portrait: Picture, time: float) -> None:
    with EdgeSegmenter.open() as segmenter:
        for frame, seconds in list(shots(portrait))[:3]:
            segmenter.segment(frame, seconds)
        moved = np.roll(portrait, 90, axis=1)
        mask = segmenter.segment(moved, time)
        assert np.array_equal(mask, segmenter.segment(moved))


def test_a_moved_portrait_has_the_contours_of_the_frame(portrait: Picture) -> None:
    with EdgeSegmenter.open() as segmenter:
        for frame, time in shots(portrait):
            segmenter.segment(frame, time)
        moved = np.roll(portrait, 90, axis=1)
        mask = segmenter.segment(moved, 24 / 15) >= 0.5
        alone = segmenter.segment(moved) >= 0.5
    assert (mask & alone).sum() / (mask | alone).sum() > 0.97
