"""A stand-in of TensorRT's Python package that enforces its rules; see tests/stand_ins/README.md.

It holds no name that NVIDIA's bindings of 10.3 and of 11.4 do not both have, except those that
begin with "standin". `standin_broken` collects the rules that were broken; `standin_calls` what
was called. A plan is a line, a digest and the ONNX; an engine computes with ONNX Runtime, inside
the stream of the stand-in CUDA, on the addresses it was given.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import itertools
import threading
import weakref
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = "10.3.0"

standin_broken: list[str] = []
standin_calls: list[str] = []
standin_warns: list[str] = []  # of an engine that is loaded
standin_fail: set[str] = set()  # names of calls that shall fail as TensorRT lets them fail
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_long)


def _cuda() -> Any:
    library = ctypes.CDLL("libcudart.so.12")  # the stand-in, which a fixture loaded
    library.standin_room.restype = ctypes.c_size_t
    library.standin_room.argtypes = [ctypes.c_void_p]
    library.standin_launch.argtypes = [ctypes.c_void_p, _WORK, ctypes.c_long]
    return library


def _rule(kept: bool, text: str) -> None:
    if not kept:
        standin_broken.append(text)


def _called(name: str) -> bool:
    standin_calls.append(name)
    return name not in standin_fail


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING

    def __init__(self) -> None:
        self._made = True

    def log(self, severity: Any, msg: str) -> None:
        raise NotImplementedError


def _tell(logger: ILogger, text: str) -> None:
    logger.log(ILogger.ERROR, text)


class IProgressMonitor:
    def __init__(self) -> None:
        self._made = True

    def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
        raise NotImplementedError

    def step_complete(self, phase_name: str, step: int) -> bool:
        raise NotImplementedError

    def phase_finish(self, phase_name: str) -> None:
        raise NotImplementedError


class ITensor:
    def __init__(self, value: Any) -> None:
        self.name = value.name
        dims = value.type.tensor_type.shape.dim
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in dims)


class INetworkDefinition:
    def __init__(self) -> None:
        self._model: Any = None

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    @property
    def num_outputs(self) -> int:
        return len(self._model.graph.output)

    def get_input(self, index: int) -> ITensor:
        return ITensor(self._model.graph.input[index])

    def get_output(self, index: int) -> ITensor:
        return ITensor(self._model.graph.output[index])


class IBuilderConfig:
    def __init__(self) -> None:
        self.progress_monitor: IProgressMonitor | None = None

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        _called("set_memory_pool_limit")
        _rule(pool is MemoryPoolType.WORKSPACE and pool_size > 0, "a pool without a size")


class IHostMemory:
    """Has a buffer and no methods: Python reads it by bytes(), NVIDIA's by the buffer protocol."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def nbytes(self) -> int:
        return len(self._data)

    def __bytes__(self) -> bytes:
        return self._data


class Builder:
    def __init__(self, logger: ILogger) -> None:
        _called("Builder")
        _rule(getattr(logger, "_made", False), "a logger whose base class was not initialised")
        self.logger = logger
        self._made: list[Any] = []

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        _called("create_network")
        typed = 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        if __version__.startswith("10."):
            _rule(flags == typed, "10 chooses types itself unless the network is strongly typed")
        else:
            _rule(flags == 0, "STRONGLY_TYPED is deprecated in 11: networks always are")
        self._made.append(INetworkDefinition())
        return self._made[-1]

    def create_builder_config(self) -> IBuilderConfig:
        _called("create_builder_config")
        self._made.append(IBuilderConfig())
        return self._made[-1]

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        _rule(network in self._made and config in self._made, "another builder's network")
        _rule(network._model is not None, "a network that was not parsed")
        if not _called("build_serialized_network"):
            _tell(self.logger, "Could not find any implementation for node {ForeignNode[c]}.")
            return None
        if config.progress_monitor is not None and not _report(config.progress_monitor):
            _tell(self.logger, "The build was cancelled.")
            return None
        model = network._model.SerializeToString()
        return IHostMemory(_head(model) + model)


def _report(monitor: IProgressMonitor) -> bool:
    """Report a build, from another thread, as TensorRT may; False where it was to stop."""
    _rule(getattr(monitor, "_made", False), "a monitor whose base class was not initialised")
    alive, going = weakref.ref(monitor), [True]

    def work() -> None:
        try:
            monitor.phase_start("Building Engine", None, 2)  # type: ignore[arg-type]
            monitor.phase_start("Tactic Selection", "Building Engine", 3)
            for step in range(3):
                going[0] = going[0] and monitor.step_complete("Tactic Selection", step)
            monitor.phase_finish("Tactic Selection")
            monitor.step_complete("Building Engine", 0)
            monitor.phase_finish("Building Engine")  # before its last step, as documented
        except BaseException as error:
            _rule(False, f"an exception in a callback ends the process: {error!r}")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    _rule(alive() is not None, "the monitor died before the build")
    return going[0]


def _head(model: bytes) -> bytes:
    return f"plan {__version__} {hashlib.sha256(model).hexdigest()}\n".encode()


class IParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        _called("OnnxParser")
        self._network, self._errors = network, list[IParserError]()

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> IParserError:
        return self._errors[index]

    def parse(self, model: bytes, path: str | None = None) -> bool:
        _called("parse")
        try:
            parsed = onnx.load_from_string(model)
            onnx.checker.check_model(parsed)
            onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception as error:
            self._errors.append(IParserError(f"Failed to parse the model: {str(error)[:200]}"))
            return False
        self._network._model = parsed
        return True


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        _called("Runtime")
        _rule(getattr(logger, "_made", False), "a logger whose base class was not initialised")
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None:
        data = bytes(serialized_engine)
        head, _, model = data.partition(b"\n")
        if not _called("deserialize_cuda_engine") or head + b"\n" != _head(model):
            _tell(self.logger, "Serialization assertion stdVersionRead == kVERSION failed.")
            return None
        for text in standin_warns:
            self.logger.log(ILogger.WARNING, text)
        return ICudaEngine(self, model)


class ICudaEngine:
    def __init__(self, runtime: Runtime, model: bytes) -> None:
        self._runtime = weakref.ref(runtime)
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        ins, outs = self._session.get_inputs(), self._session.get_outputs()
        self._ends = {end.name: (end, TensorIOMode.INPUT) for end in ins}
        self._ends |= {end.name: (end, TensorIOMode.OUTPUT) for end in outs}

    @property
    def num_io_tensors(self) -> int:
        return len(self._ends)

    def get_tensor_name(self, index: int) -> str:
        return list(self._ends)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._ends[name][1] if name in self._ends else TensorIOMode.NONE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._ends[name][0].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        kinds = {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}
        return kinds[self._ends[name][0].type]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def create_execution_context(self) -> IExecutionContext | None:
        if not _called("create_execution_context"):
            _tell(self._runtime().logger, "out of memory")  # type: ignore[union-attr]
            return None
        return IExecutionContext(self)


class IExecutionContext:
    _numbers = itertools.count()
    _alive: dict[int, IExecutionContext] = {}

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = weakref.ref(engine)
        self._addresses: dict[str, int] = {}
        self._work = _WORK(self._compute)
        self._waiting = 0

    def set_tensor_address(self, name: str, memory: int) -> bool:
        taken = _called("set_tensor_address")
        engine = self._engine()
        _rule(engine is not None, "a context that outlives its engine")
        if engine is None or name not in engine._ends or not taken:
            return False
        needed = 4 * int(np.prod(engine.get_tensor_shape(name)))
        _rule(_cuda().standin_room(memory) >= needed, f"no room on the GPU for {name}")
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine = self._engine()
        _rule(
            engine is not None and engine._runtime() is not None, "an engine outlives its runtime"
        )
        if engine is None or not _called("execute_async_v3"):
            return False
        missing = set(engine._ends) - set(self._addresses)
        if missing:
            _rule(False, f"execute_async_v3 without an address for {missing}")
            return False
        _rule(stream_handle != 0, "the default stream costs a cudaDeviceSynchronize")
        self._waiting += 1
        return _cuda().standin_launch(stream_handle, self._work, 0) == 0

    def _compute(self, _: int) -> None:
        self._waiting -= 1
        engine = self._engine()
        if engine is None:
            _rule(False, "the engine was freed while work waited in the stream")
            return
        views = {}
        for name in engine._ends:
            shape = engine.get_tensor_shape(name)
            room = (ctypes.c_float * int(np.prod(shape))).from_address(self._addresses[name])
            views[name] = np.frombuffer(room, np.float32).reshape(shape)
        (eats,) = (n for n in views if engine.get_tensor_mode(n) is TensorIOMode.INPUT)
        (returns,) = (n for n in views if engine.get_tensor_mode(n) is TensorIOMode.OUTPUT)
        views[returns][...] = engine._session.run([returns], {eats: views[eats]})[0]

    def __del__(self) -> None:
        _rule(self._waiting == 0, "a context was freed while its work waited in the stream")
