"""Activation functions written as what every integer kernel has: Relu, and Clip from 0 to 6.

Each takes a Graph, changes it in place, exactly, and returns how many places it changed.
"""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from edge_seg.converters.folding import conv_bias, set_conv
from edge_seg.converters.graph import Graph, attribute


def relu_for_clip(graph: Graph) -> int:
    """Write Clip(x, 0, no upper end), which is torch's clamp(min=0), as Relu(x).

    Clip with one end alone becomes Maximum, which the quantizer leaves in float.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Clip"]:
        low, high = (_end(graph, node, which) for which in (1, 2))
        if low != 0 or high not in (None, np.inf):
            continue
        graph.redirect(node.output[0], graph.add("Relu", [node.input[0]], "relu"))
        graph.remove(node)
        found += 1
    return found


def _end(graph: Graph, node: NodeProto, which: int) -> float | None:
    """Return an end of a Clip, None where it has none, NaN where it is computed."""
    if len(node.input) <= which or not node.input[which]:
        return None
    value = graph.constants.get(node.input[which])
    return math.nan if value is None else float(value.item())


def spell_out_hard_sigmoid(graph: Graph) -> int:
    """Write HardSigmoid(x) = clip(a x + b, 0, 1) as clip(6a x + 6b, 0, 6) / 6.

    The first half folds into the convolution before it and its ReLU6, the 1/6 into the one
    after: nothing is left but a ReLU6, which every integer kernel has.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "HardSigmoid"]:
        alpha, beta = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        _replace_by_sixth(graph, node, _gate(graph, node.input[0], 6.0 * alpha, 6.0 * beta))
        found += 1
    return found


def spell_out_hard_swish(graph: Graph) -> int:
    """Write HardSwish(x) as x * clip(x + 3, 0, 6) / 6: its integer kernel is slow or absent."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "HardSwish"]:
        gate = _gate(graph, node.input[0], 1.0, 3.0)
        _replace_by_sixth(graph, node, graph.add("Mul", [node.input[0], gate], "hard_swish"))
        found += 1
    return found


def _gate(graph: Graph, name: str, alpha: float, beta: float) -> str:
    """Add clip(alpha x + beta, 0, 6); return its name."""
    if alpha != 1.0:
        name = graph.add("Mul", [name, _scalar(graph, alpha)], "gate")
    shifted = graph.add("Add", [name, _scalar(graph, beta)], "gate")
    return graph.add("Clip", [shifted, _scalar(graph, 0.0), _scalar(graph, 6.0)], "gate")


def _replace_by_sixth(graph: Graph, node: NodeProto, name: str) -> None:
    """Put a sixth of a tensor in a node's place."""
    sixth = graph.add("Mul", [name, _scalar(graph, 1 / 6)], "sixth")
    graph.redirect(node.output[0], sixth)
    graph.remove(node)


def _scalar(graph: Graph, value: float) -> str:
    return graph.constant(np.array(value, dtype=np.float32), "scalar")


def clip_behind_additions(graph: Graph) -> int:
    """Move the bias of a convolution on a 1x1 map into an Add, where a ReLU6 follows.

    onnx2tf does not fuse a ReLU6 with such a convolution, and the quantizer leaves a lone RELU6
    in float. It does fuse with an addition.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Clip"]:
        conv = graph.producer(node.input[0])
        if conv is None or conv.op_type != "Conv" or conv.input[1] not in graph.constants:
            continue
        shape, bias = graph.shapes.get(conv.output[0]), conv_bias(graph, conv)
        if shape is None or shape[2:] != (1, 1) or bias is None:
            continue
        if graph.sole_consumer(conv.output[0]) is not node:
            continue
        set_conv(graph, conv, graph.constants[conv.input[1]], np.zeros_like(bias))
        shift = graph.constant(bias.reshape(1, -1, 1, 1), "shift")
        node.input[0] = graph.add("Add", [conv.output[0], shift], "shifted")
        found += 1
    return found
