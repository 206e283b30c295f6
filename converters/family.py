"""Networks whose input contract is known, so that no `--spec` is needed.

The PP-HumanSeg family (PaddleSeg, contrib/PP-HumanSeg): RGB, (x / 255 - 0.5) / 0.5, two classes
with the person second. Told by the form of the graph: one 3-channel input of a released size and
one output of two channels. `fit` and `pad` are by measurement (docs/decisions.md): on pictures of
all proportions a letterbox with grey 127, the value the networks were trained to see as padding,
beats stretching by 3.7 (V2-Lite) and 9.8 points of mIoU (V1-Lite).
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, ValueInfoProto

from edge_seg.converters import onnx
from edge_seg.converters.head import check_output, last_activation, single_logit
from edge_seg.errors import ConversionError
from edge_seg.spec import InputSpec, OutputSpec, load_spec

# (height, width) of the released networks (README of contrib/PP-HumanSeg).
PP_HUMANSEG_SIZES = frozenset({(224, 398), (144, 256), (256, 144), (192, 192), (512, 512)})

EXAMPLE = """\
[input]
height = {height}
width = {width}
mean = [0.5, 0.5, 0.5]      # tensor = (pixel / 255 - mean) / std, in the network's colour order
std = [0.5, 0.5, 0.5]
color = "rgb"               # or "bgr"
fit = "letterbox"           # or "stretch"
pad = 127                   # pixel value of a letterbox's bars
[output]
activation = "{activation}"  # "probability" (it ends in a Softmax or Sigmoid) or "logit"
channel = {channel}                 # which channel is the person
"""


def reduced(
    model: Path, spec: Path | None, *, to_quantize: bool = False
) -> tuple[InputSpec, OutputSpec, ModelProto]:
    """Return an ONNX file's contract, of a spec's file or its family's, and it with one logit.

    Raises ConversionError, naming the model; with to_quantize also for one that is quantized.
    BundleError for a spec that cannot be read.
    """
    given = load_spec(spec) if spec else None
    graph = onnx.load(model, given[0] if given else None)
    with onnx.naming(model):
        if to_quantize:
            onnx.refuse_quantized(graph)
        input, output = given or known_spec(graph)
        return input, output, single_logit(graph, output)


def known_spec(model: ModelProto) -> tuple[InputSpec, OutputSpec]:
    """Return the contract of a network of a known family, told by the form of its graph.

    model: what `converters.onnx.load` returns (one input, NCHW, static shapes).
    Raises ConversionError where the network is not known, with a spec file to correct: its size and
    ending are the network's, the rest nobody can read in it. One that no spec would help is refused
    for what it returns instead.
    """
    eats, returns = _shape(model.graph.input[0]), _shape(model.graph.output[0])
    size = eats[2:]
    if size in PP_HUMANSEG_SIZES and returns == (1, 2, *size):
        normalized = any(node.op_type == "Softmax" for node in model.graph.node)
        activation = "probability" if normalized else "logit"
        return InputSpec(*size), OutputSpec(activation, channel=1)
    check_output(model)
    raise ConversionError(
        f"wanted a network whose input contract is known (PP-HumanSeg), found input {eats} and "
        f"output {returns}; write its contract in a file and pass --spec FILE.toml. This one has "
        "the network's size and ending; put in how it was trained (mean, std, color, fit, pad, "
        f"channel):\n\n{example(model)}"
    )


def example(model: ModelProto) -> str:
    """Return a spec file of a network, with PP-HumanSeg's pictures where the graph says nothing."""
    height, width = _shape(model.graph.input[0])[2:]
    returns = _shape(model.graph.output[0])
    return EXAMPLE.format(
        height=height,
        width=width,
        activation="probability" if last_activation(model) else "logit",
        channel=0 if 1 in returns[1:] or len(returns) < 4 else 1,
    )


def _shape(value: ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
