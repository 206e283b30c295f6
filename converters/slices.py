"""Slices of channels that make up a tensor, as one Split.

    slice 0..6, slice 6..12   of 12 channels   ->   Split into 6 and 6

onnx2tf joins such slices too, and on a square map it loses count of the axes behind them: it cuts
the width in two. A Split it leaves alone. Where only convolutions read the pieces it does no harm,
and is faster.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from edge_seg.converters.graph import Graph


def join_slices(graph: Graph) -> int:
    """Write equal slices of all channels of a square map as a Split; return how many tensors."""
    found = 0
    for name in {n.input[0]: None for n in graph.nodes if n.op_type == "Slice"}:
        shape = graph.shapes.get(name, ())
        if len(shape) != 4 or shape[2] != shape[3]:
            continue
        pieces = _pieces(graph, name, shape[1])
        outputs = [node.output[0] for node in pieces]
        readers = [reader for output in outputs for reader in graph.consumers(output)]
        if not pieces or all(reader.op_type == "Conv" for reader in readers):
            continue
        each = np.full(len(pieces), shape[1] // len(pieces), dtype=np.int64)
        for node in pieces:
            graph.remove(node)
        inputs = [name, graph.constant(each, "sizes")]
        graph.nodes.append(helper.make_node("Split", inputs, outputs, name=outputs[0], axis=1))
        found += 1
    return found


def _pieces(graph: Graph, name: str, channels: int) -> list[NodeProto]:
    """Return the slices of a tensor that are its channels in order, all of one size; or none."""
    at: dict[int, NodeProto] = {}
    sizes = set()
    for node in graph.consumers(name):
        cut = _cut(graph, node, channels) if node.op_type == "Slice" else None
        if cut is not None:
            at[cut[0]] = node
            sizes.add(cut[1] - cut[0])
    size = next(iter(sizes), channels)
    whole = len(sizes) == 1 and sorted(at) == list(range(0, channels, size))
    return [at[start] for start in sorted(at)] if whole and len(at) > 1 else []


def _cut(graph: Graph, node: NodeProto, channels: int) -> tuple[int, int] | None:
    """Return (first, last + 1) of the channels a Slice keeps; None where it cuts otherwise."""
    settings = [graph.constants.get(name) for name in node.input[1:]]
    if len(settings) < 3 or any(s is None or s.size != 1 for s in settings):
        return None
    start, end, axis, *step = (int(s.item()) for s in settings if s is not None)
    if axis % 4 != 1 or step not in ([], [1]):
        return None
    first, behind, _ = slice(start, end).indices(channels)
    return first, behind
