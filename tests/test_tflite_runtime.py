"""tflite-runtime, for 32-bit Raspberry Pi OS: the contract and the default network under it.

It ends at Python 3.11, needs NumPy 1 and therefore an older OpenCV, so it lives in an environment
of its own, made by these tests. On x86-64 it runs int8 without XNNPACK, 13 times slower than its
own float: what is tested is that the answers are right.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests import tiny_networks
from tests.test_packaging import ROOT, fresh_environment, interpreter, run, wheel  # noqa: F401

PINS = ("tflite-runtime==2.14.0", "numpy<2", "opencv-python-headless==4.11.0.86")
EXITS_4 = """
from edge_seg.cli import main
assert main(["doctor", "--board", "rpi4"]) == 4
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The `bin` of a Python 3.11 with the wheel, tflite-runtime, and no other TFLite library."""
    if not sys.platform.startswith("linux"):
        pytest.skip("tflite-runtime has wheels for Linux")
    folder = tmp_path_factory.mktemp("tflite-runtime")
    bin = fresh_environment(folder / "env", interpreter("3.11"))
    run(bin / "pip", "install", "-q", *PINS, "rich", "pytest", cwd=folder)
    run(bin / "pip", "install", "-q", "--no-deps", wheel, cwd=folder)
    assert "ai-edge-litert" not in run(bin / "pip", "list", cwd=folder)
    return bin


def test_it_passes_the_contract_and_the_segmenter_s_tests(
    environment: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert", reason="the tiny network is written with its schema")
    tiny_networks.save_tflite(tmp_path / "tiny.tflite")
    tiny_networks.save_tflite(tmp_path / "tiny-int8.tflite", quantized=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", tmp_path / "here" / "tests", ignore=ignored)
    options = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "-o", "markers=slow: slow")
    said = run(
        *(environment / "python", "-m", "pytest", *options, "-k", "TFLite or segmenter"),
        *("tests/test_backends.py", "tests/test_segmenter.py"),
        cwd=tmp_path / "here",
        EDGE_SEG_TINY_NETWORKS=str(tmp_path),
        EDGE_SEG_REQUIRE_DATA="0",
        EDGE_SEG_DATA=os.environ.get("EDGE_SEG_DATA", str(ROOT.parent / "shared")),
    )
    passed = re.search(r"(\d+) passed", said)
    assert passed and int(passed.group(1)) > 60, said[-2000:]


def test_the_default_network_answers_as_under_litert(environment: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="the extra [demo] is not installed")
    script = shutil.copy(ROOT / "tests" / "machine_masks.py", tmp_path)
    run(sys.executable, script, "frames", tmp_path / "frames.npz", cwd=tmp_path)
    run(sys.executable, script, "masks", "frames.npz", "litert.npz", cwd=tmp_path)
    run(
        *(environment / "python", script, "masks", "frames.npz", "older.npz", "litert.npz"),
        cwd=tmp_path,
    )
    # TFLite's own int8 kernels round otherwise than XNNPACK's: 5 codes of 256 and 99.77 % when
    # this was written, layer upon layer; float answers are the same to the bit.
    limits = ("8", "0.995", "0.995")
    run(sys.executable, script, "compare", "litert.npz", "older.npz", *limits, cwd=tmp_path)


def test_numpy_2_beside_it_is_a_sentence(environment: Path, tmp_path: Path) -> None:
    """The doctor finds it in the files; opening says it too, where it fails."""
    folder = tmp_path / "env"
    shutil.copytree(environment.parent, folder, symlinks=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", "numpy>=2", cwd=tmp_path)
    said = run(python, "-c", EXITS_4, cwd=tmp_path)
    assert "needs NumPy 1" in said and "numpy<2" in said
    assert "edge-seg cannot run here as it is." in said
