"""The network, made of what int8 runs well."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from torch import nn  # noqa: E402

from edge_seg.training import network  # noqa: E402


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("shape", network.SHAPES)
def test_ours_gives_its_logits_at_a_quarter_or_a_half(shape: str) -> None:
    model = network.PortraitNet(shape).eval()
    stride = 2 if shape in ("fine", "slim") else 4
    with torch.no_grad():
        for height, width in ((128, 128), (96, 160), (224, 224)):
            assert model(torch.zeros(2, 3, height, width)).shape == (
                2,
                1,
                height // stride,
                width // stride,
            )


@pytest.mark.parametrize("shape", ["lite", "base", "fine"])
def test_what_may_ship_keeps_its_promise_of_size(shape: str) -> None:
    assert 4 * parameters(network.PortraitNet(shape)) < 4_000_000


@pytest.mark.parametrize("shape", ["lite", "fine"])
def test_ours_needs_only_operations_that_int8_runs_well(shape: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from edge_seg.training.export import to_onnx

    to_onnx(network.PortraitNet(shape), tmp_path / "net.onnx", side=96)
    graph = onnx.load(str(tmp_path / "net.onnx")).graph
    # Identity: of initializers that happen to be equal in a network not yet trained.
    allowed = {"Conv", "Relu", "Add", "Resize", "Constant", "Identity"}
    found = [node.op_type for node in graph.node]
    if shape == "fine":
        assert found.pop() == "DepthToSpace"  # once, on four channels
    assert set(found) <= allowed
    for node in graph.node:
        if node.op_type == "Conv":
            given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            # TFLite's SAME on even sizes, so that no PAD is needed.
            kernel, stride, pad = given["kernel_shape"][0], given["strides"][0], given["pads"]
            assert pad == [(kernel - stride) // 2] * 4 and (kernel - stride) % 2 == 0
