"""What a part of the training is worth: settings, statistics and the whole line on toy pictures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
pytest.importorskip("torch", reason="networks are trained with torch (make install)")
import worth  # noqa: E402

from edge_seg.training.recipe import Recipe  # noqa: E402
from tests import toy_pictures  # noqa: E402

SCRIPT = Path(worth.__file__)


def asked(experiment: str, out: Path = Path("out"), **others: Any) -> argparse.Namespace:
    free = {"steps": None, "warm_steps": None, "weight": None}
    return argparse.Namespace(experiment=experiment, out=out, **(free | others))


@pytest.mark.parametrize("experiment", worth.EXPERIMENTS)
def test_an_arm_differs_from_the_first_in_what_it_names_alone(experiment: str) -> None:
    tried = worth.EXPERIMENTS[experiment]
    first, *others = tried.arms
    base = worth.settings(asked(experiment), first, 101)
    for arm in others:
        changes = tried.arms[arm]
        assert worth.settings(asked(experiment), arm, 101) == base | changes
        assert base | changes != base or arm in tried.counted  # whose pictures differ
        assert worth.settings(asked(experiment), arm, 102)["seed"] == 102
    for arm in (
        *([worth.WARM] if tried.warm else []),
        first,
        *others,
    ):  # every one is a recipe that training takes
        Recipe.from_dict(worth.settings(asked(experiment), arm, 101))


def test_the_whole_recipe_is_that_of_the_network_that_ships() -> None:
    shipped = json.loads((SCRIPT.parent.parent / "training/portrait.json").read_text())
    assert {name: shipped[name] for name in worth.PORTRAIT} == worth.PORTRAIT
    last = json.loads((SCRIPT.parent.parent / "training/decoys.json").read_text())
    assert {name: last[name] for name in worth.STAGE} == worth.STAGE


def test_the_interval_over_seeds_is_student_s() -> None:
    # Of 1, 2, 3: s = 1, t(2) = 4.303, so 4.303 / sqrt(3).
    mean, half = worth.over_seeds([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(2.4843, abs=1e-4)
    assert worth.over_seeds([0.7]) == (pytest.approx(0.7), float("inf"))


def row(both: int, predicted: int, true: int, neither: int, **others: float) -> dict[str, Any]:
    counts = {"both": both, "only_predicted": predicted, "only_true": true, "neither": neither}
    return counts | {"boundary_f": 0.5, "sc": 1.0, "specks": 0} | others


def test_the_figures_are_those_of_all_pixels_together() -> None:
    pictures = [row(6, 2, 0, 8), row(2, 0, 2, 4, boundary_f=0.9)]
    result = worth.Judged.of({"pictures": pictures, "rooms": [0.0, 0.03]})
    found = worth.figures(result)
    assert found["person_iou"] == pytest.approx(100 * 8 / 12)
    assert found["miou"] == pytest.approx(100 * (8 / 12 + 12 / 16) / 2)
    assert found["boundary_f"] == pytest.approx(70)
    assert found["room_share"] == pytest.approx(1.5) and found["room_alarms"] == pytest.approx(50)
    twice = worth.figures(result, np.array([0, 0]))
    assert twice["person_iou"] == pytest.approx(75) and twice["boundary_f"] == pytest.approx(50)


def test_the_interval_over_pictures_holds_the_difference_and_grows_with_their_spread() -> None:
    def pair(by: list[float]) -> tuple[worth.Judged, worth.Judged]:
        before = {"pictures": [row(1, 0, 0, 1) for _ in by], "rooms": []}
        after = {"pictures": [row(1, 0, 0, 1, boundary_f=0.5 + d) for d in by], "rooms": []}
        return worth.Judged.of(after), worth.Judged.of(before)

    even = worth.over_pictures([pair([0.1] * 20)])["boundary_f"]
    assert even == pytest.approx([10, 10])
    low, high = worth.over_pictures([pair([0.0, 0.2] * 10)])["boundary_f"]
    # 20 pictures, standard deviation 10 points: the mean's is 10 / sqrt(20) = 2.2, times 1.96.
    assert low == pytest.approx(10 - 4.4, abs=1) and high == pytest.approx(10 + 4.4, abs=1)


def test_differences_are_taken_per_seed_against_the_first_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gains = {"ce": 0.0, "lovasz": 0.1, "scl": -0.1}
    for at, seed in enumerate((101, 102)):
        for arm, gain in gains.items():
            folder = tmp_path / worth.name_of(arm, seed)
            folder.mkdir()
            pictures = [row(5, 1, 1, 5, boundary_f=0.4 + 0.2 * at + gain)] * 3
            (folder / "result.json").write_text(json.dumps({"pictures": pictures, "rooms": []}))
    worth.report(asked("scl", tmp_path), list(worth.SCL), [101, 102])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["lovasz - ce: boundary_f"]["mean"] == pytest.approx(10)
    assert summary["scl - ce: boundary_f"]["mean"] == pytest.approx(-10)
    assert summary["scl - ce: boundary_f"]["half"] == pytest.approx(0, abs=1e-9)
    assert "lovasz - ce, 2 seed(s)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "arms", "runs"),
    [("recipe", ["no-teacher", "no-edge"], 1 + 3), ("stage", ["counted", "no-edge"], 3)],
)
def test_parts_are_left_out_on_toy_pictures_and_the_same_command_goes_on(
    tmp_path: Path, experiment: str, arms: list[str], runs: int
) -> None:
    data, masks = toy_pictures.write(tmp_path / "data"), tmp_path / "masks"
    masks.mkdir()
    for label in (data / "train").glob("*_label.png"):
        mask = toy_pictures.cv2.imread(str(label), 0) * 255
        toy_pictures.cv2.imwrite(str(masks / label.name.replace("_label", "")), mask)
    words = [sys.executable, SCRIPT, experiment, "--data", data, "--teacher", masks]
    words += ["-o", tmp_path / "out", "--seeds", "1", "--steps", "2", "--warm-steps", "2"]
    words += ["--arms", *arms]
    command = [str(word) for word in words]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert first.stdout.count("done: ") == runs
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "done: " not in again.stdout and "no-edge - whole, 1 seed(s)" in again.stdout
