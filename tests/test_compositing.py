"""Compositing against the float formula, and against what an eye would complain about."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from edge_seg import compositing
from edge_seg.errors import EdgeSegError, FrameError, SettingError


def _pictures(height: int = 90, width: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return frame, rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_blend_is_the_formula_within_one_level(dtype: str) -> None:
    frame, background = _pictures(256, 256)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))  # every mask level
    mask = ramp if dtype == "uint8" else ramp.astype(np.float32) / 255
    share = ramp[:, :, None].astype(np.float64) / 255
    truth = background + share * (frame.astype(np.float64) - background)
    result = compositing.blend(frame, background, mask)
    assert result.dtype == np.uint8
    assert np.abs(result - truth).max() <= 1.0


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_full_and_empty_masks_are_exact(dtype: str) -> None:
    frame, background = _pictures()
    full = np.full(frame.shape[:2], 255 if dtype == "uint8" else 1, dtype=dtype)
    np.testing.assert_array_equal(compositing.blend(frame, background, full), frame)
    np.testing.assert_array_equal(
        compositing.blend(frame, background, np.zeros_like(full)), background
    )
    np.testing.assert_array_equal(compositing.blur(frame, full), frame)


def test_nothing_given_is_changed() -> None:
    frame, background = _pictures()
    mask = np.full(frame.shape[:2], 100, dtype=np.uint8)
    before = frame.copy(), background.copy(), mask.copy()
    compositing.blend(frame, background, mask)
    compositing.blur(frame, mask)
    for array, kept in zip((frame, background, mask), before, strict=True):
        np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (720, 1280), (641, 363), (40, 30)])
def test_a_blurred_background_keeps_the_persons_colour_out(height: int, width: int) -> None:
    frame = np.full((height, width, 3), 60, dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.circle(mask, (width // 2, height // 2), min(height, width) // 4, 255, -1)
    frame[mask > 0] = (0, 255, 0)
    halo = (cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0) & (mask == 0)
    plain = cv2.GaussianBlur(frame, (0, 0), 0.03 * min(height, width))
    assert plain[halo].max() > 90, "the scene has no halo to avoid"
    assert np.abs(compositing.blur(frame, mask)[halo].astype(int) - 60).max() <= 6


def test_blur_removes_detail_and_keeps_brightness() -> None:
    rng = np.random.default_rng(3)
    frame = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    nobody = np.zeros((240, 320), dtype=np.float32)
    blurred = compositing.blur(frame, nobody)
    assert blurred.std() < 0.1 * frame.std()
    assert abs(float(blurred.mean()) - float(frame.mean())) < 1.0


@pytest.mark.parametrize("level", [0, 1, 117, 254, 255])
def test_a_wall_of_one_colour_is_that_colour_when_blurred(level: int) -> None:
    """To the level, up to the picture's border and beside the person: no darkening, no seam."""
    frame = np.full((200, 300, 3), level, np.uint8)
    mask = np.zeros((200, 300), np.uint8)
    cv2.circle(mask, (150, 120), 50, 255, -1)
    np.testing.assert_array_equal(compositing.blurred(frame, mask), frame)


@pytest.mark.parametrize("size", [(720, 1280), (480, 640), (640, 360)])
def test_the_blur_reaches_3_percent_of_the_short_side(size: tuple[int, int]) -> None:
    """A step becomes the integral of a Gaussian: a fall from 84 % to 16 % in two of its sigma."""
    frame = np.zeros((*size, 3), np.uint8)
    frame[:, : size[1] // 2] = 200
    row = compositing.blur(frame, np.zeros(size, np.uint8))[size[0] // 2, :, 0] / 200
    reach = np.count_nonzero((row > 0.159) & (row < 0.841)) / 2
    assert reach == pytest.approx(0.03 * min(size), rel=0.1)


def test_a_large_picture_is_reduced_without_a_pattern() -> None:
    checker = np.indices((1500, 2000)).sum(axis=0) // 2 % 2 * 255
    fitted = compositing.cover(
        np.repeat(checker[..., None], 3, axis=2).astype(np.uint8), (300, 400)
    )
    assert np.abs(fitted.astype(int) - 127).max() <= 60  # taken at single pixels: 0 and 255


def test_a_strip_covers_a_frame_in_the_frame_s_memory() -> None:
    """Enlarged whole before it is cut, this one took 3 GB."""
    script = (
        "import resource, numpy as np; from edge_seg.compositing import cover\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "picture = np.zeros((3, 6000, 3), np.uint8); picture[:, 2990:3010] = 200\n"
        "fitted = cover(picture, (720, 1280))\n"
        "assert fitted.shape == (720, 1280, 3) and fitted[:, 640].min() == 200\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("size", [(300, 300), (100, 400), (400, 100), (17, 23)])
def test_cover_fills_the_frame_without_stretching(size: tuple[int, int]) -> None:
    picture = np.zeros((200, 300, 3), dtype=np.uint8)
    cv2.circle(picture, (150, 100), 8, (255, 255, 255), -1)
    fitted = compositing.cover(picture, size)
    assert fitted.shape == (*size, 3)
    rows, columns = np.nonzero(fitted[:, :, 0] > 127)
    high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert abs(int(high) - int(wide)) <= 2, "the disk became an ellipse"
    assert abs(rows.mean() - (size[0] - 1) / 2) < 1.5
    assert abs(columns.mean() - (size[1] - 1) / 2) < 1.5


@pytest.mark.parametrize("turned", [False, True])
def test_a_line_of_pixels_covers_a_frame(turned: bool) -> None:
    """Of 900 px side by side a seventh of one is wanted."""
    line, size = np.full((1, 900, 3), 50, np.uint8), (720, 100)
    if turned:
        line, size = line.transpose(1, 0, 2), (100, 720)
    np.testing.assert_array_equal(compositing.cover(line, size), np.full((*size, 3), 50))


@pytest.mark.parametrize("size", [(30, 40), (120, 90), (60, 160)])
def test_cover_fits_a_soft_mask_as_it_fits_one_of_bytes(size: tuple[int, int]) -> None:
    soft = np.linspace(0, 1, 60 * 80, dtype=np.float32).reshape(60, 80)
    fitted = compositing.cover(soft, size)
    assert fitted.dtype == np.float32 and fitted.shape == size
    bytes_ = compositing.cover((soft * 255).round().astype(np.uint8), size)
    np.testing.assert_allclose(fitted * 255, bytes_, atol=1.01)


def test_cut_out_carries_the_mask_as_alpha() -> None:
    frame, _ = _pictures()
    mask = np.linspace(0, 1, frame.shape[0] * frame.shape[1], dtype=np.float32)
    mask = mask.reshape(frame.shape[:2])
    cut = compositing.cut_out(frame, mask)
    np.testing.assert_array_equal(cut[:, :, :3], frame)
    np.testing.assert_allclose(cut[:, :, 3], mask * 255, atol=0.51)


def test_overlay_tints_the_person_only() -> None:
    frame, _ = _pictures()
    mask = np.zeros(frame.shape[:2], dtype=np.uint8)
    mask[20:50] = 255
    shown = compositing.overlay(frame, mask, color=(0, 255, 0))
    np.testing.assert_array_equal(shown[mask == 0], frame[mask == 0])
    half = (frame[mask > 0].astype(np.float64) + (0, 255, 0)) / 2
    assert np.abs(shown[mask > 0] - half).max() <= 2.0


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_firming_doubles_the_slope_about_the_contour(dtype: str) -> None:
    levels = np.arange(256, dtype=np.float64)[None]
    mask = levels.astype(np.uint8) if dtype == "uint8" else (levels / 255).astype(np.float32)
    firm = compositing.firm(mask)
    assert firm.dtype == mask.dtype
    share = firm.astype(np.float64) / (255 if dtype == "uint8" else 1)
    np.testing.assert_allclose(share, np.clip(2 * levels / 255 - 0.5, 0, 1), atol=0.51 / 255)
    np.testing.assert_array_equal(share >= 0.5, levels / 255 >= 0.5)


def test_a_firm_mask_brings_a_composite_nearer_to_the_true_one() -> None:
    """C = a F + (1 - a) B with known a, F and B, seen before A; the mask is a, blurred."""
    rng = np.random.default_rng(5)
    a = np.zeros((120, 160), np.float32)
    cv2.circle(a, (80, 70), 40, 1, -1)
    a = cv2.GaussianBlur(a, (0, 0), 1)
    person, room, beach = (
        cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (160, 120)) for _ in range(3)
    )

    def laid(before: np.ndarray) -> np.ndarray:
        share = a[..., None].astype(np.float64)
        return share * person + (1 - share) * before

    frame = np.rint(laid(room)).astype(np.uint8)
    unsure = cv2.GaussianBlur(a, (0, 0), 5)
    band = (unsure > 0.02) & (unsure < 0.98)

    def error(mask: np.ndarray) -> float:
        return float(np.abs(compositing.blend(frame, beach, mask) - laid(beach))[band].mean())

    assert error(compositing.firm(unsure)) < 0.6 * error(unsure)
    assert error(a) < 0.25 * error(unsure)  # what the exact alpha leaves: the old room in the seam


def test_wrong_forms_name_both_sides() -> None:
    frame, background = _pictures()
    with pytest.raises(FrameError, match="mask"):
        compositing.blend(frame, background, np.zeros((10, 10), dtype=np.uint8))
    with pytest.raises(FrameError, match="float64"):
        compositing.blend(frame, background, np.zeros(frame.shape[:2]))
    with pytest.raises(FrameError, match="cover"):
        compositing.blend(frame, background[:10], np.zeros(frame.shape[:2], dtype=np.uint8))


def test_a_bool_mask_is_all_or_nothing() -> None:
    frame, background = _pictures()
    person = np.zeros(frame.shape[:2], dtype=bool)
    person[20:50, 30:] = True
    as_bytes = np.where(person, 255, 0).astype(np.uint8)
    result = compositing.blend(frame, background, person)
    np.testing.assert_array_equal(result, np.where(person[:, :, None], frame, background))
    np.testing.assert_array_equal(compositing.firm(person), as_bytes)
    for put in (compositing.blur, compositing.cut_out, compositing.overlay):
        np.testing.assert_array_equal(put(frame, person), put(frame, as_bytes))


HALF = np.full((90, 120), 0.5, np.float32)
NAN = HALF.copy()
NAN[3, 4] = np.nan
BAD_MASKS = {
    "0 to 255 as float": (HALF * 400, "divide"),
    "below zero": (HALF - 0.6, "clip"),
    "NaN": (NAN, "nan_to_num"),
    "infinite": (HALF * np.inf, "inf"),
    "integers": (np.ones((90, 120), np.int64), "int64"),
    "a channel": (HALF[:, :, None], "(90, 120, 1)"),
    "nothing": (None, "NoneType"),
}


@pytest.mark.parametrize("kind", BAD_MASKS)
@pytest.mark.parametrize("use", ["blend", "blur", "cut_out", "overlay", "firm"])
def test_a_mask_that_is_none_is_refused_with_advice(kind: str, use: str) -> None:
    mask, advice = BAD_MASKS[kind]
    frame, background = _pictures()
    given = {"blend": (frame, background), "firm": ()}.get(use, (frame,))
    with pytest.raises(FrameError) as caught:
        getattr(compositing, use)(*given, mask)
    text = str(caught.value)
    assert advice in text and "wanted" in text and "found" in text and ";" in text


def test_a_mask_beyond_the_range_by_rounding_alone_is_taken() -> None:
    frame, background = _pictures()
    above = np.full(frame.shape[:2], 1.002, np.float32)
    assert np.abs(compositing.blend(frame, background, above).astype(int) - frame).max() <= 1
    below = np.full(frame.shape[:2], -0.002, np.float32)
    assert np.abs(compositing.blend(frame, background, below).astype(int) - background).max() <= 1


@pytest.mark.parametrize("share,lines", [(0.037, 0), (0.06, 1)])
def test_a_uint8_mask_of_0_and_1_is_nobody_and_said_once(
    share: float, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    """No error: the network gives such masks of an empty room, and the kiosk must not end there."""
    compositing._say_ones.cache_clear()
    frame, background = _pictures()
    mask = np.zeros(frame.shape[:2], dtype=np.uint8)
    mask.ravel()[: int(share * mask.size)] = 1
    with caplog.at_level(logging.WARNING, logger="edge_seg"):
        for _ in range(3):
            result = compositing.blend(frame, background, mask)
    assert np.abs(result.astype(int) - background).max() <= 2
    said = [line.getMessage() for line in caplog.records]
    assert len(said) == lines and all("multiply by 255" in line for line in said)


def test_nothing_is_said_of_a_mask_that_segment_made(caplog: pytest.LogCaptureFixture) -> None:
    compositing._say_ones.cache_clear()
    with caplog.at_level(logging.WARNING, logger="edge_seg"):
        compositing.firm(np.ones((90, 120), np.uint8), own=True)
        assert caplog.records == []
        compositing.firm(np.ones((90, 120), np.uint8))
    assert len(caplog.records) == 1


BAD_CALLS: dict[str, Callable[[np.ndarray], object]] = {
    "a colour over 255": lambda frame: compositing.plain((4, 4), (300, 0, 0)),
    "a colour below 0": lambda frame: compositing.plain((4, 4), (0, -1, 0)),
    "a colour of two": lambda frame: compositing.plain((4, 4), (0, 1)),  # type: ignore[arg-type]
    "a name": lambda frame: compositing.plain((4, 4), "red"),  # type: ignore[arg-type]
    "a tint over 255": lambda frame: compositing.overlay(frame, HALF, color=(0, 256, 0)),
    "a tint's share over 1": lambda frame: compositing.overlay(frame, HALF, share=50),
    "a tint's share below 0": lambda frame: compositing.overlay(frame, HALF, share=-0.5),
    "no share of a tint": lambda frame: compositing.overlay(frame, HALF, share=float("nan")),
    "no size": lambda frame: compositing.plain((0, 4), (0, 0, 0)),
    "a size of floats": lambda frame: compositing.plain((4.0, 4), (0, 0, 0)),  # type: ignore
    "a frame's whole shape": lambda frame: compositing.cover(frame, frame.shape),
    "no rows": lambda frame: compositing.cover(frame, (0, 10)),
    "no picture": lambda frame: compositing.cover(None, (4, 4)),  # type: ignore[arg-type]
    "an empty picture": lambda frame: compositing.cover(frame[:0], (4, 4)),
    "a float picture": lambda frame: compositing.cover(frame.astype(np.float32), (4, 4)),
    "no frame": lambda frame: compositing.blend(None, frame, HALF),  # type: ignore[arg-type]
    "an empty frame": lambda frame: compositing.cut_out(frame[:0], HALF[:0]),
    "no background": lambda frame: compositing.blend(frame, None, HALF),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", BAD_CALLS)
def test_what_cannot_be_put_together_is_one_sentence(kind: str) -> None:
    with pytest.raises(EdgeSegError, match=r"wanted .*, found .*; "):
        BAD_CALLS[kind](_pictures()[0])


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_cover_takes_colours_or_a_mask(channels: int) -> None:
    with pytest.raises(FrameError, match=r"wanted a picture of uint8 \(H, W, 3\)"):
        compositing.cover(np.zeros((8, 8, channels), np.uint8), (4, 4))


@pytest.mark.parametrize("size", [(2**31, 1), (10**9, 10**9), (20000, 20000)])
def test_a_size_beyond_a_frame_s_is_refused(size: tuple[int, int]) -> None:
    for make in (
        lambda: compositing.plain(size, (0, 0, 0)),
        lambda: compositing.cover(np.zeros((8, 8, 3), np.uint8), size),
    ):
        with pytest.raises(SettingError, match="wanted size as"):
            make()


@pytest.mark.parametrize("share", ["a", None, np.array([0.5, 0.5]), float("nan"), 1.5])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    frame, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    with pytest.raises(SettingError, match="wanted share="):
        compositing.overlay(frame, mask, share=share)
