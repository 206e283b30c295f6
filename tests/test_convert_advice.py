"""`convert` says what this machine would rather run than what was asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_seg import board
from edge_seg.bundle import DEFAULT_BUNDLE, ModelBundle
from edge_seg.cli.convert import first_choice


def of(*formats: str) -> ModelBundle:
    """The network that ships, with artifacts of these formats alone."""
    whole = ModelBundle.load(DEFAULT_BUNDLE)
    return replace(whole, artifacts=tuple(a for a in whole.artifacts if a.format in formats))


@pytest.mark.parametrize(
    ("name", "formats", "asked"),
    [
        ("pc-avx2", ["tflite"], "--to tflite,openvino"),
        ("intel-npu", ["tflite", "onnx"], "--to tflite,onnx,openvino"),
        ("jetson-orin-nano", ["tflite"], "--to tflite,onnx"),
        ("pc-avx2", ["tflite", "openvino"], ""),
        ("raspberry-pi-5", ["tflite"], ""),
        ("generic", ["tflite"], ""),
        ("raspberry-pi-5", ["openvino"], "--to openvino,tflite"),
    ],
)
def test_a_format_the_board_would_run_first_is_named(
    name: str, formats: list[str], asked: str
) -> None:
    said = first_choice(of(*formats), board.resolve(name))
    assert asked in said and bool(said) == bool(asked)
    assert not said or name in said


def test_a_board_of_ones_own_with_another_backend_says_nothing(fake_board: object) -> None:
    assert first_choice(of("tflite"), board.resolve(str(fake_board))) == ""
