"""Weight scales of an int8 TFLite made large enough for the biases that share them.

An integer bias counts in steps of input scale x weight scale. Where a channel's weights are ~0
(training switched it off) that step is ~0 too, the int32 bias overflows, and the channel is
erased without an error. A larger scale costs nothing there: the weights were ~0 and stay so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg.converters.flatbuffer import (
    BIAS_AT,
    INLINE,
    TfliteFile,
    bias_of,
    name_of,
    operator_names,
)

# An int32 bias may reach 2^31; one bit is left for the accumulator. The same bound keeps the
# ratio input x weight / output scale inside what XNNPACK takes (2^-32 and up).
BIAS_STEPS = 2.0**30


def widen_scales(content: bytearray, source: Path) -> list[str]:
    """Widen, in place, the weight scales whose biases overflow; return the layers, in words.

    content: an int8 TFLite. source: the float file it was made from, for the true values.
    """
    floats = _float_constants(TfliteFile(source))
    editor = _Editor(content)
    said = []
    for op in editor.operators():
        count = _widen(editor, op, floats)
        if count:
            said.append(f"{op.kind} {op.name}: {count} channel(s) with weights of ~0")
    return said


@dataclass(frozen=True)
class _Layer:
    """An int8 operator with weights and an int32 bias; the arrays are views into the file.

    axis: of the weights, along which each channel has its scale. buffers: of weights and bias.
    """

    kind: str
    name: str
    weight_name: str
    bias_name: str
    buffers: tuple[int, int]
    axis: int
    input_scale: float
    output_scale: float
    weight_scales: NDArray[np.float32]
    bias_scales: NDArray[np.float32]
    weights: NDArray[np.int8]
    biases: NDArray[np.int32]


def _float_constants(file: TfliteFile) -> dict[str, NDArray[np.float64]]:
    """Return weights and biases of the float file by tensor name, weights in their shape."""
    found = {}
    for op in file.operators():
        bias = bias_of(op)
        if bias is None:
            continue
        for tensor in (op.inputs[1], bias):  # the weights are everywhere the second input
            if tensor is not None and file.type_of(tensor) == "FLOAT32":
                values = file.values(tensor).astype(np.float64)
                if values.size == np.prod(tensor.shape):
                    found[name_of(tensor)] = values.reshape(tensor.shape)
    return found


def _widen(editor: _Editor, op: _Layer, floats: dict[str, NDArray[np.float64]]) -> int:
    """Widen one operator's weight scales where its bias needs it; return for how many channels."""
    weight, bias = floats.get(op.weight_name), floats.get(op.bias_name)
    scales, bias_scales = op.weight_scales, op.bias_scales
    if weight is None or bias is None or not editor.owned(op):
        return 0
    if len(scales) != len(bias) or len(bias_scales) != len(bias):
        return 0
    least = np.maximum(np.abs(bias), op.output_scale) / BIAS_STEPS / op.input_scale
    narrow = np.flatnonzero(np.abs(bias) / (op.input_scale * scales) > BIAS_STEPS)
    for channel in narrow:
        scales[channel] = least[channel]
        bias_scales[channel] = op.input_scale * float(scales[channel])
        where = tuple(channel if a == op.axis else slice(None) for a in range(weight.ndim))
        codes = np.rint(weight[where] / scales[channel])
        op.weights.reshape(weight.shape)[where] = np.clip(codes, -127, 127)
        op.biases[channel] = np.rint(bias[channel] / float(bias_scales[channel]))
    return len(narrow)


class _Editor:
    """Views into the bytes of a TFLite file: what is written to them is written to the file."""

    def __init__(self, content: bytearray) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._content = content
        self._model = schema.Model.GetRootAs(content, 0)
        self._graph = self._model.Subgraphs(0)
        self._names = operator_names()
        tensors = (self._graph.Tensors(i) for i in range(self._graph.TensorsLength()))
        self._users = Counter(t.Buffer() for t in tensors)

    def operators(self) -> list[_Layer]:
        """Return the int8 operators that have weights and an int32 bias, as views."""
        found = []
        for index in range(self._graph.OperatorsLength()):
            op = self._graph.Operators(index)
            code = self._model.OperatorCodes(op.OpcodeIndex())
            kind = self._names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            bias_at = BIAS_AT.get(kind)
            if bias_at is None or op.InputsLength() <= bias_at or op.Inputs(bias_at) < 0:
                continue
            data_at, weight_at = (2, 1) if kind == "TRANSPOSE_CONV" else (0, 1)
            ends = [op.Inputs(data_at), op.Inputs(weight_at), op.Inputs(bias_at), op.Outputs(0)]
            view = self._view(kind, [self._graph.Tensors(i) for i in ends])
            if view is not None:
                found.append(view)
        return found

    def _view(self, kind: str, ends: list[Any]) -> _Layer | None:
        data, weight, bias, output = ends
        settings = [t.Quantization() for t in ends]
        if any(s is None or s.ScaleLength() == 0 for s in settings):
            return None
        weights, biases = self._data(weight, np.int8), self._data(bias, np.int32)
        if weights.size != np.prod(weight.ShapeAsNumpy()) or biases.size != bias.Shape(0):
            return None  # another type than int8 weights and int32 biases
        return _Layer(
            kind=kind,
            name=output.Name().decode(errors="replace"),
            weight_name=weight.Name().decode(errors="replace"),
            bias_name=bias.Name().decode(errors="replace"),
            buffers=(weight.Buffer(), bias.Buffer()),
            axis=settings[1].QuantizedDimension(),
            input_scale=float(settings[0].Scale(0)),
            output_scale=float(settings[3].Scale(0)),
            weight_scales=settings[1].ScaleAsNumpy(),
            bias_scales=settings[2].ScaleAsNumpy(),
            weights=weights,
            biases=biases,
        )

    def _data(self, tensor: Any, kind: Any) -> NDArray[Any]:
        buffer = self._model.Buffers(tensor.Buffer())
        if buffer.Offset() > INLINE:
            raw = np.frombuffer(
                self._content, dtype=np.uint8, count=buffer.Size(), offset=buffer.Offset()
            )
        elif buffer.DataLength():
            raw = buffer.DataAsNumpy()
        else:
            raw = np.zeros(0, dtype=np.uint8)
        return raw.view(kind) if raw.size % np.dtype(kind).itemsize == 0 else raw[:0].view(kind)

    def owned(self, op: _Layer) -> bool:
        """Tell whether no other tensor shares the operator's weights or bias."""
        return all(self._users[buffer] == 1 for buffer in op.buffers)
