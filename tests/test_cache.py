"""What a machine keeps of what it built: whole or not at all, and only what was asked for."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from edge_seg.cache import MAX_ENTRY_BYTES, MAX_HEAD_BYTES, cache_folder, read_entry, write_entry
from edge_seg.errors import OutputError

FACTS = {"model": "a" * 64, "gpu": "Orin sm_87"}
NESTED = b"edge-seg cache 1 " + b"[" * (MAX_HEAD_BYTES - 100) + b"\n"  # deeper than json reads


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "tensorrt" / "a.engine"
    write_entry(path, b"\n\0engine\n" * 100, FACTS)
    return path


def test_what_was_written_is_read(entry: Path) -> None:
    assert read_entry(entry, FACTS) == b"\n\0engine\n" * 100
    assert [p.name for p in entry.parent.iterdir()] == ["a.engine"], "nothing else is left there"


def test_the_folder_is_its_owners_alone(entry: Path) -> None:
    assert entry.parent.stat().st_mode & 0o077 == 0
    assert entry.stat().st_mode & 0o077 == 0


def test_every_folder_that_was_not_there_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        write_entry(tmp_path / "home" / ".cache" / "edge-seg" / "tensorrt" / "a", b"", FACTS)
    finally:
        os.umask(before)
    made = [path for path in (tmp_path / "home").rglob("*") if path.is_dir()]
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "home", *made]}
    assert set(modes) == {"home", ".cache", "edge-seg", "tensorrt"}
    assert set(modes.values()) == {0o700}


@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_that_others_can_write_to_is_used_and_said_once(
    entry: Path, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = entry.parents[level]
    folder.chmod(0o757)
    for _ in range(2):
        assert read_entry(entry, FACTS) is not None
    (said,) = caplog.messages
    assert said.startswith(f"{folder}: wanted") and "everybody" in said and "chmod" in said


@pytest.mark.parametrize(("level", "said"), [(0, True), (1, False)])
def test_a_folder_like_tmp_may_be_above_it_and_not_in_its_place(
    entry: Path, level: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the sticky bit is set others can add files, and not rename or remove ours."""
    entry.parents[level].chmod(0o1777)
    assert read_entry(entry, FACTS) is not None
    assert ("everybody" in caplog.text) is said


@pytest.mark.parametrize(("group", "said"), [(1000, False), (12345, True)])
def test_a_group_that_is_not_the_user_s_own_is_said(
    entry: Path,
    group: int,
    said: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("root alone can give a folder away")
    os.chown(entry.parent, 1000, group)
    entry.parent.chmod(0o770)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert read_entry(entry, FACTS) is not None
    assert (f"group {group}" in caplog.text) is said


def test_a_folder_of_another_user_is_used_and_said(
    entry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0:
        pytest.skip("root alone can give a folder away")
    os.chown(entry.parent, 12345, -1)
    assert read_entry(entry, FACTS) is not None
    assert "user 12345" in caplog.text


def test_a_folder_of_root_is_used_without_a_word(
    entry: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is made by root, and runs as somebody else."""
    if entry.stat().st_uid != 0:
        pytest.skip("this is not root")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert read_entry(entry, FACTS) is not None
    assert not caplog.text


def test_facts_that_could_not_be_read_again_are_not_written(entry: Path) -> None:
    with pytest.raises(OutputError, match=f"up to {MAX_HEAD_BYTES} bytes of facts"):
        write_entry(entry.with_name("b"), b"x", FACTS | {"able": "x" * MAX_HEAD_BYTES})
    assert [p.name for p in entry.parent.iterdir()] == ["a.engine"]


def test_as_many_facts_as_can_be_read_again_are_written(entry: Path) -> None:
    write_entry(entry, b"x", {"able": ""})
    room = MAX_HEAD_BYTES - len(entry.read_bytes().split(b"\n")[0] + b"\n")
    facts = {"able": "x" * room}
    write_entry(entry, b"x", facts)
    assert read_entry(entry, facts) == b"x"
    with pytest.raises(OutputError, match=f"found {MAX_HEAD_BYTES + 1};"):
        write_entry(entry, b"x", {"able": "x" * (room + 1)})


def test_of_other_versions_the_newest_is_kept_for_a_way_back(entry: Path) -> None:
    folder, facts = entry.parent, FACTS | {"model": "b" * 64}
    for number in range(5):
        name = folder / f"v{number}.engine"
        write_entry(name, b"x", facts | {"version": number}, versions=("version",))
        os.utime(name, (number, number))
    write_entry(folder / "other-gpu", b"x", facts | {"version": 1, "gpu": "Thor"})
    (folder / "notes.txt").write_text("somebody else's\n")
    (folder / "nested").write_bytes(NESTED)
    write_entry(folder / "new.engine", b"x", facts | {"version": 9}, versions=("version",))
    left = {path.name for path in folder.iterdir()}
    mine = {"a.engine", "new.engine", "v4.engine", "other-gpu"}
    assert left == mine | {"notes.txt", "nested"}


def test_what_a_writer_left_when_the_power_went_is_removed(entry: Path) -> None:
    old, young = entry.parent / ".a.engine.x.part", entry.parent / ".a.engine.y.part"
    other = entry.parent / ".keep"
    for path in (old, young, other):
        path.write_bytes(b"half")
    for path in (old, other):
        os.utime(path, (0, 0))
    write_entry(entry, b"x", FACTS)
    assert {path.name for path in entry.parent.iterdir()} == {"a.engine", young.name, other.name}


def test_what_cannot_be_tidied_does_not_spoil_what_was_written(entry: Path) -> None:
    (entry.parent / "broken").symlink_to("nowhere")
    write_entry(entry, b"x", FACTS)
    assert read_entry(entry, FACTS) == b"x"


def test_an_entry_that_cannot_take_its_place_leaves_nothing_beside_it(entry: Path) -> None:
    place = entry.parent / "taken"
    (place / "by a folder").mkdir(parents=True)
    with pytest.raises(OutputError, match="wanted to keep taken there, found: Is a directory"):
        write_entry(place, b"x", FACTS)
    assert {path.name for path in entry.parent.iterdir()} == {"a.engine", "taken"}


def test_an_entry_that_is_not_there_is_none_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_entry(tmp_path / "none", FACTS) is None
    assert not caplog.text


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"x",
        lambda whole: whole.replace(b"engine", b"enginE", 1),
        lambda whole: whole.replace(b"sm_87", b"sm_86"),
        lambda whole: b"",
        lambda whole: b"\x80\x04." + whole,
        lambda whole: b"edge-seg cache 1 [1]\n",
        lambda whole: NESTED,
        lambda whole: b"edge-seg cache 2 " + whole[17:],
    ],
)
def test_what_is_damaged_is_left_aside_and_said(
    entry: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    assert read_entry(entry, FACTS) is None
    assert str(entry) in caplog.text


def test_an_entry_of_another_gpu_is_not_handed_out(entry: Path) -> None:
    assert read_entry(entry, FACTS | {"gpu": "Thor sm_110"}) is None


def test_a_folder_in_its_place_is_left_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "entry").mkdir()
    assert read_entry(tmp_path / "entry", FACTS) is None
    assert "left aside (Is a directory)" in caplog.text


def test_a_giant_in_its_place_is_left_aside_unread(
    entry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.truncate(entry, MAX_ENTRY_BYTES + 1)  # sparse: takes no room on disk
    assert read_entry(entry, FACTS) is None
    assert "larger than any entry" in caplog.text


def test_two_who_write_at_once_leave_one_whole_entry(entry: Path) -> None:
    bodies = [bytes([i]) * 300_000 for i in range(8)]
    start = threading.Barrier(len(bodies))

    def write(body: bytes) -> None:
        start.wait()
        write_entry(entry, body, FACTS)

    threads = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_entry(entry, FACTS) in bodies
    assert [p.name for p in entry.parent.iterdir()] == ["a.engine"]


def test_a_place_that_cannot_be_written_is_a_sentence() -> None:
    with pytest.raises(OutputError, match="EDGE_SEG_CACHE") as refused:
        write_entry(Path("/proc/nowhere/a"), b"", FACTS)
    assert "/proc/nowhere" in str(refused.value)


def test_the_argument_wins_over_the_environment_over_the_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path / "env"))
    assert cache_folder(tmp_path / "arg") == tmp_path / "arg"
    assert cache_folder() == tmp_path / "env"
    monkeypatch.delenv("EDGE_SEG_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "edge-seg"


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EDGE_SEG_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() == Path("/.cache/edge-seg")
