"""What a quantizer does not say: layers it cannot represent, and parts it left in float.

Before: `check_samples` looks at the tensors it will be given, `dead_layers` names convolutions of
~0. After: `check_int8` compares every integer bias with its float value (a scale of ~0 overflows
int32 and erases the layer without an error), and names what an int8 artifact computes in float.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edge_seg.converters.flatbuffer import TfliteFile, bias_of, name_of
from edge_seg.converters.graph import WEIGHTED, Graph
from edge_seg.errors import ConversionError, QualityRefused

DEAD_WEIGHT = 1e-6  # max|w| of a layer that training switched off
BIAS_TOLERANCE = 1e-3  # of the bias itself, beside one step of its scale
BETWEEN = {"QUANTIZE", "DEQUANTIZE"}
MOST_NAMED = 8


def check_samples(samples: list[NDArray[Any]], shape: tuple[int, ...]) -> None:
    """Raise ConversionError unless there are calibration tensors, each finite float32 of a shape.

    LiteRT would resize the network to fit another.
    """
    if not samples:
        raise ConversionError(
            "wanted calibration tensors, found none; name pictures with --calibration"
        )
    for number, sample in enumerate(samples):
        if sample.dtype != np.float32 or sample.shape != shape or not np.isfinite(sample).all():
            raise ConversionError(
                f"calibration tensor {number}: wanted finite float32 {shape}, found "
                f"{sample.dtype} {sample.shape}; check size, mean and std in the spec"
            )


def dead_layers(model: ModelProto) -> list[str]:
    """Return the names of convolutions and matrix products whose weights are all below 1e-6."""
    graph = Graph(model)
    dead = []
    for node in graph.nodes:
        if node.op_type not in WEIGHTED:
            continue
        weight = graph.constants.get(node.input[1])
        if weight is not None and weight.size and np.abs(weight).max() < DEAD_WEIGHT:
            dead.append(f"{node.name or node.output[0]} (max|w| {np.abs(weight).max():.1e})")
    return dead


def check_int8(path: Path, source: Path) -> list[str]:
    """Check an int8 TFLite against the float one it was made from.

    Returns the operators that still compute in float, as "RELU6 gate/18"; [] where none do.
    Raises QualityRefused where a bias is not what it was, naming the layers; ConversionError
    where an end of the network is not int8.
    """
    check_integer_ends(path)
    wrong = wrong_biases(path, source)
    if wrong:
        more = f" and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise QualityRefused(
            "wanted every integer bias to be its float value, found that quantisation changed: "
            f"{'; '.join(wrong[:MOST_NAMED])}{more}. Such a layer has weights of ~0, so its bias "
            "overflows: retrain or prune it, or leave it out of the export"
        )
    return float_operators(path)


def check_integer_ends(path: Path) -> None:
    """Raise ConversionError unless every input and output of the file is int8."""
    file = TfliteFile(path)
    for tensor in file.ends():
        if file.type_of(tensor) != "INT8":
            raise ConversionError(
                f"{name_of(tensor)!r}: wanted an int8 input and output, found "
                f"{file.type_of(tensor).lower()}; the operator beside it has no integer form: "
                "export the model without it (a last bicubic resize as a bilinear one)"
            )


def float_operators(path: Path) -> list[str]:
    """Return what an int8 file still computes in float, one "OPERATOR tensor" each."""
    file = TfliteFile(path)
    return [
        f"{op.name} {name_of(op.outputs[0])}"
        for op in file.operators()
        if op.name not in BETWEEN and any(file.type_of(t) == "FLOAT32" for t in op.outputs)
    ]


def wrong_biases(path: Path, source: Path) -> list[str]:
    """Return the layers of an int8 file whose dequantized bias is not the float file's."""
    before, file = TfliteFile(source), TfliteFile(path)
    biases = [bias for bias in map(bias_of, before.operators()) if bias is not None]
    floats = {name_of(b): before.values(b) for b in biases if before.type_of(b) == "FLOAT32"}
    wrong = []
    for op in file.operators():
        bias = bias_of(op)
        if bias is None or file.type_of(bias) not in ("INT32", "INT64"):
            continue
        truth = floats.get(name_of(bias))
        if truth is None or bias.quantization is None or bias.quantization.scale is None:
            continue
        scale = np.asarray(bias.quantization.scale, dtype=np.float64)
        found = file.values(bias).astype(np.float64) * scale
        off = np.abs(found - truth)
        bad = off > scale + BIAS_TOLERANCE * np.abs(truth)
        if bad.any():
            worst = int(np.argmax(off))
            wrong.append(
                f"{op.name} {name_of(op.outputs[0])} ({int(bad.sum())} of {bad.size} biases, "
                f"{truth[worst]:.3g} became {found[worst]:.3g})"
            )
    return wrong
