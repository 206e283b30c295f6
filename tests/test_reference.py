"""The reference: the network as it came, whatever its head looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_seg.calibration.frames import CalibrationSet  # noqa: E402
from edge_seg.converters.reference import Reference, largest_difference  # noqa: E402
from edge_seg.converters.targets import Network, Workpiece, float_onnx  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec  # noqa: E402
from tests.bright_network import HEIGHT, INPUT, OUTPUT, WIDTH, bright_is_person, save  # noqa: E402
from tests.tiny_onnx import Builder, run  # noqa: E402

PICTURE = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def tensor(spec: InputSpec = INPUT) -> np.ndarray:
    """The picture as the network's author would prepare it: the float formula, channels first."""
    real = (PICTURE / 255.0 - np.array(spec.mean)) / np.array(spec.std)
    return real.transpose(2, 0, 1)[None].astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def truth() -> np.ndarray:
    return run(bright_is_person(), tensor())[0, 1]


@pytest.mark.parametrize(
    "made",
    [{}, {"batch": "N"}, {"channels_last": True}, {"channels_last": True, "batch": "N"}],
    ids=["plain", "symbolic batch", "channels last", "both"],
)
def test_it_says_what_the_network_says(tmp_path: Path, made: dict[str, Any]) -> None:
    reference = Reference(save(tmp_path, bright_is_person(**made)), INPUT, OUTPUT)
    found = reference.probability(PICTURE)
    assert (found.shape, found.dtype) == ((HEIGHT, WIDTH), np.float32)
    np.testing.assert_allclose(found, truth(), atol=1e-6)
    reference.close()


def test_the_other_channel_is_the_rest(tmp_path: Path) -> None:
    reference = Reference(save(tmp_path), INPUT, OutputSpec("probability", 0))
    np.testing.assert_allclose(reference.probability(PICTURE), 1 - truth(), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_logits_become_probabilities(tmp_path: Path, channels: int) -> None:
    b = Builder((1, 3, HEIGHT, WIDTH))
    model = b.model(b.conv("picture", 3, channels, 3))
    channel = channels - 1
    logits = run(model, tensor())[0]
    # Several classes exclude each other; one channel stands for itself.
    expected = logits[channel]
    if channels > 1:
        expected = expected - logits[:channel].max(axis=0)
    reference = Reference(save(tmp_path, model), INPUT, OutputSpec("logit", channel))
    np.testing.assert_allclose(reference.probability(PICTURE), sigmoid(expected), atol=1e-6)


def test_it_normalises_as_the_spec_says(tmp_path: Path) -> None:
    spec = InputSpec(HEIGHT, WIDTH, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), color="bgr")
    reference = Reference(save(tmp_path), spec, OUTPUT)
    expected = run(bright_is_person(), tensor(spec))[0, 1]
    np.testing.assert_allclose(reference.probability(PICTURE), expected, atol=1e-5)


def test_the_largest_difference_is_of_one_pixel(tmp_path: Path) -> None:
    reference = Reference(save(tmp_path), INPUT, OUTPUT)
    other = truth().copy()
    assert largest_difference(reference, other, PICTURE) < 1e-6
    other[7, 9] += 0.25
    assert largest_difference(reference, other, PICTURE) == pytest.approx(0.25, abs=1e-5)


def test_what_is_no_number_is_infinitely_wrong(tmp_path: Path) -> None:
    reference = Reference(save(tmp_path), INPUT, OUTPUT)
    other = truth().copy()
    other[0, 0] = np.nan
    assert largest_difference(reference, other, PICTURE) == np.inf


def test_another_shape_is_a_defect(tmp_path: Path) -> None:
    reference = Reference(save(tmp_path), INPUT, OUTPUT)
    with pytest.raises(ConversionError, match=r"\(48, 64\), found \(24, 64\)"):
        largest_difference(reference, truth()[::2], PICTURE)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = bright_is_person()
    kernel = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    kernel[0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(kernel, "c0"))
    with pytest.raises(ConversionError, match=r"'c0': wanted numbers, found 9"):
        Reference(save(tmp_path, model), INPUT, OUTPUT)


@pytest.mark.parametrize(("kind", "channels"), [("Softmax", 2), ("Softmax", 3), ("Sigmoid", 1)])
def test_it_tells_probabilities_that_are_called_logits(
    tmp_path: Path, kind: str, channels: int
) -> None:
    for last, told in ((kind, True), ("Identity", False)):
        b = Builder((1, 3, HEIGHT, WIDTH))
        settings = {"axis": 1} if last == "Softmax" else {}
        model = b.model(b.op(last, b.conv("picture", 3, channels, 3), **settings))
        reference = Reference(save(tmp_path, model), INPUT, OutputSpec("logit", channels - 1))
        reference.probability(PICTURE)
        assert reference.mislabelled is told
        reference.close()


def test_a_network_whose_spec_calls_probabilities_logits_is_not_converted(tmp_path: Path) -> None:
    b = Builder((1, 3, HEIGHT, WIDTH))
    small = b.op("Softmax", b.conv("picture", 3, 2, 3, strides=[2, 2]), axis=1)
    model = b.model(b.upsample(small, HEIGHT, WIDTH, 2))
    network = Network(save(tmp_path, model), INPUT, OutputSpec("logit", 1))
    work = Workpiece(network, CalibrationSet([PICTURE]), tmp_path, lambda *told: None)
    with pytest.raises(ConversionError, match="wanted logits.*returns probabilities"):
        float_onnx(work)
