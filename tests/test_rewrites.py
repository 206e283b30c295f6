"""Rewrites: the answer from before (ONNX Runtime, nothing optimised), and the form wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import ModelProto  # noqa: E402

from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.activations import spell_out_hard_swish  # noqa: E402
from edge_seg.converters.folding import fold_dead_convolutions  # noqa: E402
from edge_seg.converters.graph import Graph  # noqa: E402
from edge_seg.converters.rewrites import simplify  # noqa: E402
from tests.tiny_onnx import Builder, operators, random_picture, run  # noqa: E402


def same_answer(before: ModelProto, after: ModelProto, tolerance: float = 2e-5) -> None:
    picture = random_picture(before)
    truth = run(before, picture)
    assert np.ptp(truth) > 0.1  # a constant would prove nothing
    np.testing.assert_allclose(run(after, picture), truth, atol=tolerance, rtol=1e-5)


def simplified(b: Builder, output: str, tolerance: float = 2e-5) -> list[str]:
    """Simplify, hold the answer against the original's, return the operators that are left."""
    model = b.model(output)
    before = model.SerializeToString()
    after, _ = simplify(model)
    assert model.SerializeToString() == before, "the caller's model was changed"
    same_answer(model, after, tolerance)
    return operators(after)


# --- constants, batch norms, dead layers ---------------------------------------------------------


def test_batch_norm_and_dropout_disappear() -> None:
    b = Builder()
    x = b.conv("picture", 3, 6, 3)
    scale, shift, mean, spread = (
        b.constant(b.random.uniform(0.5, 2, 6) if positive else b.random.normal(size=6))
        for positive in (False, False, False, True)
    )
    x = b.op("BatchNormalization", x, scale, shift, mean, spread)
    x = b.op("Identity", b.op("Dropout", x))
    assert simplified(b, b.op("Relu", x)) == ["Conv", "Relu"]


@pytest.mark.parametrize(
    ("ends", "left"),
    [((0.0,), "Relu"), ((0.0, np.inf), "Relu"), ((0.0, 6.0), "Clip"), ((-1.0,), "Clip")],
)
def test_a_clip_from_zero_on_is_a_relu(ends: tuple[float, ...], left: str) -> None:
    b = Builder()
    x = b.conv("picture", 3, 4, 3)
    for node in b.nodes:
        b.constants[node.input[1]] *= 10  # so that every end is met
    assert simplified(b, b.op("Clip", x, *(b.constant(v) for v in ends)), 1e-4) == ["Conv", left]


def test_a_clip_whose_upper_end_is_computed_stays_one() -> None:
    b = Builder()
    x = b.conv("picture", 3, 4, 3)
    end = b.op("ReduceMax", "picture", keepdims=0)
    assert "Relu" not in simplified(b, b.op("Clip", x, b.constant(0.0), end))


def test_sizes_computed_from_shapes_become_constants() -> None:
    b = Builder()
    x = b.conv("picture", 3, 4, 3, strides=[2, 2])
    shape = b.op("Shape", "picture")
    ends = [b.constant([v], np.int64) for v in (2, 4, 0)]
    size = b.op("Slice", shape, *ends)
    sizes = b.op("Concat", b.constant([1, 4], np.int64), size, axis=0)
    up = b.op("Resize", x, "", "", sizes, mode="linear")
    assert simplified(b, up) == ["Conv", "Resize"]


def squeeze_excite(b: Builder, x: str, channels: int, *, weight: float) -> str:
    """The gate of MobileNetV3: pool, 1x1, ReLU, 1x1, hard sigmoid, product."""
    pooled = b.op("GlobalAveragePool", x)
    squeezed = b.op("Relu", b.conv(pooled, channels, 2))
    gate = b.conv(squeezed, 2, channels)
    for node in b.nodes[-3::2]:
        b.constants[node.input[1]] *= weight
        b.constants[node.input[2]] = np.linspace(-2, 2, len(b.constants[node.input[2]]))
        b.constants[node.input[2]] = b.constants[node.input[2]].astype(np.float32)
    return str(b.op("Mul", x, b.op("HardSigmoid", gate, alpha=0.2, beta=0.5)))


def test_a_dead_gate_folds_into_the_next_convolution() -> None:
    """As in the released PP-HumanSegV2: weights of 1e-27, so the gate is a constant."""
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 6, 3))
    gated = squeeze_excite(b, x, 6, weight=1e-27)
    assert simplified(b, b.conv(gated, 6, 4, 1)) == ["Conv", "Relu", "Conv"]


def test_a_living_gate_stays() -> None:
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 6, 3))
    gated = squeeze_excite(b, x, 6, weight=1.0)
    left = simplified(b, b.conv(gated, 6, 4, 1))
    assert left.count("Conv") == 4 and left.count("Mul") == 1


def test_a_layer_with_one_living_channel_is_not_dead() -> None:
    b = Builder()
    x = b.conv("picture", 3, 4, 1)
    b.constants[b.nodes[-1].input[1]][[0, 1, 3]] = 0
    assert simplified(b, x) == ["Conv"]


def test_weak_weights_are_not_dead() -> None:
    """1e-9 next to activations of 1e6 is no rounding error: such a layer must stay."""
    b = Builder()
    loud = b.op("Mul", "picture", b.constant(1e9))
    x = b.conv(loud, 3, 4, 1)
    b.constants[b.nodes[-1].input[1]] *= np.float32(1e-9)
    model = b.model(x)
    graph = Graph(model)
    assert fold_dead_convolutions(graph) == 0


# --- pools ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(12, 16), (11, 15), (12, 15), (11, 16)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (3, 1, 1), (2, 2, 1), (5, 3, 2)])
def test_a_padded_max_pool_after_a_relu(
    height: int, width: int, kernel: int, stride: int, pad: int
) -> None:
    b = Builder((1, 3, height, width))
    x = b.op("Relu", b.conv("picture", 3, 4, 3))
    sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    model = b.model(b.op("MaxPool", x, **sizes))
    after, said = simplify(model)
    same_answer(model, after, 0.0)
    pool = next(n for n in after.graph.node if n.op_type == "MaxPool")
    assert not any(any(a.ints) for a in pool.attribute if a.name == "pads")
    assert operators(after)[-2:] == ["Pad", "MaxPool"]
    assert any("max pool" in line for line in said)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads"),
    [
        ([5, 3], [1, 2], [2, 1, 2, 1]),
        ([3, 5], [2, 1], [0, 2, 1, 2]),
        ([3, 3], [3, 1], [1, 0, 0, 1]),
    ],
)
def test_padding_that_differs_between_sides_stays_on_its_side(
    kernel: list[int], stride: list[int], pads: list[int], signed: bool
) -> None:
    b = Builder((1, 3, 11, 14))
    x = b.op("Sub", b.conv("picture", 3, 4, 3), b.constant(50.0 if signed else 0.0))
    x = x if signed else b.op("Relu", x)
    pooled = b.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=pads)
    left = simplified(b, pooled)
    assert left[-2:] == ["Pad", "MaxPool"]


def test_no_padding_is_added_that_no_window_reaches() -> None:
    b = Builder((1, 3, 12, 16))
    x = b.op("Relu", b.conv("picture", 3, 4, 3))
    model = b.model(b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    graph = Graph(simplify(model)[0])
    pad = next(n for n in graph.nodes if n.op_type == "Pad")
    assert graph.constants[pad.input[1]].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(12, 16), (11, 15)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 2, 1), (3, 1, 1), (5, 3, 2), (5, 2, 1)])
def test_a_padded_max_pool_of_signed_values_is_mirrored(
    height: int, width: int, kernel: int, stride: int, pad: int
) -> None:
    """A zero would win over negative values: they are all negative here."""
    b = Builder((1, 3, height, width))
    x = b.op("Sub", b.conv("picture", 3, 4, 3), b.constant(50.0))
    sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    assert simplified(b, b.op("MaxPool", x, **sizes))[-2:] == ["Pad", "MaxPool"]


@pytest.mark.parametrize(("stride", "pads"), [(2, [1, 1, 1, 1]), (1, [0, 0, 1, 1])])
def test_a_window_too_small_for_its_mirror_is_left_alone(stride: int, pads: list[int]) -> None:
    b = Builder()
    x = b.op("Sub", b.conv("picture", 3, 4, 3), b.constant(50.0))
    pooled = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[stride] * 2, pads=pads)
    assert "Pad" not in simplified(b, pooled)


def test_a_map_smaller_than_its_mirror_is_left_alone() -> None:
    """As a pyramid's pools of 5x5 on a map of two rows: there is no third one to repeat."""
    b = Builder((1, 3, 2, 9))
    x = b.op("Sub", b.conv("picture", 3, 4, 3), b.constant(50.0))
    pooled = b.op("MaxPool", x, kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
    assert "Pad" not in simplified(b, pooled)


BELOW_ZERO: dict[str, Callable[[Builder, str, str], str]] = {
    "one branch": lambda b, positive, low: b.op("Concat", positive, low, axis=1),
    "sum": lambda b, positive, low: b.op("Add", positive, low),
    "difference": lambda b, positive, low: b.op("Sub", positive, b.op("Abs", low)),
    "clipped": lambda b, positive, low: b.op("Clip", low, b.constant(-60.0), b.constant(6.0)),
    "leaky": lambda b, positive, low: b.op("LeakyRelu", low, alpha=0.5),
    "padded": lambda b, positive, low: b.op(
        "Pad", positive, b.constant([0, 0, 2, 2, 0, 0, 2, 2], np.int64), b.constant(-50.0)
    ),
}


@pytest.mark.parametrize("form", BELOW_ZERO)
def test_what_may_lie_below_zero_gets_no_zeros_around(form: str) -> None:
    """A part of it is a ReLU's; another part, or what was padded with, is far below."""
    b = Builder()
    x = b.conv("picture", 3, 4, 3)
    y = BELOW_ZERO[form](b, b.op("Relu", x), b.op("Sub", x, b.constant(50.0)))
    sizes = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
    simplified(b, b.op("MaxPool", y, **sizes))


@pytest.mark.parametrize(
    "more",
    [
        {"pads": [1, 1, 1, 1]},  # strides of 1 where none are named
        {"pads": [2, 2, 2, 2], "dilations": [2, 2], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ],
    ids=["no strides", "dilated", "auto_pad"],
)
def test_pools_of_another_form_keep_their_answer(more: dict[str, Any]) -> None:
    b = Builder((1, 3, 11, 14))
    x = b.op("Relu", b.conv("picture", 3, 4, 3))
    pooled = b.op("MaxPool", x, kernel_shape=[3, 3], **more)
    assert simplified(b, pooled)[-1] == "MaxPool"


@pytest.mark.parametrize(
    ("first", "kernel", "pad"), [("Relu", 2, 0), ("Relu", 3, 0), ("Relu", 3, 1), ("Neg", 3, 0)]
)
def test_a_max_pool_whose_size_is_rounded_up(first: str, kernel: int, pad: int) -> None:
    """ceil_mode on an odd map (U2-Net): its last window leaves the map, as if that were padded."""
    b = Builder((1, 3, 11, 14))
    low = 0.0 if first == "Relu" else -50.0  # Neg leaves no value above zero
    x = b.op(first, b.op("Sub", b.conv("picture", 3, 4, 3), b.constant(low)))
    sizes = {"kernel_shape": [kernel] * 2, "strides": [2, 2], "pads": [pad] * 4, "ceil_mode": 1}
    left = simplified(b, b.op("MaxPool", x, **sizes))
    assert left[-2:] == ["Pad", "MaxPool"]


def test_a_padded_pool_behind_a_padded_pool() -> None:
    b = Builder((1, 3, 11, 14))
    x = b.op("Relu", b.conv("picture", 3, 4, 3))
    for _ in range(2):
        x = b.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    model = b.model(b.op("Relu", b.op("MaxPool", x, kernel_shape=[2, 2], ceil_mode=1)))
    after, _ = simplify(model)
    same_answer(model, after, 0.0)
    assert operators(after).count("Pad") == 2  # 11 rows, then 7 columns


def test_a_max_pool_that_rounds_nothing_up_gets_no_padding() -> None:
    b = Builder()
    sizes = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    assert "Pad" not in simplified(b, b.op("MaxPool", b.conv("picture", 3, 4, 3), **sizes))


@pytest.mark.parametrize(("height", "width"), [(12, 16), (11, 15)])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 1, 1), (3, 2, 1), (5, 2, 2)])
def test_a_padded_average_pool_that_counts_its_zeros(
    height: int, width: int, kernel: int, stride: int, pad: int
) -> None:
    """Torch's AvgPool2d; as onnx2tf writes it, no quantizer takes it."""
    b = Builder((1, 3, height, width))
    sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    pooled = b.op("AveragePool", b.conv("picture", 3, 4, 3), count_include_pad=1, **sizes)
    assert simplified(b, pooled) == ["Conv", "Pad", "AveragePool"]


@pytest.mark.parametrize(("stride", "size"), [(1, (12, 16)), (1, (11, 15)), (2, (11, 15))], ids=str)
def test_an_average_pool_that_counts_as_tflite_s_same_does_is_left_alone(
    stride: int, size: tuple[int, int]
) -> None:
    b = Builder((1, 3, *size))
    sizes = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": [1, 1, 1, 1]}
    pooled = b.op("AveragePool", b.conv("picture", 3, 4, 3), **sizes)
    assert simplified(b, pooled) == ["Conv", "AveragePool"]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "ceil", "counts"),
    [
        ((12, 16), 3, 2, (1, 1, 1, 1), 0, 0),  # torch's count_include_pad=False
        ((12, 16), 5, 1, (2, 2, 0, 2), 0, 0),
        ((11, 15), 2, 2, (0, 0, 0, 0), 1, 0),
        ((11, 14), 3, 2, (1, 1, 1, 1), 1, 0),
        ((11, 14), 3, 2, (1, 1, 1, 1), 1, 1),  # counts the padding, and not what lies behind that
        ((12, 16), 3, 3, (0, 0, 0, 0), 1, 0),
    ],
    ids=str,
)
def test_an_average_pool_whose_windows_count_in_part_is_scaled(
    size: tuple[int, int],
    kernel: int,
    stride: int,
    pads: tuple[int, ...],
    ceil: int,
    counts: int,
) -> None:
    b = Builder((1, 3, *size))
    sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": list(pads)}
    x = b.conv("picture", 3, 4, 3)
    pooled = b.op("AveragePool", x, ceil_mode=ceil, count_include_pad=counts, **sizes)
    assert simplified(b, pooled) == ["Conv", "Pad", "AveragePool", "Mul"]


def test_a_global_pool_becomes_a_pool_over_the_map() -> None:
    b = Builder()
    x = b.op("GlobalAveragePool", b.conv("picture", 3, 4, 3))
    assert simplified(b, x) == ["Conv", "AveragePool"]


# --- hard sigmoid, hard swish, scales ------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.5), (1 / 6, 0.5), (0.7, 0.1)])
def test_hard_sigmoid_is_only_a_relu6(alpha: float, beta: float) -> None:
    b = Builder()
    x = b.op("HardSigmoid", b.conv("picture", 3, 4, 3), alpha=alpha, beta=beta)
    assert simplified(b, b.conv(x, 4, 2, 3)) == ["Conv", "Clip", "Conv"]


def test_a_hard_sigmoid_that_names_no_slope_has_the_standard_s() -> None:
    """ONNX: alpha 0.2 and beta 0.5 where a file leaves them out."""
    b = Builder()
    assert simplified(b, b.op("HardSigmoid", b.conv("picture", 3, 4, 3)))[0] == "Conv"


def test_a_hard_swish_is_spelled_out_without_the_library_s_help() -> None:
    """Our own rule: in a conversion ONNX Runtime may have done it before."""
    b = Builder()
    model = b.model(b.op("HardSwish", b.op("Mul", b.conv("picture", 3, 4, 3), b.constant(3.0))))
    graph = Graph(model)
    assert spell_out_hard_swish(graph) == 1
    same_answer(model, graph.to_model())
    assert "HardSwish" not in operators(graph.to_model())


def test_hard_swish_keeps_one_addition_and_one_product() -> None:
    b = Builder()
    x = b.op("HardSwish", b.conv("picture", 3, 4, 3))
    left = simplified(b, b.conv(x, 4, 2, 3))
    assert sorted(left) == ["Add", "Clip", "Conv", "Conv", "Mul"]


def test_hard_swish_as_paddle_writes_it() -> None:
    b = Builder()
    x = b.conv("picture", 3, 4, 3)
    clipped = b.op("Clip", b.op("Add", x, b.constant([3])), b.constant(0.0), b.constant(6.0))
    swish = b.op("Div", b.op("Mul", x, clipped), b.constant([6]))
    left = simplified(b, b.conv(swish, 4, 2, 3))
    assert sorted(left) == ["Add", "Clip", "Conv", "Conv", "Mul"]


def test_a_relu6_on_a_gate_follows_an_addition() -> None:
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 6, 3))
    model = b.model(b.conv(squeeze_excite(b, x, 6, weight=1.0), 6, 4))
    after, _ = simplify(model)
    same_answer(model, after)
    graph = Graph(after)
    clip = next(n for n in graph.nodes if n.op_type == "Clip")
    producer = graph.producer(clip.input[0])
    assert producer is not None and producer.op_type == "Add"


def test_a_gate_that_something_else_reads_keeps_its_bias() -> None:
    """Before its ReLU6, by another reader: moved behind, the bias would be lost to that one."""
    b = Builder()
    gate = b.conv(b.op("GlobalAveragePool", "picture"), 3, 4)
    clipped = b.op("Clip", gate, b.constant(0.0), b.constant(6.0))
    simplified(b, b.op("Sub", clipped, b.op("Tanh", gate)))


@pytest.mark.parametrize("group", [1, 2, 6])
def test_a_scale_per_channel_folds_into_what_follows(group: int) -> None:
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 6, 3))
    scaled = b.op("Mul", x, b.constant(b.random.uniform(0.5, 2, (1, 6, 1, 1))))
    assert simplified(b, b.conv(scaled, 6, 6, 3, group=group)) == ["Conv", "Relu", "Conv"]


def test_a_constant_over_a_tensor_is_no_scale() -> None:
    b = Builder()
    above = b.op("Add", b.op("Sigmoid", b.conv("picture", 3, 4, 3)), b.constant(0.5))
    simplified(b, b.conv(b.op("Div", b.constant(3.0), above), 4, 2), 1e-4)


def test_a_scale_read_by_something_else_folds_into_what_precedes() -> None:
    b = Builder()
    scaled = b.op("Mul", b.conv("picture", 3, 4, 3), b.constant(0.25))
    assert simplified(b, b.op("Tanh", scaled)) == ["Conv", "Tanh"]


@pytest.mark.parametrize("kind", ["Mul", "Add"])
@pytest.mark.parametrize("also", ["Tanh", "Conv"])
def test_what_is_read_before_its_scale_or_shift_too_stays_right(kind: str, also: str) -> None:
    """Folded into the convolution before, it would be in what the other reader gets."""
    b = Builder()
    x = b.conv("picture", 3, 4, 3)
    changed = b.op(kind, x, b.constant(b.random.uniform(2, 3, (1, 4, 1, 1))))
    other = b.op("Tanh", x) if also == "Tanh" else b.conv(x, 4, 4)
    simplified(b, b.op("Sub", b.op("Sigmoid", changed), other))


def test_a_scale_that_not_only_convolutions_read_stays_right() -> None:
    b = Builder()
    scaled = b.op("Mul", b.op("Relu", "picture"), b.constant(b.random.uniform(2, 3, (1, 3, 1, 1))))
    simplified(b, b.op("Sub", b.conv(scaled, 3, 3), b.op("Tanh", scaled)))


@pytest.mark.parametrize("kind", ["Mul", "Add"])
@pytest.mark.parametrize("shape", [(16,), (1, 1, 16), (1, 1, 1, 16), (16, 12, 1)])
def test_as_many_columns_as_channels_are_not_channels(kind: str, shape: tuple[int, ...]) -> None:
    """NumPy's rule: a list of 16 beside (1, 16, 12, 16) is one number per column."""
    b = Builder()
    x = b.op(kind, b.conv("picture", 3, 16, 3), b.constant(b.random.uniform(0.5, 2, shape)))
    assert kind in simplified(b, b.conv(x, 16, 2, 3), 1e-4)


def test_a_scale_per_pixel_is_left_alone() -> None:
    b = Builder()
    plane = b.constant(b.random.uniform(0.5, 2, (1, 1, 12, 16)))
    left = simplified(b, b.conv(b.op("Mul", b.op("Relu", "picture"), plane), 3, 2, 3))
    assert "Mul" in left


def test_a_scale_whose_plain_value_is_the_output_too_stays_right() -> None:
    b = Builder()
    x = b.conv("picture", 3, 4, 3)
    scaled = b.op("Mul", x, b.constant(3.0))
    model = b.model(scaled, more=[b.conv(scaled, 4, 2, 3)])
    after, _ = simplify(model)
    same_answer(model, after)


# --- channel shuffles ----------------------------------------------------------------------------


def shuffle_then_dense(b: Builder, x: str) -> str:
    return b.conv(b.shuffle(x, (1, 8, 12, 16), 2), 8, 5, 1)


def shuffle_then_depthwise(b: Builder, x: str) -> str:
    y = b.conv(b.shuffle(x, (1, 8, 12, 16), 4), 8, 8, 3, group=8)
    return b.conv(b.op("Relu", y), 8, 5, 3)


def shuffle_then_depthwise_multiplier(b: Builder, x: str) -> str:
    y = b.conv(b.shuffle(x, (1, 8, 12, 16), 2), 8, 16, 3, group=8)
    return b.conv(y, 16, 5, 1)


def shuffle_twice(b: Builder, x: str) -> str:
    once = b.op("Relu", b.shuffle(x, (1, 8, 12, 16), 2))
    return b.conv(b.shuffle(once, (1, 8, 12, 16), 4), 8, 5, 1)


def shuffle_then_pool_and_resize(b: Builder, x: str) -> str:
    y = b.op("AveragePool", b.shuffle(x, (1, 8, 12, 16), 2), kernel_shape=[2, 2], strides=[2, 2])
    return b.conv(b.upsample(y, 12, 16, 8), 8, 5, 1)


def shuffle_then_per_channel_constants(b: Builder, x: str) -> str:
    y = b.shuffle(x, (1, 8, 12, 16), 2)
    y = b.op("PRelu", y, b.constant(b.random.uniform(0, 1, (8, 1, 1))))
    y = b.op("Mul", y, b.constant(b.random.uniform(1, 2, (1, 8, 1, 1))))
    return b.conv(y, 8, 5, 1)


def shuffle_then_grouped(b: Builder, x: str) -> str:
    """ResNeXt's and ShuffleNetV1's: neither dense nor depthwise."""
    y = b.conv(b.shuffle(x, (1, 8, 12, 16), 2), 8, 8, 3, group=2)
    return b.conv(y, 8, 5, 1)


def shuffle_then_concat(b: Builder, x: str) -> str:
    y = b.shuffle(x, (1, 8, 12, 16), 2)
    return b.conv(b.op("Concat", y, b.op("Relu", x), y, axis=1), 24, 5, 1)


def shuffle_net_unit(b: Builder, x: str) -> str:
    """ShuffleNetV2, as in PP-HumanSegV1: shuffle, split, one half through a branch, concat."""
    for _ in range(3):
        left, right = b.op("Split", b.shuffle(x, (1, 8, 12, 16), 2), outputs=2, axis=1)
        right = b.op("Relu", b.conv(right, 4, 4, 1))
        right = b.op("Relu", b.conv(b.conv(right, 4, 4, 3, group=4), 4, 4, 1))
        x = b.op("Concat", left, right, axis=1)
    return b.conv(b.shuffle(x, (1, 8, 12, 16), 2), 8, 5, 1)


SHUFFLES = [
    shuffle_then_dense,
    shuffle_then_depthwise,
    shuffle_then_depthwise_multiplier,
    shuffle_twice,
    shuffle_then_pool_and_resize,
    shuffle_then_per_channel_constants,
    shuffle_then_grouped,
    shuffle_then_concat,
    shuffle_net_unit,
]


@pytest.mark.parametrize("network", SHUFFLES, ids=lambda n: n.__name__)
def test_shuffles_fold_away(network: Callable[[Builder, str], str]) -> None:
    b = Builder()
    left = simplified(b, network(b, b.conv("picture", 3, 8, 3)), 1e-4)
    assert not {"Reshape", "Transpose", "Gather", "Split"} & set(left)


def test_a_shuffle_costs_no_layer_where_a_convolution_follows() -> None:
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 8, 3))
    assert simplified(b, shuffle_then_dense(b, x)) == ["Conv", "Relu", "Conv"]


def test_a_shuffle_that_is_the_answer_stays_right() -> None:
    b = Builder()
    simplified(b, b.shuffle(b.conv("picture", 3, 8, 3), (1, 8, 12, 16), 2))


def test_a_shuffle_behind_which_the_answer_is_read_too_stays_right() -> None:
    b = Builder()
    y = b.op("Relu", b.shuffle(b.conv("picture", 3, 8, 3), (1, 8, 12, 16), 2))
    model = b.model(y, more=[b.op("Sigmoid", y)])
    after, _ = simplify(model)
    same_answer(model, after)


def test_a_shuffle_with_two_kinds_of_readers_stays_right() -> None:
    b = Builder()
    y = b.shuffle(b.conv("picture", 3, 8, 3), (1, 8, 12, 16), 2)
    both = b.op("Add", b.conv(y, 8, 8, 1), b.op("Sigmoid", y))
    simplified(b, b.op("Mul", both, y))


def test_a_transpose_of_space_is_no_shuffle() -> None:
    b = Builder((1, 3, 12, 12))
    x = b.conv("picture", 3, 8, 3)
    turned = b.op("Transpose", x, perm=[0, 1, 3, 2])
    assert "Transpose" in simplified(b, b.conv(turned, 8, 2, 3))


def test_rows_that_are_interleaved_are_no_shuffle_of_channels() -> None:
    """The same three operators, as attention in windows is written."""
    b = Builder()
    whole, halves = ([1, 4, *rows, 16] for rows in ([12], [2, 6]))
    x = b.op("Reshape", b.conv("picture", 3, 4, 3), b.constant(halves, np.int64))
    turned = b.op("Transpose", x, perm=[0, 1, 3, 2, 4])
    x = b.op("Reshape", turned, b.constant(whole, np.int64))
    assert "Transpose" in simplified(b, b.conv(x, 4, 2, 3), 1e-4)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("order", [[0, 0, 3, 1], [-1, -4, 1, 2], [3, 1], [2, 3]])
@pytest.mark.parametrize("group", [1, 0])
@pytest.mark.parametrize("between", ["Identity", "Relu"])
def test_any_gather_stays_right(axis: int, order: list[int], group: int, between: str) -> None:
    """Of channels, or of rows; some twice, some counted from the end, some not at all."""
    b = Builder((1, 3, 4, 16))
    x = b.op("Gather", b.conv("picture", 3, 4, 3), b.constant(order, np.int64), axis=axis)
    channels = len(order) if axis == 1 else 4
    simplified(b, b.conv(b.op(between, x), channels, channels, 3, group=group or channels), 1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 12, 16), (16,), (1, 8, 12, 1)])
def test_a_shuffle_before_other_constants_than_one_per_channel_stays_right(
    shape: tuple[int, ...],
) -> None:
    b = Builder()
    y = b.shuffle(b.conv("picture", 3, 8, 3), (1, 8, 12, 16), 2)
    y = b.op("Mul", b.op("Relu", y), b.constant(b.random.uniform(1, 2, shape)))
    simplified(b, b.conv(y, 8, 5, 1), 1e-4)


@pytest.mark.parametrize("kind", ["Concat", "Split"])
def test_a_shuffle_whose_rows_are_put_together_or_cut_stays_right(kind: str) -> None:
    b = Builder()
    x = b.conv("picture", 3, 8, 3)
    y = b.shuffle(x, (1, 8, 12, 16), 2)
    if kind == "Concat":
        rows = b.op("Concat", y, x, axis=2)
    else:
        upper, lower = b.op("Split", y, outputs=2, axis=2)
        rows = b.op("Sub", upper, lower)
    simplified(b, b.conv(rows, 8, 5, 3), 1e-4)


def test_a_narrow_part_of_a_wide_tensor_is_not_read_whole() -> None:
    """A dense 3x3 convolution over all 16 channels to see 2 would cost eight times as much."""
    b = Builder()
    wide = b.shuffle(b.conv("picture", 3, 16, 3), (1, 16, 12, 16), 2)
    parts = b.op("Split", wide, b.constant([2, 14], np.int64), outputs=2, axis=1)
    model = b.model(b.conv(parts[0], 2, 32, 3))
    after, _ = simplify(model)
    same_answer(model, after, 1e-4)
    largest = max(np.prod(t.dims) for t in after.graph.initializer)
    assert largest <= 2 * 32 * 9


# --- all of them, on real networks ---------------------------------------------------------------

OFFICIAL = ["v1_lite_portrait_398x224", "v2_lite_portrait_256x144"]


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_networks_keep_their_answer(models_dir: Path, name: str) -> None:
    path = models_dir / f"pphumanseg_{name}_softmax.onnx"
    after, said = simplify(reader.load(path))
    picture = random_picture(after)
    np.testing.assert_allclose(run(after, picture), run(onnx.load(path), picture), atol=1e-5)
    assert said and all(isinstance(line, str) for line in said)


def test_what_stood_in_the_way_of_int8_is_gone(models_dir: Path) -> None:
    v1, _ = simplify(reader.load(models_dir / f"pphumanseg_{OFFICIAL[0]}_softmax.onnx"))
    v2, _ = simplify(reader.load(models_dir / f"pphumanseg_{OFFICIAL[1]}_softmax.onnx"))
    assert not {"Split", "Gather", "Reshape", "Transpose"} & set(operators(v1))
    assert not {"HardSigmoid", "HardSwish", "Shape", "GlobalAveragePool"} & set(operators(v2))


def test_another_makers_network_keeps_its_answer(models_dir: Path) -> None:
    """SINet: shuffles, PReLU, batch norms before convolutions; none of it seen while designing."""
    path = models_dir / "sinet_320x320.onnx"
    after, _ = simplify(reader.load(path))
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, 320, 320))
    mean = np.array([102.89, 111.25, 126.91]).reshape(1, 3, 1, 1)
    std = np.array([62.93, 62.82, 66.36]).reshape(1, 3, 1, 1)
    picture = ((pixels - mean) / std / 255).astype(np.float32)
    np.testing.assert_allclose(run(after, picture), run(onnx.load(path), picture), atol=1e-4)


def test_scalars_stay_scalars() -> None:
    """A Clip's ends must be: ONNX Runtime forgives a list of one, other libraries do not."""
    b = Builder()
    clipped = b.op("Clip", "picture", b.constant(0.0), b.constant(6.0))
    model = simplify(b.model(b.conv(clipped, 3, 2)))[0]
    onnx.checker.check_model(model, full_check=True)
    (clip,) = (n for n in model.graph.node if n.op_type == "Clip")
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}
    assert [shapes[name] for name in clip.input[1:]] == [[], []]


# --- slices --------------------------------------------------------------------------------------


def halves(shape: tuple[int, ...], cut: int, *, convolved: bool = False) -> list[str]:
    """Cut 8 channels in two at `cut`, put them together the other way round; what is left of it."""
    b = Builder(shape)
    x = b.op("Relu", b.conv("picture", 3, 8, 3))
    first, second = b.channels(x, 0, cut), b.channels(x, cut, 8)
    if convolved:
        first, second = b.conv(first, cut, cut), b.conv(second, 8 - cut, 8 - cut)
    return simplified(b, b.op("Concat", second, b.op("Sigmoid", first), axis=1))


def test_halves_of_a_square_map_are_a_split() -> None:
    assert halves((1, 3, 12, 12), 4).count("Split") == 1
    assert "Slice" not in halves((1, 3, 12, 12), 4)


def test_other_slices_stay() -> None:
    for left in (
        halves((1, 3, 12, 16), 4),
        halves((1, 3, 12, 12), 3),
        halves((1, 3, 12, 12), 4, convolved=True),
    ):
        assert left.count("Slice") == 2 and "Split" not in left
