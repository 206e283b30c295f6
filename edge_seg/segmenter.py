"""EdgeSegmenter: a frame in, a mask out, in one straight line.

    prepare -> encode -> infer -> decode -> (smooth) -> (edges) -> restore
    prepare -> (carry) -------------------> (edges) -> restore     a frame left out (cadence)

`open` walks the board's runtimes in order, turns every refusal into a sentence, says aloud when
it did not get its first choice, and raises one error with all of them when nothing works
(edge_seg/opening.py). A runtime that fails later gives way to the next in the same manner
(edge_seg/supervision.py).
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NoReturn, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_seg import contours, formats, pixels, settings
from edge_seg.arrays import Picture, Soft
from edge_seg.backends import Backend
from edge_seg.board import Board, Runtime
from edge_seg.board import resolve as resolve_board
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.choices import Choice
from edge_seg.counters import Counters, Latency
from edge_seg.engine import Engine, Tick
from edge_seg.errors import FrameError, MaskLate, SettingError
from edge_seg.opening import load_bundle, open_engine, supervised
from edge_seg.pixels import Mask
from edge_seg.smoothing import DEFAULT, Guiding, Smoother, checked_answer, resolve
from edge_seg.supervision import Policy, Supervisor
from edge_seg.timestamps import checked_time

if TYPE_CHECKING:
    from edge_seg.cadence import Cadence
    from edge_seg.camera import Shot, Source

log = logging.getLogger("edge_seg")
# All there are, and what is held while one is added or they are looked through.
_segmenters: weakref.WeakSet[EdgeSegmenter] = weakref.WeakSet()
_census = threading.RLock()


class EdgeSegmenter:
    """A network on a board, ready for frames.

    One thread at a time: `segment` refuses a second one; two segmenters do not disturb each other.
    Use `EdgeSegmenter.open`, or `EdgeSegmenter.on` for a backend that is already open.

    latency: how long calls of `segment` took, those whose mask was late included
    (edge_seg.counters.Latency). bundle, board: what it was opened with, or None (`on`). format: of
    the frames, as `open` takes it. spec: of the picture the network takes (InputSpec).
    """

    def __init__(
        self,
        engines: Supervisor,
        *,
        format: str = "bgr",
        smoother: Smoother | str | None = None,
        edges: bool = False,
        board: Board | None = None,
        bundle: ModelBundle | None = None,
    ) -> None:
        formats.check_format(format)
        self.format = format
        self._cadence: Cadence | None = None
        self.smoother = smoother
        self.edges = edges
        self._shape: tuple[int, ...] = ()  # of the last frame
        # Reentrant: a Ctrl-C between taking it and `try` must not shut its own thread out for good.
        self._turn = threading.RLock()
        self.board = board
        self.bundle = bundle
        self.latency = Latency()
        self._engines = engines
        self._engine = engines.engine
        self.spec = self._engine.spec
        with _census:
            _segmenters.add(self)

    @classmethod
    def open(
        cls,
        bundle: str | Path | ModelBundle | None = None,
        *,
        board: str | Path | Board = "auto",
        format: str = "bgr",
        threads: int | None = None,
        smoother: Smoother | str | None = DEFAULT,
        edges: bool = True,
        policy: Policy | None = None,
        cache: str | Path | None = None,
    ) -> EdgeSegmenter:
        """Open a bundle with the first of the board's runtimes that works here.

        bundle: a directory, the name of a network that ships ("portrait-lite"), a loaded
        ModelBundle, or None for the default network.
        board: a name or alias, a path to a board.toml, a Board, or "auto" (detect).
        format: of the frames you will pass: "bgr", "rgb", "nv12" or "yuv420".
        threads: overrides the runtime's number of threads.
        smoother: "default" (smoothing.Steady), None (off) or a Smoother of this segmenter's own,
        since it remembers one camera's masks. Only frames with a timestamp are smoothed: unrelated
        pictures have none.
        edges: bring the mask to the picture's contours where the network's output is coarser than
        its input (edge_seg.contours); False enlarges it as it is.
        policy: when to give a runtime up (supervision.Policy); None: retry failures once, find
        frozen outputs, wait for as long as a call takes.
        cache: the folder of what is built for this machine (see `edge-seg prepare`).

        Raises BundleError, UnknownBoard, SettingError for a wrong format, number of threads,
        smoother, edges or policy, and BackendUnavailable listing every refusal.

        >>> segmenter = EdgeSegmenter.open("my-bundle", board="rpi5")     # doctest: +SKIP
        """
        formats.check_format(format)
        _check_own(smoother := resolve(smoother))  # refused before a device is taken
        edges, threads = settings.checked_edges(edges), settings.checked_threads(threads)
        settings.check_policy(policy)
        loaded = bundle if isinstance(bundle, ModelBundle) else load_bundle(bundle)
        chosen = resolve_board(board)
        engines = supervised(loaded, chosen, threads=threads, policy=policy, cache=cache)
        segmenter = cls(
            engines, format=format, smoother=smoother, edges=edges, board=chosen, bundle=loaded
        )
        if segmenter.degraded:
            told = (chosen.name, segmenter.runtime, segmenter.reason)
            log.warning("%s: running on %s, because %s", *told)
        return segmenter

    @classmethod
    def on(
        cls, engine: Engine, *, format: str = "bgr", smoother: Smoother | str | None = None
    ) -> EdgeSegmenter:
        """Return a segmenter on one open engine, which it owns; nothing else takes its place.

        smoother: as in `open`, but off unless one is given. `edges` is off too; set it to True for
        masks as `open` makes them.

        Raises BackendUnavailable where the engine fails its first call.
        """
        _check_own(smoother := resolve(smoother))
        alone = Policy(retries=0, stuck=0)
        only = Choice(str(engine.runtime or "engine"), lambda: engine)
        return cls(Supervisor([only], alone), format=format, smoother=smoother)

    @property
    def smoother(self) -> Smoother | None:
        """What smooths the masks of frames with a timestamp, or None.

        Set it to what `open` takes. Raises SettingError for anything else, and for a smoother that
        another open segmenter has.
        """
        return self._smoother

    @smoother.setter
    def smoother(self, smoother: Smoother | str | None) -> None:
        _check_own(found := resolve(smoother), self)
        self._smoother = found
        self._guiding = found if isinstance(found, Guiding) else None

    @property
    def edges(self) -> bool:
        """Whether masks are brought to the picture's contours.

        Raises SettingError when set to anything but True or False.
        """
        return self._edges

    @edges.setter
    def edges(self, edges: bool) -> None:
        self._edges = settings.checked_edges(edges)

    @property
    def cadence(self) -> Cadence | None:
        """The Cadence or Budget by which the network skips frames with a timestamp, or None (off).

        One of this segmenter's own, as the smoother. Raises SettingError when set to anything else.
        """
        return self._cadence

    @cadence.setter
    def cadence(self, cadence: Cadence | None) -> None:
        settings.check_cadence(cadence)
        _check_own(cadence, self)
        self._cadence = cadence

    @property
    def runtime(self) -> Runtime | None:
        """The runtime in use; while none works, that of the last mask. None: opened without one."""
        return self._engine.runtime

    @property
    def artifact(self) -> Artifact | None:
        """The artifact in use, None as `runtime`."""
        return self._engine.artifact

    @property
    def backend(self) -> Backend:
        """The backend in use."""
        return self._engine.backend

    @property
    def degraded(self) -> bool:
        """True where the board's first runtime was refused or given up; `reason` says why."""
        return self._engines.degraded

    @property
    def reason(self) -> str:
        """Why the runtime is not the board's first; "" where it is."""
        return self._engines.reason

    @property
    def counters(self) -> Counters:
        """How often each thing went wrong since opening (edge_seg.counters.Counters)."""
        return self._engines.counters

    @overload
    def segment(
        self,
        frame: Picture,
        timestamp: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        out: Mask | None = None,
        dtype: Literal["float32"] | type[np.float32] = "float32",
        clock: Callable[[str], None] | None = None,
        format: str | None = None,
    ) -> Soft: ...

    @overload
    def segment(
        self,
        frame: Picture,
        timestamp: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        out: Mask | None = None,
        dtype: Literal["uint8"] | type[np.uint8],
        clock: Callable[[str], None] | None = None,
        format: str | None = None,
    ) -> NDArray[np.uint8]: ...

    @overload
    def segment(
        self,
        frame: Picture,
        timestamp: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        out: Mask | None = None,
        dtype: DTypeLike,
        clock: Callable[[str], None] | None = None,
        format: str | None = None,
    ) -> Mask: ...

    def segment(
        self,
        frame: Picture,
        timestamp: float | None = None,
        *,
        size: tuple[int, int] | None = None,
        out: Mask | None = None,
        dtype: DTypeLike = "float32",
        clock: Callable[[str], None] | None = None,
        format: str | None = None,
    ) -> Mask:
        """Return the mask of a frame: the probability of "person" per pixel, (H, W), a new array.

        frame: uint8 (H, W, 3), or (3H/2, W) where the format is "nv12" or "yuv420".
        timestamp: seconds, any origin; without one the frame stands alone and is not smoothed.
        size: (height, width) of the mask where it is not to be the frame's, as when the frame is a
        camera's small stream and the mask is for its large one.
        out: a contiguous buffer of the mask's size and dtype to write into; it is returned.
        dtype: "float32" (0..1) or "uint8" (0..255), or NumPy's np.float32 or np.uint8.
        clock: called with the name of each stage as it ends (used by `bench`).
        format: of this frame, where it is not the segmenter's.

        Raises FrameError: a frame, time or buffer of the wrong form, or a call while another
        thread's still runs. SettingError: a wrong size, dtype or format. BackendFailure: no runtime
        of the board works (a later call tries again), or the segmenter is closed. MaskLate, a
        BackendFailure: no mask within the deadline; go on with the next frame.
        """
        if not self._turn.acquire(False):  # at once, never waiting
            raise FrameError(
                "wanted one thread at a time, found a second one while a frame is segmented: one "
                "segmenter serves one thread at a time; open one per camera, or take a lock"
            )
        try:
            when, name = checked_time(timestamp), settings.dtype_name(dtype)
            return self._segment(frame, when, size, out, name, clock, format)
        finally:
            self._turn.release()

    def _segment(
        self,
        frame: Picture,
        timestamp: float | None,
        size: tuple[int, int] | None,
        out: Mask | None,
        dtype: str,
        clock: Tick | None,
        format: str | None,
    ) -> Mask:
        """Make the mask, and tell those who count how long it took."""
        began = time.perf_counter()
        tick = clock or _no_clock
        format = self.format if format is None else format
        wanted = formats.frame_size(frame, format) if size is None else formats.checked_size(size)
        if out is not None:
            pixels.check_out(out, np.dtype(dtype), wanted)
        picture, placement = pixels.prepare(frame, self.spec, format=format)
        tick("prepare")
        self._follow(frame, timestamp)
        try:
            mask = self._mask(picture, placement, timestamp, dtype, tick)
        except MaskLate:
            self.latency.add(time.perf_counter() - began)  # the caller waited for it all the same
            raise
        full = pixels.restore(mask, placement, self.spec, size=wanted, out=out)
        tick("restore")
        seconds = time.perf_counter() - began
        self.latency.add(seconds)
        if self.cadence is not None and timestamp is not None:
            self.cadence.spent(seconds)
        return full

    def _follow(self, frame: Picture, timestamp: float | None) -> None:
        """Forget what does not belong to this frame any more."""
        if timestamp is None or frame.shape != self._shape:
            self._forget()  # a frame of its own, or of another camera
        self._shape = frame.shape

    def _changed(self, engine: Engine) -> None:
        self._engine = engine
        self._forget()  # it may have an output of another size

    def _forget(self) -> None:
        for kept in (self.smoother, self.cadence):
            if kept is not None:
                kept.reset()

    def _mask(
        self,
        picture: Picture,
        placement: pixels.Placement,
        timestamp: float | None,
        dtype: str,
        tick: Tick,
    ) -> Mask:
        """Infer or carry, smooth and refine; without these steps no float mask is made."""
        if timestamp is not None and (carried := self._carried(picture, timestamp)) is not None:
            tick("carry")
            return self._refined(*carried, placement, dtype, tick)
        engine, answer = self._engines.run(picture, tick)
        if engine is not self._engine:
            self._changed(engine)
        if not self._needs_floats(picture, timestamp):
            plain = self._engine.decode(answer, dtype)
            tick("decode")
            return plain
        soft, guide = np.asarray(self._engine.decode(answer), dtype=np.float32), picture
        tick("decode")
        if timestamp is not None:
            soft, guide = self._smoothed(soft, picture, timestamp, tick)
        return self._refined(soft, guide, placement, dtype, tick)

    def _needs_floats(self, picture: Picture, timestamp: float | None) -> bool:
        """True where the mask is smoothed, kept to be carried, or refined."""
        follows = timestamp is not None and (self.smoother is not None or self.cadence is not None)
        return follows or self._refines(self._engine.backend.output.size, picture)

    def _carried(self, picture: Picture, timestamp: float) -> tuple[Soft, Picture] | None:
        """The last mask, moved, and the picture to draw contours by; None: the network's turn."""
        cadence = self.cadence
        if cadence is None or self._engines.closed or cadence.due(picture, timestamp):
            return None
        soft = cadence.carry(picture)
        if self._guiding is not None and self._refines(soft.shape, picture):
            return soft, self._guiding.between(picture, timestamp)
        return soft, picture

    def _smoothed(
        self, soft: Soft, picture: Picture, timestamp: float, tick: Tick
    ) -> tuple[Soft, Picture]:
        """The mask as a smoother has it, and the picture to draw contours by."""
        guide = picture
        if self.smoother is not None:
            soft = checked_answer(self.smoother.update(soft, picture, timestamp), soft)
            if self._guiding is not None and self._refines(soft.shape, picture):
                guide = self._guiding.steadied(picture)
            tick("smooth")
        if self.cadence is not None:
            self.cadence.keep(soft, picture, timestamp)
        return soft, guide

    def _refines(self, size: tuple[int, ...], picture: Picture) -> bool:
        return self.edges and contours.is_coarse(size, picture)

    def _refined(
        self, soft: Soft, guide: Picture, placement: pixels.Placement, dtype: str, tick: Tick
    ) -> Mask:
        if self._refines(soft.shape, guide):
            fine = contours.refine(soft, guide, frame_at=astuple(placement))
            mask: Mask = fine if dtype == "uint8" else fine * np.float32(1 / 255)
            tick("edges")
            return mask
        return np.floor(soft * 255 + 0.5).astype(np.uint8) if dtype == "uint8" else soft

    @overload
    def stream(
        self,
        source: str | int | Path | Source,
        *,
        drop: str = "oldest",
        dtype: Literal["float32"] | type[np.float32] = "float32",
    ) -> Iterator[tuple[Picture, Soft]]: ...

    @overload
    def stream(
        self,
        source: str | int | Path | Source,
        *,
        drop: str = "oldest",
        dtype: Literal["uint8"] | type[np.uint8],
    ) -> Iterator[tuple[Picture, NDArray[np.uint8]]]: ...

    @overload
    def stream(
        self, source: str | int | Path | Source, *, drop: str = "oldest", dtype: DTypeLike
    ) -> Iterator[tuple[Picture, Mask]]: ...

    def stream(
        self,
        source: str | int | Path | Source,
        *,
        drop: str = "oldest",
        dtype: DTypeLike = "float32",
    ) -> Iterator[tuple[Picture, Mask]]:
        """Yield (frame, mask) for every frame of a source, in the segmenter's format.

        source: anything `edge_seg.camera.open_source` takes, or what it returned: that stays open
        afterwards, and what was said there (rotate=, mirror=, fps=, policy=) holds instead of drop.
        drop: what becomes of a camera's frames while the network works: "oldest" keeps the newest
        only, "none" makes the camera wait. dtype: of the masks, as in `segment`.

        Where the camera gives a second, small stream, that is what the network sees; the mask has
        the size of the frame. A folder or list of unrelated pictures is not smoothed; those that
        cannot be read are left out, with a line in the log (`Source.unread`). With a
        deadline (Policy), frames whose mask was late are left out and counted (`counters.lost`).
        Raises, with the first frame: CameraError where the source cannot be opened, or
        none of its pictures read; then CameraLost, BackendFailure.
        """
        from edge_seg.camera import LivePolicy, Source, open_source

        with ExitStack() as stack:
            if not isinstance(source, Source):
                policy, lores = LivePolicy(drop=drop), self.spec.squeezed
                source = stack.enter_context(
                    open_source(source, format=self.format, lores=lores, policy=policy)
                )
            for shot in source:
                try:
                    mask = self.segment_shot(shot, source, dtype=dtype)
                except MaskLate:
                    continue
                yield shot.frame, mask

    @overload
    def segment_shot(
        self,
        shot: Shot,
        source: Source,
        *,
        dtype: Literal["float32"] | type[np.float32] = "float32",
        timed: bool | None = None,
    ) -> Soft: ...

    @overload
    def segment_shot(
        self,
        shot: Shot,
        source: Source,
        *,
        dtype: Literal["uint8"] | type[np.uint8],
        timed: bool | None = None,
    ) -> NDArray[np.uint8]: ...

    @overload
    def segment_shot(
        self, shot: Shot, source: Source, *, dtype: DTypeLike, timed: bool | None = None
    ) -> Mask: ...

    def segment_shot(
        self,
        shot: Shot,
        source: Source,
        *,
        dtype: DTypeLike = "float32",
        timed: bool | None = None,
    ) -> Mask:
        """Return the mask, at the frame's size, of a shot that `source` handed out.

        timed: whether consecutive shots belong together; None: what the source says (`moving`).
        Where the shot has a small twin (`lores`), the network sees that one, unless it is squeezed
        and the network wants proportions kept ("letterbox"). Raises FrameError for None (no frame
        came in time) and for what is no shot or no source, else what `segment` raises.
        """
        _check_shot(shot, source)
        when = shot.timestamp if (source.moving if timed is None else timed) else None
        size = formats.frame_size(shot.frame, source.format)
        if shot.lores is None or not self._accepts(shot.lores, size, source.lores_format):
            return self.segment(shot.frame, when, dtype=dtype, format=source.format)
        return self.segment(shot.lores, when, size=size, dtype=dtype, format=source.lores_format)

    def _accepts(self, lores: Picture, size: tuple[int, int], format: str) -> bool:
        """True where a small twin shows a frame of `size` in the proportions the network wants."""
        height, width = formats.frame_size(lores, format)
        # Even sides: up to 2 px off each.
        kept = abs(height * size[1] - width * size[0]) <= 2 * max(size)
        return self.spec.squeezed is not None or kept

    def close(self) -> None:
        """Free the backend; may be called twice, from any thread and from a signal's handler.

        Waits two seconds at most for another thread's call.
        """
        self._engines.close()

    def __reduce__(self) -> NoReturn:
        """Raise TypeError, as Python does for what cannot be pickled or copied."""
        raise TypeError(
            "wanted a segmenter where it was opened, found it pickled or copied: it holds a "
            "device; pass on what EdgeSegmenter.open takes, and open one in each process, one per "
            "camera"
        )

    def __enter__(self) -> EdgeSegmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_artifact(
    bundle: ModelBundle, artifact: Artifact, *, threads: int = 1, format: str = "bgr"
) -> EdgeSegmenter:
    """Open one artifact of a bundle, whatever the board, with the first installed library for it.

    This is how an artifact is judged: the network alone, `smoother` and `edges` off. What its
    library builds is not kept.
    Raises BundleError, BackendUnavailable.
    """
    formats.check_format(format)
    engine = open_engine(bundle, artifact, threads=threads)
    return EdgeSegmenter.on(engine, format=format)


def _check_own(memory: Smoother | Cadence | None, segmenter: EdgeSegmenter | None = None) -> None:
    """Raise SettingError where another open segmenter has what remembers one camera's masks."""
    if memory is None:
        return
    with _census:
        others = [s for s in _segmenters if s is not segmenter and not s._engines.closed]
    if any(memory is other._smoother or memory is other._cadence for other in others):
        raise SettingError(
            f"wanted a {type(memory).__name__} of this segmenter's own, found one that another "
            "open segmenter has: it remembers one camera's masks; make one for each"
        )


def _check_shot(shot: object, source: object) -> None:
    from edge_seg.camera import Shot, Source

    if shot is None:
        raise FrameError(
            "wanted a shot that the source handed out, found None: no frame came in time; "
            "read again, until source.ended"
        )
    if not isinstance(shot, Shot):
        raise FrameError(
            f"wanted a shot that the source handed out, found {type(shot).__name__}; for a frame "
            "of your own call segment()"
        )
    if not isinstance(source, Source):
        raise FrameError(
            f"wanted the Source that handed the shot out, found {type(source).__name__}; pass what "
            "open_source returned"
        )


def _no_clock(stage: str) -> None:
    """Stand in for a clock."""
