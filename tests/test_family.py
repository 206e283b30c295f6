"""Networks whose contract is built in, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")

from edge_seg.converters import family  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec, load_spec  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402


def network(height: int, width: int, *, outs: int = 2, softmax: bool = True) -> onnx.ModelProto:
    b = Builder((1, 3, height, width))
    last = b.conv("picture", 3, outs)
    return b.model(b.op("Softmax", last, axis=1) if softmax else last)


@pytest.mark.parametrize(
    ("file", "size"),
    [
        ("pphumanseg_v1_lite_portrait_398x224_softmax.onnx", (224, 398)),
        ("pphumanseg_v2_lite_portrait_256x144_softmax.onnx", (144, 256)),
    ],
)
def test_the_official_networks_are_known(
    models_dir: Path, file: str, size: tuple[int, int]
) -> None:
    spec, output = family.known_spec(reader.load(models_dir / file))
    # models/README.md: RGB, (x / 255 - 0.5) / 0.5, channel 1 = person, softmax.
    assert spec == InputSpec(*size, mean=(0.5,) * 3, std=(0.5,) * 3, color="rgb", fit="letterbox")
    assert output == OutputSpec("probability", 1)


def test_a_network_of_the_family_without_its_softmax_returns_logits() -> None:
    assert family.known_spec(network(144, 256, softmax=False))[1] == OutputSpec("logit", 1)


@pytest.mark.parametrize(
    "other",
    [network(320, 320), network(144, 256, outs=1, softmax=False), network(256, 145)],
    ids=["size", "one channel", "one pixel more"],
)
def test_any_other_network_needs_a_spec_and_is_shown_one(other: onnx.ModelProto) -> None:
    with pytest.raises(ConversionError, match=r"--spec FILE\.toml") as refused:
        family.known_spec(other)
    assert str(tuple(d.dim_value for d in other.graph.input[0].type.tensor_type.shape.dim)) in str(
        refused.value
    )
    assert family.example(other) in str(refused.value)


@pytest.mark.parametrize(
    ("other", "output"),
    [
        (network(320, 256), OutputSpec("probability", 1)),
        (network(320, 256, softmax=False), OutputSpec("logit", 1)),
        (network(320, 256, outs=1, softmax=False), OutputSpec("logit", 0)),
    ],
    ids=["softmax", "logits", "one logit"],
)
def test_the_example_that_is_shown_is_a_spec_of_that_network(
    other: onnx.ModelProto, output: OutputSpec, tmp_path: Path
) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(family.example(other), encoding="utf-8")
    assert load_spec(path) == (InputSpec(320, 256), output)
