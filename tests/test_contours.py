"""The guided filter against its formula, and masks whose contour the picture knows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_seg import contours
from edge_seg.errors import FrameError
from edge_seg.metrics import components


def direct(
    mask: np.ndarray, picture: np.ndarray, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """He et al. 2013, equations 19 to 21, window by window in double precision: (slopes, offset).

    Beyond the border the picture is reflected, and so are the coefficients.
    """
    height, width = mask.shape
    around = ((radius, radius), (radius, radius))
    colours = np.pad(picture / 255.0, (*around, (0, 0)), mode="symmetric")
    levels = np.pad(mask.astype(np.float64), around, mode="symmetric")
    side = 2 * radius + 1
    slopes, offset = np.zeros((height, width, 3)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            inner = colours[y : y + side, x : x + side].reshape(-1, 3)
            p = levels[y : y + side, x : x + side].ravel()
            mean = inner.mean(axis=0)
            spread = (inner - mean).T @ (inner - mean) / len(p) + epsilon * np.eye(3)
            slopes[y, x] = np.linalg.solve(spread, (inner - mean).T @ (p - p.mean()) / len(p))
            offset[y, x] = p.mean() - slopes[y, x] @ mean
    wide = np.pad(np.dstack((slopes, offset)), (*around, (0, 0)), mode="symmetric")
    mean = np.zeros((height, width, 4))
    for y in range(height):
        for x in range(width):
            mean[y, x] = wide[y : y + side, x : x + side].mean(axis=(0, 1))
    return mean[..., :3], mean[..., 3]


@pytest.mark.parametrize("radius", [1, 2, 3])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-2])
def test_the_coefficients_are_the_formula_s(radius: int, epsilon: float) -> None:
    rng = np.random.default_rng(radius)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (13, 17, 3), dtype=np.uint8), (0, 0), 1.5)
    mask = rng.random((13, 17)).astype(np.float32)
    slopes, offset = contours.coefficients(mask, picture, radius=radius, epsilon=epsilon)
    wanted_slopes, wanted_offset = direct(mask, picture, radius, epsilon)
    np.testing.assert_allclose(np.dstack(slopes) * 255, wanted_slopes, atol=0.02 * radius)
    filtered = offset + (np.dstack(slopes) * picture).sum(axis=2)
    wanted = wanted_offset + (wanted_slopes * picture / 255).sum(axis=2)
    np.testing.assert_allclose(filtered, wanted, atol=2e-3)


def scene(side: int = 128, noise: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disk of another colour than the room, its exact area, and the mask at a quarter."""
    area = np.zeros((side, side), np.uint8)
    cv2.circle(area, (side // 2 + 3, side // 2 - 2), side // 3, 1, -1)
    room = np.array([90, 120, 60]) + 40 * np.linspace(0, 1, side)[:, None, None]
    picture = np.where(area[..., None] == 1, np.array([60.0, 90, 190]), room)
    grain = np.random.default_rng(3).normal(0, noise, picture.shape)
    coarse = cv2.resize(
        area.astype(np.float32), (side // 4, side // 4), interpolation=cv2.INTER_AREA
    )
    # What a network is unsure of: the contour of its mask wanders by a pixel of the mask.
    soft = cv2.GaussianBlur(np.roll(coarse, 1, axis=1), (0, 0), 1.2)
    return np.clip(picture + grain, 0, 255).astype(np.uint8), area, soft


def test_a_coarse_mask_comes_to_the_picture_s_contour() -> None:
    picture, area, mask = scene()
    wrong = lambda m: float(((m >= 0.5) != (area == 1)).mean())  # noqa: E731
    bilinear = cv2.resize(mask, area.shape[::-1], interpolation=cv2.INTER_LINEAR)
    refined = contours.refine(mask, picture) / 255
    assert wrong(refined) < 0.4 * wrong(bilinear)
    count, _ = components(refined >= 0.5)
    holes, _ = components(refined < 0.5)
    assert (count, holes) == (1, 1), "crumbs along the contour"


def test_what_is_darker_than_the_room_is_no_person() -> None:
    """A person hardly brighter than the room, and something black beside the contour: by its
    colours it is less than nobody.
    """
    picture = np.full((128, 128, 3), 128, np.uint8)
    picture[:, 64:], picture[60:64, 60:64] = 140, 0
    mask = np.zeros((32, 32), np.float32)
    mask[:, 16:] = 1
    refined = contours.refine(mask, picture) >= 128
    assert not refined[60:64, 60:64].any()
    assert not refined[:48, :63].any() and refined[:48, 65:].all()


def test_a_person_far_away_has_contours_too() -> None:
    """One in a hundred pixels: the mask's mean is below what counts as nobody."""
    area = np.zeros((224, 224), np.uint8)
    cv2.circle(area, (120, 110), 11, 1, -1)
    picture = np.where(area[..., None] == 1, (60, 90, 190), (90, 120, 60)).astype(np.uint8)
    coarse = cv2.resize(area.astype(np.float32), (56, 56), interpolation=cv2.INTER_AREA)
    mask = cv2.GaussianBlur(np.roll(coarse, 1, axis=1), (0, 0), 1.2)
    assert mask.mean() < contours.FAINT < mask.max()
    bilinear = cv2.resize(mask, (224, 224)) >= 0.5
    refined = contours.refine(mask, picture) >= 128
    assert (refined != (area == 1)).sum() < 0.5 * (bilinear != (area == 1)).sum()


@pytest.mark.parametrize(("ratio", "cells"), [(4, 3), (2, 5)])
def test_where_the_picture_says_nothing_the_mask_is_only_enlarged(ratio: int, cells: int) -> None:
    """A window reaches 4 px of the picture to each side, however many cells of the mask that is."""
    area = scene()[1].astype(np.float32)
    small = cv2.resize(area, None, fx=1 / ratio, fy=1 / ratio, interpolation=cv2.INTER_AREA)
    mask = cv2.GaussianBlur(small, (0, 0), 1.2)
    refined = contours.refine(mask, np.full((*area.shape, 3), 77, np.uint8)) / 255
    # Both means of the filter, and a bilinear enlargement.
    twice = cv2.blur(cv2.blur(mask, (cells, cells)), (cells, cells))
    wanted = cv2.resize(twice, area.shape[::-1], interpolation=cv2.INTER_LINEAR)
    inside = (slice(12, -12), slice(12, -12))
    assert np.abs(refined - wanted)[inside].max() < 0.03


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_mask_of_one_class_stays_one(level: float) -> None:
    picture, _, mask = scene(noise=30)
    refined = contours.refine(np.full_like(mask, level), picture)
    assert refined.min() == refined.max() == round(255 * level)


def test_bars_around_the_frame_say_nothing() -> None:
    picture, _, mask = scene()
    place = (0, 26, 128, 70)  # bars left and right, and cells that are only half in the frame
    masks = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        barred, beside = rng.integers(0, 256, picture.shape, dtype=np.uint8), rng.random(mask.shape)
        barred[:, 26:96] = picture[:, 26:96]
        cells = beside.astype(np.float32)
        cells[:, 7:24] = mask[:, 7:24]
        masks.append(contours.refine(cells, barred, frame_at=place))
    assert masks[0].shape == picture.shape[:2]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0][:, 26], masks[0][:, 28])


def test_a_frame_as_high_as_the_picture_keeps_all_rows_of_the_mask() -> None:
    """50 px over 11 cells: in floats they do not end where the picture does."""
    rng = np.random.default_rng(4)
    picture = rng.integers(0, 256, (50, 44, 3), dtype=np.uint8)
    mask = rng.random((11, 11)).astype(np.float32)
    found = contours.refine(mask, picture, frame_at=(0, 4, 50, 36))
    inner = np.ascontiguousarray(picture[:, 4:40])
    np.testing.assert_array_equal(found[:, 4:40], contours.refine(mask[:, 1:10], inner))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (15, 40), (56, 56)])
@pytest.mark.parametrize("side", [4, 57, 224])
def test_any_sizes(size: tuple[int, int], side: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    mask = np.random.default_rng(1).random(size).astype(np.float32)
    refined = contours.refine(mask, picture, frame_at=(side // 3, 0, max(1, side // 3), side))
    assert refined.shape == (side, side) and refined.dtype == np.uint8


def test_only_a_mask_coarser_than_the_picture_is_refined() -> None:
    picture = np.zeros((224, 224, 3), np.uint8)
    assert contours.is_coarse((56, 56), picture) and contours.is_coarse((112, 112), picture)
    assert not contours.is_coarse((224, 224), picture)


def test_wrong_arrays_are_named() -> None:
    picture, _, mask = scene()
    with pytest.raises(FrameError, match="float32"):
        contours.refine((mask * 255).astype(np.uint8), picture)  # type: ignore[arg-type]
    with pytest.raises(FrameError, match="uint8"):
        contours.refine(mask, picture[..., 0])


def test_where_nobody_is_the_mask_is_only_enlarged() -> None:
    """On both sides of the border the answer is the same nobody: within a level of 255."""
    rng = np.random.default_rng(1)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8), (0, 0), 4)
    faint = rng.random((48, 48)).astype(np.float32) * np.float32(contours.FAINT * 0.99)
    found = contours.refine(faint, picture)
    enlarged = cv2.resize(faint, (96, 96)) * 255
    assert found.dtype == np.uint8 and np.abs(found - enlarged).max() <= 0.5
    more = contours.refine(faint + np.float32(contours.FAINT * 0.02), picture)
    assert np.abs(more.astype(int) - found).max() <= 255 * contours.FAINT


@pytest.mark.parametrize("level", [np.nan, np.inf, -0.5, 200.0])
def test_values_that_are_no_probability_are_refused(level: float) -> None:
    mask = np.full((8, 8), 0.5, np.float32)
    mask[3, 4] = level
    with pytest.raises(FrameError, match=r"wanted a mask of 0\.\.1"):
        contours.refine(mask, np.zeros((32, 32, 3), np.uint8))


@pytest.mark.parametrize(
    "frame_at",
    [(0, 0, 0, 0), (-5, 0, 10, 10), (0, 0, 33, 32), (20, 0, 13, 32), (0.0, 0, 8, 8), (0, 8)],
)
def test_a_frame_that_is_not_in_the_picture_is_refused(frame_at: tuple[int, int, int, int]) -> None:
    mask, picture = np.full((8, 8), 0.5, np.float32), np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(FrameError, match="wanted frame_at="):
        contours.refine(mask, picture, frame_at=frame_at)
