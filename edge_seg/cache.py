"""Where a machine keeps what was built for it: engines and compiled networks, never in a bundle.

    cache_folder(named)     the argument, else EDGE_SEG_CACHE, else ~/.cache/edge-seg
    read_entry, write_entry one file per entry: a line of JSON that says what it is and its sha256,
                            then the bytes; written beside its name and renamed

An entry is code for a GPU: whoever can write to the folder can run what he likes. Every level that
is not there yet is made for its owner alone (0700); entries from a folder that others can write to
are used (an image may be made by another user) and said in a line.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from edge_seg.errors import OutputError

log = logging.getLogger("edge_seg")
ENVIRONMENT = "EDGE_SEG_CACHE"
MAGIC = b"edge-seg cache 1 "
MAX_HEAD_BYTES = 4096
MAX_ENTRY_BYTES = 1 << 30  # an engine of a network for small boards has a few megabytes
OTHER_VERSIONS = 1  # kept beside an entry: after an update the system may be rolled back
ABANDONED = 3600.0  # seconds; a file still being written is younger


def cache_folder(named: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that was named, else EDGE_SEG_CACHE's, else ~/.cache/edge-seg.

    Raises OutputError for a name that is no path.
    """
    chosen = named or os.environ.get(ENVIRONMENT)
    if chosen:
        try:
            return Path(chosen)
        except TypeError as error:
            raise OutputError(
                f"wanted cache= as a folder's path or None, found {chosen!r:.60}; None means "
                f"{ENVIRONMENT}, else ~/.cache/edge-seg"
            ) from error
    try:
        home = Path.home()
    except RuntimeError:  # a container's user without a name or a home
        home = Path("/")
    return home / ".cache" / "edge-seg"


def read_entry(path: Path, facts: dict[str, Any]) -> bytes | None:
    """Return the bytes of an entry; None where there is none, or where it is not of these facts.

    What is damaged (cut off, a bit turned, somebody else's file) is None too, and said in a line.
    """
    try:
        data = _read(path, facts)
        _warn_of_writers(path.parent)
        return data
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        log.warning("%s: left aside (%s); it is made again", path, why)
        return None


def _read(path: Path, facts: dict[str, Any]) -> bytes:
    """Return the bytes; ValueError says what is wrong with an entry."""
    if path.stat().st_size > MAX_ENTRY_BYTES:
        raise ValueError("larger than any entry")
    with open(path, "rb") as file:
        told = _head(file.readline(MAX_HEAD_BYTES))
        data = file.read()
    if told.pop("sha256", None) != hashlib.sha256(data).hexdigest():
        raise ValueError("its content is not what was written")
    if told != facts:
        raise ValueError("made for something else")
    return data


def _head(line: bytes) -> dict[str, Any]:
    if not line.startswith(MAGIC) or not line.endswith(b"\n"):
        raise ValueError("not an entry of ours")
    told = json.loads(line[len(MAGIC) :])
    if not isinstance(told, dict):
        raise ValueError("its content is not what was written")
    return told


@functools.cache  # said once of a folder
def _warn_of_writers(folder: Path) -> None:
    for place in (folder, folder.parent):
        with contextlib.suppress(OSError):
            found = place.stat()
            # In a folder above with the sticky bit (/tmp) others cannot put theirs in our place.
            kept_apart = place != folder and found.st_mode & stat.S_ISVTX
            writers = "" if kept_apart else _writers(found)
            if writers:
                log.warning(
                    "%s: wanted a folder only its owner can write to, found that %s can: what is "
                    "kept there runs as code here; chown it, or chmod go-w",
                    place,
                    writers,
                )
                return


def _writers(found: os.stat_result) -> str:
    """Say who else can write to a folder; "" for nobody but this user and root."""
    if found.st_uid not in (os.geteuid(), 0):
        return f"user {found.st_uid}"
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    # A group of the user's own number is his alone, on Debian and its kin.
    if found.st_mode & stat.S_IWGRP and found.st_gid not in (found.st_uid, 0):
        return f"group {found.st_gid}"
    return ""


def write_entry(
    path: Path, data: bytes, facts: dict[str, Any], *, versions: tuple[str, ...] = ()
) -> None:
    """Write an entry under its name, whole or not at all; two writers do not meet.

    facts: plain JSON. versions: those of them that name a version; of the entries that differ in
    them alone the newest is kept beside this one, older ones are removed. Raises OutputError with
    the system's reason (read-only, a full disk).
    """
    told = json.dumps({**facts, "sha256": hashlib.sha256(data).hexdigest()})
    head = MAGIC + told.encode() + b"\n"
    if len(head) > MAX_HEAD_BYTES:  # it would never be read
        raise OutputError(
            f"{path}: wanted to keep it with up to {MAX_HEAD_BYTES} bytes of facts, found "
            f"{len(head)}; it works without being kept"
        )
    beside = None
    try:
        _make(path.parent)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(head + data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        beside = None
    except OSError as error:
        raise OutputError(
            f"{path.parent}: wanted to keep {path.name} there, found: {error.strerror or error}; "
            f"name a folder that can be written in {ENVIRONMENT} or --cache"
        ) from error
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)
    with contextlib.suppress(OSError):  # tidied next time
        _tidy(path, facts, versions)


def _make(folder: Path) -> None:
    """Make a folder; `mkdir(parents=True)` would make those above it as the umask says."""
    missing = [level for level in (folder, *folder.parents) if not level.exists()]
    for level in reversed(missing):
        level.mkdir(mode=0o700, exist_ok=True)


def _tidy(path: Path, facts: dict[str, Any], versions: tuple[str, ...]) -> None:
    """Remove entries of older versions, and what writers left that were cut off."""
    same = {key: value for key, value in facts.items() if key not in versions}
    others: list[tuple[float, Path]] = []
    now = path.stat().st_mtime  # just written: no clock is asked, which may have been set since
    for file in path.parent.iterdir():
        written = file.stat().st_mtime
        if file.name.startswith(".") and file.suffix == ".part":
            if now - written > ABANDONED:
                file.unlink()
        elif file != path and _but_for(file, versions) == same:
            others.append((written, file))
    for _, file in sorted(others)[:-OTHER_VERSIONS]:
        file.unlink()


def _but_for(file: Path, versions: tuple[str, ...]) -> dict[str, Any] | None:
    """Return an entry's facts without those of a version; None for what is no entry."""
    try:
        with open(file, "rb") as opened:
            told = _head(opened.readline(MAX_HEAD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return {key: value for key, value in told.items() if key not in (*versions, "sha256")}
