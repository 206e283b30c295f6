"""Building ahead what opening would build: engines and compiled networks of a board's runtimes.

For images made in a factory: run it on one board of the kind, copy the cache folder into the image.
An entry is found by content, library version and device, not by path or time. Nothing here needs
a network connection.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from edge_seg.backends import Progress
from edge_seg.board import Board, Runtime
from edge_seg.bundle import ModelBundle
from edge_seg.cache import cache_folder
from edge_seg.errors import EdgeSegError
from edge_seg.opening import open_runtime


@dataclass(frozen=True)
class Prepared:
    """What became of one runtime.

    opens: it runs here. built: something was built for it just now. kept: the entries that are
    new in the cache. refusal: why it does not run here.
    """

    runtime: Runtime
    opens: bool
    built: bool = False
    kept: tuple[Path, ...] = ()
    seconds: float = 0.0
    refusal: str = ""

    @property
    def lost(self) -> bool:
        """True where something was built and could not be kept."""
        return self.built and not self.kept

    def __str__(self) -> str:
        if not self.opens:
            return f"not here: {self.refusal}"
        if self.lost:
            return f"built in {self.seconds:.1f} s and not kept: it is built anew at every start"
        if self.built:
            names = ", ".join(f"{p.name} ({p.stat().st_size / 1e6:.1f} MB)" for p in self.kept)
            return f"built in {self.seconds:.1f} s, kept as {names}"
        return f"ready: opens in {self.seconds:.2f} s, nothing is left to build"


def prepare(
    bundle: ModelBundle, board: Board, *, cache: str | Path | None, progress: Progress
) -> list[Prepared]:
    """Open every runtime of a board once, so that what it builds is in the cache.

    cache: the folder (default: EDGE_SEG_CACHE, else ~/.cache/edge-seg). progress(message, done,
    total) is told of what is built; a total of 0 is an unknown one. A runtime that does not work
    here is a Prepared with its refusal; nothing is raised for it.
    """
    folder = cache_folder(cache)
    return [_prepare(bundle, runtime, folder, progress) for runtime in board.runtimes]


def _prepare(bundle: ModelBundle, runtime: Runtime, folder: Path, progress: Progress) -> Prepared:
    before, told = _entries(folder), False

    def tell(message: str, done: int, total: int) -> None:
        nonlocal told
        told = True
        progress(f"{runtime}: {message}", done, total)

    began = time.perf_counter()
    try:
        backend, _ = open_runtime(bundle, runtime, cache=folder, progress=tell)
        backend.close()
    except EdgeSegError as refusal:
        return Prepared(runtime, opens=False, refusal=str(refusal))
    # A vendor's library may raise anything while it opens; the next runtime is tried all the same.
    except Exception as error:
        why = f"{runtime.backend}: failed to open: {type(error).__name__}: {error}"
        return Prepared(runtime, opens=False, refusal=why)
    seconds = time.perf_counter() - began
    after = _entries(folder)
    new = tuple(sorted(path for path, stamp in after.items() if before.get(path) != stamp))
    return Prepared(runtime, opens=True, built=told or bool(new), kept=new, seconds=seconds)


def _entries(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return the entries there are, and when each was written (a damaged one is written anew)."""
    found = {}
    for backend in ("tensorrt", "openvino", "onnxruntime-tensorrt"):
        for path in (folder / backend).glob("*"):
            if path.is_file() and not path.name.startswith("."):
                stat = path.stat()
                found[path] = (stat.st_ino, stat.st_mtime_ns)
    return found
