"""`edge-seg inspect` on manifests from outside: a sentence, never a defect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_seg.bundle import ModelBundle
from edge_seg.cli import main
from edge_seg.errors import BundleError


def rewrite(folder: Path, place: str, value: Any) -> None:
    """Put a value into the manifest's `source`, or into that object of its first artifact."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    whole = manifest if place == "source" else manifest["artifacts"][0]
    whole[place] = value
    path.write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize("place", ["made", "quality", "latency"])
@pytest.mark.parametrize(
    "value", [10**400, -(10**400), [{"deep": 10**4000}]], ids=["large", "negative", "deep"]
)
def test_a_number_that_no_float_holds_is_a_sentence(
    fake_bundle: Path, capsys: pytest.CaptureFixture[str], place: str, value: object
) -> None:
    rewrite(fake_bundle, place, {"miou": value})
    with pytest.raises(BundleError, match=rf"artifacts\[0\].*2\^64 in '{place}'"):
        ModelBundle.load(fake_bundle)
    assert main(["inspect", str(fake_bundle)]) == 2
    said = capsys.readouterr().err
    assert "wanted numbers of up to 2^64" in said and len(said) < 400


def test_large_numbers_that_floats_hold_are_shown(
    fake_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(fake_bundle, "quality", {"miou": 2**64, "sc": float("inf"), "person_iou": float("nan")})
    rewrite(fake_bundle, "made", {"seed": 2**63})
    assert main(["inspect", str(fake_bundle)]) == 0
    assert str(2**63) in capsys.readouterr().out


@pytest.mark.parametrize("place", ["source", "made", "quality", "latency"])
@pytest.mark.parametrize("kind", ["objects", "lists"])
@pytest.mark.parametrize("depth", [20, 600])
def test_nesting_of_any_depth_is_shown_to_an_end(
    fake_bundle: Path, capsys: pytest.CaptureFixture[str], place: str, kind: str, depth: int
) -> None:
    deep: Any = "bottom"
    for _ in range(depth):
        deep = {"a": deep} if kind == "objects" else [deep]
    rewrite(fake_bundle, place, {"top": deep})
    assert main(["inspect", str(fake_bundle)]) == 0
    said = capsys.readouterr().out
    assert f"{place}.top" in said
    assert ("bottom" in said) == (depth == 20) and ("..." in said) == (depth == 600)


def test_what_is_true_of_every_artifact_stands_there_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["inspect", "portrait"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said.count("  quality.on: val.txt") == 1
    bundle = ModelBundle.load()
    for artifact in bundle.artifacts:
        begin = said.index(artifact.name)
        assert said[begin + 1] == f"  file: {artifact.files[0].file}"
        assert said.count(f"  sha256: {artifact.files[0].sha256}") == 1
    digits = [line.split(": ")[1] for line in said if ".bare_call_ms: " in line]
    assert len(digits) == len(bundle.artifacts) and all(len(text) <= 5 for text in digits)
    tools = bundle.named("openvino-int8").made["tools"]
    assert f"nncf {tools['nncf']}" in next(line for line in said if "nncf" in line)
