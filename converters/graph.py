"""An ONNX graph that can be edited: nodes, constants by name, static shapes.

Only what the rewrites need (rewrites.py, head.py): one domain, static shapes, no subgraphs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from edge_seg.errors import ConversionError

Array = NDArray[Any]
STANDARD = ("", "ai.onnx")  # the names of the standard operators' domain
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # the weights are the second input
REDUCE_AXES_OPSET = 18  # from here on ReduceMin takes its axes as an input


class Graph:
    """A ModelProto taken apart. `nodes` are in topological order after `refresh`."""

    def __init__(self, model: ModelProto) -> None:
        self._model = ModelProto()
        self._model.CopyFrom(model)  # edits must not reach the caller's model
        self._counter = 0
        self._load(self._model)

    def _load(self, model: ModelProto) -> None:
        self.constants: dict[str, Array] = {
            t.name: numpy_helper.to_array(t) for t in model.graph.initializer
        }
        self.nodes: list[NodeProto] = []
        for node in model.graph.node:
            if node.op_type == "Constant":
                self.constants[node.output[0]] = constant_value(node)
            else:
                self.nodes.append(node)
        self.inputs = [v for v in model.graph.input if v.name not in self.constants]
        self.outputs = list(model.graph.output)
        self.shapes = _static_shapes(model)
        self.shapes.update({name: value.shape for name, value in self.constants.items()})

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return int(next(o.version for o in self._model.opset_import if o.domain in STANDARD))

    def to_model(self) -> ModelProto:
        """Return the graph as a model: unused nodes and constants gone, shapes inferred again."""
        self._prune()
        self._sort()
        used = {name for node in self.nodes for name in node.input}
        graph = helper.make_graph(
            self.nodes,
            self._model.graph.name or "graph",
            self.inputs,
            self.outputs,
            initializer=[
                # Not ascontiguousarray: it makes a list of one of a scalar, as Clip's ends are.
                numpy_helper.from_array(np.asarray(value, order="C"), name)
                for name, value in self.constants.items()
                if name in used
            ],
        )
        opsets = [o for o in self._model.opset_import if o.domain in STANDARD]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self._model.ir_version)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)

    def refresh(self) -> None:
        """Sort, prune, and infer the shapes again after changes."""
        self._model = self.to_model()
        self._load(self._model)

    def producer(self, name: str) -> NodeProto | None:
        """Return the node that makes this tensor; None for an input or a constant."""
        return next((n for n in self.nodes if name in n.output), None)

    def consumers(self, name: str) -> list[NodeProto]:
        """Return the nodes that read this tensor (a node once, however often it reads it)."""
        return [n for n in self.nodes if name in n.input]

    def is_output(self, name: str) -> bool:
        """Tell whether the tensor is an output of the graph."""
        return any(v.name == name for v in self.outputs)

    def sole_consumer(self, name: str) -> NodeProto | None:
        """Return the one node that reads this tensor, or None: several, none, or an output."""
        readers = self.consumers(name)
        return readers[0] if len(readers) == 1 and not self.is_output(name) else None

    def leaves_channels(self, node: NodeProto) -> bool:
        """Tell whether a pool, resize or pad leaves batch and channels alone, by constants."""
        before, after = self.shapes.get(node.input[0]), self.shapes.get(node.output[0])
        settled = all(not i or i in self.constants for i in node.input[1:])
        return bool(settled and before and after and before[:2] == after[:2])

    def constant(self, value: Array, hint: str) -> str:
        """Add a constant and return its name."""
        name = self.fresh(hint)
        self.constants[name] = value
        self.shapes[name] = value.shape
        return name

    def fresh(self, hint: str) -> str:
        """Return a tensor name that is not in use."""
        taken = self.shapes.keys() | {o for n in self.nodes for o in n.output}
        while True:
            self._counter += 1
            name = f"{hint}/{self._counter}"
            if name not in taken:
                return name

    def add(self, op: str, inputs: Sequence[str], hint: str, **attributes: Any) -> str:
        """Append a node with one output; return the output's name."""
        output = self.fresh(hint)
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def remove(self, node: NodeProto) -> None:
        """Take a node out (by identity: equal nodes are not the same node)."""
        self.nodes = [n for n in self.nodes if n is not node]

    def redirect(self, old: str, new: str, *, only: Iterable[NodeProto] | None = None) -> None:
        """Let the readers of `old` read `new`; an output called `old` keeps its name."""
        chosen = self.nodes if only is None else list(only)
        for node in chosen:
            for position, name in enumerate(node.input):
                if name == old:
                    node.input[position] = new
        if only is None and self.is_output(old):
            self.replace_output(new, old)

    def rename(self, old: str, new: str) -> None:
        """Rename a tensor that a node makes, there and where it is read."""
        for node in self.nodes:
            for names in (node.output, node.input):
                for position, name in enumerate(names):
                    if name == old:
                        names[position] = new

    def replace_output(self, name: str, output: str) -> None:
        """Make the tensor `name` the graph's output called `output`."""
        for node in self.nodes:  # the old producer of `output` gives the name up
            for position, made in enumerate(node.output):
                if made == output:
                    node.output[position] = self.fresh(output)
        if self.producer(name) is None:  # an input or a constant cannot be renamed
            self.nodes.append(helper.make_node("Identity", [name], [output], name=output))
        else:
            self.rename(name, output)

    def _prune(self) -> None:
        makers = {name: node for node in self.nodes for name in node.output}
        kept: set[int] = set()
        wanted = [v.name for v in self.outputs]
        while wanted:
            maker = makers.get(wanted.pop())
            if maker is not None and id(maker) not in kept:
                kept.add(id(maker))
                wanted.extend(maker.input)
        self.nodes = [n for n in self.nodes if id(n) in kept]

    def _sort(self) -> None:
        made_here = {name for node in self.nodes for name in node.output}
        ready: set[str] = {""}
        waiting, ordered = self.nodes, []
        while waiting:
            late = []
            for node in waiting:
                if all(i in ready or i not in made_here for i in node.input):
                    ordered.append(node)
                    ready.update(node.output)
                else:
                    late.append(node)
            if len(late) == len(waiting):
                raise ConversionError("wanted a graph without cycles, found one; export it again")
            waiting = late
        self.nodes = ordered


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return a node's attribute as a Python value (strings as str), or `default`."""
    for item in node.attribute:
        if item.name == name:
            value = helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def reduce_min(graph: Graph, name: str, output: str, *, axis: int) -> NodeProto:
    """Return a node that takes the least over one axis and keeps the rank, as the opset has it."""
    if graph.opset < REDUCE_AXES_OPSET:
        return helper.make_node("ReduceMin", [name], [output], name=output, axes=[axis], keepdims=1)
    axes = graph.constant(np.array([axis], dtype=np.int64), "axes")
    return helper.make_node("ReduceMin", [name, axes], [output], name=output, keepdims=1)


def constant_value(node: NodeProto) -> Array:
    """Return what a Constant node holds."""
    item = node.attribute[0]
    value = helper.get_attribute_value(item)
    if item.name == "value":
        return numpy_helper.to_array(value)
    if item.name in ("value_float", "value_floats"):
        return np.asarray(value, dtype=np.float32)
    if item.name in ("value_int", "value_ints"):
        return np.asarray(value, dtype=np.int64)
    raise ConversionError(
        f"node {node.name or node.output[0]!r}: wanted a numeric Constant, found {item.name}; "
        "export the model without string or sparse constants"
    )


def _static_shapes(model: ModelProto) -> dict[str, tuple[int, ...]]:
    graph = model.graph
    shapes = {}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return shapes
