"""Small ONNX networks made by hand, and the truth about them: ONNX Runtime, nothing optimised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

PICTURE = (1, 3, 12, 16)


class Builder:
    """Collects nodes; each method returns the name of the tensor it makes."""

    def __init__(self, shape: Sequence[int | str] = PICTURE, seed: int = 0) -> None:
        self.shape = shape
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.random = np.random.default_rng(seed)

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype=kind)
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 0, **attributes: Any) -> Any:
        names = [f"t{len(self.nodes)}_{i}" for i in range(max(1, outputs))]
        node = helper.make_node(kind, inputs, names, name=f"{kind}_{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        return names if outputs else names[0]

    def conv(self, name: str, ins: int, outs: int, kernel: int = 1, **attributes: Any) -> str:
        group = attributes.get("group", 1)
        weight = self.random.normal(size=(outs, ins // group, kernel, kernel)) * 0.5
        bias = self.random.normal(size=outs)
        attributes.setdefault("pads", [kernel // 2] * 4)
        return str(self.op("Conv", name, self.constant(weight), self.constant(bias), **attributes))

    def upsample(self, name: str, height: int, width: int, channels: int) -> str:
        sizes = self.constant([1, channels, height, width], np.int64)
        return str(
            self.op(
                "Resize",
                name,
                "",
                "",
                sizes,
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        )

    def channels(self, name: str, first: int, behind: int) -> str:
        """Slice the channels from `first` up to, not with, `behind`."""
        ends = [self.constant([value], np.int64) for value in (first, behind, 1)]
        return str(self.op("Slice", name, *ends))

    def shuffle(self, name: str, shape: Sequence[int], groups: int) -> str:
        batch, channels, height, width = shape
        split = self.constant([batch, groups, channels // groups, height, width], np.int64)
        whole = self.constant(list(shape), np.int64)
        inner = self.op("Transpose", self.op("Reshape", name, split), perm=[0, 2, 1, 3, 4])
        return str(self.op("Reshape", inner, whole))

    def model(self, output: str, *, opset: int = 17, more: Sequence[str] = ()) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("picture", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (output, *more)],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


def run(model: ModelProto, picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first output, computed without any optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    answer: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: picture})[0]
    return answer


def random_picture(model: ModelProto, seed: int = 1) -> NDArray[np.float32]:
    """Return values in -1..1 of the input's shape."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [d.dim_value for d in dims]
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def operators(model: ModelProto) -> list[str]:
    """Return the kinds of the nodes, in order."""
    return [n.op_type for n in model.graph.node]
