"""EdgeSegmenter: a frame in, a mask out, in one straight line.

    prepare -> encode -> infer -> decode -> (smooth) -> restore

`open` walks the board's runtimes in order, turns every refusal into a sentence, says aloud when
it did not get its first choice, and raises one error with all of them when nothing works.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_seg import board as board_module
from edge_seg import pixels
from edge_seg.backends import BACKENDS, Backend, entry, open_backend
from edge_seg.board import Board, Runtime
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.errors import BackendUnavailable, BundleError, FrameError
from edge_seg.pixels import Mask, Picture
from edge_seg.spec import InputSpec, OutputSpec

if TYPE_CHECKING:
    from edge_seg.smoothing import Smoother

log = logging.getLogger("edge_seg")
DTYPES = ("float32", "uint8")


class EdgeSegmenter:
    """A network on a board, ready for frames.

    Not to be called from two threads at once; two segmenters do not disturb each other.
    Use `EdgeSegmenter.open`; the constructor takes a backend that is already open.
    """

    def __init__(
        self,
        input: InputSpec,
        output: OutputSpec,
        *,
        backend: Backend,
        format: str = "bgr",
        smoother: Smoother | None = None,
    ) -> None:
        _check_format(format)
        self.spec = input
        self.format = format
        self.backend = backend
        self.smoother = smoother
        self.board: Board | None = None
        self.runtime: Runtime | None = None
        self.artifact: Artifact | None = None
        self.reason = ""
        self._codec = pixels.Codec(input, output, eats=backend.input, returns=backend.output)
        self._closed = False

    @classmethod
    def open(
        cls,
        bundle: str | Path | ModelBundle | None = None,
        *,
        board: str | Board = "auto",
        format: str = "bgr",
        threads: int | None = None,
        smoother: Smoother | None = None,
    ) -> EdgeSegmenter:
        """Open a bundle with the first of the board's runtimes that works here.

        bundle: a directory, a loaded ModelBundle, or None for the default network that ships.
        board: a name or alias, a path to a board.toml, a Board, or "auto" (detect).
        format: of the frames you will pass: "bgr", "rgb", "nv12" or "yuv420".
        threads: overrides the runtime's number of threads. smoother: None (off) or a Smoother.

        Raises BundleError, UnknownBoard, and BackendUnavailable listing every refusal.

        >>> segmenter = EdgeSegmenter.open("my-bundle", board="rpi5")     # doctest: +SKIP
        """
        _check_format(format)
        loaded = bundle if isinstance(bundle, ModelBundle) else ModelBundle.load(bundle)
        chosen = board_module.resolve(board)
        refusals: list[str] = []
        for asked in chosen.runtimes:
            runtime = asked.with_threads(threads)
            try:
                segmenter = cls._on(loaded, runtime, format=format)
            except (BackendUnavailable, BundleError) as refusal:
                refusals.append(f"{runtime}: {refusal}")
                continue
            segmenter.board, segmenter.smoother = chosen, smoother
            if refusals:
                segmenter.reason = "; ".join(refusals)
                log.warning("%s: running on %s, because %s", chosen.name, runtime, segmenter.reason)
            return segmenter
        listed = "\n".join(f"  - {r}" for r in refusals)
        raise BackendUnavailable(
            f"wanted a runtime of board {chosen.name!r} for bundle {loaded.name!r}, "
            f"found none that works here:\n{listed}\n"
            f"see `edge-seg doctor --board {chosen.name}`"
        )

    @classmethod
    def _on(cls, bundle: ModelBundle, runtime: Runtime, *, format: str) -> EdgeSegmenter:
        backend, artifact = open_runtime(bundle, runtime)
        try:
            segmenter = cls(bundle.input, bundle.output, backend=backend, format=format)
        except BundleError:  # an artifact that is not of the bundle's form
            backend.close()
            raise
        segmenter.runtime, segmenter.artifact = runtime, artifact
        return segmenter

    @property
    def degraded(self) -> bool:
        """True where the board's first runtime was refused; `reason` says why."""
        return bool(self.reason)

    def segment(
        self,
        frame: Picture,
        timestamp: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        out: Mask | None = None,
        dtype: str = "float32",
        clock: Callable[[str], None] | None = None,
        format: str | None = None,
    ) -> Mask:
        """Return the mask of a frame: the probability of "person" per pixel.

        frame: uint8 (H, W, 3), or (3H/2, W) where the format is "nv12" or "yuv420". timestamp:
        seconds, any origin, needed by a smoother. size: (height, width) of the mask when it is not
        the frame's: a camera's small stream gives the mask of its large one. out: a buffer of that
        size and dtype to write into. dtype: "float32" (0..1) or "uint8" (0..255). clock: called
        with a stage's name when that stage ends (used by `bench`). format: of this frame, where it
        is not the segmenter's.

        Raises FrameError (a frame that is not one), BackendFailure.
        """
        if dtype not in DTYPES:
            raise FrameError(f"wanted a mask dtype in {DTYPES}, found {dtype!r}")
        tick = clock or _no_clock
        format = self.format if format is None else format
        picture, placement = pixels.prepare(frame, self.spec, format=format)
        tick("prepare")
        tensor = self._codec.encode(picture)
        tick("encode")
        answer = self.backend.infer(tensor)
        tick("infer")
        if self.smoother is None:
            mask = self._codec.decode(answer, dtype)
            tick("decode")
        else:
            mask = self._smooth(answer, picture, timestamp, dtype, tick)
        wanted = pixels.frame_size(frame, format) if size is None else _check_size(size)
        full = pixels.restore(mask, placement, self.spec, size=wanted, out=out)
        tick("restore")
        return full

    def _smooth(
        self,
        answer: np.ndarray[Any, Any],
        picture: Picture,
        timestamp: float | None,
        dtype: str,
        tick: Callable[[str], None],
    ) -> Mask:
        assert self.smoother is not None
        soft = np.asarray(self._codec.decode(answer), dtype=np.float32)
        tick("decode")
        mask: Mask = self.smoother.update(soft, picture, timestamp)
        if dtype == "uint8":
            mask = np.floor(mask * 255 + 0.5).astype(np.uint8)
        tick("smooth")
        return mask

    def stream(
        self, source: str | int | Path, *, dtype: str = "float32"
    ) -> Iterator[tuple[Picture, Mask]]:
        """Yield (frame, mask) for every frame of a source, in the segmenter's format.

        source: anything `edge_seg.camera.open_source` takes (a file, folder, list, camera index).
        Raises CameraError where the source cannot be opened.
        """
        from edge_seg.camera import open_source

        with open_source(source, format=self.format) as opened:
            for shot in opened:
                yield shot.frame, self.segment(shot.frame, shot.timestamp, dtype=dtype)

    def close(self) -> None:
        """Free the backend; may be called twice."""
        if not self._closed:
            self._closed = True
            self.backend.close()

    def __enter__(self) -> EdgeSegmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_runtime(bundle: ModelBundle, runtime: Runtime) -> tuple[Backend, Artifact]:
    """Open the artifact a runtime asks for. Raises BundleError, BackendUnavailable."""
    artifact = bundle.find(entry(runtime.backend).format, runtime.precision)
    return open_backend(runtime.backend, bundle.file(artifact), runtime.options), artifact


def open_artifact(
    bundle: ModelBundle, artifact: Artifact, *, threads: int = 1, format: str = "bgr"
) -> EdgeSegmenter:
    """Open one artifact of a bundle, whatever the board, with the backend that reads its format.

    This is how an artifact is judged. Raises BundleError, BackendUnavailable.
    """
    _check_format(format)
    readers = [name for name, row in BACKENDS.items() if row.format == artifact.format]
    if not readers:
        raise BackendUnavailable(
            f"{artifact.name}: wanted a backend for {artifact.format}, found none in this version; "
            "upgrade edge-seg"
        )
    backend = open_backend(readers[0], bundle.file(artifact), {"threads": threads})
    try:
        return EdgeSegmenter(bundle.input, bundle.output, backend=backend, format=format)
    except BundleError:
        backend.close()
        raise


def _check_format(format: str) -> None:
    if format not in pixels.FORMATS:
        raise FrameError(f"wanted a frame format in {pixels.FORMATS}, found {format!r}")


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError, OverflowError):
        height = width = 0
    most, side = pixels.MAX_FRAME_PIXELS, pixels.MAX_FRAME_SIDE
    if height < 1 or width < 1 or height * width > most or max(height, width) > side:
        raise FrameError(
            f"wanted size= as (height, width) of 1 to {most} pixels and at most {side} a side, "
            f"found {size}; correct it"
        )
    return height, width


def _no_clock(stage: str) -> None:
    """Stand in for a clock."""
