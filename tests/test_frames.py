"""Calibration frames: which are chosen, what is refused, what is skipped and counted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from edge_seg import pixels  # noqa: E402
from edge_seg.calibration.frames import LEAST, MOST, gather, spread  # noqa: E402
from edge_seg.errors import CameraError, DatasetError  # noqa: E402
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


@pytest.mark.parametrize("count", [1, 3, 8, 99, 100])
def test_spread_is_even_and_in_order(count: int) -> None:
    chosen = spread(range(100), count)
    assert len(chosen) == len(set(chosen)) == count
    assert chosen == sorted(chosen)
    gaps = np.diff([-chosen[0] - 1, *chosen, 199 - chosen[-1]])
    assert gaps.max() - gaps.min() <= 1 + 100 / count * 0.51


def test_spread_takes_all_where_there_are_no_more() -> None:
    assert spread("abc", 3) == spread("abc", 50) == ["a", "b", "c"]


def test_frames_come_from_the_whole_source_prepared_as_the_runtime_does(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 40)
    found = gather(folder, SPEC, count=10)
    assert levels(found.pictures) == [level(2 + 4 * i) for i in range(10)]
    frame = cv2.imread(str(folder / "002.png"))
    np.testing.assert_array_equal(found.pictures[0], pixels.prepare(frame, SPEC)[0])
    assert found.skipped == [] and found.held_back == []


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
    assert not seen & held
    assert min(held) < level(5) and max(held) > level(14), "held back from the whole source"


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


def test_a_video_gives_the_frames_asked_for_from_its_whole_length(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24))
    for i in range(200):
        writer.write(np.full((24, 32, 3), 20 + i, np.uint8))
    writer.release()
    found = gather(path, SPEC, count=50)
    np.testing.assert_allclose(levels(found.pictures), [20 + 2 + 4 * i for i in range(50)], atol=2)


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
    cv2.imwrite(str(folder / "wide.png"), np.zeros((1, pixels.MAX_FRAME_SIDE + 2, 3), np.uint8))
    found = gather(folder, SPEC)
    assert len(found.pictures) == 12
    assert "wide.png" in found.skipped[0]


def test_a_labelled_picture_among_them_is_a_leak_whatever_the_path_says(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "p", 12)
    (tmp_path / "link").symlink_to(folder)
    judged = frozenset({(folder / "007.png").resolve()})
    for source in (folder, tmp_path / "link", folder / ".." / "p"):
        with pytest.raises(DatasetError, match=r"1 of the labelled pictures.*007\.png"):
            gather(source, SPEC, judged=judged)


def test_progress_counts_every_frame_read(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    gather(
        pictures(tmp_path / "p", 10, broken=(2,)),
        SPEC,
        hold_back=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, 10) for i in range(1, 11)]
