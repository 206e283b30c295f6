"""Specs: checked when made, the same after a round trip, and never a surprise from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_seg.errors import BundleError
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec, load_spec

GOOD = """\
[input]
height = 144
width = 256
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
color = "rgb"
fit = "letterbox"

[output]
activation = "probability"
channel = 1
"""

sides = st.integers(1, 4096)
means = st.tuples(*[st.floats(-10, 10)] * 3)
stds = st.tuples(*[st.floats(1e-3, 10)] * 3)


@given(
    height=sides,
    width=sides,
    mean=means,
    std=stds,
    color=st.sampled_from(["rgb", "bgr"]),
    fit=st.sampled_from(["stretch", "letterbox"]),
    pad=st.integers(0, 255),
)
def test_an_input_spec_survives_json(**fields: Any) -> None:
    spec = InputSpec(**fields)
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@given(activation=st.sampled_from(["logit", "probability"]), channel=st.integers(0, 1023))
def test_an_output_spec_survives_json(activation: str, channel: int) -> None:
    spec = OutputSpec(activation, channel)
    assert OutputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "wrong",
    [{"activation": "softmax"}, {"channel": -1}, {"channel": 1024}, {"channel": "1"}],
)
def test_an_output_spec_that_is_none_is_refused_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="output: wanted"):
        OutputSpec(**wrong)


WRONG_INPUTS: dict[str, dict[str, Any]] = {
    "zero height": {"height": 0},
    "negative width": {"width": -3},
    "huge": {"height": 5000},
    "height as text": {"height": "144"},
    "height as a truth value": {"height": True},
    "height as a fraction": {"height": 144.0},
    "no height": {"height": None},
    "two means": {"mean": [0.5, 0.5]},
    "mean as text": {"mean": "half"},
    "mean not a number": {"mean": [0.5, float("nan"), 0.5]},
    "mean beyond any float": {"mean": [0.5, 10**400, 0.5]},
    "mean infinite": {"mean": [float("inf"), 0.5, 0.5]},
    "mean holds a truth value": {"mean": [0.5, True, 0.5]},
    "std of zero": {"std": [0.5, 0.0, 0.5]},
    "std negative": {"std": [0.5, -1.0, 0.5]},
    "colour": {"color": "RGB"},
    "fit": {"fit": "crop"},
    "pad": {"pad": 256},
    "pad as a fraction": {"pad": 12.5},
}


@pytest.mark.parametrize("kind", WRONG_INPUTS)
def test_a_wrong_input_names_where_it_stands(kind: str) -> None:
    data = {**InputSpec(144, 256).to_dict(), **WRONG_INPUTS[kind]}
    data = {k: v for k, v in data.items() if v is not None}
    with pytest.raises(BundleError) as caught:
        InputSpec.from_dict(data, "manifest.json input")
    message = str(caught.value)
    assert next(iter(WRONG_INPUTS[kind])) in message or "size" in message
    assert "wanted" in message and "found" in message
    assert len(message) < 400


@pytest.mark.parametrize("kind", [k for k in WRONG_INPUTS if k != "pad as a fraction"])
def test_a_wrong_input_is_refused_when_made(kind: str) -> None:
    with pytest.raises(BundleError, match="input: wanted .* found"):
        InputSpec(**{"height": 144, "width": 256, **WRONG_INPUTS[kind]})


@pytest.mark.parametrize(
    "data",
    [
        {"activation": "softmax", "channel": 0},
        {"activation": "logit", "channel": -1},
        {"activation": "logit", "channel": 1024},
        {"activation": "logit", "channel": "1"},
        {"activation": "logit"},
        {"channel": 0},
    ],
)
def test_a_wrong_output_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="wanted"):
        OutputSpec.from_dict(data)


@pytest.mark.parametrize(
    "shape,dtype,layout,scale",
    [
        ((1, 4, 4), "float32", "nhwc", 0.0),
        ((2, 4, 4, 3), "float32", "nhwc", 0.0),
        ((1, 0, 4, 3), "float32", "nhwc", 0.0),
        ((1, 4, 4, 3), "int16", "nhwc", 0.1),
        ((1, 4, 4, 3), "int8", "nhwc", 0.0),
        ((1, 4, 4, 3), "uint8", "nhwc", -0.1),
        ((1, 4, 4, 3), "int8", "nhwc", float("nan")),
        ((1, 4, 4, 3), "float32", "hwc", 0.0),
    ],
)
def test_a_tensor_we_cannot_feed_is_refused(
    shape: tuple[int, ...], dtype: str, layout: str, scale: float
) -> None:
    with pytest.raises(BundleError, match="tensor: wanted"):
        TensorSpec(shape, dtype, layout, scale)


def test_a_tensor_knows_its_size_in_both_layouts() -> None:
    for shape, layout in (((1, 144, 256, 3), "nhwc"), ((1, 3, 144, 256), "nchw")):
        spec = TensorSpec(shape, "float32", layout)
        assert spec.size == (144, 256) and spec.channels == 3 and not spec.quantized


def test_a_spec_file_says_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text(GOOD, encoding="utf-8")
    input, output = load_spec(path)
    assert input == InputSpec(144, 256, color="rgb", fit="letterbox")
    assert output == OutputSpec("probability", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not toml at all",
        GOOD.replace("[output]", "[outputs]"),
        GOOD.replace("height = 144", "height = 'tall'"),
        GOOD.replace("mean = [0.5, 0.5, 0.5]", "mean = [0.5, nan, 0.5]"),
        GOOD.replace('color = "rgb"', 'color = "yuv"'),
        GOOD.replace("channel = 1", "channel = 1.5"),
        "input = 3\noutput = 4\n",
        "x = " + "[" * 5000 + "]" * 5000,
        GOOD.replace("channel = 1", "channel = " + "1" * 5000),
        GOOD.replace("channel = 1", "channel = 0x" + "f" * 5000),
        "# " + "x" * 70_000,
    ],
)
def test_a_spec_file_that_is_wrong_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"net\.toml"):
        load_spec(path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("channel = 1", "chanel = 1\nchannel = 1", r"\[output\]: wanted entries .* found 'chanel'"),
        ('fit = "letterbox"', 'fit = "letterbox"\npadding = 0', "found 'padding'"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [104, 117, 123]", "a mean of 123.*std by 255"),
    ],
)
def test_a_spec_file_is_not_half_understood(tmp_path: Path, old: str, new: str, told: str) -> None:
    """A misspelt entry would be ignored, and a mean of pixels is a nearly constant input."""
    assert old in GOOD
    path = tmp_path / "net.toml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(BundleError, match=told):
        load_spec(path)


def test_bytes_that_are_no_text_and_a_missing_file_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    with pytest.raises(BundleError, match=r"net\.toml: .*found: No such file .*; check the path$"):
        load_spec(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match=r"net\.toml"):
        load_spec(path)
