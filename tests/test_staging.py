"""A bundle is written whole or not at all, and what stood there stays until it is."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_seg import staging
from edge_seg.bundle import MANIFEST, ModelBundle
from edge_seg.errors import OutputError
from edge_seg.exchange import exchange
from edge_seg.staging import staged
from tests.conftest import make_fake_bundle


def test_staged_appears_whole_under_its_name(tmp_path: Path) -> None:
    target = tmp_path / "new" / "bundle"
    with staged(target) as folder:
        assert not target.exists()
        assert folder.parent == target.parent, "renaming must not cross file systems"
        make_fake_bundle(folder)
    assert ModelBundle.load(target).verify() == []
    assert [p.name for p in target.parent.iterdir()] == ["bundle"]
    assert (target.stat().st_mode & 0o777) == 0o755


def test_staged_replaces_an_old_bundle_whole(fake_bundle: Path) -> None:
    (fake_bundle / "leftover.bin").write_bytes(b"old")
    with staged(fake_bundle) as folder:
        make_fake_bundle(folder, precisions=("fp32",))
        assert len(ModelBundle.load(fake_bundle).artifacts) == 2
    assert len(ModelBundle.load(fake_bundle).artifacts) == 1
    assert not (fake_bundle / "leftover.bin").exists()
    assert {p.name for p in fake_bundle.parent.iterdir()} == {"fake-bundle"}


@pytest.mark.parametrize(
    "failure", [ValueError("wrong"), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")]
)
def test_a_failure_leaves_the_old_bundle_and_nothing_else(
    fake_bundle: Path, failure: BaseException
) -> None:
    before = {p.name: p.read_bytes() for p in fake_bundle.iterdir()}
    wanted: type[BaseException] = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(wanted) as caught, staged(fake_bundle) as folder:
        (folder / "half.tflite").write_bytes(b"half")
        raise failure
    if wanted is OutputError:
        assert "No space left" in str(caught.value)
    assert {p.name: p.read_bytes() for p in fake_bundle.iterdir()} == before
    assert {p.name for p in fake_bundle.parent.iterdir()} == {"fake-bundle"}


def test_a_rename_that_fails_puts_the_old_bundle_back(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def fails_for_the_new(source: Any, target: Any) -> None:
        if Path(target) == fake_bundle and str(source).endswith(".part"):
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(staging, "exchange", lambda one, other: False)  # as where it cannot
    monkeypatch.setattr(staging.os, "replace", fails_for_the_new)
    with pytest.raises(OutputError, match="Input/output error"), staged(fake_bundle) as folder:
        make_fake_bundle(folder)
    assert len(ModelBundle.load(fake_bundle).artifacts) == 2
    assert {p.name for p in fake_bundle.parent.iterdir()} == {"fake-bundle"}


def test_what_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "mine.jpg").write_bytes(b"dear to me")
    plain = tmp_path / "file"
    plain.write_bytes(b"also dear")
    for target in (photos, plain):
        with pytest.raises(OutputError, match="something else"), staged(target):
            pytest.fail("must not get here")
    assert (photos / "mine.jpg").read_bytes() == b"dear to me"
    assert plain.read_bytes() == b"also dear"


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir()
    with staged(target) as folder:
        make_fake_bundle(folder)
    assert ModelBundle.load(target).verify() == []


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="choose another"), staged(tmp_path / "file" / "bundle"):
        pytest.fail("must not get here")


def test_staged_leaves_a_link_and_what_it_leads_to_alone(fake_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    for leads_to in (fake_bundle, tmp_path / "nowhere"):
        link.symlink_to(leads_to)
        with pytest.raises(OutputError, match="found a link"), staged(link):
            pass
        assert link.is_symlink()
        link.unlink()
    ModelBundle.load(fake_bundle)


@pytest.mark.parametrize("can", [True, False])
def test_a_bundle_that_is_replaced_is_there_at_every_moment(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    one = fake_bundle.with_name("one")
    other = fake_bundle.with_name("other")
    one.mkdir()
    other.mkdir()
    if not exchange(one, other):
        pytest.skip("this system or file system has no RENAME_EXCHANGE")
    if not can:
        monkeypatch.setattr(staging, "exchange", lambda one, other: False)
    missing, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            missing.append(not (fake_bundle / MANIFEST).is_file())

    watch = threading.Thread(target=look)
    watch.start()
    for number in range(60):
        with staged(fake_bundle) as folder:
            (folder / MANIFEST).write_text(str(number))
    done.set()
    watch.join()
    assert (fake_bundle / MANIFEST).read_text() == "59"
    assert not [p for p in fake_bundle.parent.iterdir() if p.name.startswith(".")]
    assert not (can and any(missing)), "what it replaced was gone before it was there"
