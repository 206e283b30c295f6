"""The report says whose figures it holds, and its figures are of what ran."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import numpy as np
import pytest

from edge_seg import bench
from edge_seg.board import load
from edge_seg.bundle import ModelBundle


@pytest.fixture
def report(fake_bundle: Path, fake_board: Path) -> bench.Report:
    """A report of the fake backend, 25 calls on two small frames."""
    frames = [np.full((90, 120, 3), level, dtype=np.uint8) for level in (10, 240)]
    return bench.measure(
        ModelBundle.load(fake_bundle), board=str(fake_board), frames=("two", frames), calls=25
    )


def test_it_says_that_the_figures_are_not_the_boards(report: bench.Report) -> None:
    assert report.is_board is False
    assert report.headline.startswith("Measured on ")
    assert report.headline.endswith(
        "with the runtimes and threads of A board without a vendor: not a figure of that board."
    )
    for told in (f"Python {platform.python_version()}", platform.machine(), "fake 1"):
        assert told in report.measured_on


def test_json_says_so_too_at_its_top(report: bench.Report) -> None:
    data = json.loads(json.dumps(report.to_dict()))
    assert data["is_board"] is False
    assert "not a figure of that board" in data["note"]
    assert data["measured_on"] == report.measured_on
    assert (data["board"], data["artifact"]) == ("fake-board", "fake-int8")
    stages = ["prepare", "encode", "infer", "decode", "smooth", "edges", "restore"]
    assert list(data["stages"]) == stages
    assert data["frame_sizes"] == [[90, 120]]
    assert (data["source"], data["calls"], data["runtime"]) == ("two", 25, "fake int8, threads 1")


def test_on_the_board_itself_it_does_not_disclaim(fake_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "this-machine"
    folder.mkdir()
    (folder / "board.toml").write_text(
        'title = "Here"\naliases = []\n[match]\n"proc/self/status" = ["Name:"]\n'
        '[[runtime]]\nbackend = "fake"\nprecision = "fp32"\n'
    )
    board = load(str(folder / "board.toml"))
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc on this system")
    frames = [np.zeros((20, 30, 3), np.uint8)]
    here = bench.measure(fake_bundle, board=board, frames=("", frames), calls=3)
    assert here.is_board is True
    assert "not a figure" not in here.headline
    assert here.artifact == "fake-fp32"


def test_the_stages_make_up_the_whole(report: bench.Report) -> None:
    parts = sum(stage["p50"] for stage in report.stages.values())
    assert 0 < parts <= report.end_to_end["p99"] * 1.01
    for times in (*report.stages.values(), report.end_to_end):
        assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    assert report.init_ms > 0 and report.first_ms > 0
    assert report.peak_memory > 10 << 20


def test_time_is_put_down_to_the_stage_that_took_it() -> None:
    clock = bench.StageClock()
    for _ in range(3):
        clock.start()
        clock("prepare")
        time.sleep(0.02)
        clock("infer")
        clock("restore")
        clock.stop()
    assert min(clock.times["infer"]) >= 0.02
    assert min(clock.times["infer"]) > 5 * max(clock.times["prepare"])
    for total, infer in zip(clock.totals, clock.times["infer"], strict=True):
        assert total >= infer


def test_percentiles_are_in_milliseconds() -> None:
    found = bench.percentiles([i / 1000 for i in range(1, 101)])
    assert found["p50"] == pytest.approx(50.5)
    assert found["p90"] == pytest.approx(90.1)
    assert found["p99"] == pytest.approx(99.01)


def test_threads_that_replaced_the_boards_are_the_ones_reported(
    fake_bundle: Path, fake_board: Path
) -> None:
    frames = [np.zeros((20, 30, 3), np.uint8)]
    found = bench.measure(
        fake_bundle, board=str(fake_board), threads=3, frames=("", frames), calls=2
    )
    assert found.runtime == "fake int8, threads 3"


def test_a_first_choice_that_was_refused_is_told(fake_bundle: Path, fake_board: Path) -> None:
    (fake_bundle / "fake-int8.json").unlink()
    frames = [np.zeros((20, 30, 3), np.uint8)]
    found = bench.measure(fake_bundle, board=str(fake_board), frames=("", frames), calls=2)
    assert found.artifact == "fake-fp32"
    assert "fake-int8.json" in found.refused


def test_the_generated_sequence_is_the_same_every_time_and_moves() -> None:
    once, again = bench.generated(), bench.generated()
    assert all(f.shape == (720, 1280, 3) and f.dtype == np.uint8 for f in once)
    np.testing.assert_array_equal(once[3], again[3])
    assert (once[0] != once[1]).any()
