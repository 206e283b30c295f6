"""Guards and scales: what a quantizer does not say is said, and a dead channel survives it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("ai_edge_quantizer")
litert = pytest.importorskip("ai_edge_litert.interpreter")

from numpy.typing import NDArray  # noqa: E402

from edge_seg.converters import guards, scales, tflite  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.flatbuffer import TfliteFile, bias_of  # noqa: E402
from edge_seg.errors import ConversionError, QualityRefused  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402
from tests.tiny_tflite import save_conv  # noqa: E402

SIZE = (8, 12)
BIAS = np.array([0.1, 1.5, -0.3, 0.0], dtype=np.float32)


def weights() -> NDArray[np.float32]:
    """(4, 3, 3, 3), out-y-x-in."""
    return (np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * 0.2).astype(np.float32)


def pictures(count: int = 6) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    return [random.uniform(-1, 1, (1, *SIZE, 3)).astype(np.float32) for _ in range(count)]


def answer(path: Path, picture: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Return the dequantized answer (h, w, channels) and one step of its scale (0 for float)."""
    interpreter = litert.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    eats, returns = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = eats["quantization"]
    if scale:
        picture = np.clip(np.rint(picture / scale + zero), -128, 127)
    interpreter.set_tensor(eats["index"], picture.astype(eats["dtype"]))
    interpreter.invoke()
    found = interpreter.get_tensor(returns["index"])[0].astype(np.float64)
    scale, zero = returns["quantization"]
    return ((found - zero) * scale if scale else found), float(scale)


# --- dead layers ---------------------------------------------------------------------------------


def test_a_dead_layer_is_named() -> None:
    b = Builder()
    x = b.conv(b.op("Relu", b.conv("picture", 3, 4, 3)), 4, 4)
    b.constants[b.nodes[-1].input[1]] *= np.float32(1e-8)
    named = guards.dead_layers(b.model(b.conv(x, 4, 2)))
    assert len(named) == 1 and named[0].startswith("Conv_2 (max|w| ")


def test_a_dead_product_of_matrices_is_named_too() -> None:
    b = Builder()
    model = b.model(b.op("MatMul", "picture", b.constant(np.full((16, 4), 1e-9))))
    assert guards.dead_layers(model) == ["MatMul_0 (max|w| 1.0e-09)"]


def test_v2_has_two_dead_layers_and_v1_none(models_dir: Path) -> None:
    """The first squeeze-excite block of the released V2-Lite is dead."""
    v1 = reader.load(models_dir / "pphumanseg_v1_lite_portrait_398x224_softmax.onnx")
    v2 = reader.load(models_dir / "pphumanseg_v2_lite_portrait_256x144_softmax.onnx")
    assert guards.dead_layers(v1) == []
    assert [line.split()[0] for line in guards.dead_layers(v2)] == ["p2o.Conv.12", "p2o.Conv.13"]


# --- biases --------------------------------------------------------------------------------------


def overflowing(
    folder: Path, *, kind: str = "CONV_2D", factor: float = 1e-27, bias: float = 1.5
) -> tuple[Path, Path]:
    """Return (float, int8) files of a layer with one dead channel, as the quantizer leaves it."""
    weight, biases = weights(), BIAS.copy()
    biases[1] = bias
    if kind == "DEPTHWISE_CONV_2D":
        weight, biases = np.ascontiguousarray(weight[:1]), biases[:3]
        weight[..., 1] *= factor
    else:
        weight[1] *= factor
    source, made = folder / "float.tflite", folder / "int8.tflite"
    save_conv(source, weight, biases, SIZE, kind=kind)
    made.write_bytes(tflite._quantized(source, pictures(), None, tflite.quiet))
    return source, made


def test_an_overflowed_bias_is_refused_and_named(tmp_path: Path) -> None:
    source, made = overflowing(tmp_path)
    found, step = answer(made, pictures()[0])
    truth, _ = answer(source, pictures()[0])
    assert np.abs(found - truth)[:, :, 1].max() > 50 * step, "the channel is not erased: no test"
    with pytest.raises(QualityRefused, match=r"CONV_2D answer \(1 of 4 biases, 1.5 became"):
        guards.check_int8(made, source)


def test_widened_scales_bring_the_dead_channel_back(tmp_path: Path) -> None:
    source, made = overflowing(tmp_path)
    content = bytearray(made.read_bytes())
    said = scales.widen_scales(content, source)
    assert said == ["CONV_2D answer: 1 channel(s) with weights of ~0"]
    made.write_bytes(content)
    assert guards.check_int8(made, source) == []
    picture = pictures()[0]
    found, step = answer(made, picture)
    truth, _ = answer(source, picture)
    np.testing.assert_allclose(found[:, :, 1], truth[:, :, 1], atol=step)


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"])
@pytest.mark.parametrize("factor", [0.0, 1e-27, 1e-6])
def test_every_kind_of_layer_is_mended_in_its_own_channel_alone(
    tmp_path: Path, kind: str, factor: float
) -> None:
    source, made = overflowing(tmp_path, kind=kind, factor=factor)
    content = bytearray(made.read_bytes())
    assert scales.widen_scales(content, source) == [
        f"{kind} answer: 1 channel(s) with weights of ~0"
    ]
    made.write_bytes(content)
    assert guards.check_int8(made, source) == []
    for picture in pictures():
        found, step = answer(made, picture)
        truth = np.clip(answer(source, picture)[0], found.min(), found.max())
        np.testing.assert_allclose(found, truth, atol=3 * step)
    (real,), (integer,) = (list(TfliteFile(path).operators()) for path in (source, made))
    weight, codes = real.inputs[1], integer.inputs[1]
    truth = TfliteFile(source).values(weight).reshape(weight.shape)
    kept = TfliteFile(made).values(codes).reshape(weight.shape).astype(np.float64)
    steps = np.asarray(codes.quantization.scale)
    along = (1, 1, 1, -1) if kind == "DEPTHWISE_CONV_2D" else (-1, 1, 1, 1)
    steps = steps.reshape(along)
    assert (np.abs(kept * steps - truth) <= 0.51 * steps).all(), "a weight is not its nearest code"


def test_a_bias_far_below_a_step_of_the_answer_keeps_a_ratio_that_xnnpack_takes(
    tmp_path: Path,
) -> None:
    """Below 2^-32 of the answer's scale XNNPACK leaves the layer to slower kernels."""
    source, made = overflowing(tmp_path, bias=1e-4)
    content = bytearray(made.read_bytes())
    assert scales.widen_scales(content, source)
    made.write_bytes(content)
    (conv,) = TfliteFile(made).operators()
    before, weight, behind = (
        np.asarray(end.quantization.scale, np.float64)
        for end in (conv.inputs[0], conv.inputs[1], conv.outputs[0])
    )
    assert (before * weight / behind).min() > 2.0**-32


@pytest.mark.parametrize("share", [1.0, 1e-4])
def test_healthy_scales_are_not_touched(tmp_path: Path, share: float) -> None:
    """Also where a bias is smaller than its own step: that is rounding, and no fault."""
    source, made = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    save_conv(source, weights(), BIAS * np.float32(share), SIZE)
    assert tflite.to_int8(source, made, tensors=pictures()) == []
    content = bytearray(made.read_bytes())
    assert scales.widen_scales(content, source) == []
    assert bytes(content) == made.read_bytes()


@pytest.mark.parametrize(("which", "share"), [(0, 2.0), (1, 0.02), (1, -1.0)])
def test_a_bias_changed_afterwards_is_noticed(tmp_path: Path, which: int, share: float) -> None:
    """Doubled, by a fiftieth, and erased."""
    source, made = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    save_conv(source, weights(), BIAS, SIZE)
    tflite.to_int8(source, made, tensors=pictures())
    assert guards.check_int8(made, source) == []
    file = TfliteFile(made)
    bias = next(b for b in map(bias_of, file.operators()) if b is not None)
    codes = file.values(bias)
    content = made.read_bytes()
    old = struct.pack("<4i", *codes)
    assert content.count(old) == 1
    changed = codes.copy()
    changed[which] += round(share * codes[which])
    made.write_bytes(content.replace(old, struct.pack("<4i", *changed)))
    with pytest.raises(QualityRefused, match="CONV_2D answer"):
        guards.check_int8(made, source)


# --- what is left in float -----------------------------------------------------------------------


def test_a_float_file_has_no_integer_ends(tmp_path: Path) -> None:
    source = tmp_path / "float.tflite"
    save_conv(source, weights(), BIAS, SIZE)
    with pytest.raises(ConversionError, match="'picture': wanted an int8 input.*found float32"):
        guards.check_integer_ends(source)
    assert guards.float_operators(source) == ["CONV_2D answer"]


def test_an_operator_left_in_float_is_named(tmp_path: Path) -> None:
    """Quantized ends around a float convolution, as the quantizer makes where it has no kernel."""
    from ai_edge_quantizer import qtyping, quantizer

    source, made = tmp_path / "float.tflite", tmp_path / "mixed.tflite"
    save_conv(source, weights(), BIAS, SIZE)
    worker = quantizer.Quantizer(str(source))
    names: Any = qtyping.TFLOperationName
    for end in (names.INPUT, names.OUTPUT):
        worker.add_static_config(
            regex=".*", operation_name=end, activation_num_bits=8, weight_num_bits=8
        )
    key, name, _ = tflite._signature(source)
    ranges = worker.calibrate({key: [{name: p} for p in pictures()]}, num_threads=1)
    made.write_bytes(bytes(worker.quantize(ranges, enable_progress_report=False).quantized_model))
    assert guards.check_int8(made, source) == ["CONV_2D answer"]
