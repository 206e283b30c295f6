"""What is written down of a calibration: enough to check and repeat it, and no way to a machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from edge_seg.calibration import contact_sheet, manifest  # noqa: E402
from edge_seg.calibration.dataset import pp_humanseg14k_scene, read_list, scene_rule  # noqa: E402
from edge_seg.calibration.frames import CalibrationSet, gather  # noqa: E402
from edge_seg.errors import DatasetError, OutputError  # noqa: E402
from edge_seg.spec import InputSpec  # noqa: E402
from tests import toy_pictures  # noqa: E402

SPEC = InputSpec(24, 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train.txt with 20 labelled pictures, val.txt with 4."""
    return toy_pictures.write(tmp_path / "site", train=20)


def written(folder: Path, calibration: CalibrationSet) -> dict[str, object]:
    folder.mkdir(exist_ok=True)
    manifest.save(folder, calibration)
    return json.loads((folder / "calibration.json").read_text(encoding="utf-8"))


def test_every_frame_can_be_found_again_and_checked(folder: Path, tmp_path: Path) -> None:
    found = gather(folder / "train.txt", SPEC, count=9, seed=5)
    told = written(tmp_path / "bundle", found)
    assert told["seed"] == 5
    assert told["pictures_sha256"] == found.sha256
    listing = (folder / "train.txt").read_bytes()
    assert told["source"] == {"name": "train.txt", "sha256": hashlib.sha256(listing).hexdigest()}
    assert len(told["frames"]) == 9
    for frame in told["frames"]:
        content = (folder / frame["name"]).read_bytes()
        assert frame["sha256"] == hashlib.sha256(content).hexdigest()
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert frame["brightness"] == pytest.approx(picture.mean() / 255, abs=0.01)
        label = cv2.imread(str(folder / frame["name"].replace(".png", "_label.png")), -1)
        assert frame["person"] == pytest.approx(label.mean(), abs=1e-3)


def test_statistics_are_those_of_the_frames(folder: Path, tmp_path: Path) -> None:
    told = written(tmp_path / "bundle", gather(folder / "train.txt", SPEC, count=9))
    brightness = [frame["brightness"] for frame in told["frames"]]
    persons = [frame["person"] for frame in told["frames"]]
    assert told["picked"]["frames"] == told["picked"]["scenes"] == 9
    assert told["picked"]["person_known"] == 9
    assert told["considered"]["frames"] == told["considered"]["scenes"] == 20
    for values, key in ((brightness, "brightness"), (persons, "person")):
        assert told["picked"][key]["least"] == pytest.approx(min(values), abs=1e-4)
        assert told["picked"][key]["median"] == pytest.approx(np.median(values), abs=1e-4)
        assert told["picked"][key]["greatest"] == pytest.approx(max(values), abs=1e-4)
        for name, share in (("tenth", 0.1), ("nine_tenths", 0.9)):
            assert told["picked"][key][name] == pytest.approx(np.quantile(values, share), abs=1e-3)
        assert told["considered"][key]["least"] <= told["picked"][key]["least"]


def test_what_was_held_back_could_not_be_read_or_flatters_is_told(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "train" / sorted(p.name for p in (folder / "train").glob("*.png"))[0]).write_bytes(
        b""
    )
    told = written(tmp_path / "bundle", gather(folder / "train.txt", SPEC, hold_back=50))
    assert told["unreadable"] == 1 and told["notes"] == []
    assert told["held_back"] == 3, "one scene in five of the 19 that can be read"
    assert told["picked"]["frames"] == told["considered"]["frames"] == 16
    (tmp_path / "clip" / "frames").mkdir(parents=True)
    for i in range(12):
        cv2.imwrite(str(tmp_path / f"clip/frames/{i:03d}.png"), toy_pictures.picture(i)[0])
    told = written(tmp_path / "bundle", gather(tmp_path / "clip", SPEC, hold_back=50))
    assert len(told["notes"]) == 1 and "flatters" in told["notes"][0]
    assert (told["held_back"], told["picked"]["scenes"], told["considered"]["scenes"]) == (2, 1, 1)


def test_sizes_of_people_are_counted_where_they_are_known_empty_rooms_among_them(
    folder: Path, tmp_path: Path
) -> None:
    lines = (folder / "train.txt").read_text().splitlines()
    image, label = lines[0].split()
    cv2.imwrite(str(folder / label), np.zeros_like(cv2.imread(str(folder / label), -1)))
    rest = [lines[0], *lines[1:6], *(line.split()[0] for line in lines[6:12])]
    (folder / "some.txt").write_text("".join(f"{line}\n" for line in rest))
    told = written(tmp_path / "bundle", gather(folder / "some.txt", SPEC))
    assert (told["picked"]["frames"], told["picked"]["person_known"]) == (12, 6)
    assert told["picked"]["person"]["least"] == 0


def test_pictures_that_a_bundle_was_calibrated_on_are_found_among_others(
    folder: Path, tmp_path: Path
) -> None:
    written(tmp_path / "bundle", gather(folder / "train.txt", SPEC))
    seen = sorted((folder / "train").glob("*.png"))[0]
    (folder / "val" / "copy.png").write_bytes(seen.read_bytes())
    listing = folder / "more.txt"
    listing.write_text((folder / "val.txt").read_text() + "val/copy.png\n")
    found = manifest.seen_among(tmp_path / "bundle", read_list(listing))
    assert [path.name for path in found] == ["copy.png"]
    assert manifest.seen_among(tmp_path / "bundle", read_list(folder / "val.txt")) == []


def test_two_conversions_of_one_seed_write_the_same(folder: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name, gather(folder / "train.txt", SPEC, count=9, seed=1))
    one, two = ((tmp_path / name / "calibration.json").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("kind", ["list", "folder", "clip", "video", "elsewhere", "relative"])
def test_no_way_to_a_file_of_this_machine_is_told(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"list": folder / "train.txt", "folder": folder / "train"}.get(kind)
    if kind in ("clip", "video"):
        (folder / "clip" / "frames").mkdir(parents=True)
        video = cv2.VideoWriter(
            str(folder / "talk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (80, 60)
        )
        for i in range(12):
            frame = toy_pictures.picture(i)[0]
            cv2.imwrite(str(folder / "clip" / "frames" / f"{i:03d}.png"), frame)
            video.write(frame)
        video.release()
        source = folder / "clip" if kind == "clip" else folder / "talk.avi"
    if kind == "elsewhere":
        (tmp_path / "lists").mkdir()
        source = tmp_path / "lists" / "all.txt"
        lines = [f"{p}\n" for p in sorted((folder / "train").glob("*.png")) if "_" not in p.name]
        source.write_text("".join(lines), encoding="utf-8")
    if kind == "relative":
        monkeypatch.chdir(folder)
        source = Path("train.txt")
    assert source is not None
    told = written(tmp_path / "bundle", gather(source, SPEC, count=8))
    text = json.dumps(told)
    assert str(tmp_path) not in text and tmp_path.name not in text and '"/' not in text
    names = [frame["name"] for frame in told["frames"]]
    assert len(set(names)) == 8 and not any(name.startswith("..") for name in names)
    if kind in ("clip", "video"):
        assert {frame["scene"] for frame in told["frames"]} == {source.name}


def test_declared_scenes_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(12):
        name = f"video{i // 4}{i:04d}.jpg"
        cv2.imwrite(str(tmp_path / "images" / name), toy_pictures.picture(i)[0])
    for rule, scenes in (
        (pp_humanseg14k_scene, {f"video{n}" for n in range(3)}),
        (scene_rule("(video[0-9])"), {f"video{n}" for n in range(3)}),
    ):
        found = gather(tmp_path / "images", SPEC, count=9, scene=rule)
        told = manifest.describe(found)
        assert {frame["scene"] for frame in told["frames"]} == scenes
        assert told["picked"]["scenes"] == 3


def test_the_summary_is_one_line_for_people(folder: Path) -> None:
    said = manifest.summary(manifest.describe(gather(folder / "train.txt", SPEC, count=9)))
    assert said.startswith("9 of 20 frames, 9 of 20 scenes; brightness ") and "person" in said
    unlabelled = manifest.describe(gather(folder / "train", SPEC, count=9))
    assert "person" not in manifest.summary(unlabelled)


def test_what_a_bundle_saw_can_be_asked_and_a_forged_file_does_no_harm(
    folder: Path, tmp_path: Path
) -> None:
    found = gather(folder / "train.txt", SPEC, count=9)
    bundle = tmp_path / "bundle"
    written(bundle, found)
    assert manifest.hashes(bundle) == {c.sha256 for c in found.picked}
    (bundle / "calibration.json").unlink()
    assert manifest.hashes(bundle) == frozenset()
    forged = (b"", b"{}", b"[1]", b'{"frames": 3}', b'{"frames": [3]}', b"\xff", b"[" * 100_000)
    for content in (*forged, b" " * (manifest.MAX_BYTES + 1)):
        (bundle / "calibration.json").write_bytes(content)
        with pytest.raises(DatasetError, match=r"calibration\.json: wanted"):
            manifest.hashes(bundle)


# --- the contact sheet ----------------------------------------------------------------------------


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_contact_sheet_shows_every_picture_in_its_true_colours(
    tmp_path: Path, color: str, suffix: str
) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255)]
    (tmp_path / "p").mkdir()
    for i in range(12):
        picture = np.full((24, 32, 3), colours[i % 4], np.uint8)
        cv2.imwrite(str(tmp_path / "p" / f"{i:02d}.png"), picture)
    spec = InputSpec(24, 32, color=color)
    contact_sheet.save(tmp_path / f"sheet{suffix}", gather(tmp_path / "p", spec), spec)
    page = cv2.imread(str(tmp_path / f"sheet{suffix}"))
    for colour in colours:
        found = np.abs(page.astype(int) - colour).max(axis=2) < 12
        assert found.sum() == pytest.approx(3 * 144 * 108, rel=0.06)


@pytest.mark.parametrize(("height", "width", "count"), [(24, 32, 8), (144, 256, 100), (64, 20, 9)])
def test_a_sheet_is_a_page_and_no_strip(height: int, width: int, count: int) -> None:
    found = CalibrationSet([np.zeros((height, width, 3), np.uint8)] * count)
    page = contact_sheet.draw(found, InputSpec(height, width))
    assert 0.5 < page.shape[1] / page.shape[0] < 4


def test_a_sheet_that_cannot_be_written_says_so(folder: Path, tmp_path: Path) -> None:
    found = gather(folder / "train.txt", SPEC, count=8)
    for name, told in (("sheet.gif", "ending in"), ("gone/sheet.png", "No such file")):
        with pytest.raises(OutputError, match=told):
            contact_sheet.save(tmp_path / name, found, SPEC)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="found a folder"):
        contact_sheet.save(tmp_path / "folder.png", found, SPEC)
    assert not list(tmp_path.glob(".*part*"))
