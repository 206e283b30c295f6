"""A trained network read from a file that is not trusted.

`load` returns a checked ModelProto: one float32 input (1, 3, height, width), static shapes,
standard operators at opset 13 or later, all weights inside the file. Sizes are checked before
memory is taken. Anything else is a ConversionError that names the place and the remedy.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

from edge_seg.converters.graph import STANDARD
from edge_seg.converters.words import first_lines
from edge_seg.errors import ConversionError
from edge_seg.spec import InputSpec

MAX_FILE = 512 << 20  # bytes; protobuf itself ends at 2 GB
MAX_WEIGHTS = 1 << 30  # bytes claimed by all constants together
MAX_TENSOR = 1 << 30  # bytes of any one tensor the graph would compute
OPSET = 13  # the oldest the rewrites know: Softmax per axis, Split and Pad by inputs
RESIZE_MODES = 11  # the opset since which Resize says how it samples; before, it was so:
OLD_RESIZE = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
HALF = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
CODES = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
CODES |= {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
CONTROL = {"If", "Loop", "Scan", "SequenceMap"}
# Element types whose size is not whole bytes are given one byte: a bound, not a size.
FLOAT_BYTES = 4


def load(path: str | Path, input: InputSpec | None = None) -> ModelProto:
    """Read and check an ONNX file; with `input`, its size must be the spec's.

    A symbolic batch becomes 1. Raises ConversionError: not ONNX, too large, weights elsewhere,
    unknown or unsupported operators (named with their node), dynamic shapes (the dimension
    named), another input than one float32 picture.
    """
    path = Path(path)
    model = _read(path)
    with naming(path):
        _settle(model)
        model = _modern(model)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        _check_activations(model)
        _check_input(model, input)
    return model


def original(path: str | Path) -> ModelProto:
    """Read and check an ONNX file as `load` does, and change nothing but a symbolic batch.

    What rewritings are held against: the operators and the opset are the file's own.
    """
    path = Path(path)
    model = _read(path)
    with naming(path):
        _settle(model)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


def _settle(model: ModelProto) -> None:
    """Refuse what cannot be read safely; leave one input of static shape."""
    _check_sizes(model)
    _check_operators(model)
    _check_precision(model)
    _drop_redundant(model)
    _fix_input(model)
    onnx.checker.check_model(model)
    _check_values(model)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before every refusal, and turn whatever onnx raises into one.

    For all work on a graph from outside: a damaged one makes onnx, protobuf and NumPy raise
    errors of many kinds (text that is no UTF-8, numbers of no type, constants of another size).
    """
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error.__cause__
    except Exception as error:
        raise ConversionError(
            f"{path}: wanted a valid ONNX graph, found: {first_lines(error, 3)}; export the model "
            "again, with opset 17"
        ) from error


def _read(path: Path) -> ModelProto:
    if not path.is_file():
        raise ConversionError(f"{path}: wanted an ONNX file, found no such file; check the path")
    try:
        size = path.stat().st_size
        if not size:
            raise ConversionError(
                f"{path}: wanted an ONNX file, found an empty one; export or copy the model again"
            )
        if size > MAX_FILE:
            raise ConversionError(
                f"{path}: wanted an ONNX file of up to {MAX_FILE >> 20} MB, found {size} bytes; "
                "networks for small boards are far below that"
            )
        model = onnx.load_model(str(path), load_external_data=False)
    except DecodeError as error:
        raise ConversionError(
            f"{path}: wanted an ONNX file, found something else, or a part of one; copy it again, "
            "or export the network to ONNX (torch.onnx.export, paddle2onnx, tf2onnx)"
        ) from error
    except OSError as error:
        raise ConversionError(
            f"{path}: wanted to read it, found: {error.strerror or error}"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ConversionError(
            f"{path}: wanted an ONNX file, found no network in it; export the model again"
        )
    return model


def _check_sizes(model: ModelProto) -> None:
    """Refuse constants that lie outside the file, or that claim more than it may hold."""
    claimed = 0
    for tensor in _tensors(model.graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ConversionError(
                f"constant {tensor.name!r}: wanted all weights inside the file, found them in "
                "another file; save the model again as one file (torch.onnx.export(..., "
                "external_data=False), or onnx.save(onnx.load(FILE), ANOTHER))"
            )
        count = 1
        for dim in tensor.dims:
            if dim < 0:
                raise ConversionError(
                    f"constant {tensor.name!r}: wanted sizes of 0 or more, found {dim}; "
                    "the file is damaged, export the model again"
                )
            count *= dim
        claimed += count * _bytes_of(tensor.data_type)
        if claimed > MAX_WEIGHTS:
            raise ConversionError(
                f"constant {tensor.name!r}: wanted constants of {MAX_WEIGHTS >> 20} MB in all, "
                "found a claim of more; networks for small boards are far below that"
            )


def _check_values(model: ModelProto) -> None:
    """Refuse weights that are no numbers: training diverged, and every figure would be nonsense."""
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        # Infinities are left alone: a Clip without an upper end may hold one.
        count = int(np.isnan(numpy_helper.to_array(tensor)).sum())
        if count:
            raise ConversionError(
                f"constant {tensor.name!r}: wanted numbers, found {count} that are none (NaN); "
                "the training diverged: export an earlier checkpoint"
            )


def _bytes_of(kind: int) -> int:
    try:
        return max(1, helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except KeyError as error:
        raise ConversionError(
            f"wanted numeric constants, found element type {kind}; export the model again"
        ) from error


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every constant of a graph: initializers, and tensors in attributes at any depth."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for item in node.attribute:
            if item.HasField("t"):
                yield item.t
            yield from item.tensors
            for inner in [*([item.g] if item.HasField("g") else []), *item.graphs]:
                yield from _tensors(inner)


def _check_operators(model: ModelProto) -> None:
    versions = {o.domain: o.version for o in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if model.functions:
        raise ConversionError(
            f"wanted plain operators, found {len(model.functions)} model-local function(s); "
            "export the model without them (torch.onnx.export(..., dynamo=False))"
        )
    if not 1 <= version <= onnx.defs.onnx_opset_version():
        raise ConversionError(
            f"wanted an ONNX opset of 1..{onnx.defs.onnx_opset_version()}, found {version}; "
            "export the model with opset 17"
        )
    for node in model.graph.node:
        if node.domain not in STANDARD:
            raise _unsupported(node, f"{node.domain}.{node.op_type}, which is not standard ONNX")
        if node.op_type in CONTROL or any(
            item.HasField("g") or item.graphs for item in node.attribute
        ):
            raise _unsupported(node, f"{node.op_type}, which runs a graph of its own")
        if not onnx.defs.has(node.op_type, version, ""):
            raise _unsupported(node, f"{node.op_type}, which opset {version} does not have")


def _check_precision(model: ModelProto) -> None:
    """Refuse a network that computes in half precision: its rounding would be calibrated on.

    Constants that are only kept so, and cast to float32, are no matter.
    """
    halves = {t.name: HALF[t.data_type] for t in model.graph.initializer if t.data_type in HALF}
    for node in model.graph.node:
        for name in node.input:
            if name in halves and node.op_type != "Cast":
                raise ConversionError(
                    f"constant {name!r}: wanted weights in float32, found {halves[name]}; export "
                    "the model in float32 (without model.half(), convert_float_to_float16)"
                )


def refuse_quantized(model: ModelProto) -> None:
    """Raise ConversionError where a network is in integers already; `load` takes it, to measure."""
    for node in model.graph.node:
        if node.op_type in CODES:
            raise ConversionError(
                f"node {node.name or node.output[0]!r}: wanted a float network, found one that is "
                f"quantized already ({node.op_type}); name the float ONNX it was made from"
            )


def _unsupported(node: NodeProto, what: str) -> ConversionError:
    name = node.name or (node.output[0] if node.output else "?")
    return ConversionError(
        f"node {name!r}: wanted an operator that can be converted, found {what}; "
        "export the model without it"
    )


def _drop_redundant(model: ModelProto) -> None:
    """Drop domains that no node uses, and inputs that only give an initializer's type."""
    for opset in [o for o in model.opset_import if o.domain not in STANDARD]:
        model.opset_import.remove(opset)
    constants = {t.name for t in model.graph.initializer}
    for value in [v for v in model.graph.input if v.name in constants]:
        model.graph.input.remove(value)


def _fix_input(model: ModelProto) -> None:
    """Set a symbolic batch to 1; refuse any other dynamic dimension of the input by name."""
    inputs = list(model.graph.input)
    if len(inputs) != 1:
        names = ", ".join(v.name for v in inputs[:8]) or "none"
        raise ConversionError(
            f"wanted one input, the picture, found {len(inputs)} ({names}); "
            "export the network alone, without further inputs"
        )
    value = inputs[0]
    kind = value.type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        found = TensorProto.DataType.Name(kind.elem_type).lower() if kind.elem_type else "no type"
        raise ConversionError(
            f"input {value.name!r}: wanted float32, found {found}; export the model in float32, "
            "with its normalisation left to the spec"
        )
    if len(kind.shape.dim) != 4:
        raise ConversionError(
            f"input {value.name!r}: wanted (1, 3, height, width), found {_shape_text(value)}; "
            "export the model with a 4-D picture as its input"
        )
    changed = False
    for position, dim in enumerate(kind.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value > 0:
            continue
        if position == 0:
            dim.Clear()
            dim.dim_value = 1
            changed = True
            continue
        name = dim.dim_param or "without a name"
        axis = ("batch", "channels", "height", "width")[position]
        raise ConversionError(
            f"input {value.name!r}: wanted static shapes, found {_shape_text(value)}: its {axis} "
            f"({name}) is dynamic; export the model with a fixed size "
            "(no dynamic_axes / dynamic_shapes), or fix it with "
            "`python -m onnxruntime.tools.make_dynamic_shape_fixed "
            f"--input_name {shlex.quote(value.name)} --input_shape 1,3,HEIGHT,WIDTH FILE FIXED`"
        )
    if changed:  # what was inferred with a symbolic batch no longer holds
        del model.graph.value_info[:]
        for output in model.graph.output:
            for dim in output.type.tensor_type.shape.dim:
                dim.Clear()


def _shape_text(value: ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return "(" + ", ".join(str(d.dim_value or d.dim_param or "?") for d in dims) + ")"


def _modern(model: ModelProto) -> ModelProto:
    """Return the model at opset 13 or later."""
    version = next(o.version for o in model.opset_import if o.domain in STANDARD)
    if version >= OPSET:
        return model
    try:
        raised = onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # the C++ converter raises RuntimeError and others alike
        raise ConversionError(
            f"wanted opset {OPSET} or later, found {version}, which could not be brought up to "
            f"date ({first_lines(error, 3)}); export the model with opset 17"
        ) from error
    if version < RESIZE_MODES:
        _keep_old_resizes(raised)
    return raised


def _keep_old_resizes(model: ModelProto) -> None:
    """Say aloud where a Resize of opset 10, or an Upsample, takes its samples: x / scale, rounded
    down. The version converter leaves it to the new default, half a pixel beside.
    """
    for node in model.graph.node:
        if node.op_type != "Resize":
            continue
        said = {a.name for a in node.attribute}
        for name, value in OLD_RESIZE.items():
            if name not in said:
                node.attribute.append(helper.make_attribute(name, value))


def _check_activations(model: ModelProto) -> None:
    """Refuse a graph that would compute a giant: constant folding would take that memory."""
    for value in [*model.graph.value_info, *model.graph.output]:
        count = FLOAT_BYTES
        for dim in value.type.tensor_type.shape.dim:
            count *= max(1, dim.dim_value)
        if count > MAX_TENSOR:
            raise ConversionError(
                f"tensor {value.name!r}: wanted tensors of up to {MAX_TENSOR >> 20} MB, found "
                f"{_shape_text(value)}; export the model for a smaller picture"
            )


def _check_input(model: ModelProto, spec: InputSpec | None) -> None:
    value = model.graph.input[0]
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    if shape[0] != 1:
        raise ConversionError(
            f"input {value.name!r}: wanted a batch of 1, found {shape[0]}; "
            "export the model for one picture"
        )
    if shape[1] != 3:
        if shape[3] == 3:
            raise ConversionError(
                f"input {value.name!r}: wanted channels first, (1, 3, height, width), found "
                f"{_shape_text(value)}; export it so (tf2onnx has --inputs-as-nchw "
                f"{shlex.quote(value.name)}; in PyTorch leave the permute out of the network)"
            )
        raise ConversionError(
            f"input {value.name!r}: wanted 3 channels in (1, 3, height, width), found "
            f"{_shape_text(value)} (not RGB or BGR); only networks that see a colour picture are "
            "taken"
        )
    if spec is not None and (shape[2], shape[3]) != (spec.height, spec.width):
        raise ConversionError(
            f"input {value.name!r}: wanted the spec's {spec.height}x{spec.width} (height x "
            f"width), found {shape[2]}x{shape[3]}; correct the spec"
        )
