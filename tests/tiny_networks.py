"""A real network of two convolutions, written as ONNX, TFLite float and TFLite int8.

Its answer is computed here in numpy too, so that backends are held against arithmetic and not
against each other. The TFLite files are put together with the schema that ships in
ai-edge-litert; no converter takes part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 24, 32
INPUT_SCALE, INPUT_ZERO = 1 / 127.5, -1
# Chosen so that a white and a black picture leave the int8 output's range on purpose.
OUTPUT_SCALE, OUTPUT_ZERO = 0.02, 5
HIDDEN_SCALE, HIDDEN_ZERO = 4.0 / 255, -128

_random = np.random.default_rng(7)
KERNEL = _random.normal(0.25, 0.35, (4, 2, 2, 3)).astype(np.float32)  # out, y, x, in
BIAS = _random.normal(0.0, 0.2, 4).astype(np.float32)
HEAD = np.array([1.1, -0.7, 0.9, 1.3], dtype=np.float32)
HEAD_BIAS = np.float32(-2.0)


def logits(real: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (h/2, w/2) logits of a normalised picture (h, w, 3): the network, in numpy."""
    x = real.astype(np.float64)
    hidden = np.zeros((x.shape[0] // 2, x.shape[1] // 2, 4))
    for dy in range(2):
        for dx in range(2):
            hidden += x[dy::2, dx::2] @ KERNEL[:, dy, dx].T.astype(np.float64)
    hidden = np.maximum(hidden + BIAS, 0.0)
    return np.asarray(hidden @ HEAD.astype(np.float64) + float(HEAD_BIAS))


def save_onnx(path: Path, *, batch: int | str = 1) -> Path:
    """Write the network as ONNX (NCHW, opset 17)."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["h"], strides=[2, 2]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Conv", ["r", "head", "head_bias"], ["y"]),
    ]
    constants = {
        "kernel": KERNEL.transpose(0, 3, 1, 2),
        "bias": BIAS,
        "head": HEAD.reshape(1, 4, 1, 1),
        "head_bias": np.array([HEAD_BIAS]),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.FLOAT, [batch, 1, HEIGHT // 2, WIDTH // 2]
            )
        ],
        [numpy_helper.from_array(np.ascontiguousarray(v), n) for n, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, str(path))
    return path


def save_tflite(path: Path, *, quantized: bool = False) -> Path:
    """Write the network as TFLite (NHWC), float or int8 (per-channel weights, int32 biases)."""
    from ai_edge_litert import schema_py_generated as schema

    build = _Flatbuffer(schema, quantized)
    x = build.tensor("x", (1, HEIGHT, WIDTH, 3), scale=INPUT_SCALE, zero=INPUT_ZERO)
    h = build.tensor("h", (1, HEIGHT // 2, WIDTH // 2, 4), scale=HIDDEN_SCALE, zero=HIDDEN_ZERO)
    y = build.tensor("y", (1, HEIGHT // 2, WIDTH // 2, 1), scale=OUTPUT_SCALE, zero=OUTPUT_ZERO)
    build.conv(x, h, KERNEL, BIAS, stride=2, relu=True, scale=INPUT_SCALE)
    build.conv(h, y, HEAD.reshape(1, 1, 1, 4), np.array([HEAD_BIAS]), stride=1, scale=HIDDEN_SCALE)
    path.write_bytes(build.finish(x, y))
    return path


class _Flatbuffer:
    """A TFLite model under construction, in the object form of its schema."""

    def __init__(self, schema: Any, quantized: bool) -> None:
        self.schema, self.quantized = schema, quantized
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers = [schema.BufferT()]  # buffer 0 is empty by convention

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        scale: float | NDArray[np.floating] = 0.0,
        zero: int = 0,
        data: NDArray[np.generic] | None = None,
    ) -> int:
        """Add a tensor; return its index."""
        kinds = self.schema.TensorType
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shape), 0
        tensor.type = kinds.INT8 if self.quantized else kinds.FLOAT32
        if data is not None:
            tensor.type = {"i1": kinds.INT8, "i4": kinds.INT32}.get(data.dtype.str[1:], tensor.type)
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if self.quantized:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization = self.schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(len(scales), zero, np.int64)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def conv(
        self,
        source: int,
        target: int,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32],
        *,
        stride: int,
        scale: float,
        relu: bool = False,
    ) -> None:
        """Add a CONV_2D; scale: the input's quantisation step."""
        steps = np.abs(kernel).reshape(len(kernel), -1).max(axis=1).astype(np.float64) / 127
        weights: NDArray[np.generic] = kernel
        offsets: NDArray[np.generic] = bias
        if self.quantized:
            weights = np.rint(kernel / steps[:, None, None, None]).astype(np.int8)
            offsets = np.rint(bias / (steps * scale)).astype(np.int32)
        name = self.graph.tensors[target].name
        operator = self.schema.OperatorT()
        operator.inputs = [
            source,
            self.tensor(f"{name} kernel", kernel.shape, scale=steps, data=weights),
            self.tensor(f"{name} bias", bias.shape, scale=steps * scale, data=offsets),
        ]
        operator.outputs = [target]
        operator.builtinOptionsType = self.schema.BuiltinOptions.Conv2DOptions
        options = self.schema.Conv2DOptionsT()
        options.padding = self.schema.Padding.VALID
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        kinds = self.schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        operator.builtinOptions = options
        self.graph.operators.append(operator)

    def finish(self, source: int, target: int) -> bytes:
        """Return the file's bytes."""
        import flatbuffers

        self.graph.inputs, self.graph.outputs = [source], [target]
        code = self.schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = self.schema.BuiltinOperator.CONV_2D
        code.version = 3
        model = self.schema.ModelT()
        model.version, model.subgraphs = 3, [self.graph]
        model.operatorCodes, model.buffers = [code], self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
