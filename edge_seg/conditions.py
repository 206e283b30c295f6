"""What a machine must have for its runtimes, read from files: each a sentence and its remedy.

    ok        as it should be
    missing   `blocks` names the runtimes that cannot open while it is so
    warning   it runs, but not as it could

A runtime is named "tflite", "tensorrt", "openvino NPU", "onnxruntime CUDA": backend, and device or
provider where it has one. Root "/" is this machine; any other folder a copied root file system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from edge_seg import machine
from edge_seg.board import Board, Runtime
from edge_seg.cache import cache_folder
from edge_seg.installation import UNKNOWN, Installation

OK, MISSING, WARNING = "ok", "missing", "warning"
HOT = 80.0  # degrees Celsius: a Raspberry Pi 4 and 5 begin to slow down there (documentation)
# The wheels there are (looked up in November 2026): machine -> oldest and newest Python 3.x.
LITERT = {"aarch64": (10, 14), "x86_64": (10, 14)}
TFLITE_RUNTIME = {"aarch64": (7, 11), "x86_64": (7, 11), "armv7l": (7, 11)}
OPENVINO = {"aarch64": (10, 14), "x86_64": (10, 14)}
ONNXRUNTIME = {"aarch64": (10, 14), "x86_64": (10, 14)}
BUILDING = {"tensorrt", "openvino"}  # backends that build something when they open
# The usual wheel has no CUDA on a Jetson.
JETPACK_WHEEL = "install NVIDIA's onnxruntime-gpu wheel for your JetPack"
TYPELIBS = ("Gst", "GstApp", "GstVideo")  # what edge_seg.camera.gstreamer asks gi for
GSTREAMER = "sudo apt install python3-gi gir1.2-gst-plugins-base-1.0"
OLD_NUMPY = "pip install 'numpy<2' 'opencv-python-headless<=4.11.0.86'"


def _anew(python: str, packages: str = ".", options: str = "") -> str:
    """The commands that make another environment and install into it.

    packages: pip's words; edge-seg is the dot, a checkout: an index may hold somebody else's under
    its name.
    """
    return (
        f"{python} -m venv {options}~/edge-seg && ~/edge-seg/bin/pip install {packages}"
        "  # in a checkout; elsewhere its wheel in place of the dot"
    )


SYSTEM = "--system-site-packages "
VENV = _anew("python3", options=SYSTEM)


@dataclass(frozen=True)
class Condition:
    """One thing looked at. state: "ok", "missing" or "warning". mend: a command, "" where none."""

    subject: str
    state: str
    text: str
    mend: str = ""
    blocks: frozenset[str] = frozenset()


def name_of(runtime: Runtime) -> str:
    """Return what `blocks` calls a runtime."""
    part = runtime.options.get("device") or runtime.options.get("provider") or ""
    return f"{runtime.backend} {part}".strip()


def conditions(board: Board, root: Path, installation: Installation) -> list[Condition]:
    """Look at everything a board's runtimes need. Raises nothing: what cannot be read is absent."""
    if installation.absent:
        return [_no_system(), *_heat(root)]
    wanted = {name_of(runtime) for runtime in board.runtimes}
    found = [*_python(installation)]
    for backend in dict.fromkeys(runtime.backend for runtime in board.runtimes):
        names = frozenset(n for n in wanted if n.split()[0] == backend)
        if backend in _LOOK:
            found += _LOOK[backend](board, root, installation, names)
    if board.name.startswith("raspberry-pi"):
        found += _picamera(root, installation)
    if machine.jetpack(root) is not None:
        found += _gstreamer(root, installation)
    building = {r.backend for r in board.runtimes} & BUILDING
    if root == Path("/") and building:
        found += _cache(cache_folder(), building)
    return [*found, *_heat(root)]


def _no_system() -> Condition:
    return Condition(
        "system",
        MISSING,
        "no system was found there: no Python and no libraries in its usr/ or home/",
        "name the folder that holds the system's etc, home and usr",
        frozenset({"*"}),
    )


def _python(here: Installation) -> Iterator[Condition]:
    if here.python == (0, 0):
        yield Condition(
            "Python", MISSING, "there is none", "sudo apt install python3-venv", frozenset({"*"})
        )
    elif here.python < (3, 10):
        text = f"wanted 3.10 or newer, found {here}"
        mend = "install a system with Python 3.10 or newer"
        yield Condition("Python", MISSING, text, mend, frozenset({"*"}))
    else:
        yield Condition("Python", OK, str(here))


def _wheels(package: str, there: dict[str, tuple[int, int]], here: Installation) -> str:
    """Return why pip finds no wheel of a package for this Python; "" where it does, or may."""
    if here.machine == UNKNOWN:
        return ""
    if here.machine not in there:
        return f"{package} has no wheel for {here.machine}"
    low, high = there[here.machine]
    if not low <= here.python[1] <= high:
        return f"{package} has wheels for Python 3.{low} to 3.{high}, this is 3.{here.python[1]}"
    return ""


def _another_python(
    python: str, packages: str, there: dict[str, tuple[int, int]], here: Installation
) -> str:
    """Return how to get a Python for which there are wheels; "" where no Python has any."""
    return _anew(python, packages) if here.machine in there else ""


def _installed(why: str, extra: str, there: dict[str, tuple[int, int]], here: Installation) -> str:
    """Return how an extra of ours gets here; why: what `_wheels` says against its package."""
    if why:
        return _another_python("python3.12", f'".[{extra}]"', there, here)
    return f'pip install "edge-seg[{extra}]"'


def _tflite(
    board: Board, root: Path, here: Installation, names: frozenset[str]
) -> Iterator[Condition]:
    if here.has("ai-edge-litert"):
        yield Condition("TFLite", OK, f"ai-edge-litert {here.packages['ai-edge-litert']}")
        return
    if here.has("tflite-runtime"):
        numpy = here.packages.get("numpy", "")
        text = f"tflite-runtime {here.packages['tflite-runtime']} with NumPy {numpy or '?'}"
        if numpy.split(".")[0].isdigit() and int(numpy.split(".")[0]) >= 2:
            text += ": it needs NumPy 1, imports all the same and fails when it opens a network"
            yield Condition("TFLite", MISSING, text, OLD_NUMPY, names)
        else:
            yield Condition("TFLite", OK, text)
        return
    why = _wheels("ai-edge-litert", LITERT, here)
    if not why:
        yield Condition(
            "TFLite", MISSING, "no library is installed", "pip install ai-edge-litert", names
        )
        return
    older = _wheels("tflite-runtime", TFLITE_RUNTIME, here)
    if not older:
        mend = f"pip install tflite-runtime && {OLD_NUMPY}"
        yield Condition("TFLite", MISSING, f"no library is installed; {why}", mend, names)
        return
    mend = _another_python("python3.11", ". ai-edge-litert", LITERT, here)
    mend = "install a 64-bit system" if here.machine == "armv7l" else mend
    yield Condition("TFLite", MISSING, f"no library is installed; {why}; {older}", mend, names)


def _openvino(
    board: Board, root: Path, here: Installation, names: frozenset[str]
) -> Iterator[Condition]:
    if here.has("openvino"):
        yield Condition("OpenVINO", OK, f"openvino {here.packages['openvino']}")
    else:
        why = _wheels("openvino", OPENVINO, here)
        text = f"it is not installed{'; ' + why if why else ''}"
        mend = _installed(why, "openvino", OPENVINO, here)
        yield Condition("OpenVINO", MISSING, text, mend, names)
    for device, look in (("NPU", _npu), ("GPU", _gpu)):
        blocked = frozenset(n for n in names if n.split()[-1].split(".")[0] == device)
        if blocked:
            yield from look(root, here, blocked)


def _npu(root: Path, here: Installation, names: frozenset[str]) -> Iterator[Condition]:
    """Intel's NPU: hardware, kernel driver, firmware, user driver, the right to open it."""
    driver = "install intel-driver-compiler-npu, intel-fw-npu and intel-level-zero-npu of " + (
        "github.com/intel/linux-npu-driver, then reboot"
    )
    if not _has_npu(root):
        text = "no NPU on the PCI bus (a processor without one, or it is off in the firmware setup)"
        yield Condition("NPU", MISSING, text, "", names)
    elif not (root / "dev/accel/accel0").exists():
        loaded = (root / "sys/module/intel_vpu").is_dir()
        if loaded:
            text, mend = "the driver intel_vpu gives no /dev/accel/accel0: no firmware?", driver
        else:
            text = "the kernel's driver intel_vpu is not loaded: no /dev/accel/accel0"
            mend = "sudo modprobe intel_vpu (Linux 6.8 or newer; else upgrade the kernel)"
        yield Condition("NPU", MISSING, text, mend, names)
    elif not _libraries(root, "libze_intel_npu.so*", "libze_intel_vpu.so*"):
        text = "/dev/accel/accel0 is there, Intel's driver library is not (libze_intel_npu.so)"
        yield Condition("NPU", MISSING, text, driver, names)
    else:
        yield from _right("NPU", "/dev/accel/accel0", here, names)


def _gpu(root: Path, here: Installation, names: frozenset[str]) -> Iterator[Condition]:
    nodes = sorted((root / "dev/dri").glob("renderD*"))
    if not nodes:
        yield Condition("GPU", MISSING, "no /dev/dri/renderD128", "", names)
    elif not _libraries(root, "intel-opencl/libigdrcl.so"):
        text = "Intel's compute runtime is not installed"
        yield Condition("GPU", MISSING, text, "sudo apt install intel-opencl-icd", names)
    else:
        yield from _right("GPU", f"/dev/dri/{nodes[0].name}", here, names)


def _right(
    subject: str, device: str, here: Installation, names: frozenset[str]
) -> Iterator[Condition]:
    if here.user == "root" or "render" in here.groups:
        yield Condition(subject, OK, f"{device}, and {here.user} may open it")
    else:
        text = f"{device} is there, {here.user} is not in the group render"
        mend = f"sudo usermod -aG render {here.user}, then log in again"
        yield Condition(subject, MISSING, text, mend, names)


def _has_npu(root: Path) -> bool:
    """Class 0x1200 is "processing accelerators"; 0x8086 is Intel (PCI code and ID assignment)."""
    for folder in (root / "sys/bus/pci/devices").glob("*"):
        kind, vendor = (machine.read_text(folder / name).strip() for name in ("class", "vendor"))
        if kind.startswith("0x1200") and vendor == "0x8086":
            return True
    return False


def _libraries(root: Path, *patterns: str) -> bool:
    folders = ("usr/lib", "usr/lib/*-linux-gnu", "usr/lib64", "usr/local/lib", "lib/*-linux-gnu")
    return any(next(root.glob(f"{f}/{p}"), None) for f in folders for p in patterns)


def _onnxruntime(
    board: Board, root: Path, here: Installation, names: frozenset[str]
) -> Iterator[Condition]:
    gpu = frozenset(n for n in names if n.split()[-1] in ("CUDA", "TensorRT"))
    jetson = board.name.startswith("jetson") or machine.jetpack(root) is not None
    if here.has("onnxruntime-gpu"):
        yield Condition("ONNX Runtime", OK, f"onnxruntime-gpu {here.packages['onnxruntime-gpu']}")
    elif here.has("onnxruntime"):
        yield Condition("ONNX Runtime", OK, f"onnxruntime {here.packages['onnxruntime']}")
        if gpu:
            how = JETPACK_WHEEL if jetson else "pip install onnxruntime-gpu"
            text, mend = "this onnxruntime has no CUDA", f"{how} in its place"
            yield Condition("CUDA", MISSING, text, mend, gpu)
    else:
        why = _wheels("onnxruntime", ONNXRUNTIME, here)
        text = f"it is not installed{'; ' + why if why else ''}"
        mend = _installed(why, "onnxruntime", ONNXRUNTIME, here)
        mend = JETPACK_WHEEL if gpu and jetson else mend
        yield Condition("ONNX Runtime", MISSING, text, mend, names)


def _tensorrt(
    board: Board, root: Path, here: Installation, names: frozenset[str]
) -> Iterator[Condition]:
    system = machine.jetpack(root)
    if system is None:
        if not here.has("tensorrt"):
            text = (
                "no TensorRT: this is no Jetson (no /etc/nv_tegra_release), nor is its package here"
            )
            yield Condition("TensorRT", MISSING, text, "", names)
        return
    if re.match(r"JetPack [45]", system):
        text = f"{system} has TensorRT 8: wanted 10.3 or newer"
        yield Condition("JetPack", MISSING, text, "flash JetPack 6 or newer", names)
        return
    package = _dpkg_version(root, "nvidia-jetpack")
    yield Condition("JetPack", OK, f"{system}, package nvidia-jetpack {package or 'not installed'}")
    folders = [*root.glob("usr/lib/python3*/dist-packages/tensorrt/__init__.py")]
    if not folders:
        text, mend = "the Python package is not installed", "sudo apt install nvidia-jetpack"
        yield Condition("TensorRT", MISSING, text, mend, names)
        return
    folder = f"/{folders[0].parent.parent.relative_to(root)}"
    if not here.sees_system:
        text = f"it is in {folder}, which this virtual environment does not see"
        yield Condition("TensorRT", MISSING, text, VENV, names)
        return
    built = re.search(r"python3\.(\d+)/", folder)
    if built is not None and int(built[1]) != here.python[1]:
        text = f"JetPack's package is for Python 3.{built[1]}, this is 3.{here.python[1]}"
        mend = _anew(f"python3.{built[1]}", options=SYSTEM)
        yield Condition("TensorRT", MISSING, text, mend, names)
        return
    if not _cuda(root):
        text, mend = "CUDA's libcudart is not installed", "sudo apt install nvidia-jetpack"
        yield Condition("CUDA", MISSING, text, mend, names)
        return
    yield Condition("TensorRT", OK, f"in {folder}")


def _cuda(root: Path) -> bool:
    return any(
        next(root.glob(p), None)
        for p in (
            "usr/local/cuda*/lib64/libcudart.so*",
            "usr/local/cuda*/targets/*/lib/libcudart.so*",
        )
    ) or _libraries(root, "libcudart.so*")


def _dpkg_version(root: Path, package: str) -> str:
    """Return an installed Debian package's version, "" where it is not installed."""
    try:
        with open(root / "var/lib/dpkg/status", encoding="utf-8", errors="replace") as file:
            paragraph = ""
            for line in file:
                paragraph = (paragraph + line)[-4096:] if line.strip() else ""
                if line.startswith("Version:") and f"Package: {package}\n" in paragraph:
                    installed = "Status: install ok installed\n" in paragraph
                    return line.split(":", 1)[1].strip() if installed else ""
    except OSError:
        pass
    return ""


def _picamera(root: Path, here: Installation) -> Iterator[Condition]:
    packages = root / "usr/lib/python3/dist-packages"
    if not (packages / "picamera2").is_dir() or not (packages / "libcamera").is_dir():
        text, mend = "picamera2 is not installed", "sudo apt install python3-picamera2"
        yield Condition("camera", WARNING, text, mend)
    elif not here.sees_system:
        text = "picamera2 and libcamera are apt's, and this virtual environment does not see them"
        yield Condition("camera", WARNING, text, VENV)
    else:
        yield Condition("camera", OK, "picamera2 and libcamera")


def _gstreamer(root: Path, here: Installation) -> Iterator[Condition]:
    """What csi:// and rtsp:// need of a Jetson. OpenCV takes no part, however it was built."""
    bindings = root / "usr/lib/python3/dist-packages/gi"
    built = [path.name for path in bindings.glob("_gi.cpython-*.so")]
    ours = f"_gi.cpython-{here.python[0]}{here.python[1]}-"
    lacking = [n for n in TYPELIBS if not _libraries(root, f"girepository-1.0/{n}-1.0.typelib")]
    own = here.has("pygobject") and not here.sees_system  # pip's, in the environment itself
    text, mend = "", GSTREAMER
    if not own and not bindings.is_dir():
        text = "python3-gi is not installed: no csi:// and no rtsp://"
    elif not own and not here.sees_system:
        text, mend = "python3-gi is apt's, and this virtual environment does not see it", VENV
    elif not own and built and not any(name.startswith(ours) for name in built):
        text = f"python3-gi is not for Python {here.python[0]}.{here.python[1]}: {built[0]}"
        mend = f"/usr/bin/{VENV}"
    elif lacking:
        text = f"GStreamer's descriptions for Python are not installed: {', '.join(lacking)}"
    elif not _libraries(root, "gstreamer-1.0/libgstnvarguscamerasrc.so"):
        text = "NVIDIA's camera plugin is not installed (libgstnvarguscamerasrc.so): no csi://"
        mend = "sudo apt install nvidia-l4t-gstreamer nvidia-l4t-camera"
    if text:
        yield Condition("camera", WARNING, text, mend)
    else:
        yield Condition("camera", OK, "GStreamer's Python bindings, and NVIDIA's camera plugin")


def _cache(folder: Path, backends: Iterable[str]) -> Iterator[Condition]:
    """Where engines and compiled networks are kept: can it be written, if need be made?

    One that cannot is in order where it holds what these backends built: an image's.
    """
    # Not Path.exists, nor its glob: they raise where a folder above may not be looked into.
    there = next(f for f in (folder, *folder.absolute().parents) if os.path.exists(f))
    if os.path.isdir(there) and os.access(there, os.W_OK | os.X_OK):
        yield Condition("cache", OK, f"{folder} can be written")
    elif count := sum(len(glob("*", root_dir=folder / backend)) for backend in backends):
        entries = "1 prepared entry" if count == 1 else f"{count} prepared entries"
        yield Condition("cache", OK, f"{folder} is read-only and holds {entries}")
    else:
        text = f"{folder} cannot be written: what is not there is built anew at every start"
        mend = "edge-seg prepare --cache DIR, and set EDGE_SEG_CACHE=DIR where it runs"
        yield Condition("cache", WARNING, text, mend)


def _heat(root: Path) -> Iterator[Condition]:
    hot, said, slow = machine.temperature(root), machine.throttled(root), machine.slowed(root)
    if said is not None and said != "no":
        now = " now" in said
        text = f"the firmware says: {said}"
        mend = "a 5 V power supply of the board's own kind, a heat sink, a fan"
        yield Condition("power and heat", WARNING if now else OK, text, mend if now else "")
    if slow:
        text = f"slowed down now by heat: {', '.join(slow)}"
        yield Condition("heat", WARNING, text, "a heat sink, a fan")
    elif hot is not None and hot >= HOT:
        yield Condition("heat", WARNING, f"{hot:.0f} degrees Celsius", "a heat sink, a fan")
    elif hot is not None:
        yield Condition("heat", OK, f"{hot:.0f} degrees Celsius")


_LOOK = {
    "tflite": _tflite,
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
}
