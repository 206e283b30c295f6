"""The default smoother: still in stillness, at once in motion, and an answer to every bad input."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_seg import EdgeSegmenter, movement, smoothing
from edge_seg.arrays import Picture, Soft
from edge_seg.camera import open_source
from edge_seg.errors import FrameError, SettingError
from edge_seg.smoothing import CONTRADICTION, Steady

MASK, PICTURE = (56, 56), (224, 224, 3)
RATES = (30.0, 15.0, 10.0, 5.0)
each_rate = pytest.mark.parametrize("fps", RATES)


def room(seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 180, (6, 6, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, PICTURE[:2], interpolation=cv2.INTER_CUBIC))


def filmed(picture: Picture, index: int, noise: float = 2.5, gain: float = 1.0) -> Picture:
    """A camera's frame of a picture: its own noise every time."""
    rng = np.random.default_rng((7, index))
    lit = picture * gain + rng.normal(0, noise, picture.shape)
    return np.clip(lit + 0.5, 0, 255).astype(np.uint8)


def person(left: int = 20, width: int = 16) -> Soft:
    mask = np.zeros(MASK, np.float32)
    mask[16:, max(0, left) : left + width] = 1
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 1.0))


def shown(left: int, width: int = 16, background: Picture | None = None) -> Picture:
    """The picture of `person`: bright, four pixels per cell."""
    picture = (room() if background is None else background).copy()
    picture[64:, max(0, 4 * left) : 4 * (left + width)] = (210, 215, 230)
    return picture


def run(
    smoother: Steady, masks: list[Soft], pictures: list[Picture], fps: float, start: float = 0.0
) -> Iterator[Soft]:
    for i, (mask, picture) in enumerate(zip(masks, pictures, strict=True)):
        yield smoother.update(mask, filmed(picture, i), start + i / fps)


def still(count: int) -> list[Picture]:
    return [shown(20)] * count


# --- what it is for ------------------------------------------------------------------------------


def test_the_first_mask_is_the_raw_one_and_a_new_array() -> None:
    mask = person()
    found = Steady().update(mask, room(), 5.0)
    assert np.array_equal(found, mask) and found is not mask and found.dtype == np.float32


@each_rate
def test_noise_in_a_still_picture_is_averaged_away(fps: float) -> None:
    rng = np.random.default_rng(0)
    count = round(3 * fps)
    clean = 0.3 + 0.4 * person()  # noise goes both ways
    masks = [(clean + rng.normal(0, 0.05, MASK)).astype(np.float32) for _ in range(count)]
    out = list(run(Steady(), masks, still(count), fps))
    half = count // 2
    raw_change = np.mean(
        [np.abs(a - b).mean() for a, b in zip(masks[half:], masks[half + 1 :], strict=False)]
    )
    change = np.mean(
        [np.abs(a - b).mean() for a, b in zip(out[half:], out[half + 1 :], strict=False)]
    )
    # A mean with a half-life T changes by 1 - 2^(-dt / T) of what is new in a frame; what
    # noise there is in the picture, and gates open by chance, may double it.
    assert change < 2 * (1 - 2 ** (-1 / fps / smoothing.HALF_LIFE)) * raw_change
    assert np.abs(out[-1] - clean).mean() < 0.5 * np.abs(masks[-1] - clean).mean()


@pytest.mark.parametrize("fps", [240.0, *RATES])
@pytest.mark.parametrize("at", [1, 9])
def test_a_blink_of_one_frame_in_a_still_picture_is_removed(fps: float, at: int) -> None:
    masks = [person()] * 12
    masks[at] = np.zeros(MASK, np.float32)
    for mask in run(Steady(), masks, still(12), fps):
        assert np.abs(mask - person()).max() < CONTRADICTION  # below CONTRADICTION it is averaged
        assert ((mask >= 0.5) != (person() >= 0.5)).sum() == 0


@each_rate
def test_a_real_change_in_a_still_picture_is_accepted_in_time(fps: float) -> None:
    """Within 100 ms or one further frame, whichever is longer."""
    masks = [np.zeros(MASK, np.float32)] * 10 + [person()] * 10
    out = list(run(Steady(), masks, still(20), fps))
    allowed = max(1, math.floor(0.1 * fps + 1e-6))
    # Not yet, and not in the last frame before: it may be a blink.
    assert np.abs(np.array(out[10 : 10 + allowed]) - masks[0]).max() < CONTRADICTION
    sure = person() > CONTRADICTION + 0.05
    assert np.abs(out[10 + allowed] - person())[sure].max() < 0.01
    assert np.abs(out[10 + allowed] - person()).max() < CONTRADICTION


@each_rate
def test_an_edge_that_visibly_moves_goes_through_at_once(fps: float) -> None:
    lefts = [8 + round(20 * i / fps) for i in range(round(1.2 * fps))]
    masks = [person(left) for left in lefts]
    out = list(run(Steady(), masks, [shown(left) for left in lefts], fps))
    for mask, raw, left, before in zip(out[1:], masks[1:], lefts[1:], lefts, strict=False):
        if left != before:
            edge = np.zeros(MASK, bool)
            edge[20:, [before, left - 1, before + 16, left + 15]] = True
            assert np.abs(mask - raw)[edge].max() < smoothing.PLAIN


@pytest.mark.parametrize("fps", [60.0, *RATES[:3]])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_network_that_blinks_in_every_third_frame_is_believed_in_the_others(
    fps: float, first: int
) -> None:
    """50 Hz lamps do that at 30 frames/s; whichever answer came first, it does not stick."""
    rng = np.random.default_rng(first)
    smoother, empty, time = Steady(), np.zeros(MASK, np.float32), 0.0
    for i in range(count := round(1.5 * fps)):
        time += rng.uniform(0.9, 1.1) / fps
        found = smoother.update(empty if i % 3 == first else person(), filmed(shown(20), i), time)
        if i > count // 2:
            assert ((found >= 0.5) == (person() >= 0.5)).all()


@pytest.mark.parametrize("first", [0, 1, 2])
def test_rows_that_blink_in_turn_are_believed_in_the_other_frames(first: int) -> None:
    """Bands of lamps: some rows of the mask are wrong in every frame, the same ones in a third."""
    masks = [person() for _ in range(45)]
    for i, mask in enumerate(masks):
        band = (i + first) % 3
        mask[16 + 14 * band : 30 + 14 * band] = 0
    for found in list(run(Steady(), masks, still(45), 30))[22:]:
        assert ((found >= 0.5) == (person() >= 0.5)).all()


def test_an_answer_that_swings_both_ways_is_not_believed() -> None:
    """Both differ from what was known by as much: neither has lasted, whatever their number."""
    half = np.full(MASK, 0.5, np.float32)
    swings = [np.full(MASK, i % 2, np.float32) for i in range(12)]
    for found in list(run(Steady(), [half] * 8 + swings, still(20), 30)):
        assert np.abs(found - half).max() < 0.01


def test_each_step_of_a_change_has_to_last_by_itself() -> None:
    """What was believed a frame ago is no reason to believe more of it at once."""
    some, more = np.full(MASK, 0.4, np.float32), np.full(MASK, 0.9, np.float32)
    masks = [0 * some] * 10 + [some] * 7 + [more] * 6  # 100 ms are six frames
    out = list(run(Steady(), masks, still(23), 60))
    assert np.abs(out[15]).max() < 0.01 and np.abs(out[16] - some).max() < 0.01
    assert np.abs(out[22] - some).max() < 0.01


@pytest.mark.parametrize(("width", "explained"), [(10, True), (4, False)])
def test_beside_what_moves_a_mask_is_believed_and_far_from_it_only_where_that_explains_it(
    width: int, explained: bool
) -> None:
    """Somebody appears; of them only a patch, or a larger one, is seen to move."""
    mask = np.zeros(MASK, np.float32)
    mask[8:48, 10:46] = 1
    picture = room().copy()
    picture[112 : 112 + 4 * width, 112 : 112 + 4 * width] = 255 - picture[112, 112]
    masks = [0 * mask] * 8 + [mask]
    out = list(run(Steady(), masks, [room()] * 8 + [picture], 30))[-1]
    last = 28 + width - 1
    assert out[27 : last + 2, 27 : last + 2].min() > 0.99 and out[26, 28] > 0.99
    assert abs(out[12, 14] - explained) < 0.01 and abs(out[44, 42] - explained) < 0.01


def test_where_the_camera_pans_the_plain_parts_of_the_picture_count_as_moving_too() -> None:
    """A wall without texture looks still in a moving camera; a mask on it must not be averaged."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 220, (56, 56, 3)).astype(np.uint8)
    textured = cv2.resize(coarse, PICTURE[:2], interpolation=cv2.INTER_LINEAR)
    faint = np.zeros(MASK, np.float32)
    faint[40:, :28] = 0.25  # less than a contradiction: in a still picture it is averaged
    out = {}
    for step in (0, 8):  # px a frame
        pictures = []
        for frame in range(12):
            picture = np.roll(textured, step * frame, axis=1)
            picture[112:] = 120
            pictures.append(picture)
        masks = [faint if frame == 11 else np.zeros(MASK, np.float32) for frame in range(12)]
        out[step] = list(run(Steady(), masks, pictures, 15))[-1]
    assert out[0][44:, 4:24].max() < 0.1
    assert np.abs(out[8] - faint)[44:, 4:24].max() < 0.01


def test_somebody_who_enters_is_there_at_once_also_where_they_look_like_the_wall() -> None:
    """The contradiction in the dark half touches the motion of the bright half."""
    dark = shown(20, background=room())
    dark[128:] = room()[128:]  # the lower body cannot be told from the room
    empty = np.zeros(MASK, np.float32)
    out = list(run(Steady(), [empty] * 8 + [person()] * 2, [room()] * 8 + [dark] * 2, 30))
    assert np.abs(out[8] - person())[20:48].max() < 0.3


@each_rate
def test_nothing_sticks(fps: float) -> None:
    """Whatever happened, one second of one answer in a still picture is that answer."""
    rng = np.random.default_rng(3)
    smoother = Steady()
    for i in range(10):
        smoother.update(rng.random(MASK, np.float32), filmed(room(i % 3), i), i / fps)
    last = None
    for i in range(10, 10 + math.ceil(3 * fps) + 2):
        last = smoother.update(person(), filmed(room(), i), i / fps)
    assert last is not None and np.abs(last - person()).max() < 0.05


def test_the_mean_picture_stays_the_picture_for_minutes() -> None:
    """The correction of each row's light feeds back on itself; it must not swing up."""
    smoother, small = Steady(), movement.reduced(shown(20), MASK)
    for i in range(600):
        smoother.update(person(), filmed(shown(20), i), i / 30)
        assert np.abs(smoother._movement._mean - small).mean() < 1.0  # half the noise of one frame


@pytest.mark.parametrize("gain", [0.7, 1.3])
def test_a_step_of_the_exposure_is_no_motion(gain: float) -> None:
    masks, smoother, out = [person()] * 8 + [np.zeros(MASK, np.float32)], Steady(), []
    for i, mask in enumerate(masks):
        step = gain if i >= 6 else 1.0
        out.append(smoother.update(mask, filmed(shown(20) // 2 + 30, i, gain=step), i / 10))
    assert (
        np.abs(out[-1] - person()).max() < CONTRADICTION
    )  # the blink after the step is still removed


def test_bands_of_lamps_are_no_motion() -> None:
    rows = np.arange(224)[:, None, None] / 224
    smoother, out = Steady(), []
    for i in range(12):
        bands = 1 + 0.06 * np.sin(2 * np.pi * (100 * i / 15 + 2 * rows))
        lit = (shown(20) * bands).clip(0, 255).astype(np.uint8)
        mask = np.zeros(MASK, np.float32) if i == 10 else person()
        out.append(smoother.update(mask, filmed(lit, i), i / 15))
    assert ((out[10] >= 0.5) != (person() >= 0.5)).mean() < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bird", "help", "student"])
def test_on_real_webcam_clips_nothing_breaks(data_dir: Path, name: str) -> None:
    """No truth there: stiller than raw, hardly another mask, and never far behind it."""
    clip = data_dir / "videos" / "intel_asl" / f"{name}.mkv"
    if not clip.is_file():
        pytest.skip(f"wanted {clip}: the webcam clips are not here")
    masks: dict[str, list[Soft]] = {}
    for kind, smoother in (("raw", None), ("steady", Steady())):
        with EdgeSegmenter.open(smoother=smoother) as segmenter, open_source(clip) as source:
            masks[kind] = [
                segmenter.segment(shot.frame, shot.timestamp, size=MASK)
                for shot in islice(source, 60)
            ]
    raw, steady = np.array(masks["raw"]), np.array(masks["steady"])
    assert raw.shape == steady.shape and np.isfinite(steady).all()
    assert steady.min() >= 0 and steady.max() <= 1
    assert np.abs(np.diff(steady, axis=0)).mean() < np.abs(np.diff(raw, axis=0)).mean()
    assert np.abs(steady - raw).mean() < 0.02
    # What is decided otherwise than raw is decided so for 100 ms at most, blinks apart.
    other = (steady >= 0.5) != (raw >= 0.5)
    assert other.mean() < 0.01 and other.reshape(len(other), -1).mean(axis=1).max() < 0.05


# --- when a frame is a first one -----------------------------------------------------------------


def settled(smoother: Steady, start: float = 0.0) -> float:
    """Feed ten still frames; return the time of the next."""
    for i in range(10):
        smoother.update(person(), filmed(shown(20), i), start + i / 10)
    return start + 1.0


OTHER = np.zeros(MASK, np.float32)


@pytest.mark.parametrize(
    "picture",
    [room(5), np.zeros(PICTURE, np.uint8), np.full(PICTURE, 255, np.uint8)],
    ids=["scene cut", "black frame", "white frame"],
)
def test_a_scene_cut_or_a_black_frame_goes_through_and_so_does_the_return(picture: Picture) -> None:
    smoother = Steady()
    time = settled(smoother)
    assert np.array_equal(smoother.update(OTHER, picture, time), OTHER)
    assert np.array_equal(smoother.update(person(), shown(20), time + 0.1), person())


def test_a_step_too_short_for_floats_is_none() -> None:
    smoother = Steady()
    for i in range(3):  # 1e-50 s is 0 in float32
        found = smoother.update(person(), filmed(shown(20), i), i * 1e-50)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("time", [2.2, 0.5, None, math.nan, math.inf, -1.0])
def test_after_a_gap_or_a_time_that_is_none_the_mask_is_raw(time: float | None) -> None:
    smoother = Steady()
    settled(smoother)
    assert np.array_equal(smoother.update(OTHER, filmed(shown(20), 11), time), OTHER)
    if time is None or not math.isfinite(time):  # nor is it known how long after it the next comes
        assert np.array_equal(smoother.update(person(), filmed(shown(20), 12), 1.0), person())


def test_a_repeated_time_adds_no_time_and_keeps_what_rests() -> None:
    smoother = Steady()
    time = settled(smoother)
    before = smoother.update(person(), filmed(shown(20), 11), time)
    for _ in range(3):
        again = smoother.update(OTHER, filmed(shown(20), 11), time)
        assert np.allclose(again, before, atol=0.01)
    smoother.update(person(), filmed(shown(20), 12), time + 0.1)
    moved = smoother.update(person(30), filmed(shown(30), 20), time + 0.1)
    assert np.abs(moved - person(30))[20:, 40:44].max() < 0.02


def test_frames_that_come_twice_are_smoothed_for_as_long_as_they_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    smoother = Steady()
    for i in range(20):
        mask = OTHER if i in (18, 19) else person()
        found = smoother.update(mask, filmed(shown(20), i // 2), i // 2 / 10)
    assert np.abs(found - person()).max() < CONTRADICTION and not caplog.text


def test_a_clock_that_stands_smooths_nothing_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    smoother = Steady()
    settled(smoother)
    with caplog.at_level(logging.WARNING, "edge_seg"):
        for i in range(12):
            mask = OTHER if i in (4, 6, 8) else person()
            found = smoother.update(mask, filmed(shown(20), 11 + i), 5.0)
            if i > 3:  # from the fourth repeat on
                assert np.array_equal(found, mask)
    assert caplog.text.count("wanted timestamps that grow") == 1


def test_another_size_of_mask_or_picture_is_a_first_frame() -> None:
    smoother = Steady()
    time = settled(smoother)
    small = np.zeros((36, 64), np.float32)
    assert np.array_equal(smoother.update(small, filmed(shown(20), 11), time), small)
    assert np.array_equal(smoother.update(OTHER, filmed(shown(20), 12), time), OTHER)
    smoother.update(person(), filmed(shown(20), 13), time)
    assert np.array_equal(smoother.update(OTHER, room()[:200], time), OTHER)


def test_reset_equals_a_fresh_one() -> None:
    used, fresh = Steady(), Steady()
    time = settled(used)
    for _ in range(4):
        used.update(person(), filmed(shown(20), 11), time)
    used.reset()
    for i in range(8):
        mask = OTHER if i == 2 else person(20 + max(0, i - 3))
        inputs = (mask, filmed(shown(20 + max(0, i - 3)), i), 50 + max(0, i - 3) / 10)
        assert np.array_equal(used.update(*inputs), fresh.update(*inputs))


@given(
    origin=st.sampled_from([0.0, -1e5, 1.7e9]),
    seed=st.integers(0, 99),
    fps=st.sampled_from(RATES),
)
@settings(max_examples=15, deadline=None)
def test_any_origin_of_the_clock_gives_the_same(origin: float, seed: int, fps: float) -> None:
    rng = np.random.default_rng(seed)
    one, two = Steady(), Steady()
    for i in range(8):
        mask = np.clip(person() + rng.normal(0, 0.1, MASK), 0, 1).astype(np.float32)
        picture = filmed(shown(20 + (i > 5)), 100 * seed + i)
        here, there = (
            one.update(mask, picture, i / fps),
            two.update(mask, picture, origin + i / fps),
        )
        assert np.abs(here - there).max() < 1e-4


@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(56, 56), (36, 64), (144, 256), (1, 1), (3, 200)]),
    times=st.lists(
        st.one_of(
            st.none(),
            st.floats(-2, 5),
            st.sampled_from([0.0, 1e-300, 2e-300, math.nan, math.inf, 1e12]),
        ),
        min_size=1,
        max_size=8,
    ),
)
@settings(max_examples=40, deadline=None)
def test_whatever_comes_the_mask_stays_a_mask_and_the_inputs_stay_theirs(
    seed: int, shape: tuple[int, int], times: list[float | None]
) -> None:
    rng = np.random.default_rng(seed)
    smoother = Steady()
    lowest, highest = 1.0, 0.0
    for time in times:
        mask = rng.random(shape, np.float32)
        if rng.random() < 0.2:
            mask.flat[0] = rng.choice([np.nan, np.inf])
        picture = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        copies = mask.copy(), picture.copy()
        found = smoother.update(mask, picture, time)
        assert found.shape == shape and found.dtype == np.float32 and found.flags.owndata
        assert np.isfinite(found).all()
        lowest, highest = min(lowest, float(found.min())), max(highest, float(found.max()))
        assert np.array_equal(mask, copies[0], equal_nan=True) and np.array_equal(
            picture, copies[1]
        )
        found[:] = 7.0  # the caller may write into it
    assert lowest >= -1e-6 and highest <= 1 + 1e-6


@each_rate
def test_a_mask_that_does_not_change_comes_back(fps: float) -> None:
    rng = np.random.default_rng(4)
    mask = rng.random(MASK, np.float32)
    for found in run(Steady(), [mask] * 9, [shown(20 + i) for i in range(9)], fps):
        assert np.abs(found - mask).max() < 1e-6


# --- bad input -----------------------------------------------------------------------------------


def test_a_half_life_that_is_none_is_refused() -> None:
    for wrong in (
        0,
        -0.1,
        11,
        10**400,
        math.nan,
        math.inf,
        "0.8",
        None,
        True,
        timedelta(seconds=1),
    ):
        with pytest.raises(SettingError, match="half-life"):
            Steady(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "time", ["now", b"1", "1.5", datetime(2024, 1, 1), np.datetime64("2024-01-01", "ns"), True, [1]]
)
def test_a_time_that_is_no_number_is_refused_and_the_state_survives(time: Any) -> None:
    smoother, other = Steady(), Steady()
    assert settled(smoother) == (after := settled(other))
    with pytest.raises(FrameError, match="wanted a frame's time as a number of seconds"):
        smoother.update(person(), filmed(shown(20), 11), time)
    again = [s.update(OTHER, filmed(shown(20), 12), after) for s in (smoother, other)]
    assert np.array_equal(*again)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.array, Fraction, Decimal])
def test_any_number_is_a_time(kind: Any) -> None:
    found = [Steady(), Steady()]
    for i in range(3):
        masks = [
            s.update(person(20 + i), filmed(shown(20), i), t)
            for s, t in zip(found, (kind(i), i), strict=True)
        ]
    assert np.array_equal(*masks)


def test_a_mask_or_picture_that_is_none_is_refused_and_the_state_survives() -> None:
    smoother = Steady()
    time = settled(smoother)
    for wrong in (np.zeros(MASK, np.uint8), np.zeros((56, 56, 1), np.float32), np.zeros((0, 5))):
        with pytest.raises(FrameError, match="mask of floats"):
            smoother.update(wrong, shown(20), time)
    for wrong in (np.zeros((224, 224), np.uint8), np.zeros(PICTURE, np.float32)):
        with pytest.raises(FrameError, match="picture of uint8"):
            smoother.update(person(), wrong, time)
    blinked = smoother.update(OTHER, filmed(shown(20), 11), time)
    assert np.abs(blinked - person()).max() < CONTRADICTION


def test_nan_in_a_mask_keeps_what_was_known_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    smoother = Steady()
    time = settled(smoother)
    broken = person()
    broken[10:40, 20:30] = np.nan
    with caplog.at_level(logging.WARNING, "edge_seg"):
        found = smoother.update(broken, filmed(shown(20), 11), time)
    assert np.abs(found - person()).max() < 1e-3
    assert "300 of 3136 pixels" in caplog.text
    first = Steady().update(broken, room(), 0.0)
    assert np.isfinite(first).all() and first[10:40, 20:30].max() == 0


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("milliseconds", 1e3),
        ("ticks of 1/90000 s", 9e4),  # RTP's and MPEG's
        ("microseconds", 1e6),
        ("nanoseconds", 1e9),
    ],
)
@each_rate
def test_times_in_another_unit_are_said_once(
    fps: float, unit: str, scale: float, caplog: pytest.LogCaptureFixture
) -> None:
    smoother = Steady()
    with caplog.at_level(logging.WARNING, "edge_seg"):
        for i in range(20):
            found = smoother.update(person(20 + i), room(), scale * i / fps)
            assert np.array_equal(found, person(20 + i))  # nothing is smoothed over such pauses
    assert caplog.text.count("wanted timestamps in seconds") == 1
    assert f"if they are {unit}, divide by {scale:g}" in caplog.text


def test_a_clock_that_stood_still_is_told_of_its_unit_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    smoother = Steady()
    with caplog.at_level(logging.WARNING, "edge_seg"):
        for time in [5.0] * 8 + [5.0 + 33.3 * i for i in range(1, 8)]:
            smoother.update(person(), room(), time)
    assert caplog.text.count("wanted timestamps that grow") == 1
    assert caplog.text.count("divide by 1000") == 1


@pytest.mark.parametrize(
    ("steps", "unit", "possible"),  # units in which a camera has 1 to 250 frames a second
    [
        ((4.2, 4.2, 4.2), "milliseconds", 1),
        ((33, 33, 33), "milliseconds", 1),
        ((33, 33, 70000), "milliseconds", 1),  # a pause
        ((3000, 3000, 3000), "ticks of 1/90000 s", 1),
        ((33333, 33333, 33333), "microseconds", 2),
        ((33333, 5, 33333), "microseconds", 2),  # two frames at once
    ],
)
def test_the_unit_at_which_a_camera_runs_usually_is_named_first(
    steps: tuple[float, ...], unit: str, possible: int, caplog: pytest.LogCaptureFixture
) -> None:
    smoother = Steady()
    with caplog.at_level(logging.WARNING, "edge_seg"):
        for time in accumulate(steps, initial=0.0):
            smoother.update(person(), room(), time)
    assert f"so long; if they are {unit}, divide by" in caplog.text
    assert caplog.text.count("divide by") == possible


@pytest.mark.parametrize("between", [0.1, 2.0])
def test_slow_sources_and_single_pauses_are_not_called_wrong(
    between: float, caplog: pytest.LogCaptureFixture
) -> None:
    smoother = Steady()
    with caplog.at_level(logging.WARNING, "edge_seg"):
        for i in range(6):  # two frames now and then
            smoother.update(person(), room(), 60.0 * i)
            smoother.update(person(), room(), 60.0 * i + between)
    assert not caplog.text


@pytest.mark.parametrize("shape", [(5, 8), (5, 7), (1, 1), (9,), (2,)])
def test_the_median_is_numpy_s(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(5).random(shape, np.float32)
    assert np.allclose(movement._median(values), np.median(values, axis=-1))


def test_what_smoother_means() -> None:
    own = Steady(0.2)
    assert smoothing.resolve(own) is own and smoothing.resolve(None) is None
    default = smoothing.resolve("default")
    assert isinstance(default, Steady) and default.half_life == smoothing.HALF_LIFE
    for wrong in ("steady", 0.5, object(), Steady):
        with pytest.raises(SettingError, match="smoother="):
            smoothing.resolve(wrong)  # type: ignore[arg-type]
