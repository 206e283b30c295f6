"""What Prometheus reads: parsed by its own library, compared with what happened to the frames."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from edge_seg import EdgeSegmenter
from edge_seg.board import Board, Runtime
from edge_seg.counters import BOUNDS, Latency
from edge_seg.errors import BackendUnavailable, MaskLate, OutputError
from edge_seg.files import sha256_of
from edge_seg.spec import InputSpec
from edge_seg.supervision import Policy
from tests.conftest import make_fake_bundle

pytest.importorskip("prometheus_client", reason='pip install "edge-seg[metrics]"')
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from edge_seg.exporter import Exporter, _digest  # noqa: E402

FRAME = np.zeros((48, 64, 3), np.uint8)


def read(exporter: Exporter) -> dict[tuple[str, str, str], float]:
    """Return (sample, segmenter, le) -> value, as Prometheus would read it."""
    with urllib.request.urlopen(exporter.address, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (s.name, s.labels["segmenter"], s.labels.get("le", "")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_what_happened_is_what_is_shown(fake_bundle: Path) -> None:
    breaks = Runtime("fake", "int8", {"fault": "lost", "after": 2 + 3})  # two when it opens
    board = Board("b", "B", (), {}, (breaks, Runtime("fake", "fp32")))
    with Exporter(0) as exporter, EdgeSegmenter.open(fake_bundle, board=board) as segmenter:
        exporter.watch(segmenter, name="door")
        assert read(exporter)["edge_seg_degraded", "door", ""] == 0
        for _ in range(7):
            segmenter.segment(FRAME)
        shown = read(exporter)
        assert shown["edge_seg_mask_seconds_count", "door", ""] == 7
        assert shown["edge_seg_mask_seconds_bucket", "door", "+Inf"] == 7
        total = shown["edge_seg_mask_seconds_sum", "door", ""]
        assert total == pytest.approx(segmenter.latency.total) and total > 0
        assert shown["edge_seg_degraded", "door", ""] == 1
        assert shown["edge_seg_switches_total", "door", ""] == 1
        assert shown["edge_seg_failures_total", "door", ""] == 2
        assert shown["edge_seg_lost_frames_total", "door", ""] == 0


def test_several_segmenters_under_their_names(fake_bundle: Path, fake_board: Path) -> None:
    with Exporter(0) as exporter:
        for name, count in (("front", 2), ("back", 5)):
            segmenter = EdgeSegmenter.open(fake_bundle, board=str(fake_board))
            exporter.watch(segmenter, name=name)
            for _ in range(count):
                segmenter.segment(FRAME)
            segmenter.close()  # its counts can still be read
        shown = read(exporter)
    assert shown["edge_seg_mask_seconds_count", "front", ""] == 2
    assert shown["edge_seg_mask_seconds_count", "back", ""] == 5


def in_use(exporter: Exporter) -> list[dict[str, str]]:
    """Return the labels of every edge_seg_runtime_info."""
    with urllib.request.urlopen(exporter.address, timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        info = next(f for f in families if f.name == "edge_seg_runtime_info")
    return [dict(sample.labels) for sample in info.samples]


def test_a_rollout_can_be_verified(tmp_path: Path, fake_board: Path) -> None:
    """The same network's next version, under the same name: its digest is another one."""
    seen = []
    with Exporter(0) as exporter:
        for side in (32, 64):
            folder = tmp_path / f"{side}"
            folder.mkdir()
            bundle = make_fake_bundle(folder, InputSpec(side, side))
            segmenter = EdgeSegmenter.open(folder, board=str(fake_board))
            exporter.watch(segmenter, name="door")
            assert segmenter.artifact is not None
            (labels,) = in_use(exporter)
            assert labels["bundle"] == bundle.name
            assert labels["artifact"] == segmenter.artifact.name
            assert labels["sha256"] == sha256_of(folder / segmenter.artifact.file)[:12]
            seen.append(labels["sha256"])
            segmenter.close()
    assert seen[0] != seen[1]


def test_weights_beside_the_network_count_for_its_digest() -> None:
    """OpenVINO's .xml is the same for two trainings of one network."""
    assert len({_digest(["a" * 64, weights * 64]) for weights in "bc"}) == 2


def test_what_is_unwatched_is_gone_and_the_rest_stays(fake_bundle: Path, fake_board: Path) -> None:
    with Exporter(0) as exporter:
        with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
            exporter.watch(segmenter, name="front")
            exporter.watch(segmenter, name="back")
            exporter.unwatch("front")
            exporter.unwatch("front")  # gone already
            assert {name for _, name, _ in read(exporter)} == {"back"}


def test_late_masks_count_for_as_long_as_they_were_waited_for(fake_bundle: Path) -> None:
    """Else the times look best when every mask is late."""
    hangs = Runtime("fake", "int8", {"fault": "hangs", "after": 2})  # two when it opens
    board = Board("b", "B", (), {}, (hangs,))
    policy = Policy(deadline=0.1, misses=1000)
    with Exporter(0) as exporter:
        segmenter = EdgeSegmenter.open(fake_bundle, board=board, policy=policy)
        exporter.watch(segmenter)
        for _ in range(2):
            with pytest.raises(MaskLate):
                segmenter.segment(FRAME)
        shown = read(exporter)
        assert shown["edge_seg_mask_seconds_count", "", ""] == 2
        assert shown["edge_seg_mask_seconds_bucket", "", "0.05"] == 0
        assert 0.2 <= shown["edge_seg_mask_seconds_sum", "", ""] < 2


def test_only_this_machine_can_read_it_unless_told_otherwise() -> None:
    with Exporter(0) as exporter:
        assert exporter.address.startswith("http://127.0.0.1:")
        assert exporter._server.socket.getsockname()[0] == "127.0.0.1"
    with Exporter(0, host="0.0.0.0") as exporter:
        assert exporter._server.socket.getsockname()[0] == "0.0.0.0"


def test_a_port_that_is_taken_is_said_and_closing_frees_it() -> None:
    with Exporter(0) as exporter:
        port = exporter._server.server_port
        with pytest.raises(OutputError, match=f"127.0.0.1:{port}.*choose another port"):
            Exporter(port)
    with pytest.raises(OutputError, match="choose another port"):
        Exporter(70_000)
    Exporter(port).close()


def test_without_the_library_the_command_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(BackendUnavailable, match=r"edge-seg\[metrics\]"):
        Exporter(0)


def test_a_latency_lies_in_the_bucket_that_holds_it() -> None:
    latency = Latency()
    for seconds in (0.0, 0.001, 0.0011, 3600.0):
        latency.add(seconds)
    assert latency.count == 4 and latency.total == pytest.approx(3600.0021)
    inside = {bound: n for bound, n in zip((*BOUNDS, np.inf), latency.buckets, strict=True) if n}
    assert inside == {0.0005: 1, 0.001: 1, 0.002: 1, np.inf: 1}


def test_run_shows_them_while_it_runs(fake_bundle: Path, fake_board: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "edge_seg", "run", fake_bundle, "--board", fake_board]
    command += [
        "--source",
        "fake:size=320x240",
        "--masks",
        tmp_path / "masks",
        "--metrics",
        str(port),
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert running.stderr is not None
        said = next(line for line in running.stderr if "counters" in line)
        assert f"http://127.0.0.1:{port}/metrics" in said
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert b"edge_seg_mask_seconds_count" in answer.read()
    finally:
        running.terminate()
        running.communicate(timeout=60)
    assert running.returncode == 143


@pytest.mark.parametrize("thing", [None, "door", EdgeSegmenter])
def test_what_is_no_segmenter_is_refused_at_once(thing: object) -> None:
    """Else the page would fail, for every segmenter, when it is read."""
    with Exporter(0) as exporter:
        with pytest.raises(OutputError, match=r"wanted a segmenter .* found"):
            exporter.watch(thing)  # type: ignore[arg-type]
        assert read(exporter) == {}


@pytest.mark.parametrize("name", [0, None, b"door", ("door",), "\udc80"])
def test_a_name_that_is_no_text_is_refused_at_once(name: object, fake_bundle: Path) -> None:
    """Else, too, the page would fail for every segmenter."""
    board = Board("b", "B", (), {}, (Runtime("fake", "fp32"),))
    with Exporter(0) as exporter, EdgeSegmenter.open(fake_bundle, board=board) as segmenter:
        exporter.watch(segmenter, name="door")
        with pytest.raises(OutputError, match="wanted name= as text .* found"):
            exporter.watch(segmenter, name=name)  # type: ignore[arg-type]
        assert read(exporter)["edge_seg_degraded", "door", ""] == 0


def test_a_port_that_is_none_is_refused_in_a_sentence() -> None:
    for port in ("9102", None, 3.5):
        with pytest.raises(OutputError, match="wanted to show counters"):
            Exporter(port)  # type: ignore[arg-type]
