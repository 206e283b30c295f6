"""A backend is a library driven by us, behind one verb.

    input, output : TensorSpec      what it eats and returns
    library : str                   "library version", as `find_library` says it
    infer(tensor) -> tensor         a new array, never a view that the next call overwrites
    close()                         may be called twice

`BACKENDS` is a literal table; a vendor package is imported only by the module named after it,
and only when opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import BackendUnavailable, FrameError
from edge_seg.spec import InputSpec, TensorSpec

Tensor = NDArray[np.generic]
Progress = Callable[[str, int, int], None]  # message, done, total; a total of 0 is an unknown one
MAX_THREADS = 256  # far above any board; a wrong number must not start thousands


class Backend(Protocol):
    """One opened artifact. Constructed as `Class(path, **options)`.

    The constructor raises BackendUnavailable (the library, or the artifact, cannot be used here;
    an artifact that is wrong or corrupt names its path). `infer` raises BackendFailure.
    `find_library` returns "library version", or raises BackendUnavailable with what to install.
    """

    input: TensorSpec
    output: TensorSpec
    library: str

    @staticmethod
    def find_library() -> str:
        """Name the library that is installed here."""
        ...

    def infer(self, tensor: Tensor) -> Tensor:
        """Run the network once."""
        ...

    def close(self) -> None:
        """Free what the library holds."""
        ...


@dataclass(frozen=True)
class BackendEntry:
    """One row of the table: where the class is, what it reads, how to get its library."""

    module: str
    name: str
    format: str
    install: str


BACKENDS: Mapping[str, BackendEntry] = {
    "tflite": BackendEntry(
        "edge_seg.backends.tflite", "TFLiteBackend", "tflite", "pip install ai-edge-litert"
    ),
    "onnxruntime": BackendEntry(
        "edge_seg.backends.onnxruntime",
        "OnnxRuntimeBackend",
        "onnx",
        'pip install "edge-seg[onnxruntime]"',
    ),
    "openvino": BackendEntry(
        "edge_seg.backends.openvino",
        "OpenVINOBackend",
        "openvino",
        'pip install "edge-seg[openvino]"',
    ),
    "tensorrt": BackendEntry(
        "edge_seg.backends.tensorrt",
        "TensorRTBackend",
        "onnx",
        "sudo apt install nvidia-jetpack (then a venv made with --system-site-packages)",
    ),
    "fake": BackendEntry("edge_seg.backends.fake", "FakeBackend", "fake", "nothing"),
}


def entry(name: str) -> BackendEntry:
    """Return the table's row, or raise BackendUnavailable naming the backends there are."""
    if name not in BACKENDS:
        raise BackendUnavailable(
            f"wanted backend {name!r}, found only {', '.join(BACKENDS)} in this version"
        )
    return BACKENDS[name]


def load_class(name: str) -> Any:
    """Import a backend's module and return its class; BackendUnavailable says what to install."""
    row = entry(name)
    try:
        return getattr(import_module(row.module), row.name)
    except ImportError as error:
        raise BackendUnavailable(
            f"backend {name}: wanted its library, found: {error}; install it with: {row.install}"
        ) from error


def readers(format: str) -> list[str]:
    """Return the backends that read an artifact format, in the table's order.

    Two may read the same: ONNX Runtime and TensorRT both read "onnx".
    """
    return [name for name, row in BACKENDS.items() if row.format == format]


def find_library(name: str) -> str:
    """Return "library version" of a backend's installed library, opening nothing.

    Raises BackendUnavailable with what to install.
    """
    return str(load_class(name).find_library())


def open_backend(
    name: str,
    path: Path,
    options: Mapping[str, Any] | None = None,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    picture: InputSpec | None = None,
) -> Backend:
    """Open an artifact with a backend.

    name: of `BACKENDS` ("tflite"). path: the artifact's first file. options: keyword arguments of
    the backend's class, such as threads.
    cache: where a backend that builds something keeps it, unless its options name a folder; None
    keeps nothing. progress(message, done, total): told of what is built. picture: the bundle's; a
    backend that can then takes pixels (`TensorSpec.pixels`). Others ignore these three.
    Raises BackendUnavailable with one sentence.
    """
    make, given = load_class(name), dict(options or {})
    takes = signature(make)
    for word, value in (("cache", cache), ("progress", progress), ("picture", picture)):
        if value is not None and word in takes.parameters:
            given.setdefault(word, str(value) if word == "cache" else value)
    try:
        takes.bind(path, **given)
    except TypeError as error:  # a board file's options come from outside
        raise BackendUnavailable(
            f"backend {name}: wanted options it has ({', '.join(takes.parameters)}), "
            f"found {dict(options or {})}: {error}; correct the board file"
        ) from error
    threads = given.get("threads", 1)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS:
        raise BackendUnavailable(
            f"backend {name}: wanted threads as a number of 1..{MAX_THREADS}, found {threads!r:.40}"
        )
    backend: Backend = make(path, **given)
    return backend


def check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    """Raise FrameError naming both forms where a tensor is not what the backend eats."""
    if tensor.shape != spec.shape or tensor.dtype != spec.dtype:
        raise FrameError(
            f"wanted a tensor of {spec.dtype} {spec.shape}, found {tensor.dtype} {tensor.shape}"
        )
