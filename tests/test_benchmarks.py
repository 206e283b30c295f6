"""The benchmarks that measure quality: they run on a small data set, and say what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import edges  # noqa: E402
import slices  # noqa: E402
import supervision  # noqa: E402
import usual_path  # noqa: E402

from edge_seg.bundle import ModelBundle  # noqa: E402
from edge_seg.segmenter import EdgeSegmenter, open_artifact  # noqa: E402
from edge_seg.training.collection import find  # noqa: E402
from tests import tiny_networks, toy_pictures  # noqa: E402


def opened(folder: Path, *, edges: bool = False) -> EdgeSegmenter:
    bundle = ModelBundle.load(folder)
    segmenter = open_artifact(bundle, bundle.artifacts[0])
    segmenter.edges = edges
    return segmenter


def test_contours_are_measured_on_labelled_pictures(
    fake_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_pictures.write(tmp_path / "data", train=1, val=6)
    edges.enlargement(lambda on: opened(fake_bundle, edges=on), data, False)
    shown = capsys.readouterr().out
    assert "val.txt, 6 pictures" in shown
    for way in edges.WAYS:
        line = next(line for line in shown.splitlines() if f" {way} " in line)
        miou, within_3, within_1, _ = (float(cell) for cell in line.split("│")[2:6])
        assert miou > 90 and 0 < within_1 <= within_3 <= 100


def test_a_slice_without_pictures_has_no_figures(fake_bundle: Path, tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", train=1, val=3)
    for path in data.glob("val/100?.png"):  # so that none is dark
        cv2.imwrite(str(path), cv2.add(cv2.imread(str(path)), (90, 90, 90, 0)))
    files = find(data)
    with opened(fake_bundle) as segmenter:
        rows = slices.rows_of(segmenter, files, [], data)
    assert rows["all"]["n"] == rows["a quarter as bright"]["n"] == 3 and "dark" not in rows
    assert rows["test cards"]["n"] == slices.CARDS
    assert not [n for n in slices.slices(files, []) if ".png" in n], "a picture is no source"


def test_where_nothing_opens_nothing_is_said_to_be_within_a_budget(
    fake_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["supervision.py", str(fake_bundle)])
    assert supervision.main() == 1
    said = capsys.readouterr().out
    assert "NOTHING MEASURED" in said and "within" not in said


@pytest.mark.slow
def test_the_usual_path_judges_its_float_and_its_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = toy_pictures.write(tmp_path / "data", train=10)
    model, spec = tiny_networks.save_onnx(tmp_path / "tiny.onnx"), tmp_path / "tiny.toml"
    size = f"height = {tiny_networks.HEIGHT}\nwidth = {tiny_networks.WIDTH}\n"
    rest = (
        'mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\ncolor = "rgb"\nfit = "stretch"\npad = 127\n'
    )
    spec.write_text(f'[input]\n{size}{rest}[output]\nactivation = "logit"\nchannel = 0\n')
    words = [model, "--spec", spec, "--calibration", data / "train.txt"]
    words += ["--labels", data / "val.txt"]
    monkeypatch.setattr(sys, "argv", ["usual_path.py", *map(str, words)])
    usual_path.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "int8" in line]
    assert len(rows) == 1 and "cannot" not in rows[0] and "." in rows[0][3], rows
