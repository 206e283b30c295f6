"""ONNX QDQ artifacts: int8 in the form TensorRT 10 and 11 take (Jetson), and ONNX Runtime runs.

    to_int8        ModelProto + calibration tensors  ->  QuantizeLinear/DequantizeLinear pairs
    check_form     the rules of that form, one sentence per violation
    input_scale    the step of the input's codes

Input and output stay float32 (1, 3, H, W) -> (1, 1, h, w). Failures are a ConversionError.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from edge_seg.bundle import whole_file
from edge_seg.converters.environment import Progress
from edge_seg.converters.graph import Graph
from edge_seg.converters.rewrites import first_line
from edge_seg.errors import ConversionError
from edge_seg.spec import InputSpec

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def to_int8(
    model: ModelProto,
    out: Path,
    *,
    tensors: Iterable[NDArray[Any]],
    input: InputSpec | None = None,
    progress: Progress = lambda message, done, total: None,
) -> list[str]:
    """Write the network in int8 with Q/DQ pairs.

    tensors: float32 (1, 3, H, W), as the runtime's own codec makes them; ranges come from them.
    input: the spec they were made with; the input's range is then the whole range of a pixel.
    Returns what had to be mended, in words.
    Raises ConversionError: nothing to calibrate with, or the quantizer's refusal, in words.
    """
    samples = list(tensors)
    _check_samples(samples, _input_shape(model))
    try:
        quantized = _quantized(model, samples, progress)
    except Exception as error:  # the quantizer raises whatever its parts raise
        raise ConversionError(
            f"wanted ONNX Runtime to quantize the network, found: {first_line(error)}; "
            "some operator has no integer form, export the model without it"
        ) from error
    with whole_file(out) as beside:
        beside.write_bytes(quantized.SerializeToString())
    return []


def float_operators(path: Path) -> list[str]:
    """Return the weighted operators an int8 artifact computes in float, `type name`."""
    graph = Graph(onnx.load(path))
    left = []
    for node in graph.nodes:
        makers = [graph.producer(name) for name in node.input[:2]]
        quantized = all(m is not None and m.op_type == "DequantizeLinear" for m in makers)
        if node.op_type in WEIGHTED and not quantized:
            left.append(f"{node.op_type} {node.name or node.output[0]}")
    return left


def input_scale(path: Path) -> float:
    """Return the step of the input's codes: real = scale * code; 0.0 where it stays in float."""
    graph = Graph(onnx.load(path))
    for node in graph.consumers(graph.inputs[0].name):
        if node.op_type == "QuantizeLinear" and node.input[1] in graph.constants:
            return float(np.max(graph.constants[node.input[1]]))
    return 0.0


def _input_shape(model: ModelProto) -> tuple[int, ...]:
    graph = Graph(model)
    return graph.shapes.get(graph.inputs[0].name, ())


def _check_samples(samples: list[NDArray[Any]], shape: tuple[int, ...]) -> None:
    if not samples:
        raise ConversionError(
            "wanted calibration tensors, found none; name pictures with --calibration"
        )
    for number, sample in enumerate(samples):
        if sample.dtype != np.float32 or sample.shape != shape or not np.isfinite(sample).all():
            raise ConversionError(
                f"calibration tensor {number}: wanted finite float32 {shape}, found "
                f"{sample.dtype} {sample.shape}; check size, mean and std in the spec"
            )


def _quantized(model: ModelProto, samples: list[NDArray[Any]], progress: Progress) -> ModelProto:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _silence(), tempfile.TemporaryDirectory(prefix="edge-seg-") as name:
        source, made = Path(name) / "float.onnx", Path(name) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            made,
            _Reader(Graph(model).inputs[0].name, samples, progress),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "CalibMovingAverage": True,
            },
        )
        return onnx.load(made)


class _Reader:
    """Hands the quantizer one tensor at a time."""

    def __init__(self, name: str, samples: list[NDArray[Any]], progress: Progress) -> None:
        self._name, self._samples, self._progress = name, samples, progress
        self._done = 0

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        if self._done == len(self._samples):
            return None
        self._done += 1
        self._progress("calibrating ONNX", self._done, len(self._samples))
        return {self._name: self._samples[self._done - 1]}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, NDArray[Any]]:
        item = self.get_next()
        if item is None:
            raise StopIteration
        return item


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the quantizer's log lines and warnings off the screen; its exceptions pass."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            logging.disable(logging.ERROR)
            yield
        finally:
            logging.disable(before)
