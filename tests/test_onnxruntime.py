"""ONNX Runtime on a provider that takes nothing: no operator goes to the CPU instead."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="the extra [onnxruntime] is not installed")
pytest.importorskip("onnx", reason="the tiny network is written with onnx")

import onnxruntime

from edge_seg.backends import onnxruntime as ours
from edge_seg.backends import open_backend
from edge_seg.errors import BackendUnavailable
from tests import tiny_networks

NOTHING = "AzureExecutionProvider"  # in every wheel for the CPU: it takes no plain operator


def test_what_a_provider_does_not_take_is_not_left_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if NOTHING not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {NOTHING}")
    path = tiny_networks.save_onnx(tmp_path / "tiny.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=[NOTHING])
    assert session.get_providers()[0] == NOTHING, "listed first, and the CPU does all the work"
    monkeypatch.setitem(ours.PROVIDERS, "CUDA", NOTHING)
    with pytest.raises(BackendUnavailable, match="wanted all of the network on CUDA") as refused:
        open_backend("onnxruntime", path, {"provider": "CUDA"})
    assert "would run on the CPU" in str(refused.value)
