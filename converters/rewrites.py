"""Float-exact rewrites of an ONNX graph, so that what is left quantizes well and runs fast.

They know patterns, never models: every one is an identity of real arithmetic, up to float rounding.
`simplify` applies them all and says in words what it did. Why each exists: docs/decisions.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from onnx import ModelProto

from edge_seg.converters.activations import (
    clip_behind_additions,
    relu_for_clip,
    spell_out_hard_sigmoid,
    spell_out_hard_swish,
)
from edge_seg.converters.channels import fold_channel_moves
from edge_seg.converters.folding import (
    delay_scales,
    divide_by_multiplying,
    fold_dead_convolutions,
    fold_scales,
    fold_shifts,
)
from edge_seg.converters.graph import Graph
from edge_seg.converters.ort import fold_constants
from edge_seg.converters.pools import pool_by_window, unpad_average_pools, unpad_max_pools
from edge_seg.converters.slices import join_slices

ROUNDS = 20  # each round can open the next; a handful is enough in practice

Rewrite = Callable[[Graph], int]  # changes a graph in place; returns how many places it changed
Rewrites = tuple[tuple[Rewrite, str], ...]  # each with what it did, in words

# In this order: what one opens, the next finds.
REWRITES: Rewrites = (
    (fold_dead_convolutions, "{n} convolution(s) with weights of ~0 replaced by their constant"),
    (relu_for_clip, "{n} Clip from 0 on as Relu"),
    (spell_out_hard_sigmoid, "{n} HardSigmoid as ReLU6 / 6"),
    (spell_out_hard_swish, "{n} HardSwish as x * ReLU6(x + 3) / 6"),
    (divide_by_multiplying, "{n} division(s) by a constant as products"),
    (delay_scales, "{n} constant scale(s) moved behind a product"),
    (fold_scales, "{n} constant scale(s) folded into convolutions"),
    (fold_shifts, "{n} constant addition(s) folded into convolutions"),
    (fold_channel_moves, "{n} channel shuffle, split or gather step(s) folded into weights"),
)
# After the others, once: constant folding would undo the pools', and fold the shift of the last.
LAST: Rewrites = (
    (unpad_max_pools, "{n} padded max pool(s) as Pad + unpadded pool"),
    (unpad_average_pools, "{n} padded average pool(s) as Pad + unpadded pool"),
    (pool_by_window, "{n} global average pool(s) as average pools"),
    (join_slices, "{n} tensor(s) cut in equal slices as a Split"),
    (clip_behind_additions, "{n} ReLU6 on a 1x1 map moved from a convolution to an addition"),
)


def simplify(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """Apply every rewrite until none applies; return the new model and what was done, in words.

    model: static shapes, opset 13 or later (converters.onnx.load gives that).
    """
    counts: Counter[Rewrite] = Counter()
    for _ in range(ROUNDS):
        model, changed = _applied(REWRITES, fold_constants(model), counts)
        if not changed:
            break
    model, _ = _applied(LAST, model, counts)
    said = ["constants folded, batch norms folded into convolutions"]
    said += [words.format(n=counts[f]) for f, words in REWRITES + LAST if counts[f]]
    return model, said


def _applied(
    rewrites: Rewrites, model: ModelProto, counts: Counter[Rewrite]
) -> tuple[ModelProto, bool]:
    """Return a model after each of the rewrites, and whether any changed it; add up `counts`."""
    graph = Graph(model)
    changed = False
    for rewrite, _ in rewrites:
        found = rewrite(graph)
        if found:
            graph.refresh()
            counts[rewrite] += found
            changed = True
    return graph.to_model(), changed
