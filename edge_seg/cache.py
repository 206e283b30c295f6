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
    if chosen:
        return Path(chosen)
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
        return _read(path, facts)
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
        head = file.readline(MAX_HEAD_BYTES)
        data = file.read()
    if not head.startswith(MAGIC) or not head.endswith(b"\n"):
        raise ValueError("not an entry of ours")
    told = json.loads(head[len(MAGIC) :])
    if not isinstance(told, dict) or told.pop("sha256", None) != hashlib.sha256(data).hexdigest():
        raise ValueError("its content is not what was written")
    if told != facts:
        raise ValueError("made for something else")
    return data


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
