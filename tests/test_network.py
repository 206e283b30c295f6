"""The networks: PP-HumanSegV1-Lite is the published one; ours is made of what int8 runs well."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from torch import nn  # noqa: E402

from edge_seg.calibration.dataset import load_image, read_list  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.training import network, pphumanseg  # noqa: E402

OFFICIAL = "pphumanseg_v1_lite_portrait_398x224_softmax.onnx"


def million_macs(
    model: nn.Module, height: int, width: int, inside: nn.Module | None = None
) -> float:
    """Multiplications of all convolutions in `inside` for one picture, in millions."""
    counted = 0

    def count(conv: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal counted
        counted += out.numel() * conv.weight[0].numel()

    convs = [m for m in (inside or model).modules() if isinstance(m, nn.Conv2d)]
    hooks = [conv.register_forward_hook(count) for conv in convs]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    return counted / 1e6


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# As published (PaddleSeg): block, live parameters, MMACs at 192x192.
TABLE = [
    ("stem", 1_044, 8.96),
    ("shortcut", 684, 5.97),
    ("stage1", 14_292, 9.89),
    ("stage2", 97_704, 15.77),
    ("reduce", 10_928, 1.51),
    ("fuse", 6_278, 55.17),
    ("classify", 836, 6.49),
]


@pytest.mark.parametrize(("block", "count", "macs"), TABLE)
def test_v1_lite_block_by_block(block: str, count: int, macs: float) -> None:
    model = pphumanseg.PPHumanSegV1Lite()
    part = getattr(model, block)
    assert parameters(part) == count
    assert million_macs(model, 192, 192, part) == pytest.approx(macs, abs=0.0051)


def test_v1_lite_in_total() -> None:
    model = pphumanseg.PPHumanSegV1Lite()
    assert parameters(model) == 131_766
    assert million_macs(model, 192, 192) == pytest.approx(103.76, abs=0.01)
    assert million_macs(model, 224, 398) == pytest.approx(251.26, abs=0.01)
    assert million_macs(model, 144, 256) == pytest.approx(103.76, abs=0.01)


def official_weights(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(str(path)).graph
    arrays = {i.name: onnx.numpy_helper.to_array(i).copy() for i in graph.initializer}
    return [
        (torch.from_numpy(arrays[node.input[1]]), torch.from_numpy(arrays[node.input[2]]))
        for node in graph.node
        if node.op_type == "Conv"
    ]


def test_v1_lite_is_the_official_network(models_dir: Path, data_dir: Path) -> None:
    """With the official weights it gives the official output, within 1e-4."""
    runtime = pytest.importorskip("onnxruntime")
    pairs = official_weights(models_dir / OFFICIAL)
    assert len(pairs) == 48
    model = pphumanseg.PPHumanSegV1Lite().eval()
    pphumanseg.load_folded(model.blocks(), pairs)
    session = runtime.InferenceSession(
        str(models_dir / OFFICIAL), providers=["CPUExecutionProvider"]
    )
    picture = load_image(read_list(data_dir / "val.txt")[0].image)
    rgb = cv2.resize(picture, (398, 224))[:, :, ::-1].astype(np.float32) / 127.5 - 1
    x = np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])
    (expected,) = session.run(None, {session.get_inputs()[0].name: x})
    with torch.no_grad():
        found = torch.softmax(model(torch.from_numpy(x)), dim=1).numpy()
    assert np.ptp(expected[0, 1]) > 0.5, "the input must move the output"
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weights_of_another_network_are_refused() -> None:
    model = pphumanseg.PPHumanSegV1Lite()
    pairs = [(torch.zeros(1, 1, 1, 1), torch.zeros(1))] * 48
    with pytest.raises(DatasetError, match="another network"):
        pphumanseg.load_folded(model.blocks(), pairs)
    with pytest.raises(DatasetError, match="48"):
        pphumanseg.load_folded(model.blocks(), pairs[:3])


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


def test_an_unknown_shape_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DatasetError, match=r"lite, base, fine, slim, wide.*huge"):
        network.PortraitNet("huge")
