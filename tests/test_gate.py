"""The gate: what passes, what is refused, and what a collapse is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from edge_seg.bundle import ModelBundle  # noqa: E402
from edge_seg.converters import gate  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.files import sha256_of  # noqa: E402
from edge_seg.metrics import Quality, chance_miou, collapse  # noqa: E402
from edge_seg.segmenter import EdgeSegmenter, open_artifact  # noqa: E402
from edge_seg.spec import InputSpec  # noqa: E402
from tests import toy_pictures  # noqa: E402
from tests.conftest import make_fake_bundle  # noqa: E402


def figures(kind: str = "labels", **known: float) -> dict[str, Any]:
    whole = {"miou": 0.94, "person_iou": 0.93, "predicted_share": 0.5, "true_share": 0.5}
    return {"kind": kind, "on": "val.txt", "n": 3, **whole, **known}


def figures_of(mask: np.ndarray, label: np.ndarray) -> dict[str, Any]:
    """The real figures of a mask."""
    quality = Quality()
    quality.add(mask.astype(np.float32), label)
    return {"kind": "labels", **quality.to_dict()}


def label(share: float) -> np.ndarray:
    plane = np.zeros((100, 100), np.uint8)
    plane[:, : round(100 * share)] = 1
    return plane


def fake(folder: Path, **spec: Any) -> EdgeSegmenter:
    """The fake network: person where it is bright."""
    folder.mkdir()
    bundle = make_fake_bundle(folder, InputSpec(64, 96, **spec))
    return open_artifact(bundle, ModelBundle.load(folder).named("fake-fp32"))


# --- loss -----------------------------------------------------------------------------------------


def test_a_small_loss_and_a_gain_pass() -> None:
    assert gate.verdict(figures(), figures(miou=0.9361, person_iou=0.9251), 0.5) == []
    assert gate.verdict(figures(), figures(miou=0.96, person_iou=0.95), 0.0) == []


@pytest.mark.parametrize(("key", "title"), [("miou", "mIoU"), ("person_iou", "person IoU")])
def test_a_loss_of_either_refuses_with_both_figures(key: str, title: str) -> None:
    lost = figures()[key] - 0.0051
    reasons = gate.verdict(figures(), figures(**{key: lost}), 0.5)
    assert len(reasons) == 1
    assert f"lost 0.51 points of {title}" in reasons[0]
    assert f"-> {100 * lost:.2f}" in reasons[0] and "at most 0.5" in reasons[0]


def test_max_drop_is_what_is_allowed() -> None:
    lost = figures(miou=0.91, person_iou=0.90)
    assert len(gate.verdict(figures(), lost, 0.5)) == 2
    assert gate.verdict(figures(), lost, 3.01) == []
    assert len(gate.verdict(figures(), figures(miou=0.9399), 0.0)) == 1


# --- collapse -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.24, 0.5, 0.76, 0.95])
@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (lambda truth: np.zeros_like(truth), "sees background everywhere"),
        (lambda truth: np.ones_like(truth), "sees person everywhere"),
        (lambda truth: 1 - truth, "another channel may be the person"),
    ],
)
def test_a_network_that_sees_one_class_is_named(mask: Any, told: str, share: float) -> None:
    truth = label(share)
    found = figures_of(mask(truth), truth)
    assert told in collapse(found)
    # However much it may lose, and even where float is no better.
    assert gate.verdict(found, found, 100.0) == [collapse(found)]


def test_a_mask_that_ignores_the_picture_is_a_collapse() -> None:
    noise = np.random.default_rng(0).random((100, 100)) < 0.5
    assert "does not follow the person" in collapse(figures_of(noise, label(0.5)))


def test_known_collapses_of_the_official_networks_are_named() -> None:
    # The public int8 PP-HumanSeg: mIoU 0.3642, all background. V2-Lite through today's tools:
    # 0.2571, all person, whose person IoU alone looks like something.
    dark = figures(miou=0.3642, person_iou=0.0, predicted_share=0.0, true_share=0.272)
    assert "sees background everywhere" in collapse(dark)
    bright = figures(miou=0.2571, person_iou=0.507, predicted_share=0.99, true_share=0.505)
    assert "sees person everywhere" in collapse(bright)


@pytest.mark.parametrize("share", [0.05, 0.24, 0.5, 0.95])
def test_a_network_that_is_merely_bad_is_no_collapse(share: float) -> None:
    truth = label(share)
    shifted = np.roll(truth, 2, axis=1)
    assert collapse(figures_of(shifted, truth)) == ""


@pytest.mark.parametrize(("seen", "true"), [(0.5, 0.5), (0.1, 0.3), (0.0, 0.3), (1.0, 0.3)])
def test_chance_is_what_a_random_mask_scores(seen: float, true: float) -> None:
    mask = np.random.default_rng(1).random((400, 400)) < seen
    plane = np.zeros((400, 400), np.uint8)
    plane[:, : round(400 * true)] = 1
    found = figures_of(mask, plane)["miou"]
    assert chance_miou(seen, true) == pytest.approx(found, abs=0.01)


# --- agreement ------------------------------------------------------------------------------------


def test_agreement_refuses_by_the_person_s_iou() -> None:
    same = figures("agreement", miou=1.0, person_iou=1.0)
    assert gate.verdict(same, figures("agreement", miou=0.96, person_iou=0.951)) == []
    reasons = gate.verdict(same, figures("agreement", miou=0.96, person_iou=0.94))
    assert reasons == [
        "lost 6.00 points of agreement on the person (100.00 -> 94.00), wanted at most 5"
    ]
    assert gate.verdict(same, figures("agreement", miou=0.96, person_iou=0.94), 7.0) == []


def test_without_a_number_half_a_point_of_quality_may_be_lost() -> None:
    assert gate.verdict(figures(), figures(miou=figures()["miou"] - 0.0049)) == []
    assert len(gate.verdict(figures(), figures(miou=figures()["miou"] - 0.0051))) == 1


def test_agreement_is_never_recorded_as_quality() -> None:
    found = gate.recorded(figures("agreement", boundary_f=0.9, sc=0.8))
    assert not {"miou", "person_iou", "boundary_f", "sc"} & found.keys()
    assert (found["agreement"], found["agreement_sc"]) == (0.94, 0.8)
    assert gate.recorded(figures()) == figures()


def test_float_agrees_with_itself_and_not_with_another(tmp_path: Path) -> None:
    frames = [toy_pictures.picture(seed)[0] for seed in range(4)]
    network = fake(tmp_path / "a")
    exam = gate.exam_from_float(network, frames, "held-back frames")
    found = exam.take(network)
    assert (found["kind"], found["on"], found["n"]) == ("agreement", "held-back frames", 4)
    assert found["miou"] == found["person_iou"] == 1.0
    other = exam.take(fake(tmp_path / "b", mean=(0.75,) * 3))
    assert other["person_iou"] < 0.9


def test_frames_without_a_person_say_nothing(tmp_path: Path) -> None:
    empty = [toy_pictures.picture(seed, person=False)[0] for seed in range(4)]
    with pytest.raises(DatasetError, match="found none in 4"):
        gate.exam_from_float(fake(tmp_path / "a"), empty, "held-back frames")


def test_one_frame_with_a_person_is_enough_to_agree_on(tmp_path: Path) -> None:
    frames = [toy_pictures.picture(seed, person=seed == 2)[0] for seed in range(4)]
    exam = gate.exam_from_float(fake(tmp_path / "a"), frames, "held-back frames")
    assert [bool(label.any()) for _, label in exam.pairs()] == [False, False, True, False]


def test_a_network_that_sees_person_everywhere_agrees_with_nothing(tmp_path: Path) -> None:
    """As one whose 0..255 output is called a logit."""
    white = [np.full((64, 96, 3), 255, np.uint8)] * 4
    network = fake(tmp_path / "a")
    with pytest.raises(DatasetError, match="found person in every pixel of 4; correct the spec"):
        gate.exam_from_float(network, white, "held-back frames")
    some = [toy_pictures.picture(0)[0], *white]  # one with a background is enough
    assert gate.exam_from_float(network, some, "held-back frames").kind == "agreement"


# --- labels ---------------------------------------------------------------------------------------


def test_an_exam_of_labels_reads_them_anew_for_every_artifact(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "d")
    seen: list[int] = []
    exam = gate.exam_from_labels(data / "val.txt", progress=seen.append)
    assert seen == [1, 2, 3, 4]
    network = fake(tmp_path / "a")
    first, second = exam.take(network), exam.take(network)
    assert first == second
    assert (first["kind"], first["on"], first["n"]) == ("labels", "val.txt", 4)
    assert first["on_sha256"] == sha256_of(data / "val.txt")
    assert first["miou"] > 0.9


def test_labels_without_a_person_cannot_judge(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "d", val=3)
    for path in (data / "val").glob("*_label.png"):
        cv2.imwrite(str(path), np.zeros(toy_pictures.SIZE, np.uint8))
    with pytest.raises(DatasetError, match=r"val\.txt: wanted labels with a person"):
        gate.exam_from_labels(data / "val.txt")


def test_a_broken_label_is_named_before_anything_is_converted(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "d")
    (data / "val" / "1002_label.png").write_bytes(b"\x89PNG\r\n\x1a\nshort")
    with pytest.raises(DatasetError, match=r"1002_label\.png"):
        gate.exam_from_labels(data / "val.txt")
