"""Files that appear under their name whole or not at all, and what a file's content is.

    check_place   could a file be written there? asked before the work, not after
    whole_file    a name beside the file's own, to write to; then it takes the file's name
    write_whole   the same for a text
    writing       what the system says while something is written, as a sentence
    sha256_of     the digest that manifests hold
    is_utf8       whether a name can be written down, and handed to OpenCV

`check_place` and `write_whole` raise OutputError with the system's reason; `whole_file` leaves the
system's OSError to its caller, who knows what was being written and says so by `writing`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from edge_seg.errors import EdgeSegError, OutputError

PART = ".part"  # the end of the name of what is being written
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what room on a disk, or another disk, mends


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()


def is_utf8(path: Path) -> bool:
    """Tell whether a path's name is UTF-8; Python keeps other bytes as surrogates."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_place(path: Path) -> None:
    """Raise OutputError where no file could be written under `path`: to be told before the work."""
    with writing(path, "to write there", "choose another place"):
        if not path.name or path.is_dir():
            raise OutputError(f"{path}: wanted the name of a file, found a folder; add a name")
        if path.exists() and not path.is_file():
            raise OutputError(
                f"{path}: wanted a file to write, found a device or a pipe; choose another name"
            )
        if not path.parent.is_dir():
            raise OutputError(
                f"{path}: wanted a folder to write in, found none: {path.parent}; make it, or "
                "choose another place"
            )
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise OutputError(
                f"{path}: wanted a folder to write in, found that you may not: {path.parent}; "
                "choose another place"
            )


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that `path` holds either all of it or what it held before.

    Raises OutputError, with the system's reason (a full disk, a missing folder).
    """
    check_place(path)
    wanted = f"to write {len(text)} characters"
    with writing(path, wanted, "free space or choose another place"), whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def writing(path: Path, wanted: str, remedy: str) -> Iterator[None]:
    """Raise an OSError of the block as an OutputError with the system's reason.

    wanted, remedy: the sentence's words for what was to be done and for what to do, as in
    "PATH: wanted to write a mask, found: No space left on device; free space or choose another
    -o". Where room is not what is missing, "free space or" is left out.
    """
    try:
        yield
    except EdgeSegError:  # some of ours are OSErrors, too
        raise
    except OSError as error:
        if error.errno not in FULL:
            remedy = remedy.removeprefix("free space or ")
        raise OutputError(
            f"{path}: wanted {wanted}, found: {error.strerror or error}; {remedy}"
        ) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to; then it takes that name, or goes where that failed.

    What the system says (a full disk, no such folder) comes as OSError, to be worded by the caller.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield beside
        to_disk(beside)
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def to_disk(path: Path) -> None:
    """Have the system write a file's content out: a rename may reach the disk before it does."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
