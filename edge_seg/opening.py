"""Opening what runs a bundle: a board's runtimes in their order, or one artifact on any board.

load_bundle    the bundle that was named, or the one that ships
open_runtime   one runtime: the backend, and the artifact it runs
supervised     the first of a board's runtimes that works, with the rest to fall back on
open_engine    one artifact, in the first library for it that is installed
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from edge_seg.backends import Backend, Progress, entry, find_library, open_backend, readers
from edge_seg.board import Board, Runtime
from edge_seg.bundle import Artifact, ModelBundle, locate
from edge_seg.cache import cache_folder
from edge_seg.choices import Choice
from edge_seg.engine import Engine
from edge_seg.errors import BackendUnavailable, BundleError
from edge_seg.supervision import Policy, Supervisor

log = logging.getLogger("edge_seg")


def load_bundle(bundle: str | Path | None) -> ModelBundle:
    """Load a bundle by the folder a link leads to now: the link may be turned to another while
    this one is in use, and what is opened later has to be of the same bundle.
    """
    if bundle is not None and not (isinstance(bundle, (str, os.PathLike)) and str(bundle)):
        raise BundleError(
            f"wanted a bundle's folder or name, or a ModelBundle, found {bundle!r:.60}; None is "
            "the network that ships (is a variable not set?)"
        )
    return ModelBundle.load(None if bundle is None else locate(bundle).resolve())


def open_runtime(
    bundle: ModelBundle,
    runtime: Runtime,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Backend, Artifact]:
    """Open the artifact a runtime asks for. Raises BundleError, BackendUnavailable.

    cache: the folder of what is built for this machine (default: EDGE_SEG_CACHE, else
    ~/.cache/edge-seg). progress(message, done, total): told of the building.
    """
    artifact = bundle.find(entry(runtime.backend).format, runtime.precision)
    path, folder = bundle.file(artifact), cache_folder(cache)
    backend = open_backend(
        runtime.backend,
        path,
        runtime.options,
        cache=folder,
        progress=progress,
        picture=bundle.input,
    )
    return backend, artifact


def supervised(
    bundle: ModelBundle,
    board: Board,
    *,
    threads: int | None,
    policy: Policy | None,
    cache: str | Path | None,
) -> Supervisor:
    """Open the first of a board's runtimes that works. Raises BackendUnavailable: every refusal."""
    runtimes = [runtime.with_threads(threads) for runtime in _usable(bundle, board)]
    folder = cache_folder(cache)
    try:
        return Supervisor([_choice(bundle, runtime, folder) for runtime in runtimes], policy)
    except BackendUnavailable as refusals:
        raise BackendUnavailable(
            f"wanted a runtime of board {board.name!r} for bundle {bundle.name!r}, "
            f"found none that works here:\n{refusals}\n"
            f"see `edge-seg doctor --board {board.name}`"
        ) from refusals


def _usable(bundle: ModelBundle, board: Board) -> list[Runtime]:
    """Return a board's runtimes without the optional ones that have no library or no artifact."""
    usable = []
    for runtime in board.runtimes:
        try:
            if runtime.optional:
                bundle.find(entry(runtime.backend).format, runtime.precision)
                find_library(runtime.backend)
            usable.append(runtime)
        except (BundleError, BackendUnavailable) as lack:
            log.info("%s is passed by: %s", runtime, lack)
    return usable


def _choice(bundle: ModelBundle, runtime: Runtime, cache: Path) -> Choice:
    def open() -> Engine:
        backend, artifact = open_runtime(bundle, runtime, cache=cache)
        return Engine(
            bundle.input, bundle.output, backend=backend, runtime=runtime, artifact=artifact
        )

    return Choice(str(runtime), open)


def open_engine(bundle: ModelBundle, artifact: Artifact, *, threads: int = 1) -> Engine:
    """Open one artifact of a bundle with the first installed library for it; keep nothing built.

    Raises BundleError, BackendUnavailable.
    """
    reader = _reader(artifact)
    path, options = bundle.file(artifact), {"threads": threads}
    backend = open_backend(reader, path, options, picture=bundle.input)
    return Engine(bundle.input, bundle.output, backend=backend, artifact=artifact)


def _reader(artifact: Artifact) -> str:
    """Return the first backend for an artifact's format whose library is installed here."""
    refusals = []
    for name in readers(artifact.format):
        try:
            find_library(name)
        except BackendUnavailable as refusal:
            refusals.append(str(refusal))
        else:
            return name
    found = "; ".join(refusals) or "none in this version; upgrade edge-seg"
    raise BackendUnavailable(
        f"{artifact.name}: wanted a backend for {artifact.format}, found {found}"
    )
