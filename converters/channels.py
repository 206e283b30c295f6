"""Channel shuffles folded into the weights around them.

A shuffle (Reshape, Transpose, Reshape) is a Gather of channels. A Gather moves down the graph:
through element-wise operators, pools, resizes and depthwise convolutions, through Split and
Concat, into the next 1x1 or dense convolution. What cannot go further becomes a slice, or a 1x1
convolution of zeros and ones. Exact in real arithmetic. Why: TFLite's GATHER and TRANSPOSE leave
XNNPACK.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from edge_seg.converters.graph import Array, Graph, attribute

MAX_TRACED = 1 << 24  # elements of a tensor whose shuffle is traced, 128 MB of indices

ELEMENTWISE = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "Tanh", "Elu"}
PER_CHANNEL = {"PRelu", "BatchNormalization", "Add", "Sub", "Mul", "Div"}  # with constants
SPATIAL = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Pad"}


def fold_channel_moves(graph: Graph) -> int:
    """Fold every channel shuffle; return how many steps that took."""
    steps = name_shuffles(graph)
    while True:
        graph.refresh()
        if not any(_push(graph, node) for node in _gathers(graph)):
            break
        steps += 1
    return steps + settle_gathers(graph)


def name_shuffles(graph: Graph) -> int:
    """Turn Reshape -> Transpose -> Reshape that only moves channels into a Gather of channels."""
    found = 0
    for last in [n for n in graph.nodes if n.op_type == "Reshape"]:
        middle = graph.producer(last.input[0])
        first = graph.producer(middle.input[0]) if middle is not None else None
        if middle is None or first is None:
            continue
        if middle.op_type != "Transpose" or first.op_type != "Reshape":
            continue
        order = _traced(graph, first, middle, last)
        if order is None:
            continue
        index = graph.constant(order, "order")
        gathered = graph.add("Gather", [first.input[0], index], "gather", axis=1)
        graph.redirect(last.output[0], gathered)
        graph.remove(last)
        found += 1
    return found


def _traced(graph: Graph, first: NodeProto, middle: NodeProto, last: NodeProto) -> Array | None:
    """Return the channel order of the three nodes together, or None where it is not one."""
    names = (first.input[0], first.output[0], last.output[0])
    shapes = [graph.shapes.get(name) for name in names]
    source, inner, target = shapes
    if source is None or inner is None or target is None or source != target:
        return None
    if len(source) != 4 or source[0] != 1 or np.prod(source) > MAX_TRACED:
        return None
    ids = np.arange(np.prod(source)).reshape(source)
    moved = ids.reshape(inner).transpose(attribute(middle, "perm")).reshape(target)
    order = moved[0, :, 0, 0] // (source[2] * source[3])
    return order if np.array_equal(moved, ids[:, order]) else None


def _gathers(graph: Graph) -> list[NodeProto]:
    return [
        n
        for n in graph.nodes
        if n.op_type == "Gather"
        and attribute(n, "axis", 0) == 1
        and n.input[1] in graph.constants
        and graph.constants[n.input[1]].ndim == 1
        and len(graph.shapes.get(n.input[0], ())) == 4
        and n.input[0] not in graph.constants
    ]


def _push(graph: Graph, gather: NodeProto) -> bool:
    """Move one Gather one step down, towards one of its readers; tell whether it moved."""
    order = graph.constants[gather.input[1]]
    channels = graph.shapes[gather.input[0]][1]
    order = np.where(order < 0, order + channels, order)
    if np.array_equal(order, np.arange(channels)):
        graph.redirect(gather.output[0], gather.input[0])
        graph.remove(gather)
        return True
    if graph.is_output(gather.output[0]):
        return False
    whole = len(order) == channels and len(set(order.tolist())) == channels
    for reader in graph.consumers(gather.output[0]):
        if _into(graph, gather, reader, order) or (whole and _past(graph, gather, reader, order)):
            return True
    return False


def _into(graph: Graph, gather: NodeProto, reader: NodeProto, order: Array) -> bool:
    """Let a reader absorb the Gather, or take its part of it. Any selection of channels."""
    if reader.op_type == "Gather" and reader in _gathers(graph):
        inner = graph.constants[reader.input[1]]
        _attach(graph, gather, reader)
        reader.input[1] = graph.constant(order[inner], "order")
        return True
    if reader.op_type == "Split" and attribute(reader, "axis", 0) == 1:
        start = 0
        for output in list(reader.output):
            count = graph.shapes[output][1]
            index = graph.constant(order[start : start + count], "order")
            part = graph.add("Gather", [gather.input[0], index], "gather", axis=1)
            graph.redirect(output, part)
            start += count
        graph.remove(reader)
        return True
    if reader.op_type == "Conv" and _dense(graph, reader, gather.output[0]):
        return _into_dense(graph, gather, reader, order)
    return False


def _into_dense(graph: Graph, gather: NodeProto, conv: NodeProto, order: Array) -> bool:
    """Let a dense convolution read the whole tensor, with zeros for what was not gathered.

    Where that would cost more than gathering by a 1x1 convolution of its own, leave it.
    """
    weight = graph.constants[conv.input[1]]
    channels = graph.shapes[gather.input[0]][1]
    extra = (channels - len(order)) * weight[:, 0].size
    if extra > channels * len(order):
        return False
    wide = np.zeros((weight.shape[0], channels, *weight.shape[2:]), dtype=weight.dtype)
    for position, channel in enumerate(order):
        wide[:, channel] += weight[:, position]
    _attach(graph, gather, conv)
    conv.input[1] = graph.constant(wide, "weight")
    return True


def _past(graph: Graph, gather: NodeProto, reader: NodeProto, order: Array) -> bool:
    """Let a permutation and its reader change places."""
    kind = reader.op_type
    if kind == "Concat" and attribute(reader, "axis") == 1:
        return _past_concat(graph, gather, reader, order)
    if kind == "Conv" and _depthwise(graph, reader, gather.output[0]):
        return _past_depthwise(graph, gather, reader, order)
    if kind in PER_CHANNEL:
        return _past_per_channel(graph, gather, reader, order)
    if kind in ELEMENTWISE or (kind in SPATIAL and graph.leaves_channels(reader)):
        if list(reader.input).count(gather.output[0]) != 1 or len(reader.output) != 1:
            return False
        _attach(graph, gather, reader)
        _gather_after(graph, reader, order)
        return True
    return False


def _past_concat(graph: Graph, gather: NodeProto, reader: NodeProto, order: Array) -> bool:
    pieces, start = [], 0
    for name in reader.input:
        channels = graph.shapes[name][1]
        part = order if name == gather.output[0] else np.arange(channels)
        pieces.append(part + start)
        start += channels
    _attach(graph, gather, reader)
    _gather_after(graph, reader, np.concatenate(pieces))
    return True


def _past_depthwise(graph: Graph, gather: NodeProto, conv: NodeProto, order: Array) -> bool:
    weight = graph.constants[conv.input[1]]
    multiple = len(weight) // len(order)  # outputs per input channel
    outputs = (order[:, None] * multiple + np.arange(multiple)).reshape(-1)
    back = np.argsort(outputs)
    _attach(graph, gather, conv)
    conv.input[1] = graph.constant(weight[back], "weight")
    if len(conv.input) > 2 and conv.input[2]:
        conv.input[2] = graph.constant(graph.constants[conv.input[2]][back], "bias")
    _gather_after(graph, conv, outputs)
    return True


def _past_per_channel(graph: Graph, gather: NodeProto, node: NodeProto, order: Array) -> bool:
    """Change places with an operator whose other inputs are constants, one number per channel."""
    name = gather.output[0]
    if list(node.input).count(name) != 1 or len([o for o in node.output if o]) != 1:
        return False
    back = np.argsort(order)
    changed: dict[int, Array] = {}
    for position, other in enumerate(node.input):
        if other == name:
            continue
        value = graph.constants.get(other)
        if value is None:
            return False
        if value.size == 1:
            continue
        axis = 0 if node.op_type == "BatchNormalization" else value.ndim - 3
        if axis < 0 or value.shape[axis] != len(order):
            return False
        changed[position] = np.take(value, back, axis=axis)
    for position, value in changed.items():
        node.input[position] = graph.constant(value, "reordered")
    _attach(graph, gather, node)
    _gather_after(graph, node, order)
    return True


def _attach(graph: Graph, gather: NodeProto, reader: NodeProto) -> None:
    graph.redirect(gather.output[0], gather.input[0], only=[reader])


def _gather_after(graph: Graph, node: NodeProto, order: Array) -> None:
    """Insert a Gather behind a node that now computes its channels in another order."""
    old = node.output[0]
    node.output[0] = graph.fresh("reordered")
    index = graph.constant(order.astype(np.int64), "order")
    gathered = graph.add("Gather", [node.output[0], index], "gather", axis=1)
    graph.redirect(old, gathered)


def _dense(graph: Graph, conv: NodeProto, name: str) -> bool:
    return (
        attribute(conv, "group", 1) == 1
        and conv.input[0] == name
        and conv.input[1] in graph.constants
    )


def _depthwise(graph: Graph, conv: NodeProto, name: str) -> bool:
    shape = graph.shapes.get(name)
    constant = all(not i or i in graph.constants for i in conv.input[1:])
    return bool(
        shape and conv.input[0] == name and constant and attribute(conv, "group", 1) == shape[1] > 1
    )


def settle_gathers(graph: Graph) -> int:
    """Turn what is left of the Gathers into slices, or 1x1 convolutions of zeros and ones."""
    found = 0
    for gather in _gathers(graph):
        order = graph.constants[gather.input[1]]
        if np.array_equal(order, np.arange(order[0], order[0] + len(order))):
            ends = [np.array([v], dtype=np.int64) for v in (order[0], order[0] + len(order), 1)]
            inputs = [graph.constant(v, "range") for v in ends]
            picked = graph.add("Slice", [gather.input[0], *inputs], "sliced")
        else:
            channels = graph.shapes[gather.input[0]][1]
            weight = np.zeros((len(order), channels, 1, 1), dtype=np.float32)
            weight[np.arange(len(order)), order] = 1.0
            inputs = [gather.input[0], graph.constant(weight, "select")]
            picked = graph.add("Conv", inputs, "selected", kernel_shape=[1, 1])
        graph.redirect(gather.output[0], picked)
        graph.remove(gather)
        found += 1
    return found
