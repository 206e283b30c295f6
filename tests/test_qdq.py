"""ONNX with Q/DQ pairs: the form TensorRT takes, where the pairs stand, and the numbers in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra [convert] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [convert] is not installed")

from numpy.typing import NDArray  # noqa: E402
from onnx import ModelProto, helper, numpy_helper  # noqa: E402

from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters import qdq  # noqa: E402
from edge_seg.converters.graph import Graph  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.spec import InputSpec  # noqa: E402
from tests.tiny_onnx import PICTURE, Builder, operators, run  # noqa: E402

SPEC = InputSpec(*PICTURE[2:])


def residual() -> ModelProto:
    """Two blocks with a skip connection, a pool and an upsampled logit, as networks have them."""
    b = Builder(seed=3)
    stem = b.op("Relu", b.conv("picture", 3, 8, 3))
    inner = b.op("Relu", b.conv(stem, 8, 8, 3, group=8))
    joined = b.op("Relu", b.op("Add", b.conv(inner, 8, 8), stem))
    small = b.op("MaxPool", joined, kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.upsample(b.conv(small, 8, 1), 12, 16, 1))


def noise(count: int = 8, low: float = -1, high: float = 1) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(0)
    return [random.uniform(low, high, PICTURE).astype(np.float32) for _ in range(count)]


def quantized(model: ModelProto, folder: Path, input: InputSpec | None = SPEC) -> ModelProto:
    path = folder / "int8.onnx"
    qdq.to_int8(model, path, tensors=noise(), input=input)
    assert qdq.float_operators(path) == []
    return onnx.load(path)


@pytest.fixture
def made(tmp_path: Path) -> ModelProto:
    return quantized(residual(), tmp_path)


# --- what comes out -------------------------------------------------------------------------------


def test_it_is_of_the_form_and_its_answer_is_the_network_s(made: ModelProto) -> None:
    onnx.checker.check_model(made, full_check=True)
    assert qdq.check_form(made) == []
    for tensor in noise(3):
        truth, found = run(residual(), tensor), run(made, tensor)
        assert found.dtype == np.float32 and found.shape == truth.shape
        assert np.abs(found - truth).mean() < 0.02 * np.ptp(truth)
        assert np.abs(found - truth).max() < 0.1 * np.ptp(truth)


def test_pairs_stand_where_tensorrt_fuses(made: ModelProto) -> None:
    """On what a convolution reads and on the skip connection; nothing behind a convolution but
    its addition and its activation, and a float logit.
    """
    graph = Graph(made)
    for node in graph.nodes:
        if node.op_type == "Conv":
            assert [graph.producer(i).op_type for i in node.input[:2]] == ["DequantizeLinear"] * 2
            assert node.input[2] in graph.constants, "the bias stays float"
            behind = {n.op_type for n in graph.consumers(node.output[0])}
            assert behind <= {"Relu", "Add", "Resize"}
        if node.op_type == "Add" and "picture" not in node.input:
            assert [graph.producer(i).op_type for i in node.input] == ["Conv", "DequantizeLinear"]
    assert operators(made)[-1] == "Resize"
    # The stem is read by a convolution and by the skip connection, through one pair.
    assert operators(made).count("QuantizeLinear") == 4


@pytest.mark.parametrize(
    ("also", "wanted"),
    [
        ("", ["first"]),  # the second convolution and the addition become one kernel
        ("second", ["second"]),  # whose sum is not read alone: so the first one's
        ("both", []),
        ("constant", []),
    ],
)
def test_of_two_terms_of_an_addition_the_one_that_is_there_first_gets_a_pair(
    also: str, wanted: list[str]
) -> None:
    b = Builder(seed=8)
    terms = {"first": b.conv("picture", 3, 4), "second": b.conv("picture", 3, 4)}
    ends = list(terms.values())
    if also == "constant":
        ends[0] = b.constant(np.ones((1, 4, 1, 1)))
    total = b.op("Add", *reversed(ends))
    more = {"second": [terms["second"]], "both": list(terms.values())}.get(also, [])
    graph = Graph(b.model(b.op("Concat", total, *(b.op("Relu", name) for name in more), axis=1)))
    found = [name for name in qdq.quantized_tensors(graph) if name != "picture"]
    assert found == [terms[name] for name in wanted]


def test_a_convolution_by_hand(tmp_path: Path) -> None:
    """The numbers, against NumPy: symmetric steps, one per output channel, half to even."""
    b = Builder()
    weight = np.array([[0.5, -1.0, 0.25], [0.01, 0.02, -0.03]], np.float32).reshape(2, 3, 1, 1)
    bias = np.array([0.3, -0.7], np.float32)
    model = b.model(b.op("Conv", "picture", b.constant(weight), b.constant(bias)))
    found = quantized(model, tmp_path, InputSpec(*PICTURE[2:], mean=(0.0,) * 3, std=(0.5,) * 3))
    tensor = noise(1, 0, 2)[0]
    step = np.float32(2.0) / 127  # a pixel of 0..1 over std 0.5
    codes = np.clip(np.rint(tensor / np.float32(step)), -128, 127)
    steps = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    real = np.rint(weight / steps) * steps
    truth = np.einsum("oi,nihw->nohw", real[:, :, 0, 0], codes * step) + bias[None, :, None, None]
    np.testing.assert_allclose(run(found, tensor), truth, atol=1e-5)


def test_the_input_takes_the_whole_range_of_a_pixel(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    qdq.to_int8(residual(), path, tensors=noise(4, -0.2, 0.2), input=SPEC)
    # Half a step beyond either end: -1 and 1 are codes -128 and 127, exactly.
    assert qdq.input_range(path) == pytest.approx((-1, 1), abs=1e-6)
    imagenet = InputSpec(*PICTURE[2:], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    qdq.to_int8(residual(), path, tensors=noise(4), input=imagenet)
    low, high = qdq.input_range(path) or (0, 0)
    assert high == pytest.approx((1 - 0.406) / 0.225, rel=1e-6) and low < -high
    qdq.to_int8(residual(), path, tensors=[np.full(PICTURE, -0.25, np.float32)])
    assert qdq.input_range(path) == pytest.approx((-0.25 * 128 / 127, 0.25))


@pytest.mark.parametrize(
    ("mean", "std", "most"),
    [
        ((0.6, 0.6, 0.6), (0.3, 0.3, 0.3), 2.0),  # -2..1.33
        ((0.5, 0.4, 0.3), (0.5, 0.4, 0.3), 0.7 / 0.3),  # from -1 on, to 1, 1.5 and 2.33
        ((0.5, 0.75, 0.875), (0.5, 0.25, 0.125), 7.0),  # up to 1, from -1, -3 and -7
    ],
)
def test_the_widest_channel_has_its_range_at_both_ends(
    tmp_path: Path,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    most: float,
) -> None:
    path = tmp_path / "x.onnx"
    spec = InputSpec(*PICTURE[2:], mean=mean, std=std)
    qdq.to_int8(residual(), path, tensors=noise(2), input=spec)
    assert qdq.input_range(path) == pytest.approx((-most * 128 / 127, most), rel=1e-6)


def test_every_level_of_a_pixel_is_a_code_and_the_bias_takes_the_move_back(tmp_path: Path) -> None:
    """The 256 levels of -1..1 through a convolution that only reads: the float answer, exactly."""
    b = Builder((1, 3, 16, 16))
    eye = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1) * 127
    model = b.model(b.op("Conv", "picture", b.constant(eye), b.constant([0.5, 0.0, -2.0])))
    levels = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16) / 127.5 - 1
    picture = np.repeat(levels, 3, axis=1)
    path = tmp_path / "x.onnx"
    qdq.to_int8(model, path, tensors=[picture], input=InputSpec(16, 16))
    np.testing.assert_allclose(run(onnx.load(path), picture), run(model, picture), atol=1e-4)


def test_a_picture_that_not_only_convolutions_read_is_not_moved(tmp_path: Path) -> None:
    """Half a step has to be taken back by every reader, or none may be given it."""
    b = Builder(seed=6)
    product = b.op("MatMul", "picture", b.constant(b.random.normal(size=(16, 16)) / 4))
    model = b.model(b.op("Concat", b.conv("picture", 3, 4, 3), product, axis=1))
    truth = run(model, noise(1)[0])
    assert np.abs(run(quantized(model, tmp_path), noise(1)[0]) - truth).max() < 0.03 * np.ptp(truth)
    assert qdq.input_range(tmp_path / "int8.onnx") == pytest.approx((-128 / 127, 1))


@pytest.mark.parametrize(("count", "odd"), [(20_000, 0.0), (200_000, 8.0)])
def test_a_range_is_where_rounding_and_cutting_cost_least(count: int, odd: float) -> None:
    """Against a search by hand over every value; and one odd pixel does not spoil the rest."""
    random = np.random.default_rng(3)
    values = np.append(np.abs(random.normal(size=count)), odd)
    found = qdq.nearest_range("t", values)

    def cost(end: float) -> float:
        step = end / 127
        return float((((np.clip(np.rint(values / step), 0, 127)) * step - values) ** 2).mean())

    best = min(cost(end) for end in np.linspace(0.3, 1, 300) * values.max())
    assert cost(found) < 1.02 * best
    assert found < 0.98 * values.max(), "a bell's tail is cut"
    even = random.uniform(0, 2, 20_000)
    assert qdq.nearest_range("t", even) == pytest.approx(2, rel=0.02), "nothing else is"


def test_ranges_of_a_network_come_from_its_values(tmp_path: Path) -> None:
    b = Builder()
    twice = b.op("Mul", "picture", b.constant(2.0))
    path = tmp_path / "x.onnx"
    qdq.to_int8(b.model(b.conv(twice, 3, 1)), path, tensors=noise(8, -0.75, 0.75))
    graph = Graph(onnx.load(path))
    (pair,) = (n for n in graph.nodes if n.op_type == "QuantizeLinear")
    assert float(graph.constants[pair.input[1]]) == pytest.approx(1.5 / 127, rel=0.02)


def test_channels_and_tensors_of_nothing_keep_a_step_above_zero(tmp_path: Path) -> None:
    """Training switches channels off: 0/0 would be no number, 1e-30 no step of float32."""
    b = Builder()
    weight = np.ones((3, 3, 1, 1), np.float32)
    weight[1], weight[2] = 0, 1e-30
    bias = np.array([0, 1.5, -2.5], np.float32)
    first = b.op("Conv", "picture", b.constant(weight), b.constant(bias))
    dark = b.op("Mul", first, b.constant(0.0))
    model = b.model(b.op("Concat", first, b.conv(dark, 3, 1), axis=1))
    answer = run(quantized(model, tmp_path), noise(1)[0])
    assert np.isfinite(answer).all()
    assert answer[0, 1] == pytest.approx(1.5) and answer[0, 2] == pytest.approx(-2.5)


@pytest.mark.parametrize("opset", [11, 12])
def test_an_old_opset_is_raised_to_where_weights_have_a_step_per_channel(
    tmp_path: Path, opset: int
) -> None:
    b = Builder(seed=2)
    model = b.model(b.conv(b.op("Relu", b.conv("picture", 3, 4, 3)), 4, 1), opset=opset)
    onnx.save(model, tmp_path / "old.onnx")
    made = quantized(reader.load(tmp_path / "old.onnx"), tmp_path)
    assert made.opset_import[0].version >= 13
    truth = run(model, noise(1)[0])
    assert np.abs(run(made, noise(1)[0]) - truth).max() < 0.03 * np.ptp(truth)


@pytest.mark.parametrize("kind", ["ConvTranspose", "Gemm", "Gemm^T", "MatMul"])
def test_every_kind_of_weighted_operator(tmp_path: Path, kind: str) -> None:
    b = Builder(seed=5)
    random = np.random.default_rng(5)
    if kind == "ConvTranspose":
        weight = b.constant(
            random.normal(size=(3, 5, 2, 2)) * [[[[1]], [[9]], [[2]], [[3]], [[1]]]]
        )
        model = b.model(b.op(kind, "picture", weight, strides=[2, 2]))
    elif kind == "MatMul":
        model = b.model(b.op(kind, "picture", b.constant(random.normal(size=(16, 5)))))
    else:
        across = kind.endswith("T")
        flat = b.op("Reshape", "picture", b.constant([36, 16], np.int64))
        weight = b.constant(random.normal(size=(5, 16) if across else (16, 5)))
        model = b.model(b.op("Gemm", flat, weight, transB=int(across)))
    made = quantized(model, tmp_path)
    truth = run(model, noise(1)[0])
    assert np.abs(run(made, noise(1)[0]) - truth).max() < 0.02 * np.ptp(truth)


# --- the form -------------------------------------------------------------------------------------


def constant(model: ModelProto, node: str, which: int, value: NDArray[np.generic] | None) -> None:
    """Give the first node of a kind (that reads a constant there) another constant of its own."""
    chosen = next(n for n in model.graph.node if n.op_type == node)
    if value is None:
        del chosen.input[which]
        return
    model.graph.initializer.append(numpy_helper.from_array(value, "other"))
    chosen.input[which] = "other"


def weight_step(model: ModelProto) -> None:
    """One step for all channels of a weight."""
    graph = Graph(model)
    node = qdq._quantized_weights(graph)[0]
    next(n for n in model.graph.node if n.output == node.output).input[1] = "one"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "one"))


def weight_of_128(model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        codes = numpy_helper.to_array(tensor).copy()
        if codes.dtype == np.int8 and codes.ndim == 4:
            codes.flat[0] = -128
            tensor.CopyFrom(numpy_helper.from_array(codes, tensor.name))
            return


def integer_bias(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Conv")
    bias = numpy_helper.from_array(np.zeros(8, np.int32), "bias32")
    model.graph.initializer.append(bias)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "bias_step"))
    real = helper.make_node("DequantizeLinear", ["bias32", "bias_step"], ["bias_real"])
    model.graph.node.insert(0, real)
    node.input[2] = "bias_real"


def other_axis(model: ModelProto) -> None:
    """As many steps as output channels, along the inputs: of a square weight there are as many."""
    square = next(t for t in model.graph.initializer if list(t.dims) == [8, 8, 1, 1])
    node = next(n for n in model.graph.node if square.name in n.input)
    next(a for a in node.attribute if a.name == "axis").i = 1


def loose_ends(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"


def doubles(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def weight_as_activation(model: ModelProto) -> None:
    """A quantized constant in the place of what the layer before gave."""
    first, second, *_ = (n for n in model.graph.node if n.op_type == "Conv")
    second.input[0] = first.input[1]


def codes_out(model: ModelProto) -> None:
    ends = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")]
    model.graph.initializer.extend(ends)
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("QuantizeLinear", [last, "s", "z"], ["out_codes"]))
    model.graph.output.append(helper.make_tensor_value_info("out_codes", 3, [1, 1, 12, 16]))


BROKEN: list[tuple[Callable[[ModelProto], None], str]] = [
    (lambda m: constant(m, "QuantizeLinear", 2, np.int8(1)), "zero point that is not"),
    (lambda m: constant(m, "QuantizeLinear", 2, np.uint8(0)), "zero point that is not"),
    (lambda m: constant(m, "QuantizeLinear", 2, None), "zero point that is not"),
    (lambda m: constant(m, "QuantizeLinear", 1, np.float32(0)), "no constant above 0"),
    (lambda m: constant(m, "QuantizeLinear", 1, np.float32(np.nan)), "no constant above 0"),
    (lambda m: constant(m, "QuantizeLinear", 1, np.float32(0.7)), "their own DequantizeLinear"),
    (lambda m: constant(m, "QuantizeLinear", 1, np.ones(3, np.float32)), "a list of 3 steps"),
    (weight_step, "not one per output channel"),
    (weight_of_128, "a weight of -128"),
    (integer_bias, "codes of int32"),
    (codes_out, "codes that leave the network"),
    (other_axis, "not one per output channel"),
    (loose_ends, "picture: no float32 of static shape"),
    (doubles, ": no float32 of static shape"),
    (weight_as_activation, "read by Conv beside its weight"),
    (lambda m: setattr(m.opset_import[0], "version", 12), "opset 12, below 13"),
]


@pytest.mark.parametrize(("breaking", "told"), BROKEN)
def test_what_tensorrt_would_refuse_is_found(
    made: ModelProto, breaking: Callable[[ModelProto], None], told: str
) -> None:
    broken = copy.deepcopy(made)
    breaking(broken)
    assert any(told in sentence for sentence in qdq.check_form(broken)), qdq.check_form(broken)


def test_the_usual_quantizer_s_files_are_not_of_the_form(tmp_path: Path) -> None:
    """ONNX Runtime's defaults: zero points, int32 biases. And a float network is none either."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        left = noise(2)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return {"picture": self.left.pop()} if self.left else None

    onnx.save(residual(), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "theirs.onnx", Reader())
    said = " ".join(qdq.check_form(onnx.load(tmp_path / "theirs.onnx")))
    assert "zero point that is not" in said and "a quantized bias?" in said
    assert "no QuantizeLinear" in " ".join(qdq.check_form(residual()))


# --- refusals -------------------------------------------------------------------------------------


def test_nothing_to_calibrate_with_and_wrong_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(ConversionError, match="found none"):
        qdq.to_int8(residual(), path, tensors=[])
    for wrong in (np.zeros((1, 3, 5, 5), np.float32), np.full(PICTURE, np.nan, np.float32)):
        with pytest.raises(ConversionError, match="calibration tensor 1"):
            qdq.to_int8(residual(), path, tensors=[noise(1)[0], wrong])
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_diverges_or_holds_nothing_to_quantize_says_so(tmp_path: Path) -> None:
    b = Builder()
    with pytest.raises(ConversionError, match="nothing to quantize"):
        qdq.to_int8(b.model(b.op("Sigmoid", "picture")), tmp_path / "x.onnx", tensors=noise())
    b = Builder()
    huge = b.op("Exp", b.op("Mul", "picture", b.constant(1e4)))
    with pytest.raises(ConversionError, match="check mean and std"):
        qdq.to_int8(b.model(b.conv(huge, 3, 1)), tmp_path / "x.onnx", tensors=noise())
    assert list(tmp_path.iterdir()) == []


def test_a_product_of_two_activations_stays_float_and_is_named(tmp_path: Path) -> None:
    b = Builder()
    left = b.conv("picture", 3, 3)
    turned = b.op("Transpose", "picture", perm=[0, 1, 3, 2])
    path = tmp_path / "x.onnx"
    qdq.to_int8(b.model(b.op("MatMul", left, turned)), path, tensors=noise())
    (told,) = qdq.float_operators(path)
    assert told.startswith("MatMul")


@pytest.mark.parametrize("which", [0, 1])
def test_an_operator_with_one_float_side_is_named(
    made: ModelProto, which: int, tmp_path: Path
) -> None:
    """Its activation, or its weight, past the pair."""
    graph = Graph(made)
    conv = next(n for n in graph.nodes if n.op_type == "Conv")
    real = next(n for n in made.graph.node if conv.input[which] in n.output)
    makers = {name: n for n in made.graph.node for name in n.output}
    source = makers.get(real.input[0])
    past = source.input[0] if source is not None else "floats"
    shape = graph.shapes[conv.input[1]]
    made.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), "floats"))
    next(n for n in made.graph.node if n.output == conv.output).input[which] = past
    onnx.save(made, tmp_path / "mixed.onnx")
    assert qdq.float_operators(tmp_path / "mixed.onnx") == [f"Conv {conv.name}"]
