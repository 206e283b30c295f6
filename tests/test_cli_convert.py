"""`convert` and `eval` as a user mistypes them: one sentence, the right exit code, nothing written.

Nothing here needs onnx2tf: what cannot work is refused before minutes are spent. Whole conversions
are in test_conversion.py.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

from onnx import helper  # noqa: E402

from edge_seg import evaluation  # noqa: E402
from edge_seg.bundle import DEFAULT_BUNDLE, shipped  # noqa: E402
from edge_seg.calibration import manifest  # noqa: E402
from edge_seg.calibration.frames import gather  # noqa: E402
from edge_seg.cli import main, networks  # noqa: E402
from edge_seg.converters import environment  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.converters.rewrites import simplify  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.metrics import Quality  # noqa: E402
from tests import bright_network, toy_pictures  # noqa: E402
from tests.bright_network import bright_is_person  # noqa: E402
from tests.tiny_onnx import Builder  # noqa: E402

Say = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with bright.onnx, bright.toml and a data set; no onnx2tf anywhere."""
    toy_pictures.write(tmp_path / "data", train=12)
    bright_network.save(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_SEG_CACHE", str(tmp_path / "cache"))

    def refuse(progress: object, tool: object) -> Path:
        raise AssertionError("this should have been refused before the conversion began")

    monkeypatch.setattr(environment, "python", refuse)
    return tmp_path


@pytest.fixture
def convert(folder: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run `convert`; check the exit code and that nothing was written; return what it said.

    Keyword arguments replace the options of a command that would work; None leaves one out.
    """

    def call(model: str | None = "bright.onnx", *, code: int = 2, **given: str | None) -> str:
        before = _listing(folder)
        options: dict[str, str | None] = {
            "calibration": "data/train.txt",
            "labels": "data/val.txt",
            "spec": "bright.toml",
            "output": "made",
            **given,
        }
        words = ["convert", *([model] if model else []), "--int8"]
        for name, value in options.items():
            words += [] if value is None else [f"--{name.replace('_', '-')}", value]
        assert main(words) == code
        said = capsys.readouterr().err
        assert said.startswith("edge-seg: ") and "Traceback" not in said
        assert "wanted" in said and "found" in said
        assert _listing(folder) == before
        return said

    return call


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.lstat().st_size) for p in folder.rglob("*"))


def _network(shape: tuple[int | str, ...], *, outs: int = 2) -> onnx.ModelProto:
    b = Builder(shape)
    return b.model(b.op("Softmax", b.conv("picture", int(shape[1]), outs), axis=1))


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 9])
def test_a_file_that_is_no_onnx(folder: Path, convert: Say, content: bytes) -> None:
    (folder / "bright.onnx").write_bytes(content)
    assert "bright.onnx: wanted an ONNX file" in convert()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_a_truncated_onnx(folder: Path, convert: Say, share: float) -> None:
    whole = (folder / "bright.onnx").read_bytes()
    (folder / "bright.onnx").write_bytes(whole[: int(share * len(whole))])
    assert "bright.onnx: wanted" in convert()


def test_damaged_bytes_are_refused_in_words_whatever_they_hit(folder: Path) -> None:
    whole = (folder / "bright.onnx").read_bytes()
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 2):
            damaged[place] = random.integers(0, 256)
        (folder / "bright.onnx").write_bytes(damaged)
        try:
            model = reader.load(folder / "bright.onnx")
            with reader.naming(folder / "bright.onnx"):
                simplify(single_logit(model, bright_network.OUTPUT))
        except ConversionError as error:
            refused += 1
            assert "bright.onnx: " in str(error)
    assert refused > 30


def test_an_onnx_with_its_weights_elsewhere(folder: Path, convert: Say) -> None:
    onnx.save(
        bright_is_person(),
        folder / "bright.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert "weights inside the file" in convert()


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((1, 3, "H", "W"), "height (H) is dynamic"),
        ((1, 3, 48, "W"), "width (W) is dynamic"),
        ((1, 1, 48, 64), "wanted 3 channels"),
        ((1, 4, 48, 64), "wanted 3 channels"),
        ((2, 3, 48, 64), "wanted a batch of 1, found 2"),
        ((1, 3, 32, 64), "wanted the spec's 48x64"),
    ],
)
def test_an_input_of_another_form(
    folder: Path, convert: Say, shape: tuple[int | str, ...], told: str
) -> None:
    onnx.save(_network(shape), folder / "bright.onnx")
    assert told in convert()


def test_an_operator_nobody_knows(folder: Path, convert: Say) -> None:
    model = bright_is_person()
    model.graph.node[0].op_type = "Frobnicate"
    onnx.save(model, folder / "bright.onnx")
    assert "Frobnicate" in convert()


def test_an_operator_of_a_vendor(folder: Path, convert: Say) -> None:
    model = bright_is_person()
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, folder / "bright.onnx")
    assert "com.example.Conv" in convert()


def test_a_network_that_is_quantized_already(folder: Path, convert: Say) -> None:
    b = Builder((1, 3, 48, 64))
    ends = [b.constant(0.02), b.constant(0, np.int8)]
    codes = b.op("QuantizeLinear", b.conv("picture", 3, 2), *ends)
    model = b.model(b.op("Softmax", b.op("DequantizeLinear", codes, *ends), axis=1))
    onnx.save(model, folder / "bright.onnx")
    said = convert()
    assert "bright.onnx: node" in said and "quantized already (QuantizeLinear)" in said


def test_a_head_of_many_classes_that_cannot_be_reduced_says_why(folder: Path, convert: Say) -> None:
    """One that can be is converted by the channel its spec names: test_conversion.py."""
    spec = (folder / "bright.toml").read_text()
    onnx.save(_network((1, 3, 48, 64), outs=19), folder / "bright.onnx")
    (folder / "bright.toml").write_text(spec.replace("channel = 1", "channel = 19"))
    said = convert()
    assert "bright.onnx: " in said and "correct `channel` in the spec" in said
    assert "wanted the person in channel 19, found 19 channel(s)" in said
    (folder / "bright.toml").write_text(spec)
    b = Builder((1, 3, 48, 64))
    labels = b.op("ArgMax", b.conv("picture", 3, 19), axis=1, keepdims=1)
    onnx.save(b.model(b.op("Cast", labels, to=1)), folder / "bright.onnx")
    assert "found ArgMax, which leaves hard labels" in convert()
    b = Builder((1, 3, 48, 64))
    ends = [b.constant([v], np.int64) for v in (14, 16, 1)]
    kept = b.op("Slice", b.op("Softmax", b.conv("picture", 3, 19), axis=1), *ends)
    onnx.save(b.model(kept), folder / "bright.onnx")
    assert "wanted all 19 classes of the last Softmax" in convert()


@pytest.mark.parametrize("spec", ["bright.toml", None])
def test_a_network_that_no_spec_helps_is_refused_before_pictures_are_read(
    folder: Path, convert: Say, spec: str | None
) -> None:
    """The pictures may take minutes to look at; here they are not there at all."""
    none_there = {"spec": spec, "calibration": "gone", "labels": "gone.txt"}
    b = Builder((1, 3, 48, 64))
    labels = b.op("ArgMax", b.conv("picture", 3, 2), axis=1)
    onnx.save(b.model(b.op("Cast", labels, to=1)), folder / "bright.onnx")
    said = convert(**none_there)
    assert "bright.onnx: node" in said and "found ArgMax" in said and "[input]" not in said
    b = Builder((1, 3, 48, 64))
    logits = b.conv("picture", 3, 2)
    both = b.model(b.op("Softmax", logits, axis=1), more=[logits])
    onnx.save(both, folder / "bright.onnx")
    said = convert(**none_there)
    assert "bright.onnx: wanted one output, found 2" in said and "[input]" not in said


def test_a_spec_that_does_not_fit_is_refused_before_pictures_are_read(
    folder: Path, convert: Say
) -> None:
    spec = folder / "bright.toml"
    spec.write_text(spec.read_text().replace('"probability"', '"logit"'))
    said = convert(calibration="gone", labels="gone.txt")
    assert "ends in logits, found that it ends in Softmax" in said


def test_a_model_that_is_not_there(convert: Say) -> None:
    assert "found no such file" in convert("gone.onnx")


def test_a_bundle_without_its_onnx(convert: Say, fake_bundle: Path) -> None:
    said = convert(str(fake_bundle), spec=None)
    assert "keeps its float ONNX" in said and "fake-int8" in said


@pytest.mark.skipif("portrait-lite" not in shipped(), reason="no network ships here")
def test_a_network_that_ships_is_named_as_elsewhere(folder: Path, convert: Say) -> None:
    named = networks.read(Path("portrait"), None, folder, lambda *told: None)
    assert named.network.model.is_relative_to(DEFAULT_BUNDLE) and named.name == "portrait"
    assert "the bundle portrait, which has its own; leave --spec out" in convert("portrait")
    (folder / "portrait-int8").write_text("in the way")
    assert "portrait-int8: wanted a new folder" in convert("portrait", spec=None, output=None)
    (folder / "portrait").mkdir()  # one's own comes first
    assert "a folder that holds none of them" in convert("portrait", spec=None)


def test_a_bundle_has_its_own_contract(convert: Say, fake_bundle: Path) -> None:
    assert "leave --spec out" in convert(str(fake_bundle))


def test_a_folder_that_is_no_source(folder: Path, convert: Say) -> None:
    (folder / "photos").mkdir()
    said = convert("photos")
    assert "a training run, a PaddlePaddle inference model or a bundle" in said


def test_a_training_run_has_its_own_contract_and_needs_a_judged_network(
    folder: Path, convert: Say
) -> None:
    pytest.importorskip("torch", reason="the extra [train] is not installed")
    (folder / "run").mkdir()
    (folder / "run" / "recipe.json").write_text("{}")
    assert "the training run run, which has its own" in convert("run")
    assert "let edge-seg train reach its first judgement" in convert("run", spec=None)


def test_a_training_run_without_torch_says_what_to_install(
    folder: Path, convert: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "recipe.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "edge_seg.training.export", raising=False)
    said = convert("run", spec=None)
    assert 'pip install "edge-seg[train]"' in said


def test_a_paddle_model_without_its_weights(folder: Path, convert: Say) -> None:
    (folder / "net").mkdir()
    (folder / "net" / "model.pdmodel").write_bytes(b"junk")
    assert "net" in convert("net") and ".pdiparams" in convert("net")


# --- the spec -------------------------------------------------------------------------------------


def test_a_network_we_do_not_know_needs_a_spec(convert: Say) -> None:
    said = convert(spec=None)
    assert "--spec FILE.toml" in said and "[input]" in said


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("channel = 1", "channel = 2", "channel 2, found 2 channel"),
        ('"probability"', '"logit"', "ends in logits, found that it ends in Softmax"),
        ("height = 48", "height = 40", "wanted the spec's 40x64"),
        ("height = 48", 'height = "tall"', "'height' as int"),
        ("std = [0.5, 0.5, 0.5]", "std = [0.5, 0.0, 0.5]", "std above 0"),
        ("mean = [0.5, 0.5, 0.5]", "mean = [0.5, nan, 0.5]", "three finite numbers"),
        ('"rgb"', '"hsv"', "'color'"),
        ("[output]", "[outcome]", "'output'"),
        ("[input]", "[input", "spec in TOML"),
    ],
)
def test_a_wrong_spec(folder: Path, convert: Say, old: str, new: str, told: str) -> None:
    spec = folder / "bright.toml"
    assert old in spec.read_text()
    spec.write_text(spec.read_text().replace(old, new))
    assert told in convert()


def test_a_spec_that_is_not_there(convert: Say) -> None:
    assert "gone.toml" in convert(spec="gone.toml")


# --- the pictures ---------------------------------------------------------------------------------


def test_no_calibration_shows_the_command(convert: Say) -> None:
    assert "edge-seg convert bright.onnx --int8 --calibration FOLDER" in convert(calibration=None)


def test_an_empty_folder_five_pictures_and_nothing_there(folder: Path, convert: Say) -> None:
    (folder / "few").mkdir()
    assert "found 0" in convert(calibration="few")
    for i in range(5):
        shutil.copy(folder / f"data/train/{i}.png", folder / "few")
    assert "at least 8 calibration frames, found 5" in convert(calibration="few")
    assert "found no such file" in convert(calibration="gone")


def test_too_many_broken_pictures(folder: Path, convert: Say) -> None:
    shutil.copytree(folder / "data/train", folder / "broken")
    for label in (folder / "broken").glob("*_label.png"):
        label.write_bytes(b"junk")
    said = convert(calibration="broken")
    assert "found 12 that are not" in said and "_label.png" in said


def test_a_list_with_a_missing_file_names_the_line(folder: Path, convert: Say) -> None:
    for option, name in (("calibration", "train.txt"), ("labels", "val.txt")):
        whole = (folder / "data" / name).read_text()
        (folder / "data" / name).write_text(whole + "gone.png gone.png\n")
        lines = len(whole.splitlines()) + 1
        assert f"{name} line {lines}" in convert(**{option: f"data/{name}"})
        (folder / "data" / name).write_text(whole)


def test_labels_that_are_missing_broken_or_empty(folder: Path, convert: Say) -> None:
    assert "found: No such file" in convert(labels="gone.txt")
    (folder / "bare.txt").write_text("data/val/1000.png\n")
    assert "wanted a label for every picture" in convert(labels="bare.txt")
    (folder / "empty.txt").write_text("\n")
    assert "found an empty list" in convert(labels="empty.txt")
    assert "found neither" in convert(labels="data/val")
    cv2.imwrite(str(folder / "data/val/1001_label.png"), np.full((60, 80), 7, np.uint8))
    assert "1001_label.png" in convert()


def test_calibrating_on_what_is_judged_is_a_leak(folder: Path, convert: Say) -> None:
    assert "4 of the labelled pictures" in convert(calibration="data/val")
    with open(folder / "data/train.txt", "a") as file:
        file.write("val/1002.png\n")
    assert "1 of the labelled pictures" in convert()


def test_calibrating_on_a_judged_video_is_a_leak(folder: Path, convert: Say) -> None:
    # 0.png to 11.png against 1000.png to 1003.png: by the first digit, "1" is in both.
    assert "3 frames of 1 scene judged on" in convert(scenes="([0-9])")
    assert "wanted a regular expression for scenes" in convert(scenes="([0-9]")
    assert "wanted a PP-HumanSeg14K frame name" in convert(scenes="pp-humanseg14k")
    # Only the calibration's names must fit the rule: what is judged may be another collection.
    assert "train/0.png: wanted a name that fits" in convert(scenes="^(10[0-9]+)")


def test_a_copy_of_a_judged_picture_is_a_leak(folder: Path, convert: Say) -> None:
    (folder / "data/train/5.png").write_bytes((folder / "data/val/1002.png").read_bytes())
    said = convert()
    assert "1 that copy labelled pictures" in said and "1002.png" in said


# --- options and places ---------------------------------------------------------------------------


def test_options_that_make_no_sense(folder: Path, convert: Say) -> None:
    assert "0..100" in convert(max_drop="-1")
    assert "0..100" in convert(max_drop="nan")
    assert "8..1000" in convert(frames="3")
    assert "--seed of 0 or more, found -3" in convert(seed="-3")
    assert "name ending in .png" in convert(contact_sheet="sheet.gif")
    (folder / "sheet.png").mkdir()
    assert "found a folder" in convert(contact_sheet="sheet.png")


def test_a_target_that_does_not_exist(convert: Say, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("coral", "tflite,coral", ",", "all,tflite"):
        with pytest.raises(SystemExit) as ended:
            convert(to=words)
        assert ended.value.code == 2
        assert "wanted targets from tflite, openvino, onnx" in capsys.readouterr().err


def test_without_int8(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "bright.onnx", "--calibration", "data/train.txt"]) == 2
    assert "wanted --int8" in capsys.readouterr().err


def test_a_place_that_is_taken_is_left_alone(folder: Path, convert: Say) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "precious.txt").write_text("keep me")
    assert "choose another -o" in convert(output="photos")
    assert "choose another -o" in convert(output="bright.toml")
    assert (folder / "photos" / "precious.txt").read_text() == "keep me"


def test_a_place_that_cannot_be_written(convert: Say) -> None:
    assert "choose another -o" in convert(output="/proc/bundle", code=1)


def test_a_bundle_is_not_converted_onto_itself(
    folder: Path, fake_bundle: Path, convert: Say
) -> None:
    said = convert(str(fake_bundle), output=str(fake_bundle), spec=None)
    assert "--keep-onnx" in said


# --- eval -----------------------------------------------------------------------------------------


@pytest.fixture
def measure(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `eval` on data/val.txt; return what it said on either channel."""

    def call(*words: str, code: int = 0, labels: str = "data/val.txt") -> str:
        assert main(["eval", *words, "--labels", labels]) == code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.out if code == 0 else said.err

    return call


def test_eval_of_an_onnx_is_what_the_network_says(
    folder: Path, measure: Callable[..., str]
) -> None:
    words = ["bright.onnx", "--spec", "bright.toml", "--json", "rows.json"]
    said = measure(*words)
    rows = json.loads((folder / "rows.json").read_text())
    assert [row["artifact"] for row in rows] == ["onnx-fp32"]
    assert rows[0]["n"] == 4 and {"miou", "person_iou", "boundary_f", "sc"} <= rows[0].keys()
    assert f"{100 * rows[0]['miou']:.2f}" in said and "onnx-fp32" in said
    # By hand: the network blurs over 3x3 and says person above the middle level.
    quality = Quality()
    for seed in range(1000, 1004):
        frame, label = toy_pictures.picture(seed)
        small = cv2.resize(frame, (64, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
        mean = cv2.blur(small, (3, 3)).mean(axis=2) / 127.5 - 1
        soft = 1 / (1 + np.exp(-2 * bright_network.GAIN * mean))
        quality.add(soft.astype(np.float32), label)
    assert rows[0]["miou"] == pytest.approx(quality.to_dict()["miou"], abs=0.01)


def test_eval_of_all_artifacts_is_a_list_of_rows(
    folder: Path, fake_bundle: Path, measure: Callable[..., str]
) -> None:
    measure(str(fake_bundle), "--artifact", "all", "--json", "rows.json")
    rows = json.loads((folder / "rows.json").read_text())
    assert [row["artifact"] for row in rows] == ["fake-fp32", "fake-int8"]
    assert all(0.8 < row["miou"] <= 1 and row["n"] == 4 for row in rows)
    said = measure(str(fake_bundle), "--artifact", "fake-int8")
    assert "fake-int8" in said and "fake-fp32" not in said


def test_eval_says_that_an_artifact_is_damaged_before_it_measures_the_others(
    fake_bundle: Path, measure: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object, **named: object) -> Quality:
        raise AssertionError("fake-fp32 was measured in vain")

    monkeypatch.setattr(evaluation, "evaluate", refuse)
    with (fake_bundle / "fake-int8.json").open("a") as file:
        file.write(" ")
    said = measure(str(fake_bundle), "--artifact", "all", code=2)
    assert "fake-int8.json: wanted" in said and "copy the bundle again" in said


def test_eval_says_where_masks_are_no_better_than_chance(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.toml").write_text(bright_network.SPEC.replace("channel = 1", "channel = 0"))
    for spec, told in (("bright.toml", ""), ("other.toml", "another channel may be the person")):
        assert main(["eval", "bright.onnx", "--spec", spec, "--labels", "data/val.txt"]) == 0
        said = capsys.readouterr().err
        assert told in said and ("onnx-fp32: collapsed" in said) == bool(told)


def test_eval_says_whether_the_picture_s_contours_were_drawn(
    folder: Path, fake_bundle: Path, measure: Callable[..., str]
) -> None:
    """They are where the output is coarser than the input: the fake network's is, by 4."""
    onnx_words = ("bright.onnx", "--spec", "bright.toml")
    for words, told, drawn in (
        ((str(fake_bundle), "--artifact", "fake-int8"), "with the picture's contours", True),
        ((str(fake_bundle), "--artifact", "fake-int8", "--edges", "off"), "network alone", False),
        (onnx_words, "the network alone", False),
    ):
        said = " ".join(measure(*words, "--json", "rows.json").split())
        assert told in said
        assert [row["edges"] for row in json.loads((folder / "rows.json").read_text())] == [drawn]


def test_eval_says_where_it_measures_on_what_was_calibrated_on(
    folder: Path, fake_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = gather(folder / "data/train.txt", bright_network.INPUT, count=9)
    manifest.save(fake_bundle, seen)
    words = ["eval", str(fake_bundle), "--artifact", "fake-fp32", "--labels"]
    assert main([*words, "data/train.txt"]) == 0
    told = "9 of these pictures were seen by calibration, first: data/train/"
    assert told in capsys.readouterr().err
    assert main([*words, "data/val.txt"]) == 0
    assert "seen by calibration" not in capsys.readouterr().err


def test_eval_on_a_clip_with_truth(
    folder: Path, fake_bundle: Path, measure: Callable[..., str]
) -> None:
    for part in ("frames", "masks"):
        (folder / "clip" / part).mkdir(parents=True)
    for seed in range(3):
        frame, label = toy_pictures.picture(seed)
        cv2.imwrite(str(folder / f"clip/frames/{seed:03d}.png"), frame)
        cv2.imwrite(str(folder / f"clip/masks/{seed:03d}.png"), 255 * label)
    assert "clip (3 pictures)" in measure(
        str(fake_bundle), "--artifact", "fake-fp32", labels="clip"
    )


def test_eval_s_user_mistakes(folder: Path, fake_bundle: Path, measure: Callable[..., str]) -> None:
    bundle = str(fake_bundle)
    assert "wanted an ONNX file, found no such file" in measure("gone.onnx", code=2)
    assert "--spec FILE.toml" in measure("bright.onnx", code=2)
    Path("large.toml").write_text(bright_network.SPEC.replace("height = 48", "height = 64"))
    said = measure("bright.onnx", "--spec", "large.toml", code=2)
    assert "wanted the spec's 64x64" in said and "correct the spec" in said
    assert "found a bundle" in measure(bundle, "--spec", "bright.toml", code=2)
    assert "one of those it holds: fake-fp32, fake-int8" in measure(
        bundle, "--artifact", "fake-int4", code=2
    )
    assert "gone.txt" in measure(bundle, code=2, labels="gone.txt")
    place = "/proc/rows.json"
    assert place in measure(bundle, "--artifact", "fake-fp32", "--json", place, code=1)
    (fake_bundle / "fake-int8.json").write_text("{}")
    assert "fake-int8.json" in measure(bundle, "--artifact", "all", code=2)


def test_eval_takes_a_symbolic_batch_and_channels_last(
    folder: Path, measure: Callable[..., str]
) -> None:
    words = ["bright.onnx", "--spec", "bright.toml", "--json", "rows.json"]
    found = []
    for model in (bright_is_person(), bright_is_person("N", channels_last=True)):
        bright_network.save(folder, model)
        measure(*words)
        found.append(json.loads((folder / "rows.json").read_text())[0]["miou"])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
