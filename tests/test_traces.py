"""Golden traces replayed: what was recorded on other machines, by the libraries that are here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_seg.backends import open_backend
from tests import tiny_networks, trace

TRACES = sorted((Path(__file__).parent / "traces").glob("*.json"))
# Of a logit, between two libraries in the same precision, and between int8 and float.
ROUNDING = {"fp32": 1e-4, "fp16": 3e-3, "int8": 0.061}


def _tflite(folder: Path) -> Path:
    pytest.importorskip("ai_edge_litert", reason="the tiny network is written with its schema")
    return tiny_networks.save_tflite(folder / "tiny.tflite")


def _tflite8(folder: Path) -> Path:
    pytest.importorskip("ai_edge_litert", reason="the tiny network is written with its schema")
    return tiny_networks.save_tflite(folder / "tiny.tflite", quantized=True)


def _onnx(folder: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="the extra [onnxruntime] is not installed")
    pytest.importorskip("onnx", reason="the tiny network is written with onnx")
    return tiny_networks.save_onnx(folder / "tiny.onnx")


HERE: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "tflite-fp32": ("tflite", "fp32", _tflite),
    "tflite-int8": ("tflite", "int8", _tflite8),
    "onnxruntime-fp32": ("onnxruntime", "fp32", _onnx),
}


def test_there_are_traces_of_a_processor_that_is_not_here() -> None:
    assert any("aarch64" in json.loads(path.read_text())["machine"] for path in TRACES)


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.stem)
@pytest.mark.parametrize("name", HERE)
def test_a_trace_is_what_the_libraries_here_answer(path: Path, name: str, tmp_path: Path) -> None:
    recorded = json.loads(path.read_text())
    backend_name, precision, write = HERE[name]
    backend = open_backend(backend_name, write(tmp_path))
    found, truth = np.array(trace.answers(backend)), np.array(recorded["logits"])
    backend.close()
    assert found.shape == truth.shape and np.ptp(truth) > 2, "the trace says nothing"
    if backend.output.quantized or recorded["output_step"]:  # int8 saturates, float does not
        steps = tiny_networks.OUTPUT_SCALE * (np.array([-128, 127]) - tiny_networks.OUTPUT_ZERO)
        found, truth = np.clip(found, *steps), np.clip(truth, *steps)
    allowed = max(ROUNDING[precision], ROUNDING[recorded["precision"]])
    if (backend_name, precision) == (recorded["backend"], recorded["precision"]):
        # The same file by the same library: a processor's rounding at most, one code in int8.
        allowed = 1e-4 if precision == "fp32" else tiny_networks.OUTPUT_SCALE * 1.001
    assert np.abs(found - truth).max() <= allowed
