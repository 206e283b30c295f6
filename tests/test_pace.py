"""A camera's video plays as fast as what was filmed, at whatever rate its frames could be had."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge_seg.camera import open_source
from edge_seg.cli import main
from edge_seg.cli.pace import HELD, Paced
from edge_seg.recording import VideoFile
from edge_seg.segmenter import EdgeSegmenter

FRAME = np.full((48, 64, 3), 90, np.uint8)


def written(path: Path, frames: int, *, seconds: float, fps: float) -> tuple[float, int]:
    """Write frames that come `seconds` apart; return the rate and number of frames on the disk."""
    now = iter(np.arange(frames) * seconds + 5.0)
    with VideoFile(path, fps=fps) as video:
        paced = Paced(video, clock=lambda: float(next(now)))
        for _ in range(frames):
            paced.write(FRAME)
        paced.settle()
    with open_source(path) as source:
        return source.fps or 0.0, sum(1 for _ in source)


@pytest.mark.parametrize("frames", [4, HELD, 30])
def test_the_rate_is_what_the_frames_came_at(tmp_path: Path, frames: int) -> None:
    rate, count = written(tmp_path / "a.webm", frames, seconds=0.08, fps=30)
    assert rate == pytest.approx(12.5, rel=0.01) and count == frames


def test_a_rate_that_is_nearly_the_stated_one_is_that(tmp_path: Path) -> None:
    assert written(tmp_path / "a.webm", 20, seconds=1 / 28, fps=30)[0] == pytest.approx(30)
    assert written(tmp_path / "b.webm", 3, seconds=1.0, fps=30)[0] == pytest.approx(30)


def test_a_pace_that_no_video_has_is_the_nearest_one_it_can_have(tmp_path: Path) -> None:
    assert written(tmp_path / "a.webm", 20, seconds=0.0, fps=30)[0] == pytest.approx(240, rel=0.01)


class Slow:
    """Makes every mask take a tenth of a second: a board that is slower than its camera."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = EdgeSegmenter.segment_shot
        self.left = 30

        def slow(segmenter: EdgeSegmenter, *args: object, **kwargs: object) -> object:
            time.sleep(0.1)
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return real(segmenter, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(EdgeSegmenter, "segment_shot", slow)


def test_a_camera_slower_here_than_it_states_is_not_filmed_too_fast(
    fake_bundle: Path,
    fake_board: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Slow(monkeypatch)
    out = tmp_path / "out.webm"
    words = ["run", str(fake_bundle), "--board", str(fake_board), "--source", "fake:size=64x48"]
    began = time.monotonic()
    assert main([*words, "-o", str(out)]) == 130  # Ctrl-C, as `Slow` presses it
    took = time.monotonic() - began
    assert "times the speed" not in capsys.readouterr().err
    with open_source(out) as source:
        shots = list(source)
    assert len(shots) == 30
    assert 2.0 < shots[-1].timestamp - shots[0].timestamp <= took


def test_a_rate_that_was_asked_for_is_kept_and_said(
    fake_bundle: Path,
    fake_board: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Slow(monkeypatch).left = 15
    out = tmp_path / "out.webm"
    words = ["run", str(fake_bundle), "--board", str(fake_board), "--source", "fake:size=64x48"]
    assert main([*words, "-o", str(out), "--fps", "30"]) == 130
    assert "times the speed; record with --fps" in capsys.readouterr().err
    with open_source(out) as source:
        assert source.fps == pytest.approx(30)


def test_what_waits_when_a_run_ends_early_is_in_the_video(
    fake_bundle: Path, fake_board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Slow(monkeypatch).left = 5
    out = tmp_path / "out.webm"
    words = ["run", str(fake_bundle), "--board", str(fake_board), "--source", "fake:size=64x48"]
    assert main([*words, "-o", str(out)]) == 130
    with open_source(out) as source:
        assert sum(1 for _ in source) == 5
