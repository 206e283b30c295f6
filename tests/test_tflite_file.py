"""TFLite files from outside: a damaged one is a sentence, never the end of the process."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the tiny network is written with its schema")

import flatbuffers  # noqa: E402
from ai_edge_litert import schema_py_generated as schema  # noqa: E402

from edge_seg.backends import open_backend, tflite  # noqa: E402
from edge_seg.backends.tflite_file import check_file  # noqa: E402
from edge_seg.errors import BackendFailure, BackendUnavailable  # noqa: E402
from tests import flipped_bytes, tiny_networks  # noqa: E402


@pytest.fixture(params=[False, True], ids=["float", "int8"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny_networks.save_tflite(tmp_path / "whole.tflite", quantized=request.param)


def changed(path: Path, change: Any) -> Path:
    """Write the file again with its model changed."""
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    bad = path.with_name("bad.tflite")
    bad.write_bytes(bytes(builder.Output()))
    return bad


def test_whole_files_are_let_through(whole: Path) -> None:
    check_file(whole)
    check_file(changed(whole, lambda model: None))


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(whole: Path, share: float) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BackendUnavailable, match=r"whole\.tflite: "):
        open_backend("tflite", whole)


def test_other_magic_is_refused(whole: Path) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[:4] + b"JUNK" + content[8:])
    with pytest.raises(BackendUnavailable, match="wanted a TFLite file, found other bytes"):
        open_backend("tflite", whole)


def _shape(model: Any) -> None:
    model.subgraphs[0].tensors[0].shape = [1, 100_000, 100_000, 3]


def _no_graph(model: Any) -> None:
    model.subgraphs = []


def _two_graphs(model: Any) -> None:
    model.subgraphs *= 2


def _index(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs[1] = 999


def _buffer(model: Any) -> None:
    model.subgraphs[0].tensors[1].buffer = len(model.buffers)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_shape, "wanted tensors of up to 256 MB"),
        (_no_graph, "wanted one graph, found 0"),
        (_two_graphs, "wanted one graph, found 2"),
        (_index, "wanted tensors 0.."),
        (_buffer, "wanted a tensor's buffer among"),
    ],
)
def test_what_the_library_would_trust_is_refused(whole: Path, change: Any, told: str) -> None:
    with pytest.raises(BackendUnavailable, match=rf"bad\.tflite: {told}"):
        open_backend("tflite", changed(whole, change))


def _set(path: str, value: Any) -> Any:
    """A change of one thing; path: as `tensors.0.type`, in the graph, or `model.` before it."""

    def change(model: Any) -> None:
        way = path.split(".")
        here = model if way[0] == "model" else model.subgraphs[0]
        way = way[1:] if way[0] == "model" else way
        for step in way[:-1]:
            here = here[int(step)] if step.isdigit() else getattr(here, step)
        setattr(here, way[-1], value)

    return change


def _made(
    code: int, ins: list[int], outs: list[int], scale: float = 0.02, *, field: str = "both"
) -> Any:
    """The first operator is another one; scale: of tensor 1, the first operator's result.

    field: of the two that hold the code, where it stands; old files have no other, new ones both.
    """

    def change(model: Any) -> None:
        kind, operator = model.operatorCodes[0], model.subgraphs[0].operators[0]
        kind.builtinCode = code if field in ("both", "builtinCode") else 0
        kind.deprecatedBuiltinCode = code if field != "builtinCode" else 0
        operator.inputs, operator.outputs = ins, outs
        model.subgraphs[0].operators = [operator]
        model.subgraphs[0].tensors[1].quantization.scale = np.array([scale], np.float32)

    return change


def _uint8_without_a_scale(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[1]
    tensor.type, tensor.quantization = schema.TensorType.UINT8, None


def _float_result(model: Any) -> None:
    """As a network ends whose output is float: the int8 of its input, unpacked."""
    _made(KINDS.DEQUANTIZE, [0], [1])(model)
    picture, result = model.subgraphs[0].tensors[:2]
    result.shape, result.type, result.quantization = picture.shape, schema.TensorType.FLOAT32, None


KINDS = schema.BuiltinOperator
PER_TERM = 1 / 127.5  # the scale of tensor 0, a sum's only term
HOSTILE = {
    "weights left out": (_set("operators.0.inputs", [0, -1, 4]), "tensors 0..6"),
    "no input": (_set("operators.0.inputs", []), "tensors 0..6, found none"),
    "no result": (_set("operators.0.outputs", []), "tensors 0..6, found none"),
    "the graph's input": (_set("inputs", [-1]), "tensors 0..6"),
    "the graph's output": (_set("outputs", [7]), "tensors 0..6"),
    "an operator of no kind": (_set("operators.0.opcodeIndex", 1), "an operator among 1 kinds"),
    "int8 without a scale": (_set("tensors.1.quantization", None), "a scale with every 8-bit"),
    "uint8 without a scale": (_uint8_without_a_scale, "a scale with every 8-bit"),
    "no zero point": (_set("tensors.1.quantization.zeroPoint", []), "a zero point per scale"),
    "sparse": (_set("tensors.3.sparsity", schema.SparsityParametersT()), "dense weights"),
    "weights elsewhere": (
        _set("model.externalBuffers", [schema.ExternalBufferT()]),
        "all weights inside the file",
    ),
    "weights in a group elsewhere": (
        _set("model.externalBufferGroups", [schema.ExternalBufferGroupT()]),
        "all weights inside the file",
    ),
    "a byte too large": (
        _set("tensors.0.shape", [1, 1 << 14, (1 << 14) + 1, 1]),
        "tensors of up to 256 MB",
    ),
    "nine sides": (_set("tensors.0.shape", [1] * 9), "tensors of up to 256 MB"),
    "a side below 0": (_set("tensors.0.shape", [1, -24, 32, 3]), "tensors of up to 256 MB"),
    "float from int8": (_set("tensors.1.type", 0), "8-bit results of an 8-bit operator"),
    "unpacked in another shape": (_made(KINDS.QUANTIZE, [0], [1]), "a tensor converted in"),
    "and to float": (_made(KINDS.DEQUANTIZE, [0], [1]), "a tensor converted in"),
    "said in the old field": (
        _made(KINDS.QUANTIZE, [0], [1], field="deprecatedBuiltinCode"),
        "a tensor converted in",
    ),
    "said in the new field": (
        _made(KINDS.QUANTIZE, [0], [1], field="builtinCode"),
        "a tensor converted in",
    ),
    "a sum of a small term and a large one": (
        _made(KINDS.ADD, [1, 0], [1], PER_TERM / 2.0**19),
        "a sum's scale near",
    ),
    "a sum": (_made(KINDS.ADD, [0, 0], [1], PER_TERM / 2.0**19), "a sum's scale near"),
    "a difference": (_made(KINDS.SUB, [0, 0], [1], PER_TERM / 2.0**19), "a sum's scale near"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_ends_the_process_is_refused_in_words(tmp_path: Path, name: str) -> None:
    change, told = HOSTILE[name]
    path = changed(tiny_networks.save_tflite(tmp_path / "whole.tflite", quantized=True), change)
    with pytest.raises(BackendUnavailable, match=rf"bad\.tflite: wanted {told}"):
        check_file(path)


@pytest.mark.parametrize(
    "change",
    [
        _set("operators.0.inputs", [0, 3, -1]),  # no bias
        _set("tensors.0.shape", [1] * 8),
        _set("tensors.0.shape", [1, 1 << 14, 1 << 14, 1]),
        _float_result,
        _made(KINDS.ADD, [0, 0], [1], PER_TERM / 2.0**17),
        _made(KINDS.MUL, [0, 0], [1], PER_TERM / 2.0**19),
        _made(KINDS.QUANTIZE, [0], [0]),
    ],
)
def test_what_only_looks_so_is_let_through(tmp_path: Path, change: Any) -> None:
    whole = tiny_networks.save_tflite(tmp_path / "whole.tflite", quantized=True)
    check_file(changed(whole, change))


def test_a_file_cut_anywhere_is_a_sentence(tmp_path: Path) -> None:
    path = tiny_networks.save_tflite(tmp_path / "whole.tflite", quantized=True)
    content = path.read_bytes()
    for length in range(0, len(content), 5):
        path.write_bytes(content[:length])
        try:
            check_file(path)  # the weights are not looked at: cut in them it may pass
        except BackendUnavailable as error:
            assert "wanted" in str(error), length


def _points_before_the_file(content: bytearray) -> None:
    """A table finds its list of fields by a distance, which may be any."""
    (root,) = struct.unpack_from("<I", content, 0)
    struct.pack_into("<i", content, root, 0x7FFF_FFFF)


def _ends_behind_the_file(content: bytearray) -> None:
    """A list of no more numbers than the file could hold, one of which lies behind its end."""
    shape = struct.pack("<5I", 4, 1, tiny_networks.HEIGHT, tiny_networks.WIDTH, 3)
    at = content.index(shape)
    struct.pack_into("<I", content, at, (len(content) - at) // 4)


@pytest.mark.parametrize("damage", [_points_before_the_file, _ends_behind_the_file])
def test_what_points_out_of_the_file_is_refused(
    whole: Path, damage: Callable[[bytearray], None]
) -> None:
    content = bytearray(whole.read_bytes())
    damage(content)
    whole.write_bytes(content)
    with pytest.raises(BackendUnavailable, match="found one that points to byte"):
        check_file(whole)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 1e-38])
def test_scales_that_are_no_scales_are_refused(tmp_path: Path, scale: float) -> None:
    path = tiny_networks.save_tflite(tmp_path / "whole.tflite", quantized=True)

    def change(model: Any) -> None:
        model.subgraphs[0].tensors[0].quantization.scale = np.array([scale], np.float32)

    with pytest.raises(BackendUnavailable, match="wanted scales of"):
        open_backend("tflite", changed(path, change))


class _Scales(schema.QuantizationParametersT):  # type: ignore[misc]
    """Written once, wherever it is pointed to."""

    at = 0

    def Pack(self, builder: Any) -> int:
        self.at = self.at or super().Pack(builder)
        return self.at


class _Operator(schema.OperatorT):  # type: ignore[misc]
    """Written once, wherever it is pointed to."""

    at = 0

    def Pack(self, builder: Any) -> int:
        self.at = self.at or super().Pack(builder)
        return self.at


def _one_list_of_scales(model: Any) -> None:
    tensor = model.subgraphs[0].tensors[0]
    tensor.quantization = _Scales()
    tensor.quantization.scale = np.full(10_000, 0.5, np.float32)
    tensor.quantization.zeroPoint = np.zeros(10_000, np.int64)
    model.subgraphs[0].tensors.extend([tensor] * 1000)


def _one_list_of_inputs(model: Any) -> None:
    operator = _Operator()
    operator.inputs, operator.outputs = [0] * 10_000, [1]
    model.subgraphs[0].operators.extend([operator] * 1000)


@pytest.mark.parametrize("change", [_one_list_of_scales, _one_list_of_inputs])
def test_a_list_that_many_point_to_takes_neither_memory_nor_time(
    tmp_path: Path, change: Any
) -> None:
    path = tiny_networks.save_tflite(tmp_path / "whole.tflite", quantized=True)
    bad = changed(path, change)
    assert bad.stat().st_size < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(BackendUnavailable, match=r"bad\.tflite: wanted up to \d+ numbers"):
            open_backend("tflite", bad)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


# --- what only the library can tell --------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set("outputs", [1, 2]), "one input and one output, found 1 and 2"),
        (_set("inputs", [0, 1]), "one input and one output, found 2 and 1"),
    ],
)
def test_a_network_of_several_ends_is_refused(tmp_path: Path, change: Any, told: str) -> None:
    path = changed(tiny_networks.save_tflite(tmp_path / "whole.tflite"), change)
    with pytest.raises(BackendUnavailable, match=rf"bad\.tflite: wanted {told}"):
        open_backend("tflite", path)


def test_a_batch_of_two_is_refused(whole: Path) -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors[:3]:
            tensor.shape[0] = 2

    with pytest.raises(BackendUnavailable, match=r"bad\.tflite: .*batch 1"):
        open_backend("tflite", changed(whole, change))


def test_tensors_of_more_memory_than_there_may_be_are_refused(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, values = tiny_networks.HEIGHT * tiny_networks.WIDTH, tiny_networks.KERNEL.size + 4
    numbers, biases = pixels * 3 + pixels // 4 * 5 + values, 5
    taken = {"float": 4, "int8": 1}[_kind(whole)] * numbers + 4 * biases
    monkeypatch.setattr(tflite, "MAX_MEMORY", taken)
    open_backend("tflite", whole).close()
    monkeypatch.setattr(tflite, "MAX_MEMORY", taken - 1)
    with pytest.raises(BackendUnavailable, match=r"whole\.tflite: wanted tensors of up to 0 MB"):
        open_backend("tflite", whole)


def _kind(path: Path) -> str:
    return "int8" if open_backend("tflite", path).input.quantized else "float"


def _looks_up_a_row_that_is_not_there(model: Any) -> None:
    graph, index, row = model.subgraphs[0], schema.TensorT(), schema.TensorT()
    held, code, options = schema.BufferT(), schema.OperatorCodeT(), schema.GatherOptionsT()
    held.data = np.frombuffer(np.int32(tiny_networks.HEIGHT).tobytes(), np.uint8)
    index.name, index.shape, index.type = "index", [1], schema.TensorType.INT32
    index.buffer = len(model.buffers)
    row.name, row.shape, row.type = "row", [1, 1, tiny_networks.WIDTH, 3], schema.TensorType.FLOAT32
    code.builtinCode = code.deprecatedBuiltinCode = KINDS.GATHER
    options.axis = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 1, [0, 7], [8]
    operator.builtinOptionsType = schema.BuiltinOptions.GatherOptions
    operator.builtinOptions = options
    model.buffers.append(held)
    model.operatorCodes.append(code)
    graph.tensors += [index, row]
    graph.operators, graph.outputs = [operator], [8]


def test_an_operator_that_fails_while_running_is_a_failure_in_its_words(tmp_path: Path) -> None:
    path = tiny_networks.save_tflite(tmp_path / "whole.tflite")
    backend = open_backend("tflite", changed(path, _looks_up_a_row_that_is_not_there))
    with pytest.raises(BackendFailure, match="inference failed: gather index out of bounds"):
        backend.infer(np.zeros(backend.input.shape, np.float32))


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (SystemError("<built-in method> returned NULL without setting an exception"), "numpy<2"),
        (ValueError("_ARRAY_API not found"), "numpy<2"),
        (ValueError("Didn't find op for builtin opcode 'GELU' version '1'"), "convert again"),
    ],
)
def test_what_a_library_that_cannot_open_it_needs_is_said(
    whole: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    """The first two are what tflite-runtime says beside NumPy 2, the last an older one's."""

    def make(**options: object) -> None:
        raise error

    monkeypatch.setattr(tflite, "load_interpreter", lambda: (make, "tflite-runtime 2.14.0"))
    with pytest.raises(BackendUnavailable, match=rf"whole\.tflite: .*{remedy}") as refused:
        open_backend("tflite", whole)
    assert str(error) in str(refused.value)
    assert sum(word in str(refused.value) for word in ("numpy<2", "convert again")) == 1


@pytest.mark.slow
def test_flipped_bytes_end_in_a_sentence_or_a_mask(whole: Path) -> None:
    refused, ran = flipped_bytes.opened("tflite", whole, first=8)
    assert refused > 50 and ran > 50
