"""OpenVINO on one explicit device: CPU, GPU or NPU. Never AUTO, which falls back in silence.

Artifacts are IR (an .xml and, beside it, a .bin of the same stem), NCHW, of static shapes. Where
the picture's form is known, taking pixels apart and scaling them is compiled into the network. The
device that really runs is read back after compiling. What compiling made is kept in entries of
ours, not through CACHE_DIR: OpenVINO runs a cached network with a turned bit in it, and answers
nonsense. Documents: docs.openvino.ai, "Inference Devices and Modes", "NPU Device", "Model Caching".
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Importing openvino reports that over the network and writes an id into the user's home, unless
# the package that does so cannot be imported. A camera must do neither.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino.preprocess import PrePostProcessor  # noqa: E402

from edge_seg.backends import Progress, Tensor, check_tensor  # noqa: E402
from edge_seg.cache import read_entry, write_entry  # noqa: E402
from edge_seg.errors import (  # noqa: E402
    BackendFailure,
    BackendUnavailable,
    BundleError,
    OutputError,
)
from edge_seg.spec import InputSpec, TensorSpec  # noqa: E402

log = logging.getLogger("edge_seg")
DEVICE = re.compile(r"(CPU|GPU|NPU)(\.\d+)?")
PIECE = 1 << 20  # bytes read at once of a file that is hashed
MAX_XML = 32 << 20  # bytes; a network for small boards has well under 2 MB of it
HINTS = {
    "NPU": "install Intel's NPU driver (linux-npu-driver) and join the group render",
    "GPU": "install Intel's compute runtime (intel-opencl-icd) and join the group render",
    "CPU": "reinstall openvino",
}
VENDOR = (RuntimeError, ValueError, TypeError, MemoryError, OSError)  # what its calls may raise
# A layer of constants, as IR version 11 writes it: where its bytes lie in the .bin.
CONSTANT = re.compile(rb'<data\b[^>]*?\boffset="(\d+)"[^>]*?\bsize="(\d+)"')


class OpenVINOBackend:
    """One compiled network.

    threads: CPU threads, 1 or more (a GPU or NPU ignores it). device: "CPU", "GPU", "GPU.1",
    "NPU". picture: what the network sees; `infer` then takes its uint8 pixels (1, H, W, 3), else
    float32 (1, 3, H, W). cache: a folder for what compiling made, so that the next start is quick;
    None keeps nothing. progress(message, done, total): called when compiling starts, of unknown
    length.
    On the CPU it computes in float32, or in the int8 of the artifact: never in bfloat16.
    """

    library = f"openvino {ov.__version__.split('-')[0]}"

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        device: str = "CPU",
        cache: str | None = None,
        progress: Progress | None = None,
        picture: InputSpec | None = None,
    ) -> None:
        path = Path(path)
        _check_device(device)
        _check_files(path)
        try:
            core = _core()
            _check_present(core, device)
            wanted = _Wanted(core, path, device, _settings(device, threads), picture)
            compiled = wanted.compiled(progress) if cache is None else wanted.kept(cache, progress)
            _check_used(compiled, device)
            self.input = _only(compiled.inputs, path, pixels=picture is not None)
            self.output = _only(compiled.outputs, path)
            self._request: Any = compiled.create_infer_request()
            self._input_memory: Any = _input_memory(self._request)
        except BackendUnavailable:
            raise
        except VENDOR as error:  # a driver that fails at any of its calls
            raise BackendUnavailable(
                f"{path}: wanted it open on {device}, found: {_first(error)}; {_hint(device)}"
            ) from error
        self._lock = threading.Lock()  # a request is one inference at a time

    @staticmethod
    def find_library() -> str:
        """Return the installed OpenVINO and its version."""
        return OpenVINOBackend.library

    def infer(self, tensor: Tensor) -> Tensor:
        """Run once; returns a new array. Raises FrameError, BackendFailure."""
        check_tensor(tensor, self.input)
        with self._lock:
            if self._request is None:
                raise BackendFailure(
                    "openvino: wanted an open backend, found it closed; open again"
                )
            try:
                self._input_memory[...] = tensor
                self._request.infer()
                return np.array(self._request.get_output_tensor().data)
            except VENDOR as error:
                raise BackendFailure(f"openvino: inference failed: {_first(error)}") from error

    def close(self) -> None:
        """Free the request and with it the compiled network."""
        with self._lock:
            self._request = self._input_memory = None


@functools.cache
def _core() -> Any:
    """One Core for the process: making one loads plugins, 30 ms."""
    return ov.Core()


def _check_device(device: object) -> None:
    if not isinstance(device, str) or not DEVICE.fullmatch(device):
        raise BackendUnavailable(
            f"openvino: wanted one device, CPU, GPU or NPU, found {device!r:.40}; AUTO, MULTI and "
            "HETERO fall back without a word"
        )


def _check_present(core: Any, device: str) -> None:
    devices = list(core.available_devices)
    kind, _, number = device.partition(".")
    # One GPU is listed as "GPU" and answers to "GPU.0" as well.
    if device in devices or (number == "0" and kind in devices):
        return
    # Several are listed as "GPU.0", "GPU.1"; "GPU" is then the first of them.
    if not number and any(name.split(".")[0] == kind for name in devices):
        return
    raise BackendUnavailable(
        f"openvino: wanted device {device}, found {', '.join(devices) or 'none'}; {_hint(device)}"
    )


def _hint(device: str) -> str:
    return HINTS[device.split(".")[0]]


def _settings(device: str, threads: int) -> dict[str, Any]:
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        # Where the processor has AMX the default is bfloat16: other masks on other machines.
        settings |= {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return settings


@dataclass(frozen=True)
class _Wanted:
    """A network to be compiled for a device, or found as it was compiled before."""

    core: Any
    path: Path
    device: str
    settings: dict[str, Any]
    picture: InputSpec | None

    def compiled(self, progress: Progress | None) -> Any:
        """Compile it."""
        if progress is not None:
            progress(f"compiling for {self.device}", 0, 0)
        try:
            network = _network(self.core, self.path, self.picture)
            return self.core.compile_model(network, self.device, self.settings)
        except BackendUnavailable:
            raise
        # Of a damaged file it quotes names in its messages: where they are no UTF-8, making the
        # exception fails in its turn, with a UnicodeDecodeError (a ValueError).
        except (RuntimeError, ValueError, TypeError) as error:
            raise BackendUnavailable(
                f"{self.path}: OpenVINO cannot open it: {_first(error)}"
            ) from error

    def kept(self, cache: str, progress: Progress | None) -> Any:
        """Return it from the cache; compile it and keep it where it is not there."""
        facts = self._facts()
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        entry = Path(cache) / "openvino" / f"{facts['model'][:16]}-{self.device}-{key}.compiled"
        data = read_entry(entry, facts)
        if data is not None:
            try:
                return self.core.import_model(io.BytesIO(data), self.device, self.settings)
            except RuntimeError as error:
                log.warning("%s: not taken (%s); it is compiled again", entry, _first(error))
        compiled = self.compiled(progress)
        _keep(compiled, entry, facts)
        return compiled

    def _facts(self) -> dict[str, Any]:
        """What must be true of an entry. Of content, not of paths: a bundle may be copied."""
        able = self.core.get_property(self.device, "OPTIMIZATION_CAPABILITIES")
        return {
            "model": _digest(self.path, self.path.with_suffix(".bin")),
            "openvino": str(ov.__version__),
            "device": self.device,
            "name": str(self.core.get_property(self.device, "FULL_DEVICE_NAME")),
            "able": sorted(str(word) for word in able),
            "settings": {key: str(value) for key, value in self.settings.items()},
            "picture": None if self.picture is None else self.picture.to_dict(),
        }


def _digest(*paths: Path) -> str:
    """Return the sha256 of files one after the other, without holding them."""
    known = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while piece := file.read(PIECE):
                known.update(piece)
    return known.hexdigest()


def _keep(compiled: Any, entry: Path, facts: dict[str, Any]) -> None:
    try:
        made = compiled.export_model()
    except RuntimeError as error:  # a device that cannot: nothing is lost but time
        log.debug("openvino: nothing to keep: %s", _first(error))
        return
    try:
        data = made if isinstance(made, bytes) else made.getvalue()
        write_entry(entry, data, facts, versions=("openvino",))
    except OutputError as error:
        log.warning("the network is compiled anew at every start: %s", error)


def _network(core: Any, path: Path, picture: InputSpec | None) -> Any:
    """Return the network of static shapes; one that takes pixels where the picture is known."""
    network = core.read_model(path)
    for end in (*network.inputs, *network.outputs):
        if end.partial_shape.is_dynamic:
            raise BackendUnavailable(
                f"{path}: wanted static shapes, found {end.partial_shape}; convert the model"
            )
    if picture is None or len(network.inputs) != 1:
        return network
    end = network.inputs[0]
    kind, shape = end.element_type.get_type_name(), tuple(end.shape)
    if kind != "f32" or len(shape) != 4 or shape[1] != 3:
        raise BackendUnavailable(
            f"{path}: wanted an input of f32 (1, 3, height, width), found {kind} {shape}; convert "
            "the model again"
        )
    return _on_pixels(network, picture)


def _on_pixels(network: Any, picture: InputSpec) -> Any:
    """Put (v / 255 - mean) / std and the planes before a network of float32 (1, 3, H, W).

    Its input becomes uint8 (1, H, W, 3). For `portrait` in int8 on one core with AVX2 the call
    then takes 0.97 of its time, and nothing is left to do before it (which took 0.06 of it).
    """
    steps = PrePostProcessor(network)
    end = steps.input()
    end.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    end.model().set_layout(ov.Layout("NCHW"))
    floats = end.preprocess().convert_element_type(ov.Type.f32)
    floats.mean([255 * v for v in picture.mean]).scale([255 * v for v in picture.std])
    return steps.build()


def _input_memory(request: Any) -> Tensor:
    """Return the memory a request reads its input from, for good.

    Copying into it takes less than handing over other memory with each call: for `portrait` in
    int8, on one core with AVX-512 VNNI, the call takes 1.62 ms in place of 1.67.
    """
    end = request.get_compiled_model().input()
    tensor = ov.Tensor(end.element_type, end.shape)
    request.set_input_tensor(tensor)
    return np.asarray(tensor.data)


def _check_used(compiled: Any, device: str) -> None:
    # On the CPU it answers "(CPU)" in some versions.
    runs_on = [str(d).strip("()") for d in compiled.get_property("EXECUTION_DEVICES")]
    if len(runs_on) != 1 or not _same(runs_on[0], device):
        raise BackendUnavailable(
            f"openvino: wanted device {device}, found that it would run on {', '.join(runs_on)}"
        )


def _same(used: str, asked: str) -> bool:
    """True for the device asked for: "GPU" is any number of its kind, "GPU.1" is no "GPU.0"."""
    kind, _, number = asked.partition(".")
    its_kind, _, its_number = used.partition(".")
    told = kind == "GPU" and number and its_number  # an NPU is followed by its model: "NPU.3720"
    return kind == its_kind and (not told or number == its_number)


def _check_files(path: Path) -> None:
    """Refuse what is no IR, and constants that would be read from beyond the .bin's end."""
    text = _xml(path)
    weights = path.with_suffix(".bin")
    try:
        room = weights.stat().st_size
    except OSError as error:
        raise BackendUnavailable(
            f"{path}: wanted its weights beside it, {weights.name}, found: {error.strerror}"
        ) from error
    for offset, size in CONSTANT.findall(text):
        if len(offset) > 12 or len(size) > 12 or int(offset) + int(size) > room:
            raise BackendUnavailable(
                f"{weights}: wanted weights up to byte {int(offset[:12]) + int(size[:12])}, found "
                f"{room} bytes (truncated?); copy the bundle again"
            )


def _xml(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_XML:
            raise BackendUnavailable(f"{path}: wanted an IR of up to {MAX_XML >> 20} MB of XML")
        text = path.read_bytes()
    except OSError as error:
        raise BackendUnavailable(
            f"{path}: wanted an OpenVINO network, found: {error.strerror}"
        ) from error
    if not text.lstrip().startswith(b"<?xml") or b"<net " not in text[:4096] or b"<!" in text:
        raise BackendUnavailable(f"{path}: wanted an OpenVINO network, found something else")
    if not text.rstrip().endswith(b"</net>"):
        raise BackendUnavailable(f"{path}: wanted a whole OpenVINO network, found it cut off")
    return text


def _only(ends: list[Any], path: Path, *, pixels: bool = False) -> TensorSpec:
    if len(ends) != 1:
        raise BackendUnavailable(f"{path}: wanted one input and one output, found {len(ends)}")
    end = ends[0]
    kind, layout = end.element_type.to_dtype().name, "nhwc" if pixels else "nchw"
    try:
        return TensorSpec(tuple(int(n) for n in end.shape), kind, layout, pixels=pixels)
    except BundleError as error:
        raise BackendUnavailable(f"{path}: {error}") from error


def _first(error: BaseException) -> str:
    """The line of OpenVINO's message that says something: not where in its sources it was said."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Exception from")]
    return (told or lines or [type(error).__name__])[0][:300]
