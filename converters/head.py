"""The head of a network reduced to one channel: the logit of "person", exactly.

    Sigmoid                       the channel before it
    none, one logit               the channel
    Softmax over two classes      x_person - x_other
    none, two logits              the same: what the softmax left out would give
    Softmax over more, or logits  min over the others of (x_person - x_other)
    one logit, a difference       the same, where its two terms are channels of one tensor

Several channels without an activation are exclusive classes: the graph cannot tell them from
independent ones, and those are told by ending in a Sigmoid.

The differences are linear, so they fold into the last convolution, or stand before the last
upsampling, which then works on one channel less. With more than two classes the least of them is
the person's lead over the strongest other class. Its sigmoid is p_person / (p_person + p_rival):
1/2 exactly where the person becomes the likeliest class, which is the mask such networks are
measured by (argmax), and from 1/2 on never less than the softmax's own p_person. That one would be
x_person - logsumexp(others): below 1/2 where three classes share a pixel and the person leads, and
Exp and Log have no int8 form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from edge_seg.converters.graph import Array, Graph, attribute, reduce_min
from edge_seg.converters.ort import fold_constants
from edge_seg.errors import ConversionError
from edge_seg.spec import OutputSpec

OUTPUT_NAME = "logit"
TRANSPARENT = {"Identity", "Dropout", "Cast"}
SELECTIONS = {"Slice", "Gather", "Split"}
LAYOUT = TRANSPARENT | SELECTIONS | {"Transpose"}
ACTIVATIONS = {"Softmax", "Sigmoid"}
# What leaves classes instead of how sure the network is of them.
HARD = {"ArgMax", "ArgMin", "Round", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"}


@dataclass
class _Head:
    """Where the walk from the output upwards stands.

    name: the tensor. axes: which of its axes are N, C, H, W. channel: the person's index in it.
    shown: the indices in it of all channels that the network returns.
    activation: "Softmax" | "Sigmoid" | "" met on the way.
    """

    name: str
    axes: tuple[int, int, int, int]
    channel: int
    shown: list[int]
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
    name, weights = _of_difference(graph, name, weights)
    logit = _least(graph, _reduced(graph, name, weights), len(weights))
    height, width = graph.shapes[name][2:]
    if graph.producer(logit) is None:
        raise ConversionError("wanted a network, found its output to be its input; check the file")
    named = helper.make_node("Identity", [logit], [OUTPUT_NAME], name=OUTPUT_NAME)
    graph.nodes.append(named)
    graph.outputs = [
        helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [1, 1, height, width])
    ]
    return fold_constants(graph.to_model())


def check_output(model: ModelProto) -> None:
    """Refuse what no OutputSpec describes: several outputs, hard labels, an output that is not 4-D.

    model: what converters.onnx.load returns. Raises ConversionError.
    """
    _start(Graph(fold_constants(model)), OutputSpec())


def last_activation(model: ModelProto) -> str:
    """Return "Softmax" or "Sigmoid" where the network ends in one, layout and selection aside;
    "" where it ends in something else.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    node = makers.get(model.graph.output[0].name)
    while node is not None and node.op_type in LAYOUT:
        node = makers.get(node.input[0])
    return node.op_type if node is not None and node.op_type in ACTIVATIONS else ""


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
            f"wanted one output, found {len(graph.outputs)} ({names}); export the model with the "
            "mask as its only output, or cut it out of the file: onnx.utils.extract_model(FILE, "
            f"ANOTHER, [{graph.inputs[0].name!r}], [MASK])"
        )
    name = graph.outputs[0].name
    shape = graph.shapes.get(name)
    _refuse_hard_labels(graph, name)
    if shape is None or len(shape) != 4 or shape[0] != 1:
        raise ConversionError(
            f"output {name!r}: wanted (1, channels, height, width), found {shape}; "
            "export the model with a 4-D output"
        )
    size = graph.shapes[graph.inputs[0].name][2:]
    axes = (0, 3, 1, 2) if is_channels_last(shape[1:], size) else (0, 1, 2, 3)
    channels = shape[axes[1]]
    if output.channel >= channels:
        raise ConversionError(
            f"output {name!r}: wanted the person in channel {output.channel}, found {channels} "
            "channel(s); correct `channel` in the spec"
        )
    return _Head(name, axes, output.channel, list(range(channels)))


def is_channels_last(shape: Sequence[int], size: Sequence[int]) -> bool:
    """Tell (height, width, channels) from (channels, height, width), a network's answer.

    size: its input's (height, width), whose proportions the answer's have; where both ways have
    them, or neither, channels are the short axis. A network may have more classes than columns.
    """
    first = shape[1] * size[1] == shape[2] * size[0]
    last = shape[0] * size[1] == shape[1] * size[0]
    return last if first != last else shape[0] > shape[2]


def _refuse_hard_labels(graph: Graph, name: str) -> None:
    """Refuse an ArgMax or a threshold at the end, whatever the labels were cast to."""
    node = graph.producer(name)
    while node is not None and node.op_type in TRANSPARENT:
        node = graph.producer(node.input[0])
    if node is not None and node.op_type in HARD:
        kind = node.op_type
        raise ConversionError(
            f"node {node.name or node.output[0]!r}: wanted probabilities or logits, found {kind}, "
            "which leaves hard labels without a soft edge; export the model without its last "
            f"{kind} (PaddleSeg: export.py --output_op softmax)"
        )


def _step_up(graph: Graph, head: _Head) -> bool:
    """Move the walk over one node that is layout, selection or activation; False at the rest."""
    node = graph.producer(head.name)
    if node is None:
        return False
    kind = node.op_type
    if kind in TRANSPARENT:
        head.name = node.input[0]
        return True
    if kind == "Transpose":
        order = attribute(node, "perm")
        n, c, h, w = (order[a] for a in head.axes)
        head.axes = (n, c, h, w)
        head.name = node.input[0]
        return True
    if kind in SELECTIONS:
        return _over_selection(graph, head, node)
    if kind in ACTIVATIONS and not head.activation:
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
    before = [int(one.flat[0]) for one in np.moveaxis(kept, head.axes[1], 0)]
    head.channel, head.shown = before[head.channel], [before[c] for c in head.shown]
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
    """Return the weights (rows, channels) of which the person's logit is the least row."""
    if (output.activation == "probability") != bool(head.activation):
        node = graph.producer(head.name)
        last = head.activation or (node.op_type if node is not None else "its input")
        remedy = "set activation = 'probability' in the spec, or export the model again"
        if output.activation == "probability":  # what it ends in may well follow a Softmax
            remedy = (
                "if it returns logits, set activation = 'logit' in the spec; if probabilities, "
                "export it with its Softmax or Sigmoid as the last operator"
            )
        raise ConversionError(
            f"output: wanted a network that ends in {_ending(output)}, found that it ends in "
            f"{last}; {remedy}"
        )
    channels = graph.shapes[head.name][head.axes[1]]
    rivals = [c for c in _rivals(head, channels) if c != head.channel]
    weights = np.zeros((max(1, len(rivals)), channels), dtype=np.float32)
    weights[:, head.channel] = 1.0
    for row, rival in enumerate(rivals):
        weights[row, rival] = -1.0
    return weights


def _rivals(head: _Head, channels: int) -> list[int]:
    """Return the channels among which the person's is one of several exclusive classes."""
    if head.activation == "Sigmoid":
        return []
    if not head.activation:
        return head.shown
    if channels > 2 and len(set(head.shown)) < channels:
        raise ConversionError(
            f"wanted all {channels} classes of the last Softmax in the output, found "
            f"{len(head.shown)}: the person's probability alone does not tell where it is the "
            "likeliest class; export the model with every class"
        )
    return list(range(channels))


def _ending(output: OutputSpec) -> str:
    return "a Softmax or Sigmoid" if output.activation == "probability" else "logits"


def _as_nchw(graph: Graph, head: _Head) -> str:
    if head.axes == (0, 1, 2, 3):
        return head.name
    source = graph.shapes[head.name]
    name = graph.add("Transpose", [head.name], "nchw", perm=list(head.axes))
    graph.shapes[name] = tuple(source[a] for a in head.axes)
    return name


def _of_difference(graph: Graph, name: str, weights: Array) -> tuple[str, Array]:
    """Return the tensor of which the one channel `name` is a difference of two, and their weights.

    Where it is none, what was given. onnx2tf turns the layout of a Sub of two slices.
    """
    node = graph.producer(name)
    if weights.shape != (1, 1) or node is None or node.op_type != "Sub":
        return name, weights
    terms = [_Head(term, (0, 1, 2, 3), 0, [0]) for term in node.input]
    if not all(_is_one_channel(graph, term) for term in terms):
        return name, weights
    person, other = terms
    if person.name != other.name:
        return name, weights
    row = np.zeros((1, graph.shapes[person.name][1]), dtype=np.float32)
    row[0, person.channel] += weights[0, 0]
    row[0, other.channel] -= weights[0, 0]
    return person.name, row


def _is_one_channel(graph: Graph, term: _Head) -> bool:
    """Whether a term is one channel of a tensor, to which the walk then moves."""
    shape, node = graph.shapes.get(term.name), graph.producer(term.name)
    if shape is None or len(shape) != 4 or shape[1] != 1 or node is None:
        return False
    return node.op_type in SELECTIONS and _over_selection(graph, term, node)


def _reduced(graph: Graph, name: str, weights: Array) -> str:
    """Add `sum_c weights[row, c] * x[c]` per row, as far up as it commutes; return its name."""
    if weights.shape == (1, 1) and weights[0, 0] == 1.0:
        return name
    node = graph.producer(name)
    if node is not None and node.op_type == "Resize" and graph.leaves_channels(node):
        return _resized(graph, node, _reduced(graph, node.input[0], weights), len(weights))
    if node is not None and node.op_type == "Conv" and _foldable(graph, node):
        weight = graph.constants[node.input[1]]
        inputs = [node.input[0], graph.constant(_mixed(weights, weight), "weight")]
        if len(node.input) > 2 and node.input[2]:
            bias = graph.constants[node.input[2]]
            inputs.append(graph.constant(_mixed(weights, bias), "bias"))
        made = graph.add("Conv", inputs, "logit")
        graph.nodes[-1].attribute.extend(node.attribute)
        return made
    kernel = graph.constant(weights[:, :, None, None], "difference")
    return graph.add("Conv", [name, kernel], "logit", kernel_shape=[1, 1])


def _mixed(weights: Array, values: Array) -> Array:
    """Return sum_c weights[row, c] * values[c] per row, summed in double precision."""
    mixed = np.tensordot(weights.astype(np.float64), values.astype(np.float64), axes=1)
    return mixed.astype(np.float32)


def _least(graph: Graph, name: str, rows: int) -> str:
    """Add the least of the channels; ReduceMin is the one such operator that int8 TFLite has."""
    if rows == 1:
        return name
    least = graph.fresh("least")
    graph.nodes.append(reduce_min(graph, name, least, axis=1))
    return least


def _foldable(graph: Graph, conv: NodeProto) -> bool:
    constant = all(not i or i in graph.constants for i in conv.input[1:])
    return constant and attribute(conv, "group", 1) == 1


def _resized(graph: Graph, node: NodeProto, name: str, channels: int) -> str:
    """Add a Resize like `node` for another number of channels."""
    inputs = [name, *node.input[1:]]
    if len(inputs) > 3 and inputs[3]:
        sizes = graph.constants[inputs[3]].copy()
        axes = [a % 4 for a in attribute(node, "axes", range(4))]
        if 1 in axes:
            sizes[axes.index(1)] = channels
        inputs[3] = graph.constant(sizes, "sizes")
    made = graph.add("Resize", inputs, "upsampled")
    graph.nodes[-1].attribute.extend(node.attribute)
    return made
