"""ONNX QDQ artifacts: int8 in the form TensorRT 10 and 11 take (Jetson), and ONNX Runtime runs.

    to_int8        ModelProto + calibration tensors  ->  QuantizeLinear/DequantizeLinear pairs
    check_form     the rules of that form, one sentence per violation
    input_range    what the input's codes hold

Input and output stay float32 (1, 3, H, W) -> (1, 1, h, w). Failures are a ConversionError.

Where the pairs stand follows NVIDIA's "Working with Quantized Types" (Q/DQ placement): on the
inputs of weighted operators and on the residual input of an addition, never on their outputs, so
that TensorRT fuses bias, addition and activation behind the integer product. The logit is float.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from edge_seg.backends import Progress
from edge_seg.converters import guards
from edge_seg.converters.graph import WEIGHTED, Array, Graph, attribute
from edge_seg.converters.ort import inner_tensors
from edge_seg.errors import ConversionError
from edge_seg.files import whole_file
from edge_seg.spec import InputSpec

LEAST_OPSET = 13  # the first with a scale per channel
CODES = 127  # symmetric: -127..127 for weights; activations may use -128 too
# Of real numbers: a tensor or a channel that never leaves it is zero, and 0 has no step.
LEAST_RANGE = 1e-8
DRAWN = 4000  # values per tensor and picture that its range is chosen by
BINS = 4096
CANDIDATES, LEAST_SHARE = 61, 0.4  # ranges that are tried, of the largest value


def to_int8(
    model: ModelProto,
    out: Path,
    *,
    tensors: Iterable[NDArray[Any]],
    input: InputSpec | None = None,
    progress: Progress = lambda message, done, total: None,
) -> None:
    """Write the network in int8 with Q/DQ pairs.

    tensors: float32 (1, 3, H, W), as the runtime's own codec makes them; ranges come from them.
    input: the spec they were made with; the input's range is then the whole range of a pixel.
    Raises ConversionError: nothing to calibrate with, nothing to quantize, or a result that is
    not of the form (check_form).
    """
    samples = list(tensors)
    graph = Graph(model)
    picture = graph.inputs[0].name
    guards.check_samples(samples, graph.shapes.get(picture, ()))
    places = quantized_tensors(graph)
    if not places:
        raise ConversionError(
            f"wanted an operator with constant weights ({', '.join(WEIGHTED)}), found none; "
            "there is nothing to quantize: keep the network in float"
        )
    ranges = _ranges(model, places, samples, progress)
    if input is not None and picture in ranges:
        _quantize_picture(graph, places, ranges, input)
    _quantize_activations(graph, places, ranges)
    for node in _weighted(graph):
        _quantize_weights(graph, node)
    made = graph.to_model()
    wrong = check_form(made)
    if wrong:
        raise ConversionError(f"wanted the form TensorRT takes, found: {'; '.join(wrong[:8])}")
    with whole_file(out) as beside:
        beside.write_bytes(made.SerializeToString())


def quantized_tensors(graph: Graph) -> dict[str, list[NodeProto]]:
    """Return the activations that get a pair, each with the nodes that read it through that."""
    found: dict[str, list[NodeProto]] = {}
    weighted = _weighted(graph)
    for node in weighted:
        found.setdefault(node.input[0], []).append(node)
    order = {name: at for at, node in enumerate(weighted) for name in node.output}
    for node in graph.nodes:
        if node.op_type == "Add":
            residual = _residual(graph, node, order)
            if residual:
                found.setdefault(residual, []).append(node)
    return found


def _residual(graph: Graph, node: NodeProto, order: dict[str, int]) -> str:
    """Return the input of an addition that does not come straight from its last convolution.

    The other one's convolution and the addition become one kernel then. "" where neither does.
    """
    own = [i for i in node.input if i in order and graph.sole_consumer(i) is node]
    if not own or any(name in graph.constants for name in node.input):
        return ""
    last = max(own, key=lambda name: order[name])
    others = [name for name in node.input if name != last]
    return others[0] if others else ""


def _weighted(graph: Graph) -> list[NodeProto]:
    """Return the operators whose weights are constants, and not shared with another kind of use."""
    return [n for n in graph.nodes if n.op_type in WEIGHTED and n.input[1] in graph.constants]


def _quantize_picture(
    graph: Graph, places: dict[str, list[NodeProto]], ranges: dict[str, float], input: InputSpec
) -> None:
    """Give the picture the whole range of a pixel, and where it can be, every level its own code.

    256 levels from -1 to 1 lie halfway between symmetric codes, and rounding takes each towards
    the grey in the middle. Moved by half a step all of them are codes, exactly; the convolution's
    bias takes the step back. (What it pads with is then half a step beside 0.)
    """
    name = graph.inputs[0].name
    readers = places[name]
    low, high = pixel_ends(input)
    step = float(high[0] - low[0]) / 255
    shift = -float(low[0]) - 128 * step
    ranges[name] = float(np.abs([low, high]).max())
    alike = np.ptp(low) == 0 and np.ptp(high) == 0 and abs(shift) <= step
    if not alike or any(not _takes_shift(graph, node) for node in readers):
        return
    moved = graph.add("Add", [name, graph.constant(np.float32(shift), "half")], "moved")
    graph.redirect(name, moved, only=readers)
    for node in readers:
        weight = graph.constants[node.input[1]]
        bias = graph.constants[node.input[2]] if len(node.input) > 2 else 0.0
        given = graph.constant((bias - shift * weight.sum(axis=(1, 2, 3))).astype(np.float32), "b")
        del node.input[2:]
        node.input.append(given)
    places[moved] = places.pop(name)
    ranges[moved] = CODES * step


def _takes_shift(graph: Graph, node: NodeProto) -> bool:
    """Tell whether a reader of the picture is a convolution whose bias can take a shift back."""
    bias = node.input[2] if len(node.input) > 2 else ""
    return node.op_type == "Conv" and (not bias or bias in graph.constants)


def _quantize_activations(
    graph: Graph, places: dict[str, list[NodeProto]], ranges: dict[str, float]
) -> None:
    for name, readers in places.items():
        scale = graph.constant(np.float32(max(ranges[name], LEAST_RANGE) / CODES), "scale")
        ends = [scale, graph.constant(np.int8(0), "zero")]
        codes = graph.add("QuantizeLinear", [name, *ends], "codes")
        graph.redirect(name, graph.add("DequantizeLinear", [codes, *ends], "real"), only=readers)


def _quantize_weights(graph: Graph, node: NodeProto) -> None:
    """Put weights as int8 with a step per output channel; a DequantizeLinear makes them real."""
    weight = graph.constants[node.input[1]]
    axis = channel_axis(node, weight.ndim)
    others = tuple(a for a in range(weight.ndim) if a != axis)
    scale = (np.maximum(np.abs(weight).max(axis=others), LEAST_RANGE) / CODES).astype(np.float32)
    steps = scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    codes = np.clip(np.rint(weight / steps), -CODES, CODES).astype(np.int8)
    given = [
        graph.constant(codes, "weight"),
        graph.constant(scale, "scale"),
        graph.constant(np.zeros(len(scale), np.int8), "zero"),
    ]
    node.input[1] = graph.add("DequantizeLinear", given, "real", axis=axis)


def channel_axis(node: NodeProto, rank: int) -> int:
    """Return the axis of a weight along which the outputs lie."""
    if node.op_type == "MatMul":
        return rank - 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return 1 if node.op_type == "ConvTranspose" else 0


def pixel_ends(input: InputSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the lowest and the highest pixel value are as real numbers, per channel."""
    return np.array(input.real(0)), np.array(input.real(1))


# --- ranges ---------------------------------------------------------------------------------------


def _ranges(
    model: ModelProto, places: Iterable[str], samples: list[NDArray[Any]], progress: Progress
) -> dict[str, float]:
    """Return per tensor the range whose codes are nearest to its values, in squared error.

    One bit less than with zero points (behind a ReLU half of the codes are never used) makes room
    precious: the largest value is not worth a coarse step everywhere (docs/decisions.md).
    """
    random = np.random.default_rng(0)
    values: dict[str, list[Array]] = {name: [] for name in places}
    for done, found in enumerate(inner_tensors(model, places, samples), start=1):
        for name, value in found.items():
            values[name].append(_some(value, random))
        progress("calibrating ONNX", done, len(samples))
    return {name: nearest_range(name, np.concatenate(some)) for name, some in values.items()}


def _some(value: Array, random: np.random.Generator) -> Array:
    """Return absolute values drawn from a tensor, its largest one among them."""
    flat = np.abs(value).ravel()
    if flat.size > DRAWN:
        flat = np.append(flat[random.integers(0, flat.size, DRAWN)], flat.max())
    return flat


def nearest_range(name: str, values: Array) -> float:
    """Return the largest code's value that makes rounding and cutting cost least together.

    values: absolute ones. Raises ConversionError where they are no numbers.
    """
    largest = float(values.max(initial=0.0))
    if not np.isfinite(values).all():
        raise ConversionError(
            f"{name!r}: wanted finite values on the calibration frames, found others; "
            "the network diverges: check mean and std in the spec"
        )
    if largest < LEAST_RANGE:
        return LEAST_RANGE
    counts, edges = np.histogram(values, bins=BINS, range=(0.0, largest))
    centres = (edges[:-1] + edges[1:]) / 2
    ends = largest * np.linspace(LEAST_SHARE, 1.0, CANDIDATES)
    steps = ends[:, None] / CODES
    codes = np.minimum(np.rint(centres / steps), CODES)
    costs = (counts * (codes * steps - centres) ** 2).sum(axis=1)
    return float(ends[np.argmin(costs)])


# --- the form -------------------------------------------------------------------------------------


def check_form(model: ModelProto) -> list[str]:
    """Return what TensorRT 10 and 11 would not take, one sentence each; [] where all is well.

    Explicit quantization is symmetric: int8 codes, zero points of 0, constant steps above 0; one
    step per activation tensor, one per output channel of a weight; weights without -128; a
    QuantizeLinear is read by DequantizeLinear alone, with the same step; biases stay float.
    Sources: TensorRT documentation, "Explicit Quantization"; onnx-tensorrt, docs/operators.md.
    """
    graph = Graph(model)
    wrong = [] if graph.opset >= LEAST_OPSET else [f"opset {graph.opset}, below {LEAST_OPSET}"]
    pairs = [n for n in graph.nodes if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for node in pairs:
        wrong += _wrong_pair(graph, node)
    for node in _quantized_weights(graph):
        wrong += _wrong_weight(graph, node)
    if not pairs:
        wrong.append("no QuantizeLinear at all")
    for end in (*graph.inputs, *graph.outputs):
        if end.type.tensor_type.elem_type != TensorProto.FLOAT or not graph.shapes.get(end.name):
            wrong.append(f"{end.name}: no float32 of static shape")
    return wrong


def _wrong_pair(graph: Graph, node: NodeProto) -> list[str]:
    name, wrong = node.name or node.output[0], []
    scale = graph.constants.get(node.input[1])
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
        wrong.append(f"{name}: a step that is no constant above 0")
    if zero is None or zero.dtype != np.int8 or zero.any():
        wrong.append(f"{name}: a zero point that is not the int8 constant 0")
    if node.op_type == "QuantizeLinear":
        readers = graph.consumers(node.output[0])
        if graph.is_output(node.output[0]) or not readers:
            wrong.append(f"{name}: codes that leave the network")
        if any(r.op_type != "DequantizeLinear" or r.input[1:] != node.input[1:] for r in readers):
            wrong.append(f"{name}: codes read by other than their own DequantizeLinear")
        if scale is not None and scale.ndim:
            wrong.append(f"{name}: a list of {scale.size} steps for an activation, no scalar")
    return wrong


def _quantized_weights(graph: Graph) -> list[NodeProto]:
    """Return the DequantizeLinear nodes whose codes are constants."""
    nodes = [n for n in graph.nodes if n.op_type == "DequantizeLinear"]
    return [n for n in nodes if n.input[0] in graph.constants]


def _wrong_weight(graph: Graph, node: NodeProto) -> list[str]:
    name, codes = node.name or node.output[0], graph.constants[node.input[0]]
    if codes.dtype != np.int8:
        return [f"{name}: codes of {codes.dtype}, not int8 (a quantized bias?)"]
    wrong = [f"{name}: a weight of -128"] if (codes == -128).any() else []
    for reader in graph.consumers(node.output[0]):
        if reader.op_type not in WEIGHTED or node.output[0] != reader.input[1]:
            wrong.append(f"{name}: a quantized constant read by {reader.op_type} beside its weight")
            continue
        axis, scale = channel_axis(reader, codes.ndim), graph.constants.get(node.input[1])
        said = attribute(node, "axis", 1) % max(codes.ndim, 1)
        if scale is not None and (said != axis or scale.size != codes.shape[axis]):
            wrong.append(f"{name}: steps that are not one per output channel")
    return wrong


def float_operators(path: Path) -> list[str]:
    """Return the weighted operators an int8 artifact computes in float, `type name`."""
    graph = Graph(onnx.load(path))
    left = []
    for node in graph.nodes:
        makers = [graph.producer(name) for name in node.input[:2]]
        quantized = all(m is not None and m.op_type == "DequantizeLinear" for m in makers)
        if node.op_type in WEIGHTED and not quantized:
            left.append(f"{node.op_type} {node.name or node.output[0]}")
    return left


def input_range(path: Path) -> tuple[float, float] | None:
    """Return (lowest, highest) real value that the input's codes hold; None where it is float."""
    graph = Graph(onnx.load(path))
    name, shift = graph.inputs[0].name, 0.0
    first = graph.consumers(name)
    if first and first[0].op_type == "Add":
        shift = float(graph.constants.get(first[0].input[1], np.zeros(())))
        name = first[0].output[0]
    for node in graph.consumers(name):
        if node.op_type == "QuantizeLinear" and node.input[1] in graph.constants:
            step = float(np.max(graph.constants[node.input[1]]))
            return -128 * step - shift, 127 * step - shift
    return None
