"""The head of a network reduced to one channel: the logit of "person", exactly.

    Softmax over two classes   l_person - l_other            p = sigmoid(l_person - l_other)
    Sigmoid                    the channel before it
    none, one logit            the channel
    none, two logits           l_person - l_other: what the softmax left out would give

The reduction is linear, so it folds into the last convolution, or stands before the last
upsampling, which then works on one channel instead of two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from edge_seg.converters.graph import Array, Graph, attribute
from edge_seg.converters.rewrites import fold_constants
from edge_seg.errors import ConversionError
from edge_seg.spec import OutputSpec

OUTPUT_NAME = "logit"
TRANSPARENT = {"Identity", "Dropout", "Cast"}


@dataclass
class _Head:
    """Where the walk from the output upwards stands.

    name: the tensor. axes: which of its axes are N, C, H, W. channel: the person's index in it.
    activation: "Softmax" | "Sigmoid" | "" met on the way.
    """

    name: str
    axes: tuple[int, int, int, int]
    channel: int
    activation: str = ""


def single_logit(model: ModelProto, output: OutputSpec) -> ModelProto:
    """Return the network with one output "logit", float32 (1, 1, h, w), person where > 0.

    model: what converters.onnx.load returns. output: which channel is the person, and whether
    the network ends in probabilities or logits. Raises ConversionError where the head is
    something else, with the reason.
    """
    graph = Graph(fold_constants(model))
    _check_static(graph)
    _free_name(graph)
    head = _start(graph, output)
    while _step_up(graph, head):
        pass
    weights = _combination(graph, head, output)
    name = _as_nchw(graph, head)
    logit = _reduced(graph, name, weights)
    height, width = _spatial(graph, name)
    if graph.producer(logit) is None:
        raise ConversionError("wanted a network, found its output to be its input; check the file")
    named = helper.make_node("Identity", [logit], [OUTPUT_NAME], name=OUTPUT_NAME)
    graph.nodes.append(named)
    graph.outputs = [
        helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, 1, height, width])
    ]
    return fold_constants(graph.to_model())


def _check_static(graph: Graph) -> None:
    for node in graph.nodes:
        if any(name and name not in graph.shapes for name in node.output):
            raise ConversionError(
                f"node {node.name or node.output[0]!r} ({node.op_type}): wanted static shapes, "
                "found one that depends on the picture or is not known; export the model with "
                "fixed sizes and without operators such as NonZero or Unique"
            )


def _free_name(graph: Graph) -> None:
    """Rename a tensor that is called as our output will be, as in a network converted before."""
    if graph.producer(OUTPUT_NAME) is None:
        return
    name = graph.fresh(OUTPUT_NAME)
    graph.rename(OUTPUT_NAME, name)
    graph.shapes[name] = graph.shapes[OUTPUT_NAME]
    for output in graph.outputs:
        if output.name == OUTPUT_NAME:
            output.name = name


def _start(graph: Graph, output: OutputSpec) -> _Head:
    if len(graph.outputs) != 1:
        names = ", ".join(v.name for v in graph.outputs[:8])
        raise ConversionError(
            f"wanted one output, found {len(graph.outputs)} ({names}); "
            "export the model with the mask as its only output"
        )
    name = graph.outputs[0].name
    shape = graph.shapes.get(name)
    producer = graph.producer(name)
    if producer is not None and producer.op_type == "ArgMax":
        _refuse_arg_max(producer)
    if shape is None or len(shape) != 4 or shape[0] != 1:
        raise ConversionError(
            f"output {name!r}: wanted (1, channels, height, width), found {shape}; "
            "export the model with a 4-D output"
        )
    # (1, C, H, W) or (1, H, W, C): the channel axis is the short one.
    axes = (0, 1, 2, 3) if shape[1] <= shape[3] else (0, 3, 1, 2)
    channels = shape[axes[1]]
    if output.channel >= channels:
        raise ConversionError(
            f"output {name!r}: wanted the person in channel {output.channel}, found {channels} "
            "channel(s); correct `channel` in the spec"
        )
    return _Head(name, axes, output.channel)


def _refuse_arg_max(node: NodeProto) -> None:
    raise ConversionError(
        f"node {node.name or node.output[0]!r}: wanted probabilities or logits, found ArgMax, "
        "which leaves hard labels without a soft edge; export the model without its last ArgMax"
    )


def _step_up(graph: Graph, head: _Head) -> bool:
    """Move the walk over one node that is layout, selection or activation; False at the rest."""
    node = graph.producer(head.name)
    if node is None:
        return False
    kind = node.op_type
    if kind == "ArgMax":
        _refuse_arg_max(node)
    if kind in TRANSPARENT:
        head.name = node.input[0]
        return True
    if kind == "Transpose":
        order = attribute(node, "perm")
        n, c, h, w = (order[a] for a in head.axes)
        head.axes = (n, c, h, w)
        head.name = node.input[0]
        return True
    if kind in ("Slice", "Gather", "Split"):
        return _over_selection(graph, head, node)
    if kind in ("Softmax", "Sigmoid") and not head.activation:
        rank = len(graph.shapes[node.input[0]])
        if kind == "Softmax" and attribute(node, "axis", -1) % rank != head.axes[1]:
            raise ConversionError(
                f"node {node.name or node.output[0]!r}: wanted a Softmax over the channels, found "
                f"one over axis {attribute(node, 'axis', -1)}; export the model again"
            )
        head.activation, head.name = kind, node.input[0]
        return True
    return False


def _over_selection(graph: Graph, head: _Head, node: NodeProto) -> bool:
    """Follow the person's channel through a Slice, Gather or Split of channels."""
    shape = graph.shapes.get(node.input[0])
    if shape is None or len(shape) != 4:
        return False
    ids = np.arange(shape[head.axes[1]]).reshape([-1 if a == head.axes[1] else 1 for a in range(4)])
    kept = _selected(graph, node, np.broadcast_to(ids, shape), head.name)
    if kept is None or kept.ndim != 4:
        return False
    same = all(kept.shape[a] == shape[a] for a in range(4) if a != head.axes[1])
    if not same:
        return False
    head.channel = int(np.moveaxis(kept, head.axes[1], 0)[head.channel].flat[0])
    head.name = node.input[0]
    return True


def _selected(graph: Graph, node: NodeProto, ids: Array, output: str) -> Array | None:
    """Apply a Slice, Gather or Split with constant settings to an array of channel numbers."""
    settings = [graph.constants.get(i) for i in node.input[1:] if i]
    if any(s is None for s in settings):
        return None
    values = [s for s in settings if s is not None]
    if node.op_type == "Gather":
        return np.take(ids, values[0], axis=attribute(node, "axis", 0))
    if node.op_type == "Slice":
        starts, ends = values[0], values[1]
        axes = values[2] if len(values) > 2 else np.arange(len(starts))
        steps = values[3] if len(values) > 3 else np.ones(len(starts), dtype=np.int64)
        cut: list[slice] = [slice(None)] * 4
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            if step < 0:
                return None
            cut[int(axis)] = slice(int(start), int(end), int(step))
        return ids[tuple(cut)]
    axis, start = attribute(node, "axis", 0), 0
    for name in node.output:
        count = graph.shapes[name][axis]
        if name == output:
            return np.take(ids, np.arange(start, start + count), axis=axis)
        start += count
    return None


def _combination(graph: Graph, head: _Head, output: OutputSpec) -> Array:
    """Return the weights, one per channel, of the person's logit."""
    channels = graph.shapes[head.name][head.axes[1]]
    weights = np.zeros(channels, dtype=np.float32)
    weights[head.channel] = 1.0
    if (output.activation == "probability") != bool(head.activation):
        node = graph.producer(head.name)
        last = head.activation or (node.op_type if node is not None else "its input")
        other = "logit" if output.activation == "probability" else "probability"
        raise ConversionError(
            f"output: wanted a network that ends in {_ending(output)}, found that it ends in "
            f"{last}; set activation = {other!r} in the spec, or export the model again"
        )
    # Two channels without an activation are two exclusive classes, one logit each.
    if head.activation == "Sigmoid" or (not head.activation and channels != 2):
        return weights
    if channels != 2:
        raise ConversionError(
            f"wanted a Softmax over 2 classes, found {channels}: with more, the person's logit is "
            "no linear function of theirs; export the model with two classes or a Sigmoid"
        )
    weights[1 - head.channel] = -1.0
    return weights


def _ending(output: OutputSpec) -> str:
    return "a Softmax or Sigmoid" if output.activation == "probability" else "logits"


def _as_nchw(graph: Graph, head: _Head) -> str:
    if head.axes == (0, 1, 2, 3):
        return head.name
    source = graph.shapes[head.name]
    name = graph.add("Transpose", [head.name], "nchw", perm=list(head.axes))
    graph.shapes[name] = tuple(source[a] for a in head.axes)
    return name


def _spatial(graph: Graph, name: str) -> tuple[int, int]:
    shape = graph.shapes[name]
    return shape[2], shape[3]


def _reduced(graph: Graph, name: str, weights: Array) -> str:
    """Add `sum_c weights[c] * x[c]`, as far up as it commutes; return its name."""
    if len(weights) == 1 and weights[0] == 1.0:
        return name
    node = graph.producer(name)
    if node is not None and node.op_type == "Resize" and _resizes_space(graph, node):
        return _resized(graph, node, _reduced(graph, node.input[0], weights))
    if node is not None and node.op_type == "Conv" and _foldable(graph, node):
        weight = graph.constants[node.input[1]]
        inputs = [node.input[0], graph.constant(_mixed(weights, weight), "weight")]
        if len(node.input) > 2 and node.input[2]:
            bias = graph.constants[node.input[2]]
            inputs.append(graph.constant(_mixed(weights, bias), "bias"))
        made = graph.add("Conv", inputs, "logit")
        graph.nodes[-1].attribute.extend(node.attribute)
        return made
    kernel = graph.constant(weights.reshape(1, -1, 1, 1), "difference")
    return graph.add("Conv", [name, kernel], "logit", kernel_shape=[1, 1])


def _mixed(weights: Array, values: Array) -> Array:
    """Return sum_c weights[c] * values[c], summed in double precision, keeping the axis."""
    mixed = np.tensordot(weights.astype(np.float64), values.astype(np.float64), axes=1)
    return mixed[None].astype(np.float32)


def _foldable(graph: Graph, conv: NodeProto) -> bool:
    constant = all(not i or i in graph.constants for i in conv.input[1:])
    return constant and attribute(conv, "group", 1) == 1


def _resizes_space(graph: Graph, node: NodeProto) -> bool:
    before, after = graph.shapes.get(node.input[0]), graph.shapes.get(node.output[0])
    settled = all(not i or i in graph.constants for i in node.input[1:])
    return bool(settled and before and after and before[:2] == after[:2])


def _resized(graph: Graph, node: NodeProto, name: str) -> str:
    """Add a Resize like `node` for one channel."""
    inputs = [name, *node.input[1:]]
    if len(inputs) > 3 and inputs[3]:
        sizes = graph.constants[inputs[3]].copy()
        if len(sizes) == 4:
            sizes[1] = 1
        inputs[3] = graph.constant(sizes, "sizes")
    made = graph.add("Resize", inputs, "upsampled")
    graph.nodes[-1].attribute.extend(node.attribute)
    return made
