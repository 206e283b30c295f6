"""Where a machine keeps what was built for it: engines and compiled networks, never in a bundle.

    cache_folder(named)     the argument, else EDGE_SEG_CACHE, else ~/.cache/edge-seg
    read_entry, write_entry one file per entry: a line of JSON that says what it is and its sha256,
                            then the bytes; written beside its name and renamed

An entry is code for a GPU: whoever can write to the folder can run what he likes. It is made for
its owner alone (0700).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from edge_seg.errors import OutputError

log = logging.getLogger("edge_seg")
ENVIRONMENT = "EDGE_SEG_CACHE"
MAGIC = b"edge-seg cache 1 "
MAX_HEAD_BYTES = 4096
MAX_ENTRY_BYTES = 1 << 30  # an engine of a network for small boards has a few megabytes


def cache_folder(named: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that was named, else EDGE_SEG_CACHE's, else ~/.cache/edge-seg."""
    chosen = named or os.environ.get(ENVIRONMENT)
    return Path(chosen) if chosen else Path.home() / ".cache" / "edge-seg"


def read_entry(path: Path, facts: dict[str, Any]) -> bytes | None:
    """Return the bytes of an entry; None where there is none, or where it is not of these facts.

    What is damaged (cut off, a bit turned, somebody else's file) is None too, and said in a line.
    """
    try:
        if path.stat().st_size > MAX_ENTRY_BYTES:
            return _damaged(path, "larger than any entry")
        with open(path, "rb") as file:
            head = file.readline(MAX_HEAD_BYTES)
            data = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        return _damaged(path, error.strerror or str(error))
    if not head.startswith(MAGIC) or not head.endswith(b"\n"):
        return _damaged(path, "not an entry of ours")
    try:
        told = json.loads(head[len(MAGIC) :])
    except (ValueError, RecursionError):
        return _damaged(path, "its first line cannot be read")
    if not isinstance(told, dict) or told.pop("sha256", None) != hashlib.sha256(data).hexdigest():
        return _damaged(path, "its content is not what was written")
    return data if told == facts else _damaged(path, "made for something else")


def _damaged(path: Path, why: str) -> None:
    log.warning("%s: left aside (%s); it is made again", path, why)


def write_entry(path: Path, data: bytes, facts: dict[str, Any]) -> None:
    """Write an entry under its name, whole or not at all; two writers do not meet.

    facts: plain JSON. Raises OutputError with the system's reason (read-only, a full disk).
    """
    head = MAGIC + json.dumps({**facts, "sha256": hashlib.sha256(data).hexdigest()}).encode()
    beside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(head + b"\n" + data)
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
