"""An operator that only moves values is kept in integers: the same answer, no float in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
pytest.importorskip("onnx", reason="the converters need it: pip install edge-seg[convert]")
import flatbuffers  # noqa: E402
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: E402

from edge_seg.converters.guards import float_operators  # noqa: E402
from edge_seg.converters.moves import (  # noqa: E402
    in_integers,
    with_channels_last,
    with_missing_turned,
)

KINDS = ("DEQUANTIZE", "DEPTH_TO_SPACE", "QUANTIZE", "RELU", "RESHAPE")


class Chain:
    """codes -> DEQUANTIZE -> DEPTH_TO_SPACE -> QUANTIZE -> codes, and what a test adds."""

    def __init__(self, *, scale: float = 0.5) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.codes = self.tensor((1, 2, 3, 4), scale=0.5)
        self.real = self.tensor((1, 2, 3, 4))
        self.moved = self.tensor((1, 4, 6, 1))
        self.answer = self.tensor((1, 4, 6, 1), scale=scale)
        for kind, source, target in (
            ("DEQUANTIZE", self.codes, self.real),
            ("DEPTH_TO_SPACE", self.real, self.moved),
            ("QUANTIZE", self.moved, self.answer),
        ):
            self.operator(kind, source, target)
        self.graph.inputs, self.graph.outputs = [self.codes], [self.answer]
        self.signature: Any = None

    def tensor(self, shape: tuple[int, ...], *, scale: float = 0.0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = f"t{len(self.graph.tensors)}", list(shape), 0
        tensor.type = schema.TensorType.INT8 if scale else schema.TensorType.FLOAT32
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [3]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, source: int, target: int) -> None:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = KINDS.index(kind), [source]
        operator.outputs = [target]
        if kind == "DEPTH_TO_SPACE":
            operator.builtinOptionsType = schema.BuiltinOptions.DepthToSpaceOptions
            operator.builtinOptions = schema.DepthToSpaceOptionsT()
            operator.builtinOptions.blockSize = 2
        self.graph.operators.append(operator)

    def sign(self) -> None:
        """Name the ends, as a converter does: "codes" and "mask"."""
        self.signature = schema.SignatureDefT()
        self.signature.signatureKey, self.signature.subgraphIndex = "serving_default", 0
        ends = []
        for name, index in (("codes", self.graph.inputs[0]), ("mask", self.graph.outputs[0])):
            end = schema.TensorMapT()
            end.name, end.tensorIndex = name, index
            ends.append(end)
        self.signature.inputs, self.signature.outputs = ends[:1], ends[1:]

    def content(self) -> bytes:
        model = schema.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [self.graph], [schema.BufferT()]
        model.operatorCodes = []
        for kind in KINDS:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = vars(schema.BuiltinOperator)[kind]
            code.version = 2 if kind == "DEPTH_TO_SPACE" else 1
            model.operatorCodes.append(code)
        model.signatureDefs = [self.signature] if self.signature else []
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def answer(content: bytes, codes: np.ndarray) -> np.ndarray[Any, Any]:
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], codes)
    interpreter.invoke()
    details = interpreter.get_output_details()[0]
    scale, zero = details["quantization"]
    return np.asarray(
        (scale or 1.0) * (interpreter.get_tensor(details["index"]).astype(float) - zero)
    )


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_codes_are_moved_and_mean_what_they_meant(scale: float, tmp_path: Path) -> None:
    before = Chain(scale=scale).content()
    after = in_integers(before)
    (tmp_path / "before").write_bytes(before)
    (tmp_path / "after").write_bytes(after)
    assert float_operators(tmp_path / "before") and not float_operators(tmp_path / "after")
    codes = np.arange(24, dtype=np.int8).reshape(1, 2, 3, 4)
    values = (codes.astype(float) - 3) * 0.5
    # TFLite's order: the four channels of a cell are its rows of two.
    wanted = values.reshape(1, 2, 3, 2, 2).transpose(0, 1, 3, 2, 4).reshape(1, 4, 6, 1)
    np.testing.assert_array_equal(answer(after, codes), wanted)


def test_what_something_else_reads_is_left_alone() -> None:
    seen_before, seen_behind, scaled = Chain(), Chain(), Chain(scale=0.25)
    shifted = Chain()
    shifted.graph.tensors[shifted.answer].quantization.zeroPoint = [5]
    shifted.operator("RELU", shifted.answer, shifted.tensor((1, 4, 6, 1), scale=0.5))
    seen_before.operator("RELU", seen_before.real, seen_before.tensor((1, 2, 3, 4)))
    seen_behind.graph.outputs.append(seen_behind.moved)
    scaled.operator("RELU", scaled.answer, scaled.tensor((1, 4, 6, 1), scale=0.25))
    for chain in (seen_before, seen_behind, scaled, shifted):
        assert in_integers(chain.content()) == chain.content()


def test_a_file_with_nothing_to_move_stays_as_it_is() -> None:
    chain = Chain()
    chain.graph.operators = chain.graph.operators[:1]
    chain.graph.outputs = [chain.real]
    assert in_integers(chain.content()) == chain.content()


@pytest.mark.parametrize("turned", [(1, 1, 4, 6), (1, 6, 4, 1), (1, 4, 6, 1)])
def test_a_mask_of_one_channel_is_not_turned_to_channels_first(turned: tuple[int, ...]) -> None:
    chain = Chain()
    chain.graph.operators.pop()
    mask = chain.tensor(turned)
    chain.operator("RESHAPE", chain.moved, mask)
    chain.graph.operators[-1].builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    chain.graph.operators[-1].builtinOptions = schema.ReshapeOptionsT()
    chain.graph.operators[-1].builtinOptions.newShape = list(turned)
    chain.graph.outputs = [mask]
    chain.sign()
    codes = np.random.default_rng(0).integers(-128, 128, (1, 2, 3, 4), dtype=np.int8)
    before, after = chain.content(), with_channels_last(chain.content())
    if turned == (1, 1, 4, 6):
        assert len(after) < len(before)
        np.testing.assert_array_equal(answer(after, codes)[..., 0], answer(before, codes)[:, 0])
        files = [Interpreter(model_content=content) for content in (before, after)]
        masks = [file.get_signature_runner()(codes=codes)["mask"] for file in files]
        np.testing.assert_array_equal(masks[1][..., 0], masks[0][:, 0])
        assert len({file.get_output_details()[0]["name"] for file in files}) == 1
    else:
        assert after == before


def _forgotten(*, name: str = "sum_nhwc_bridge", shape: tuple[int, ...] = (1, 4, 2, 3)) -> Chain:
    """What onnx2tf writes of a sum that an activation reads: the activation's input is missing."""
    chain = Chain()
    chain.graph.operators = chain.graph.operators[:1]  # codes -> real
    twin, missing = chain.tensor((1, 2, 3, 4)), chain.tensor(shape)
    chain.graph.tensors[twin].name, chain.graph.tensors[missing].name = name, "sum"
    answer = chain.tensor(shape)
    chain.operator("RELU", chain.real, twin)
    chain.operator("RELU", missing, answer)
    chain.graph.outputs = [answer]
    return chain


def test_a_tensor_that_was_forgotten_is_turned_from_its_twin() -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (1, 2, 3, 4), dtype=np.int8)
    wanted = np.maximum((codes.astype(float) - 3) * 0.5, 0).transpose(0, 3, 1, 2)
    content = _forgotten().content()
    with pytest.raises(RuntimeError, match="lacks data"):
        answer(content, codes)
    np.testing.assert_array_equal(answer(with_missing_turned(content), codes), wanted)


@pytest.mark.parametrize("changed", [{"name": "other"}, {"shape": (1, 2, 4, 3)}], ids=str)
def test_what_has_no_twin_stays_missing(changed: dict[str, Any]) -> None:
    content = _forgotten(**changed).content()
    assert with_missing_turned(content) == content


def test_a_file_that_lacks_nothing_stays_as_it_is() -> None:
    content = Chain().content()
    assert with_missing_turned(content) == content
