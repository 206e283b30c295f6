"""Sources of frames: what they hand out, and what they say when they cannot."""

from __future__ import annotations

import errno
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_seg import pictures
from edge_seg.camera import LivePolicy, LiveSource, disk, open_source, orient, v4l2
from edge_seg.camera.shots import Shot, Source, known_fps
from edge_seg.camera.stream import Request
from edge_seg.errors import CameraError, CameraLost, DatasetError, SettingError
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.supervision import Policy
from tests.damaged_video import damage

RED_BGR = (0, 0, 255)
VIDEO = Path("a.mkv")


def _picture(path: Path, color: tuple[int, int, int] = RED_BGR, size: tuple[int, int] = (24, 32)):
    frame = np.zeros((*size, 3), dtype=np.uint8)
    frame[:] = color
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), frame)
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """12 frames of 64x48 at 8 fps; frame i is grey 20 * i."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 8.0, (64, 48))
    assert writer.isOpened()
    for i in range(12):
        writer.write(np.full((48, 64, 3), 20 * i, dtype=np.uint8))
    writer.release()
    return path


# --- video -----------------------------------------------------------------------------------


def test_a_video_gives_every_frame_in_order_with_its_time(video: Path) -> None:
    with open_source(video) as source:
        assert (source.live, source.moving, source.fps, source.count) == (False, True, 8.0, 12)
        assert source.counters is None, "a file loses nothing"
        shots = list(source)
    assert [s.name for s in shots] == [f"{i:06d}" for i in range(12)]
    assert [round(float(s.frame.mean()) / 20) for s in shots] == list(range(12))
    np.testing.assert_allclose([s.timestamp for s in shots], np.arange(12) / 8, atol=1e-3)
    assert all(s.frame.shape == (48, 64, 3) and s.frame.dtype == np.uint8 for s in shots)


class _Container:
    """The part of a capture that `_video_shots` uses, with a container's times written out."""

    def __init__(self, times: list[float]) -> None:
        self.times = times
        self.at = 0

    def get(self, what: int) -> float:
        return self.times[self.at] * 1000

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.at += 1
        more = self.at < len(self.times)
        return more, np.zeros((2, 2, 3), np.uint8) if more else None


def _shots_of(container: _Container, first: np.ndarray) -> list[Shot]:
    rest = disk._video_shots(container, first, lambda _: 0, path=VIDEO, format="bgr", fps=10.0)
    return list(rest)


@pytest.mark.parametrize(
    "times",
    [
        [0.0, 0.0, 0.0, 0.0],  # a container without times
        [0.0, 0.1, 0.1, 0.2],  # one repeated
        [0.0, 0.2, 0.1, 0.3],  # one turned back
        [5.0, 5.1, float("nan"), 5.3],
        [0.0, -0.1, -0.2, 0.5],
    ],
)
def test_times_always_grow(times: list[float]) -> None:
    first = np.zeros((2, 2, 3), np.uint8)
    shots = _shots_of(_Container(times), first)
    assert len(shots) == len(times)
    assert np.all(np.diff([s.timestamp for s in shots]) > 0)


def test_variable_frame_rate_keeps_the_containers_times() -> None:
    times = [0.0, 0.1, 0.4, 0.45, 1.0]
    first = np.zeros((2, 2, 3), np.uint8)
    shots = _shots_of(_Container(times), first)
    np.testing.assert_allclose([s.timestamp for s in shots], times)


def test_a_video_that_ends_before_its_header_says_so(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = (data_dir / "videos" / "intel_asl" / "brother.mkv").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) // 2])
    with open_source(path) as source:
        read = sum(1 for _ in source)
    assert 5 < read < 50
    assert "cut.mkv" in caplog.text and f"found {read}" in caplog.text


@pytest.mark.parametrize("damaged", [range(5, 6), range(3, 9), range(0, 2)])
def test_damaged_frames_do_not_end_a_video_and_are_counted(
    damaged: range, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(video, damaged)
    whole = [i for i in range(12) if i not in damaged]
    with open_source(video) as source:
        shots = list(source)
        assert source.damaged == len(damaged)
    assert [round(float(s.frame.mean()) / 20) for s in shots] == whole
    np.testing.assert_allclose([s.timestamp for s in shots], np.array(whole) / 8, atol=1e-3)
    assert f"found {len(damaged)} damaged" in caplog.text
    assert "cut short" not in caplog.text


def test_a_video_of_damaged_frames_alone_is_named_with_its_codec(video: Path) -> None:
    damage(video, range(12))
    with pytest.raises(CameraError, match=r"clip\.avi.*MJPG of which it decodes no frame"):
        open_source(video)


def test_real_clips_are_read_whole_with_growing_times(data_dir: Path) -> None:
    with open_source(data_dir / "videos" / "intel_asl" / "brother.mkv") as source:
        assert source.fps == 30.0
        times = [shot.timestamp for shot in source]
    assert 60 <= len(times) <= 70  # the header says 66
    assert np.all(np.diff(times) > 0)
    assert abs((times[-1] - times[0]) / (len(times) - 1) - 1 / 30) < 0.002


# --- pictures --------------------------------------------------------------------------------


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path) -> None:
    for name in ("shot10.png", "shot2.png", "shot1.jpg"):
        _picture(tmp_path / name)
    (tmp_path / "notes.md").write_text("not a picture")
    (tmp_path / "._shot1.jpg").write_bytes(b"what macOS lays beside a file")
    (tmp_path / "shot3.png").mkdir()
    with open_source(tmp_path) as source:
        assert (source.live, source.moving, source.fps, source.count) == (False, False, 1.0, 3)
        shots = list(source)
    assert [s.name for s in shots] == ["shot1", "shot2", "shot10"]
    assert [s.timestamp for s in shots] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("format", "pixel"), [("bgr", (0, 0, 255)), ("rgb", (255, 0, 0))])
def test_the_channel_order_is_the_one_asked_for(
    tmp_path: Path, format: str, pixel: tuple[int, int, int]
) -> None:
    _picture(tmp_path / "red.png")
    with open_source(tmp_path, format=format) as source:
        assert tuple(next(source).frame[3, 4]) == pixel
    with pytest.raises(SettingError, match="gbr"):
        open_source(tmp_path, format="gbr")


def test_a_clip_folder_is_a_moving_source_at_30_fps(tmp_path: Path) -> None:
    for i in range(3):
        _picture(tmp_path / "frames" / f"{i:05d}.png")
        _picture(tmp_path / "masks" / f"{i:05d}.png")
    with open_source(tmp_path) as source:
        assert (source.moving, source.fps, source.count) == (True, 30.0, 3)
        assert [s.name for s in source] == ["00000", "00001", "00002"]
    with open_source(tmp_path, fps=12.5) as source:
        np.testing.assert_allclose([s.timestamp for s in source], [0, 0.08, 0.16])


def test_a_single_picture_is_a_source_of_one(tmp_path: Path) -> None:
    with open_source(_picture(tmp_path / "me.png")) as source:
        assert [s.name for s in source] == ["me"]


def test_grey_and_transparent_pictures_become_colour(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 9), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.full((8, 9, 4), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((8, 9, 3), 77 * 257, np.uint16))
    with open_source(tmp_path) as source:
        for shot in source:
            assert shot.frame.shape == (8, 9, 3) and shot.frame.dtype == np.uint8, shot.name
            assert int(shot.frame.max()) == 77


def test_a_sideways_photograph_is_turned_upright(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((20, 40, 3), np.uint8))[1].tobytes()
    # An EXIF block with one entry: orientation 6, "turn 90 degrees clockwise to view".
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    block = b"Exif\0\0" + tiff
    path = tmp_path / "phone.jpg"
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:])
    assert pictures.read_picture(path).shape == (40, 20, 3)


def _noise_jpeg() -> bytes:
    rng = np.random.default_rng(0)
    return cv2.imencode(".jpg", rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))[1].tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.97])
def test_a_truncated_picture_is_left_out_by_name(
    tmp_path: Path, suffix: str, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    _picture(tmp_path / "a.png")
    _picture(tmp_path / "c.png")
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    damaged = tmp_path / f"b{suffix}"
    damaged.write_bytes(data[: int(len(data) * share)])
    with open_source(tmp_path) as source:
        assert [(shot.name, shot.timestamp) for shot in source] == [("a", 0.0), ("c", 2.0)]
        assert list(source.unread) == [damaged]
    assert f"b{suffix}: wanted a" in caplog.text and "left out" in caplog.text
    with open_source(damaged) as source, pytest.raises(CameraError, match=f"b{suffix}"):
        next(source)


def test_a_pipe_or_a_device_among_pictures_is_left_out_and_never_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    (tmp_path / "d.png").symlink_to("gone.png")
    with open_source(tmp_path) as source:
        assert [shot.name for shot in source] == ["a"]
        assert [path.name for path in source.unread] == ["b.png", "c.png", "d.png"]
    assert "b.png: wanted a picture, found a pipe or a device" in caplog.text


def test_what_cannot_be_read_leaves_no_descriptor_open(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("folder.png", "pipe.png", "gone.png"):
        with pytest.raises(CameraError, match=name):
            pictures.read_picture(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_no_picture_can_be_read_that_is_said_and_all_are_listed(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    with open_source(tmp_path) as source:
        with pytest.raises(CameraError, match=r"of 3 pictures none can be read; the last.*c\.png"):
            next(source)
        assert len(source.unread) == 3


def test_a_device_that_is_gone_ends_a_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(9):
        _picture(tmp_path / f"{i}.png")
    real = os.fstat

    def gone(number: int) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with open_source(tmp_path) as source:
        next(source)
        monkeypatch.setattr(pictures.os, "fstat", gone)
        try:
            source.read()
        except CameraError as error:
            said = str(error)
        finally:
            monkeypatch.setattr(pictures.os, "fstat", real)
        assert "1.png: wanted a picture, found: Input/output error" in said
        assert not source.unread


def test_a_stick_pulled_out_ends_a_folder_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stick = tmp_path / "stick"
    for i in range(50):
        _picture(stick / f"{i}.png")
    with open_source(stick) as source:
        assert next(source).name == "0"
        shutil.rmtree(stick)
        with pytest.raises(CameraError, match=r"1\.png.*the folder .*stick is gone"):
            next(source)
        assert source.read() is None and source.ended
    assert not caplog.records


def test_a_picture_too_large_for_the_memory_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: Any) -> None:
        error = cv2.error("OpenCV: Insufficient memory")
        error.code = cv2.Error.StsNoMem
        raise error

    path = _picture(tmp_path / "a.png")
    monkeypatch.setattr(cv2, "imdecode", none_left)
    with pytest.raises(
        CameraError, match=r"a\.png: wanted memory for 32x24 pixels, found too little here; reduce"
    ):
        pictures.read_picture(path)


def test_a_jpeg_cut_after_its_thumbnail_is_cut() -> None:
    whole = _noise_jpeg()
    block = b"Exif\0\0" + whole[:8000]
    with_thumbnail = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]
    assert b"\xff\xd9" in whole[-2:]
    assert not pictures.jpeg_is_cut(with_thumbnail)
    assert pictures.jpeg_is_cut(with_thumbnail[:-200])


def test_a_jpeg_with_something_appended_is_whole() -> None:
    assert not pictures.jpeg_is_cut(_noise_jpeg() + b"\xff\xd8\xff\xdaa phone's moving picture")


def _png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 4096)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_small_file_that_announces_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_of(30000, 30000))
    with pytest.raises(CameraError, match="30000x30000"):
        pictures.read_picture(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_the_size_is_known_from_the_header(suffix: str) -> None:
    data = cv2.imencode(suffix, np.zeros((45, 67, 3), np.uint8))[1].tobytes()
    assert pictures.picture_size(data) == (67, 45)


def test_another_format_under_a_pictures_name_is_refused(tmp_path: Path) -> None:
    # OpenCV goes by the content; a TIFF's size would not have been checked.
    path = tmp_path / "really.png"
    path.write_bytes(cv2.imencode(".tiff", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    with pytest.raises(CameraError, match="JPEG, PNG, BMP or WebP"):
        pictures.read_picture(path)


def _webp(header: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(header)) + b"WEBP" + header


def _headers() -> dict[str, bytes]:
    """Pictures of 67x45 in every format, and WebP's three kinds of first chunk."""
    blank = np.zeros((45, 67, 3), np.uint8)
    made = {s: cv2.imencode(s, blank)[1].tobytes() for s in (".jpg", ".png", ".bmp", ".webp")}
    sides = (66).to_bytes(3, "little") + (44).to_bytes(3, "little")
    made["extended"] = _webp(b"VP8X" + struct.pack("<I", 10) + bytes(4) + sides)
    made["lossy"] = cv2.imencode(".webp", blank, [cv2.IMWRITE_WEBP_QUALITY, 50])[1].tobytes()
    made["lossless"] = cv2.imencode(".webp", blank, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    return made


@pytest.mark.parametrize("kind", _headers())
def test_a_header_cut_anywhere_gives_the_true_size_or_none(kind: str) -> None:
    data = _headers()[kind]
    assert pictures.picture_size(data) == (67, 45)
    for end in range(min(len(data), 700)):
        assert pictures.picture_size(data[:end]) in {(67, 45), (0, 0)}, end
        pictures.jpeg_is_cut(data[:end])  # whatever it says of another format


def test_every_jpeg_cut_short_is_cut() -> None:
    for data in (_headers()[".jpg"], _noise_jpeg()):
        assert not pictures.jpeg_is_cut(data)
        ends = [*range(min(len(data), 700)), *range(700, len(data), 97), len(data) - 1]
        assert [end for end in ends if not pictures.jpeg_is_cut(data[:end])] == []


# --- lists -----------------------------------------------------------------------------------


def test_a_list_gives_its_pictures_in_its_order(tmp_path: Path) -> None:
    _picture(tmp_path / "in" / "b.png")
    label = _picture(tmp_path / "in" / "b_label.png")
    elsewhere = _picture(tmp_path / "else where" / "a.png")
    listed = tmp_path / "set.txt"
    listed.write_text(f"in/b.png in/b_label.png\n\n{elsewhere}\n{elsewhere} {label}\n")
    assert pictures.read_list(listed) == [
        (tmp_path / "in/b.png", label),
        (elsewhere, None),
        (elsewhere, label),
    ]
    with open_source(listed) as source:
        assert (source.moving, source.fps, source.count) == (False, 1.0, 3)
        assert [s.name for s in source] == ["b", "a", "a"]


def test_names_in_a_list_may_hold_any_spaces(tmp_path: Path) -> None:
    names = ("a  b.png", "c d.png", "a  label.png")
    first, second, label = (_picture(tmp_path / name) for name in names)
    long = _picture(tmp_path / ("n" * 200 + ".png"))
    also_long = _picture(tmp_path / ("l" * 200 + ".png"))
    listed = tmp_path / "set.txt"
    lines = ["a  b.png", "  c d.png \ta  label.png ", "a  b.png  a  label.png"]
    lines.append(f"{long.name} {also_long.name}")  # longer together than a name may be
    listed.write_text("\n".join(lines))
    wanted = [(first, None), (second, label), (first, label), (long, also_long)]
    assert pictures.read_list(listed) == wanted


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a.png\nmissing.png\n", 2),
        pytest.param("a.png\n" + 300 * "x", 2, id="a long word"),
        pytest.param("a.png\na.png " + 300 * "x", 2, id="a long label"),
        pytest.param("\n" + 300 * "some text that is no list ", 2, id="prose"),
        ("a.png\n\n\na.png no_label.png\n", 4),
        ("a.png a.png a.png a.png\n", 1),
    ],
)
def test_a_wrong_line_is_named_with_file_and_number(tmp_path: Path, text: str, line: int) -> None:
    _picture(tmp_path / "a.png")
    listed = tmp_path / "set.txt"
    listed.write_text(text)
    with pytest.raises(DatasetError, match=f"set.txt line {line}:"):
        pictures.read_list(listed)
    with pytest.raises(CameraError, match=f"set.txt line {line}:"):
        open_source(listed)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xff\xfe\x00p"])
def test_an_empty_or_binary_list_is_refused(tmp_path: Path, data: bytes) -> None:
    listed = tmp_path / "set.txt"
    listed.write_bytes(data)
    with pytest.raises(CameraError, match="set.txt"):
        open_source(listed)


def test_the_data_sets_own_list_is_read(data_dir: Path) -> None:
    pairs = pictures.read_list(data_dir / "val.txt")
    assert len(pairs) == 170
    assert all(picture.is_file() and label is not None for picture, label in pairs)


# --- what cannot be opened -------------------------------------------------------------------


def test_what_is_not_there_is_said_with_what_would_do(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="no such file") as raised:
        open_source(tmp_path / "nothing.mp4")
    assert "list file" in str(raised.value)


def test_a_file_that_is_no_video_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("these are notes, not a video")
    with pytest.raises(CameraError, match=r"notes\.mp4.*no video"):
        open_source(path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="found none"):
        open_source(tmp_path)


@pytest.mark.parametrize("source", ["ftp://10.0.0.2/live", "camera://0", "rstp://10.0.0.2/live"])
def test_a_uri_that_means_nothing_is_named_with_what_would_do(source: str) -> None:
    with pytest.raises(CameraError, match="rtsp://") as raised:
        open_source(source)
    assert source in str(raised.value)


@pytest.mark.parametrize("fps", [0, -2, float("nan"), float("inf"), 1e9, "30", True])
def test_a_rate_that_is_none_is_refused_whatever_the_source(
    fps: float, tmp_path: Path, video: Path
) -> None:
    _picture(tmp_path / "p" / "a.png")
    for source in ("fake:size=32x16,fps=30", tmp_path / "p", tmp_path / "p" / "a.png", video):
        with pytest.raises(SettingError, match=f"wanted fps= from 0.001 to 1000.*found {fps!r};"):
            open_source(source, fps=fps)


@pytest.mark.parametrize("source", [None, True, -1, 1.0, [np.zeros((2, 2, 3), np.uint8)]])
def test_what_names_no_source_is_refused_in_a_sentence(source: Any) -> None:
    with pytest.raises(CameraError, match="wanted a camera index.*call segment"):
        open_source(source)


@pytest.mark.parametrize(
    "size", [640, "640x480", (0, 4), (480,), (480.0, 640.0), (-1, 2), (1, 1e9)]
)
@pytest.mark.parametrize("name", ["size", "lores"])
def test_a_size_that_is_none_is_refused_whatever_the_source(
    video: Path, name: str, size: Any
) -> None:
    for source in (video, "fake:"):
        with pytest.raises(SettingError, match=f"{name}= as .height, width."):
            open_source(source, **{name: size})


@pytest.mark.parametrize("policy", [Policy(), 3, {"deadline": 1}])
def test_a_policy_that_is_none_is_refused_whatever_the_source(video: Path, policy: Any) -> None:
    for source in (video, "fake:"):
        with pytest.raises(SettingError, match="wanted policy= as a LivePolicy or None"):
            open_source(source, policy=policy)


@pytest.mark.parametrize(
    "turn", [{"rotate": "90"}, {"rotate": 45}, {"mirror": "no"}, {"mirror": 1}]
)
def test_a_turn_that_is_none_is_refused_whatever_the_source(
    video: Path, turn: dict[str, Any]
) -> None:
    for source in (video, "fake:"):
        with pytest.raises(SettingError, match=f"found {next(iter(turn.values()))!r}"):
            open_source(source, **turn)


def test_a_path_the_system_will_not_look_at_is_a_camera_error() -> None:
    with pytest.raises(CameraError, match="check the path and its permissions"):
        open_source("a" * 300)


def test_a_video_of_huge_frames_is_refused_before_one_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 8.0, (12000, 6000))
    writer.write(np.zeros((6000, 12000, 3), np.uint8))
    writer.release()
    script = (
        "import sys\n"
        "from edge_seg.camera import open_source\n"
        "from edge_seg.errors import CameraError\n"
        "from edge_seg.machine import peak_memory\n"
        "before = peak_memory()\n"
        "try:\n"
        "    open_source(sys.argv[1])\n"
        "except CameraError as error:\n"
        "    print(error)\n"
        "print((peak_memory() - before) // 2**20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60
    )
    said, grown = done.stdout.splitlines()
    assert "huge.avi: wanted a video of at most 67108864 pixels" in said and "12000x6000" in said
    assert int(grown) < 150, "MB; one frame alone has 206"


def test_frames_larger_than_the_header_says_are_refused(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MAX_PIXELS", 63 * 48)
    monkeypatch.setattr(disk, "MAX_SIDE", 63)
    opened = cv2.VideoCapture

    class Silent:
        """A container that states no size."""

        def __init__(self, path: str) -> None:
            self.capture = opened(path)

        def get(self, what: int) -> float:
            sizes = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
            return 0.0 if what in sizes else float(self.capture.get(what))

        def __getattr__(self, name: str) -> object:
            return getattr(self.capture, name)

    with pytest.raises(CameraError, match="64x48"):
        open_source(video)
    monkeypatch.setattr(cv2, "VideoCapture", Silent)
    with open_source(video) as source, pytest.raises(CameraError, match="64x48"):
        next(source)


@pytest.mark.parametrize("source", ["/dev/video63", "clip.mkv"])
def test_planes_are_asked_of_what_has_them(source: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="bgr or rgb"):
        open_source(source if "dev" in source else tmp_path / source, format="nv12")


@pytest.mark.parametrize("source", [63, "63", "/dev/video63"])
def test_a_camera_that_is_not_there(source: str | int) -> None:
    if Path("/dev/video63").exists():
        pytest.skip("this machine has a /dev/video63")
    with pytest.raises(CameraError, match="/dev/video63"):
        open_source(source)


def test_a_camera_one_may_not_open_names_the_group() -> None:
    with tempfile.NamedTemporaryFile() as device:
        os.chmod(device.name, 0)
        if os.geteuid() != 0:
            with pytest.raises(CameraError, match="group `video`"):
                v4l2.check_device(Path(device.name))
            return
        # Root may open everything: ask as nobody, in a child.
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            try:
                v4l2.check_device(Path(device.name))
            except CameraError as error:
                os._exit(0 if "group `video`" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class _Capture:
    """What of cv2.VideoCapture is used: a camera that gives four frames and stops."""

    def __init__(self, stamps: tuple[float, ...] = (5.0, 5.1, 5.2, 5.3), gives: int = 4) -> None:
        self.stamps, self.left, self.at = stamps, gives, -1
        self.asked: dict[int, float] = {}
        self.released = 0

    def isOpened(self) -> bool:
        return True

    def set(self, what: int, value: float) -> bool:
        self.asked[what] = value
        return True

    def get(self, what: int) -> float:
        if what == cv2.CAP_PROP_POS_MSEC:
            return 1000 * self.stamps[self.at]
        return {cv2.CAP_PROP_FPS: 25.0}.get(what, 0.0)

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.at += 1
        self.left -= 1
        frame = np.zeros((4, 6, 3), np.uint8)
        frame[..., 0] = 10 + self.at
        return (True, frame) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released += 1


def test_a_v4l2_camera_gives_every_frame_with_the_driver_s_time() -> None:
    capture = _Capture()
    asked = Request(format="rgb", size=(480, 640), fps=15.0)
    stream = v4l2.V4l2Stream(capture, device="/dev/video7", request=asked)
    assert capture.asked == {
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FPS: 15.0,
    }
    assert stream.fps == 25.0 and "6x4" in stream.describe
    taken = [stream.read(1.0) for _ in range(4)]
    assert [t.at for t in taken] == [5.0, 5.1, 5.2, 5.3]
    assert [int(t.frame[0, 0, 2]) for t in taken] == [10, 11, 12, 13], "rgb: blue is last"
    with pytest.raises(CameraLost, match="/dev/video7"):
        stream.read(1.0)
    stream.close()
    assert capture.released == 1


@pytest.mark.parametrize(
    ("size", "fps", "compressed"),
    [
        ((720, 1280), 30.0, True),
        ((720, 1280), None, True),
        ((480, 640), 60.0, True),
        ((480, 640), 30.0, False),
        (None, None, False),
    ],
)
def test_more_than_usb_carries_is_asked_for_as_motion_jpeg_before_anything_else(
    size: tuple[int, int] | None, fps: float | None, compressed: bool
) -> None:
    capture = _Capture()
    v4l2.V4l2Stream(capture, device="/dev/video7", request=Request(size=size, fps=fps))
    assert (cv2.CAP_PROP_FOURCC in capture.asked) == compressed
    if compressed:
        (what, value), *_ = capture.asked.items()
        assert what == cv2.CAP_PROP_FOURCC and int(value).to_bytes(4, "little") == b"MJPG"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="V4L2 is Linux's")
def test_a_usb_camera_is_opened_through_v4l2_whatever_else_opencv_was_built_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[tuple[int, ...]] = []

    def open_capture(*words: int) -> _Capture:
        opened.append(words)
        return _Capture()

    monkeypatch.setattr(cv2, "VideoCapture", open_capture)
    monkeypatch.setattr(v4l2, "check_device", lambda device: None)
    v4l2.driver("/dev/video7", Request())().close()
    assert opened == [(7, cv2.CAP_V4L2)]


def test_a_driver_without_times_has_none() -> None:
    capture = _Capture(stamps=(-1.0, 0.0, 0.0, 0.0))
    stream = v4l2.V4l2Stream(capture, device="/dev/video7", request=Request())
    assert [stream.read(1.0).at for _ in range(4)] == [None] * 4


def test_a_device_that_gives_nothing_is_refused_and_freed() -> None:
    capture = _Capture(gives=0)
    with pytest.raises(CameraError, match="in use by another"):
        v4l2.V4l2Stream(capture, device="/dev/video7", request=Request())
    assert capture.released == 1


def test_a_camera_that_stops_is_opened_again_until_it_is_given_up() -> None:
    captures: list[_Capture] = []

    def connect() -> v4l2.V4l2Stream:
        if captures:
            raise CameraError("wanted camera /dev/video7, found no camera at all; plug it in")
        captures.append(_Capture(stamps=(-1.0,) * 5))
        return v4l2.V4l2Stream(captures[0], device="/dev/video7", request=Request())

    policy = LivePolicy(pause=0.01, give_up=0.3)
    with (
        LiveSource(connect, name="/dev/video7", policy=policy) as source,
        pytest.raises(CameraLost, match="/dev/video7"),
    ):
        times = []
        while True:
            times.append(next(source).timestamp)
    assert all(a < b for a, b in zip(times, times[1:], strict=False))
    assert captures[0].released == 1


# --- around it -------------------------------------------------------------------------------


def test_turning_and_mirroring() -> None:
    frame = np.zeros((2, 3, 3), dtype=np.uint8)
    frame[0, 0] = 1  # top left
    assert orient(frame, rotate=90)[0, 1].all()  # top right of a 3x2 picture
    assert orient(frame, rotate=180)[1, 2].all()
    assert orient(frame, rotate=270)[2, 0].all()
    assert orient(frame, mirror=True)[0, 2].all()
    assert orient(frame, rotate=90, mirror=True)[0, 0].all()
    with pytest.raises(SettingError, match="45"):
        orient(frame, rotate=45)


def test_a_source_turns_its_frames(tmp_path: Path) -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:10, :15] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    with open_source(tmp_path, rotate=90, mirror=True) as source:
        frame = next(source).frame
    assert frame.shape == (30, 20, 3)
    np.testing.assert_array_equal(frame, orient(picture, rotate=90, mirror=True))
    with pytest.raises(SettingError, match="45"):
        open_source(tmp_path, rotate=45)


@pytest.mark.parametrize(("rotate", "mirror"), [(0, True), (180, False), (270, True)])
def test_both_sizes_of_a_frame_are_turned_alike(rotate: int, mirror: bool) -> None:
    random = np.random.default_rng(0)
    frame = random.integers(0, 256, (20, 30, 3), np.uint8)
    lores = random.integers(0, 256, (12, 12), np.uint8)
    source = Source(iter([Shot(frame, 0.0, "000000", lores)]), describe="")
    with pytest.raises(SettingError, match="45"):
        source.turn(45, mirror)
    source.turn(rotate, mirror)
    shot = next(source)
    np.testing.assert_array_equal(shot.frame, orient(frame, rotate=rotate, mirror=mirror))
    wanted = orient(lores, rotate=rotate, mirror=mirror, format="yuv420")
    np.testing.assert_array_equal(shot.lores, wanted)


def test_a_source_says_that_it_has_ended_and_frees_what_it_holds_once() -> None:
    freed: list[bool] = []
    shot = Shot(np.zeros((2, 2, 3), np.uint8), 0.0, "a")
    with Source(iter([shot]), describe="", close=lambda: freed.append(True)) as source:
        assert source.read() is shot and not source.ended
        assert source.read() is None and source.ended
    assert freed == [True]
    source.close()
    assert freed == [True]
    closed = Source(iter([shot]), describe="")
    closed.close()
    assert closed.read() is None and closed.ended


@pytest.mark.parametrize(
    ("stated", "known"),
    [(25, 25.0), (240.0, 240.0), (1000.0, None), (0.0, None), (-1.0, None)]
    + [(math.inf, None), (math.nan, None)],
)
def test_a_rate_that_is_stated_is_one_or_none(stated: float, known: float | None) -> None:
    assert known_fps(stated) == known


def test_a_closed_source_gives_no_more(video: Path) -> None:
    source = open_source(video)
    next(source)
    source.close()
    source.close()
    assert list(source) == []


def test_a_segmenter_streams_a_source(video: Path, fake_bundle: Path, fake_board: Path) -> None:
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        pairs: Iterator = segmenter.stream(video)
        shares = [float((mask >= 0.5).mean()) for _, mask in pairs]
    # Grey 20 * i: the fake network says person above the middle, 127.5.
    assert shares == [0.0] * 7 + [1.0] * 5
