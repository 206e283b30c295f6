"""The settings of `train`: of a file, of flags, of both, and of a run that goes on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from edge_seg.cli.settings import recipe_of
from edge_seg.errors import DatasetError
from edge_seg.training.recipe import NAME, Recipe

FILE: dict[str, Any] = {"steps": 1500, "warmup": 100, "decay_from": 200, "lr": 7e-4}
FILE |= {"sizes": [[0, 192], [700, 224]]}


def asked(out: Path, **words: Any) -> argparse.Namespace:
    names = ("recipe", "start", "restart", "side", "shape", "steps", "batch", "lr", "seed")
    return argparse.Namespace(out=out, workers=0, **(dict.fromkeys(names) | words))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "recipe.json").write_text(json.dumps(FILE))
    return tmp_path / "recipe.json"


def test_another_length_takes_the_schedule_of_the_file_along(tmp_path: Path, file: Path) -> None:
    found = recipe_of(asked(tmp_path / "run", recipe=file, steps=150))
    assert (found.steps, found.warmup, found.decay_from) == (150, 10, 20)
    assert found.sizes == ((0, 192), (70, 224)) and found.lr == 7e-4
    assert recipe_of(asked(tmp_path / "run", recipe=file)).sizes == ((0, 192), (700, 224))


def test_other_flags_win_and_leave_the_schedule(tmp_path: Path, file: Path) -> None:
    found = recipe_of(asked(tmp_path / "run", recipe=file, lr=1e-4, side=160))
    assert (found.steps, found.warmup, found.lr) == (1500, 100, 1e-4)
    assert found.sizes == ((0, 160),)


def test_a_file_without_a_length_keeps_its_own_numbers(tmp_path: Path) -> None:
    (tmp_path / "short.json").write_text(json.dumps({"sizes": [[0, 96], [3000, 160]]}))
    found = recipe_of(asked(tmp_path / "run", recipe=tmp_path / "short.json", steps=6000))
    assert found.steps == 6000 and found.sizes == ((0, 96), (3000, 160))


def test_the_same_words_go_on_with_a_run_and_others_do_not(tmp_path: Path, file: Path) -> None:
    words = asked(tmp_path / "run", recipe=file, steps=150, seed=3)
    begun = recipe_of(words)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).write_text(json.dumps(begun.to_dict()))
    assert recipe_of(words) == begun == recipe_of(asked(tmp_path / "run"))
    with pytest.raises(DatasetError, match="found others for .*steps"):
        recipe_of(asked(tmp_path / "run", recipe=file))
    with pytest.raises(DatasetError, match="found others for seed"):
        recipe_of(asked(tmp_path / "run", recipe=file, steps=150, seed=4))


def test_a_length_of_nothing_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DatasetError, match="wanted setting steps from 1"):
        recipe_of(asked(tmp_path / "run", recipe=file, steps=0))
    assert Recipe.from_dict(FILE).scaled(3).sizes == ((0, 192), (1, 224))
