"""Normalisations by a picture's own statistics (Instance-, Group-, LayerNorm) in a float TFLite.

    x -> MEAN -> SUB -> MUL by itself -> MEAN -> ADD -> SQRT -> DIV -> MUL (-> MUL -> ADD)

An int8 tensor has one scale for all its channels, and their variances differ a thousandfold: the
small ones become 0, and LiteRT refuses to divide by them, or the mask is wrong. So all of it stays
in float.
"""

from __future__ import annotations

from pathlib import Path

from edge_seg.converters.flatbuffer import TfliteFile, TfliteOperator, name_of

MEANS = {"MEAN", "SUM"}
ABOVE = {"ADD", "MAXIMUM", "MUL", "RESHAPE", "SUB"} | MEANS  # as onnx2tf writes it
BELOW = {"DIV", "MUL", "ADD", "SUB", "RESHAPE"}

Operators = list[TfliteOperator]
Makers = dict[int, TfliteOperator]  # by the tensor object's id


def normalised(source: Path) -> list[str]:
    """Return the names of the tensors between what normalisations take and what they give."""
    operators = list(TfliteFile(source).operators())
    makers = {id(tensor): op for op in operators for tensor in op.outputs}
    inside: Operators = []
    for root in (op for op in operators if op.name == "SQRT"):
        statistics = _statistics(root, makers)
        if any(op.name in MEANS for op in statistics):
            inside += [*statistics, root, *_scaled(root, operators, makers)]
    return list(dict.fromkeys(name_of(tensor) for op in inside for tensor in op.outputs))


def _statistics(op: TfliteOperator, makers: Makers) -> Operators:
    """Return what a deviation is computed by, upwards to the mean that is subtracted."""
    found: Operators = []
    while True:
        above = _computed(op, makers)
        if op.name == "SUB":
            return found + [maker for maker in above if maker.name in MEANS]
        if len(above) != 1 or above[0].name not in ABOVE:
            return found
        if op.name == "MUL" and above[0].name != "SUB":
            return found
        op = above[0]
        found.append(op)


def _scaled(root: TfliteOperator, operators: Operators, makers: Makers) -> Operators:
    """Return what divides by a deviation, and the constant scales and shifts behind that."""
    size = list(root.outputs[0].shape)
    found, ends = list[TfliteOperator](), [root]
    while ends:
        tensor = ends.pop().outputs[0]
        for op in operators:
            if op.name not in BELOW or op in found or all(t is not tensor for t in op.inputs):
                continue
            if list(tensor.shape) == size or len(_computed(op, makers)) == 1:
                found.append(op)
                ends.append(op)
    return found


def _computed(op: TfliteOperator, makers: Makers) -> Operators:
    """Return the operators that make this one's inputs, each once; constants have none."""
    return list({id(t): makers[id(t)] for t in op.inputs if id(t) in makers}.values())
