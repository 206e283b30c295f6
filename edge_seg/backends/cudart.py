"""CUDA's runtime library through ctypes: the eleven calls that TensorRT leaves to its caller.

ctypes and not cuda-python: libcudart comes with every CUDA, JetPack's included, and these calls
have kept their form through CUDA 11, 12 and 13, while cuda-python must match CUDA's version and
is not part of JetPack. Document: "CUDA Runtime API" (NVIDIA), modules "Device Management",
"Stream Management", "Memory Management"; the numbers below are of its enumerations.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import BackendFailure, BackendUnavailable

# The first that loads. A plain name is looked up by the loader: LD_LIBRARY_PATH, ld.so.conf. The
# name without a number comes with CUDA's -dev package alone.
NAMES = ("libcudart.so.12", "libcudart.so.13", "libcudart.so")
FOLDERS = ("", "/usr/local/cuda/lib64/", "/usr/local/cuda/lib/")
LIBRARIES = tuple(folder + name for folder in FOLDERS for name in NAMES)
TO_DEVICE, TO_HOST = 1, 2  # enum cudaMemcpyKind
# enum cudaDeviceAttr: of the compute capability, cudaDevAttrMultiProcessorCount
MAJOR, MINOR, MULTIPROCESSORS = 75, 76, 16
NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the legacy default stream
# cudaDeviceProp differs between versions and is about 1 KB; its first member always is the name.
PROPERTIES_BYTES, NAME_BYTES = 16384, 256

_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (POINTER(c_int),),
    "cudaGetDeviceProperties": (c_void_p, c_int),
    "cudaDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cudaStreamCreateWithFlags": (POINTER(c_void_p), c_uint),
    "cudaStreamSynchronize": (c_void_p,),
    "cudaStreamDestroy": (c_void_p,),
    "cudaMalloc": (POINTER(c_void_p), c_size_t),
    "cudaFree": (c_void_p,),
    "cudaHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cudaFreeHost": (c_void_p,),
    "cudaMemcpyAsync": (c_void_p, c_void_p, c_size_t, c_int, c_void_p),
}


class CudaRuntime:
    """The loaded library. Every call that does not return cudaSuccess raises BackendFailure.

    Raises BackendUnavailable where the library, a driver or a GPU is missing. The GPU is number 0
    of those CUDA_VISIBLE_DEVICES lets through.
    """

    def __init__(self) -> None:
        self._library = _load()
        self._library.cudaGetErrorString.restype = c_char_p
        self._library.cudaGetErrorString.argtypes = [c_int]
        for name, arguments in _PROTOTYPES.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = c_int, list(arguments)
        count = c_int()
        try:
            self.call("cudaGetDeviceCount", byref(count))
        except BackendFailure as failure:
            raise BackendUnavailable(
                f"tensorrt: wanted an NVIDIA GPU, found none that CUDA can use ({failure}); on a "
                "Jetson run as a user of the group video; in a container use --runtime nvidia"
            ) from failure
        if count.value < 1:
            raise BackendUnavailable(
                "tensorrt: wanted an NVIDIA GPU, CUDA found none; in a container use "
                "--runtime nvidia, and see CUDA_VISIBLE_DEVICES"
            )

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library; BackendFailure with CUDA's own words if it fails."""
        code = getattr(self._library, name)(*arguments)
        if code != 0:
            words = self._library.cudaGetErrorString(code) or b"unknown error"
            raise BackendFailure(f"{name} failed: {words.decode(errors='replace')} ({code})")

    def gpu(self) -> str:
        """Return the GPU's name, compute capability and multiprocessors: "Orin sm_87 8 SM".

        All modules of a family have one name and capability, an Orin Nano and an AGX Orin too. Not
        the memory: on a Jetson a system's update changes what is left of it.
        """
        properties = ctypes.create_string_buffer(PROPERTIES_BYTES)
        self.call("cudaGetDeviceProperties", properties, 0)
        name = properties.raw[:NAME_BYTES].split(b"\0")[0].decode(errors="replace")
        major, minor, count = map(self._attribute, (MAJOR, MINOR, MULTIPROCESSORS))
        return f"{name} sm_{major}{minor} {count} SM"

    def _attribute(self, number: int) -> int:
        value = c_int()
        self.call("cudaDeviceGetAttribute", byref(value), number, 0)
        return value.value


class Stream:
    """Work on the GPU in the order it was given. handle: a cudaStream_t as an integer."""

    def __init__(self, cuda: CudaRuntime) -> None:
        self._cuda = cuda
        made = c_void_p()
        cuda.call("cudaStreamCreateWithFlags", byref(made), NON_BLOCKING)
        self.handle = int(made.value or 0)

    def wait(self) -> None:
        """Return when all work given so far is done."""
        self._cuda.call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        """Free the stream."""
        self._cuda.call("cudaStreamDestroy", self.handle)


class Buffer:
    """One tensor on the GPU and its twin in page-locked memory, which copies need to be async.

    address: on the GPU. array: the twin, a NumPy array of that shape and dtype.
    """

    def __init__(self, cuda: CudaRuntime, shape: tuple[int, ...], dtype: str) -> None:
        self._cuda = cuda
        self._bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        device, host = c_void_p(), c_void_p()
        cuda.call("cudaMalloc", byref(device), self._bytes)
        try:
            cuda.call("cudaHostAlloc", byref(host), self._bytes, 0)
        except BackendFailure:
            cuda.call("cudaFree", device)
            raise
        self.address, self._host = int(device.value or 0), int(host.value or 0)
        twin = (ctypes.c_ubyte * self._bytes).from_address(self._host)
        self.array: NDArray[Any] = np.frombuffer(memoryview(twin), dtype=dtype).reshape(shape)

    def send(self, stream: Stream) -> None:
        """Copy the twin to the GPU, in the stream's order."""
        self._copy(self.address, self._host, TO_DEVICE, stream)

    def fetch(self, stream: Stream) -> None:
        """Copy the GPU's tensor to the twin, in the stream's order: read it after `wait`."""
        self._copy(self._host, self.address, TO_HOST, stream)

    def _copy(self, to: int, source: int, kind: int, stream: Stream) -> None:
        self._cuda.call("cudaMemcpyAsync", to, source, self._bytes, kind, stream.handle)

    def close(self) -> None:
        """Free both."""
        self.array = np.empty(0)
        self._cuda.call("cudaFree", self.address)
        self._cuda.call("cudaFreeHost", self._host)


def _load() -> Any:
    tried = []
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            tried.append(str(error))
    raise BackendUnavailable(
        f"tensorrt: wanted CUDA's runtime library, found none ({tried[0]}); "
        "sudo apt install nvidia-jetpack, or add its folder to LD_LIBRARY_PATH"
    )
