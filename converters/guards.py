"""What a quantizer does not say: layers it cannot represent, and parts it left in float.

Before: `check_samples` looks at the tensors it will be given, `dead_layers` names convolutions of
~0. After: `check_int8` compares every integer bias with its float value (a scale of ~0 overflows
int32 and erases the layer without an error), and names what an int8 artifact computes in float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edge_seg.converters.graph import Graph
from edge_seg.errors import ConversionError, QualityRefused

DEAD_WEIGHT = 1e-6  # max|w| of a layer that training switched off
BIAS_TOLERANCE = 1e-3  # of the bias itself, beside one step of its scale
WEIGHTED = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
BETWEEN = {"QUANTIZE", "DEQUANTIZE"}
MOST_NAMED = 8


def check_samples(samples: list[NDArray[Any]], shape: tuple[int, ...]) -> None:
    """Raise ConversionError unless there are calibration tensors, each finite float32 of a shape.

    LiteRT would resize the network to fit another.
    """
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


def dead_layers(model: ModelProto) -> list[str]:
    """Return the names of convolutions and matrix products whose weights are all below 1e-6."""
    graph = Graph(model)
    dead = []
    for node in graph.nodes:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        weight = graph.constants.get(node.input[1])
        if weight is not None and weight.size and np.abs(weight).max() < DEAD_WEIGHT:
            dead.append(f"{node.name or node.output[0]} (max|w| {np.abs(weight).max():.1e})")
    return dead


@dataclass(frozen=True)
class TfliteOperator:
    """One operator of a TFLite file. inputs, outputs: tensor objects, None where absent."""

    name: str
    inputs: list[Any]
    outputs: list[Any]


class TfliteFile:
    """A TFLite file taken apart with LiteRT's own schema."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._content = path.read_bytes()
        self._model = schema.ModelT.InitFromPackedBuf(bytearray(self._content), 0)
        kinds = vars(schema.BuiltinOperator).items()
        self._names = {v: k for k, v in kinds if isinstance(v, int)}
        self._types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
        self._graph = self._model.subgraphs[0]

    def operators(self) -> Iterator[TfliteOperator]:
        """Yield the operators in order."""
        tensors = self._graph.tensors
        for op in self._graph.operators:
            code = self._model.operatorCodes[op.opcodeIndex]
            kind = self._names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            ends = ([tensors[i] if i >= 0 else None for i in e] for e in (op.inputs, op.outputs))
            yield TfliteOperator(kind, *ends)

    def ends(self) -> list[Any]:
        """Return the input and output tensors."""
        return [self._graph.tensors[i] for i in (*self._graph.inputs, *self._graph.outputs)]

    def type_of(self, tensor: Any) -> str:
        """Return "FLOAT32", "INT8", ... of a tensor."""
        return self._types[tensor.type]

    def values(self, tensor: Any) -> NDArray[Any]:
        """Return a constant tensor's values, flat; empty where it is computed."""
        kind = {"FLOAT32": np.float32, "INT32": np.int32, "INT64": np.int64, "INT8": np.int8}
        buffer = self._model.buffers[tensor.buffer]
        if buffer.offset > 1:  # the schema's way to keep large data behind the flatbuffer
            raw = self._content[buffer.offset : buffer.offset + buffer.size]
        else:
            raw = np.asarray([] if buffer.data is None else buffer.data, dtype=np.uint8).tobytes()
        return np.frombuffer(raw, dtype=kind[self.type_of(tensor)])


def name_of(tensor: Any) -> str:
    """Return a TFLite tensor's name as text."""
    return tensor.name.decode(errors="replace") if isinstance(tensor.name, bytes) else tensor.name


def check_int8(path: Path, source: Path) -> list[str]:
    """Check an int8 TFLite against the float one it was made from.

    Returns the operators that still compute in float, as "RELU6 gate/18"; [] where none do.
    Raises QualityRefused where a bias is not what it was, naming the layers; ConversionError
    where an end of the network is not int8.
    """
    check_integer_ends(path)
    wrong = wrong_biases(path, source)
    if wrong:
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise QualityRefused(
            "wanted every integer bias to be its float value, found that quantisation changed: "
            f"{'; '.join(wrong[:MOST_NAMED])}{more}. Such a layer has weights of ~0, so its bias "
            "overflows: retrain or prune it, or leave it out of the export"
        )
    return float_operators(path)


def check_integer_ends(path: Path) -> None:
    """Raise ConversionError unless every input and output of the file is int8."""
    file = TfliteFile(path)
    for tensor in file.ends():
        if file.type_of(tensor) != "INT8":
            raise ConversionError(
                f"{name_of(tensor)!r}: wanted an int8 input and output, found "
                f"{file.type_of(tensor).lower()}; the operator beside it has no integer form"
            )


def float_operators(path: Path) -> list[str]:
    """Return what an int8 file still computes in float, one "OPERATOR tensor" each."""
    file = TfliteFile(path)
    return [
        f"{op.name} {name_of(op.outputs[0])}"
        for op in file.operators()
        if op.name not in BETWEEN and any(file.type_of(t) == "FLOAT32" for t in op.outputs)
    ]


def wrong_biases(path: Path, source: Path) -> list[str]:
    """Return the layers of an int8 file whose dequantized bias is not the float file's."""
    floats = {name: values for name, values in _biases(TfliteFile(source), "FLOAT32")}
    file = TfliteFile(path)
    wrong = []
    for op in file.operators():
        bias = bias_of(op)
        if bias is None or file.type_of(bias) not in ("INT32", "INT64"):
            continue
        truth = floats.get(name_of(bias))
        if truth is None or bias.quantization is None or bias.quantization.scale is None:
            continue
        scale = np.asarray(bias.quantization.scale, dtype=np.float64)
        found = file.values(bias).astype(np.float64) * scale
        off = np.abs(found - truth)
        bad = off > scale + BIAS_TOLERANCE * np.abs(truth)
        if bad.any():
            worst = int(np.argmax(off))
            wrong.append(
                f"{op.name} {name_of(op.outputs[0])} ({int(bad.sum())} of {bad.size} biases, "
                f"{truth[worst]:.3g} became {found[worst]:.3g})"
            )
    return wrong


def bias_of(op: TfliteOperator) -> Any:
    """Return the bias tensor of a convolution or matrix product, None where it has none."""
    position = WEIGHTED.get(op.name)
    if position is None or len(op.inputs) <= position:
        return None
    return op.inputs[position]


def _biases(file: TfliteFile, kind: str) -> Iterator[tuple[str, NDArray[Any]]]:
    for op in file.operators():
        bias = bias_of(op)
        if bias is not None and file.type_of(bias) == kind:
            yield name_of(bias), file.values(bias)
