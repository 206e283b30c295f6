"""Generated clips: seeded, true in every frame, and the two parts share nobody."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import clips as clips_module  # noqa: E402
from clips import (  # noqa: E402
    Camera,
    Clip,
    Person,
    Pose,
    Scene,
    clips,
    drawn_person,
    drawn_room,
    sampled,
)

from edge_seg.calibration.dataset import labelled_pairs  # noqa: E402

QUIET = Camera(noise=0.0, jpeg=100)


def drawn(part: str = "tuning", seconds: float = 0.5) -> list[Clip]:
    return [dataclasses.replace(clip, seconds=seconds) for clip in clips(None, part)]


def scene(path: clips_module.Track) -> Scene:
    return Scene(drawn_room(1), ((drawn_person(1), path),))


def test_a_clip_is_the_same_every_time_and_others_differ() -> None:
    first, again = (list(drawn()[1].render()) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.frame, b.frame) and np.array_equal(a.label, b.label)
        assert a.time == b.time
    assert not np.array_equal(first[0].frame, first[1].frame)  # noise is fresh in every frame


@pytest.mark.parametrize("part", clips_module.PARTS)
def test_every_clip_has_frames_labels_and_growing_times(part: str) -> None:
    found = drawn(part, 0.1)
    assert {clip.kind for clip in found} == {"head", "mover"}
    assert len({clip.name for clip in found}) == len(found) >= 10
    for clip in found:
        shots = list(clip.render())
        times = [shot.time for shot in shots]
        assert all(b > a for a, b in zip(times, times[1:], strict=False))
        for shot in shots:
            assert shot.frame.shape == (*clips_module.SIZE, 3) and shot.frame.dtype == np.uint8
            assert shot.label.shape == clips_module.SIZE and set(np.unique(shot.label)) <= {0, 1}


def test_the_label_is_where_the_person_is() -> None:
    room = drawn_room(1)
    path = clips_module.dance
    shots = list(Clip("x", "mover", ((0, scene(path)),), QUIET, 1.0).render())
    empty = next(Clip("y", "mover", ((0, Scene(room)),), QUIET, 1.0).render()).frame
    for shot in shots:
        differs = np.abs(shot.frame.astype(int) - empty).max(axis=2) > 24
        inner = cv2.erode(shot.label, np.ones((9, 9), np.uint8)) == 1
        outer = cv2.dilate(shot.label, np.ones((9, 9), np.uint8)) == 0
        assert differs[inner].mean() > 0.9 and differs[outer].mean() < 0.01


def test_motion_is_the_formula() -> None:
    """A person moved by a known number of pixels: the label moves by as many."""
    track = lambda t: Pose(x=0.3 + 0.2 * t, height=0.8)  # noqa: E731
    shots = list(Clip("x", "mover", ((0, scene(track)),), QUIET, 1.0).render(fps=10))
    centres = [np.nonzero(shot.label)[1].mean() for shot in shots]
    steps = np.diff(centres)
    assert np.allclose(steps, 0.02 * clips_module.SIZE[1], atol=0.5)
    tall = list(Clip("x", "mover", ((0, scene(clips_module.approach)),), QUIET, 2.0).render(2))
    areas = [int(shot.label.sum()) for shot in tall]
    assert areas == sorted(areas) and areas[-1] > 1.5 * areas[0]


def plank(grey: int = 200) -> Person:
    """A person like a plank: 80 px high and 30 px wide in a picture of 120x60 px."""
    alpha = np.zeros((120, 60), np.uint8)
    alpha[20:100, 15:45] = 255
    return Person((np.full((120, 60, 3), grey, np.uint8),), (alpha,))


def placed(pose: Pose) -> np.ndarray:
    """The label of the plank, 105 px high and 39 px wide where it stands upright."""
    pose = dataclasses.replace(pose, height=1.3125 * 120 / clips_module.SIZE[0])
    return Scene(drawn_room(1), ((plank(), lambda t: pose),)).at(0.0)[1]


def test_a_quarter_turn_swaps_the_height_and_width_of_the_label() -> None:
    boxes = [cv2.boundingRect(placed(Pose(y=0.6, angle=angle))) for angle in (0, 90)]
    (*_, wide, high), (*_, turned_wide, turned_high) = boxes
    assert (wide, high) == pytest.approx((39.4, 105), abs=1.5)
    assert (turned_wide, turned_high) == pytest.approx((105, 39.4), abs=1.5)


def test_the_head_sways_and_the_shoulders_stay() -> None:
    still, swaying = placed(Pose(y=0.8)), placed(Pose(y=0.8, sway=0.2))
    foot = round(0.8 * clips_module.SIZE[0])
    shoulders = foot - round(0.3 * 157.5)  # the lower 30 % of the person's picture
    assert still[shoulders:].any() and np.array_equal(still[shoulders:], swaying[shoulders:])
    moved = [
        abs(np.nonzero(swaying[row])[0].mean() - np.nonzero(still[row])[0].mean())
        for row in range(foot - 125, shoulders - 10, 10)
    ]
    assert all(a > b > 0 for a, b in zip(moved, moved[1:], strict=False))
    # The plank's top is at y = 20 of 120: 1 - 20 / 84 of the way, smoothed, of 0.2 * 79 px.
    lean = 1 - 20 / 84
    assert moved[0] == pytest.approx(0.2 * 78.75 * lean**2 * (3 - 2 * lean), rel=0.1)


def test_the_label_of_two_people_is_theirs_together_and_one_where_they_cross() -> None:
    room, paths = drawn_room(1), (clips_module.across(0.2, 0.8), clips_module.across(0.8, 0.2))
    people = tuple(zip((plank(80), plank(230)), paths, strict=True))
    counts = []
    for time in (0.0, 1.0, 2.0, 3.0, 4.0):
        picture, label = Scene(room, people).at(time)
        first, second = (Scene(room, (one,)).at(time) for one in people)
        assert np.array_equal(label, first[1] | second[1])
        inner = cv2.erode(second[1], np.ones((3, 3), np.uint8)) == 1
        assert np.array_equal(picture[inner], second[0][inner]), "the second stands in front"
        counts.append(cv2.connectedComponents(label)[0] - 1)
    assert counts == [2, 2, 1, 2, 2]


def test_a_shaking_camera_moves_the_room_and_the_person_alike() -> None:
    people = ((drawn_person(1), lambda t: Pose()),)
    still, still_label = Scene(drawn_room(1), people).at(0.5)
    moved, label = Scene(drawn_room(1), people, lambda t: (14 * t, -10 * t)).at(0.5)
    assert np.abs(moved[:-5, 7:] - still[5:, :-7]).max() <= 1  # 7 px right, 5 px up
    assert np.array_equal(label[:-5, 7:], still_label[5:, :-7])


@pytest.mark.parametrize("noise", [5.0, 10.0])
def test_the_noise_is_what_was_asked_at_mid_grey_and_less_in_the_dark(noise: float) -> None:
    # Of the brightness, the weighted sum of three colours: JPEG shares colour among four pixels.
    share = np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    for level, wanted in ((127.5, noise), (127.5 / 4, 0.75 * noise)):
        picture = np.full((*clips_module.SIZE, 3), level, np.float32)
        seen = Camera(noise=noise, jpeg=100).expose(picture, 0.0, np.random.default_rng(0))
        brightness = seen.astype(float) @ (0.114, 0.587, 0.299)
        assert brightness.mean() == pytest.approx(level, abs=0.6)
        assert brightness.std() == pytest.approx(share * wanted, rel=0.04)


def test_leaving_empties_the_truth() -> None:
    shots = list(Clip("x", "mover", ((0, scene(clips_module.visit)),), QUIET, 4.0).render(5))
    shares = [float(shot.label.mean()) for shot in shots]
    assert shares[0] > 0.1 and min(shares) == 0 and shares[-1] > 0.1


@pytest.mark.parametrize("fps", [15.0, 10.0, 5.0])
def test_a_slower_camera_sees_some_of_the_same_frames(fps: float) -> None:
    shots = list(drawn()[0].render())
    slow = sampled(shots, fps)
    assert len(slow) == -(-len(shots) // round(30 / fps))
    assert np.allclose(np.diff([s.time for s in slow]), 1 / fps)


def test_higher_rates_than_30_can_be_rendered() -> None:
    clip = drawn()[0]
    fast, usual = list(clip.render(60)), list(clip.render(30))
    assert len(fast) == 2 * len(usual)
    for a, b in zip(fast[::2], usual, strict=True):
        assert a.time == b.time and np.array_equal(a.label, b.label)


def test_the_lamps_beat_with_the_frame_rate() -> None:
    """100 Hz light at 30 frames/s beats at 10 Hz; 120 Hz light stands still."""
    still = ((0, scene(lambda t: Pose())),)
    means = {}
    for mains in (50.0, 60.0):
        camera = Camera(noise=0.0, mains=mains, depth=0.2, jpeg=100)
        shots = list(Clip("x", "head", still, camera, 1.0).render())
        rows = np.array([shot.frame[:8].mean() for shot in shots])
        means[mains] = rows
    assert np.ptp(means[50.0]) > 10 and np.ptp(means[60.0]) < 0.5
    assert np.allclose(means[50.0][:-3], means[50.0][3:], atol=0.5)  # 3 frames = 100 ms


def test_exposure_steps_frozen_dropped_cut_and_jitter() -> None:
    first, second = scene(lambda t: Pose()), scene(lambda t: Pose(x=0.2))
    gain = Camera(noise=0.0, jpeg=100, steps=((0.5, 0.5),))
    stepped = list(Clip("x", "head", ((0, first),), gain, 1.0).render(10))
    assert stepped[5].frame.mean() == pytest.approx(stepped[4].frame.mean() / 2, rel=0.03)
    incidents = Clip(
        *("x", "mover", ((0.0, first), (0.8, second))), frozen=(0.2, 0.5), dropped=(0.5, 0.7),
        seconds=1.0, jitter=0.5,
    )  # fmt: skip
    shots = list(incidents.render(30))
    times = np.array([s.time for s in shots])
    assert not ((times >= 0.5) & (times < 0.7)).any()
    frozen = [s.frame for s in shots if 0.2 <= s.time < 0.5]
    assert all(np.array_equal(f, frozen[0]) for f in frozen[1:])
    assert np.diff(times[times < 0.5]).std() > 0.001
    after = next(s for s in shots if s.time >= 0.8)
    before = [s for s in shots if s.time < 0.8][-1]
    assert (after.label != before.label).mean() > 0.1


def test_the_parts_share_no_person_and_no_room(data_dir: Path) -> None:
    tuning, report = (clips_module.cast(data_dir, part) for part in clips_module.PARTS)
    for ours, theirs in ((tuning.busts, report.busts), (tuning.bodies, report.bodies)):
        assert len(ours) >= 4 and len(theirs) >= 4
        codes = {p.pictures[0].tobytes() for p in ours}
        assert not codes & {p.pictures[0].tobytes() for p in theirs}
    assert not {r.tobytes() for r in tuning.rooms} & {r.tobytes() for r in report.rooms}
    names = [clip.name for clip in clips(data_dir, "report")]
    assert sum("talking head" in name for name in names) >= 4 and "report/parkour" in names


def test_a_saved_clip_is_read_back_as_a_labelled_clip(tmp_path: Path) -> None:
    clip = drawn()[4]
    clips_module.save(clip, tmp_path / "clip", fps=6)
    shots = list(clip.render(6))
    pairs = list(labelled_pairs(tmp_path / "clip"))
    assert len(pairs) == len(shots)
    for (frame, label), shot in zip(pairs, shots, strict=True):
        assert np.array_equal(frame, shot.frame) and np.array_equal(label, shot.label)
