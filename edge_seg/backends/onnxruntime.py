"""ONNX Runtime, on one explicit execution provider: the float reference.

Artifacts are NCHW. A provider that is not there is refused, never silently replaced by the CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge_seg.backends import Tensor, check_tensor
from edge_seg.errors import BackendFailure, BackendUnavailable, BundleError
from edge_seg.spec import TensorSpec

DTYPES = {"tensor(float)": "float32", "tensor(int8)": "int8", "tensor(uint8)": "uint8"}


class OnnxRuntimeBackend:
    """One session. provider: an ONNX Runtime execution provider by name; threads: 1 or more."""

    library = f"onnxruntime {ort.__version__}"

    def __init__(
        self, path: Path, *, threads: int = 1, provider: str = "CPUExecutionProvider"
    ) -> None:
        if provider not in ort.get_available_providers():
            raise BackendUnavailable(
                f"onnxruntime: wanted {provider}, found {', '.join(ort.get_available_providers())}"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: warnings about unused initializers are noise
        try:
            session = ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # ORT raises its own classes, derived from Exception directly
            raise BackendUnavailable(f"{path}: ONNX Runtime cannot open it: {error}") from error
        self._session: Any = session
        self.input = _only(session.get_inputs(), path)
        self.output = _only(session.get_outputs(), path)
        self._name = session.get_inputs()[0].name

    @staticmethod
    def find_library() -> str:
        """Return the installed ONNX Runtime and its version."""
        return OnnxRuntimeBackend.library

    def infer(self, tensor: Tensor) -> Tensor:
        """Run once; returns a new array. Raises FrameError, BackendFailure."""
        check_tensor(tensor, self.input)
        session = self._session
        if session is None:
            raise BackendFailure("onnxruntime: wanted an open backend, found it closed; open again")
        try:
            return np.asarray(session.run(None, {self._name: tensor})[0])
        except Exception as error:  # as above
            raise BackendFailure(f"onnxruntime: inference failed: {error}") from error

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _only(ends: list[Any], path: Path) -> TensorSpec:
    if len(ends) != 1:
        raise BackendUnavailable(f"{path}: wanted one input and one output, found {len(ends)}")
    end = ends[0]
    if end.type not in DTYPES or not all(isinstance(n, int) for n in end.shape):
        raise BackendUnavailable(
            f"{path}: wanted a static float tensor, found {end.type} {end.shape}; convert the model"
        )
    try:
        return TensorSpec(shape=tuple(end.shape), dtype=DTYPES[end.type], layout="nchw")
    except BundleError as error:
        raise BackendUnavailable(f"{path}: {error}") from error
