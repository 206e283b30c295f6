"""ONNX files from outside: no weights from elsewhere, no giant made of a few bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra [onnxruntime] is not installed")
onnx = pytest.importorskip("onnx", reason="the hostile networks are written with onnx")

from onnx import ModelProto, TensorProto, helper, numpy_helper  # noqa: E402

from edge_seg.backends import open_backend  # noqa: E402
from edge_seg.backends.onnx_file import check_file  # noqa: E402
from edge_seg.bundle import SHIPPED  # noqa: E402
from edge_seg.errors import BackendFailure, BackendUnavailable  # noqa: E402
from tests import flipped_bytes, tiny_networks  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402

SHIPPED_FILES = sorted(SHIPPED.glob("*/*.onnx"))
SIDE = 20_000  # squared: 1.6 GB in float


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return tiny_networks.save_onnx(tmp_path / "whole.onnx")


def changed(path: Path, change: Callable[[ModelProto], None]) -> Path:
    """Write the file again with its model changed."""
    model = onnx.load_model(str(path))
    change(model)
    bad = path.with_name("bad.onnx")
    bad.write_bytes(model.SerializeToString())
    return bad


def refused(path: Path, told: str) -> None:
    with pytest.raises(BackendUnavailable, match=rf"{path.name}: {told}"):
        open_backend("onnxruntime", path)


# --- what is whole -------------------------------------------------------------------------------


def test_whole_files_are_let_through(whole: Path) -> None:
    check_file(whole)
    check_file(changed(whole, lambda model: None))


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_networks_that_ship_open_and_answer(path: Path) -> None:
    started = time.process_time()
    check_file(path)
    assert time.process_time() - started < 0.2  # 6 ms measured; loaded machines are slow
    backend = open_backend("onnxruntime", path)
    assert np.isfinite(backend.infer(np.zeros(backend.input.shape, np.float32))).all()
    backend.close()


@pytest.mark.parametrize("kind", ["int64_data", "raw_data", "float_data"])
def test_constants_are_understood_however_they_are_written(whole: Path, kind: str) -> None:
    def change(model: ModelProto) -> None:
        tensor = TensorProto(name="more", data_type=TensorProto.INT64, dims=[3])
        if kind == "int64_data":
            tensor.int64_data.extend([1, -1, 2**40])
        elif kind == "raw_data":
            tensor.raw_data = np.array([1, -1, 2**40]).tobytes()
        else:
            tensor.data_type = TensorProto.FLOAT
            tensor.float_data.extend([0.5, 1.5, -2.0])
        model.graph.initializer.append(tensor)

    check_file(changed(whole, change))


def field(number: int, content: bytes) -> bytes:
    """Return protobuf's bytes of a message, a string or packed numbers."""
    size, length = len(content), b""
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def with_more(path: Path, graph: bytes) -> Path:
    """Write the file again with more bytes at the end of its graph."""
    model = onnx.load_model(str(path))
    content = field(7, model.graph.SerializeToString() + graph)
    model.ClearField("graph")
    bad = path.with_name("bad.onnx")
    bad.write_bytes(model.SerializeToString() + content)
    return bad


def test_numbers_one_by_one_and_of_four_bits_are_let_through(whole: Path) -> None:
    single = TensorProto(name="single", data_type=TensorProto.INT64, dims=[3]).SerializeToString()
    check_file(with_more(whole, field(5, single + b"\x38\x01\x38\x02\x38\x03")))
    four = TensorProto(name="four", data_type=TensorProto.INT4, dims=[7], raw_data=b"1234")
    check_file(with_more(whole, field(5, four.SerializeToString())))


def test_of_what_is_said_twice_the_last_counts_as_in_protobuf(whole: Path) -> None:
    sizes = np.array([SIDE, SIDE]).tobytes()
    value = TensorProto(data_type=TensorProto.INT64, dims=[2], raw_data=np.array([1, 1]).tobytes())
    twice = value.SerializeToString() + field(9, sizes)
    attribute = helper.make_attribute("value", 1)
    attribute.ClearField("i")
    attribute.type = onnx.AttributeProto.TENSOR
    constant = helper.make_node("Constant", [], ["sizes"]).SerializeToString()
    constant += field(5, attribute.SerializeToString() + field(5, twice))
    node = helper.make_node("Relu", ["sizes"], ["z"]).SerializeToString()
    node += field(4, b"ConstantOfShape")
    told = "wanted constants to ask for up to .*with ConstantOfShape"
    refused(with_more(whole, field(1, constant) + field(1, node)), told)


def test_two_graphs_are_not_one_that_is_checked_and_one_that_is_not(whole: Path) -> None:
    bad = whole.with_name("bad.onnx")
    bad.write_bytes(whole.read_bytes() * 2)
    refused(bad, "wanted field 7 once, found it 2 times")


def test_fields_are_counted_in_all_messages_together(whole: Path) -> None:
    node = field(1, b"\x08\x07" * 90_000)
    check_file(with_more(whole, node * 2))
    refused(with_more(whole, node * 3), "wanted an ONNX file of up to 200000 fields")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(whole: Path, share: float) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    refused(whole, "wanted ")


# --- weights that are not in the file ------------------------------------------------------------


def _elsewhere(tensor: TensorProto) -> None:
    count = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    tensor.external_data.add(key="length", value=str(count))


def _initializer_elsewhere(model: ModelProto) -> None:
    _elsewhere(model.graph.initializer[0])


def _constant_elsewhere(model: ModelProto) -> None:
    tensor = model.graph.initializer.pop(0)
    model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    _elsewhere(model.graph.node[0].attribute[0].t)


def _list_elsewhere(model: ModelProto) -> None:
    tensor = TensorProto(raw_data=b"1234", data_type=TensorProto.FLOAT, dims=[1])
    _elsewhere(tensor)
    model.graph.node[0].attribute.append(helper.make_attribute("more", [tensor]))


def _entries_alone(model: ModelProto) -> None:
    _elsewhere(model.graph.initializer[0])
    model.graph.initializer[0].ClearField("data_location")


@pytest.mark.parametrize(
    "change", [_initializer_elsewhere, _constant_elsewhere, _list_elsewhere, _entries_alone]
)
def test_weights_beside_the_file_are_not_used(
    whole: Path, change: Callable[[ModelProto], None]
) -> None:
    first = onnx.load_model(str(whole)).graph.initializer[0]
    whole.with_name("weights.bin").write_bytes(first.raw_data)
    refused(changed(whole, change), "wanted all weights inside the file, found them in another")


def test_weights_elsewhere_in_a_branch_are_not_used(whole: Path) -> None:
    def change(model: ModelProto) -> None:
        end = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1])
        tensor = TensorProto(name="inner", raw_data=b"1234", data_type=TensorProto.FLOAT, dims=[1])
        _elsewhere(tensor)
        branch = helper.make_graph([], "branch", [], [end], [tensor])
        node = helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
        model.graph.node.append(node)

    refused(changed(whole, change), "wanted plain operators, found If 'z' with a graph of its own")


# --- what would be trusted -----------------------------------------------------------------------


def _claim(model: ModelProto) -> None:
    """Numbers of 4 bits, two in a byte, of which the type of 2 bits takes four."""
    tensor = TensorProto(name="more", data_type=TensorProto.INT4, raw_data=b"1234")
    tensor.dims[:] = [4 * len(tensor.raw_data) + 1]
    model.graph.initializer.append(tensor)


def _negative(model: ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-1, -48]


def _twice(model: ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def _attribute_twice(model: ModelProto) -> None:
    model.graph.node[0].attribute.append(model.graph.node[0].attribute[0])


def _function(model: ModelProto) -> None:
    node = helper.make_node("Relu", ["a"], ["b"])
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Same", ["a"], ["b"], [node], opset))


def _sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "giant")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    sparse = helper.make_sparse_tensor(values, places, [SIDE * SIDE])
    model.graph.sparse_initializer.append(sparse)


def _sparse_constant(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "giant")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    sparse = helper.make_sparse_tensor(values, places, [SIDE * SIDE])
    model.graph.node.append(helper.make_node("Constant", [], ["z"], sparse_value=sparse))


def _graphs(model: ModelProto) -> None:
    end = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    node = helper.make_node("Own", ["x"], ["z"], graphs=[helper.make_graph([], "g", [], [end])])
    model.graph.node.append(node)


def _compiled(model: ModelProto) -> None:
    node = helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft", embed_mode=0)
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_claim, "wanted constants the file holds"),
        (_negative, "wanted constants the file holds"),
        (_twice, "wanted every constant once"),
        (_attribute_twice, "wanted every attribute once"),
        (_function, "wanted plain operators, found functions"),
        (_sparse, "wanted dense weights, found sparse ones"),
        (_sparse_constant, "wanted dense weights, found sparse ones"),
        (_graphs, "wanted plain operators, found Own 'z' with a graph of its own"),
        (_compiled, "wanted operators, found EPContext"),
    ],
)
def test_what_the_library_would_trust_is_refused(
    whole: Path, change: Callable[[ModelProto], None], told: str
) -> None:
    refused(changed(whole, change), told)


@pytest.mark.parametrize(
    "content",
    [
        *(b"\x0b", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a" + b"\xff" * 20, b"\x3a\x02\x0a"),
        *(b"\x08", b"\x08\xff", b"\x08\x07"),
    ],
    ids=["group", "length", "number", "cut", "no number", "half a number", "nothing"],
)
def test_bytes_that_are_no_messages_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    refused(path, "wanted an ONNX file")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x08\x07" * 1_000_000, "wanted an ONNX file of up to"),
        (b"\x08" + b"\xff" * 1_000_000, "wanted an ONNX file, found no number"),
    ],
    ids=["fields", "a number"],
)
def test_what_does_not_end_is_refused_soon(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    started = time.process_time()
    refused(path, told)
    assert time.process_time() - started < 5


# --- giants --------------------------------------------------------------------------------------


def _expand(build: Builder) -> str:
    return str(
        build.op("Expand", build.op("ReduceMax", "picture"), build.constant([SIDE] * 4, int))
    )


def _expand_floats(build: Builder) -> str:
    sizes = build.op("Constant", value_ints=[1, 1, SIDE, SIDE])
    return str(build.op("Expand", build.op("ReduceMax", "picture"), sizes))


def _of_shape(build: Builder) -> str:
    return str(build.op("ConstantOfShape", build.constant([SIDE, SIDE], int)))


def _of_shape_constant(build: Builder) -> str:
    value = numpy_helper.from_array(np.array([SIDE, SIDE]))
    return str(build.op("ConstantOfShape", build.op("Constant", value=value)))


def _tile(build: Builder) -> str:
    return str(build.op("Tile", "picture", build.constant([1, 1, SIDE, SIDE], int)))


def _resize(build: Builder) -> str:
    return build.upsample("picture", SIDE, SIDE, 3)


def _resize_scales(build: Builder) -> str:
    return str(build.op("Resize", "picture", "", build.constant([1, 1, SIDE, SIDE])))


def _pad(build: Builder) -> str:
    return str(build.op("Pad", "picture", build.constant([0, 0, 0, 0, 0, 0, SIDE, SIDE], int)))


def _pads(build: Builder) -> str:
    return str(build.op("MaxPool", "picture", kernel_shape=[1, 1], pads=[SIDE // 2] * 4))


def _range(build: Builder) -> str:
    ends = (build.constant(v, int) for v in (0, SIDE * SIDE, 1))
    return str(build.op("Range", *ends))


def _random(build: Builder) -> str:
    return str(build.op("RandomNormal", shape=[SIDE, SIDE]))


def _range_int32(build: Builder) -> str:
    ends = (build.constant(v, np.int32) for v in (0, SIDE * SIDE, 1))
    return str(build.op("Range", *ends))


def _range_double(build: Builder) -> str:
    ends = (build.constant(v, np.float64) for v in (0, 1, 1 / SIDE**2))
    return str(build.op("Range", *ends))


def _range_from_below(build: Builder) -> str:
    ends = (build.constant(v, int) for v in (-SIDE * SIDE, 0, 1))
    return str(build.op("Range", *ends))


def _range_to_no_number(build: Builder) -> str:
    ends = (build.constant(v) for v in (0, np.nan, 1))
    return str(build.op("Range", *ends))


def _range_of_constants(build: Builder) -> str:
    ends = (build.op("Constant", value_int=v) for v in (0, SIDE * SIDE, 1))
    return str(build.op("Range", *ends))


def _range_of_floats(build: Builder) -> str:
    ends = (build.op("Constant", value_float=v) for v in (0.0, float(SIDE * SIDE), 1.0))
    return str(build.op("Range", *ends))


def _scales_of_floats(build: Builder) -> str:
    scales = build.op("Constant", value_floats=[1.0, 1.0, float(SIDE), float(SIDE)])
    return str(build.op("Resize", "picture", "", scales))


def _upsample(build: Builder) -> str:
    return str(build.op("Upsample", "picture", build.constant([1, 1, SIDE, SIDE])))


def _upsample_of_old(build: Builder) -> str:
    return str(build.op("Upsample", "picture", scales=[1.0, 1.0, float(SIDE), float(SIDE)]))


def _transposed(build: Builder) -> str:
    weight = build.constant(np.ones((3, 1, 1, 1)))
    return str(build.op("ConvTranspose", "picture", weight, output_shape=[SIDE, SIDE]))


def _pad_of_old(build: Builder) -> str:
    return str(build.op("Pad", "picture", paddings=[0, 0, 0, 0, 0, 0, SIDE, SIDE]))


def _said_by(kind: str, place: int) -> Callable[[Builder], str]:
    """An operator whose input at `place` says how large its result becomes."""

    def giant(build: Builder) -> str:
        inputs = ["picture"] * place + [build.constant([SIDE, SIDE], int)]
        return str(build.op(kind, *inputs))

    giant.__name__ = f"_{kind}"
    return giant


def _written_as(field: str) -> Callable[[Builder], str]:
    """A size in one of the fields that hold numbers one by one."""

    def giant(build: Builder) -> str:
        kind = TensorProto.INT64 if field == "int64_data" else TensorProto.INT32
        value = TensorProto(data_type=kind, dims=[2])
        getattr(value, field).extend([SIDE, SIDE])
        return str(build.op("ConstantOfShape", build.op("Constant", value=value)))

    giant.__name__ = f"_{field}"
    return giant


GIANTS = [_expand, _expand_floats, _of_shape, _of_shape_constant, _tile, _resize]
GIANTS += [_resize_scales, _pad, _pads, _range, _random]
GIANTS += [_range_int32, _range_double, _range_from_below, _range_to_no_number]
GIANTS += [_range_of_constants, _range_of_floats, _scales_of_floats]
GIANTS += [_upsample, _upsample_of_old, _transposed, _pad_of_old]
GIANTS += [_said_by(kind, 0) for kind in ("BlackmanWindow", "HammingWindow", "HannWindow")]
GIANTS += [_said_by(kind, 1) for kind in ("CenterCropPad", "Col2Im", "OneHot")]
OLD = {_upsample_of_old: 7, _pad_of_old: 1}  # the opset that has them so
GIANTS += [_said_by("MaxUnpool", 2), _written_as("int64_data"), _written_as("int32_data")]


@pytest.mark.parametrize("giant", GIANTS)
def test_a_few_bytes_do_not_become_a_giant(tmp_path: Path, giant: Callable[[Builder], str]) -> None:
    build = Builder()
    last = build.op("Add", "picture", build.op("ReduceMax", giant(build), keepdims=0))
    path = tmp_path / "bad.onnx"
    path.write_bytes(build.model(last, opset=OLD.get(giant, 17)).SerializeToString())
    refused(path, "wanted constants to ask for up to")


def test_many_small_ones_are_added_up(tmp_path: Path) -> None:
    build = Builder()
    last = "picture"
    for _ in range(20):
        part = build.op("ConstantOfShape", build.constant([SIDE, SIDE // 20], int))
        last = build.op("Add", last, build.op("ReduceMax", part, keepdims=0))
    path = tmp_path / "bad.onnx"
    path.write_bytes(build.model(last).SerializeToString())
    refused(path, "wanted constants to ask for up to")


def test_a_giant_that_no_constant_tells_of_ends_in_a_sentence(tmp_path: Path) -> None:
    build = Builder()
    side = 30_000  # squared, 3.6 GB, by broadcasting
    column = build.op(
        "Add", build.op("ReduceMax", "picture", keepdims=0), build.constant([[0]] * side)
    )
    square = build.op("Add", column, build.constant([[0] * side]))
    last = build.op("Add", "picture", build.op("ReduceMax", square, keepdims=0))
    model = build.model(last)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(last, 1, build.shape))
    path = tmp_path / "broad.onnx"
    path.write_bytes(model.SerializeToString())
    backend = open_backend("onnxruntime", path)
    with pytest.raises(BackendFailure, match=r"wanted up to 2048 MB in all"):
        backend.infer(np.zeros(backend.input.shape, np.float32))


# --- chance --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_flipped_bytes_end_in_a_sentence_or_a_mask(whole: Path) -> None:
    refused, ran = flipped_bytes.opened("onnxruntime", whole)
    assert refused > 50 and ran > 50
