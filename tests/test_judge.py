"""Judging in training gives the very figures the runtime gives on the exported network."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_seg.bundle import ModelBundle, describe, save_manifest  # noqa: E402
from edge_seg.calibration.dataset import labelled_pairs  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.evaluation import evaluate  # noqa: E402
from edge_seg.segmenter import open_artifact  # noqa: E402
from edge_seg.training.collection import find  # noqa: E402
from edge_seg.training.export import to_onnx  # noqa: E402
from edge_seg.training.judge import Judge  # noqa: E402
from edge_seg.training.network import PortraitNet, input_spec, output_spec  # noqa: E402
from tests import toy_pictures  # noqa: E402

SIDE = 64


def uncertain_network() -> PortraitNet:
    """Weights drawn so that the masks are neither empty nor full: person where it is bright."""
    torch.manual_seed(0)
    network = PortraitNet("lite").eval()
    with torch.no_grad():
        network.head.weight.mul_(4.0)
    pictures = torch.rand(4, 3, SIDE, SIDE) * 2 - 1
    with torch.no_grad():
        network.head.bias.sub_(network(pictures).median())
    return network


def test_figures_are_those_of_the_runtime(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data", val=5)
    network = uncertain_network()
    figures = Judge(find(data).val, [])(network, SIDE)
    to_onnx(network, tmp_path / "net-fp32.onnx", side=SIDE)
    artifact = describe(tmp_path / "net-fp32.onnx", format="onnx", precision="fp32")
    bundle = ModelBundle(tmp_path, "toy", input_spec(SIDE), output_spec(), (artifact,))
    save_manifest(bundle)
    with open_artifact(bundle, artifact) as segmenter:
        quality = evaluate(segmenter, labelled_pairs(data / "val.txt")).to_dict()
    assert 0.05 < quality["predicted_share"] < 0.95, "the masks must say something"
    for name, value in figures.items():
        assert value == pytest.approx(quality[name], abs=2e-3), name


def test_rooms_are_judged_where_there_are_any(tmp_path: Path) -> None:
    data = toy_pictures.write(tmp_path / "data")
    network = PortraitNet("lite").eval()
    rooms = find(data).rooms
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(-5.0)
    figures = Judge(find(data).val, rooms)(network, SIDE)
    assert figures["room_share"] == 0.0 and figures["room_alarms"] == 0.0
    with torch.no_grad():
        network.head.bias.fill_(5.0)
    figures = Judge(find(data).val, rooms)(network, SIDE)
    assert figures["room_share"] == 1.0 and figures["room_alarms"] == 1.0


def test_nothing_to_judge_on_is_refused() -> None:
    with pytest.raises(DatasetError, match="judge"):
        Judge([], [])
