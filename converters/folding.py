"""Scales, shifts and dead weights folded into the convolutions around them.

Each takes a Graph, changes it in place and returns how many places it changed. Identities of real
arithmetic, up to float rounding; scalars and one number per channel.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from edge_seg.converters.graph import Array, Graph, attribute

# A channel whose weights sum to less than this adds under 1e-7 to its bias for activations up to
# 1e5: nothing that float32 would keep beside a bias that matters.
DEAD_WEIGHT_SUM = 1e-12
MAX_CONSTANT = 1 << 22  # elements; larger constants are left to be computed


def fold_dead_convolutions(graph: Graph) -> int:
    """Replace a convolution whose weights are all ~0 by its bias, a constant.

    Such layers (a squeeze-excite gate that training switched off) break quantizers: their scale
    is ~0, so the int32 biases overflow and the branch is erased without an error.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Conv"]:
        weight, shape = graph.constants.get(node.input[1]), graph.shapes.get(node.output[0])
        if weight is None or shape is None or np.prod(shape) > MAX_CONSTANT:
            continue
        if np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() >= DEAD_WEIGHT_SUM:
            continue
        bias = conv_bias(graph, node)
        if bias is None:
            continue
        value = np.broadcast_to(bias.reshape(1, -1, 1, 1), shape).copy()
        graph.redirect(node.output[0], graph.constant(value, "dead"))
        graph.remove(node)
        found += 1
    return found


def conv_bias(graph: Graph, node: NodeProto) -> Array | None:
    """Return a convolution's bias (zeros if it has none), or None where it is not a constant."""
    weight = graph.constants[node.input[1]]
    if len(node.input) < 3 or not node.input[2]:
        channels = weight.shape[0]
        return np.zeros(channels, dtype=weight.dtype)
    return graph.constants.get(node.input[2])


def set_conv(graph: Graph, node: NodeProto, weight: Array, bias: Array) -> None:
    """Give a convolution new constants (its own: others may share the old ones)."""
    kept = [node.input[0], graph.constant(weight, "weight"), graph.constant(bias, "bias")]
    del node.input[:]
    node.input.extend(kept)


def divide_by_multiplying(graph: Graph) -> int:
    """Write x / c as x * (1 / c) for a constant c, so that one rule folds both."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Div"]:
        divisor = graph.constants.get(node.input[1])
        if divisor is None or divisor.dtype != np.float32 or not np.all(divisor):
            continue
        node.op_type = "Mul"
        node.input[1] = graph.constant((1.0 / divisor).astype(np.float32), "reciprocal")
        found += 1
    return found


def delay_scales(graph: Graph) -> int:
    """Move a constant scale behind a product: (c x) y = c (x y), for scalars and per channel."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Mul"]:
        if any(i in graph.constants for i in node.input):
            continue
        for position in (0, 1):
            inner = graph.producer(node.input[position])
            if inner is None or inner.op_type != "Mul" or not graph.sole_consumer(inner.output[0]):
                continue
            scaled = scale_of(graph, inner)
            if scaled is None:
                continue
            data, factor = scaled
            shape = graph.shapes.get(node.output[0])
            if shape is None or not _fits(factor, shape):
                continue
            node.input[position] = data
            name = graph.constant(factor, "scale")
            readers = graph.consumers(node.output[0])
            delayed = graph.add("Mul", [node.output[0], name], "delayed")
            _redirect_readers(graph, node, delayed, readers)
            found += 1
            break
    return found


def _redirect_readers(graph: Graph, node: NodeProto, new: str, readers: list[NodeProto]) -> None:
    old = node.output[0]
    if not graph.is_output(old):
        graph.redirect(old, new, only=readers)
        return
    inner = graph.fresh(old)  # the output's name goes to the last node of the chain
    node.output[0] = inner
    for reader in graph.consumers(old):
        for position, name in enumerate(reader.input):
            if name == old:
                reader.input[position] = inner if new in reader.output else new
    graph.replace_output(new, old)


def scale_of(graph: Graph, node: NodeProto) -> tuple[str, Array] | None:
    """Return (data, factor) of a Mul by a constant, factor as scalar or (1, C, 1, 1)."""
    for position in (0, 1):
        factor = graph.constants.get(node.input[position])
        if factor is None or factor.dtype != np.float32:
            continue
        data = node.input[1 - position]
        shape = graph.shapes.get(data)
        if shape is None or data in graph.constants or len(shape) != 4:
            return None
        if factor.size == 1:
            return data, factor.reshape(())
        full: Array = factor.reshape((1,) * (4 - factor.ndim) + factor.shape)
        if full.shape[0] == 1 and full.shape[1] == shape[1]:
            plane = full.reshape(shape[1], -1)
            if np.array_equal(plane.min(axis=1), plane.max(axis=1)):  # one number per channel
                return data, plane[:, 0].reshape(1, -1, 1, 1)
        return None
    return None


def _fits(factor: Array, shape: tuple[int, ...]) -> bool:
    return factor.ndim == 0 or (len(shape) == 4 and factor.shape[1] == shape[1])


def fold_scales(graph: Graph) -> int:
    """Fold a constant scale (scalar or per channel) into the convolutions around it.

    Into every convolution that reads it, where all its readers are convolutions; else into the
    convolution before it, where nothing else reads that.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Mul"]:
        scaled = scale_of(graph, node)
        if scaled is None or graph.is_output(node.output[0]):
            continue
        data, factor = scaled
        readers = graph.consumers(node.output[0])
        before = graph.producer(data)
        if readers and all(_takes_scale(graph, r, node.output[0]) for r in readers):
            for reader in readers:
                _scale_inputs(graph, reader, factor)
                reader.input[0] = data
        elif (
            before is not None
            and before.op_type == "Conv"
            and graph.sole_consumer(data) is node
            and before.input[1] in graph.constants
            and conv_bias(graph, before) is not None
        ):
            _scale_outputs(graph, before, factor)
            graph.redirect(node.output[0], data)
        else:
            continue
        graph.remove(node)
        found += 1
    return found


def _takes_scale(graph: Graph, node: NodeProto, name: str) -> bool:
    return (
        node.op_type == "Conv"
        and list(node.input).count(name) == 1
        and node.input[0] == name
        and node.input[1] in graph.constants
        and conv_bias(graph, node) is not None
    )


def _scale_inputs(graph: Graph, conv: NodeProto, factor: Array) -> None:
    weight = graph.constants[conv.input[1]]
    bias = conv_bias(graph, conv)
    assert bias is not None
    group = attribute(conv, "group", 1)
    per_input = np.broadcast_to(factor.reshape(-1), (weight.shape[1] * group,))
    outputs = np.arange(len(weight)) // (len(weight) // group)  # the group of each output
    scale = per_input.reshape(group, -1)[outputs]
    set_conv(graph, conv, (weight * scale[:, :, None, None]).astype(np.float32), bias)


def _scale_outputs(graph: Graph, conv: NodeProto, factor: Array) -> None:
    weight, bias = graph.constants[conv.input[1]], conv_bias(graph, conv)
    assert bias is not None
    per_output = np.broadcast_to(factor.reshape(-1), (len(weight),))
    set_conv(graph, conv, weight * per_output[:, None, None, None], bias * per_output)


def fold_shifts(graph: Graph) -> int:
    """Fold the addition of a constant (scalar or per channel) into the convolution before it."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Add"]:
        for position in (0, 1):
            shift = graph.constants.get(node.input[position])
            conv = graph.producer(node.input[1 - position])
            if shift is None or conv is None or conv.op_type != "Conv":
                continue
            bias = conv_bias(graph, conv) if conv.input[1] in graph.constants else None
            per_channel = None if bias is None else _per_channel(shift, len(bias))
            if per_channel is None or graph.sole_consumer(conv.output[0]) is not node:
                continue
            assert bias is not None
            set_conv(graph, conv, graph.constants[conv.input[1]], bias + per_channel)
            graph.redirect(node.output[0], conv.output[0])
            graph.remove(node)
            found += 1
            break
    return found


def _per_channel(value: Array, channels: int) -> Array | None:
    if value.dtype != np.float32:
        return None
    if value.size == 1:
        return np.full(channels, value.reshape(-1)[0], dtype=np.float32)
    padded = value.reshape((1,) * max(0, 4 - value.ndim) + value.shape)
    return padded.reshape(-1) if padded.shape == (1, channels, 1, 1) else None
