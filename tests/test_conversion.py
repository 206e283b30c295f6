"""Whole conversions: a network whose answer is known, and both official ones.

Slow: each runs onnx2tf, whose environment is made on first use (EDGE_SEG_CACHE).
"""

from __future__ import annotations

import functools
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("ai_edge_quantizer")

from edge_seg import EdgeSegmenter  # noqa: E402
from edge_seg.bundle import ModelBundle  # noqa: E402
from edge_seg.calibration.frames import gather  # noqa: E402
from edge_seg.cli import main  # noqa: E402
from edge_seg.converters import environment, family, gate, guards, qdq  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.conversion import Job, Row  # noqa: E402
from edge_seg.converters.conversion import convert as convert_job  # noqa: E402
from edge_seg.converters.targets import TARGETS, Network  # noqa: E402
from edge_seg.errors import ConversionError, QualityRefused  # noqa: E402
from edge_seg.files import sha256_of  # noqa: E402
from edge_seg.segmenter import open_artifact  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec  # noqa: E402
from tests import bright_network, toy_pictures  # noqa: E402
from tests.bright_network import HEIGHT, WIDTH, bright_is_person  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402

pytestmark = pytest.mark.slow
MOST_LOST = 0.003  # of mIoU, on val.txt: the project's promise for both official networks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with bright.onnx, its spec, and pictures it is right about."""
    toy_pictures.write(tmp_path / "data", train=12, val=6)
    bright_network.save(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def convert(folder: Path) -> Callable[..., int]:
    """`convert` of the network in `folder` into `made`."""

    def call(*words: str, labels: bool = True, calibration: str = "data/train.txt") -> int:
        judge = ["--labels", "data/val.txt"] if labels else []
        given = ["convert", "bright.onnx", "--int8", "--spec", "bright.toml", *judge]
        return main([*given, "--calibration", calibration, "-o", "made", *words])

    return call


def _nothing_half_written(folder: Path) -> bool:
    return not [p for p in folder.iterdir() if p.name.startswith(".")]


# --- a network whose answer is known --------------------------------------------------------------


def test_a_network_becomes_a_bundle_that_runs(
    folder: Path, convert: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert() == 0
    said = capsys.readouterr().out
    assert "quality on val.txt (6 pictures)" in said and said.count("passed") == 2
    assert _nothing_half_written(folder)
    bundle = ModelBundle.load("made")
    assert [a.name for a in bundle.artifacts] == ["tflite-fp32", "tflite-int8"]
    assert bundle.verify() == [] and bundle.name == "bright"
    assert bundle.source["sha256"] == sha256_of(folder / "bright.onnx")
    frame, label = toy_pictures.picture(4242)
    for artifact in bundle.artifacts:
        with open_artifact(bundle, artifact) as segmenter:
            mask = segmenter.segment(frame)
        assert np.mean((mask >= 0.5) == (label == 1)) > 0.97
    with EdgeSegmenter.open("made", board="rpi5") as segmenter:
        assert segmenter.artifact == bundle.named("tflite-int8") and not segmenter.degraded


def test_the_manifest_says_how_each_artifact_was_made(
    folder: Path, convert: Callable[..., int]
) -> None:
    assert convert() == 0
    data = json.loads((folder / "made" / "manifest.json").read_text())
    assert data["format_version"] == 1
    assert data["input"] | {"height": HEIGHT, "width": WIDTH, "color": "rgb"} == data["input"]
    assert data["output"] == {"activation": "logit", "channel": 0}
    assert data["source"]["output"] == {"activation": "probability", "channel": 1}
    fp32, int8 = data["artifacts"]
    for entry in (fp32, int8):
        content = (folder / "made" / entry["file"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["size"] == len(content)
        assert {"onnx2tf", "onnx", "ai-edge-quantizer"} <= entry["made"]["tools"].keys()
        assert entry["quality"]["kind"] == "labels" and entry["quality"]["n"] == 6
        assert entry["quality"]["on_sha256"] == sha256_of(folder / "data/val.txt")
        assert entry["quality"]["miou"] > 0.9
    assert fp32["made"]["max_difference_from_onnx"] < 1e-3
    calibration = gather(folder / "data/train.txt", bright_network.INPUT)
    told = {"frames": 12, "sha256": calibration.sha256, "skipped": 0}
    assert int8["made"]["calibration"].items() >= told.items()
    assert int8["made"]["calibration"]["picked"].startswith("12 of 12 frames, 12 of 12 scenes")
    assert int8["made"]["float_operators"] == []
    seen = json.loads((folder / "made" / "calibration.json").read_text())
    assert seen["pictures_sha256"] == calibration.sha256 and len(seen["frames"]) == 12


@pytest.mark.parametrize("made", [{"batch": "N"}, {"channels_last": True}, {"name": "logit"}])
def test_forms_in_which_networks_are_exported(
    folder: Path, convert: Callable[..., int], made: dict[str, Any]
) -> None:
    bright_network.save(folder, bright_is_person(**made))
    assert convert() == 0
    assert ModelBundle.load("made").named("tflite-int8").quality["miou"] > 0.9


def test_one_command_makes_every_target(
    folder: Path, convert: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert("--to", "all") == 0
    said = capsys.readouterr().out
    bundle = ModelBundle.load("made")
    assert [a.name for a in bundle.artifacts] == [
        *("tflite-fp32", "tflite-int8", "openvino-fp16", "openvino-int8"),
        *("onnx-fp32", "onnx-int8"),
    ]
    assert bundle.verify() == [] and said.count("passed") == 6
    assert qdq.check_form(onnx.load(bundle.file(bundle.named("onnx-int8")))) == []
    for artifact in bundle.artifacts:
        assert artifact.quality["miou"] > 0.9, artifact.name
        assert artifact.latency["bare_call_ms"] > 0 and "CPU" in artifact.latency["measured_on"]
        with open_artifact(bundle, artifact) as segmenter:
            frame, label = toy_pictures.picture(4242)
            assert np.mean((segmenter.segment(frame) >= 0.5) == (label == 1)) > 0.97
    # Whether int8 is worth it here is said of every library that has both.
    assert said.count("advice: ") == 3
    # And again by what the bundle keeps.
    words = ["convert", "made", "--int8", "--calibration", "data/train.txt", "-o", "again"]
    assert main([*words, "--labels", "data/val.txt", "--to", "onnx"]) == 0


def test_a_target_that_fails_does_not_stop_the_others(
    folder: Path,
    convert: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(progress: object, tool: object) -> Path:
        raise ConversionError("wanted the network to install onnx2tf, found none; connect it")

    monkeypatch.setattr(environment, "python", refuse)
    assert convert("--to", "all") == 3
    said = capsys.readouterr()
    assert "tflite-float: wanted the network to install onnx2tf" in said.out
    assert said.out.count("passed") == 4 and said.out.count("refused") == 1
    assert "refused: tflite; the bundle holds the targets that passed" in said.err
    names = [a.name for a in ModelBundle.load("made").artifacts]
    assert names == ["onnx-fp32", "openvino-fp16", "openvino-int8", "onnx-int8"]
    assert convert("--to", "tflite", "--keep-onnx") == 2, "nothing passed: no second bundle"
    assert "connect it" in capsys.readouterr().err
    assert [a.name for a in ModelBundle.load("made").artifacts] == names


def test_a_head_of_five_classes_is_reduced_by_the_channel_of_the_spec(
    folder: Path, convert: Callable[..., int]
) -> None:
    b = Builder((1, 3, HEIGHT, WIDTH))
    kernel = np.full((5, 3, 3, 3), -bright_network.GAIN / 27)
    kernel[[0, 1, 4]] *= np.array([0.2, 0.1, 0.5]).reshape(3, 1, 1, 1)
    kernel[3] *= -1
    logits = b.op("Conv", "picture", b.constant(kernel), pads=[1, 1, 1, 1])
    bright_network.save(folder, b.model(b.op("Softmax", logits, axis=1)))
    spec = folder / "bright.toml"
    spec.write_text(spec.read_text().replace("channel = 1", "channel = 3"))
    assert convert("--to", "onnx,openvino") == 0
    bundle = ModelBundle.load("made")
    assert bundle.source["output"] == {"activation": "probability", "channel": 3}
    assert all(a.quality["miou"] > 0.9 for a in bundle.artifacts)


def test_without_labels_agreement_is_judged_and_called_that(
    convert: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(labels=False) == 0
    said = capsys.readouterr().out
    assert "agreement with the float network on held-back frames" in said
    assert "mIoU" not in said
    quality = ModelBundle.load("made").named("tflite-int8").quality
    assert quality["kind"] == "agreement" and quality["agreement"] > 0.95
    assert "miou" not in quality and "person_iou" not in quality


def test_a_bundle_that_keeps_its_onnx_can_be_converted_again(
    folder: Path, convert: Callable[..., int]
) -> None:
    assert convert("--keep-onnx") == 0
    words = ["convert", "made", "--int8", "--calibration", "data/train.txt", "-o", "again"]
    assert main([*words, "--labels", "data/val.txt"]) == 0
    first, again = ModelBundle.load("made"), ModelBundle.load("again")
    assert again.name == first.name == "bright" and again.input == first.input
    assert len(first.artifacts) == 3 and len(again.artifacts) == 2
    kept = first.named("onnx-fp32").quality["miou"]
    assert again.named("tflite-fp32").quality["miou"] == pytest.approx(kept, abs=1e-3)


def test_int8_that_quantisation_spoiled_is_refused_and_nothing_is_written(
    folder: Path, convert: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    # Calibrated on white walls, no negative logit has a code: everything is a person.
    bright_network.plain_pictures(folder / "walls", 250)
    assert convert(calibration="walls") == 3
    said = capsys.readouterr()
    assert "tflite-int8: collapsed: it sees person everywhere" in said.out
    assert "passed" in said.out and "refused" in said.out, "the table is shown all the same"
    assert "the float artifact is sound" in said.err
    assert not (folder / "made").exists() and _nothing_half_written(folder)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("mean = [0.5, 0.5, 0.5]", "mean = [2.0, 2.0, 2.0]", "it sees background everywhere"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [-1.0, -1.0, -1.0]", "it sees person everywhere"),
        ("channel = 1", "channel = 0", "another channel may be the person"),
    ],
)
def test_a_wrong_spec_is_a_collapse_of_the_float_network(
    folder: Path,
    convert: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    told: str,
) -> None:
    spec = folder / "bright.toml"
    spec.write_text(spec.read_text().replace(old, new))
    assert convert() == 3
    said = capsys.readouterr().err
    assert "the float network itself collapsed" in said and told in said
    assert "check the spec" in said
    assert not (folder / "made").exists()


def test_an_old_bundle_survives_a_refusal_and_gives_way_to_a_new_one(
    folder: Path, convert: Callable[..., int]
) -> None:
    assert convert("--frames", "8") == 0
    old = (folder / "made" / "manifest.json").read_bytes()
    bright_network.plain_pictures(folder / "walls", 250)
    assert convert(calibration="walls") == 3
    assert (folder / "made" / "manifest.json").read_bytes() == old
    assert ModelBundle.load("made").verify() == []
    assert convert() == 0
    assert (folder / "made" / "manifest.json").read_bytes() != old
    assert sorted(p.name for p in folder.iterdir() if "made" in p.name) == ["made"]


def test_skipped_pictures_are_counted_and_named(
    folder: Path, convert: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "data/train/5.png").write_bytes(b"junk")
    assert convert() == 0
    assert "skipped: data/train/5.png" in capsys.readouterr().out
    made = ModelBundle.load("made").named("tflite-int8").made
    assert made["calibration"]["frames"] == 11 and made["calibration"]["skipped"] == 1


@pytest.mark.parametrize("file", ["", "model-fp32.tflite", "model-int8.tflite"])
def test_ctrl_c_leaves_a_whole_bundle_and_nothing_else(
    folder: Path, convert: Callable[..., int], file: str
) -> None:
    assert convert() == 0
    before = {p.name: p.read_bytes() for p in (folder / "made").iterdir()}
    command = [sys.executable, "-m", "edge_seg", "convert", "bright.onnx", "--int8"]
    command += ["--spec", "bright.toml", "--calibration", "data/train.txt", "-o", "made"]
    # A shell that starts CI in the background hands down SIGINT as ignored: a terminal does not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 60
    while not list(folder.glob(f".made.*.part/{file}")) and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert "Traceback" not in said
    assert ModelBundle.load("made").verify() == []
    assert _nothing_half_written(folder)
    if file != "model-int8.tflite":  # after that one it may be a new bundle: the whole of it
        assert running.returncode == 130 and "interrupted" in said
        assert {p.name: p.read_bytes() for p in (folder / "made").iterdir()} == before


# --- the official networks ------------------------------------------------------------------------


def official_job(models_dir: Path, data_dir: Path, file: str, **settings: Any) -> Job:
    path = models_dir / file
    spec, output = family.known_spec(reader.load(path))
    spec = settings.pop("input", spec)
    exam = gate.exam_from_labels(data_dir / "val.txt")
    calibration = gather(data_dir / "train.txt", spec, count=settings.pop("count", 100))
    return Job(Network(path, spec, output), calibration, labelled=exam, **settings)


@pytest.mark.parametrize(
    ("file", "float_miou", "dead"),
    [
        ("pphumanseg_v1_lite_portrait_398x224_softmax.onnx", 0.9331, 0),
        ("pphumanseg_v2_lite_portrait_256x144_softmax.onnx", 0.9414, 2),
    ],
    ids=["V1-Lite", "V2-Lite"],
)
def test_official_networks_keep_their_quality_in_int8_on_every_target(
    models_dir: Path, data_dir: Path, tmp_path: Path, file: str, float_miou: float, dead: int
) -> None:
    rows: list[Row] = []
    job = official_job(models_dir, data_dir, file, targets=tuple(TARGETS))
    bundle = convert_job(job, tmp_path / "made", table=rows.extend).bundle
    for target in TARGETS:
        made = bundle.named(f"{target}-int8")
        for key in ("miou", "person_iou"):
            assert rows[0].figures[key] - made.quality[key] <= MOST_LOST, (target, key)
        assert made.made["float_operators"] == []
    assert qdq.check_form(onnx.load(bundle.file(bundle.named("onnx-int8")))) == []
    fp32, int8 = bundle.named("tflite-fp32"), bundle.named("tflite-int8")
    assert fp32.made["max_difference_from_onnx"] < 1e-3
    # float: not worse than the same weights measured elsewhere with the same pictures.
    assert float_miou - 0.002 < fp32.quality["miou"] < float_miou + 0.01
    assert fp32.quality["n"] == int8.quality["n"] == 170
    assert int8.size < 0.6 * fp32.size
    assert len(int8.made["dead_layers"]) == dead
    assert int8.made["float_operators"] == [] and int8.made["calibration"]["frames"] == 100
    assert guards.check_int8(bundle.file(int8), bundle.file(fp32)) == []
    assert [row.reasons for row in rows] == [()] * 6


def test_no_loss_at_all_is_refused_where_there_is_one(
    models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    file = "pphumanseg_v2_lite_portrait_256x144_softmax.onnx"
    job = official_job(models_dir, data_dir, file, max_drop=0.0, count=20)
    rows: list[Row] = []
    with pytest.raises(QualityRefused, match=r"tflite-int8: lost 0\.\d+ points of"):
        convert_job(job, tmp_path / "made", table=rows.extend)
    assert len(rows) == 2 and rows[1].figures["miou"] > 0.9, "the table is shown all the same"
    assert list(tmp_path.iterdir()) == []


def test_the_field_s_best_known_mistake_is_named(
    models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    # Raw BGR 0..255 into a network that wants RGB -1..1.
    raw = InputSpec(144, 256, mean=(0.0,) * 3, std=(1 / 255,) * 3, color="bgr")
    file = "pphumanseg_v2_lite_portrait_256x144_softmax.onnx"
    job = official_job(models_dir, data_dir, file, input=raw, count=8)
    with pytest.raises(QualityRefused, match="float network itself collapsed.*check the spec") as e:
        convert_job(job, tmp_path / "made")
    assert "likely cause: wrong normalisation" in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_another_family_converts_by_its_spec(
    models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    # models/README.md: BGR, (x - mean) / std / 255 on 0..255.
    mean = (102.89 / 255, 111.25 / 255, 126.91 / 255)
    spec = InputSpec(320, 320, mean=mean, std=(62.93, 62.82, 66.36), color="bgr", fit="stretch")
    path = models_dir / "sinet_320x320.onnx"
    exam = gate.exam_from_labels(data_dir / "val.txt")
    calibration = gather(data_dir / "train.txt", spec, count=40)
    network = Network(path, spec, OutputSpec("probability", 1))
    job = Job(network, calibration, labelled=exam, max_drop=3.0)
    fp32, int8 = convert_job(job, tmp_path / "made").bundle.artifacts
    assert fp32.quality["miou"] > 0.8 and fp32.made["max_difference_from_onnx"] < 1e-3
    assert int8.quality["miou"] > 0.8


def test_a_network_fed_on_another_scale_says_so_where_libraries_disagree(
    models_dir: Path, data_dir: Path, tmp_path: Path
) -> None:
    # SINet wants numbers of about +-0.01. Fed 0..1, its logits reach 1e9: rounding decides.
    spec = InputSpec(320, 320, mean=(0.0,) * 3, std=(1.0,) * 3, color="rgb", fit="stretch")
    calibration = gather(data_dir / "train.txt", spec, count=40)
    network = Network(models_dir / "sinet_320x320.onnx", spec, OutputSpec("probability", 1))
    with pytest.raises(
        ConversionError, match=r"logits reach \de\+09.*check the spec's mean and std"
    ):
        convert_job(Job(network, calibration), tmp_path / "made")
    assert list(tmp_path.iterdir()) == []
