"""The README is true: its code runs, its commands exist and have the options it names."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from edge_seg import bundle as bundle_module
from edge_seg.bundle import ModelBundle, describe, save_manifest
from edge_seg.cli import EXIT_CODES, VERBS, build_parser
from edge_seg.spec import InputSpec, OutputSpec
from tests import tiny_networks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of a real, tiny TFLite network where the default network would lie."""
    pytest.importorskip("ai_edge_litert", reason="the tiny network is written with its schema")
    artifacts = []
    for precision in ("fp32", "int8"):
        path = tmp_path / f"model-{precision}.tflite"
        tiny_networks.save_tflite(path, quantized=precision == "int8")
        artifacts.append(describe(path, format="tflite", precision=precision))
    size = (tiny_networks.HEIGHT, tiny_networks.WIDTH)
    bundle = ModelBundle(tmp_path, "tiny", InputSpec(*size), OutputSpec(), tuple(artifacts))
    save_manifest(bundle)
    monkeypatch.setattr(bundle_module, "DEFAULT_BUNDLE", tmp_path)
    return tmp_path


def test_the_example_runs_and_is_about_ten_lines(
    shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    assert len([line for line in blocks[0].splitlines() if line.strip()]) <= 10
    for code in blocks:
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    printed = capsys.readouterr().out
    assert "(720, 1280) float32" in printed
    assert "degraded: False" in printed


def parsers() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_every_verb_is_in_the_readme() -> None:
    for verb in VERBS:
        assert f"edge-seg {verb}" in README, f"README names no `edge-seg {verb}`"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_every_option_says_what_it_does(verb: str) -> None:
    parser = parsers()[verb]
    assert parser.description
    for action in parser._actions:
        assert action.help, f"edge-seg {verb} {action.option_strings or action.dest} has no help"


def test_the_options_the_readme_names_are_there() -> None:
    known = parsers()
    texts = re.findall(r"`(edge-seg [^`]+)`", README)
    texts += re.findall(r"^ {4}(edge-seg (?:.*\\\n)*.*)$", README, re.MULTILINE)
    assert len(texts) > 5
    for text in texts:
        verb = text.split()[1]
        if verb.startswith("-"):
            continue
        assert verb in known, f"README: no verb {verb!r}"
        options = {o for a in known[verb]._actions for o in a.option_strings}
        for option in re.findall(r"(?<=[\s\[])--?[a-z][a-z0-9-]*", text):
            assert option in options, f"README: edge-seg {verb} has no {option}"


def test_the_exit_codes_the_readme_names_are_those_there_are() -> None:
    line = next(line for line in README.splitlines() if line.startswith("Exit codes:"))
    at = README.index(line)
    named = {int(n) for n in re.findall(r"(?:: |· |\n)(\d+) ", README[at : at + 250])}
    assert named >= {0, 130, *(code for _, code in EXIT_CODES)}


def test_the_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), f"README links to {target}"
