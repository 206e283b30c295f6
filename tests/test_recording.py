"""What was written is what was given: every frame, at its rate, or nothing under the name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_seg import recording
from edge_seg.errors import CameraLost, FrameError, OutputError
from edge_seg.recording import MaskFolder, PictureFile, VideoFile, frames_in, letterbox

LEVELS = list(range(10, 250, 20))  # the frames' grey, so that their order can be read back


def _frame(level: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), level, dtype=np.uint8)


def _read(path: Path) -> tuple[list[np.ndarray], float]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def _alone(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("fps", [1.0, 8.0, 29.97, 60.0])
def test_every_frame_in_order_at_the_rate(tmp_path: Path, fps: float) -> None:
    path = tmp_path / "out.webm"
    with VideoFile(path, fps=fps) as video:
        for level in LEVELS:
            video.write(_frame(level))
    frames, stated = _read(path)
    assert video.frames == len(frames) == len(LEVELS)
    # VP8's limited range and chroma cost a level or two.
    np.testing.assert_allclose([f.mean() for f in frames], LEVELS, atol=4)
    assert stated == pytest.approx(fps, rel=1e-3)
    assert path.read_bytes()[:4] == b"\x1aE\xdf\xa3", "not a Matroska/WebM file"
    assert b"V_VP8" in path.read_bytes()[:4096]
    assert _alone(tmp_path) == ["out.webm"]


def test_the_count_is_of_what_lies_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    with VideoFile(path, fps=30) as video:
        rng = np.random.default_rng(0)
        for _ in range(40):
            video.write(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    assert frames_in(path) == 40
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert 0 < frames_in(path) < 40
    assert frames_in(tmp_path / "nothing.webm") == 0


def test_pictures_of_other_sizes_get_bars(tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    with VideoFile(path, fps=1) as video:
        video.write(_frame(200, (48, 64)))
        video.write(_frame(200, (96, 32)))  # three times as tall as wide
    frames, _ = _read(path)
    assert [f.shape for f in frames] == [(48, 64, 3)] * 2
    assert frames[1][24, 32].min() > 180
    assert frames[1][24, 4].max() < 20


def test_an_odd_side_loses_nothing(tmp_path: Path) -> None:
    frame = _frame(100, (49, 65))
    frame[:, 64] = frame[48, :] = 230
    with VideoFile(tmp_path / "out.webm", fps=30) as video:
        for _ in range(3):
            video.write(frame)
    frames, _ = _read(tmp_path / "out.webm")
    assert video.size == (66, 50)
    assert frames[0].shape == (50, 66, 3)
    assert frames[0][20, 65].min() > 180 and frames[0][49, 20].min() > 180
    assert abs(int(frames[0][20, 20, 0]) - 100) < 6


def test_frames_too_small_for_a_video_are_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="10x12"),
        VideoFile(tmp_path / "out.webm", fps=30) as video,
    ):
        video.write(_frame(100, (12, 9)))
    assert _alone(tmp_path) == []


def test_letterbox_keeps_proportions() -> None:
    boxed = letterbox(_frame(255, (50, 100)), (60, 60))
    rows, columns = np.nonzero(boxed[:, :, 0])
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (30, 60)
    assert abs(rows.mean() - 29.5) <= 0.5


def test_an_error_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    path.write_bytes(b"yesterday's")
    with pytest.raises(ValueError, match="midway"), VideoFile(path, fps=30) as video:
        video.write(_frame(9))
        raise ValueError("midway")
    assert path.read_bytes() == b"yesterday's"
    assert _alone(tmp_path) == ["out.webm"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, CameraLost, OutputError])
def test_what_cannot_be_had_again_is_kept(tmp_path: Path, stop: type[BaseException]) -> None:
    path = tmp_path / "out.webm"
    with pytest.raises(stop), VideoFile(path, fps=30) as video:
        for level in LEVELS[:5]:
            video.write(_frame(level))
        raise stop("the cable")
    frames, _ = _read(path)
    assert video.frames == len(frames) == 5
    assert _alone(tmp_path) == ["out.webm"]


def test_ctrl_c_while_the_file_is_finished_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count_and_press(path: Path) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return frames_in(path)

    monkeypatch.setattr(recording, "frames_in", count_and_press)
    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "out.webm"
    with pytest.raises(KeyboardInterrupt), VideoFile(path, fps=30) as video:
        video.write(_frame(9))
    assert frames_in(path) == 1
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoFile(tmp_path / "out.webm", fps=30) as video:
        raise KeyboardInterrupt
    assert video.frames == 0
    assert _alone(tmp_path) == []


def test_the_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with VideoFile(tmp_path / "out.webm", fps=30) as video:
            video.write(_frame(9))
    finally:
        os.umask(old)
    assert (tmp_path / "out.webm").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["out.mp4", "out", "folder.webm", "file/out.webm"])
def test_a_place_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.webm").mkdir()
    (tmp_path / "file").write_text("not a folder")
    before = _alone(tmp_path)
    with pytest.raises(OutputError, match="out|folder"):
        VideoFile(tmp_path / name, fps=30)
    assert _alone(tmp_path) == before


# A size limit of the process stands in for a full disk: the system refuses writes beyond it.
FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from edge_seg.errors import OutputError
from edge_seg.recording import MaskFolder, VideoFile
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
folder = Path(sys.argv[2])
try:
    if sys.argv[1] == "video":
        with VideoFile(folder / "out.webm", fps=30) as video:
            for shift in range(60):
                video.write(np.roll(noise, shift, axis=1))
    else:
        masks = MaskFolder(folder)
        masks.write(np.zeros((240, 320), np.uint8), "small")
        masks.write(noise[:, :, 0], "large")
except OutputError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.parametrize(("what", "left"), [("video", []), ("masks", ["small.png"])])
def test_a_full_disk_is_noticed_and_nothing_half_written_stays(
    tmp_path: Path, what: str, left: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, what, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "free space" in done.stdout
    assert _alone(tmp_path) == left


def test_a_disk_that_fills_up_ends_the_run_early_and_keeps_what_was_recorded(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk to fill up")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        with (
            pytest.raises(OutputError, match="disk full after"),
            VideoFile(disk / "out.webm", fps=30) as video,
        ):
            for shift in range(2000):
                video.write(np.roll(noise, shift, axis=1))
        assert 0 < video.frames < 1900
        assert _alone(disk) == ["out.webm"]
        assert len(_read(disk / "out.webm")[0]) == video.frames
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_finished_video_takes_no_frame_and_keeps_its_count(tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    with VideoFile(path, fps=30) as video:
        for level in LEVELS:
            video.write(_frame(level))
        video.finish()
    assert video.frames == frames_in(path) == len(LEVELS)
    with pytest.raises(OutputError, match="found it finished"):
        video.write(_frame(0))
    assert _alone(tmp_path) == ["out.webm"] and frames_in(path) == len(LEVELS)


@pytest.mark.parametrize("frames", [0, 3])
def test_a_video_that_is_dropped_unfinished_leaves_nothing(tmp_path: Path, frames: int) -> None:
    video = VideoFile(tmp_path / "out.webm", fps=30)
    for level in LEVELS[:frames]:
        video.write(_frame(level))
    assert len(_alone(tmp_path)) == 1
    del video
    assert _alone(tmp_path) == []


# Forks in the middle, as a program's worker does: what ends there is not the video.
NEVER_FINISHED = """
import os, sys
import numpy as np
from edge_seg.recording import VideoFile
video = VideoFile(sys.argv[1] + "/out.webm", fps=30)
video.write(np.full((48, 64, 3), 9, np.uint8))
if (child := os.fork()) == 0:
    del video
    os._exit(0)
os.waitpid(child, 0)
print(len(os.listdir(sys.argv[1])))
video.itself = video
sys.exit(3)
"""


def test_a_program_that_ends_with_a_video_unfinished_leaves_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", NEVER_FINISHED, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (3, "1\n"), done.stderr
    assert _alone(tmp_path) == []


@pytest.mark.parametrize("name", ["camera/0001", "../0001", ""])
def test_a_picture_s_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="without a folder"):
        MaskFolder(tmp_path / "masks").write(np.zeros((4, 4), np.uint8), name)
    assert _alone(tmp_path) == ["masks"] and not _alone(tmp_path / "masks")


def test_masks_are_png_named_after_their_frames(tmp_path: Path) -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = MaskFolder(tmp_path / "new" / "masks").write(mask, "frame_07")
    assert path == tmp_path / "new" / "masks" / "frame_07.png"
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), mask)
    assert _alone(path.parent) == ["frame_07.png"]


def test_a_mask_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="--masks"):
        MaskFolder(tmp_path / "file")


def _odd_pixels() -> dict[str, object]:
    soft = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    return {"float": soft, "bool": soft > 0.5, "five": np.zeros((9, 9, 5), np.uint8), "none": None}


@pytest.mark.parametrize("what", list(_odd_pixels()))
def test_a_mask_that_a_png_would_hold_as_black_is_refused(tmp_path: Path, what: str) -> None:
    mask = _odd_pixels()[what]
    for write in (MaskFolder(tmp_path).write, PictureFile(tmp_path / "one.png").write):
        with pytest.raises(FrameError, match=r"uint8 \(height, width\).*found .*; pass "):
            write(mask, "a")  # type: ignore[arg-type]
    assert _alone(tmp_path) == []


@pytest.mark.parametrize(
    "frame", [_frame(9)[:, :, 0], _frame(9) / 255.0, np.zeros((48, 64, 4), np.uint8), [[0]]]
)
def test_what_is_no_frame_is_not_called_a_full_disk(tmp_path: Path, frame: object) -> None:
    with (
        pytest.raises(FrameError, match=r"wanted a frame of uint8 \(height, width, 3\), found"),
        VideoFile(tmp_path / "out.webm", fps=30) as video,
    ):
        video.write(frame)  # type: ignore[arg-type]
    assert _alone(tmp_path) == []


@pytest.mark.parametrize("fps", [0.0, 0.05, 241.0, float("nan"), None, "30", True])
def test_a_rate_no_video_can_have_is_refused_before_anything_runs(tmp_path: Path, fps: Any) -> None:
    """None is what a source says that knows no rate."""
    with pytest.raises(OutputError, match="0.1 to 240 frames per second, found"):
        VideoFile(tmp_path / "out.webm", fps=fps)
    assert _alone(tmp_path) == []
