"""Fixtures shared by all tests: where the data lies, and a bundle and a board without a vendor."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_seg.bundle import ModelBundle, describe, save_manifest
from edge_seg.spec import InputSpec, OutputSpec

ROOT = Path(__file__).parent.parent
FAKE_INPUT = InputSpec(height=64, width=96, fit="letterbox", color="rgb")
FAKE_BOARD = """\
title = "A board without a vendor"
aliases = []

[[runtime]]
backend = "fake"
precision = "int8"
options = { threads = 1 }

[[runtime]]
backend = "fake"
precision = "fp32"
options = { threads = 1 }
"""

with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    # A machine that is busy with other things is slow to make examples: no fault of the code's.
    slow = [HealthCheck.too_slow]
    settings.register_profile("busy", deadline=None, suppress_health_check=slow)
    settings.load_profile("busy")


def _shared(name: str) -> Path:
    """Return a folder of EDGE_SEG_DATA; skip where it is absent, fail where it must be there."""
    base = Path(os.environ.get("EDGE_SEG_DATA", ROOT.parent / "shared"))
    folder = base / name
    if not folder.is_dir():
        reason = f"no {folder}; point EDGE_SEG_DATA at the folder that holds data/ and models/"
        if os.environ.get("EDGE_SEG_REQUIRE_DATA") == "1":
            pytest.fail(f"EDGE_SEG_REQUIRE_DATA=1, but {reason}")
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of photographs, labels and clips."""
    return _shared("data")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of networks trained elsewhere."""
    return _shared("models")


def make_fake_bundle(
    folder: Path, input: InputSpec = FAKE_INPUT, precisions: tuple[str, ...] = ("fp32", "int8")
) -> ModelBundle:
    """Save a bundle of the fake backend's artifacts in `folder`, which exists."""
    artifacts = []
    for precision in precisions:
        path = folder / f"fake-{precision}.json"
        dtype = "int8" if precision == "int8" else "float32"
        path.write_text(
            json.dumps({"height": input.height, "width": input.width, "dtype": dtype}),
            encoding="utf-8",
        )
        artifacts.append(describe(path, format="fake", precision=precision))
    bundle = ModelBundle(
        path=folder,
        name="bright is person",
        input=input,
        output=OutputSpec(activation="logit", channel=0),
        artifacts=tuple(artifacts),
    )
    save_manifest(bundle)
    return bundle


@pytest.fixture
def fake_bundle(tmp_path: Path) -> Path:
    """A bundle (fake-fp32, fake-int8; 64 high, 96 wide; letterbox) whose network says
    "person" where a pixel is bright.
    """
    folder = tmp_path / "fake-bundle"
    folder.mkdir()
    make_fake_bundle(folder)
    return folder


@pytest.fixture
def fake_board(tmp_path: Path) -> Path:
    """A board.toml whose runtimes are the fake backend's int8, then fp32."""
    folder = tmp_path / "fake-board"
    folder.mkdir()
    path = folder / "board.toml"
    path.write_text(FAKE_BOARD, encoding="utf-8")
    return path


def until(true: Callable[[], bool]) -> None:
    """Wait until a condition holds, for at most five seconds."""
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
