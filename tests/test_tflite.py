"""TFLite artifacts: int8 from float (a hand-made file), and both official networks end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("ai_edge_quantizer")
litert = pytest.importorskip("ai_edge_litert.interpreter")

from numpy.typing import NDArray  # noqa: E402
from onnx import ModelProto  # noqa: E402

from edge_seg.backends import open_backend  # noqa: E402
from edge_seg.bundle import ModelBundle, describe  # noqa: E402
from edge_seg.calibration.dataset import labelled_pairs  # noqa: E402
from edge_seg.calibration.frames import gather  # noqa: E402
from edge_seg.converters import guards, tflite  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.converters.rewrites import simplify  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.evaluation import evaluate  # noqa: E402
from edge_seg.pixels import Codec, input_table, sigmoid  # noqa: E402
from edge_seg.segmenter import open_artifact  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec  # noqa: E402
from tests.tiny_onnx import Builder, random_picture, run  # noqa: E402
from tests.tiny_tflite import save_conv  # noqa: E402

SIZE = (8, 12)
LOGIT = OutputSpec("logit", 0)


@pytest.fixture
def float_file(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    weight = (random.normal(size=(1, 3, 3, 3)) * 0.3).astype(np.float32)
    save_conv(tmp_path / "float.tflite", weight, np.array([0.2], dtype=np.float32), SIZE)
    return tmp_path / "float.tflite"


def tensors(count: int = 8) -> list[NDArray[np.float32]]:
    random = np.random.default_rng(1)
    return [random.uniform(-1, 1, (1, *SIZE, 3)).astype(np.float32) for _ in range(count)]


# --- int8 of a hand-made file --------------------------------------------------------------------


def test_int8_agrees_with_float_within_steps(float_file: Path, tmp_path: Path) -> None:
    made = tmp_path / "int8.tflite"
    tflite.to_int8(float_file, made, tensors=tensors(), input=InputSpec(*SIZE))
    real, integer = open_backend("tflite", float_file), open_backend("tflite", made)
    spec = InputSpec(*SIZE)
    codecs = [Codec(spec, LOGIT, eats=b.input, returns=b.output) for b in (real, integer)]
    picture = np.random.default_rng(3).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    truth = np.asarray(real.infer(codecs[0].encode(picture)))
    codes = np.asarray(integer.infer(codecs[1].encode(picture)))
    step = integer.output.scale
    found = step * (codes.astype(np.float64) - integer.output.zero_point)
    ends = step * (np.array([-128, 127]) - integer.output.zero_point)
    # Half a step of input and of output, and what the 27 weights' rounding can add.
    np.testing.assert_allclose(found, np.clip(truth, *ends), atol=3 * step)


@pytest.mark.parametrize(
    ("mean", "std"), [((0.5,) * 3, (0.5,) * 3), ((0.0,) * 3, (1.0,) * 3), ((0.5,) * 3, (0.25,) * 3)]
)
def test_every_pixel_level_has_its_own_code(
    float_file: Path,
    tmp_path: Path,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    """Whatever the calibration pictures held: here they are all dark."""
    spec = InputSpec(*SIZE, mean=mean, std=std)
    low = (0 - mean[0]) / std[0]
    dark = [np.full((1, *SIZE, 3), low + 0.01 * n, dtype=np.float32) for n in range(4)]
    made = tmp_path / "int8.tflite"
    tflite.to_int8(float_file, made, tensors=dark, input=spec)
    table = input_table(spec, open_backend("tflite", made).input)
    assert sorted(table[:, 0].tolist()) == list(range(-128, 128))


def test_channels_of_different_ranges_share_one_that_holds_them_all() -> None:
    """ImageNet's: -2.12 is the darkest red and 2.64 the brightest blue."""
    spec = InputSpec(*SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    low, high = tflite.pixel_range(spec)
    step = (high - low) / 255
    assert step == pytest.approx(((1 - 0.406) / 0.225 + 0.485 / 0.229) / 255)
    assert abs(low + 0.485 / 0.229) <= step and abs(high - (1 - 0.406) / 0.225) <= step
    assert low / step == pytest.approx(round(low / step), abs=1e-6), "0 is a code"


def test_the_answer_s_range_is_the_mean_of_the_pictures_ranges(
    float_file: Path, tmp_path: Path
) -> None:
    """Neither the last picture's nor that of the loudest."""
    samples = [
        (t * k).astype(np.float32) for t, k in zip(tensors(4), (1, 0.1, 0.5, 0.2), strict=True)
    ]
    tflite.to_int8(float_file, tmp_path / "int8.tflite", tensors=samples)
    real = open_backend("tflite", float_file)
    answers = [np.asarray(real.infer(sample)) for sample in samples]
    low, high = (float(np.mean([end(a) for a in answers])) for end in (np.min, np.max))
    made = open_backend("tflite", tmp_path / "int8.tflite").output
    assert made.scale == pytest.approx((high - low) / 255, rel=0.01)
    assert made.scale * (-128 - made.zero_point) == pytest.approx(low, abs=made.scale)


def test_a_channel_that_training_switched_off_is_mended_and_said(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[2] *= 1e-27
    source = tmp_path / "float.tflite"
    save_conv(source, weight, np.array([0.1, -0.2, 1.5, 0.0], np.float32), SIZE)
    said = tflite.to_int8(source, tmp_path / "int8.tflite", tensors=tensors())
    assert said == ["CONV_2D answer: 1 channel(s) with weights of ~0"]


def test_the_order_of_the_pictures_does_not_matter(float_file: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.tflite", tmp_path / "two.tflite"
    samples = [t * scale for t, scale in zip(tensors(), np.linspace(0.2, 1, 8), strict=True)]
    samples = [s.astype(np.float32) for s in samples]
    tflite.to_int8(float_file, one, tensors=samples)
    tflite.to_int8(float_file, two, tensors=samples[::-1])
    scales = [open_backend("tflite", path).output.scale for path in (one, two)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)


def test_progress_counts_the_pictures(float_file: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    tflite.to_int8(
        float_file,
        tmp_path / "int8.tflite",
        tensors=tensors(5),
        progress=lambda *step: seen.append(step),
    )
    assert [s for s in seen if s[0] == "calibrating"] == [
        ("calibrating", n, 5) for n in range(1, 6)
    ]


def test_the_quantizer_says_nothing_of_its_own(
    float_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tflite.to_int8(float_file, tmp_path / "int8.tflite", tensors=tensors(2))
    said = capfd.readouterr()
    assert said.out == "" and "Calibration" not in said.err and "it/s" not in said.err


def test_nothing_to_calibrate_with_is_refused(float_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="wanted calibration tensors, found none"):
        tflite.to_int8(float_file, tmp_path / "int8.tflite", tensors=[])


def test_the_operator_that_the_quantizer_stops_at_is_named(
    float_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own words are of ranks of scales; a MAXIMUM with a constant is one it fails at."""

    def materialize_maximum(*given: object) -> bytes:
        raise ValueError("Ranks of scales (5) and zps (5) must be the same")

    monkeypatch.setattr(tflite, "_quantized", materialize_maximum)
    with pytest.raises(ConversionError, match=r"Ranks of scales.*; MAXIMUM, as it stands"):
        tflite.to_int8(float_file, tmp_path / "int8.tflite", tensors=tensors(2))


@pytest.mark.parametrize("bad", [np.float64, np.nan, "shape"])
def test_wrong_tensors_are_refused_and_nothing_is_written(
    float_file: Path, tmp_path: Path, bad: object
) -> None:
    sample = tensors(1)[0]
    wrong = (
        sample.astype(np.float64)
        if bad is np.float64
        else sample[0]
        if bad == "shape"
        else np.full_like(sample, np.nan)
    )
    with pytest.raises(ConversionError, match="calibration tensor 1: wanted finite float32"):
        tflite.to_int8(float_file, tmp_path / "int8.tflite", tensors=[sample, wrong])
    assert [p.name for p in tmp_path.iterdir()] == ["float.tflite"]


def test_tensors_of_another_size_are_an_error_in_words(float_file: Path, tmp_path: Path) -> None:
    other = np.zeros((1, 5, 5, 3), dtype=np.float32)
    with pytest.raises(ConversionError, match="wanted"):
        tflite.to_int8(float_file, tmp_path / "int8.tflite", tensors=[other])
    assert [p.name for p in tmp_path.iterdir()] == ["float.tflite"]


# --- through onnx2tf -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("last", ["conv", "resize", "relu6", "difference"])
def test_float_tflite_answers_as_the_onnx_does(tmp_path: Path, last: str) -> None:
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 8, 3, strides=[2, 2]))
    x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = b.conv(b.shuffle(x, (1, 8, 3, 4), 2), 8, 8, 3, group=8)
    x = b.conv(x, 8, 1, 1)
    if last == "resize":
        x = b.upsample(x, 12, 16, 1)
    if last == "relu6":
        x = b.conv(b.op("Clip", x, b.constant(0.0), b.constant(6.0)), 1, 1, 1)
    if last == "difference":  # of two classes that end in Relu
        pair = b.op("Relu", b.conv(x, 1, 2, 1))
        background, person = b.op("Split", pair, b.constant([1, 1], np.int64), outputs=2, axis=1)
        x = b.op("Sub", person, background)
    model, _ = simplify(single_logit(b.model(x), LOGIT))
    path = tmp_path / "float.tflite"
    tflite.to_float(model, path)
    backend = open_backend("tflite", path)
    picture = random_picture(model)
    found = np.asarray(backend.infer(np.ascontiguousarray(picture.transpose(0, 2, 3, 1))))
    truth = run(b.model(x), picture)
    np.testing.assert_allclose(found[..., 0], truth[:, 0], atol=1e-5)


def same_as_onnx(folder: Path, original: ModelProto, *, atol: float, rtol: float) -> None:
    """Convert a network to float TFLite and hold its answer against ONNX Runtime's."""
    path = folder / "float.tflite"
    tflite.to_float(simplify(original)[0], path)
    picture = random_picture(original)
    backend = open_backend("tflite", path)
    found = np.asarray(backend.infer(np.ascontiguousarray(picture.transpose(0, 2, 3, 1))))
    np.testing.assert_allclose(found[..., 0], run(original, picture)[:, 0], atol=atol, rtol=rtol)


def float_and_int8_masks(folder: Path, model: ModelProto) -> list[np.ndarray]:
    """Convert a network of 12x16 to float and int8 TFLite; return both masks of a picture."""
    source, made = folder / "float.tflite", folder / "int8.tflite"
    tflite.to_float(model, source)
    pictures = [random_picture(model, seed).transpose(0, 2, 3, 1) for seed in range(8)]
    tflite.to_int8(source, made, tensors=[np.ascontiguousarray(p) for p in pictures])
    spec = InputSpec(12, 16, mean=(0.5,) * 3, std=(0.5,) * 3)
    picture = np.random.default_rng(9).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    masks = []
    for path in (source, made):
        backend = open_backend("tflite", path)
        codec = Codec(spec, LOGIT, eats=backend.input, returns=backend.output)
        masks.append(np.asarray(codec.decode(backend.infer(codec.encode(picture)))))
    return masks


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["Sigmoid", "HardSigmoid"])
def test_an_activation_before_the_convolution_answers_as_the_onnx_does(
    tmp_path: Path, activation: str
) -> None:
    """A sum that a SiLU or a hard swish reads, too: onnx2tf left its input missing in the file."""
    b = Builder((1, 3, 24, 32))
    x = b.op("Relu", b.conv("picture", 3, 8, 3, strides=[2, 2]))
    x = b.op("Add", x, b.conv(x, 8, 8, 3))
    x = b.op("Add", x, b.conv(b.op("Mul", x, b.op(activation, x)), 8, 8, 3))
    original = b.model(b.conv(x, 8, 1, 1))
    same_as_onnx(tmp_path, original, atol=1e-4, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("joined", ["concatenated", "multiplied"])
def test_halves_of_a_square_map_answer_as_the_onnx_does(tmp_path: Path, joined: str) -> None:
    """onnx2tf cut the width in two, and turned the answer to channels-first."""
    b = Builder((1, 3, 32, 32))
    x = b.op("Relu", b.conv(b.conv("picture", 3, 12, 3, strides=[2, 2]), 12, 12, 3, strides=[2, 2]))
    half, other = b.channels(x, 0, 6), b.channels(x, 6, 12)
    if joined == "concatenated":
        x = b.op("Concat", b.conv(half, 6, 6, 3), other, axis=1)
    else:
        x = b.op("Mul", half, other)
        x = b.op("Concat", x, x, axis=1)
    original = b.model(b.upsample(b.conv(x, 12, 1), 32, 32, 1))
    same_as_onnx(tmp_path, original, atol=2e-4, rtol=1e-5)


def centred(b: Builder, x: str, axes: list[int]) -> str:
    """x minus its mean, over its deviation, as LayerNorm is exported."""
    away = b.op("Sub", x, b.op("ReduceMean", x, axes=axes))
    variance = b.op("ReduceMean", b.op("Mul", away, away), axes=axes)
    deviation = b.op("Sqrt", b.op("Add", variance, b.constant(1e-5)))
    return str(b.op("Mul", b.op("Div", away, deviation), b.constant(np.ones((8, 1, 1)))))


def normalised(b: Builder, x: str, kind: str) -> str:
    """Eight channels of 12 x 16, each (group) of them brought to a deviation of 1."""
    if kind == "layer":
        return centred(b, x, [1])
    scale, shift = (b.constant(np.full(8, value)) for value in (1.0, 0.1))
    if kind == "instance":
        return str(b.op("InstanceNormalization", x, scale, shift))
    whole, grouped = (b.constant(shape, np.int64) for shape in ([1, 8, 12, 16], [1, 4, -1]))
    ones, zeros = (b.constant(np.full(4, value)) for value in (1.0, 0.0))
    inner = b.op("InstanceNormalization", b.op("Reshape", x, grouped), ones, zeros)
    wide = b.constant(np.ones((8, 1, 1)))
    return str(b.op("Mul", b.op("Reshape", inner, whole), wide))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["instance", "group", "layer"])
def test_normalisations_of_the_picture_by_itself_keep_their_answer_in_int8(
    tmp_path: Path, kind: str
) -> None:
    """Variances that differ a hundredfold: in int8 the small ones were 0, or far from right."""
    b = Builder()
    x = b.conv("picture", 3, 8, 3)
    loudness = 10.0 ** -np.repeat(np.arange(4) / 2.4, 2).reshape(8, 1, 1)
    if kind == "layer":  # over the channels: here the places differ
        x, loudness = b.op("Relu", x), np.linspace(0.05, 1, 16).reshape(1, 1, 16)
    x = normalised(b, b.op("Mul", x, b.constant(loudness)), kind)
    model, _ = simplify(b.model(b.conv(x, 8, 1, 3)))
    masks = float_and_int8_masks(tmp_path, model)
    assert np.abs(masks[1].astype(np.float64) - masks[0]).mean() < 0.03


@pytest.mark.slow
def test_a_bicubic_resize_keeps_its_answer_in_int8(tmp_path: Path) -> None:
    """Products with a constant matrix in front, to which LiteRT answers 0 in int8."""
    b = Builder()
    x = b.op("Relu", b.conv("picture", 3, 8, 3, strides=[2, 2]))
    sizes = b.constant([1, 8, 12, 16], np.int64)
    half = {"coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75}
    x = b.op("Resize", x, "", "", sizes, mode="cubic", **half)
    model, _ = simplify(b.model(b.conv(x, 8, 1, 3)))
    masks = float_and_int8_masks(tmp_path, model)
    assert np.ptp(masks[0]) > 0.5
    assert np.abs(masks[1].astype(np.float64) - masks[0]).mean() < 0.03


@pytest.mark.slow
def test_an_operator_that_tflite_lacks_is_refused_in_words(tmp_path: Path) -> None:
    b = Builder()
    regions = b.constant([[0, 0, 0, 5, 5]])
    pooled = b.op("MaxRoiPool", "picture", regions, pooled_shape=[12, 16])
    with pytest.raises(ConversionError, match="wanted a TFLite file that LiteRT can run"):
        tflite.to_float(b.model(b.conv(pooled, 3, 1, 3)), tmp_path / "float.tflite")
    assert list(tmp_path.iterdir()) == []


OFFICIAL = {
    "v1_lite_portrait_398x224": InputSpec(224, 398),
    "v2_lite_portrait_256x144": InputSpec(144, 256),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_networks_lose_almost_nothing(
    models_dir: Path, data_dir: Path, tmp_path: Path, name: str
) -> None:
    """Issue 2: at most 0.3 points of mIoU on val.txt; fully integer."""
    spec = OFFICIAL[name]
    source = models_dir / f"pphumanseg_{name}_softmax.onnx"
    loaded = reader.load(source, spec)
    model, _ = simplify(single_logit(loaded, OutputSpec("probability", 1)))
    real, integer = tmp_path / "float.tflite", tmp_path / "int8.tflite"
    tflite.to_float(model, real)
    eats = TensorSpec((1, spec.height, spec.width, 3), "float32", "nhwc")
    codec = Codec(spec, LOGIT, eats=eats, returns=TensorSpec((1, 1, 1, 1), "float32", "nhwc"))
    calibration = gather(data_dir / "train.txt", spec)
    samples = [codec.encode(p) for p in calibration.pictures]
    tflite.to_int8(real, integer, tensors=samples, input=spec)
    assert guards.check_int8(integer, real) == []

    backend = open_backend("tflite", real)
    for sample in samples[::25]:
        truth = run(onnx.load(source), np.ascontiguousarray(sample.transpose(0, 3, 1, 2)))
        found = sigmoid(np.asarray(backend.infer(sample))[0, ..., 0])
        np.testing.assert_allclose(found, truth[0, 1], atol=1e-4)

    artifacts = (
        describe(real, format="tflite", precision="fp32"),
        describe(integer, format="tflite", precision="int8"),
    )
    bundle = ModelBundle(tmp_path, name, spec, LOGIT, artifacts)
    scores = []
    for artifact in artifacts:
        with open_artifact(bundle, artifact, threads=2) as segmenter:
            scores.append(evaluate(segmenter, labelled_pairs(data_dir / "val.txt")).to_dict())
    assert 100 * (scores[0]["miou"] - scores[1]["miou"]) <= 0.3
    assert 100 * scores[0]["miou"] > 93
