"""What a target makes of a network, and what it says when it cannot: float against the ONNX, facts.

Whole conversions, through onnx2tf, are in test_conversion.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra [convert] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [convert] is not installed")
pytest.importorskip("ai_edge_quantizer", reason="the extra [convert] is not installed")

from edge_seg.bundle import Artifact  # noqa: E402
from edge_seg.calibration.frames import CalibrationSet  # noqa: E402
from edge_seg.converters import targets  # noqa: E402
from edge_seg.converters.targets import Network, Workpiece, attempt  # noqa: E402
from edge_seg.errors import (  # noqa: E402
    BackendFailure,
    BackendUnavailable,
    ConversionError,
    EdgeSegError,
    OutputError,
)
from edge_seg.spec import InputSpec, OutputSpec  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402
from tests.tiny_tflite import save_conv  # noqa: E402

SIZE = (24, 32)
SPEC = InputSpec(*SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
BLACK, WHITE = (np.full((*SIZE, 3), level, np.uint8) for level in (0, 255))


def dark_is_person(path: Path, *, white: float, shift: float = 0.0, width: int = 3) -> Path:
    """Write a network whose logit is `shift` where a picture is black, `white` more where white."""
    b = Builder((1, 3, *SIZE))
    inner = b.op("Conv", "picture", b.constant(np.full((width, 3, 1, 1), 1 / 3)))
    weight, bias = b.constant(np.full((1, width, 1, 1), white / width)), b.constant([shift])
    onnx.save(b.model(b.op("Conv", inner, weight, bias)), path)
    return path


def workpiece(folder: Path, *, white: float = -20.0, width: int = 3) -> Workpiece:
    path = dark_is_person(folder / "network.onnx", white=white, width=width)
    seen = CalibrationSet([BLACK, WHITE], ["gone.png: not there"])
    return Workpiece(Network(path, SPEC, OutputSpec("logit", 0)), seen, folder, lambda *told: None)


# --- float against the network as it came ---------------------------------------------------------


def test_the_largest_difference_of_any_picture_is_told(tmp_path: Path) -> None:
    """A logit of 0.002 instead of 0 is a probability of 0.5005; of white pictures both say 0."""
    work = workpiece(tmp_path)
    made = dark_is_person(tmp_path / "made.onnx", white=-20.0, shift=0.002)
    assert work.checked_difference("onnx", made) == pytest.approx(0.0005, rel=0.01)


@pytest.mark.parametrize(
    ("white", "told"),
    [(-20.0, "check the spec's channel"), (-2000.0, r"its logits reach 2e\+03.*mean and std")],
)
def test_a_float_artifact_that_says_something_else_is_refused(
    tmp_path: Path, white: float, told: str
) -> None:
    work = workpiece(tmp_path, white=white)
    made = dark_is_person(tmp_path / "made.onnx", white=white, shift=0.006)
    with pytest.raises(ConversionError, match=rf"difference of 1\.50e-03 .*; .*{told}"):
        work.checked_difference("onnx", made)


def test_openvino_s_weights_are_checked_in_32_bits_and_kept_in_16(tmp_path: Path) -> None:
    """Thirds have no exact half: a weight of 16 bits is wrong by up to 1 in 4096."""
    pytest.importorskip("openvino", reason="the extra [convert] is not installed")
    work = workpiece(tmp_path, white=-5.0, width=512)
    artifact = targets.TARGETS["openvino"][0](work)
    assert artifact.made["max_difference_from_onnx"] < 1e-6
    files = [tmp_path / name for name in ("model-fp16.xml", "model-fp16.bin")]
    assert [part.file for part in artifact.files] == [path.name for path in files]
    assert artifact.total_size == sum(path.stat().st_size for path in files)
    assert 2 * 4 * 512 <= files[1].stat().st_size < 3 * 4 * 512  # bytes of 4 x 512 weights


# --- what a manifest says -------------------------------------------------------------------------


def test_an_int8_artifact_says_what_it_saw_and_what_had_to_be_mended(tmp_path: Path) -> None:
    work = workpiece(tmp_path)
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight[2] *= 1e-27
    bias = np.array([0.1, -0.2, 1.5, 0.0], np.float32)
    save_conv(tmp_path / "model-fp32.tflite", weight, bias, SIZE)
    made = targets.TARGETS["tflite"][1](work).made
    assert made["mended"] == ["CONV_2D answer: 1 channel(s) with weights of ~0"]
    assert made["float_operators"] == []
    seen = work.calibration.sha256
    assert made["calibration"].items() >= {"frames": 2, "skipped": 1, "sha256": seen}.items()
    assert {"onnx2tf", "ai-edge-quantizer"} <= made["tools"].keys()


def test_the_float_onnx_is_the_network_as_it_came(tmp_path: Path) -> None:
    made = targets.TARGETS["onnx"][0](workpiece(tmp_path)).made
    assert made["rewrites"] == ["reduced to one person logit"]
    kinds = [node.op_type for node in onnx.load(tmp_path / "model-fp32.onnx").graph.node]
    assert kinds.count("Conv") == 2, "nothing is folded"


# --- a target that fails --------------------------------------------------------------------------


def refusing(error: BaseException) -> targets.Make:
    def make(work: Workpiece) -> Artifact:
        raise error

    return make


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ConversionError("wanted this, found that"), ConversionError, "wanted this, found that"),
        (BackendUnavailable("wanted a library"), BackendUnavailable, "wanted a library"),
        (BackendFailure("onnxruntime: no data"), ConversionError, r"onnx: wanted an artifact that"),
        (ModuleNotFoundError("No module named 'nncf'"), BackendUnavailable, r"nncf.*pip install"),
    ],
)
def test_what_ends_a_target_is_kept_with_what_was_made_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[EdgeSegError],
    told: str,
) -> None:
    monkeypatch.setitem(targets.TARGETS, "onnx", (targets.float_onnx, refusing(error)))
    done = attempt("onnx", workpiece(tmp_path))
    assert [artifact.name for artifact in done.artifacts] == ["onnx-fp32"]
    assert done.error is not None
    with pytest.raises(kind, match=told):
        raise done.error


@pytest.mark.parametrize("error", [OutputError("the disk is full"), KeyboardInterrupt()])
def test_a_full_disk_and_ctrl_c_end_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setitem(targets.TARGETS, "onnx", (refusing(error),) * 2)
    with pytest.raises(type(error)):
        attempt("onnx", workpiece(tmp_path))
