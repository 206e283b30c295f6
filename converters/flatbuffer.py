"""A TFLite file taken apart with LiteRT's own schema, and put together again.

Only files that a converter of ours wrote; what comes from outside is read by backends/tflite_file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Operators with weights (their second input): which input is the bias.
BIAS_AT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
IDENTIFIER = b"TFL3"
INLINE = 1  # a buffer's offset above this means that its data lies behind the flatbuffer


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
        self._model = unpacked(self._content)
        self._names = operator_names()
        self._types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
        self._graph = self._model.subgraphs[0]

    def operators(self) -> Iterator[TfliteOperator]:
        """Yield the operators in order."""
        tensors = self._graph.tensors
        for op in self._graph.operators:
            kind = self._names[code_of(self._model, op)]
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
        if buffer.offset > INLINE:
            raw = self._content[buffer.offset : buffer.offset + buffer.size]
        else:
            raw = np.asarray([] if buffer.data is None else buffer.data, dtype=np.uint8).tobytes()
        return np.frombuffer(raw, dtype=kind[self.type_of(tensor)])


def unpacked(content: bytes) -> Any:
    """Return the schema's ModelT of a TFLite file."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(content), 0)


def packed(model: Any, content: bytes = b"") -> bytes:
    """Return a ModelT as a file; content: the file it was unpacked from, if from one."""
    import flatbuffers

    for buffer in model.buffers:
        if buffer.offset > INLINE:  # packing keeps only what is inside
            inside = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data, buffer.offset, buffer.size = np.frombuffer(inside, np.uint8), 0, 0
    builder = flatbuffers.Builder(max(1024, len(content)))
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def code_of(model: Any, operator: Any) -> int:
    """Return an operator's built-in code; older files keep it in the deprecated field."""
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def name_of(tensor: Any) -> str:
    """Return a TFLite tensor's name as text."""
    return tensor.name.decode(errors="replace") if isinstance(tensor.name, bytes) else tensor.name


def bias_of(op: TfliteOperator) -> Any:
    """Return the bias tensor of a convolution or matrix product, None where it has none."""
    position = BIAS_AT.get(op.name)
    if position is None or len(op.inputs) <= position:
        return None
    return op.inputs[position]


def operator_names() -> dict[int, str]:
    """Return the names of TFLite's built-in operators by their codes."""
    from ai_edge_litert import schema_py_generated as schema

    return {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
