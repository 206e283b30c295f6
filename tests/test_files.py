"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge_seg import files
from edge_seg.errors import CameraError, OutputError
from edge_seg.files import whole_file, write_whole, writing


def test_write_whole_keeps_the_old_text_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    write_whole(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_a_file_interrupted_while_written_leaves_the_old_one_and_nothing_else(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rows.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.json"]


def test_what_the_system_says_becomes_a_sentence_and_our_own_words_stay(tmp_path: Path) -> None:
    gone = tmp_path / "no" / "folder"
    with pytest.raises(OutputError) as refused, writing(gone, "to write a mask", "free space"):
        gone.write_text("")
    assert str(refused.value) == (
        f"{gone}: wanted to write a mask, found: No such file or directory; free space"
    )
    camera = CameraError("wanted a camera, found none")  # an OSError, too
    with pytest.raises(CameraError) as lost, writing(gone, "to write a mask", "free space"):
        raise camera
    assert lost.value is camera


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        (errno.ENOSPC, "free space or choose another -o"),
        (errno.EROFS, "choose another -o"),
        (errno.EACCES, "choose another -o"),
    ],
)
def test_room_is_asked_for_where_it_is_what_is_missing(code: int, mend: str) -> None:
    remedy = "free space or choose another -o"
    with pytest.raises(OutputError) as told, writing(Path("out.png"), "to write a mask", remedy):
        raise OSError(code, os.strerror(code))
    assert str(told.value).endswith(f"{os.strerror(code)}; {mend}")
