"""Pools written as what onnx2tf and the quantizer take: without padding, over a window.

Each takes a Graph, changes it in place, exactly, and returns how many places it changed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from edge_seg.converters.graph import Graph, attribute

NON_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs"}
KEEPS_SIGN = {"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Split", "Identity",
              "Reshape", "Transpose", "Gather", "Slice", "Dropout"}  # fmt: skip


def unpad_max_pools(graph: Graph) -> int:
    """Turn a padded MaxPool into a Pad and an unpadded MaxPool.

    A zero Pad where the tensor is non-negative: exact because max(x, 0) = x there. A mirrored Pad
    elsewhere: what it repeats lies in the same window, if that is wide enough. TFLite's own
    padding differs (SAME pads at the end), and a pad of minus infinity cannot be quantized.
    Padding that no window reaches is left out, so the padded tensor is as small as it can be.
    """
    found = 0
    for node, amounts in _padded_pools(graph, "MaxPool"):
        kernel, size = attribute(node, "kernel_shape"), graph.shapes[node.input[0]][2:]
        if is_non_negative(graph, node.input[0]):
            _pad_before(graph, node, amounts, mode="constant")
        elif _mirror_fits(amounts, kernel, size):
            _pad_before(graph, node, amounts, mode="reflect")
        else:
            continue
        found += 1
    return found


def unpad_average_pools(graph: Graph) -> int:
    """Turn a padded AveragePool into a zero Pad and an unpadded AveragePool; where windows do not
    count all they see, times what they see over what they count, a constant map.

    onnx2tf would write that padding as PADV2, which cannot be quantized, and a size rounded up
    (ceil_mode) otherwise than ONNX has it: what lies behind the padding is not counted. What TFLite
    calls SAME, which counts no padding either, is left alone.
    """
    found = 0
    for node, amounts in _padded_pools(graph, "AveragePool"):
        if _is_same(node, amounts, graph.shapes[node.input[0]][2:]):
            continue
        seen = float(np.prod(attribute(node, "kernel_shape")))
        counts = _counts(node, graph.shapes[node.input[0]][2:], graph.shapes[node.output[0]][2:])
        scale = np.asarray(seen / counts, dtype=np.float32)[None, None]
        _pad_before(graph, node, amounts, mode="constant", scale=scale)
        found += 1
    return found


def _is_same(node: NodeProto, amounts: list[int], size: tuple[int, ...]) -> bool:
    """Tell whether an AveragePool pads and counts as TFLite's SAME does: what is left over behind.

    onnx2tf sees that where all of it is the pool's own padding (no ceil_mode's).
    """
    strides, kernel = attribute(node, "strides", [1, 1]), attribute(node, "kernel_shape")
    same = [amounts[2:4] + amounts[6:] == attribute(node, "pads", [0] * 4)]
    for axis in (0, 1):
        windows = -(-size[axis] // strides[axis])
        total = max(0, (windows - 1) * strides[axis] + kernel[axis] - size[axis])
        same += [(amounts[2 + axis], amounts[6 + axis]) == (total // 2, total - total // 2)]
    return all(same) and not attribute(node, "count_include_pad", 0)


def _counts(node: NodeProto, size: tuple[int, ...], windows: tuple[int, ...]) -> NDArray[np.int64]:
    """Return by how many values each window of an AveragePool divides, (height, width)."""
    pads, strides = attribute(node, "pads", [0] * 4), attribute(node, "strides", [1, 1])
    kernel, ends = attribute(node, "kernel_shape"), []
    padded = bool(attribute(node, "count_include_pad", 0))
    for axis in (0, 1):
        first = np.arange(windows[axis]) * strides[axis] - pads[axis]
        low = -pads[axis] if padded else 0
        high = size[axis] + (pads[2 + axis] if padded else 0)
        ends.append(np.minimum(first + kernel[axis], high) - np.maximum(first, low))
    return np.outer(*ends)


def _padded_pools(graph: Graph, kind: str) -> Iterator[tuple[NodeProto, list[int]]]:
    """Yield the plain pools of a kind that pad, each with the amounts that its windows reach.

    So does one whose size is rounded up (ceil_mode), where its last window leaves the map.
    """
    for node in [n for n in graph.nodes if n.op_type == kind]:
        before, after = (graph.shapes.get(name) for name in (node.input[0], node.output[0]))
        if before is None or after is None or not _plain_pool(node, before):
            continue
        amounts = _reached_padding(node, before[2:], after[2:])
        if any(amounts) or any(attribute(node, "pads", [])):
            yield node, amounts


def _pad_before(
    graph: Graph,
    node: NodeProto,
    amounts: list[int],
    *,
    mode: str,
    scale: NDArray[np.float32] | None = None,
) -> None:
    """Put a Pad and a pool without padding in the place of a pool; "constant" pads with zeros.

    scale: a map (1, 1, height, width) that the result is multiplied by, unless it is all ones.
    """
    inputs = [node.input[0], graph.constant(np.array(amounts, dtype=np.int64), "pads")]
    if mode == "constant":
        inputs.append(graph.constant(np.zeros((), dtype=np.float32), "zero"))
    padded = graph.add("Pad", inputs, "padded", mode=mode)
    kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides", [1, 1])
    pooled = graph.add(node.op_type, [padded], "pooled", kernel_shape=kernel, strides=strides)
    if scale is not None and (scale != 1).any():
        pooled = graph.add("Mul", [pooled, graph.constant(scale, "counted")], "averaged")
    graph.shapes[pooled] = graph.shapes[node.output[0]]  # another pool may read it
    graph.redirect(node.output[0], pooled)
    graph.remove(node)


def _plain_pool(node: NodeProto, shape: tuple[int, ...]) -> bool:
    return (
        len(shape) == 4
        and len(node.output) == 1
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and all(d == 1 for d in attribute(node, "dilations", [1, 1]))
    )


def _reached_padding(node: NodeProto, size: tuple[int, ...], windows: tuple[int, ...]) -> list[int]:
    """Return ONNX Pad amounts for (N, C, H, W): of the padding, what some window reaches.

    size: the map's height and width. windows: the pool's own, as many as there are each way.
    """
    pads, strides = attribute(node, "pads", [0] * 4), attribute(node, "strides", [1, 1])
    kernel, ends = attribute(node, "kernel_shape"), []
    for axis in (0, 1):
        reach = (windows[axis] - 1) * strides[axis] + kernel[axis]
        ends.append(max(0, reach - size[axis] - pads[axis]))
    return [0, 0, pads[0], pads[1], 0, 0, *ends]


def _mirror_fits(amounts: list[int], kernel: list[int], size: tuple[int, ...]) -> bool:
    """Tell whether every mirrored value lies in the window that reads it.

    A window that begins p before the edge ends at k - 1 - p, and reads mirrored 1 .. p.
    """
    return all(
        2 * amounts[side + axis] <= kernel[axis] - 1 and amounts[side + axis] < size[axis]
        for side in (2, 6)
        for axis in (0, 1)
    )


def is_non_negative(graph: Graph, name: str) -> bool:
    """Tell whether a tensor provably holds no value below zero."""
    value = graph.constants.get(name)
    if value is not None:
        return bool(value.min() >= 0) if value.size else True
    node = graph.producer(name)
    if node is None:
        return False
    if node.op_type == "Clip" and len(node.input) > 1 and node.input[1] in graph.constants:
        return bool(graph.constants[node.input[1]] >= 0)
    if node.op_type in KEEPS_SIGN:
        data = node.input if node.op_type == "Concat" else node.input[:1]
        return all(is_non_negative(graph, i) for i in data)
    if node.op_type == "Pad":
        return all(is_non_negative(graph, i) for i in (node.input[0], *node.input[2:3]) if i)
    if node.op_type in ("Add", "Mul"):
        return all(is_non_negative(graph, i) for i in node.input)
    return node.op_type in NON_NEGATIVE


def pool_by_window(graph: Graph) -> int:
    """Write GlobalAveragePool as an AveragePool over the whole map.

    onnx2tf turns the first into a MEAN between transposed layouts, the second into a pool that
    stays channels-last.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "GlobalAveragePool"]:
        shape = graph.shapes.get(node.input[0])
        if shape is None or len(shape) != 4:
            continue
        window = list(shape[2:])
        pooled = graph.add("AveragePool", [node.input[0]], "pooled", kernel_shape=window)
        graph.redirect(node.output[0], pooled)
        graph.remove(node)
        found += 1
    return found
