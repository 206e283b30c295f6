"""PP-HumanSegV1-Lite is the published network, and it trains, begins and exports as ours do."""

from __future__ import annotations

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")
pytest.importorskip("safetensors")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from edge_seg.calibration.dataset import load_image, read_list  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.training import checkpoint, fit, pphumanseg, state  # noqa: E402
from edge_seg.training.augment import Renderer  # noqa: E402
from edge_seg.training.collection import find, open_store  # noqa: E402
from edge_seg.training.export import to_onnx  # noqa: E402
from edge_seg.training.judge import Judge  # noqa: E402
from edge_seg.training.network import PortraitNet  # noqa: E402
from edge_seg.training.pphumanseg import PPHumanSegV1Lite  # noqa: E402
from edge_seg.training.processes import Place  # noqa: E402
from edge_seg.training.recipe import Recipe  # noqa: E402
from tests import toy_pictures  # noqa: E402

OFFICIAL = "pphumanseg_v1_lite_portrait_398x224_softmax.onnx"
ALONE = Place(0, 1, torch.device("cpu"))
SETTINGS = {
    "shape": pphumanseg.NAME,
    "sizes": [[0, 64]],
    "batch": 4,
    "steps": 2,
    "warmup": 0,
    "decay_from": 1,
    "lr": 1e-6,
    "ema": 0.5,
    "judge_every": 2,
    "bf16": False,
}


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
def test_it_is_as_large_as_published_block_by_block(block: str, count: int, macs: float) -> None:
    model = PPHumanSegV1Lite()
    part = getattr(model, block)
    assert parameters(part) == count
    assert million_macs(model, 192, 192, part) == pytest.approx(macs, abs=0.0051)


def test_it_is_as_large_as_published_in_total() -> None:
    model = PPHumanSegV1Lite()
    assert parameters(model) == 131_766
    assert million_macs(model, 192, 192) == pytest.approx(103.76, abs=0.01)
    assert million_macs(model, 224, 398) == pytest.approx(251.26, abs=0.01)
    assert million_macs(model, 144, 256) == pytest.approx(103.76, abs=0.01)


@pytest.fixture
def official(models_dir: Path) -> PPHumanSegV1Lite:
    pytest.importorskip("onnx")
    return pphumanseg.official(models_dir / OFFICIAL)


def photograph(data_dir: Path, size: tuple[int, int]) -> np.ndarray:
    """A picture of val.txt as the network takes it, float32 (1, 3, height, width)."""
    picture = load_image(read_list(data_dir / "val.txt")[0].image)
    rgb = cv2.resize(picture, size)[:, :, ::-1].astype(np.float32) / 127.5 - 1
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])


def test_it_is_the_official_network(
    official: PPHumanSegV1Lite, models_dir: Path, data_dir: Path
) -> None:
    """With the official weights it gives the official answer, within 1e-4."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(
        str(models_dir / OFFICIAL), providers=["CPUExecutionProvider"]
    )
    x = photograph(data_dir, (398, 224))
    (expected,) = session.run(None, {session.get_inputs()[0].name: x})
    with torch.no_grad():
        logits = official(torch.from_numpy(x))
    large = functional.interpolate(logits, scale_factor=2.0, mode="bilinear", align_corners=False)
    found = torch.sigmoid(large)[0, 0].numpy()
    assert np.ptp(expected[0, 1]) > 0.5, "the input must move the output"
    np.testing.assert_allclose(found, expected[0, 1], atol=1e-4)


def test_an_unfolded_network_answers_in_training_as_it_does_after(
    models_dir: Path, data_dir: Path
) -> None:
    pytest.importorskip("onnx")
    network = pphumanseg.official(models_dir / OFFICIAL)
    x = torch.from_numpy(photograph(data_dir, (128, 128))).repeat(2, 1, 1, 1)
    with torch.no_grad():
        before = network(x)
        folded = copy.deepcopy(network).train()(x)  # normalises what was normalised already
        pphumanseg.unfold(network, x)
        after, training = network.eval()(x), network.train()(x)
    assert float((folded - before).abs().mean()) > 1
    torch.testing.assert_close(after, before, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(training, before, atol=1e-2, rtol=1e-2)


def test_a_run_begins_with_what_the_official_file_knows(
    models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    files = find(toy_pictures.write(tmp_path / "data"))
    run = fit.Run(tmp_path, Recipe.from_dict(SETTINGS), place=ALONE)
    run.start_from(models_dir / OFFICIAL)
    renderer = Renderer(open_store(files, tmp_path / "pictures", side=90), run.recipe)
    run.fit(renderer, lambda network, side: {"miou": 0.5})
    network, facts = checkpoint.load_network(tmp_path / state.BEST)
    assert facts["network"] == "PPHumanSegV1Lite"
    x = torch.from_numpy(photograph(data_dir, (224, 224)))
    with torch.no_grad():
        trained = torch.sigmoid(network(x))
        began = torch.sigmoid(pphumanseg.official(models_dir / OFFICIAL)(x))
    assert float((trained - began).abs().mean()) < 0.02  # two steps of a tiny learning rate


def test_it_is_exported_as_it_computes(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = PPHumanSegV1Lite().eval()
    to_onnx(network, tmp_path / "net.onnx", side=96)
    x = torch.randn(1, 3, 96, 96)
    session = runtime.InferenceSession(
        str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, {"picture": x.numpy()})
    assert found.shape == (1, 1, 48, 48) and np.ptp(found) > 0
    with torch.no_grad():
        np.testing.assert_allclose(found, network(x).numpy(), atol=1e-4)


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    to_onnx(PortraitNet("lite"), tmp_path / "other.onnx", side=64)
    with pytest.raises(DatasetError, match=r"other\.onnx: wanted the official .* 48 convolutions"):
        checkpoint.load_network(tmp_path / "other.onnx")
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x07 no network")
    with pytest.raises(DatasetError, match=r"torn\.onnx: wanted the official"):
        checkpoint.load_network(tmp_path / "torn.onnx")


def test_weights_of_one_kind_do_not_begin_another(tmp_path: Path) -> None:
    ours = fit.Run(tmp_path, Recipe.from_dict(SETTINGS | {"shape": "lite"}), place=ALONE)
    ours.save()
    theirs = fit.Run(tmp_path / "other", Recipe.from_dict(SETTINGS), place=ALONE)
    with pytest.raises(DatasetError, match="wanted weights of pphumanseg-v1-lite, found .*lite"):
        theirs.start_from(tmp_path / state.WARM)


def test_the_weights_that_are_kept_see_a_person(data_dir: Path) -> None:
    kept = Path(__file__).parent.parent / "training" / "pphumanseg.safetensors"
    network, facts = checkpoint.load_network(kept)
    assert facts["network"] == "PPHumanSegV1Lite" and facts["recipe"]["scl"] == 0.1
    pairs = read_list(data_dir / "val.txt")[:8]
    found = [Judge([pair], [])(network, 160)["person_iou"] for pair in pairs]
    assert np.mean(found) > 0.85  # street fashion, whole bodies
