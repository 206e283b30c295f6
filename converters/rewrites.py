"""Float-exact rewrites of an ONNX graph, so that what is left quantizes well and runs fast.

Each takes a Graph, changes it in place and returns how many places it changed. They know
patterns, never models: every one is an identity of real arithmetic, up to float rounding.
`simplify` applies them all and says in words what it did. Why each exists: docs/decisions.md.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from edge_seg.converters.channels import fold_channel_moves
from edge_seg.converters.graph import Array, Graph, attribute
from edge_seg.errors import ConversionError

# A channel whose weights sum to less than this adds under 1e-7 to its bias for activations up to
# 1e5: nothing that float32 would keep beside a bias that matters.
DEAD_WEIGHT_SUM = 1e-12
MAX_CONSTANT = 1 << 22  # elements; larger constants are left to be computed

NON_NEGATIVE = {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs"}
KEEPS_SIGN = {"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Split", "Identity",
              "Reshape", "Transpose", "Gather", "Slice", "Dropout"}  # fmt: skip


def simplify(model: ModelProto) -> tuple[ModelProto, list[str]]:
    """Apply every rewrite until none applies; return the new model and what was done, in words.

    model: static shapes, opset 13 or later (converters.onnx.load gives that).
    """
    counts: dict[str, int] = {}
    for _ in range(20):  # each round can open the next; a handful is enough in practice
        model = fold_constants(model)
        graph = Graph(model)
        changed = 0
        for rewrite, _ in REWRITES:
            found = rewrite(graph)
            if found:
                graph.refresh()
                counts[rewrite.__name__] = counts.get(rewrite.__name__, 0) + found
            changed += found
        model = graph.to_model()
        if not changed:
            break
    graph = Graph(model)
    for rewrite, _ in LAST:
        counts[rewrite.__name__] = rewrite(graph)
        graph.refresh()
    model = graph.to_model()
    said = ["constants folded, batch norms folded into convolutions"]
    said += [
        words.format(n=counts[f.__name__]) for f, words in REWRITES + LAST if counts.get(f.__name__)
    ]
    return model, said


def fold_constants(model: ModelProto) -> ModelProto:
    """Compute what depends on no input, fold batch norms, drop Identity and Dropout.

    The work is ONNX Runtime's "basic" level: standard operators in, standard operators out.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            folded = onnx.load(target)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ConversionError(
                f"wanted a network that ONNX Runtime can load, found: {first_line(error)}; "
                "export the model again with standard operators"
            ) from error
    return Graph(folded).to_model()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, at most 300 characters."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


def fold_dead_convolutions(graph: Graph) -> int:
    """Replace a convolution whose weights are all ~0 by its bias, a constant.

    Such layers (a squeeze-excite gate that training switched off) break quantizers: their scale
    is ~0, so the int32 biases overflow and the branch is erased without an error.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Conv"]:
        weight, shape = graph.constants.get(node.input[1]), graph.shapes.get(node.output[0])
        if weight is None or shape is None or np.prod(shape) > MAX_CONSTANT:
            continue
        if np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() >= DEAD_WEIGHT_SUM:
            continue
        bias = conv_bias(graph, node)
        if bias is None:
            continue
        value = np.broadcast_to(bias.reshape(1, -1, 1, 1), shape).copy()
        graph.redirect(node.output[0], graph.constant(value, "dead"))
        graph.remove(node)
        found += 1
    return found


def conv_bias(graph: Graph, node: NodeProto) -> Array | None:
    """Return a convolution's bias (zeros if it has none), or None where it is not a constant."""
    weight = graph.constants[node.input[1]]
    if len(node.input) < 3 or not node.input[2]:
        channels = weight.shape[0]
        return np.zeros(channels, dtype=weight.dtype)
    return graph.constants.get(node.input[2])


def set_conv(graph: Graph, node: NodeProto, weight: Array, bias: Array) -> None:
    """Give a convolution new constants (its own: others may share the old ones)."""
    kept = [node.input[0], graph.constant(weight, "weight"), graph.constant(bias, "bias")]
    del node.input[:]
    node.input.extend(kept)


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
    """Turn a padded AveragePool that counts its zeros into a zero Pad and an unpadded AveragePool.

    onnx2tf would write that padding as PADV2, which cannot be quantized.
    """
    found = 0
    for node, amounts in _padded_pools(graph, "AveragePool"):
        if attribute(node, "count_include_pad", 0):
            _pad_before(graph, node, amounts, mode="constant")
            found += 1
    return found


def _padded_pools(graph: Graph, kind: str) -> Iterator[tuple[NodeProto, list[int]]]:
    """Yield the plain pools of a kind that pad, each with the amounts that its windows reach."""
    for node in [n for n in graph.nodes if n.op_type == kind]:
        pads, shape = attribute(node, "pads"), graph.shapes.get(node.input[0])
        if not pads or not any(pads) or shape is None or not _plain_pool(node, shape):
            continue
        kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides", [1, 1])
        yield node, _reached_padding(shape[2:], pads, kernel, strides)


def _pad_before(graph: Graph, node: NodeProto, amounts: list[int], *, mode: str) -> None:
    """Put a Pad and a pool without padding in the place of a pool; "constant" pads with zeros."""
    inputs = [node.input[0], graph.constant(np.array(amounts, dtype=np.int64), "pads")]
    if mode == "constant":
        inputs.append(graph.constant(np.zeros((), dtype=np.float32), "zero"))
    padded = graph.add("Pad", inputs, "padded", mode=mode)
    kernel, strides = attribute(node, "kernel_shape"), attribute(node, "strides", [1, 1])
    pooled = graph.add(node.op_type, [padded], "pooled", kernel_shape=kernel, strides=strides)
    graph.redirect(node.output[0], pooled)
    graph.remove(node)


def _plain_pool(node: NodeProto, shape: tuple[int, ...]) -> bool:
    return (
        len(shape) == 4
        and len(node.output) == 1
        and not attribute(node, "ceil_mode", 0)
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and all(d == 1 for d in attribute(node, "dilations", [1, 1]))
    )


def _reached_padding(
    size: tuple[int, ...], pads: list[int], kernel: list[int], strides: list[int]
) -> list[int]:
    """Return ONNX Pad amounts for (N, C, H, W): of the padding, what some window reaches."""
    ends = []
    for axis in (0, 1):
        before, after = pads[axis], pads[2 + axis]
        windows = (size[axis] + before + after - kernel[axis]) // strides[axis] + 1
        reach = (windows - 1) * strides[axis] + kernel[axis]
        ends.append(max(0, reach - size[axis] - before))
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
    if node.op_type in ("Add", "Mul"):
        return all(is_non_negative(graph, i) for i in node.input)
    return node.op_type in NON_NEGATIVE


def relu_for_clip(graph: Graph) -> int:
    """Write Clip(x, 0, no upper end), which is torch's clamp(min=0), as Relu(x).

    Clip with one end alone becomes Maximum, which the quantizer leaves in float.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Clip"]:
        low, high = (_end(graph, node, which) for which in (1, 2))
        if low != 0 or high not in (None, np.inf):
            continue
        graph.redirect(node.output[0], graph.add("Relu", [node.input[0]], "relu"))
        graph.remove(node)
        found += 1
    return found


def _end(graph: Graph, node: NodeProto, which: int) -> float | None:
    """Return an end of a Clip, None where it has none, NaN where it is computed."""
    if len(node.input) <= which or not node.input[which]:
        return None
    value = graph.constants.get(node.input[which])
    return math.nan if value is None else float(value.item())


def spell_out_hard_sigmoid(graph: Graph) -> int:
    """Write HardSigmoid(x) = clip(a x + b, 0, 1) as clip(6a x + 6b, 0, 6) / 6.

    The first half folds into the convolution before it and its ReLU6, the 1/6 into the one
    after: nothing is left but a ReLU6, which every integer kernel has.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "HardSigmoid"]:
        alpha = 6.0 * attribute(node, "alpha", 0.2)
        beta = 6.0 * attribute(node, "beta", 0.5)
        _spell(graph, node, alpha, beta)
        found += 1
    return found


def spell_out_hard_swish(graph: Graph) -> int:
    """Write HardSwish(x) as x * (clip(x + 3, 0, 6) / 6): its integer kernel is slow or absent."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "HardSwish"]:
        gate = _gate(graph, node.input[0], 1.0, 3.0)
        product = graph.add("Mul", [node.input[0], gate], "hard_swish")
        sixth = graph.constant(np.array(1 / 6, dtype=np.float32), "sixth")
        graph.redirect(node.output[0], graph.add("Mul", [product, sixth], "hard_swish"))
        graph.remove(node)
        found += 1
    return found


def _gate(graph: Graph, name: str, alpha: float, beta: float) -> str:
    """Add clip(alpha x + beta, 0, 6); return its name."""

    def scalar(value: float) -> str:
        return graph.constant(np.array(value, dtype=np.float32), "scalar")

    if alpha != 1.0:
        name = graph.add("Mul", [name, scalar(alpha)], "gate")
    shifted = graph.add("Add", [name, scalar(beta)], "gate")
    return graph.add("Clip", [shifted, scalar(0.0), scalar(6.0)], "gate")


def _spell(graph: Graph, node: NodeProto, alpha: float, beta: float) -> None:
    gate = _gate(graph, node.input[0], alpha, beta)
    sixth = graph.constant(np.array(1 / 6, dtype=np.float32), "sixth")
    graph.redirect(node.output[0], graph.add("Mul", [gate, sixth], "gate"))
    graph.remove(node)


def divide_by_multiplying(graph: Graph) -> int:
    """Write x / c as x * (1 / c) for a constant c, so that one rule folds both."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Div"]:
        divisor = graph.constants.get(node.input[1])
        if divisor is None or divisor.dtype != np.float32 or not np.all(divisor):
            continue
        node.op_type = "Mul"
        node.input[1] = graph.constant((1.0 / divisor).astype(np.float32), "reciprocal")
        found += 1
    return found


def delay_scales(graph: Graph) -> int:
    """Move a constant scale behind a product: (c x) y = c (x y), for scalars and per channel."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Mul"]:
        if any(i in graph.constants for i in node.input):
            continue
        for position in (0, 1):
            inner = graph.producer(node.input[position])
            if inner is None or inner.op_type != "Mul" or not graph.sole_consumer(inner.output[0]):
                continue
            scaled = scale_of(graph, inner)
            if scaled is None:
                continue
            data, factor = scaled
            shape = graph.shapes.get(node.output[0])
            if shape is None or not _fits(factor, shape):
                continue
            node.input[position] = data
            name = graph.constant(factor, "scale")
            readers = graph.consumers(node.output[0])
            delayed = graph.add("Mul", [node.output[0], name], "delayed")
            _redirect_readers(graph, node, delayed, readers)
            found += 1
            break
    return found


def _redirect_readers(graph: Graph, node: NodeProto, new: str, readers: list[NodeProto]) -> None:
    old = node.output[0]
    if not graph.is_output(old):
        graph.redirect(old, new, only=readers)
        return
    inner = graph.fresh(old)  # the output's name goes to the last node of the chain
    node.output[0] = inner
    for reader in graph.consumers(old):
        for position, name in enumerate(reader.input):
            if name == old:
                reader.input[position] = inner if new in reader.output else new
    graph.replace_output(new, old)


def scale_of(graph: Graph, node: NodeProto) -> tuple[str, Array] | None:
    """Return (data, factor) of a Mul by a constant, factor as scalar or (1, C, 1, 1)."""
    for position in (0, 1):
        factor = graph.constants.get(node.input[position])
        if factor is None or factor.dtype != np.float32:
            continue
        data = node.input[1 - position]
        shape = graph.shapes.get(data)
        if shape is None or data in graph.constants or len(shape) != 4:
            return None
        if factor.size == 1:
            return data, factor.reshape(())
        full: Array = factor.reshape((1,) * (4 - factor.ndim) + factor.shape)
        if full.shape[0] == 1 and full.shape[1] == shape[1]:
            plane = full.reshape(shape[1], -1)
            if np.array_equal(plane.min(axis=1), plane.max(axis=1)):  # one number per channel
                return data, plane[:, 0].reshape(1, -1, 1, 1)
        return None
    return None


def _fits(factor: Array, shape: tuple[int, ...]) -> bool:
    return factor.ndim == 0 or (len(shape) == 4 and factor.shape[1] == shape[1])


def fold_scales(graph: Graph) -> int:
    """Fold a constant scale (scalar or per channel) into the convolutions around it.

    Into every convolution that reads it, where all its readers are convolutions; else into the
    convolution before it, where nothing else reads that.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Mul"]:
        scaled = scale_of(graph, node)
        if scaled is None or graph.is_output(node.output[0]):
            continue
        data, factor = scaled
        readers = graph.consumers(node.output[0])
        before = graph.producer(data)
        if readers and all(_takes_scale(graph, r, node.output[0]) for r in readers):
            for reader in readers:
                _scale_inputs(graph, reader, factor)
                reader.input[0] = data
        elif (
            before is not None
            and before.op_type == "Conv"
            and graph.sole_consumer(data) is node
            and before.input[1] in graph.constants
            and conv_bias(graph, before) is not None
        ):
            _scale_outputs(graph, before, factor)
            graph.redirect(node.output[0], data)
        else:
            continue
        graph.remove(node)
        found += 1
    return found


def _takes_scale(graph: Graph, node: NodeProto, name: str) -> bool:
    return (
        node.op_type == "Conv"
        and list(node.input).count(name) == 1
        and node.input[0] == name
        and node.input[1] in graph.constants
        and conv_bias(graph, node) is not None
    )


def _scale_inputs(graph: Graph, conv: NodeProto, factor: Array) -> None:
    weight = graph.constants[conv.input[1]]
    bias = conv_bias(graph, conv)
    assert bias is not None
    group = attribute(conv, "group", 1)
    per_input = np.broadcast_to(factor.reshape(-1), (weight.shape[1] * group,))
    outputs = np.arange(len(weight)) // (len(weight) // group)  # the group of each output
    scale = per_input.reshape(group, -1)[outputs]
    set_conv(graph, conv, (weight * scale[:, :, None, None]).astype(np.float32), bias)


def _scale_outputs(graph: Graph, conv: NodeProto, factor: Array) -> None:
    weight, bias = graph.constants[conv.input[1]], conv_bias(graph, conv)
    assert bias is not None
    per_output = np.broadcast_to(factor.reshape(-1), (len(weight),))
    set_conv(graph, conv, weight * per_output[:, None, None, None], bias * per_output)


def fold_shifts(graph: Graph) -> int:
    """Fold the addition of a constant (scalar or per channel) into the convolution before it."""
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Add"]:
        for position in (0, 1):
            shift = graph.constants.get(node.input[position])
            conv = graph.producer(node.input[1 - position])
            if shift is None or conv is None or conv.op_type != "Conv":
                continue
            bias = conv_bias(graph, conv) if conv.input[1] in graph.constants else None
            per_channel = None if bias is None else _per_channel(shift, len(bias))
            if per_channel is None or graph.sole_consumer(conv.output[0]) is not node:
                continue
            assert bias is not None
            set_conv(graph, conv, graph.constants[conv.input[1]], bias + per_channel)
            graph.redirect(node.output[0], conv.output[0])
            graph.remove(node)
            found += 1
            break
    return found


def _per_channel(value: Array, channels: int) -> Array | None:
    if value.dtype != np.float32:
        return None
    if value.size == 1:
        return np.full(channels, value.reshape(-1)[0], dtype=np.float32)
    padded = value.reshape((1,) * max(0, 4 - value.ndim) + value.shape)
    return padded.reshape(-1) if padded.shape == (1, channels, 1, 1) else None


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


def clip_behind_additions(graph: Graph) -> int:
    """Move the bias of a convolution on a 1x1 map into an Add, where a ReLU6 follows.

    onnx2tf does not fuse a ReLU6 with such a convolution, and the quantizer leaves a lone RELU6
    in float. It does fuse with an addition.
    """
    found = 0
    for node in [n for n in graph.nodes if n.op_type == "Clip"]:
        conv = graph.producer(node.input[0])
        if conv is None or conv.op_type != "Conv" or conv.input[1] not in graph.constants:
            continue
        shape, bias = graph.shapes.get(conv.output[0]), conv_bias(graph, conv)
        if shape is None or shape[2:] != (1, 1) or bias is None:
            continue
        if graph.sole_consumer(conv.output[0]) is not node:
            continue
        set_conv(graph, conv, graph.constants[conv.input[1]], np.zeros_like(bias))
        shift = graph.constant(bias.reshape(1, -1, 1, 1), "shift")
        node.input[0] = graph.add("Add", [conv.output[0], shift], "shifted")
        found += 1
    return found


# In this order: what one opens, the next finds.
REWRITES: tuple[tuple[Callable[[Graph], int], str], ...] = (
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
LAST: tuple[tuple[Callable[[Graph], int], str], ...] = (
    (unpad_max_pools, "{n} padded max pool(s) as Pad + unpadded pool"),
    (unpad_average_pools, "{n} padded average pool(s) as Pad + unpadded pool"),
    (pool_by_window, "{n} global average pool(s) as average pools"),
    (clip_behind_additions, "{n} ReLU6 on a 1x1 map moved from a convolution to an addition"),
)
