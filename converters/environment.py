"""Tools in environments of their own: their pins clash with everything else of ours.

`python(progress, tool)` returns the interpreter of a virtual environment under the cache folder
(EDGE_SEG_CACHE, default ~/.cache/edge-seg), made on first use in under a minute and reused while
the pins are the same. Two processes do not make it at once; a half-made one is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_seg.backends import Progress
from edge_seg.cache import cache_folder
from edge_seg.converters.words import last_lines
from edge_seg.errors import ConversionError, OutputError


@dataclass(frozen=True)
class Tool:
    """What lives in one environment. pins: all of it, installed with --no-deps. check: Python
    that imports what will be used, run once.
    """

    name: str
    pins: tuple[str, ...]
    check: str

    @property
    def version(self) -> str:
        """The version of the tool itself."""
        return next(pin for pin in self.pins if pin.startswith(f"{self.name}==")).partition("==")[2]


# What `onnx2tf -tb flatbuffer_direct` imports, and no more (no TensorFlow, no torch). Installed
# with --no-deps --ignore-requires-python: its own pins ask for Python 3.12 and for packages it
# does not use here. Run on Python 3.10, 3.11, 3.12 and 3.13.
ONNX2TF = Tool(
    "onnx2tf",
    (
        "onnx2tf==2.6.9",
        "onnx==1.23.2",
        "onnxsim==0.6.5",
        "onnxoptimizer==0.4.2",
        "sne4onnx==2.0.1",
        "sng4onnx==2.0.1",
        "ai-edge-litert==2.3.0; python_version >= '3.11'",
        "ai-edge-litert==2.1.2; python_version < '3.11'",
        "numpy==2.4.6; python_version >= '3.11'",
        "numpy==2.2.6; python_version < '3.11'",
        "ml_dtypes==0.6.0; python_version >= '3.11'",
        "ml_dtypes==0.5.4; python_version < '3.11'",
        "protobuf==7.36.2",
        "flatbuffers==25.12.19",
        "typing_extensions==4.16.0",
        "psutil==7.2.2",
        "tqdm==4.70.1",
    ),
    "import onnx2tf; from onnx2tf import main",
)
# paddle2onnx 2 reads PaddlePaddle 3's programs, and links against PaddlePaddle for it: 200 MB to
# fetch, 860 MB on the disk. Of the two packages' requirements, what `import` needs and no more
# (paddle2onnx asks for onnx <= 1.17). Neither has a wheel of both for Python 3.13.
PADDLE2ONNX = Tool(
    "paddle2onnx",
    (
        "paddlepaddle==3.3.1",
        "paddle2onnx==2.1.0",
        "numpy==2.4.6; python_version >= '3.11'",
        "numpy==2.2.6; python_version < '3.11'",
        "protobuf==7.36.2",
        "httpx==0.28.1",
        "idna==3.20",
        "opt_einsum==3.3.0",
        "packaging==26.3",
        "pillow==13.0.0",
        "safetensors==0.8.0",
        "setuptools==84.2.1",
        "typing_extensions==4.16.0",
    ),
    "import paddle2onnx.paddle2onnx_cpp2py_export",
)
MARKER = "complete"
PIP_SECONDS = 600
LOCK_SECONDS = 900


def python(progress: Progress, tool: Tool) -> Path:
    """Return the interpreter of a tool's environment, making the environment where it is missing.

    progress(message, done, total) is called per step. Raises ConversionError with the last lines
    of pip where that fails (no network, a full disk).
    """
    digest = hashlib.sha256("\n".join([*tool.pins, sys.version]).encode()).hexdigest()
    folder = cache_folder() / f"{tool.name}-{digest[:12]}"
    if _complete(folder, digest):
        return interpreter(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock"), tool, progress):
            if not _complete(folder, digest):  # another process may have made it meanwhile
                _make(folder, tool, progress)
                (folder / MARKER).write_text(digest)
    except OSError as error:
        raise ConversionError(
            f"{folder}: wanted to set up {tool.name} there, found: {error.strerror or error}; "
            "free space, or name another folder in EDGE_SEG_CACHE"
        ) from error
    return interpreter(folder)


def interpreter(folder: Path) -> Path:
    """Return where an environment has its Python."""
    return folder / "bin" / "python"


def _complete(folder: Path, digest: str) -> bool:
    """Tell whether the environment was made whole; a virtual environment cannot be renamed."""
    try:
        made = (folder / MARKER).read_text() == digest
    except OSError:
        return False
    return made and interpreter(folder).exists()


@contextlib.contextmanager
def _locked(path: Path, tool: Tool, progress: Progress) -> Iterator[None]:
    """Hold a lock file; wait for another process that holds it, up to LOCK_SECONDS."""
    with open(path, "w") as file:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ConversionError(
                        f"{path}: wanted to set up {tool.name}, found another process doing so for "
                        f"{LOCK_SECONDS} s; end it, or name another folder in EDGE_SEG_CACHE"
                    ) from None
                progress(f"waiting for another process that sets up {tool.name}", 0, 0)
                time.sleep(1.0)
        yield


def _make(folder: Path, tool: Tool, progress: Progress) -> None:
    total = len(tool.pins) + 2
    what = f"setting up {tool.name} (once)"
    progress(f"{what}: environment", 0, total)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
    except (subprocess.CalledProcessError, SystemExit) as error:
        raise ConversionError(
            f"{folder}: wanted a virtual environment for {tool.name}, found that this Python "
            f"cannot make one ({error}); install its venv module (Debian: apt install "
            "python3-venv), or free space on that disk"
        ) from error
    python = str(interpreter(folder))
    pip = [python, "-m", "pip", "install", "--no-deps", "--ignore-requires-python"]
    quiet = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    for done, pin in enumerate(tool.pins, start=1):
        progress(f"{what}: {pin.partition('=')[0]}", done, total)
        _run([*pip, *quiet, pin], f"install {pin.partition(';')[0]}", PIP_SECONDS)
    progress(f"{what}: trying it", total - 1, total)
    _run([python, "-c", tool.check], f"start {tool.name}", PIP_SECONDS)
    progress(f"{what}: done", total, total)


def _run(command: list[str], what: str, seconds: float) -> None:
    ended = run(command, folder=None, seconds=seconds, what=what, online=True)
    if ended.returncode:
        raise ConversionError(
            f"wanted to {what}, found that it failed:\n{last_lines(ended.stdout)}\n"
            "check the network and the disk, then run the same command again"
        )


def run(
    command: list[str], *, folder: Path | None, seconds: float, what: str, online: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment, output and errors together.

    Raises ConversionError on time-out, OutputError where the disk of `folder` is full. Nothing of
    the calling Python leaks in. Offline (the default), every proxy points at a closed port: onnx2tf
    would fetch sample data without asking.
    """
    settings = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    settings["PYTHONNOUSERSITE"] = "1"
    if not online:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            settings[name] = settings[name.upper()] = "http://127.0.0.1:9"
        settings.pop("no_proxy", None)
        settings.pop("NO_PROXY", None)
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ConversionError(
            f"wanted to {what} within {seconds:.0f} s, found it still running; "
            "run the same command again, on a machine with less to do"
        ) from error
    if folder is not None and "No space left on device" in ended.stdout:
        raise OutputError(
            f"{folder}: wanted room to {what}, found the disk full; free space, or name another "
            "folder in TMPDIR"
        )
    return ended
