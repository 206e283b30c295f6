"""Names of files and folders that cannot be meant: said before the work, and with what is meant."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge_seg.bundle import ModelBundle
from edge_seg.cli import main
from edge_seg.errors import BundleError, OutputError
from edge_seg.files import check_place, write_whole


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "found a folder; add a name"),
        ("nodir/x.json", "found none: {0}/nodir; make it"),
        ("file/x.json", "found none: {0}/file; make it"),
        ("pipe", "a device or a pipe"),
        ("x" * 300, "name too long"),
    ],
)
@pytest.mark.parametrize("verb", ["bench", "eval"])
def test_a_place_that_cannot_be_is_said_before_anything_is_measured(
    verb: str, name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    # No such bundle and no such list: whoever looked at them first would name them instead.
    words = {"bench": ["bench", "no-such"], "eval": ["eval", "no-such", "--labels", "none.txt"]}
    assert main([*words[verb], "--json", str(tmp_path / name)]) == 1
    said = capsys.readouterr().err
    assert told.format(tmp_path).lower() in said.lower()
    assert "free space" not in said and "defect" not in said


def test_the_root_folder_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "no-such", "--json", "/"]) == 1
    assert "/: wanted the name of a file, found a folder" in capsys.readouterr().err


def test_a_folder_one_may_not_write_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="found that you may not"):
        check_place(tmp_path / "x.json")


def test_write_whole_names_the_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"found none: .*nodir; make it"):
        write_whole(tmp_path / "nodir" / "x.json", "text")
    old = tmp_path / "old.json"
    old.write_text("before")
    write_whole(old, "after")
    assert old.read_text() == "after"


@pytest.mark.parametrize("name", ["manifest.json", "fake-int8.json"])
def test_a_file_of_a_bundle_is_answered_with_the_bundle(fake_bundle: Path, name: str) -> None:
    with pytest.raises(BundleError) as raised:
        ModelBundle.load(fake_bundle / name)
    assert str(raised.value).endswith(f"found a file of one; name its folder: {fake_bundle}")


def test_another_file_is_not_called_a_missing_folder(fake_bundle: Path, tmp_path: Path) -> None:
    shutil.copy(fake_bundle / "fake-int8.json", tmp_path / "alone.json")
    with pytest.raises(BundleError, match="found a file; make one"):
        ModelBundle.load(tmp_path / "alone.json")


def test_no_one_is_told_to_convert_for_the_fake_backend(fake_bundle: Path) -> None:
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BundleError) as raised:
        bundle.find("fake", "fp16")
    assert "convert" not in str(raised.value) and "docs/operations.md" in str(raised.value)
    with pytest.raises(BundleError, match="convert the model again with --to tflite"):
        bundle.find("tflite", "int8")


def test_settings_that_are_not_there_are_not_called_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")
    words = ["train", "--data", str(tmp_path), "-o", str(tmp_path / "run"), "--recipe"]
    assert main([*words, str(tmp_path / "nope.json")]) == 2
    said = capsys.readouterr().err
    assert "nope.json: wanted a file of settings, found: No such file" in said
    assert "JSON" not in said
    (tmp_path / "notes.json").write_text("not settings")
    assert main([*words, str(tmp_path / "notes.json")]) == 2
    assert "wanted settings as JSON" in capsys.readouterr().err
