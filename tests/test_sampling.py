"""Which frames are picked: cases where the right choice is plain, and what must never happen."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from PIL import Image  # noqa: E402

from edge_seg.calibration import sampling  # noqa: E402
from edge_seg.calibration.dataset import scene_rule  # noqa: E402
from edge_seg.calibration.sampling import Candidate, choose, pick, spread, survey  # noqa: E402
from edge_seg.calibration.sources import View, open_frames  # noqa: E402
from edge_seg.pictures import decode_picture  # noqa: E402

MOST_BYTES = 500 << 20


def candidate(index: int, scene: str = "", **settings: object) -> Candidate:
    """A frame of one even colour."""
    facts: dict[str, object] = {"brightness": 0.5, "person": None, "level": (128, 128, 128)}
    facts |= settings
    look = np.full((sampling.CELLS, sampling.CELLS, 3), facts.pop("level"), np.uint8)
    return Candidate(index, f"{index}", scene or f"{index}", f"{index}", look=look, **facts)  # type: ignore[arg-type]


def coloured(folder: Path, name: str, colour: tuple[int, int, int], *, seed: int = 0) -> None:
    """A picture that is a colour and a little noise."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-4, 5, (90, 120, 3))
    picture = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    cv2.imwrite(str(folder / name), picture)


# --- where the right choice is plain --------------------------------------------------------------


@pytest.fixture
def dark_and_diverse(tmp_path: Path) -> Path:
    """90 near-identical dark frames of one video, and 10 pictures that differ in everything."""
    folder = tmp_path / "frames_of_a_week"
    for i in range(90):
        coloured(folder, f"cellar_{i:04d}.jpg", (12, 10, 11), seed=i)
    hues = np.zeros((1, 10, 3), np.uint8)
    hues[0, :, 0], hues[0, :, 1:] = np.arange(0, 180, 18), (200, 220)
    for i, colour in enumerate(cv2.cvtColor(hues, cv2.COLOR_HSV2BGR)[0]):
        coloured(folder, f"room{i}_0000.jpg", tuple(int(c) for c in colour), seed=i)
    return folder


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("declared", [True, False])
def test_ninety_dark_frames_do_not_crowd_out_ten_that_differ(
    dark_and_diverse: Path, seed: int, declared: bool
) -> None:
    rule = {"scene": scene_rule("(.*)_[0-9]+")} if declared else {}
    names = [c.name for c in pick(open_frames(dark_and_diverse, **rule), 11, seed)]
    assert len({name for name in names if name.startswith("room")}) == 10
    assert sum(name.startswith("cellar") for name in names) == 1


def test_no_second_frame_of_a_scene_before_a_first_of_every_other() -> None:
    random = np.random.default_rng(0)
    # Scene "loud" has the 50 most unlike frames, which farthest-first alone would take.
    frames = [
        candidate(i, "loud", brightness=float(b), level=random.integers(0, 256, 3))
        for i, b in enumerate(np.linspace(0, 1, 50))
    ]
    frames += [candidate(50 + i, f"quiet {i % 12}") for i in range(36)]
    for count in (5, 13, 20, 26, 39, 49, 60, 86):
        taken = Counter(c.scene for c in choose(frames, count))
        sizes = Counter(c.scene for c in frames)
        most = max(taken.values())
        for scene, size in sizes.items():
            assert taken[scene] >= min(size, most - 1), f"{count}: {scene} was passed over"


def test_as_many_are_chosen_as_were_asked_for_or_all() -> None:
    frames = [candidate(i, brightness=i / 9) for i in range(9)]
    assert [len(choose(frames, count)) for count in (0, 1, 2, 9, 10)] == [0, 1, 2, 9, 9]
    assert choose([], 3) == []


def test_brightness_is_covered_though_nearly_all_frames_are_alike() -> None:
    random = np.random.default_rng(1)
    levels = np.concatenate([random.normal(0.5, 0.01, 950), np.linspace(0, 1, 50)])
    frames = [candidate(i, brightness=float(np.clip(b, 0, 1))) for i, b in enumerate(levels)]
    picked = np.histogram([c.brightness for c in choose(frames, 30)], 10, (0, 1))[0]
    drawn = np.histogram(random.choice(levels, 30, replace=False), 10, (0, 1))[0]
    assert (picked > 0).all() and picked.max() <= 6
    assert (drawn == 0).sum() >= 3, "the case is too easy: a random choice does it too"


def test_person_size_is_covered_and_unknown_sizes_count_as_average() -> None:
    sizes = [0.3] * 200 + [0.02, 0.1, 0.6, 0.9]
    frames = [candidate(i, person=s) for i, s in enumerate(sizes)]
    frames += [candidate(1000 + i) for i in range(100)]
    persons = {c.person for c in choose(frames, 6, seed=3)}
    assert persons >= {0.02, 0.1, 0.6, 0.9}


def test_brightness_is_luma_of_the_colours_as_they_are(tmp_path: Path) -> None:
    """BT.601: 0.299 of red, 0.587 of green, 0.114 of blue; pictures are read as BGR."""
    (tmp_path / "p").mkdir()
    wanted = {"b": 0.114, "g": 0.587, "r": 0.299}
    for name, colour in zip("bgr", np.eye(3) * 255, strict=True):
        picture = np.full((20, 30, 3), colour.astype(np.uint8))
        cv2.imwrite(str(tmp_path / "p" / f"{name}.png"), picture)
    seen = survey(open_frames(tmp_path / "p")).candidates
    assert {c.name[0]: c.brightness for c in seen} == pytest.approx(wanted, abs=0.005)
    blue = next(c.look for c in seen if c.name == "b.png")
    assert blue[..., 2].max() < 60, "b of CIE Lab: far on its blue side, red is on the other"


def test_the_three_things_have_equal_weight_and_light_counts_as_brightness_alone() -> None:
    random = np.random.default_rng(6)
    frames = [
        candidate(i, brightness=float(b), person=float(p), level=random.integers(0, 256, 3))
        for i, (b, p) in enumerate(random.random((50, 2)))
    ]
    darker = [candidate(50 + i, brightness=0.1, level=(40 + 90 * i, 120, 140)) for i in range(2)]
    points = sampling._points([*frames, *darker])
    for group in (points[:, :1], points[:, 1:2], points[:, 2:]):
        assert group.mean(axis=0) == pytest.approx(0, abs=1e-9)
        assert group.var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(points[50], points[51], atol=1e-9, err_msg="the same but for light")
    assert points[50, 1] == pytest.approx(0, abs=1e-9), "of an unknown size: the average"


def test_a_pick_leaves_no_frame_far_away_that_a_random_choice_would() -> None:
    """What greedy k-centre promises: a radius at most twice the best."""
    random = np.random.default_rng(2)
    frames = [
        candidate(i, brightness=float(b), level=random.integers(0, 256, 3))
        for i, b in enumerate(random.beta(0.5, 0.5, 300))
    ]
    points = sampling._points(frames)

    def radius(indices: list[int]) -> float:
        away = points[:, None, :] - points[None, indices, :]
        return float(np.sqrt((away**2).sum(axis=2)).min(axis=1).max())

    picked = radius([c.index for c in choose(frames, 20, seed=4)])
    others = [radius(random.choice(300, 20, replace=False).tolist()) for _ in range(50)]
    assert picked < min(others)


# --- determinism and seeds ------------------------------------------------------------------------


def test_the_same_seed_is_the_same_choice_in_another_process(dark_and_diverse: Path) -> None:
    script = f"""
        from pathlib import Path
        from edge_seg.calibration.sampling import pick
        from edge_seg.calibration.sources import open_frames
        print([c.index for c in pick(open_frames(Path({str(dark_and_diverse)!r})), 20, 7)])
    """
    done = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": str(n), "OMP_NUM_THREADS": str(1 + n)},
        ).stdout
        for n in range(2)
    ]
    here = [c.index for c in pick(open_frames(dark_and_diverse), 20, 7)]
    assert done == [f"{here}\n"] * 2


def test_another_seed_begins_elsewhere() -> None:
    frames = [candidate(i, brightness=float(b)) for i, b in enumerate(np.linspace(0, 1, 200))]
    firsts = {choose(frames, 5, seed)[0].index for seed in range(10)}
    assert len(firsts) > 5


# --- small, broken and odd sources ----------------------------------------------------------------


def test_a_count_larger_than_the_source_takes_every_frame_once() -> None:
    frames = [candidate(i, "one video") for i in range(7)]
    assert sorted(c.index for c in choose(frames, 100)) == list(range(7))
    assert choose(frames, 0) == [] == choose([], 5)


def test_a_folder_of_one_scene_is_spread_over_what_changes_in_it(tmp_path: Path) -> None:
    # A camera all day long: the light goes up and down, nothing else.
    for hour in range(24):
        light = int(20 + 200 * max(0.0, np.sin((hour - 6) * np.pi / 12)))
        coloured(tmp_path / "p", f"cam_{hour:02d}.png", (light,) * 3, seed=hour)
    chosen = pick(open_frames(tmp_path / "p", scene=lambda image: "cam"), 4)
    levels = sorted(c.brightness for c in chosen)
    assert levels[0] < 0.1 and levels[-1] > 0.8 and np.diff(levels).min() > 0.1


def test_identical_frames_are_taken_last(tmp_path: Path) -> None:
    for i in range(20):
        coloured(tmp_path / "p", f"same{i:02d}.png", (90, 90, 90))
    for i in range(3):
        coloured(tmp_path / "p", f"other{i}.png", (40 * i, 200 - 40 * i, 30))
    names = {c.name for c in pick(tmp_path / "p", 4)}
    assert {"other0.png", "other1.png", "other2.png"} < names


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 5), (8, 8), (63, 65)])
def test_tiny_and_narrow_pictures_are_candidates_as_others(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "p").mkdir()
    for suffix in ("png", "jpg", "bmp", "webp"):
        picture = np.full((*size, 3), 200, np.uint8)
        cv2.imwrite(str(tmp_path / "p" / f"a.{suffix}"), picture)
    seen = survey(open_frames(tmp_path / "p"))
    assert len(seen.candidates) == 4 and seen.unreadable == []
    for found in seen.candidates:
        assert found.brightness == pytest.approx(200 / 255, abs=0.02)
        assert found.look.shape == (8, 8, 3)


def test_corrupted_pictures_are_named_and_never_picked(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for i in range(12):
        coloured(folder, f"{i:02d}.jpg", (20 * i, 90, 90), seed=i)
    whole = (folder / "03.jpg").read_bytes()
    (folder / "03.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "04.jpg").write_bytes(b"")
    (folder / "05.jpg").write_bytes(b"GIF89a" + bytes(200))
    bomb = bytearray(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    (folder / "06.jpg").write_bytes(bytes(bomb))
    seen = survey(open_frames(folder))
    assert {c.name for c in seen.candidates} == {
        f"{i:02d}.jpg" for i in range(12) if i not in (3, 4, 5, 6)
    }
    assert [Path(s.split(": ")[0]).name for s in seen.unreadable] == [
        f"{i:02d}.jpg" for i in (3, 4, 5, 6)
    ]


def test_a_broken_label_costs_the_person_s_size_and_no_frame(tmp_path: Path) -> None:
    lines = []
    for i in range(3):
        coloured(tmp_path, f"{i}.png", (90, 90, 90), seed=i)
        label = np.zeros((90, 120), np.uint8)
        label[:, :60], label[:45, 60:] = 1, 255
        cv2.imwrite(str(tmp_path / f"{i}_label.png"), label)
        lines.append(f"{i}.png {i}_label.png\n")
    (tmp_path / "1_label.png").write_bytes(b"junk")
    ignored = Image.new("P", (120, 90), 255)
    ignored.putpalette([0, 0, 0, 255, 0, 0, *[128] * 762])
    ignored.save(tmp_path / "2_label.png")
    coloured(tmp_path, "3.png", (90, 90, 90), seed=3)
    (tmp_path / "list.txt").write_text("".join([*lines, "3.png\n"]))
    seen = survey(open_frames(tmp_path / "list.txt"))
    assert [c.person for c in seen.candidates] == [pytest.approx(2 / 3), None, None, None]


def test_a_clip_brings_its_masks_along(tmp_path: Path) -> None:
    for i in range(4):
        coloured(tmp_path / "frames", f"{i:03d}.png", (90, 90, 90), seed=i)
    (tmp_path / "masks").mkdir()
    label = np.zeros((90, 120), np.uint8)
    label[:45] = 255  # white on black
    cv2.imwrite(str(tmp_path / "masks" / "002.png"), label)
    seen = survey(open_frames(tmp_path))
    assert [c.person for c in seen.candidates] == [None, None, pytest.approx(0.5), None]
    assert len({c.scene for c in seen.candidates}) == 1


def test_a_jpeg_is_looked_at_reduced_and_upright(tmp_path: Path) -> None:
    """What the decoder reduces shows the same as the whole picture, EXIF's turn included."""
    random = np.random.default_rng(4)
    frame = cv2.resize(random.integers(0, 256, (9, 16, 3), dtype=np.uint8), (1280, 720))
    data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    # Orientation 6, turned by 90 degrees (EXIF 2.3, tag 0x0112), in an APP1 segment.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    (tmp_path / "a.jpg").write_bytes(data)
    (tmp_path / "b.jpg").write_bytes(turned)
    views = [view for _, view in open_frames(tmp_path).views([0, 1])]
    pictures = [view.picture for view in views if isinstance(view, View)]
    assert [picture.shape for picture in pictures] == [(64, 114, 3), (114, 64, 3)]
    upright = cv2.resize(frame, (114, 64), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(pictures[0] - upright).mean() < 3
    assert np.abs(pictures[1] - np.rot90(upright, -1)).mean() < 3
    assert decode_picture(data, tmp_path / "a.jpg", side=64).shape == (90, 160, 3)
    assert decode_picture(data, tmp_path / "a.jpg", side=200).shape == (360, 640, 3)
    assert decode_picture(data, tmp_path / "a.jpg").shape == (720, 1280, 3)


# --- long sources ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 8, 99, 100])
def test_spread_is_even_and_in_order(count: int) -> None:
    chosen = spread(range(100), count)
    assert len(chosen) == len(set(chosen)) == count
    assert chosen == sorted(chosen)
    gaps = np.diff([-chosen[0] - 1, *chosen, 199 - chosen[-1]])
    assert gaps.max() - gaps.min() <= 1 + 100 / count * 0.51


def test_spread_takes_all_where_there_are_no_more() -> None:
    assert spread("abc", 3) == spread("abc", 50) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_of_a_longer_source_evenly_spaced_frames_are_considered(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "MOST_CONSIDERED", 20)
    if kind == "folder":
        for i in range(150):
            coloured(tmp_path / "p", f"{i:03d}.png", (i, i, i))
        source = tmp_path / "p"
    else:
        source = tmp_path / "v.avi"
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (32, 24))
        for i in range(150):
            writer.write(np.full((24, 32, 3), i, np.uint8))
        writer.release()
    seen = survey(open_frames(source))
    indices = [c.index for c in seen.candidates]
    assert 10 <= len(indices) <= 20
    assert np.diff(indices).max() <= 16 and indices[0] < 8 and indices[-1] > 140


MEASURE = """
    import json, re, sys
    from pathlib import Path
    from edge_seg.calibration.sampling import pick
    from edge_seg.calibration.sources import open_frames

    def peak():  # of this program alone; ru_maxrss remembers the one that started it
        return int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

    before = peak()
    chosen = pick(open_frames(Path(sys.argv[1])), 100, 0)
    after = peak()
    print(json.dumps([len(chosen), before << 10, after << 10]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "length"), [("list", 10_000), ("video", 1_500)])
def test_ten_thousand_frames_of_720p_take_under_500_mb(
    tmp_path: Path, kind: str, length: int
) -> None:
    """A video holds no more: its frames are decoded one by one, and ten thousand take minutes."""
    random = np.random.default_rng(0)
    frames = [
        cv2.resize(random.integers(0, 256, (18, 32, 3), dtype=np.uint8), (1280, 720))
        for _ in range(40)
    ]
    if kind == "list":
        source = tmp_path / "all.txt"
        for i, frame in enumerate(frames):
            cv2.imwrite(str(tmp_path / f"{i}.jpg"), frame)
        for i in range(length):
            (tmp_path / f"f{i:05d}.jpg").hardlink_to(tmp_path / f"{i % 40}.jpg")
        source.write_text("".join(f"f{i:05d}.jpg\n" for i in range(length)), encoding="utf-8")
    else:
        source = tmp_path / "all.avi"
        writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (1280, 720))
        for i in range(length):
            writer.write(frames[i % 40])
        writer.release()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), str(source)],
        capture_output=True,
        text=True,
        check=True,
    )
    count, before, after = json.loads(done.stdout)
    assert count == 100
    assert after < MOST_BYTES, f"{before >> 20} MB before, {after >> 20} MB at the peak"
