"""A camera's video plays as fast as what was filmed, at whatever rate its frames could be had."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge_seg.camera import open_source
from edge_seg.cli import main
from edge_seg.recording import VideoFile
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.webm import stretch

FRAME = np.full((48, 64, 3), 90, np.uint8)


def written(path: Path, frames: int, *, seconds: float, fps: float) -> VideoFile:
    """Write frames that come `seconds` apart."""
    now = iter(np.arange(frames) * seconds + 5.0)
    with VideoFile(path, fps=fps, clock=lambda: float(next(now))) as video:
        for _ in range(frames):
            video.write(FRAME)
    return video


def times_of(path: Path) -> list[float]:
    with open_source(path) as source:
        return [shot.timestamp for shot in source]


@pytest.mark.parametrize(("frames", "seconds"), [(4, 0.08), (30, 0.08), (30, 0.4), (90, 0.01)])
def test_the_frames_lie_as_far_apart_as_they_came(
    tmp_path: Path, frames: int, seconds: float
) -> None:
    video = written(tmp_path / "a.webm", frames, seconds=seconds, fps=30)
    times = times_of(tmp_path / "a.webm")
    assert len(times) == frames == video.frames
    # A container's times are whole milliseconds, before they are stretched.
    assert np.diff(times) == pytest.approx(seconds, abs=0.0011 * max(1, 30 * seconds))
    assert times[-1] - times[0] == pytest.approx((frames - 1) * seconds, rel=0.02)
    assert video.fps == pytest.approx(1 / seconds, abs=0.01)
    with open_source(tmp_path / "a.webm") as source:
        assert source.fps == pytest.approx(1 / seconds, rel=0.01), "what players are told"


def test_a_rate_that_is_nearly_the_stated_one_is_that(tmp_path: Path) -> None:
    assert written(tmp_path / "a.webm", 20, seconds=1 / 29.8, fps=30).fps == 30
    assert written(tmp_path / "b.webm", 3, seconds=1.0, fps=30).fps == 30, "too few to tell"


def test_a_pace_for_which_the_file_has_no_room_leaves_it_as_it_was(tmp_path: Path) -> None:
    video = written(tmp_path / "a.webm", 6, seconds=1.0, fps=30)
    assert video.fps == 30 and np.diff(times_of(tmp_path / "a.webm")) == pytest.approx(
        1 / 30, abs=0.002
    )


@pytest.mark.parametrize(("factor", "fits"), [(16.777, True), (16.777216, False), (0.0, False)])
def test_the_largest_time_is_what_the_file_has_room_for(
    tmp_path: Path, factor: float, fits: bool
) -> None:
    """FFmpeg gives three bytes to the 1,000,000 ns of a millisecond."""
    path = tmp_path / "a.webm"
    written(path, 4, seconds=1 / 30, fps=30)
    before = path.read_bytes()
    assert stretch(path, factor) is fits
    assert (path.read_bytes() == before) is not fits


def test_a_camera_that_was_away_for_a_while_makes_no_slow_motion(tmp_path: Path) -> None:
    now = iter([0.0, 0.1, 0.2, 0.3, 60.3, 60.4, 60.5, 60.6])
    with VideoFile(tmp_path / "a.webm", fps=30, clock=lambda: next(now)) as video:
        for _ in range(8):
            video.write(FRAME)
    assert video.fps == pytest.approx(10, abs=0.01)
    assert np.diff(times_of(tmp_path / "a.webm")) == pytest.approx(0.1, abs=0.004)


def test_what_is_no_webm_is_not_touched(tmp_path: Path) -> None:
    whole = (tmp_path / "a.webm", tmp_path / "cut.webm")
    written(whole[0], 4, seconds=1 / 30, fps=30)
    content = whole[0].read_bytes()
    scale = content.index(bytes.fromhex("2ad7b1"))
    hostile = [b"", b"\0" * 100, b"\xff" * 5000, content[: scale + 5], b"RIFF" + content]
    hostile += [content[:n] for n in range(1, scale, 7)]
    for number, junk in enumerate(hostile):
        path = tmp_path / f"{number}"
        path.write_bytes(junk)
        assert not stretch(path, 2.0) and path.read_bytes() == junk


class Slow:
    """Makes every mask take a tenth of a second, and presses Ctrl-C after `left` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
        real = EdgeSegmenter.segment_shot
        self.left = left

        def slow(segmenter: EdgeSegmenter, *args: object, **kwargs: object) -> object:
            time.sleep(0.1)
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return real(segmenter, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(EdgeSegmenter, "segment_shot", slow)


@pytest.mark.parametrize("rate", [[], ["--fps", "30"]])
def test_a_camera_slower_here_than_it_states_is_not_filmed_too_fast(
    fake_bundle: Path,
    fake_board: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rate: list[str],
) -> None:
    Slow(monkeypatch, left=20)
    out = tmp_path / "out.webm"
    words = ["run", str(fake_bundle), "--board", str(fake_board), "--source", "fake:size=64x48"]
    began = time.monotonic()
    assert main([*words, "-o", str(out), *rate]) == 130
    took = time.monotonic() - began
    said = capsys.readouterr().err
    times = times_of(out)
    assert len(times) == 20
    if rate:  # what was asked for is kept, and said
        assert "times the speed; record with --fps" in said
        assert times[-1] - times[0] == pytest.approx(19 / 30, abs=0.01)
    else:
        assert "times the speed" not in said
        assert 1.8 < times[-1] - times[0] < took
