"""Pipelines and network cameras through GStreamer itself; without it, what is missing is named."""

from __future__ import annotations

import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from edge_seg import EdgeSegmenter
from edge_seg.camera import gstreamer, open_source
from edge_seg.camera.shots import shown
from edge_seg.camera.stream import Request
from edge_seg.errors import CameraError
from tests.gstreamer_python import gstreamer_python, on_gstreamer

BARS = ["white", "yellow", "turquoise", "green", "violet", "red", "blue"]


@pytest.fixture(scope="module")
def python() -> Path:
    """A Python with GStreamer's bindings."""
    return gstreamer_python()


@pytest.mark.parametrize("text", ["csi://first", "csi:0", "gst:", "gst: "])
def test_a_form_that_means_nothing_is_refused_before_gstreamer_is_sought(text: str) -> None:
    with pytest.raises(CameraError, match="wanted (csi://N|gst:ELEMENTS)"):
        open_source(text)


@pytest.mark.parametrize("text", ["rtsp://10.0.0.2/live", "csi://0", "gst:videotestsrc"])
def test_without_the_bindings_the_packages_are_named(text: str) -> None:
    try:
        import gi  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("GStreamer's bindings are installed here")
    with pytest.raises(CameraError, match="python3-gi.*system-site-packages"):
        open_source(text)
    assert gstreamer.driver(text, Request()) is not None


class _Elements:
    """What of the namespace Gst tells which elements there are."""

    def __init__(self, *names: str) -> None:
        self.names, self.ElementFactory = names, self

    def find(self, name: str) -> str | None:
        return name if name in self.names else None


def test_on_a_jetson_what_is_decoded_is_copied_out_of_its_memory() -> None:
    """Its decoder gives video/x-raw(memory:NVMM), which videoconvert cannot read."""
    source, copier, caps = gstreamer._decoded(_Elements("nvvidconv")).split(" ! ")
    assert source == "uridecodebin name=source" and copier == "nvvidconv"
    assert caps.startswith("video/x-raw,format=(string){") and "memory" not in caps
    assert gstreamer._decoded(_Elements("videoconvert")) == "uridecodebin name=source"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("rtsp://admin:secret@cam/live", "rtsp://...@cam/live"),
        ("rtsp://admin:p@ss:secret@cam:554/a@b", "rtsp://...@cam:554/a@b"),
        ("gst:rtspsrc location=rtsp://a:secret@cam ! decodebin", "rtspsrc location=rtsp://...@cam"),
        ("gst:rtspsrc location=rtsp://cam user-id=a user-pw=secret ! x", "user-pw=... ! x"),
        ('gst:rtspsrc user-pw="a secret" location=rtsp://cam', "user-pw=... location=rtsp://cam"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_no_password_is_shown(text: str, safe: str) -> None:
    assert safe in shown(text) and "secret" not in shown(text)


@pytest.mark.slow
def test_every_format_arrives_with_its_colours_whatever_pads_its_rows(python: Path) -> None:
    seen = on_gstreamer(python, "formats")
    assert len(seen) == 8
    for one in seen:
        assert one["bars"] == BARS and one["pattern"] == "", one
        assert one["fps"] == 30.0 and abs(one["step"] - 1 / 30) < 0.005
        assert one["age"] < 0.5


@pytest.mark.slow
def test_planes_of_another_standard_have_the_colours_that_converted_frames_have(
    python: Path,
) -> None:
    for stated, format, found in on_gstreamer(python, "standards"):
        assert np.abs(np.subtract(found, (40, 40, 220))).max() <= 5, (stated, format, found)


@pytest.mark.slow
def test_an_rtsp_camera_is_read_and_comes_back_after_it_was_gone(python: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    seen = on_gstreamer(python, "rtsp", str(port))
    assert seen["bars"] == BARS and seen["shape"] == [240, 320, 3]
    assert seen["before"] >= 15 and seen["away"] <= 5 and seen["after"] == 20
    assert seen["reconnects"] >= 1 and seen["closing"] < 2.5
    assert "secret" not in seen["describe"] and "secret" not in seen["log"]
    assert "lost the camera" in seen["log"]


@pytest.mark.slow
def test_a_jetson_s_decoder_is_read_in_every_format(python: Path, tmp_path: Path) -> None:
    path, color = tmp_path / "blue.avi", (200, 30, 20)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(20):
        writer.write(np.full((48, 64, 3), color, np.uint8))
    writer.release()
    seen = on_gstreamer(python, "jetson", str(path))
    shapes = {"bgr": [48, 64, 3], "rgb": [48, 64, 3], "nv12": [72, 64], "yuv420": [72, 64]}
    assert {format: shape for format, shape, _ in seen} == shapes
    for format, _, found in seen:
        wanted = color[::-1] if format == "rgb" else color
        assert np.abs(np.subtract(found, wanted)).max() <= 6, (format, found)


@pytest.mark.slow
def test_planes_become_a_mask(python: Path, tmp_path: Path) -> None:
    picture = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)  # public domain (NASA)
    cv2.imwrite(str(tmp_path / "portrait.png"), picture)
    seen = on_gstreamer(
        python, "segment", str(tmp_path / "portrait.png"), str(tmp_path / "mask.npy")
    )
    assert seen["frame"] == [768, 512], "planes, not colours"
    there = np.load(tmp_path / "mask.npy") >= 0.5
    with EdgeSegmenter.open(smoother=None) as segmenter:
        here = segmenter.segment(picture) >= 0.5
    assert there.shape == here.shape == (512, 512)
    assert (there & here).sum() / (there | here).sum() > 0.97
    assert 0.2 < there.mean() < 0.8, "a person in half of the picture"


@pytest.mark.slow
def test_nobody_is_in_a_test_pattern(python: Path) -> None:
    shares = on_gstreamer(python, "patterns")
    assert len(shares) == 26
    del shares["11"]  # concentric rings: a known failure (docs/model-card.md)
    assert {pattern: share for pattern, share in shares.items() if share > 0.05} == {}


@pytest.mark.slow
def test_what_cannot_be_opened_says_why_in_time(python: Path) -> None:
    said = on_gstreamer(python, "errors")
    assert "nonsense" in said["element"][1] and "link" in said["link"][1]
    assert "onnect" in said["refused"][1] and said["refused"][2] < 3
    assert "within 3 s" in said["silent"][1] and said["silent"][2] < 7
    assert "gstreamer1.0-libcamera" in said["csi"][1] or "libcamerasrc" in said["csi"][1]
    assert "end of the stream; a camera has none: save" in said["ended"][1]
    assert {kind for kind, _, _ in said.values()} == {"CameraError"}
