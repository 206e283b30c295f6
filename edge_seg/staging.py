"""A bundle is written beside its target and renamed: under its name it is whole, or it is not.

    with staged(target) as folder: ...   an empty folder to write in; at the end it is `target`

What stood there is replaced in one step where the system can (edge_seg/exchange.py), and stays
where anything fails. Nothing but a bundle or an empty folder is ever replaced.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from edge_seg.bundle import MANIFEST
from edge_seg.errors import OutputError
from edge_seg.exchange import exchange
from edge_seg.files import PART, to_disk, writing

WANTED = "to write a bundle there"


@contextlib.contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; on success it replaces `target`, else it goes.

    An existing bundle at `target` is replaced; any other non-empty folder is refused with
    OutputError, as is a place that cannot be written.
    """
    target = Path(os.path.abspath(target))
    check_target(target)
    # Named before it is made, so that Ctrl-C at any moment finds it in `finally`.
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART}")
    try:
        with writing(target, WANTED, "free space or choose another -o"):
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            yield folder
            folder.chmod(0o755)
            for path in folder.rglob("*"):
                if path.is_file():
                    to_disk(path)
            _swap(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_target(target: Path) -> None:
    """Raise OutputError unless `target` is free, an empty folder, or an old bundle."""
    if target.is_symlink():
        raise OutputError(
            f"{target}: wanted the name of a folder, found a link to one; write beside it and "
            "change the link (docs/operations.md), or name the folder itself"
        )
    with writing(target, WANTED, "choose another -o"):
        if not target.exists():
            return
        if target.is_dir() and ((target / MANIFEST).is_file() or not any(target.iterdir())):
            return
    raise OutputError(
        f"{target}: wanted a new folder or an old bundle to replace, found something else; "
        "choose another -o"
    )


def _swap(folder: Path, target: Path) -> None:
    """Give `folder` the name `target`; what was there goes, in one step where the system can."""
    if target.exists() and exchange(folder, target):
        return  # the old one now has the temporary name, under which it is removed
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(folder, target)
    finally:  # also on Ctrl-C, between the two or after them
        if old.exists() and not target.exists():
            os.replace(old, target)
        shutil.rmtree(old, ignore_errors=True)
