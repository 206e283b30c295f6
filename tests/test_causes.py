"""Why a network collapsed: each cause produced on purpose and named, a sound network not accused.

The network says person where a neighbourhood is bright, or red; what each library makes of it is
judged as a conversion is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra [convert] is not installed")
pytest.importorskip("ai_edge_quantizer", reason="the extra [convert] is not installed")
pytest.importorskip("nncf", reason="the extra [convert] is not installed")

from numpy.typing import NDArray  # noqa: E402
from onnx import ModelProto  # noqa: E402

from edge_seg.bundle import ModelBundle, describe  # noqa: E402
from edge_seg.calibration.dataset import labelled_pairs  # noqa: E402
from edge_seg.converters import family, openvino, qdq, tflite  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.causes import Suspect, causes  # noqa: E402
from edge_seg.converters.gate import AGREEMENT, LABELS, Exam  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.converters.judging import NO_CAUSE, Row, exam_of, judge  # noqa: E402
from edge_seg.converters.rewrites import simplify  # noqa: E402
from edge_seg.converters.targets import OUTPUT, parts_of  # noqa: E402
from edge_seg.errors import BackendUnavailable  # noqa: E402
from edge_seg.pixels import prepare  # noqa: E402
from edge_seg.spec import InputSpec  # noqa: E402
from tests import toy_pictures  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402
from tests.tiny_tflite import save_conv  # noqa: E402

Floats = NDArray[np.float32]
FORMATS = ("onnx", "openvino", "tflite")
each_format = pytest.mark.parametrize("format", FORMATS)
SIZE = (48, 64)
SPEC = InputSpec(*SIZE)
GRAY = np.full((1, 3, 3, 3), 12 / 27, np.float32)  # logit 12 of a white neighbourhood
RED = np.stack([np.full((1, 3, 3), 12 / 9), np.zeros((1, 3, 3)), np.zeros((1, 3, 3))], axis=1)
BIAS = np.zeros(1, np.float32)
PICTURES = [toy_pictures.picture(seed) for seed in range(12)]
SEEN = [prepare(frame, SPEC)[0] for frame, _ in PICTURES]


def exam(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = PICTURES) -> Exam:
    return Exam(lambda: pairs, LABELS, "toys")


def normalised(spec: InputSpec = SPEC) -> list[Floats]:
    """(1, h, w, 3) as the spec has them."""
    mean, std = np.array(spec.mean), np.array(spec.std)
    return [((p / 255 - mean) / std).astype(np.float32)[None] for p in SEEN]


def conv(weight: Floats = GRAY, bias: Floats = BIAS) -> ModelProto:
    """(out, in, y, x), same size out."""
    b = Builder((1, 3, *SIZE))
    return b.model(b.op("Conv", "picture", b.constant(weight), b.constant(bias), pads=[1, 1, 1, 1]))


def int8(
    format: str,
    folder: Path,
    tensors: list[Floats],
    *,
    weight: Floats = GRAY,
    bias: Floats = BIAS,
    input: InputSpec | None = None,
) -> Path:
    """Quantize the network for a library. tensors: (1, h, w, 3)."""
    turned = [np.ascontiguousarray(t.transpose(0, 3, 1, 2)) for t in tensors]
    if format == "tflite":
        save_conv(folder / "float.tflite", weight.transpose(0, 2, 3, 1), bias, SIZE)
        path = folder / "int8.tflite"
        tflite.to_int8(folder / "float.tflite", path, tensors=tensors, input=input)
    elif format == "openvino":
        path = folder / "int8.xml"
        openvino.to_int8(conv(weight, bias), path, tensors=turned, input=input)
    else:
        path = folder / "int8.onnx"
        qdq.to_int8(conv(weight, bias), path, tensors=turned, input=input)
    return path


def bundle(folder: Path, *made: Path, model: ModelProto | None = None) -> ModelBundle:
    """A bundle of the float ONNX and of int8 artifacts beside it."""
    onnx.save(model or conv(), folder / "float.onnx")
    artifacts = [describe(folder / "float.onnx", format="onnx", precision="fp32")]
    for path in made:
        format = {".xml": "openvino"}.get(path.suffix, path.suffix[1:])
        beside = parts_of(path)
        artifacts.append(describe(path, format=format, precision="int8", beside=beside))
    return ModelBundle(folder, "bright", SPEC, OUTPUT, tuple(artifacts))


def verdict(made: ModelBundle, which: int = -1, on: Exam | None = None) -> Row:
    return judge(made, on or exam())[1][which]


# --- int8 -----------------------------------------------------------------------------------------


@each_format
def test_calibrated_on_raw_bgr_run_on_normalised_rgb(tmp_path: Path, format: str) -> None:
    """The mistake of the public int8 PP-HumanSeg: its mask is background everywhere."""
    raw = [p[None, :, :, ::-1].astype(np.float32) for p in SEEN]
    made = bundle(tmp_path, int8(format, tmp_path, raw))
    rows = judge(made, exam())[1]
    assert rows[0].reasons == (), "the float network is sound"
    # Symmetric codes of 0..255 leave three to -1..1 (-1, 0, 1), others one or two: nearly, or all
    # of the mask is gone.
    assert rows[1].figures["miou"] < 0.5
    cause = next(reason for reason in rows[1].reasons if reason.startswith("likely cause"))
    assert cause.startswith("likely cause: wrong normalisation: its int8 input holds")
    assert "those of raw pixels, 0 to 255" in cause and "a pixel is fed as -1 to 1" in cause


@each_format
def test_calibrated_on_a_part_of_the_range(tmp_path: Path, format: str) -> None:
    """People are brighter than 0.4, and the brightest that was seen is 0.3."""
    bias = BIAS - 12 * np.float32(0.4)
    dim = [np.clip(t, -0.3, 0.3) for t in normalised()]
    made = bundle(tmp_path, int8(format, tmp_path, dim, bias=bias), model=conv(GRAY, bias))
    assert verdict(made, 0).reasons == ()
    said = verdict(made).reasons
    assert said[0].startswith("collapsed: ")
    assert said[1].startswith("likely cause: saturated input: its int8 input holds")
    assert "of its levels are clipped" in said[1]


@each_format
def test_a_layer_that_quantisation_switched_off(tmp_path: Path, format: str) -> None:
    """Weights of 0 beside a bias: the answer is one number, whatever the picture."""
    path = int8(format, tmp_path, normalised(), weight=0 * GRAY, bias=BIAS - 3, input=SPEC)
    said = verdict(bundle(tmp_path, path)).reasons
    assert "it sees background everywhere" in said[0]
    assert said[1].startswith("likely cause: dead layer: from ")
    assert "Conv" in said[1] or "CONV_2D" in said[1] or "Convolution" in said[1]


def test_a_bias_that_overflowed(tmp_path: Path) -> None:
    """Weights of 1e-27: the int32 bias saturates and is lost, with nothing said."""
    save_conv(tmp_path / "float.tflite", 1e-27 * GRAY.transpose(0, 2, 3, 1), BIAS + 9, SIZE)
    path = tmp_path / "int8.tflite"
    tensors = normalised()
    path.write_bytes(tflite._quantized(tmp_path / "float.tflite", tensors, None, tflite.quiet))
    source = describe(tmp_path / "float.tflite", format="tflite", precision="fp32")
    made = bundle(tmp_path, path)
    made = replace(made, artifacts=(source, made.artifacts[1]))
    assert (
        verdict(made)
        .reasons[1]
        .startswith("likely cause: dead layer: quantisation changed the bias of CONV_2D answer")
    )


@each_format
def test_a_sound_artifact_is_not_accused(tmp_path: Path, format: str) -> None:
    made = bundle(tmp_path, int8(format, tmp_path, normalised(), input=SPEC))
    assert [row.reasons for row in judge(made, exam())[1]] == [(), ()]
    for artifact in made.artifacts:
        assert causes(Suspect(made, artifact, made.artifacts[0], exam())) == []


def test_a_branch_that_is_switched_off_on_purpose_is_not_accused(tmp_path: Path) -> None:
    """A gate that training left at its bias: the answer still depends on the picture."""
    b = Builder((1, 3, *SIZE))
    pads = [1, 1, 1, 1]
    bright = b.op("Conv", "picture", b.constant(GRAY), b.constant(BIAS), pads=pads)
    gate = b.op("Conv", bright, b.constant(np.zeros((1, 1, 1, 1))), b.constant([1.0]))
    made = bundle(tmp_path, model=b.model(b.op("Mul", bright, gate)))
    assert causes(Suspect(made, made.artifacts[0], None, exam())) == []


def test_a_collapse_without_a_known_cause_names_none(tmp_path: Path) -> None:
    path = int8("onnx", tmp_path, normalised(), bias=BIAS - 1000, input=SPEC)
    said = verdict(bundle(tmp_path, path)).reasons
    assert "it sees background everywhere" in said[0] and said[1:] == (NO_CAUSE,)


# --- the float network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ({"mean": (2.0,) * 3}, "-1..1"),
        ({"mean": (-1.0,) * 3}, "-1..1"),
        ({"mean": (0.0,) * 3, "std": (1 / 255,) * 3}, "-1..1"),
    ],
)
def test_a_wrong_normalisation_in_the_spec(
    tmp_path: Path, wrong: dict[str, tuple[float, ...]], right: str
) -> None:
    made = bundle(tmp_path)
    made = replace(made, input=replace(SPEC, **wrong))  # type: ignore[arg-type]
    said = verdict(made, 0).reasons
    assert said[0].startswith("collapsed: ")
    assert said[1].startswith(f"likely cause: wrong normalisation: fed as {right} it reaches 9")


def coloured(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A red person in a blue room."""
    _, label = toy_pictures.picture(seed)
    frame = np.full((*label.shape, 3), (220, 90, 20), np.uint8)
    frame[label == 1] = (20, 90, 220)
    return frame, label


def test_a_wrong_colour_order_in_the_spec(tmp_path: Path) -> None:
    made = bundle(tmp_path, model=conv(RED.astype(np.float32)))
    on = exam([coloured(seed) for seed in range(8)])
    assert verdict(made, 0, on).reasons == ()
    said = verdict(replace(made, input=replace(SPEC, color="bgr")), 0, on).reasons
    assert said[0].startswith("collapsed: ")
    assert said[1].startswith("likely cause: wrong colour order: fed as rgb it reaches ")


def test_a_wrong_normalisation_that_is_no_collapse_is_refused_too(tmp_path: Path) -> None:
    """People are brighter than 0.18 of -1..1; of 0..1, so is the half of what is behind them."""
    made = bundle(tmp_path, model=conv(GRAY, BIAS - 12 * np.float32(0.18)))
    assert verdict(made).reasons == ()
    wrong = replace(made, input=replace(SPEC, mean=(0.0,) * 3, std=(1.0,) * 3))
    row = verdict(wrong)
    assert 0.5 < row.figures["miou"] < 0.6 and len(row.reasons) == 1
    assert row.reasons[0].startswith("is not fed as it was trained: wrong normalisation: fed as ")
    own = replace(exam(), kind=AGREEMENT)
    assert verdict(wrong, on=own).reasons == (), "of its own masks nothing can be told"


def test_colour_order_and_scale_together(tmp_path: Path) -> None:
    """Red against blue, and only a little of either: both have to be right."""
    weight = np.zeros((1, 3, 1, 1), np.float32)
    weight[0, :, 0, 0] = 40, 0, -8
    b = Builder((1, 3, *SIZE))
    model = b.model(b.op("Conv", "picture", b.constant(weight), b.constant([-20.0])))
    made = bundle(tmp_path, model=model)
    on = exam([coloured(seed) for seed in range(8)])
    wrong = replace(made, input=replace(SPEC, color="bgr", mean=(2.0,) * 3))
    assert verdict(made, 0, on).reasons == ()
    cause = verdict(wrong, 0, on).reasons[1]
    assert cause.startswith("likely cause: wrong normalisation and colour order: fed as rgb, ")


def test_a_network_that_lost_its_picture(tmp_path: Path) -> None:
    """Of three layers the second is dead: that one is named, not what lies behind it."""
    b = Builder((1, 3, *SIZE), seed=4)
    first = b.op("Relu", b.conv("picture", 3, 4, 3))
    dead = b.conv(first, 4, 4)
    b.constants[b.nodes[-1].input[1]] *= 0
    name = b.nodes[-1].output[0]
    made = bundle(tmp_path, model=b.model(b.conv(b.op("Relu", dead), 4, 1)))
    said = verdict(made, 0).reasons
    assert f"likely cause: dead layer: from Conv {name!r} on" in said[1]


# --- judging --------------------------------------------------------------------------------------


def brighter(folder: Path, *names: str, level: float = 0.6) -> list[Path]:
    """The same network with a higher threshold: it misses a part of the people, and is no ruin."""
    paths = [folder / f"{name}.onnx" for name in names]
    for path in paths:
        onnx.save(conv(GRAY, BIAS - 12 * np.float32(level)), path)
    return paths


def test_a_cause_is_looked_for_where_much_was_lost_and_not_where_little_was(tmp_path: Path) -> None:
    little, much = (brighter(tmp_path, f"at {t}", level=t)[0] for t in (0.3, 0.42))
    made, said = bundle(tmp_path, little, much), list[str]()
    rows = judge(made, exam(), progress=lambda message, done, total: said.append(message))[1]
    lost = [rows[0].figures["miou"] - row.figures["miou"] for row in rows]
    assert 0.03 < lost[1] < 0.05 < lost[2] < 0.09
    assert [len(row.reasons) for row in rows] == [0, 2, 2], "and none is named: none was found"
    searches = [message for message in said if not message.startswith("measuring")]
    assert searches == said[-1:] == ["looking for what is wrong with onnx-int8"]
    said.clear()
    judge(made, exam(), max_drop=100, progress=lambda message, done, total: said.append(message))
    assert all(message.startswith("measuring") for message in said), (
        "what passes is not looked into"
    )


def test_every_artifact_is_held_against_float_and_not_against_the_one_before(
    tmp_path: Path,
) -> None:
    made = bundle(tmp_path, *brighter(tmp_path, "int8", "again"))
    rows = judge(made, exam())[1]
    assert [[reason.split(" ")[0] for reason in row.reasons[:2]] for row in rows[1:]] == [
        ["lost", "lost"]
    ] * 2
    assert rows[0].reasons == () and rows[1].reasons == rows[2].reasons
    assert [row.reasons for row in judge(made, exam(), max_drop=100)[1]] == [()] * 3


def test_agreement_is_with_float_s_masks_for_every_artifact(tmp_path: Path) -> None:
    made = bundle(tmp_path, *brighter(tmp_path, "int8"))
    judged, rows = judge(made, exam_of([frame for frame, _ in PICTURES]))
    assert rows[0].figures["person_iou"] == 1 and rows[0].reasons == ()
    assert rows[1].figures["person_iou"] < 0.95
    assert "points of agreement on the person" in rows[1].reasons[0]
    assert judged[1].quality["agreement_person_iou"] == rows[1].figures["person_iou"]
    assert "person_iou" not in judged[1].quality


def test_an_artifact_that_cannot_be_run_is_a_row_and_a_float_one_an_error(tmp_path: Path) -> None:
    junk = tmp_path / "int8.onnx"
    junk.write_bytes(b"junk")
    made = bundle(tmp_path, junk)
    judged, rows = judge(made, exam())
    assert [artifact.file for artifact in judged] == ["float.onnx", "int8.onnx"]
    assert rows[1].figures == {} and "int8.onnx" in rows[1].reasons[0]
    with pytest.raises(BackendUnavailable, match=r"int8\.onnx"):
        judge(replace(made, artifacts=made.artifacts[::-1]), exam())


# --- a network as it is used ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_the_mistake_of_the_public_int8_network_with_its_own_weights(
    models_dir: Path, data_dir: Path, tmp_path: Path, format: str
) -> None:
    path = models_dir / "pphumanseg_v2_lite_portrait_256x144_softmax.onnx"
    loaded = reader.load(path)
    spec, output = family.known_spec(loaded)
    model = simplify(single_logit(loaded, output))[0]
    pairs = [p for p, _ in zip(labelled_pairs(data_dir / "val.txt"), range(30), strict=False)]
    raw = [prepare(frame, replace(spec, color="bgr"))[0] for frame, _ in pairs[15:]]
    tensors = [p.astype(np.float32).transpose(2, 0, 1)[None].copy() for p in raw]
    make: Callable[..., None] = qdq.to_int8 if format == "onnx" else openvino.to_int8
    out = tmp_path / ("int8.onnx" if format == "onnx" else "int8.xml")
    make(model, out, tensors=tensors)
    made = replace(bundle(tmp_path, out, model=model), input=spec)
    rows = judge(made, exam(pairs[:15]))[1]
    assert rows[0].reasons == () and rows[0].figures["miou"] > 0.9
    assert rows[1].reasons[0].startswith("collapsed: ")
    assert "likely cause: wrong normalisation" in rows[1].reasons[1]
    assert "those of raw pixels, 0 to 255" in rows[1].reasons[1]
