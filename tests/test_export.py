"""A training run as a source for `convert`: its best network, and that one's contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import edge_seg  # noqa: E402
from edge_seg.bundle import DEFAULT_BUNDLE, ModelBundle, shipped  # noqa: E402
from edge_seg.cli import main  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.training import checkpoint, fit, recipe, state  # noqa: E402
from edge_seg.training.export import export_run  # noqa: E402
from edge_seg.training.processes import Place  # noqa: E402
from edge_seg.training.recipe import Recipe  # noqa: E402
from tests.tiny_onnx import random_picture, run  # noqa: E402

SETTINGS = {"shape": "lite", "sizes": [[0, 64]], "steps": 4, "warmup": 1, "decay_from": 2}


@pytest.fixture
def trained(tmp_path: Path) -> fit.Run:
    """A run of no steps, whose folder looks as `edge-seg train` leaves it."""
    made = fit.Run(
        tmp_path / "run", Recipe.from_dict(SETTINGS), place=Place(0, 1, torch.device("cpu"))
    )
    made.folder.mkdir()
    (made.folder / "recipe.json").write_text("{}")
    checkpoint.save_tensors(made.folder / state.BEST, made.averaged.state_dict(), made.facts())
    return made


def test_a_run_is_a_source_like_any_other(trained: fit.Run, tmp_path: Path) -> None:
    """What comes out is read, reduced and answers as the network that was trained."""
    eats, returns = export_run(trained.folder, tmp_path / "net.onnx")
    logit = single_logit(reader.load(tmp_path / "net.onnx", eats), returns)
    picture = random_picture(logit)
    with torch.no_grad():
        truth = trained.averaged.eval()(torch.from_numpy(picture)).numpy()
    assert np.ptp(truth) > 0
    np.testing.assert_allclose(run(logit, picture), truth, atol=1e-4)


def test_a_checkpoint_file_is_one_too(trained: fit.Run, tmp_path: Path) -> None:
    """The small state that is kept with a project: weights in half precision."""
    checkpoint.save_warm(trained.folder / state.WARM, trained.averaged, trained.facts())
    export_run(trained.folder / state.WARM, tmp_path / "warm.onnx")
    export_run(trained.folder, tmp_path / "best.onnx")
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    answers = [run(onnx.load(tmp_path / f"{name}.onnx"), picture) for name in ("warm", "best")]
    np.testing.assert_allclose(*answers, atol=0.05)


def test_a_run_that_was_never_judged_says_what_to_do(trained: fit.Run, tmp_path: Path) -> None:
    (trained.folder / state.BEST).unlink()
    with pytest.raises(DatasetError, match="let edge-seg train reach its first judgement"):
        export_run(trained.folder, tmp_path / "net.onnx")


def test_it_is_told_from_other_sources(trained: fit.Run, tmp_path: Path, fake_bundle: Path) -> None:
    assert recipe.is_run(trained.folder)
    assert recipe.is_run(trained.folder / state.BEST)
    assert not recipe.is_run(fake_bundle)
    assert not recipe.is_run(tmp_path / "net.onnx")


@pytest.mark.skipif("portrait-lite" not in shipped(), reason="no network ships here")
def test_the_network_that_ships_is_exported_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "portrait", "--side", "64", "-o", "a small.onnx"]) == 0
    said = capsys.readouterr().out
    assert "convert 'a small.onnx' --spec 'a small.toml'" in said  # as a shell takes it
    Path("a small.onnx").rename("small.onnx")
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64)).astype(np.float32)
    export_run(DEFAULT_BUNDLE / state.WARM, Path("same.onnx"), side=64)
    answers = [run(onnx.load(name), picture) for name in ("small.onnx", "same.onnx")]
    np.testing.assert_array_equal(*answers)
    assert main(["export", "portrait-lite", "-o", "lite.onnx"]) == 2
    assert "edge-seg export portrait --side 160 -o lite.onnx" in capsys.readouterr().err
    assert not Path("lite.onnx").exists()
    Path("portrait").mkdir()  # one's own comes first
    assert main(["export", "portrait", "-o", "own.onnx"]) == 2


@pytest.mark.slow
def test_convert_takes_a_run(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The state that is kept beside the network that ships: from weights to a bundle, measured."""
    kept = Path(edge_seg.__file__).parent / "models" / "portrait" / "warm.safetensors"
    if not kept.is_file():
        pytest.skip("the network that ships keeps no training state")
    lists = {}
    for name, count in (("train", 16), ("val", 12)):
        lines = (data_dir / f"{name}.txt").read_text().splitlines()[:: 7 if name == "val" else 50]
        pairs = [" ".join(str(data_dir / p) for p in line.split()) for line in lines[:count]]
        lists[name] = tmp_path / f"{name}.txt"
        lists[name].write_text("\n".join(pairs) + "\n")
    words = ["convert", str(kept), "--int8", "--to", "onnx", "-o", str(tmp_path / "made")]
    words += ["--calibration", str(lists["train"]), "--labels", str(lists["val"])]
    assert main([*words, "--max-drop", "1"]) == 0
    bundle = ModelBundle.load(tmp_path / "made")
    assert bundle.source["origin"] == "training run warm.safetensors"
    assert [a.name for a in bundle.artifacts] == ["onnx-fp32", "onnx-int8"]
    assert all(a.quality["miou"] > 0.9 for a in bundle.artifacts)


def test_of_several_runs_the_mean_of_their_weights_is_written(
    trained: fit.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, mean = trained.folder, tmp_path / "two.safetensors", tmp_path / "mean.safetensors"
    network, facts = checkpoint.load_network(one / state.BEST)
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(3)
    checkpoint.save_warm(two, network, facts)
    assert main(["export", str(one), str(two), "-o", str(mean)]) == 0
    assert "the weights of 2 runs" in capsys.readouterr().out
    first, found = (checkpoint.load_network(p)[0] for p in (one / state.BEST, mean))
    for before, after in zip(first.parameters(), found.parameters(), strict=True):
        assert torch.allclose(
            2 * before, after, rtol=2e-3, atol=1e-4
        )  # they are kept in half precision
    assert checkpoint.load_network(mean)[1]["mean_of"] == [one.name, two.name]
    assert main(["export", str(mean), "-o", str(tmp_path / "mean.onnx")]) == 0
    assert main(["export", str(one), "--side", "64", "-o", str(mean)]) == 2
    assert "leave --side out" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["site.toml", "site"])
def test_a_name_that_the_contract_would_take_is_refused(
    trained: fit.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["export", str(trained.folder), "-o", str(tmp_path / name)]) == 2
    assert f"write -o {tmp_path / 'site.onnx'}" in capsys.readouterr().err
    assert not (tmp_path / name).exists()
