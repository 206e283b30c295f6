"""TFLite through LiteRT (ai-edge-litert), or tflite-runtime where that is installed instead.

Artifacts are NHWC. XNNPACK, the library's CPU kernels, is what both wheels use by default.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from edge_seg.backends import Tensor, check_tensor
from edge_seg.backends.tflite_file import check_file
from edge_seg.errors import BackendFailure, BackendUnavailable
from edge_seg.spec import TensorSpec

MAX_MEMORY = 2 << 30  # bytes of all tensors together: far above a network for a small board


def load_interpreter() -> tuple[Any, str]:
    """Return (Interpreter class, "library version") of the library that is installed here."""
    try:
        from ai_edge_litert import __version__ as version
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter, f"ai-edge-litert {version}"
    except ImportError as first:
        try:
            import tflite_runtime
            from tflite_runtime.interpreter import Interpreter

            return Interpreter, f"tflite-runtime {tflite_runtime.__version__}"
        except ImportError:
            raise BackendUnavailable(
                f"tflite: wanted a TFLite library, found none ({first}); "
                "pip install ai-edge-litert (64-bit) or tflite-runtime with numpy<2 (32-bit Pi OS)"
            ) from first


class TFLiteBackend:
    """One interpreter. threads: CPU threads of the library, 1 or more."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        make, self.library = load_interpreter()
        self._lock = threading.Lock()  # the interpreter is not thread-safe (tensorflow#26365)
        self._interpreter, eats, returns = _open(make, Path(path), threads)
        self.input, self.output = _spec(eats, path), _spec(returns, path)
        self._in, self._out = eats["index"], returns["index"]

    @staticmethod
    def find_library() -> str:
        """Return the installed TFLite library and its version. Raises BackendUnavailable."""
        return load_interpreter()[1]

    def infer(self, tensor: Tensor) -> Tensor:
        """Run once; returns a new array. Raises FrameError, BackendFailure."""
        check_tensor(tensor, self.input)
        with self._lock:
            if self._interpreter is None:
                raise BackendFailure("tflite: wanted an open backend, found it closed; open again")
            try:
                self._interpreter.set_tensor(self._in, tensor)
                self._interpreter.invoke()
                return np.asarray(self._interpreter.get_tensor(self._out))
            except (RuntimeError, ValueError, MemoryError) as error:
                raise BackendFailure(f"tflite: inference failed: {error}") from error

    def close(self) -> None:
        """Free the interpreter."""
        with self._lock:
            self._interpreter = None


def _open(make: Any, path: Path, threads: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return an interpreter ready to run, and what it says of its input and its output."""
    try:
        check_file(path)
        interpreter = make(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()  # memory is claimed here, and taken in the first run
        _check_memory(interpreter, path)
        return interpreter, *_single(interpreter, path)
    except (ValueError, RuntimeError, OSError, SystemError, MemoryError) as error:
        if isinstance(error, BackendUnavailable):
            raise
        # NumPy 2 beside tflite-runtime imports and fails here with SystemError (_ARRAY_API).
        hint = (
            "; tflite-runtime needs numpy<2: pip install 'numpy<2', or ai-edge-litert instead"
            if isinstance(error, SystemError) or "_ARRAY_API" in str(error)
            else "; the artifact is damaged or uses an operator this library lacks: convert again"
        )
        raise BackendUnavailable(f"{path}: TFLite cannot open it: {error}{hint}") from error


def _check_memory(interpreter: Any, path: Path) -> None:
    """Refuse what would fill a board's memory: sizes as the operators computed them."""
    claimed = sum(
        np.dtype(detail["dtype"]).itemsize * math.prod(int(n) for n in detail["shape"])
        for detail in interpreter.get_tensor_details()
    )
    if claimed > MAX_MEMORY:
        raise BackendUnavailable(
            f"{path}: wanted tensors of up to {MAX_MEMORY >> 20} MB in all, found "
            f"{claimed >> 20} MB; convert a network for a smaller picture"
        )


def _single(interpreter: Any, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    ins, outs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(ins) != 1 or len(outs) != 1:
        raise BackendUnavailable(
            f"{path}: wanted one input and one output, found {len(ins)} and {len(outs)}"
        )
    return ins[0], outs[0]


def _spec(detail: dict[str, Any], path: Path) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    try:
        return TensorSpec(
            shape=tuple(int(n) for n in detail["shape"]),
            dtype=np.dtype(detail["dtype"]).name,
            layout="nhwc",
            scale=float(scale),
            zero_point=int(zero_point),
        )
    except ValueError as error:
        raise BackendUnavailable(f"{path}: {error}") from error
