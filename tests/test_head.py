"""Heads of more than two classes: the person where the person's class is the likeliest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import ModelProto, TensorProto  # noqa: E402

from edge_seg.converters import tflite  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.converters.reference import Reference, largest_difference  # noqa: E402
from edge_seg.converters.rewrites import simplify  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.pixels import sigmoid  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec  # noqa: E402
from tests.tiny_onnx import PICTURE, Builder, operators, random_picture, run  # noqa: E402

CLASSES = 5
HEIGHT, WIDTH = PICTURE[2:]
INPUT = InputSpec(HEIGHT, WIDTH)


def on_conv(b: Builder) -> str:
    return b.conv("picture", 3, CLASSES, 3)


def on_grouped_conv(b: Builder) -> str:
    """Whose channels read different inputs: no difference folds into it."""
    return b.conv(b.conv("picture", 3, CLASSES, 3), CLASSES, CLASSES, 3, group=CLASSES)


def on_upsampled_conv(b: Builder) -> str:
    return b.upsample(b.conv("picture", 3, CLASSES, 3, strides=[2, 2]), HEIGHT, WIDTH, CLASSES)


def on_upsampled_relu(b: Builder) -> str:
    small = b.op("Relu", b.conv("picture", 3, CLASSES, 3, strides=[2, 2]))
    return b.upsample(small, HEIGHT, WIDTH, CLASSES)


def channels_last(b: Builder) -> str:
    return str(b.op("Transpose", b.conv("picture", 3, CLASSES, 3), perm=[0, 2, 3, 1]))


HEADS = [on_conv, on_grouped_conv, on_upsampled_conv, on_upsampled_relu, channels_last]


def network(head: Callable[[Builder], str], activation: str, *, opset: int = 17) -> ModelProto:
    """A network of five classes; activation: "Softmax", "Sigmoid" or "" (logits)."""
    b = Builder()
    last = head(b)
    if activation == "Softmax":
        last = b.op("Softmax", last, axis=3 if head is channels_last else 1)
    elif activation:
        last = b.op(activation, last)
    return b.model(last, opset=opset)


def spec(activation: str, channel: int) -> OutputSpec:
    return OutputSpec("probability" if activation else "logit", channel)


def classes_of(model: ModelProto, picture: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the network returns, (classes, h, w), whichever way round it returns it."""
    answer = run(model, picture).astype(np.float64)[0]
    return answer if len(answer) == CLASSES else np.moveaxis(answer, 2, 0)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("activation", ["Softmax", ""])
@pytest.mark.parametrize("head", HEADS, ids=lambda h: h.__name__)
def test_the_person_is_where_the_persons_class_is_the_likeliest(
    head: Callable[[Builder], str], activation: str, opset: int
) -> None:
    model = network(head, activation, opset=opset)
    picture = random_picture(model)
    classes = classes_of(model, picture)
    likeliest = classes.argmax(axis=0)
    channel = int(np.bincount(likeliest.ravel(), minlength=CLASSES).argsort()[-2])
    mask = likeliest == channel
    assert 0.05 < mask.mean() < 0.6  # else nothing is proved
    answer = run(single_logit(model, spec(activation, channel)), picture)
    assert answer.shape == (1, 1, HEIGHT, WIDTH)
    np.testing.assert_array_equal(answer[0, 0] > 0, mask)


@pytest.mark.parametrize("head", HEADS, ids=lambda h: h.__name__)
def test_its_soft_edge_is_the_person_against_the_strongest_other(
    head: Callable[[Builder], str],
) -> None:
    model = network(head, "Softmax")
    picture = random_picture(model)
    p = classes_of(model, picture)
    rival = np.delete(p, 2, axis=0).max(axis=0)
    answer = sigmoid(run(single_logit(model, spec("Softmax", 2)), picture)[0, 0])
    np.testing.assert_allclose(answer, p[2] / (p[2] + rival), atol=2e-6)
    assert (answer >= p[2] - 2e-6).all()  # never less sure than the softmax


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_a_network_may_have_more_classes_than_columns(last: bool, tmp_path: Path) -> None:
    """As one of 150 classes at a quarter of its input's side."""
    b, many = Builder(), WIDTH + 8
    out = b.conv("picture", 3, many, 3)
    model = b.model(b.op("Transpose", out, perm=[0, 2, 3, 1]) if last else out)
    picture = random_picture(model)
    logits = run(model, picture)[0].transpose(2, 0, 1) if last else run(model, picture)[0]
    found = run(single_logit(model, OutputSpec("logit", 12)), picture)[0, 0]
    lead = logits[12] - np.delete(logits, 12, axis=0).max(axis=0)
    np.testing.assert_allclose(found, lead, atol=1e-5)
    onnx.save(model, tmp_path / "many.onnx")
    pixels = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    tensor = (pixels.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    mine = sigmoid(run(single_logit(model, OutputSpec("logit", 12)), tensor)[0, 0])
    reference = Reference(tmp_path / "many.onnx", INPUT, OutputSpec("logit", 12))
    assert largest_difference(reference, mine.astype(np.float32), pixels) < 1e-5
    reference.close()


def test_a_network_whose_output_is_called_as_ours_is_reduced_once_more() -> None:
    """As one that was converted before, kept and converted again."""
    once = single_logit(network(on_upsampled_conv, "Softmax"), spec("Softmax", 2))
    picture = random_picture(once)
    again = single_logit(once, OutputSpec("logit", 0))
    np.testing.assert_array_equal(run(again, picture), run(once, picture))


def test_a_sigmoid_of_many_classes_is_the_channel_itself() -> None:
    model = network(on_conv, "Sigmoid")
    picture = random_picture(model)
    answer = run(single_logit(model, spec("Sigmoid", 3)), picture)
    np.testing.assert_allclose(sigmoid(answer[:, 0]), run(model, picture)[:, 3], atol=2e-6)


def test_the_differences_fold_into_the_convolution() -> None:
    reduced = single_logit(network(on_upsampled_conv, "Softmax"), spec("Softmax", 1))
    assert operators(reduced) == ["Conv", "Resize", "ReduceMin"]
    shapes = {v.name: v.type.tensor_type.shape for v in reduced.graph.value_info}
    assert shapes[reduced.graph.node[1].input[0]].dim[1].dim_value == CLASSES - 1


@pytest.mark.parametrize("activation", ["Softmax", "Sigmoid", ""])
@pytest.mark.parametrize("head", [on_upsampled_relu, channels_last], ids=lambda h: h.__name__)
def test_the_reference_reduces_as_the_network_is_reduced(
    tmp_path: Path, head: Callable[[Builder], str], activation: str
) -> None:
    model = network(head, activation)
    path = tmp_path / "five.onnx"
    onnx.save(model, path)
    picture = np.random.default_rng(4).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    tensor = (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    for channel in range(CLASSES):
        output = spec(activation, channel)
        found = sigmoid(run(single_logit(model, output), tensor)[0, 0])
        reference = Reference(path, INPUT, output)
        assert np.ptp(found) > 0.01
        assert largest_difference(reference, found.astype(np.float32), picture) < 1e-5
        reference.close()


@pytest.mark.parametrize("settings", [{"axis": 2}, {"axis": -1}, {}], ids=str)
def test_a_softmax_over_rows_or_columns_is_refused(settings: dict[str, int]) -> None:
    """Without an axis it is over the last one."""
    b = Builder()
    model = b.model(b.op("Softmax", on_conv(b), **settings))
    with pytest.raises(ConversionError, match="wanted a Softmax over the channels, found one over"):
        single_logit(model, spec("Softmax", 1))


def test_a_softmax_without_an_axis_is_over_the_channels_where_they_are_last() -> None:
    b = Builder()
    model = b.model(b.op("Softmax", channels_last(b)))
    picture = random_picture(model)
    p = classes_of(model, picture)
    rival = np.delete(p, 1, axis=0).max(axis=0)
    answer = run(single_logit(model, spec("Softmax", 1)), picture)[0, 0]
    np.testing.assert_allclose(sigmoid(answer), p[1] / (p[1] + rival), atol=2e-6)


@pytest.mark.parametrize("kind", ["Slice", "Gather", "Split"])
def test_the_person_is_followed_through_what_picks_and_orders_classes(kind: str) -> None:
    """Three of five logits are returned: the person is the second of them."""
    b = Builder()
    logits = on_conv(b)
    picked = {
        "Slice": lambda: b.op("Slice", logits, *(b.constant([v], np.int64) for v in (0, 5, 1, 2))),
        "Gather": lambda: b.op("Gather", logits, b.constant([4, 2, 0], np.int64), axis=1),
        "Split": lambda: b.op("Split", logits, b.constant([2, 3], np.int64), outputs=2, axis=1)[1],
    }[kind]()
    model = b.model(picked)
    picture = random_picture(model)
    returned = run(model, picture)[0]
    answer = run(single_logit(model, OutputSpec("logit", 1)), picture)[0, 0]
    rival = np.maximum(returned[0], returned[2])
    np.testing.assert_allclose(answer, returned[1] - rival, atol=1e-5)


@pytest.mark.parametrize("activation", ["Sigmoid", ""])
@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_a_difference_of_two_channels_becomes_a_convolution_s(
    order: tuple[int, int], activation: str
) -> None:
    """Person less background, by hand: the Sub of two slices would lose its layout in onnx2tf."""
    b = Builder()
    classes = b.op("Relu", b.conv("picture", 3, 2, 3))
    parts = b.op("Split", classes, b.constant([1, 1], np.int64), outputs=2, axis=1)
    last = b.op("Sub", parts[order[0]], parts[order[1]])
    model = b.model(b.op(activation, last) if activation else last)
    picture = random_picture(model)
    reduced = single_logit(model, spec(activation, 0))
    assert not {"Sub", "Split"} & set(operators(reduced))
    answer, wanted = run(reduced, picture), run(model, picture)
    np.testing.assert_allclose(sigmoid(answer) if activation else answer, wanted, atol=1e-5)


def test_a_difference_of_two_tensors_stays_one() -> None:
    b = Builder()
    pair = [b.channels(b.conv("picture", 3, 2, 3), 1, 2) for _ in range(2)]
    model = b.model(b.op("Sub", *pair))
    picture = random_picture(model)
    reduced = single_logit(model, OutputSpec("logit", 0))
    np.testing.assert_allclose(run(reduced, picture), run(model, picture), atol=1e-5)


def test_a_mask_that_is_cropped_at_the_end_stays_cropped() -> None:
    b = Builder()
    ends = [b.constant([v], np.int64) for v in (1, 11, 2)]  # of the rows
    model = b.model(b.op("Slice", b.conv("picture", 3, 1, 3), *ends))
    picture = random_picture(model)
    answer = run(single_logit(model, OutputSpec("logit", 0)), picture)
    np.testing.assert_allclose(answer, run(model, picture), atol=1e-6)


def shown(b: Builder, channels: str, start: int, end: int) -> ModelProto:
    """Some channels of what the network computed."""
    ends = [b.constant([v], np.int64) for v in (start, end, 1)]
    return b.model(b.op("Slice", channels, *ends))


def test_a_softmax_whose_other_classes_are_cut_off_is_refused() -> None:
    b = Builder()
    model = shown(b, b.op("Softmax", on_conv(b), axis=1), 3, 4)
    with pytest.raises(ConversionError, match="all 5 classes of the last Softmax.*found 1"):
        single_logit(model, OutputSpec("probability", 0))


def test_logits_that_are_cut_off_are_no_rivals(tmp_path: Path) -> None:
    """What the network does not return cannot be meant: one logit stands for itself."""
    b = Builder()
    model = shown(b, b.conv("picture", 3, 2, 3), 1, 2)
    picture = random_picture(model)
    answer = run(single_logit(model, OutputSpec("logit", 0)), picture)
    np.testing.assert_allclose(answer, run(model, picture), atol=1e-6)
    b = Builder()
    three = shown(b, on_conv(b), 1, 4)
    returned = run(three, picture)[0]
    answer = run(single_logit(three, OutputSpec("logit", 1)), picture)[0, 0]
    rival = np.maximum(returned[0], returned[2])
    np.testing.assert_allclose(answer, returned[1] - rival, atol=1e-5)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_labels_are_refused_whatever_their_rank_and_type(keepdims: int) -> None:
    b = Builder()
    labels = b.op("ArgMax", on_conv(b), axis=1, keepdims=keepdims)
    model = b.model(b.op("Cast", labels, to=TensorProto.INT32))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    with pytest.raises(ConversionError, match="found ArgMax.*--output_op softmax"):
        single_logit(model, OutputSpec("probability", 0))


@pytest.mark.slow
def test_five_classes_go_to_int8(tmp_path: Path) -> None:
    """The least of the differences stays integer, and the mask stays what it was."""
    model = network(on_upsampled_relu, "Softmax")
    random = np.random.default_rng(5)
    pictures = random.integers(0, 256, (16, HEIGHT, WIDTH, 3), dtype=np.uint8)
    tensors = [(p.astype(np.float32) / 127.5 - 1)[None] for p in pictures]
    output = spec("Softmax", 2)
    source = tmp_path / "five.onnx"
    onnx.save(model, source)
    real, integer = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    tflite.to_float(simplify(single_logit(model, output))[0], real)
    tflite.to_int8(real, integer, tensors=tensors, input=INPUT)

    reference = Reference(source, INPUT, output)
    assert tflite.guards.float_operators(integer) == []
    agreed = []
    for picture, tensor in zip(pictures, tensors, strict=True):
        truth = reference.probability(picture)
        found = sigmoid(_answer(real, tensor))
        assert largest_difference(reference, found, picture) < 1e-4
        agreed.append((_answer(integer, tensor) > 0) == (truth >= 0.5))
    assert np.mean(agreed) > 0.97


def _answer(path: Path, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite file, float in and out whatever it computes in; (h, w)."""
    from edge_seg.backends import open_backend

    backend = open_backend("tflite", path)
    eats, gives = backend.input, backend.output
    if eats.quantized:
        codes = np.clip(np.floor(tensor / eats.scale + eats.zero_point + 0.5), -128, 127)
        answer = np.asarray(backend.infer(codes.astype(np.int8)), dtype=np.float32)
        answer = (answer - gives.zero_point) * np.float32(gives.scale)
    else:
        answer = np.asarray(backend.infer(tensor))
    backend.close()
    return answer[0, ..., 0]
