"""Calibration frames: what is gathered, what is refused, what is skipped and counted.

Which frames are picked is in test_sampling.py.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from edge_seg import pixels  # noqa: E402
from edge_seg.calibration.dataset import (  # noqa: E402
    clip_pairs,
    pp_humanseg14k_scene,
    read_list,
    scene_rule,
)
from edge_seg.calibration.frames import LEAST, MOST, gather, hold_scenes_back  # noqa: E402
from edge_seg.calibration.sampling import Candidate  # noqa: E402
from edge_seg.errors import CameraError, DatasetError  # noqa: E402
from edge_seg.formats import MAX_SIDE  # noqa: E402
from edge_seg.spec import InputSpec  # noqa: E402

SPEC = InputSpec(24, 32)


def level(index: int) -> int:
    """The grey level by which a picture is told in what `gather` returns."""
    return 10 + 2 * index


def pictures(folder: Path, count: int, *, broken: tuple[int, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{i:03d}.png"
        cv2.imwrite(str(path), np.full((24, 32, 3), level(i), np.uint8))
        if i in broken:
            path.write_bytes(path.read_bytes()[:40])
    return folder


def levels(prepared: list[np.ndarray]) -> list[int]:
    return [int(p.mean()) for p in prepared]


# --- which ----------------------------------------------------------------------------------------


def test_frames_are_prepared_as_the_runtime_does_and_come_in_the_source_s_order(
    tmp_path: Path,
) -> None:
    folder = pictures(tmp_path / "p", 40)
    found = gather(folder, SPEC, count=10)
    assert len(found.pictures) == len(found.picked) == 10
    assert [c.index for c in found.picked] == sorted({c.index for c in found.picked})
    for candidate, picture in zip(found.picked, found.pictures, strict=True):
        frame = cv2.imread(str(folder / candidate.name))
        np.testing.assert_array_equal(picture, pixels.prepare(frame, SPEC)[0])
    # Grey pictures differ in brightness alone: a choice of few reaches both ends.
    assert {level(0), level(39)} <= set(levels(found.pictures))
    assert found.skipped == [] and found.held_back == []


def test_another_seed_is_another_choice_and_the_same_one_the_same(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 40)
    chosen = [[c.index for c in gather(folder, SPEC, count=10, seed=s).picked] for s in (3, 4, 3)]
    assert chosen[0] == chosen[2] != chosen[1]


def test_colour_order_and_letterbox_are_the_spec_s(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for i in range(LEAST):
        tall = np.zeros((64, 32, 3), np.uint8)
        tall[:] = (200, 100, 30)  # blue, green, red: as cv2 writes
        cv2.imwrite(str(tmp_path / "p" / f"{i}.png"), tall)
    rgb = gather(tmp_path / "p", InputSpec(24, 32, pad=7)).pictures[0]
    assert rgb[12, 16].tolist() == [30, 100, 200] and rgb[12, 0].tolist() == [7, 7, 7]
    bgr = gather(tmp_path / "p", InputSpec(24, 32, color="bgr", fit="stretch")).pictures[0]
    assert bgr[12, 0].tolist() == [200, 100, 30]


def test_with_labels_every_picture_may_be_used_without_them_some_are_held_back(
    tmp_path: Path,
) -> None:
    folder = pictures(tmp_path / "p", 20)
    assert len(gather(folder, SPEC).pictures) == 20
    found = gather(folder, SPEC, hold_back=50)
    seen, held = set(levels(found.pictures)), {int(f.mean()) for f in found.held_back}
    assert (len(seen), len(held)) == (16, 4)
    assert not seen & held and found.notes == []
    again = gather(folder, SPEC, hold_back=50)
    assert {int(f.mean()) for f in again.held_back} == held
    other = gather(folder, SPEC, hold_back=50, seed=1)
    assert {int(f.mean()) for f in other.held_back} != held


def test_what_is_held_back_is_of_videos_that_were_not_calibrated_on(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for video in range(6):
        for frame in range(10):
            picture = np.full((24, 32, 3), 40 * video + frame, np.uint8)
            cv2.imwrite(str(folder / f"cam{video}_{frame:04d}.png"), picture)
    found = gather(folder, SPEC, count=20, hold_back=50, scene=scene_rule("(.*)_[0-9]+"))
    seen = {value // 40 for value in levels(found.pictures)}
    held = {int(frame.mean()) // 40 for frame in found.held_back}
    assert len(seen) == 5 and len(held) == 1 and not seen & held
    assert len(found.held_back) == 10


def test_of_what_is_held_back_every_scene_comes_before_a_second_frame_of_one() -> None:
    look = np.zeros((8, 8, 3), np.uint8)
    listed = [Candidate(i, f"{i}", f"cam{i // 6}", f"{i}", 0.5, None, look) for i in range(60)]
    for count in (2, 4, 7):
        _, held, _ = hold_scenes_back(listed, count, 0)
        scenes = [candidate.scene for candidate in held]
        assert len(held) == count and len(set(scenes)) == 2
        assert abs(scenes.count(scenes[0]) - count / 2) <= 0.5


def test_a_copy_of_what_is_held_back_is_not_calibrated_on(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 20)
    for path in list(folder.iterdir()):
        (folder / f"copy of {path.name}").write_bytes(path.read_bytes())
    found = gather(folder, SPEC, hold_back=50)
    held = {int(frame.mean()) for frame in found.held_back}
    assert len(found.held_back) == 8 and not held & set(levels(found.pictures))


def test_holding_back_from_many_scenes_takes_no_time() -> None:
    look = np.zeros((8, 8, 3), np.uint8)
    # Names that share a long beginning, as those of one folder do, in no order.
    numbers = np.random.default_rng(0).permutation(8000)
    scenes = [f"/{'a folder/' * 10}{number}" for number in numbers]
    listed = [Candidate(i, scene, scene, str(i), 0.5, None, look) for i, scene in enumerate(scenes)]
    began = time.perf_counter()
    rest, held, notes = hold_scenes_back(listed, 50, 0)
    assert time.perf_counter() - began < 2  # sorting them for every scene takes ten times as long
    assert (len(rest), len(held), notes) == (6400, 50, [])


def test_one_video_alone_is_judged_on_its_end_and_that_is_said(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "clip" / "frames", 40)
    found = gather(folder.parent, SPEC, hold_back=50)
    assert [int(f.mean()) for f in found.held_back] == [level(i) for i in range(32, 40)]
    assert max(levels(found.pictures)) == level(31)
    assert len(found.notes) == 1 and "it flatters" in found.notes[0]


def test_the_hash_is_of_what_the_quantiser_saw(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 10)
    first = gather(folder, SPEC).sha256
    assert gather(folder, SPEC).sha256 == first
    assert gather(folder, InputSpec(16, 32)).sha256 != first
    cv2.imwrite(str(folder / "003.png"), np.full((24, 32, 3), 99, np.uint8))
    assert gather(folder, SPEC).sha256 != first


# --- sources --------------------------------------------------------------------------------------


def test_a_list_a_clip_folder_and_a_video_are_sources_too(tmp_path: Path) -> None:
    frames = pictures(tmp_path / "clip" / "frames", 12)
    (tmp_path / "all.txt").write_text("".join(f"clip/frames/{i:03d}.png\n" for i in range(12)))
    expected = [level(i) for i in range(12)]
    assert levels(gather(tmp_path / "all.txt", SPEC).pictures) == expected
    assert levels(gather(tmp_path / "clip", SPEC).pictures) == expected
    writer = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24)
    )
    for path in sorted(frames.iterdir()):
        writer.write(cv2.imread(str(path)))
    writer.release()
    found = gather(tmp_path / "v.avi", SPEC, hold_back=2)
    assert len(found.pictures) == 10 and len(found.held_back) == 2
    read = sorted(levels(found.pictures) + levels(found.held_back))
    np.testing.assert_allclose(read, expected, atol=2)  # MJPG


def test_a_video_gives_frames_from_its_whole_length(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24))
    for i in range(200):
        writer.write(np.full((24, 32, 3), 20 + i, np.uint8))
    writer.release()
    found = gather(path, SPEC, count=50)
    indices = [candidate.index for candidate in found.picked]
    np.testing.assert_allclose(levels(found.pictures), [20 + i for i in indices], atol=2)
    gaps = np.diff([-1, *indices, 200])
    assert len(indices) == 50 and gaps.max() <= 12, "brightness grows evenly: so must the choice"
    assert {c.name for c in found.picked} == {f"v.avi#{i:06d}" for i in indices}
    assert len({c.sha256 for c in found.picked}) == 50


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="found no such file"):
        gather(tmp_path / "nothing", SPEC)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(CameraError, match=r"text\.mp4"):
        gather(tmp_path / "text.mp4", SPEC)
    (tmp_path / "bad.txt").write_text("gone.png\n")
    with pytest.raises(DatasetError, match=r"bad\.txt line 1.*'gone\.png'"):
        gather(tmp_path / "bad.txt", SPEC)


# --- too few, unreadable, leaks -------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 5, LEAST - 1])
def test_too_few_frames_are_refused(tmp_path: Path, count: int) -> None:
    folder = pictures(tmp_path / "p", count)
    with pytest.raises(DatasetError, match=f"at least {LEAST} calibration frames, found {count}"):
        gather(folder, SPEC)


def test_frames_to_judge_on_are_needed_too_where_there_are_no_labels(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", LEAST)
    assert len(gather(folder, SPEC).pictures) == LEAST
    with pytest.raises(DatasetError, match=f"at least {LEAST + 2} calibration frames"):
        gather(folder, SPEC, hold_back=50)


@pytest.mark.parametrize("count", [LEAST - 1, MOST + 1])
def test_a_count_out_of_range_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(DatasetError, match=f"{LEAST}..{MOST} calibration frames, found {count}"):
        gather(pictures(tmp_path / "p", 9), SPEC, count=count)


def test_a_few_unreadable_pictures_are_skipped_and_named(tmp_path: Path) -> None:
    found = gather(pictures(tmp_path / "p", 40, broken=(3, 17, 30)), SPEC)
    assert len(found.pictures) == 37
    assert [s.split(":")[0] for s in found.skipped] == [
        str(tmp_path / "p" / name) for name in ("003.png", "017.png", "030.png")
    ]
    assert level(17) not in levels(found.pictures)


def test_many_unreadable_pictures_are_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 40, broken=(1, 5, 9, 13, 30))
    with pytest.raises(DatasetError, match=r"40 readable calibration pictures, found 5.*001\.png"):
        gather(folder, SPEC)


def test_a_picture_the_runtime_would_not_take_is_skipped_by_name(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 12)
    cv2.imwrite(str(folder / "wide.png"), np.zeros((1, MAX_SIDE + 2, 3), np.uint8))
    found = gather(folder, SPEC)
    assert len(found.pictures) == 12
    assert "wide.png" in found.skipped[0]


def test_a_picture_that_vanishes_between_looking_and_reading_is_skipped(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 12)

    def remove_one(done: int, total: int) -> None:
        if done == total:
            (folder / "004.png").unlink()

    found = gather(folder, SPEC, progress=remove_one)
    assert len(found.pictures) == len(found.picked) == 11
    assert len(found.skipped) == 1 and "004.png" in found.skipped[0]


def test_where_too_few_are_left_when_they_are_read_it_is_refused(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", LEAST)

    def remove_one(done: int, total: int) -> None:
        if done == total:
            (folder / "004.png").unlink()

    with pytest.raises(
        DatasetError, match=f"at least {LEAST} calibration frames, found {LEAST - 1}"
    ):
        gather(folder, SPEC, progress=remove_one)


# --- leaks ----------------------------------------------------------------------------------------


def listed(path: Path, names: list[str]) -> Path:
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


def test_a_labelled_picture_among_them_is_a_leak_whatever_the_path_says(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 12)
    pictures(tmp_path / "other", 13)
    (tmp_path / "link").symlink_to(folder)
    for name in ("p/007.png", "link/007.png"):
        judged = read_list(listed(tmp_path / "val.txt", [name, "other/012.png"]))
        for source in (folder, tmp_path / "link", folder / ".." / "p"):
            with pytest.raises(DatasetError, match=r"1 of the labelled pictures.*007\.png"):
                gather(source, SPEC, judged=judged)


def test_another_frame_of_a_judged_video_is_a_leak(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for video in ("anna", "ben", "carl", "dorothea"):
        for i in range(8):
            picture = np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{video}{i:04d}.jpg"), picture + len(video))
    names = sorted(f"images/{p.name}" for p in folder.iterdir())
    stranger = [n for n in names if "dorothea" in n]  # judged on, and nowhere else
    others = [n for n in names if n not in stranger]
    val = listed(tmp_path / "val.txt", [*stranger, "images/ben0007.jpg"])
    leaky = listed(tmp_path / "leaky.txt", [n for n in others if not n.endswith("ben0007.jpg")])
    clean = listed(tmp_path / "clean.txt", [n for n in others if "ben" not in n])
    rule = pp_humanseg14k_scene
    judged = read_list(val, scene=rule)
    with pytest.raises(DatasetError, match=r"7 frames of 1 scene judged on.*ben0000"):
        gather(leaky, SPEC, judged=judged, scene=rule)
    assert len(gather(clean, SPEC, judged=judged, scene=rule).pictures) == 16
    # Undeclared, every picture is its own scene: the two lists share no file.
    assert len(gather(leaky, SPEC, judged=read_list(val)).pictures) == 23


def test_another_frame_of_a_judged_clip_is_a_leak_without_any_rule(tmp_path: Path) -> None:
    frames = pictures(tmp_path / "clip" / "frames", 20)
    masks = tmp_path / "clip" / "masks"
    masks.mkdir()
    for path in frames.iterdir():
        cv2.imwrite(str(masks / path.name), np.zeros((24, 32), np.uint8))
    names = [f"clip/frames/{i:03d}.png" for i in range(20)]
    first, rest = listed(tmp_path / "a.txt", names[:10]), listed(tmp_path / "b.txt", names[10:])
    judged = clip_pairs(tmp_path / "clip")[:10]
    with pytest.raises(DatasetError, match="10 frames of 1 scene judged on"):
        gather(rest, SPEC, judged=judged)
    with pytest.raises(DatasetError, match="10 of the labelled pictures"):
        gather(first, SPEC, judged=judged)


def test_the_same_content_under_another_name_is_a_leak(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 12)
    (tmp_path / "val").mkdir()
    own = {"first": 20, "other": 5, "again": 9}  # the first one is no copy
    for name, index in own.items():
        picture = np.full((24, 32, 3), level(index), np.uint8)
        cv2.imwrite(str(tmp_path / "val" / f"{name}.png"), picture)
    judged = read_list(listed(tmp_path / "val.txt", [f"val/{name}.png" for name in own]))
    with pytest.raises(DatasetError, match=r"2 that copy labelled.*005\.png.*other\.png"):
        gather(folder, SPEC, judged=judged)


def test_progress_counts_every_frame_read(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    gather(
        pictures(tmp_path / "p", 10, broken=(2,)),
        SPEC,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 10) for i in range(1, 11)]
