"""NVIDIA's own Python bindings of TensorRT, oldest and newest we write for, over empty libraries.

No engine is built: there is no TensorRT here. What is tested is that the record of their names is
true, and that our module loads, and its subclasses work, over the real bindings of both versions.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent / "fixtures" / "tensorrt"
ROOT = Path(__file__).parent.parent
BINDINGS = {
    "10.3.0": ("tensorrt-cu12-bindings==10.3.0", "10"),
    "11.4.0": ("tensorrt-cu13-bindings==11.4.0.106", "11"),
}
USE = """
from edge_seg.backends import find_library, tensorrt as ours
from edge_seg.errors import BackendUnavailable

print(find_library("tensorrt"))
steps = []
monitor = ours._Monitor(lambda *step: steps.append(step))
assert isinstance(monitor, ours.trt.IProgressMonitor)
monitor.phase_start("Tactic Selection", None, 3)
assert monitor.step_complete("Tactic Selection", 0)
monitor.phase_finish("Tactic Selection")
assert steps[-1][1:] == (1, 3), steps
ours._LOGGER.log(ours.trt.ILogger.ERROR, "no such device")
assert ours._typing_flags() == (2 if ours.trt.__version__.startswith("10.") else 0)
try:
    ours._made(lambda: ours.trt.Runtime(ours._LOGGER))
except BackendUnavailable as refusal:
    print(refusal)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=BINDINGS)
def bindings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, str]]:
    """The version, the unpacked bindings, and the environment to load them in."""
    if sys.version_info[:2] != (3, 11) or os.uname().machine != "x86_64":
        pytest.skip("the record is of the bindings for Python 3.11 on x86-64")
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the empty libraries (apt-get install gcc)")
    requirement, major = BINDINGS[request.param]
    folder = tmp_path_factory.mktemp("bindings")
    words = ["-m", "pip", "install", "-q", "--no-deps", "--target", str(folder / "site")]
    done = subprocess.run(
        [sys.executable, *words, requirement], capture_output=True, text=True, timeout=300
    )
    if done.returncode != 0:
        pytest.skip(f"pip has no {requirement} here: {done.stderr.strip().splitlines()[-1]}")
    for library in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
        name = f"lib{library}.so.{major}"
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name)]
        subprocess.run([*command, str(FIXTURES / "empty.c")], check=True)
    package = folder / "site" / "tensorrt"  # what NVIDIA's package of that name holds
    package.mkdir()
    (package / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    paths = f"{folder / 'site'}{os.pathsep}{ROOT}"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": paths}
    return request.param, folder / "site", environment


def run(environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_record_of_their_names_is_true(
    bindings: tuple[str, Path, dict[str, str]],
) -> None:
    version, site, environment = bindings
    recorded = json.loads(run(environment, str(FIXTURES / "record.py"), str(site), version))
    assert recorded == json.loads((FIXTURES / f"{version}.json").read_text())


def test_our_module_and_its_subclasses_work_over_them(
    bindings: tuple[str, Path, dict[str, str]],
) -> None:
    version, _, environment = bindings
    said = run(environment, "-c", USE)
    assert f"tensorrt {version}" in said
    assert "wanted it to start on this GPU, found: no such device" in said
