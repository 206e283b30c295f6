"""A float TFLite of one convolution, written with the schema's own classes: no converter needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


def _tensor(name: str, shape: tuple[int, ...], buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
    tensor.type = schema.TensorType.FLOAT32
    tensor.hasRank = True
    return tensor


def _buffer(values: NDArray[np.float32] | None) -> Any:
    buffer = schema.BufferT()
    if values is not None:
        raw = np.ascontiguousarray(values, dtype=np.float32).tobytes()
        buffer.data = np.frombuffer(raw, dtype=np.uint8)
    return buffer


def _signature(graph: Any) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    ends = []
    for index in (*graph.inputs, *graph.outputs):
        end = schema.TensorMapT()
        end.name, end.tensorIndex = graph.tensors[index].name, index
        ends.append(end)
    signature.inputs, signature.outputs = ends[:1], ends[1:]
    return signature


OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}


def save_conv(
    path: Path,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    size: tuple[int, int],
    *,
    kind: str = "CONV_2D",
) -> None:
    """Write a convolution with TFLite's SAME padding and stride 1.

    weight: (out, kh, kw, in), of a DEPTHWISE_CONV_2D (1, kh, kw, channels); bias: (out,). Input
    "picture" (1, *size, in), output "answer".
    """
    height, width = size
    channels = len(bias)
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("picture", (1, height, width, weight.shape[3]), 0),
        _tensor("weight", weight.shape, 1),
        _tensor("bias", bias.shape, 2),
        _tensor("answer", (1, height, width, channels), 0),
        _tensor("size", (4,), 3),
    ]
    graph.tensors[4].type = schema.TensorType.INT32
    graph.inputs, graph.outputs = [0], [3]
    options = getattr(schema, f"{OPTIONS[kind]}T")()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    if kind == "DEPTHWISE_CONV_2D":
        options.depthMultiplier = 1
    conv = schema.OperatorT()
    conv.opcodeIndex, conv.outputs = 0, [3]
    conv.inputs = [4, 1, 0, 2] if kind == "TRANSPOSE_CONV" else [0, 1, 2]
    conv.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[kind])
    conv.builtinOptions = options
    graph.operators = [conv]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
    code.version = 3 if kind == "TRANSPOSE_CONV" else 1  # the first with a bias
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    whole = np.array([1, height, width, channels], np.int32).view(np.float32)
    model.buffers = [_buffer(None), _buffer(weight), _buffer(bias), _buffer(whole)]
    model.signatureDefs = [_signature(graph)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
