"""Temporal figures on constructed sequences whose values are known, at several frame rates."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg.arrays import Label, Soft
from edge_seg.errors import FrameError
from edge_seg.stability import Stability
from edge_seg.stability.dropouts import Dropouts
from edge_seg.stability.figures import Figures
from edge_seg.stability.gain import Gain, gain_over_raw
from edge_seg.stability.motion import motion_between

SIZE = (40, 60)
RATES = (30.0, 15.0, 10.0, 5.0)
each_rate = pytest.mark.parametrize("fps", RATES)


def person(left: int = 10, width: int = 20) -> Label:
    """A person who fills the lower three quarters of columns left .. left + width."""
    label = np.zeros(SIZE, np.uint8)
    label[10:, max(0, left) : max(0, left + width)] = 1
    return label


def judged(
    masks: Sequence[NDArray[np.floating]],
    labels: Sequence[Label],
    fps: float,
    raw: Sequence[NDArray[np.floating]] | None = None,
) -> Figures:
    judge = Stability()
    for i, (mask, label) in enumerate(zip(masks, labels, strict=True)):
        judge.add(mask, label, 100 + i / fps, raw=None if raw is None else raw[i])
    return judge.figures()


def soft(label: Label) -> Soft:
    return label.astype(np.float32)


def still(fps: float, seconds: float = 3.0) -> list[Label]:
    return [person()] * round(seconds * fps)


def walking(fps: float, seconds: float = 3.0, speed: float = 12.0) -> list[Label]:
    """A person who walks `speed` px a second."""
    return [person(5 + int(speed * i / fps)) for i in range(round(seconds * fps))]


# --- known values --------------------------------------------------------------------------------


@each_rate
def test_the_truth_itself_is_perfect_still_or_walking(fps: float) -> None:
    for labels in (still(fps), walking(fps)):
        masks = [soft(label) for label in labels]
        found = judged(masks, labels, fps, raw=masks)
        assert found.miou == 1 and found.boundary_f == 1 and found.mae == 0 and found.steady == 1
        assert (found.dtssd, found.flicker, found.flips, found.dropouts) == (0, 0, 0, 0)
        assert found.ghosting in (None, 0) and found.lag in (None, 0)


@each_rate
def test_white_noise_has_the_same_flicker_at_every_rate(fps: float) -> None:
    rng = np.random.default_rng(0)
    labels = still(fps)
    masks = [np.where(x == 1, 0.8, 0.2) + rng.choice([-0.1, 0.1], SIZE) for x in labels]
    found = judged(masks, labels, fps)
    # Two independent values of +-0.1 differ by 0.2 in half of the cases.
    assert found.flicker == pytest.approx(10.0, rel=0.05)
    assert found.dtssd == pytest.approx(100 * np.sqrt(0.5 * 0.04), rel=0.05)
    assert found.mae == pytest.approx(20.0, abs=0.2) and found.flips == 0


@each_rate
def test_a_step_of_the_whole_mask_counts_once(fps: float) -> None:
    labels = still(fps)
    half = len(labels) // 2
    masks = [np.full(SIZE, 0.1 if i < half else 0.4) for i in range(len(labels))]
    found = judged(masks, labels, fps)
    pairs = len(labels) - 1
    assert found.flicker == pytest.approx(30 / pairs, rel=1e-3)
    assert found.dtssd == pytest.approx(30 / pairs, rel=1e-3)
    assert found.flips == 0


@each_rate
def test_a_ramp_flickers_by_its_slope(fps: float) -> None:
    labels = still(fps)
    masks = [np.full(SIZE, 0.1 + 0.2 * i / fps) for i in range(len(labels))]  # 0.2 a second
    found = judged(masks, labels, fps)
    assert found.flicker == pytest.approx(20 / fps, rel=1e-3)
    assert found.dtssd == pytest.approx(20 / fps, rel=1e-3)


@each_rate
def test_a_one_frame_blink_is_two_flips_and_one_dropout(fps: float) -> None:
    labels = still(fps)
    masks = [soft(label) for label in labels]
    masks[len(masks) // 2] = np.zeros(SIZE, np.float32)
    found = judged(masks, labels, fps)
    share = labels[0].mean()
    pairs = len(labels) - 1
    assert found.flips == pytest.approx(2 * share / (pairs / fps))
    assert found.flicker == pytest.approx(100 * 2 * share / pairs)
    assert found.dropouts == 1


def test_a_person_who_does_not_come_back_is_no_dropout() -> None:
    labels = still(10)
    masks = [soft(x) if i < 15 else soft(x) * 0 for i, x in enumerate(labels)]
    assert judged(masks, labels, 10).dropouts == 0
    leaving = [x if i < 15 else x * 0 for i, x in enumerate(labels)]  # the truth leaves as well
    assert judged([soft(x) for x in leaving], leaving, 10).dropouts == 0


def delayed(masks: Sequence[Soft], frames: int) -> list[Soft]:
    return [masks[max(0, i - frames)] for i in range(len(masks))]


@each_rate
@pytest.mark.parametrize("frames", [0, 1, 2])
def test_the_lag_of_a_known_delay_is_that_delay(fps: float, frames: int) -> None:
    labels = walking(fps, seconds=4.0, speed=6.0)
    blurred = [cv2.GaussianBlur(soft(x), (0, 0), 1.5) for x in labels]  # a network is not sharp
    found = judged(delayed(blurred, frames), labels, fps, raw=blurred)
    assert found.lag == pytest.approx(frames * 1000 / fps, rel=0.12, abs=1)


@pytest.mark.parametrize("fps", [30.0, 15.0])
def test_the_lag_of_an_average_is_its_mean_delay(fps: float) -> None:
    labels = walking(fps, seconds=4.0, speed=6.0)
    masks = [soft(x) for x in labels]
    averaged, state = [], masks[0]
    for mask in masks:
        state = 0.5 * state + 0.5 * mask  # 0.5 / (1 - 0.5) = one frame
        averaged.append(state)
    found = judged(averaged, labels, fps, raw=masks)
    assert found.lag == pytest.approx(1000 / fps, rel=0.1)


@each_rate
def test_noise_that_follows_nothing_has_no_lag(fps: float) -> None:
    labels = walking(fps)
    rng = np.random.default_rng(0)
    raw = [rng.normal(0.2, 0.05, SIZE).astype(np.float32) for _ in labels]
    assert judged(delayed(raw, 1), labels, fps, raw=raw).lag is None
    weak = [x + 0.2 * soft(label) for x, label in zip(raw, labels, strict=True)]
    found = judged(delayed(weak, 1), labels, fps, raw=weak)
    assert found.lag == pytest.approx(1000 / fps, rel=0.1)


@each_rate
def test_a_mask_left_behind_is_a_ghost(fps: float) -> None:
    labels = walking(fps)
    masks = [soft(x) for x in labels]
    held = delayed(masks, 1)
    assert judged(masks, labels, fps).ghosting == 0
    found = judged(held, labels, fps).ghosting
    # Columns left in the last 200 ms count for 200 ms; the last mask still shows the newest.
    seen = max(1, int(0.2 * fps + 1e-9) + 1)
    assert found is not None and 100 / seen * 0.4 < found <= 100
    assert judged([soft(x) for x in still(fps)], still(fps), fps).ghosting is None


@each_rate
def test_a_moving_edge_is_not_static(fps: float) -> None:
    labels = walking(fps)
    masks = [soft(x) for x in labels]
    for i in range(0, len(masks), 2):  # every second frame is wrong at the moving edges alone
        masks[i] = cv2.dilate(masks[i], np.ones((1, 3), np.uint8))
    found = judged(masks, labels, fps)
    assert found.dtssd is not None and found.dtssd > 1
    # The edge passes 12 px a second: at 10 fps and below the pixels beside it change truth within
    # 200 ms; the ones it will reach only later do count.
    assert found.flicker is not None and found.flicker < found.dtssd / 3


def test_steady_wants_every_frame_of_half_a_second_right() -> None:
    labels = still(10, seconds=3.0)
    masks = [soft(x) for x in labels]
    masks[15] = 1 - masks[15]
    # Judged from frame 5 to 29; frames 15 to 20 look back on frame 15.
    assert judged(masks, labels, 10).steady == pytest.approx(1 - 6 / 25)


def test_ignored_pixels_count_nowhere() -> None:
    labels = [x.copy() for x in still(10)]
    rng = np.random.default_rng(1)
    masks = [soft(x) for x in labels]
    for label, mask in zip(labels, masks, strict=True):
        label[:, 30:] = 255
        mask[:, 30:] = rng.random((SIZE[0], 30))
    found = judged(masks, labels, 10)
    assert (found.dtssd, found.flicker, found.flips, found.mae) == (0, 0, 0, 0)


# --- the flow ------------------------------------------------------------------------------------


def texture(shift: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    base = cv2.GaussianBlur(rng.integers(0, 256, (80, 160, 3)).astype(np.uint8), (0, 0), 2)
    wide = cv2.normalize(base, None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(wide[:, 10 + shift : 130 + shift])


def test_the_motion_is_the_picture_s_shift_and_holds_where_the_frame_before_had_it() -> None:
    motion = motion_between(texture(0), texture(8))  # what is at a column was 8 to the right of it
    rows, columns = np.indices((80, 120))
    assert not motion.valid[:, 113:].any(), "from outside the picture"
    inner = np.s_[8:-8, 8:104]
    assert motion.valid[inner].mean() > 0.98
    assert np.abs(motion.x - columns - 8)[inner].mean() < 0.1
    assert np.abs(motion.y - rows)[inner].mean() < 0.1


def test_between_unrelated_pictures_most_motion_is_not_believed() -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (2, 240, 320, 3)).astype(np.uint8)
    one, other = (cv2.GaussianBlur(picture, (0, 0), 4) for picture in noise)
    motion = motion_between(
        *(cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX) for picture in (one, other))
    )
    assert motion.valid.mean() < 0.6


def test_masks_that_follow_the_picture_are_consistent_and_frozen_ones_are_not() -> None:
    labels = []
    for i in range(8):
        label = np.zeros((80, 120), np.uint8)
        label[20:, 60 - 2 * i : 90 - 2 * i] = 1  # what moves left by 2 px a frame
        labels.append(label)
    figures = []
    for follow in (True, False):
        judge = Stability()
        for i, label in enumerate(labels):
            motion = motion_between(texture(2 * i - 2), texture(2 * i)) if i else None
            judge.add(soft(label if follow else labels[0]), label, i / 10, motion=motion)
        figures.append(judge.figures())
    follows, frozen = figures
    assert follows.warped is not None and frozen.warped is not None
    assert follows.warped < 4  # a tenth of a pixel of flow at an edge
    # Two columns at each of two edges, 60 of 80 rows, 120 columns: sqrt(4/120 * 0.75) = 16 %.
    assert frozen.warped == pytest.approx(16, rel=0.15)


# --- what only looks still must not look good ----------------------------------------------------


def noisy(labels: Sequence[Label]) -> list[Soft]:
    """A usable network: blurred, noisy, and wrong in a blob that comes and goes."""
    rng = np.random.default_rng(2)
    made = []
    for i, label in enumerate(labels):
        mask = cv2.GaussianBlur(soft(label), (0, 0), 1) + rng.normal(0, 0.05, SIZE)
        if i % 3 == 0:
            mask[2:6, 2:6] = 0.8
        made.append(np.clip(mask, 0, 1).astype(np.float32))
    return made


Cheat = Callable[[list[Soft]], list[Soft]]
CHEATS: dict[str, Cheat] = {
    "empty": lambda masks: [np.zeros_like(m) for m in masks],
    "full": lambda masks: [np.ones_like(m) for m in masks],
    "frozen": lambda masks: [masks[0]] * len(masks),
    "half the contrast": lambda masks: [0.25 + 0.5 * m for m in masks],
    "one frame late": lambda masks: delayed(masks, 1),
}


def compared(make: Cheat, labels: Sequence[Label], fps: float) -> Gain:
    raw = noisy(labels)
    return gain_over_raw(judged(make(raw), labels, fps, raw=raw), judged(raw, labels, fps, raw=raw))


@each_rate
@pytest.mark.parametrize("cheat", CHEATS)
def test_what_only_looks_still_does_not_look_good(cheat: str, fps: float) -> None:
    found = compared(CHEATS[cheat], walking(fps), fps)
    assert not found.better and found.paid
    assert str(found).startswith("not better: ")


@pytest.mark.parametrize("cheat", ["empty", "half the contrast"])
def test_nor_on_a_still_clip(cheat: str) -> None:
    found = compared(CHEATS[cheat], still(30), 30)
    assert found.flicker is not None and found.flicker < 0.6  # this alone would mislead
    assert not found.better


@each_rate
def test_the_truth_is_better_than_the_noisy_masks(fps: float) -> None:
    labels = walking(fps)
    raw = noisy(labels)
    ideal = judged([soft(x) for x in labels], labels, fps, raw=raw)
    found = gain_over_raw(ideal, judged(raw, labels, fps, raw=raw))
    assert found.better and not found.paid
    assert "dtSSD 0.00x" in str(found)


def test_raw_against_itself_gains_nothing() -> None:
    found = compared(lambda masks: masks, walking(10), 10)
    assert not found.better and not found.paid and found.dtssd == 1


def test_where_raw_has_nothing_to_divide_by_it_is_said() -> None:
    labels = still(10)
    perfect = judged([soft(x) for x in labels], labels, 10)
    same = gain_over_raw(perfect, perfect)
    assert not same.better and not same.paid and str(same).startswith("nothing to gain")
    worse = [np.where(x == 1, 0.9, 0.1) for x in labels]
    off = judged(worse, labels, 10)  # still, and wrong by a tenth
    blinking = judged([x + 0.1 * (i % 2) for i, x in enumerate(worse)], labels, 10)
    assert off.dtssd == 0 and "dtSSD 10 %, of raw none" in gain_over_raw(blinking, off).paid


# --- every figure by its definition, read aloud ---------------------------------------------------


def by_the_book(
    masks: Sequence[NDArray[np.floating]], labels: Sequence[Label], times: Sequence[float]
) -> dict[str, float | None]:
    """The figures pixel by pixel, from the whole history of each; times are whole milliseconds."""
    ms = [round(1000 * time) for time in times]
    pixels = list(np.ndindex(labels[0].shape))

    def rests(t: int, p: tuple[int, ...], span: int) -> bool:
        """Whether a pixel counts and no change, and no ignored frame, came in the last span."""
        breaks = [
            k
            for k in range(1, t + 1)
            if labels[k][p] != labels[k - 1][p] or 255 in (labels[k][p], labels[k - 1][p])
        ]
        return labels[t][p] != 255 and all(ms[t] - ms[k] > span for k in breaks)

    def right(t: int, p: tuple[int, ...]) -> bool:
        return bool(masks[t][p] >= 0.5) == bool(labels[t][p] == 1)

    dtssd, flicker, errors, moves = [], [], [], []
    flipped, seconds, steady, ghosts = [], [], [], []
    levels: dict[bool, list[float]] = {True: [], False: []}
    for t in range(len(masks)):
        valid = [p for p in pixels if labels[t][p] != 255]
        errors.append(np.mean([abs(masks[t][p] - (labels[t][p] == 1)) for p in valid]))
        for p in valid:
            if right(t, p):
                levels[bool(labels[t][p] == 1)].append(masks[t][p])
            recent = [k for k in range(t + 1) if ms[t] - ms[k] <= 200]
            if labels[t][p] == 0 and any(labels[k][p] == 1 for k in recent):
                ghosts.append(masks[t][p])
        window = [k for k in range(t + 1) if ms[t] - ms[k] <= 500]
        if ms[t] - ms[0] >= 500:
            held = [p for p in pixels if rests(t, p, 500)]
            steady += [all(right(k, p) for k in window) for p in held]
        if t == 0:
            continue
        both = [p for p in valid if labels[t - 1][p] != 255]
        change = {p: masks[t][p] - masks[t - 1][p] for p in pixels}
        true = {p: int(labels[t][p] == 1) - int(labels[t - 1][p] == 1) for p in both}
        # Robust Video Matting, evaluate_lr.py: sqrt(sum(((p1 - p0) - (t1 - t0))^2) / size) * 100
        dtssd.append(np.sqrt(np.mean([(change[p] - true[p]) ** 2 for p in both])))
        if any(true.values()):
            moves.append(any(abs(change[p]) > 1e-6 for p in both))
        static = [p for p in pixels if rests(t, p, 200)]
        if static:
            flicker.append(np.mean([abs(change[p]) for p in static]))
            over = [(masks[t][p] >= 0.5) != (masks[t - 1][p] >= 0.5) for p in static]
            flipped.append(np.mean(over))
            seconds.append((ms[t] - ms[t - 1]) / 1000)
    return {
        "mae": 100 * float(np.mean(errors)),
        "steady": float(np.mean(steady)),
        "dtssd": 100 * float(np.mean(dtssd)),
        "flicker": 100 * float(np.mean(flicker)),
        "flips": float(np.sum(flipped) / np.sum(seconds)),
        "ghosting": 100 * float(np.mean(ghosts)) if ghosts else None,
        "contrast": float(np.mean(levels[True]) - np.mean(levels[False])),
        "moves": float(np.mean(moves)),
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [33, 100, 210, 1000])
def test_every_figure_is_its_definition_read_aloud(seed: int, step: int) -> None:
    rng = np.random.default_rng((seed, step))
    shape, labels = (5, 6), []
    label = rng.choice([0, 1, 255], shape, p=[0.5, 0.4, 0.1]).astype(np.uint8)
    for _ in range(24):
        fresh = rng.choice([0, 1, 255], shape, p=[0.45, 0.45, 0.1]).astype(np.uint8)
        label = np.where(rng.random(shape) < 0.06, fresh, label)
        labels.append(label)
    noise = rng.normal(0, 0.25, (24, *shape))
    masks = [  # in eighths, so that many say exactly one half: a person, as an int8 logit of 0 is
        np.round(8 * np.clip(0.2 + 0.6 * (x == 1) + n, 0, 1)).astype(np.float32) / 8
        for x, n in zip(labels, noise, strict=True)
    ]
    times = list(np.cumsum(rng.integers(max(1, step - 20), step + 20, 24)) / 1000)
    judge = Stability()
    for mask, label, time in zip(masks, labels, times, strict=True):
        judge.add(mask, label, time)
    found = judge.figures().to_dict()
    for name, wanted in by_the_book(masks, labels, times).items():
        near = wanted if wanted is None else pytest.approx(wanted, rel=1e-4, abs=1e-6)
        assert found[name] == near, name


@pytest.mark.parametrize("fps", [1.0, 2.0])
def test_a_blink_at_one_frame_a_second_is_a_dropout_too(fps: float) -> None:
    labels = still(fps, seconds=8.0)
    masks = [soft(x) for x in labels]
    masks[3] = masks[3] * 0
    assert judged(masks, labels, fps).dropouts == 1
    masks[4] = masks[4] * 0  # away for two frames: at one a second not back within a second
    assert judged(masks, labels, fps).dropouts == (1 if fps == 2 else 0)


FADE, DEEP_FADE = ([1 - step * i for i in range(9)] for step in (0.039, 0.041))  # 100 ms apart
COVERED = {
    "by 19 points": ([1, 1, 0.81, 1], 0),
    "by 21 points": ([1, 1, 0.79, 1], 1),
    "in 600 ms": ([*FADE, 1], 0),
    "in 500 ms": ([*DEEP_FADE, 1], 1),
    "back after a second": ([1, *[0.5] * 10, 1], 1),
    "back after more": ([1, *[0.5] * 11, 1], 0),
    "back but for 19 points": ([1, 0.5, 0.81, 0.5, 0.81], 2),
    "back but for 21 points": ([1, 0.5, 0.79, 0.79], 0),
    "nobody there between": ([1, 0.5, None, 1], 0),
}


@pytest.mark.parametrize("name", COVERED)
def test_a_dropout_is_20_points_of_the_best_of_500_ms_and_back_within_1_s(name: str) -> None:
    covered, wanted = COVERED[name]
    dropouts = Dropouts()
    for i, share in enumerate(covered):
        dropouts.add(share, 100 + i / 10)
    assert dropouts.count == wanted


def test_what_is_ignored_where_a_pixel_came_from_is_not_warped() -> None:
    frames = [texture(2 * i) for i in range(6)]  # all moves left by 2 px a frame
    judge = Stability()
    rng = np.random.default_rng(0)
    for i, frame in enumerate(frames):
        label = np.zeros((80, 120), np.uint8)
        label[:, 60 - 2 * i : 90 - 2 * i] = 255  # what is ignored moves with the picture
        mask = np.where(label == 255, rng.random(label.shape), 0.0)
        judge.add(mask, label, i / 10, motion=motion_between(frames[i - 1], frame) if i else None)
    warped = judge.figures().warped
    assert warped is not None and warped < 1e-3


# --- labels that say nothing ----------------------------------------------------------------------


def test_a_clip_of_ignored_pixels_alone_has_no_figures() -> None:
    judge = Stability()
    for i in range(3):
        judge.add(soft(person()), np.full(SIZE, 255, np.uint8), i / 10)
    with pytest.raises(FrameError, match="every pixel ignored"):
        judge.figures()


def test_a_frame_of_ignored_pixels_alone_does_not_count_as_right() -> None:
    labels = [*still(10, 1.0), np.full(SIZE, 255, np.uint8)]
    masks = [np.zeros(SIZE)] * len(labels)
    found = judged(masks, labels, 10)
    assert found.boundary_f == 0 and found.n == len(labels)


def test_a_mask_still_frozen_where_labels_count_is_frozen() -> None:
    labels = [x.copy() for x in walking(10)]
    rng = np.random.default_rng(0)
    masks = []
    for label in labels:
        label[:, 50:] = 255
        masks.append(soft(labels[0]) * (labels[0] != 255))
        masks[-1][:, 50:] = rng.random((SIZE[0], 10))
    assert judged(masks, labels, 10).moves == 0


# --- wrong input ---------------------------------------------------------------------------------


def test_wrong_input_is_named() -> None:
    judge = Stability()
    with pytest.raises(FrameError, match="no frame"):
        judge.figures()
    with pytest.raises(FrameError, match="floats"):
        judge.add(np.zeros(SIZE, np.uint8), person(), 0.0)
    with pytest.raises(FrameError, match="0 to 255; divide"):
        judge.add(255 * soft(person()), person(), 0.0)
    judge.add(np.zeros(SIZE), person(), 0.0)
    for time in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(FrameError, match="grow"):
            judge.add(np.zeros(SIZE), person(), time)
    with pytest.raises(FrameError, match="one size"):
        judge.add(np.zeros(SIZE), person()[:20], 1.0)


def test_frames_and_labels_of_two_sizes_have_no_motion_in_common() -> None:
    with pytest.raises(FrameError, match="frames of one size"):
        motion_between(texture(0), texture(0)[:-2])
    for small in (texture(0)[:31], texture(0)[:, :31]):
        with pytest.raises(FrameError, match="32 px or more a side"):
            motion_between(small, small)
    judge, small = Stability(), person()[:, :-4]
    judge.add(soft(small), small, 0.0)
    with pytest.raises(FrameError, match="bring labels to their frames' size"):
        judge.add(soft(small), small, 0.1, motion=motion_between(texture(0), texture(1)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_mask_with_pixels_that_are_no_numbers_is_refused_and_not_averaged(bad: float) -> None:
    judge, mask = Stability(), soft(person())
    judge.add(mask, person(), 0.0, raw=mask)
    broken = mask.copy()
    broken[3, 4] = bad
    for masks in ((broken, mask), (mask, broken)):
        with pytest.raises(FrameError, match=r"1 of \d+ pixels"):
            judge.add(masks[0], person(), 0.1, raw=masks[1])
    judge.add(mask, person(), 0.1, raw=mask)
    assert judge.figures().n == 2 and judge.figures().mae == 0


def test_figures_of_times_in_numpy_numbers_are_json() -> None:
    judge = Stability()
    for i, time in enumerate(np.arange(12) / 10):
        judge.add(soft(person()) * np.float32(i != 5), person(), time, raw=soft(person()))
    figures = judge.figures().to_dict()
    assert json.loads(json.dumps(figures)) == figures and figures["dropouts"] == 1


def test_a_clip_of_one_frame_has_accuracy_and_no_stability() -> None:
    found = judged([soft(person())], [person()], 30)
    assert found.miou == 1 and found.n == 1
    assert found.dtssd is None and found.flicker is None and found.lag is None
    assert gain_over_raw(found, found).better is False


def test_a_small_mask_is_judged_at_the_label_size() -> None:
    labels = still(10)
    masks = [soft(cv2.resize(x, (30, 20), interpolation=cv2.INTER_AREA)) for x in labels]
    assert judged(masks, labels, 10).miou > 0.97


# --- doubts: masks whose stillness says nothing, without other masks beside them -----------------


def doubted(make: Cheat, labels: Sequence[Label], fps: float) -> str:
    return "; ".join(judged(make(noisy(labels)), labels, fps).doubts)


@each_rate
@pytest.mark.parametrize(
    ("cheat", "word"),
    [("empty", "chance"), ("full", "chance"), ("frozen", "frozen"), ("half the contrast", "pale")],
)
def test_what_is_still_for_nothing_is_named(cheat: str, word: str, fps: float) -> None:
    assert word in doubted(CHEATS[cheat], walking(fps), fps)


@each_rate
def test_a_usable_network_is_not_doubted(fps: float) -> None:
    for labels in (walking(fps), still(fps), [soft(person()).astype(np.uint8) * 0] * 20):
        assert doubted(lambda masks: masks, labels, fps) == ""


@each_rate
@pytest.mark.parametrize("frames", [1, 2])
def test_the_delay_of_a_late_truth_is_that_delay(fps: float, frames: int) -> None:
    labels = walking(fps)
    found = judged(delayed([soft(x) for x in labels], frames), labels, fps)
    assert found.delay == pytest.approx(1000 * frames / fps, rel=0.1)
    assert judged([soft(x) for x in labels], labels, fps).delay == 0


def test_contrast_is_the_distance_of_the_levels_where_right() -> None:
    labels = still(10)
    pale = [0.2 + 0.5 * soft(label) for label in labels]
    assert judged(pale, labels, 10).contrast == pytest.approx(0.5, abs=1e-6)
    nobody = [np.zeros(SIZE, np.uint8)] * 5
    assert judged([soft(x) for x in nobody], nobody, 10).contrast is None
