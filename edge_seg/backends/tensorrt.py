"""TensorRT 10.3 to 11.4, native: an engine built on this GPU from the bundle's ONNX, and kept.

The ONNX carries its precision (Q/DQ pairs for int8), so the network is strongly typed and no
builder flag, calibrator or dynamic range is used: those are deprecated in 10 and gone in 11. An
engine fits one TensorRT version and one GPU, hence the key of its cache entry. Building takes
from seconds to minutes; `edge-seg prepare` does it ahead.

NVIDIA's documents this was written by: "TensorRT Python API Reference" of 10.3 and 11.4 (Builder,
OnnxParser, ICudaEngine, IExecutionContext, IProgressMonitor), "Migrating from TensorRT 10.x to
11.x", "Removed Python APIs and Replacements". tests/fixtures/tensorrt holds the names and
parameters of NVIDIA's own bindings of both versions; a test holds this module against them.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt

from edge_seg.backends import Progress, Tensor, check_tensor
from edge_seg.backends.cudart import Buffer, CudaRuntime, Stream
from edge_seg.backends.onnx_file import check_file
from edge_seg.cache import read_entry, write_entry
from edge_seg.errors import BackendFailure, BackendUnavailable, BundleError, OutputError
from edge_seg.spec import TensorSpec

log = logging.getLogger("edge_seg")

OLDEST = (10, 3)  # JetPack 6; before it some of the calls below have other forms
WORKSPACE = 256 << 20  # bytes of scratch memory while building and running: small networks need few
MAX_ONNX = 512 << 20
RECIPE = 1  # of the building below: a change of it must not find engines of the old one


class TensorRTBackend:
    """One engine and one execution context.

    threads: accepted, as by every backend; the GPU has its own. cache: the folder of engines; None
    keeps none. progress(message, done, total): called while an engine is built, from any thread.
    """

    library = f"tensorrt {trt.__version__}"

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        cache: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        path = Path(path)
        _check_version()
        self._lock = threading.Lock()  # a context is one inference at a time
        self._cuda = CudaRuntime()
        self._closing: list[Any] = []
        try:
            self._runtime = _made(lambda: trt.Runtime(_LOGGER))  # must outlive its engine
            self._engine = _engine(
                self._runtime, path, gpu=self._cuda.gpu(), cache=cache, progress=progress
            )
            self._prepare(path)
        except BackendFailure as failure:  # CUDA's: no memory left, a device that is lost
            self.close()
            raise BackendUnavailable(f"{path}: TensorRT cannot open it: {failure}") from failure
        except BaseException:
            self.close()
            raise

    def _prepare(self, path: Path) -> None:
        """Make what an inference needs: a context, a stream, memory at both ends."""
        eats, returns = _ends(self._engine, path)
        self.input = _spec(self._engine, eats, path)
        self.output = _spec(self._engine, returns, path)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendUnavailable(f"{path}: TensorRT has no memory for it: {_LOGGER.words()}")
        self._stream = self._keep(Stream(self._cuda))
        self._eats = self._keep(Buffer(self._cuda, self.input.shape, self.input.dtype))
        self._returns = self._keep(Buffer(self._cuda, self.output.shape, self.output.dtype))
        for name, buffer in ((eats, self._eats), (returns, self._returns)):
            if not self._context.set_tensor_address(name, buffer.address):
                raise BackendUnavailable(
                    f"{path}: TensorRT takes no memory for tensor {name!r}: {_LOGGER.words()}"
                )

    def _keep(self, thing: Any) -> Any:
        self._closing.append(thing)
        return thing

    @staticmethod
    def find_library() -> str:
        """Return the installed TensorRT and its version. Raises BackendUnavailable if too old."""
        _check_version()
        return TensorRTBackend.library

    def infer(self, tensor: Tensor) -> Tensor:
        """Run once; returns a new array. Raises FrameError, BackendFailure."""
        check_tensor(tensor, self.input)
        with self._lock:
            if self._context is None:
                raise BackendFailure(
                    "tensorrt: wanted an open backend, found it closed; open again"
                )
            np.copyto(self._eats.array, tensor)
            self._eats.send(self._stream)
            if not self._context.execute_async_v3(self._stream.handle):
                raise BackendFailure(f"tensorrt: inference failed: {_LOGGER.words()}")
            self._returns.fetch(self._stream)
            self._stream.wait()
            return np.array(self._returns.array)

    def close(self) -> None:
        """Free the context and the engine, then the memory and the stream."""
        with self._lock:
            # Work that a failed inference left behind still uses what is freed below.
            steps = [] if self._stream is None else [self._stream.wait]
            steps += [self._forget, *(thing.close for thing in reversed(self._closing))]
            self._closing = []
            for step in steps:
                try:
                    step()
                except BackendFailure as failure:  # the device is lost: nothing is left to free
                    log.debug("tensorrt: %s", failure)

    def _forget(self) -> None:
        self._context = self._engine = self._runtime = self._stream = None

    _context: Any = None
    _engine: Any = None
    _runtime: Any = None
    _stream: Any = None


class _Logger(trt.ILogger):
    """TensorRT's messages, into `logging`; its last errors, for our sentences."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: deque[str] = deque(maxlen=3)
        self.aloud = False  # its warnings too are for people

    def log(self, severity: Any, msg: str) -> None:
        """Take a message; called by TensorRT from any thread, where nothing may be raised."""
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self._errors.append(msg.strip())
        warns = self.aloud and severity == trt.ILogger.WARNING
        log.log(logging.WARNING if warns else logging.DEBUG, "tensorrt: %s", msg)

    def words(self) -> str:
        """Return the last errors and forget them."""
        told = "; ".join(self._errors) or "it does not say why"
        self._errors.clear()
        return told[:500]


# One for the process: TensorRT keeps the first it is given, longer than any object.
_LOGGER = _Logger()


class _Monitor(trt.IProgressMonitor):
    """The phases of a build, as progress. Called from TensorRT's threads, where an exception
    would end the process: it is kept, the build is cancelled, and `check` raises it after.
    """

    def __init__(self, progress: Progress) -> None:
        trt.IProgressMonitor.__init__(self)
        self._progress, self._steps = progress, dict[str, int]()
        self._lock = threading.Lock()
        self._raised: BaseException | None = None

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Take note of a phase and of how many steps it has."""
        self._steps[phase_name] = num_steps
        self._tell(phase_name, 0)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Tell of a step; False asks TensorRT to stop."""
        self._tell(phase_name, step + 1)
        return self._raised is None

    def phase_finish(self, phase_name: str) -> None:
        """Forget a phase."""
        self._steps.pop(phase_name, None)

    def _tell(self, phase: str, done: int) -> None:
        try:
            with self._lock:
                self._progress(f"building the engine: {phase}", done, self._steps.get(phase, 0))
        except BaseException as error:  # Ctrl-C among them
            self._raised = error

    def check(self) -> None:
        """Raise what `progress` raised."""
        if self._raised is not None:
            raise self._raised


def _version() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", trt.__version__)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _typing_flags() -> int:
    """Types as the ONNX says: a flag of 10, deprecated in 11, where nothing else is possible."""
    if _version() >= (11, 0):
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _check_version() -> None:
    if _version() < OLDEST:
        raise BackendUnavailable(
            f"tensorrt: wanted TensorRT {OLDEST[0]}.{OLDEST[1]} or newer, found {trt.__version__}; "
            "install JetPack 6 or later (sudo apt install nvidia-jetpack)"
        )


def _engine(
    runtime: Any, path: Path, *, gpu: str, cache: str | None, progress: Progress | None
) -> Any:
    """Return the engine of an ONNX file: the kept one, or a new one, which is then kept."""
    model = _read(path)
    facts = {
        "model": hashlib.sha256(model).hexdigest(),
        "tensorrt": str(trt.__version__),
        "gpu": gpu,
        # The operator's name stands in the file; a strongly typed network computes as it says.
        "precision": "int8" if b"QuantizeLinear" in model else "fp32",
        "recipe": RECIPE,
    }
    entry = None if cache is None else Path(cache) / "tensorrt" / _entry_name(facts)
    kept = None if entry is None else read_entry(entry, facts)
    if kept is not None:
        engine = _loaded(runtime, kept)
        if engine is not None:
            return engine
        log.warning("%s: TensorRT does not take it; it is built again", entry)
    if progress is None:  # or the first start looks like one that hangs
        log.warning(
            "%s: building an engine for %s, once; it may take minutes, and `edge-seg prepare` "
            "does it ahead",
            path,
            gpu,
        )
    check_file(path)
    plan = _build(model, path, progress)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendUnavailable(f"{path}: TensorRT cannot open what it built: {_LOGGER.words()}")
    if entry is not None:
        try:
            write_entry(entry, bytes(plan), facts, versions=("tensorrt", "recipe"))
        except OutputError as error:
            log.warning("the engine is built anew at every start: %s", error)
    return engine


def _loaded(runtime: Any, kept: bytes) -> Any:
    """Return a kept engine, None where it is refused. What it warns of is said: another GPU."""
    _LOGGER.aloud = True
    try:
        return runtime.deserialize_cuda_engine(kept)
    finally:
        _LOGGER.aloud = False


def _entry_name(facts: dict[str, Any]) -> str:
    parts = (facts["model"][:16], "trt" + facts["tensorrt"], facts["gpu"], facts["precision"])
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(parts)) + f"-{RECIPE}.engine"


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_ONNX:
            raise BackendUnavailable(f"{path}: wanted an ONNX file of up to {MAX_ONNX >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise BackendUnavailable(
            f"{path}: wanted an ONNX network, found: {error.strerror or error}"
        ) from error


def _made(make: Callable[[], Any]) -> Any:
    """Make one of TensorRT's objects: where there is no GPU its bindings raise TypeError."""
    try:
        return make()
    except (TypeError, RuntimeError) as error:
        raise BackendUnavailable(
            f"tensorrt: wanted it to start on this GPU, found: {_LOGGER.words()} ({error})"
        ) from error


def _build(model: bytes, path: Path, progress: Progress | None) -> Any:
    """Return the serialized engine. The ONNX says what is computed in which type."""
    builder = _made(lambda: trt.Builder(_LOGGER))
    network = builder.create_network(_typing_flags())
    parser = trt.OnnxParser(network, _LOGGER)
    if not parser.parse(model):
        told = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise BackendUnavailable(
            f"{path}: wanted an ONNX network TensorRT can read, found: {told[:500]}; "
            "convert the model again with --to onnx"
        )
    _check_static(network, path)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    monitor = None if progress is None else _Monitor(progress)  # must outlive the build
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if monitor is not None:
        monitor.check()
    if plan is None:
        raise BackendUnavailable(
            f"{path}: TensorRT cannot build an engine for it: {_LOGGER.words()}"
        )
    return plan


def _check_static(network: Any, path: Path) -> None:
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    for end in ends:
        if any(side < 1 for side in end.shape):
            raise BackendUnavailable(
                f"{path}: wanted static shapes, found {tuple(end.shape)} of {end.name!r}; "
                "convert the model"
            )


def _ends(engine: Any, path: Path) -> tuple[str, str]:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    eats = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    returns = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.OUTPUT]
    if len(eats) != 1 or len(returns) != 1:
        raise BackendUnavailable(
            f"{path}: wanted one input and one output, found {len(eats)} and {len(returns)}"
        )
    return eats[0], returns[0]


def _spec(engine: Any, name: str, path: Path) -> TensorSpec:
    kind = engine.get_tensor_dtype(name)
    if kind != trt.DataType.FLOAT or engine.get_tensor_location(name) != trt.TensorLocation.DEVICE:
        raise BackendUnavailable(
            f"{path}: wanted float32 tensors on the GPU, found {kind} for {name!r}; "
            "convert the model"
        )
    try:
        return TensorSpec(tuple(int(n) for n in engine.get_tensor_shape(name)), "float32", "nchw")
    except BundleError as error:
        raise BackendUnavailable(f"{path}: {error}") from error
