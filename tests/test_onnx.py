"""converters.onnx and converters.head: what is read, what is refused, and the one logit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.pixels import sigmoid  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec  # noqa: E402
from tests.tiny_onnx import Builder, operators, random_picture, run  # noqa: E402

PROBABILITY = OutputSpec("probability", 1)


def save(model: ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(model, path)
    return path


def plain(shape: tuple[int | str, ...] = (1, 3, 12, 16), channels: int = 3) -> ModelProto:
    b = Builder(shape)
    return b.model(b.conv("picture", channels, 2, 3))


# --- files that are not what they should be ------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello, I am a picture", bytes(range(256)) * 9])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="net.onnx: wanted an ONNX file"):
        reader.load(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ConversionError, match="found no such file"):
            reader.load(path)


def test_an_empty_file_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").touch()
    with pytest.raises(ConversionError, match="found an empty one"):
        reader.load(tmp_path / "net.onnx")


def test_a_network_of_half_precision_is_refused(tmp_path: Path) -> None:
    """Unsorted, as ONNX Runtime's converter to float16 leaves it behind its casts."""
    b = Builder()
    half = b.op("Cast", "picture", to=TensorProto.FLOAT16)
    model = b.model(b.op("Cast", b.conv(half, 3, 2), to=TensorProto.FLOAT))
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[1], nodes[2], nodes[0]])
    with pytest.raises(ConversionError, match="'c0': wanted weights in float32, found float16"):
        reader.load(save(model, tmp_path))


def test_weights_that_are_only_kept_in_half_precision_are_taken(tmp_path: Path) -> None:
    b = Builder()
    weight = b.constant(b.random.normal(size=(2, 3, 1, 1)), np.float16)
    wide = b.op("Cast", weight, to=TensorProto.FLOAT)
    reader.load(save(b.model(b.op("Conv", "picture", wide)), tmp_path))


def test_a_giant_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "giant.onnx"
    with open(path, "wb") as file:
        file.truncate(reader.MAX_FILE + 1)  # sparse: takes no room on disk
    with pytest.raises(ConversionError, match="512 MB"):
        reader.load(path)


def test_weights_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    model = plain()
    model.graph.initializer[0].dims[:] = [1 << 20, 1 << 20]
    with pytest.raises(ConversionError, match="1024 MB in all"):
        reader.load(save(model, tmp_path))


def test_negative_sizes_are_refused(tmp_path: Path) -> None:
    model = plain()
    model.graph.initializer[0].dims[0] = -4
    with pytest.raises(ConversionError, match="'c0': wanted sizes of 0 or more, found -4"):
        reader.load(save(model, tmp_path))


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    onnx.save(
        plain(),
        tmp_path / "net.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="weights.bin",
    )
    with pytest.raises(ConversionError, match="weights inside the file"):
        reader.load(tmp_path / "net.onnx")


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname", "link.bin"])
def test_weights_outside_of_the_file_s_folder_are_refused_unread(
    tmp_path: Path, place: str
) -> None:
    """Whatever lies there: nothing but the file that was named is opened."""
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    model = plain()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="wanted all weights inside the file"):
        reader.load(folder / "net.onnx")


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    b = Builder()
    model = b.model(b.op("Relu", b.op("Add", b.conv("picture", 3, 3), "picture")))
    add = next(n for n in model.graph.node if n.op_type == "Add")
    add.input[1] = model.graph.output[0].name
    path = tmp_path / "cycle.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match=r"cycle\.onnx: wanted"):
        reader.load(path)


def test_a_graph_that_would_compute_a_giant_is_refused(tmp_path: Path) -> None:
    b = Builder()
    big = b.upsample("picture", 30000, 40000, 3)
    with pytest.raises(ConversionError, match="wanted tensors of up to 1024 MB"):
        reader.load(save(b.model(big), tmp_path))


def test_a_damaged_graph_is_refused(tmp_path: Path) -> None:
    model = plain()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(ConversionError, match="wanted a valid ONNX graph"):
        reader.load(save(model, tmp_path))


# --- operators -----------------------------------------------------------------------------------


def test_an_operator_of_another_domain_is_named_with_its_node(tmp_path: Path) -> None:
    model = plain()
    node = model.graph.node[0]
    node.name, node.op_type, node.domain = "fancy_layer", "MagicConv", "com.acme"
    model.opset_import.append(helper.make_opsetid("com.acme", 1))
    with pytest.raises(ConversionError, match=r"'fancy_layer'.*com\.acme\.MagicConv"):
        reader.load(save(model, tmp_path))


def test_an_operator_that_does_not_exist_is_named_with_its_node(tmp_path: Path) -> None:
    model = plain()
    model.graph.node[0].name, model.graph.node[0].op_type = "layer7", "Konv"
    with pytest.raises(ConversionError, match="'layer7'.*Konv"):
        reader.load(save(model, tmp_path))


def test_control_flow_is_refused(tmp_path: Path) -> None:
    b = Builder()
    inner = helper.make_graph([], "inner", [], [])
    b.nodes.append(helper.make_node("If", ["yes"], ["y"], name="branch", then_branch=inner))
    b.constants["yes"] = np.array(True)
    with pytest.raises(ConversionError, match="'branch'.*If"):
        reader.load(save(b.model("y"), tmp_path))


def test_an_opset_from_the_future_is_refused(tmp_path: Path) -> None:
    model = plain()
    model.opset_import[0].version = 99
    with pytest.raises(ConversionError, match="found 99"):
        reader.load(save(model, tmp_path))


def test_an_old_opset_is_brought_up_to_date_unchanged(tmp_path: Path) -> None:
    b = Builder()
    left, right = b.op("Split", b.conv("picture", 3, 4), outputs=2, axis=1, split=[2, 2])
    model = b.model(b.op("Add", left, right), opset=11)
    loaded = reader.load(save(model, tmp_path))
    picture = random_picture(model)
    assert loaded.opset_import[0].version >= reader.OPSET
    np.testing.assert_array_equal(run(loaded, picture), run(model, picture))


def of_opset(opset: int, mode: str) -> ModelProto:
    """A network whose operators are spelled as that opset spells them, where spellings changed."""
    b = Builder()
    x = b.conv("picture", 3, 8, 3)
    parts = [b.constant(v) for v in np.random.default_rng(0).uniform(0.5, 1.5, (4, 8))]
    x = b.op("BatchNormalization", x, *parts)
    ends, border = [[0], [6], [1]], [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 10:
        x = b.op("Slice", x, starts=ends[0], ends=ends[1], axes=ends[2])
    else:
        x = b.op("Slice", x, *(b.constant(end, np.int64) for end in ends))
    if opset < 11:
        x = b.op("Clip", b.op("Pad", x, pads=border, value=0.5), min=0.0, max=6.0)
    else:
        x = b.op("Pad", x, b.constant(border, np.int64), b.constant(0.5))
        x = b.op("Clip", x, b.constant(0.0), b.constant(6.0))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])
    gate = b.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = b.op("Mul", x, b.op("Unsqueeze", b.op("Unsqueeze", gate, axes=[2]), axes=[3]))
    x = b.conv(x, 6, 2, 1)
    scales = b.constant([1, 1, 2, 2] if mode == "linear" else [1, 1, 2, 1.3])
    if opset < 11:
        x = b.op("Upsample" if opset < 10 else "Resize", x, scales, mode=mode)
    else:
        x = b.op("Resize", x, b.constant([]), scales, mode=mode)
    turned = b.op("Softmax", b.op("Transpose", x, perm=[0, 2, 3, 1]), axis=3)
    return b.model(b.op("Transpose", turned, perm=[0, 3, 1, 2]), opset=opset)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("opset", [9, 10, 11, 12])
def test_every_old_spelling_is_brought_up_to_date_unchanged(
    tmp_path: Path, opset: int, mode: str
) -> None:
    """Up to opset 10 a Resize samples elsewhere than the new default: half a pixel beside."""
    model = of_opset(opset, mode)
    loaded = reader.load(save(model, tmp_path))
    picture = random_picture(model)
    truth = run(model, picture)
    assert loaded.opset_import[0].version == reader.OPSET
    assert np.ptp(truth[:, 1]) > 0.1
    np.testing.assert_array_equal(run(loaded, picture), truth)
    logit = run(single_logit(loaded, PROBABILITY), picture)
    np.testing.assert_allclose(sigmoid(logit)[:, 0], truth[:, 1], atol=2e-6)


# --- the input -----------------------------------------------------------------------------------


def test_a_dynamic_size_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"its height \(rows\) is dynamic.*fixed size"):
        reader.load(save(plain((1, 3, "rows", 16)), tmp_path))


def test_a_symbolic_batch_becomes_one(tmp_path: Path) -> None:
    model = plain(("batch", 3, 12, 16))
    loaded = reader.load(save(model, tmp_path))
    picture = random_picture(loaded)
    assert picture.shape == (1, 3, 12, 16)
    np.testing.assert_array_equal(run(loaded, picture), run(model, picture))


def test_a_larger_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="wanted a batch of 1, found 4"):
        reader.load(save(plain((4, 3, 12, 16)), tmp_path))


@pytest.mark.parametrize("channels", [1, 4])
def test_a_wrong_channel_count_is_refused(tmp_path: Path, channels: int) -> None:
    model = plain((1, channels, 12, 16), channels)
    with pytest.raises(ConversionError, match="wanted 3 channels"):
        reader.load(save(model, tmp_path))


def test_channels_last_is_told_apart_from_a_wrong_count(tmp_path: Path) -> None:
    model = plain((1, 12, 16, 3), 12)
    with pytest.raises(ConversionError, match="tf2onnx has --inputs-as-nchw picture"):
        reader.load(save(model, tmp_path))


def test_a_uint8_input_is_refused(tmp_path: Path) -> None:
    b = Builder()
    model = b.model(b.conv(b.op("Cast", "picture", to=TensorProto.FLOAT), 3, 2))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    with pytest.raises(ConversionError, match="wanted float32, found uint8"):
        reader.load(save(model, tmp_path))


def test_two_inputs_are_refused_by_name(tmp_path: Path) -> None:
    model = plain()
    model.graph.input.append(
        helper.make_tensor_value_info("previous_mask", TensorProto.FLOAT, [1, 1, 12, 16])
    )
    with pytest.raises(ConversionError, match="previous_mask"):
        reader.load(save(model, tmp_path))


def test_initializers_listed_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = plain()
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    loaded = reader.load(save(model, tmp_path))
    assert [v.name for v in loaded.graph.input] == ["picture"]


def test_another_size_than_the_specs_is_refused(tmp_path: Path) -> None:
    path = save(plain(), tmp_path)
    reader.load(path, InputSpec(12, 16))
    with pytest.raises(ConversionError, match="spec's 16x12.*found 12x16"):
        reader.load(path, InputSpec(16, 12))


# --- heads: sigmoid(logit) is the probability the network itself returns --------------------------


def softmax_on_conv(b: Builder) -> str:
    return str(b.op("Softmax", b.conv("picture", 3, 2, 3), axis=1))


def softmax_on_upsampled_conv(b: Builder) -> str:
    small = b.conv("picture", 3, 2, 3, strides=[2, 2])
    return str(b.op("Softmax", b.upsample(small, 12, 16, 2), axis=1))


def softmax_on_upsampled_relu(b: Builder) -> str:
    """As PP-HumanSegV1: the logits go through a ReLU, so the difference cannot fold further."""
    small = b.op("Relu", b.conv("picture", 3, 2, 3, strides=[2, 2]))
    return str(b.op("Softmax", b.upsample(small, 12, 16, 2), axis=1))


def softmax_between_transposes(b: Builder) -> str:
    turned = b.op("Transpose", b.conv("picture", 3, 2, 3), perm=[0, 3, 2, 1])
    return str(b.op("Transpose", b.op("Softmax", turned, axis=-1), perm=[0, 3, 2, 1]))


def softmax_channels_last(b: Builder) -> str:
    turned = b.op("Transpose", b.conv("picture", 3, 2, 3), perm=[0, 2, 3, 1])
    return str(b.op("Softmax", turned, axis=-1))


def sigmoid_of_two(b: Builder) -> str:
    return str(b.op("Sigmoid", b.conv("picture", 3, 2, 3)))


SOFT_HEADS = [
    softmax_on_conv,
    softmax_on_upsampled_conv,
    softmax_on_upsampled_relu,
    softmax_between_transposes,
    softmax_channels_last,
    sigmoid_of_two,
]


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("head", SOFT_HEADS, ids=lambda h: h.__name__)
def test_the_logit_gives_the_networks_own_probability(
    head: Callable[[Builder], str], channel: int
) -> None:
    b = Builder()
    model = b.model(head(b))
    logit = single_logit(model, OutputSpec("probability", channel))
    picture = random_picture(model)
    answer, truth = run(logit, picture), run(model, picture)
    truth = np.moveaxis(truth, 3, 1) if truth.shape[3] == 2 else truth
    assert answer.shape == (1, 1, 12, 16)
    assert np.ptp(truth[:, channel]) > 0.1  # a constant would prove nothing
    np.testing.assert_allclose(sigmoid(answer[:, 0]), truth[:, channel], atol=2e-6)


def test_a_selected_probability_is_followed_to_its_channel() -> None:
    b = Builder()
    both = b.op("Softmax", b.conv("picture", 3, 2, 3), axis=1)
    ends = [b.constant(v, np.int64) for v in ([1], [2], [1])]
    model = b.model(b.op("Slice", both, *ends))
    picture = random_picture(model)
    answer = run(single_logit(model, OutputSpec("probability", 0)), picture)
    np.testing.assert_allclose(sigmoid(answer), run(model, picture), atol=2e-6)


def test_one_logit_is_taken_as_it_is() -> None:
    b = Builder()
    model = b.model(b.conv("picture", 3, 1, 3))
    picture = random_picture(model)
    answer = run(single_logit(model, OutputSpec("logit", 0)), picture)
    np.testing.assert_array_equal(answer, run(model, picture))


def test_two_logits_give_their_difference() -> None:
    b = Builder()
    model = b.model(b.conv("picture", 3, 2, 3))
    picture = random_picture(model)
    background, person = run(model, picture)[0]
    answer = run(single_logit(model, OutputSpec("logit", 1)), picture)
    np.testing.assert_allclose(answer[0, 0], person - background, atol=1e-5)


@pytest.mark.parametrize("head", [softmax_on_upsampled_conv, softmax_on_upsampled_relu])
def test_the_upsampling_works_on_one_channel(head: Callable[[Builder], str]) -> None:
    b = Builder()
    logit = single_logit(b.model(head(b)), PROBABILITY)
    resize = next(n for n in logit.graph.node if n.op_type == "Resize")
    shapes = {v.name: v.type.tensor_type.shape for v in logit.graph.value_info}
    assert shapes[resize.input[0]].dim[1].dim_value == 1
    assert "Softmax" not in operators(logit)


@pytest.mark.parametrize("axes", [(1, 2, 3), (-3, -2, -1), (2, 3)])
def test_a_resize_that_names_its_axes_works_on_one_channel(axes: tuple[int, ...]) -> None:
    b = Builder()
    sizes = b.constant([2, 24, 32][-len(axes) :], np.int64)
    two = b.conv("picture", 3, 2, 3)
    model = b.model(b.op("Resize", two, "", "", sizes, axes=axes, mode="linear"), opset=18)
    picture = random_picture(model)
    background, person = run(model, picture)[0]
    answer = run(single_logit(model, OutputSpec("logit", 1)), picture)
    np.testing.assert_allclose(answer[0, 0], person - background, atol=1e-5)


def test_a_difference_on_a_convolution_costs_nothing() -> None:
    b = Builder()
    assert operators(single_logit(b.model(softmax_on_conv(b)), PROBABILITY)) == ["Conv"]


def test_the_callers_model_is_left_alone() -> None:
    b = Builder()
    model = b.model(softmax_on_upsampled_conv(b))
    before = model.SerializeToString()
    single_logit(model, PROBABILITY)
    assert model.SerializeToString() == before


def test_hard_labels_are_refused_with_the_reason() -> None:
    b = Builder()
    labels = b.op("ArgMax", b.conv("picture", 3, 2, 3), axis=1, keepdims=1)
    model = b.model(b.op("Cast", labels, to=TensorProto.FLOAT))
    with pytest.raises(ConversionError, match="ArgMax"):
        single_logit(model, OutputSpec("probability", 0))


@pytest.mark.parametrize("kind", ["Greater", "Round"])
def test_a_threshold_is_refused_as_hard_labels_are(kind: str) -> None:
    b = Builder()
    person = b.op("Sigmoid", b.conv("picture", 3, 1, 3))
    given = [person, b.constant(0.5)] if kind == "Greater" else [person]
    model = b.model(b.op("Cast", b.op(kind, *given), to=TensorProto.FLOAT))
    for activation in ("probability", "logit"):
        with pytest.raises(ConversionError, match=f"found {kind}, which leaves hard labels"):
            single_logit(model, OutputSpec(activation, 0))


def test_a_spec_that_contradicts_the_graph_is_refused() -> None:
    b = Builder()
    soft = b.model(softmax_on_conv(b))
    with pytest.raises(ConversionError, match="activation = 'probability'"):
        single_logit(soft, OutputSpec("logit", 1))
    b = Builder()
    hard = b.model(b.conv("picture", 3, 2, 3))
    with pytest.raises(ConversionError, match="activation = 'logit'"):
        single_logit(hard, PROBABILITY)


def test_probabilities_resized_after_the_softmax_are_refused() -> None:
    """sigmoid and bilinear do not commute: what looks like the same head is not."""
    b = Builder()
    small = b.op("Softmax", b.conv("picture", 3, 2, 3, strides=[2, 2]), axis=1)
    with pytest.raises(ConversionError, match="found that it ends in Resize") as refused:
        single_logit(b.model(b.upsample(small, 12, 16, 2)), PROBABILITY)
    # Called logits it would pass, with masks between 0.27 and 0.73.
    assert "if probabilities, export it with its Softmax or Sigmoid as the last" in str(
        refused.value
    )


def test_a_channel_that_is_not_there_is_refused() -> None:
    b = Builder()
    with pytest.raises(ConversionError, match="channel 2, found 2 channel"):
        single_logit(b.model(softmax_on_conv(b)), OutputSpec("probability", 2))


def test_a_size_that_depends_on_the_picture_is_refused_by_node() -> None:
    b = Builder()
    few = b.op("Unique", b.conv("picture", 3, 4, 3))
    picture = b.op("Reshape", few, b.constant([1, 1, -1, 16], np.int64))
    with pytest.raises(ConversionError, match=r"'Unique_1' \(Unique\): wanted static shapes"):
        single_logit(b.model(b.conv(picture, 1, 1, 3)), OutputSpec("logit", 0))


def test_several_outputs_are_refused_by_name_and_the_remedy_works(tmp_path: Path) -> None:
    b = Builder()
    mask, edge = softmax_on_conv(b), b.conv("picture", 3, 1, 3)
    model = b.model(mask, more=[edge])
    with pytest.raises(ConversionError, match=f"found 2 .*{edge}") as refused:
        single_logit(model, PROBABILITY)
    assert "onnx.utils.extract_model(FILE, ANOTHER, ['picture'], [MASK])" in str(refused.value)
    whole, cut = tmp_path / "whole.onnx", tmp_path / "cut.onnx"
    onnx.save(model, whole)
    onnx.utils.extract_model(whole, cut, ["picture"], [mask])
    assert single_logit(reader.load(cut), PROBABILITY).graph.output[0].name == "logit"


@pytest.mark.parametrize("name", ["v1_lite_portrait_398x224", "v2_lite_portrait_256x144"])
def test_official_networks_keep_their_answer(models_dir: Path, name: str) -> None:
    path = models_dir / f"pphumanseg_{name}_softmax.onnx"
    loaded = reader.load(path)
    logit = single_logit(loaded, PROBABILITY)
    picture = random_picture(loaded)
    truth = run(onnx.load(path), picture)[:, 1]
    np.testing.assert_allclose(sigmoid(run(logit, picture)[:, 0]), truth, atol=1e-5)
