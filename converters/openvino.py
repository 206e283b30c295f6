"""OpenVINO artifacts: an .xml and, beside it, a .bin of the same stem.

    to_float   ModelProto  ->  weights in 16 bits, computed as the device likes
    to_int8    ModelProto + calibration tensors  ->  NNCF's quantisation, static shapes

Both take a network reduced to one person logit, input (1, 3, H, W), and rename what they wrote.
Failures are a ConversionError with its reason, or an OutputError where the disk is full.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edge_seg.backends import Progress
from edge_seg.backends.openvino import ov  # imported there so that it calls nobody
from edge_seg.converters import guards
from edge_seg.converters.graph import Graph
from edge_seg.converters.words import first_lines, silence
from edge_seg.errors import ConversionError, OutputError
from edge_seg.spec import InputSpec

WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")
# What neither adds nor multiplies: codes go through it as they are.
KEEPING = (
    *("Reshape", "Transpose", "Pad", "MaxPool", "Split", "VariadicSplit", "StridedSlice", "Slice"),
    *("Gather", "Squeeze", "Unsqueeze", "ShuffleChannels"),
)
# What keeps a little of the values below zero. (A Mish ends in a Tanh, an old GELU has an Erf.)
LEAKING = {"LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Gelu", "Erf", "Mish", "Tanh", "HardSwish"}


def to_float(model: ModelProto, out: Path, *, bits: int = 16) -> None:
    """Write the network with its weights in 16 or 32 bits. out: the .xml; the .bin is beside it."""
    _save(_read(model), out, compress=bits == 16)


def to_int8(
    model: ModelProto,
    out: Path,
    *,
    tensors: Iterable[NDArray[Any]],
    input: InputSpec | None = None,
    progress: Progress = lambda message, done, total: None,
) -> None:
    """Write the network in int8. out: the .xml; the .bin goes beside it.

    tensors: float32 (1, 3, H, W), as the runtime's own codec makes them; ranges come from them.
    input: the spec they were made with; the input's range is then the whole range of a pixel.
    Raises ConversionError: nothing to calibrate with, or NNCF's refusal, in words.
    """
    network = _read(model)
    samples = list(tensors)
    guards.check_samples(samples, tuple(int(n) for n in network.input(0).shape))
    try:
        preset = "MIXED" if small_below_zero(model) else "PERFORMANCE"
        quantized = _quantized(network, samples, progress, preset=preset)
    except Exception as error:  # NNCF raises whatever its parts raise
        raise ConversionError(
            f"wanted NNCF to quantize the network, found: {first_lines(error)}; "
            "some operator has no integer form, export the model without it"
        ) from error
    _widen_input(quantized, input)
    _check_ranges(quantized)
    _save(quantized, out, compress=False)


def small_below_zero(model: ModelProto) -> bool:
    """Tell whether a network has activations such as PReLU, SiLU or GELU.

    Symmetric codes behind them would leave half unused, so activations get a zero point there
    (NNCF's "mixed"). Behind a ReLU there is nothing to gain: V1-Lite lost by it.
    """
    graph = Graph(model)
    return any(node.op_type in LEAKING or _gates_itself(graph, node) for node in graph.nodes)


def _gates_itself(graph: Graph, node: NodeProto) -> bool:
    """Tell whether a node is x * Sigmoid(x), or x * Clip(x + 3) as a hard swish is spelled out."""
    if node.op_type != "Mul":
        return False
    for value, gate in (node.input, reversed(node.input)):
        maker = graph.producer(gate)
        if maker is not None and maker.op_type == "Clip":
            maker = graph.producer(maker.input[0])
        if maker is not None and maker.op_type in ("Sigmoid", "Add") and value in maker.input:
            return True
    return False


def float_operators(path: Path) -> list[str]:
    """Return the weighted operators an int8 artifact computes in float, `type name`."""
    left = []
    for op in ov.Core().read_model(path).get_ordered_ops():
        if op.get_type_name() in WEIGHTED and not _is_quantized(op.input_value(0).get_node()):
            left.append(f"{op.get_type_name()} {op.get_friendly_name()}")
    return left


def input_range(path: Path) -> tuple[float, float] | None:
    """Return (lowest, highest) real value the artifact's input can hold; None where it is float."""
    quantize = _input_quantize(ov.Core().read_model(path))
    if quantize is None:
        return None
    low, high = (_constant(quantize, i) for i in (1, 2))
    return float(low.min()), float(high.max())


def layer_outputs(
    path: Path, tensors: Iterable[NDArray[Any]]
) -> list[tuple[str, list[NDArray[Any]]]]:
    """Return, in order, (name, one output per tensor) of every weighted layer, then of the end."""
    network = ov.Core().read_model(path)
    layers = [op for op in network.get_ordered_ops() if op.get_type_name() in WEIGHTED]
    for op in layers:
        network.add_outputs(op.output(0))
    names = ["the output"] + [f"{op.get_type_name()} {op.get_friendly_name()!r}" for op in layers]
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(network, "CPU", settings).create_infer_request()
    seen: list[list[NDArray[Any]]] = [[] for _ in names]
    for tensor in tensors:
        request.infer([tensor])
        for index, values in enumerate(seen):
            values.append(np.array(request.get_output_tensor(index).data))
    return [*zip(names[1:], seen[1:], strict=True), (names[0], seen[0])]


def _read(model: ModelProto) -> Any:
    """Read an ONNX graph with OpenVINO's own front end, from memory: no telemetry, no files."""
    try:
        return ov.Core().read_model(model.SerializeToString())
    except RuntimeError as error:
        raise ConversionError(
            f"wanted OpenVINO to read the network, found: {first_lines(error)}; "
            "an operator of the network is unknown to it, export the model without it"
        ) from error


def _quantized(
    network: Any, samples: list[NDArray[Any]], progress: Progress, *, preset: str
) -> Any:
    with _silence():
        import nncf

        seen = 0

        def counted(sample: NDArray[Any]) -> NDArray[Any]:
            nonlocal seen
            seen += 1
            progress("calibrating OpenVINO", min(seen, len(samples)), len(samples))
            return sample

        return nncf.quantize(
            network,
            nncf.Dataset(samples, counted),
            preset=getattr(nncf.QuantizationPreset, preset),
            subset_size=len(samples),
            fast_bias_correction=True,
        )


def _widen_input(network: Any, input: InputSpec | None) -> None:
    """Give the input's quantisation the whole range of a pixel, whatever the pictures held."""
    quantize = _input_quantize(network)
    if input is None or quantize is None:
        return
    low, high = min(input.real(0)), max(input.real(1))
    shape = list(quantize.input(1).get_shape())
    for index, value in ((1, low), (2, high), (3, low), (4, high)):
        constant = ov.opset13.constant(np.full(shape, value, np.float32))
        quantize.input(index).replace_source_output(constant.output(0))


def _input_quantize(network: Any) -> Any:
    """Return the FakeQuantize that the input feeds, or None."""
    for target in network.input(0).get_node().output(0).get_target_inputs():
        if target.get_node().get_type_name() == "FakeQuantize":
            return target.get_node()
    return None


def _check_ranges(network: Any) -> None:
    """Refuse a quantisation whose range is empty or no number: the layer would be constant."""
    found = False
    for op in network.get_ordered_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        found = True
        low, high = _constant(op, 3), _constant(op, 4)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
            raise ConversionError(
                f"{op.get_friendly_name()}: wanted a finite range, found {low.min():.3g} to "
                f"{high.max():.3g}; the network diverges on the calibration frames: check the spec"
            )
    if not found:
        raise ConversionError(
            "wanted a quantized network, found nothing in it that NNCF quantizes; keep it in float"
        )


def _constant(op: Any, index: int) -> NDArray[np.float32]:
    node = op.input_value(index).get_node()
    while node.get_type_name() == "Convert":  # a constant kept in 16 bits
        node = node.input_value(0).get_node()
    return np.asarray(node.data, dtype=np.float32)


def _is_quantized(node: Any) -> bool:
    """Tell whether a value comes from FakeQuantize, over operators that keep its codes."""
    kind = node.get_type_name()
    if kind == "Concat":
        return all(_is_quantized(value.get_node()) for value in node.input_values())
    if kind in KEEPING:
        return _is_quantized(node.input_value(0).get_node())
    return bool(kind == "FakeQuantize")


def _save(network: Any, out: Path, *, compress: bool) -> None:
    """Write .xml and .bin in a folder beside `out` and rename both, the .bin first."""
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as name:
        made = Path(name) / out.name
        try:
            ov.save_model(network, made, compress_to_fp16=compress)
            os.replace(made.with_suffix(".bin"), out.with_suffix(".bin"))
            os.replace(made, out)
        except (OSError, RuntimeError) as error:
            raise OutputError(
                f"{out}: wanted to write an OpenVINO network, found: {first_lines(error)}; "
                "free space or choose another place"
            ) from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep NNCF's bars, warnings and log lines off the screen; its exceptions pass."""
    logger = logging.getLogger("nncf")
    before = logger.level
    with silence():
        try:
            logger.setLevel(logging.ERROR)
            yield
        finally:
            logger.setLevel(before)
