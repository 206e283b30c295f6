"""ONNX Runtime, on one explicit execution provider: CPU, CUDA or TensorRT.

Artifacts are NCHW. ONNX Runtime itself falls back to the CPU in silence, twice: for a provider
whose libraries do not load, and for single operators. Both are refused here: the providers of the
session are read back, and operators may not be left to the CPU. Files are checked before it opens
them (onnx_file.py), and what it takes of the processor's memory is bounded; a GPU's is not.
Documents: onnxruntime.ai, "Execution Providers"; onnxruntime_session_options_config_keys.h;
"Share allocator(s) between sessions" in its C API's notes.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge_seg.backends import Tensor, check_tensor
from edge_seg.backends.onnx_file import check_file
from edge_seg.errors import BackendFailure, BackendUnavailable, BundleError
from edge_seg.spec import TensorSpec

MAX_MEMORY = 2 << 30  # bytes of all sessions together: far above a network for a small board
FLOAT = "tensor(float)"  # int8 networks too begin and end in it: their scales lie in the graph
PROVIDERS = {
    "CPU": "CPUExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "TensorRT": "TensorrtExecutionProvider",
}
HOW = {
    "CPU": "reinstall onnxruntime",
    "CUDA": "install onnxruntime-gpu (a Jetson: NVIDIA's wheel for your JetPack) in its place",
    "TensorRT": "install onnxruntime-gpu and TensorRT (a Jetson: NVIDIA's wheel for your JetPack)",
}


class OnnxRuntimeBackend:
    """One session.

    threads: CPU threads, 1 or more. provider: "CPU", "CUDA" or "TensorRT"; never another one
    instead. cache: a folder for the engines of TensorRT; the others build nothing.
    """

    library = f"onnxruntime {ort.__version__}"

    def __init__(
        self, path: Path, *, threads: int = 1, provider: str = "CPU", cache: str | None = None
    ) -> None:
        wanted = _present(provider)
        _check_form(path)
        _bound_memory()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only: warnings about unused initializers are noise
        options.add_session_config_entry("session.use_env_allocators", "1")  # the bounded one
        options.add_session_config_entry("session.load_model_format", "ONNX")  # as was checked
        settings: dict[str, str] = {}
        if provider != "CPU":
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if provider == "TensorRT" and cache is not None:
            kept = Path(cache) / "onnxruntime-tensorrt"
            settings = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(kept)}
        try:
            session = ort.InferenceSession(
                str(path), options, providers=[(wanted, settings)], enable_fallback=False
            )
        except Exception as error:  # ORT raises its own classes, derived from Exception directly
            _check_left(str(error), provider)
            raise BackendUnavailable(f"{path}: ONNX Runtime cannot open it: {error}") from error
        _check_used(session.get_providers(), provider)
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
            hint = (
                f"; wanted up to {MAX_MEMORY >> 20} MB in all: convert for a smaller picture"
                if "Available memory of" in str(error)
                else ""
            )
            raise BackendFailure(f"onnxruntime: inference failed: {error}{hint}") from error

    def close(self) -> None:
        """Free the session. What tensors took stays with the process, for the next session."""
        self._session = None


def _check_form(path: Path) -> None:
    try:
        check_file(path)
    except OSError as error:
        raise BackendUnavailable(
            f"{path}: wanted to read an ONNX file, found: {error.strerror or error}"
        ) from error


@functools.cache
def _bound_memory() -> None:
    """Have ONNX Runtime share one bounded allocator among the sessions that ask for it: ours.

    It bounds each run, and since some version after 1.18 the folding of constants as well.
    """
    kind = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    info = ort.OrtMemoryInfo("Cpu", kind, 0, ort.OrtMemType.DEFAULT)
    # 1.18 refuses a second one: then the application has chosen its own.
    with contextlib.suppress(RuntimeError):
        ort.create_and_register_allocator(info, ort.OrtArenaCfg({"max_mem": MAX_MEMORY}))


def _present(provider: object) -> str:
    """Return ORT's name of a provider that is compiled in."""
    if not isinstance(provider, str) or provider not in PROVIDERS:
        raise BackendUnavailable(
            f"onnxruntime: wanted one provider, {', '.join(PROVIDERS)}, found {provider!r:.60}"
        )
    here = ort.get_available_providers()
    if PROVIDERS[provider] not in here:
        names = [name for name, its in PROVIDERS.items() if its in here]
        raise BackendUnavailable(
            f"onnxruntime: wanted provider {provider}, this build has {', '.join(names)}; "
            f"{HOW[provider]}"
        )
    return PROVIDERS[provider]


def _check_left(said: str, provider: str) -> None:
    """Word what ORT says where it would have left the network, or a part of it, to the CPU."""
    if (
        "fallback to CPU EP" in said
        or "provider_bridge" in said
        or "libraries as mentioned" in said
    ):
        raise BackendUnavailable(
            f"onnxruntime: wanted all of the network on {provider}, found that a part or all of it "
            f"would run on the CPU (the lines above say which library is missing); {HOW[provider]}"
        )


def _check_used(used: list[str], provider: str) -> None:
    """The CPU is always listed, last; what stands first is what runs."""
    if used[:1] != [PROVIDERS[provider]]:
        raise BackendUnavailable(
            f"onnxruntime: wanted provider {provider}, found that it would run on "
            f"{', '.join(used) or 'none'}: its libraries do not load; {HOW[provider]}"
        )


def _only(ends: list[Any], path: Path) -> TensorSpec:
    if len(ends) != 1:
        raise BackendUnavailable(f"{path}: wanted one input and one output, found {len(ends)}")
    end = ends[0]
    if end.type != FLOAT or not all(isinstance(n, int) for n in end.shape):
        raise BackendUnavailable(
            f"{path}: wanted a static float tensor, found {end.type} {end.shape}; convert the model"
        )
    try:
        return TensorSpec(shape=tuple(end.shape), dtype="float32", layout="nchw")
    except BundleError as error:
        raise BackendUnavailable(f"{path}: {error}") from error
