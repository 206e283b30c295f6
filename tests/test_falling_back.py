"""Falling back aloud, end to end: frames in, masks out, on a board whose hardware breaks."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_seg import EdgeSegmenter
from edge_seg.arrays import Picture
from edge_seg.backends import Backend, Tensor
from edge_seg.backends.fake import FakeBackend
from edge_seg.board import Board, Runtime
from edge_seg.bundle import ModelBundle
from edge_seg.choices import Choice
from edge_seg.cli import main
from edge_seg.cli.account import counted
from edge_seg.engine import Engine
from edge_seg.errors import BackendFailure, BackendUnavailable, MaskLate
from edge_seg.pixels import Mask
from edge_seg.recording import VideoFile, frames_in
from edge_seg.supervision import Policy, Supervisor

PROBES = 2  # calls that opening takes
FLOAT_STEP = 0.25 * (0.5 * 8 / 127 + 8 / 255) + 1e-3  # what int8 may differ from float by


def board(*options: dict[str, object], path: Path | None = None) -> Board:
    """A board of fake runtimes: int8 first, then fp32."""
    runtimes = [Runtime("fake", p, o) for p, o in zip(("int8", "fp32"), options, strict=False)]
    return Board("fake-board", "A board whose hardware breaks", (), {}, tuple(runtimes))


def frames(count: int, *, height: int = 60, width: int = 80) -> list[Picture]:
    """Frames with a bright person who walks; each differs from the next by more than noise."""
    shown = []
    for i in range(count):
        frame = np.full((height, width, 3), 20, np.uint8)
        left = (7 * i) % (width - 20)
        frame[height // 4 :, left : left + 20] = 250
        shown.append(frame)
    return shown


@pytest.fixture
def truth(fake_bundle: Path) -> Iterator[EdgeSegmenter]:
    """The same network on hardware that never breaks."""
    with EdgeSegmenter.open(fake_bundle, board=board({})) as segmenter:
        yield segmenter


def assert_right(mask: Mask, frame: Picture, truth: EdgeSegmenter) -> None:
    assert np.abs(mask - truth.segment(frame)).max() <= FLOAT_STEP
    assert mask.max() > 0.9, "never zeros: the person is there"


def test_a_device_lost_while_running_costs_no_frame(
    fake_bundle: Path, truth: EdgeSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    breaks = board({"fault": "lost", "after": PROBES + 10}, {})
    with (
        EdgeSegmenter.open(fake_bundle, board=breaks) as segmenter,
        caplog.at_level(logging.WARNING, "edge_seg"),
    ):
        for number, frame in enumerate(frames(30)):
            assert_right(segmenter.segment(frame), frame, truth)
            assert segmenter.degraded == (number >= 10)
        assert str(segmenter.runtime) == "fake fp32"
        assert segmenter.artifact is not None and segmenter.artifact.name == "fake-fp32"
        assert segmenter.backend.input.dtype == "float32", "tables and backend change together"
        assert "fake int8" in segmenter.reason and "device lost" in segmenter.reason
        assert segmenter.counters.switches == 1 and segmenter.counters.lost == 0
        assert segmenter.counters.failures == 2, "it was tried twice"
        assert segmenter.latency.count == 30
    assert len(caplog.records) == 1, "said once, not per frame"
    assert "running on fake fp32, because fake int8" in caplog.text


class Overflowing:
    """The fake network on a device whose arithmetic overflows from a call on: NaN in one cell."""

    def __init__(self, path: Path) -> None:
        self._backend = FakeBackend(path)
        self.input, self.output, self.calls = self._backend.input, self._backend.output, 0

    def infer(self, tensor: Tensor) -> Tensor:
        self.calls += 1
        answer = self._backend.infer(tensor)
        if self.calls > PROBES + 3:
            answer[0, 8, 12, 0] = np.nan
        return answer

    def close(self) -> None:
        self._backend.close()


def test_a_network_that_answers_nan_gives_way(fake_bundle: Path, truth: EdgeSegmenter) -> None:
    bundle = ModelBundle.load(fake_bundle)
    path = bundle.file(bundle.find("fake", "fp32"))

    def choice(name: str, make: Callable[[Path], Backend]) -> Choice:
        return Choice(name, lambda: Engine(bundle.input, bundle.output, backend=make(path)))

    engines = Supervisor([choice("gpu fp16", Overflowing), choice("cpu fp32", FakeBackend)])
    with EdgeSegmenter(engines, edges=True) as segmenter:
        for number, frame in enumerate(frames(8)):
            assert_right(segmenter.segment(frame), frame, truth)
            assert segmenter.degraded == (number >= 3)
        assert "gpu fp16: wanted numbers, found NaN in 1 of 384 values" in segmenter.reason


def test_a_frozen_device_is_left(fake_bundle: Path, truth: EdgeSegmenter) -> None:
    breaks = board({"fault": "sticks", "after": PROBES + 5}, {})
    shown, patience = frames(60), Policy(stuck=20)
    with EdgeSegmenter.open(fake_bundle, board=breaks, policy=patience) as segmenter:
        for frame in shown:
            segmenter.segment(frame)
        assert segmenter.counters.stuck == 1 and segmenter.degraded
        assert "the same answer to 20 changed pictures" in segmenter.reason
        assert_right(segmenter.segment(shown[3]), shown[3], truth)


def test_a_hang_is_late_by_no_more_than_the_deadline(
    fake_bundle: Path, truth: EdgeSegmenter
) -> None:
    breaks = board({"fault": "hangs", "after": PROBES + 5}, {})
    late, shown = [], frames(20)
    with EdgeSegmenter.open(fake_bundle, board=breaks, policy=Policy(deadline=0.3)) as segmenter:
        for number, frame in enumerate(shown):
            began = time.monotonic()
            try:
                assert_right(segmenter.segment(frame), frame, truth)
            except MaskLate:
                late.append(number)
            assert time.monotonic() - began < 0.3 + 0.2
            time.sleep(0.01)
        assert late == [5, 6] and segmenter.counters.hangs == 1 and segmenter.counters.lost == 2
        assert segmenter.degraded and "no answer in 300 ms" in segmenter.reason


FORKED = """
import os, sys
import numpy as np
from edge_seg import EdgeSegmenter, Policy
frame = np.full((60, 80, 3), 20, np.uint8)
frame[20:, 30:50] = 250
with EdgeSegmenter.open(sys.argv[1], board=sys.argv[2], policy=Policy(deadline=5)) as segmenter:
    wanted = segmenter.segment(frame)
    child = os.fork()
    same = bool((segmenter.segment(frame) == wanted).all())
    if not child:
        print("child", same, segmenter.degraded, segmenter.counters.lost, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("parent", same, segmenter.degraded, segmenter.counters.lost)
"""


def test_a_process_that_is_forked_gets_its_masks_too(fake_bundle: Path, fake_board: Path) -> None:
    words = [sys.executable, "-c", FORKED, str(fake_bundle), str(fake_board)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["child True False 0", "parent True False 0"], done.stderr


def test_a_stream_goes_on_after_a_late_mask(fake_bundle: Path, tmp_path: Path) -> None:
    import cv2

    for number, frame in enumerate(frames(12)):
        cv2.imwrite(str(tmp_path / f"{number:02d}.png"), frame)
    breaks = board({"fault": "hangs", "after": PROBES + 5}, {})
    with EdgeSegmenter.open(fake_bundle, board=breaks, policy=Policy(deadline=0.3)) as segmenter:
        seen = list(segmenter.stream(tmp_path))
        assert len(seen) == 12 - segmenter.counters.lost and segmenter.counters.lost >= 1
    assert all(mask.max() > 0.9 for _, mask in seen)


def test_unplugged_and_plugged_in_again(
    fake_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    npu = tmp_path / "npu"
    npu.touch()
    breaks, back = board({"device": str(npu)}, {}), Policy(pause=0.001, return_after=0.05)
    shown = frames(2)[0]
    with EdgeSegmenter.open(fake_bundle, board=breaks, policy=back) as segmenter:
        segmenter.segment(shown)
        npu.unlink()
        segmenter.segment(shown)
        assert segmenter.degraded
        npu.touch()
        with caplog.at_level(logging.WARNING, "edge_seg"):
            end = time.monotonic() + 5
            while segmenter.degraded and time.monotonic() < end:
                segmenter.segment(shown)
                time.sleep(0.005)
        assert not segmenter.degraded and segmenter.reason == ""
        assert str(segmenter.runtime).startswith("fake int8")
        assert segmenter.counters.returns == 1 and segmenter.counters.lost == 0
    assert "back on fake int8" in caplog.text


def test_when_everything_is_gone_each_frame_says_so(fake_bundle: Path, tmp_path: Path) -> None:
    npu = tmp_path / "npu"
    npu.touch()
    only = board({"device": str(npu)})
    shown = frames(1)[0]
    with EdgeSegmenter.open(fake_bundle, board=only, policy=Policy(pause=0.001)) as segmenter:
        before = segmenter.segment(shown)
        npu.unlink()
        with pytest.raises(BackendFailure, match="device lost"):
            segmenter.segment(shown)
        assert segmenter.degraded and str(segmenter.runtime).startswith("fake int8")
        npu.touch()
        time.sleep(0.05)
        assert np.array_equal(segmenter.segment(shown), before), "it works again"
        assert not segmenter.degraded and segmenter.counters.lost >= 1


def test_a_device_that_is_not_there_at_first_is_a_refusal(fake_bundle: Path) -> None:
    gone: dict[str, object] = {"device": "/nowhere/npu"}
    with EdgeSegmenter.open(fake_bundle, board=board(gone, {})) as segmenter:
        assert segmenter.degraded and "unplugged" in segmenter.reason
    with pytest.raises(BackendUnavailable, match="unplugged"):
        EdgeSegmenter.open(fake_bundle, board=board(gone))


class Steps:
    """A smoother that remembers: a new runtime must not be mixed with the old one's past."""

    def __init__(self) -> None:
        self.resets = 0

    def update(self, mask: Mask, picture: Picture, timestamp: float | None) -> Mask:
        return mask

    def reset(self) -> None:
        self.resets += 1


def test_the_smoother_starts_anew_on_another_runtime(fake_bundle: Path) -> None:
    breaks, smoother = board({"fault": "lost", "after": PROBES + 3}, {}), Steps()
    with EdgeSegmenter.open(fake_bundle, board=breaks, smoother=smoother) as segmenter:
        resets = []
        for number, frame in enumerate(frames(8)):
            segmenter.segment(frame, number / 30)
            resets.append(smoother.resets)
    assert [after - before for before, after in zip(resets, resets[1:], strict=False)] == [
        *(0, 0, 1),
        *(0, 0, 0, 0),
    ]


# --- through `edge-seg run` -----------------------------------------------------------------------

TWO = """\
title = "A board whose hardware breaks"
aliases = []
[[runtime]]
backend = "fake"
precision = "int8"
options = {{ {first} }}
"""
NEXT = '[[runtime]]\nbackend = "fake"\nprecision = "fp32"\n'


def run_on(folder: Path, bundle: Path, text: str) -> tuple[int, Path]:
    """Run a clip of 40 frames through the command; return its exit code and the video."""
    clip, toml, out = folder / "clip.webm", folder / "board.toml", folder / "out.webm"
    with VideoFile(clip, fps=30) as video:
        for frame in frames(40):
            video.write(frame)
    toml.write_text(text, encoding="utf-8")
    words = ["run", str(bundle), "--source", str(clip), "--board", str(toml), "-o", str(out)]
    return main(words), out


@pytest.mark.parametrize("fault", ["lost", "sticks"])
def test_run_goes_on_with_the_next_runtime(
    fault: str,
    fake_bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    text = TWO.format(first=f'fault = "{fault}", after = 15') + NEXT
    code, out = run_on(tmp_path, fake_bundle, text)
    told = capfd.readouterr()
    assert code == 0 and frames_in(out) == 40
    if fault == "lost":  # 40 frames are too few to call a device frozen
        assert "on fake fp32" in told.out
        assert caplog.text.count("running on fake fp32, because fake int8") == 1


def test_run_keeps_what_it_made_when_nothing_is_left(
    fake_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out = run_on(tmp_path, fake_bundle, TWO.format(first='fault = "lost", after = 15'))
    told = capfd.readouterr().err
    assert code == 1 and "device lost" in told and "Traceback" not in told
    assert frames_in(out) == 15 - PROBES and f"holds the {15 - PROBES} frames" in told


REHEARSAL = """title = "A rehearsal"
aliases = []
[[runtime]]
backend = "fake"
precision = "int8"
options = { fault = "hangs", after = 7 }
[[runtime]]
backend = "fake"
precision = "fp32"
"""


def test_run_gives_a_hung_runtime_up_and_every_mask_keeps_its_frame_s_name(
    fake_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    shown = frames(12)
    writer = cv2.VideoWriter(
        str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (80, 60)
    )
    for frame in shown:
        writer.write(frame)
    writer.release()
    (tmp_path / "board.toml").write_text(REHEARSAL)
    words = ["run", fake_bundle, "--board", tmp_path / "board.toml", "--smoothing", "off"]
    words += ["--source", tmp_path / "in.avi", "--masks", tmp_path / "masks", "--deadline", 300]
    words += ["-o", tmp_path / "out.webm"]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr()
    written = sorted(path.name for path in (tmp_path / "masks").glob("*.png"))
    lost = 12 - len(written)
    assert 1 <= lost <= 4 and f"{counted(lost, 'mask')} left out" in said.err
    assert f"{len(written)} masks" in said.out and "on fake fp32" in said.out
    assert frames_in(tmp_path / "out.webm") == 12, "as many frames as were read"
    for name in written:
        mask = cv2.imread(str(tmp_path / "masks" / name), cv2.IMREAD_UNCHANGED)
        person = shown[int(name[:6])].max(axis=2) > 150
        assert mask[person].mean() > 180 and mask[~person].mean() < 60, name


@pytest.mark.parametrize(("flag", "wrong"), [("--deadline", "0"), ("--return-after", "nan")])
def test_a_time_that_is_none_is_a_usage_error(
    flag: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--source", "x", "--masks", "y", flag, wrong])
    assert flag in capsys.readouterr().err
