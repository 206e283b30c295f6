"""Operators of a TFLite file that only move values.

ai-edge-quantizer has no rule for DEPTH_TO_SPACE, so it puts DEQUANTIZE before and QUANTIZE behind
it. The operator computes nothing: the codes may be moved themselves, with their scale.
onnx2tf sometimes turns the mask back to channels-first, which moves nothing: it has one channel;
and sometimes it forgets to turn a tensor that an operator wants channels-first.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_seg.converters.flatbuffer import (
    INLINE,
    code_of,
    name_of,
    operator_names,
    packed,
    unpacked,
)

MOVES = {"DEPTH_TO_SPACE"}
TURNS = {"TRANSPOSE", "RESHAPE"}
TWIN = "_nhwc_bridge"  # how onnx2tf ends the name of what it made channels-last
FIRST = (0, 3, 1, 2)  # where channels-first takes its axes from


def in_integers(content: bytes) -> bytes:
    """Return a quantized TFLite whose moving operators take and give int8 codes.

    Only where nothing else changes: the float ends have no other reader, and the codes behind have
    the codes' scale before, or are the network's answer (which then takes over that scale).
    """
    model = unpacked(content)
    if len(model.subgraphs) != 1:
        return content
    names = operator_names()
    graph = model.subgraphs[0]
    found = [
        move for move in _moves(graph, lambda op: names[code_of(model, op)]) if move.safe(graph)
    ]
    if not found:
        return content
    for move in found:
        move.apply(graph)
    return packed(model, content)


def with_channels_last(content: bytes) -> bytes:
    """Return a TFLite without a last operator that only turns (1, h, w, 1) into (1, 1, h, w)."""
    model = unpacked(content)
    graph = model.subgraphs[0]
    answer = graph.outputs[0]
    last = next((op for op in graph.operators if answer in op.outputs), None)
    if last is None or operator_names()[code_of(model, last)] not in TURNS:
        return content
    before = last.inputs[0]
    given, turned = ([int(n) for n in graph.tensors[i].shape] for i in (before, answer))
    if len(given) != 4 or given[3] != 1 or turned != [1, 1, *given[1:3]]:
        return content
    graph.operators = [op for op in graph.operators if op is not last]
    graph.outputs = [before]
    for signature in model.signatureDefs or []:
        signature.outputs[0].tensorIndex = before
    names = [graph.tensors[i].name for i in (answer, before)]
    graph.tensors[before].name, graph.tensors[answer].name = names
    return packed(model, content)


def with_missing_turned(content: bytes) -> bytes:
    """Return a TFLite in which a tensor that is read, and that no operator makes, is turned from
    its channels-last twin.

    onnx2tf makes the twin alone of a sum that an activation reads, too, and leaves the activation
    channels-first. Without a twin of that name and shape the tensor stays missing.
    """
    model = unpacked(content)
    graph = model.subgraphs[0]
    names = {name_of(tensor): index for index, tensor in enumerate(graph.tensors)}
    turned = 0
    for index in _missing(model, graph):
        twin = names.get(name_of(graph.tensors[index]) + TWIN, index)
        given, wanted = ([int(n) for n in graph.tensors[i].shape] for i in (twin, index))
        maker = [n for n, op in enumerate(graph.operators) if twin in op.outputs]
        if maker and len(given) == 4 and [given[axis] for axis in FIRST] == wanted:
            graph.operators.insert(maker[0] + 1, _turning(model, graph, twin, index))
            turned += 1
    return packed(model, content) if turned else content


def _missing(model: Any, graph: Any) -> list[int]:
    """Return the tensors that are read, but neither made, nor given, nor constants."""
    made = {i for op in graph.operators for i in op.outputs} | set(graph.inputs)
    read = {int(i) for op in graph.operators for i in op.inputs if i >= 0}
    return sorted(i for i in read - made if _is_empty(model.buffers[graph.tensors[i].buffer]))


def _is_empty(buffer: Any) -> bool:
    return buffer.offset <= INLINE and (buffer.data is None or not len(buffer.data))


def _turning(model: Any, graph: Any, source: int, target: int) -> Any:
    """Return a TRANSPOSE from a channels-last tensor to a channels-first one."""
    from ai_edge_litert import schema_py_generated as schema

    axes = schema.BufferT()
    axes.data = np.asarray(FIRST, dtype="<i4").view(np.uint8)
    model.buffers.append(axes)
    order = schema.TensorT()
    order.name, order.shape = f"{name_of(graph.tensors[target])}_axes", [len(FIRST)]
    order.type, order.buffer = schema.TensorType.INT32, len(model.buffers) - 1
    graph.tensors.append(order)
    operator = schema.OperatorT()
    operator.opcodeIndex = _opcode(model, schema.BuiltinOperator.TRANSPOSE)
    operator.inputs, operator.outputs = [source, len(graph.tensors) - 1], [target]
    operator.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
    operator.builtinOptions = schema.TransposeOptionsT()
    return operator


def _opcode(model: Any, kind: int) -> int:
    """Return where a file lists a built-in operator; it is added where it does not."""
    from ai_edge_litert import schema_py_generated as schema

    for index, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = kind
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


@dataclass(frozen=True)
class _Move:
    """DEQUANTIZE, a moving operator, QUANTIZE: nothing else reads what lies between them."""

    before: Any
    operator: Any
    behind: Any

    def _ends(self, graph: Any) -> tuple[Any, Any]:
        return graph.tensors[self.before.inputs[0]], graph.tensors[self.behind.outputs[0]]

    def safe(self, graph: Any) -> bool:
        """Whether the codes behind may have the scale of the codes before."""
        codes, moved = self._ends(graph)
        index = self.behind.outputs[0]
        read = any(index in op.inputs for op in graph.operators)
        return codes.type == moved.type and (not read or _scale(codes) == _scale(moved))

    def apply(self, graph: Any) -> None:
        """Join the ends; drop the two conversions."""
        codes, moved = self._ends(graph)
        moved.quantization = copy.deepcopy(codes.quantization)
        self.operator.inputs = [self.before.inputs[0], *self.operator.inputs[1:]]
        self.operator.outputs = list(self.behind.outputs)
        graph.operators = [
            op for op in graph.operators if op is not self.before and op is not self.behind
        ]


def _moves(graph: Any, kind: Callable[[Any], str]) -> list[_Move]:
    """The moving operators that stand between two conversions of their own."""
    found = []
    for operator in graph.operators:
        if kind(operator) not in MOVES:
            continue
        enters, leaves = operator.inputs[0], operator.outputs[0]
        makers = [op for op in graph.operators if enters in op.outputs]
        readers = [op for op in graph.operators if leaves in op.inputs]
        alone = sum(enters in op.inputs for op in graph.operators) == 1
        kinds = [kind(op) for op in (*makers, *readers)]
        if alone and leaves not in graph.outputs and kinds == ["DEQUANTIZE", "QUANTIZE"]:
            found.append(_Move(makers[0], operator, readers[0]))
    return found


def _scale(tensor: Any) -> tuple[list[float], list[int]]:
    return list(tensor.quantization.scale), list(tensor.quantization.zeroPoint)
