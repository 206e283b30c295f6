"""Teachers: what is averaged, where it is written, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from edge_seg.calibration.dataset import load_image, scene_rule  # noqa: E402
from edge_seg.cli import main  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.training import teachers  # noqa: E402
from edge_seg.training.collection import find, open_store  # noqa: E402
from tests import tiny_networks, toy_pictures  # noqa: E402


def test_the_mean_weighs_every_teacher_and_its_mirror_image() -> None:
    frame = np.zeros((2, 4, 3), np.uint8)
    frame[:, 0] = 255

    def leftmost(picture: np.ndarray) -> np.ndarray:
        """Sure of a person in the first column, whatever is there."""
        mask = np.zeros(picture.shape[:2], np.float32)
        mask[:, 0] = 1
        return mask

    def bright(picture: np.ndarray) -> np.ndarray:
        return np.asarray(picture[:, :, 0] > 127, np.float32)

    mean = teachers.average(frame, [(leftmost, 1.0), (bright, 3.0)])
    # leftmost: half in the first column, half (mirrored back) in the last. bright: the first.
    np.testing.assert_allclose(mean, [[0.125 + 0.75, 0, 0, 0.125]] * 2)


def contract(fit: str = "stretch") -> dict[str, Any]:
    size = {"height": tiny_networks.HEIGHT, "width": tiny_networks.WIDTH}
    half = [0.5, 0.5, 0.5]
    return {
        "input": size | {"mean": half, "std": half, "color": "rgb", "fit": fit},
        "output": {"activation": "logit", "channel": 0},
    }


@pytest.fixture
def site(tmp_path: Path, fake_bundle: Path) -> Path:
    """data/ with two unlabelled pictures, tiny.tflite, a fake bundle, teachers.json."""
    pytest.importorskip("ai_edge_litert", reason="the tiny network is a TFLite file")
    data = toy_pictures.write(tmp_path / "data", train=3, val=2)
    (data / "unlabeled").mkdir()
    for seed in (50, 51):
        cv2.imwrite(str(data / f"unlabeled/u{seed}.png"), toy_pictures.picture(seed)[0])
    tiny_networks.save_tflite(tmp_path / "tiny.tflite")
    rows = [
        {"model": fake_bundle.name, "weight": 3},
        {"model": "tiny.tflite", "weight": 1.0, **contract()},
    ]
    (tmp_path / "teachers.json").write_text(json.dumps(rows), encoding="utf-8")
    return tmp_path


def line(site: Path, *more: str) -> list[str]:
    return ["teach", "--teachers", str(site / "teachers.json"), *more]


def test_the_command_writes_what_train_reads(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = site / "masks"
    writing = line(site, "--data", str(site / "data"), "-o", str(masks))
    assert main(writing) == 0
    assert "wrote 5 masks" in capsys.readouterr().out
    names = {path.stem for path in masks.glob("*.png")}
    assert names == {"0", "1", "2", "u50", "u51"}  # not those of val.txt, nor of the rooms
    frame, label = toy_pictures.picture(50)
    mask = load_image(masks / "u50.png")[:, :, 0]
    assert mask.shape == frame.shape[:2]
    assert mask[label == 1].mean() > 180 > 90 > mask[label == 0].mean()
    # Seen mirrored too, so the mirror image's mask is the mask's mirror image.
    cv2.imwrite(str(site / "data/unlabeled/mirror.png"), frame[:, ::-1])
    assert main(writing) == 0
    assert "wrote 1 masks" in capsys.readouterr().out  # the others were there
    mirrored = load_image(masks / "mirror.png")[:, ::-1, 0]
    assert np.abs(mirrored.astype(int) - mask).max() <= 1
    store = open_store(find(site / "data", teacher=masks), site / "store", side=80)
    assert len(store.groups["unlabelled"]) == 3


def test_every_picture_trained_on_by_a_rule_of_scenes_has_its_mask(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = site / "my rooms"
    for folder in ("images", "masks"):
        (data / folder).mkdir(parents=True)
    for seed in range(12):
        frame, label = toy_pictures.picture(seed)
        cv2.imwrite(str(data / f"images/room{seed // 4}_{seed}.png"), frame)
        cv2.imwrite(str(data / f"masks/room{seed // 4}_{seed}.png"), label)
    rule, masks = "(.*)_[0-9]+", site / "masks"
    assert main(line(site, "--data", str(data), "--scenes", rule, "-o", str(masks))) == 0
    trained = {pair.image.stem for pair in find(data, scene=scene_rule(rule)).train}
    assert {path.stem for path in masks.glob("*.png")} == trained
    assert trained != {pair.image.stem for pair in find(data).train}
    # The command that goes with them, as a shell takes it.
    assert f"--data '{data}' --scenes '{rule}' --teacher {masks} " in capsys.readouterr().out


def test_a_wrong_rule_of_scenes_is_refused_before_anything_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = line(tmp_path, "--data", str(tmp_path), "--scenes", "[", "-o", str(tmp_path / "masks"))
    assert main(said) == 2  # there is no teachers.json here
    assert "regular expression for scenes" in capsys.readouterr().err


def test_the_command_measures_each_teacher_and_their_mean(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(site, "--labels", str(site / "data/val.txt"))) == 0
    rows = {
        cells[0]: float(cells[1])
        for cells in ([c.strip() for c in row.split("│")[1:]] for row in _rows(capsys))
    }
    assert set(rows) == {"fake-bundle", "tiny.tflite", "their mean"}
    assert rows["fake-bundle"] > rows["tiny.tflite"] > 20  # bright is person, in these pictures
    assert not (site / "masks").exists()


def _rows(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [row for row in capsys.readouterr().out.splitlines() if row.startswith("│")]


def test_masks_of_other_teachers_and_of_unknown_ones_are_left_alone(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writing = line(site, "--data", str(site / "data"), "-o")
    assert main([*writing, str(site / "masks")]) == 0
    before = (site / "masks/0.png").read_bytes()
    rows = json.loads((site / "teachers.json").read_text())
    (site / "teachers.json").write_text(json.dumps(rows[:1]))
    assert main([*writing, str(site / "masks")]) == 2
    assert "those of others" in capsys.readouterr().err
    assert (site / "masks/0.png").read_bytes() == before
    assert main([*writing, str(site / "data/train")]) == 2
    assert "unknown origin" in capsys.readouterr().err
    assert not (site / "data/train" / teachers.RECORD).exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "as JSON"),
        ("[]", "at least one"),
        ('[{"weight": 1}]', "with model"),
        ('[{"model": "default", "weigth": 1}]', "with model"),
        ('[{"model": "default", "weight": 0}]', "weight above 0"),
        ('[{"model": "default", "weight": NaN}]', "weight above 0"),
        ('[{"model": "x.onnx"}]', "without its contract"),
        ('[{"model": "default", "input": {}, "output": {}}]', "beside a bundle"),
        ('[{"model": "x.onnx", "input": 1, "output": {}}]', "input as an object"),
        (json.dumps([{"model": "x.onnx", **contract("squeeze")}]), "'fit'"),
        (json.dumps([{"model": "x.onnx", **contract()}]), "model file, found none"),
        ('[{"model": "nowhere"}]', "nowhere"),
    ],
)
def test_a_wrong_teachers_file_is_refused_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    data = toy_pictures.write(tmp_path / "data", train=2, val=1)
    (tmp_path / "teachers.json").write_text(text)
    assert main(line(tmp_path, "--data", str(data), "-o", str(tmp_path / "masks"))) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("more", [[], ["-o", "masks"], ["--data", "."]])
def test_half_a_command_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(line(tmp_path, *more)) == 2
    assert "--data and -o" in capsys.readouterr().err


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    from edge_seg.training.collection import to_teach

    data = toy_pictures.write(tmp_path / "data", train=2, val=1)
    (data / "unlabeled").mkdir()
    cv2.imwrite(str(data / "unlabeled/1.png"), toy_pictures.picture(9)[0])
    with pytest.raises(DatasetError, match="one picture per name"):
        to_teach(data)


def test_the_recipes_own_teachers_file_is_one() -> None:
    listed = teachers.read_teachers(Path(teachers.__file__).with_name("teachers.json"))
    assert [teacher.model for teacher in listed][-1] == "default"
    assert sum(teacher.weight for teacher in listed) == pytest.approx(1)
    assert all((t.input is not None) == (t.model != "default") for t in listed)
