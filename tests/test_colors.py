"""The colour self-test: what it accepts, what it catches, and that `doctor --camera` runs it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg.camera import checkup, colors
from edge_seg.camera.buffers import Layout, buffer_of, frame_of
from edge_seg.cli import main

NATIVES = ("bgr", "rgb", "bgrx", "rgbx", "nv12", "yuv420")


@pytest.mark.parametrize("native", NATIVES)
@pytest.mark.parametrize("pad", [0, 32])
@pytest.mark.parametrize("wanted", ["bgr", "rgb"])
def test_a_right_path_passes(native: str, pad: int, wanted: str) -> None:
    buffer, layout = buffer_of(colors.bars(48, 66), native, pad=pad)
    assert colors.judge(frame_of(buffer, layout, wanted), wanted) == ""


@pytest.mark.parametrize(("native", "believed"), [("bgr", "rgb"), ("rgbx", "bgrx")])
def test_swapped_channels_are_caught(native: str, believed: str) -> None:
    buffer, layout = buffer_of(colors.bars(48, 66), native)
    wrong = Layout(believed, layout.size, layout.stride)
    assert "swapped" in colors.judge(frame_of(buffer, wrong, "bgr"))


@pytest.mark.parametrize("native", NATIVES)
def test_rows_read_without_their_padding_are_caught(native: str) -> None:
    buffer, layout = buffer_of(colors.bars(48, 66), native, pad=8)
    wrong = Layout(native, layout.size, layout.stride - 8)
    assert colors.judge(frame_of(buffer, wrong, "bgr")) != ""


def test_a_noisy_dim_jpeg_of_the_pattern_passes() -> None:
    rng = np.random.default_rng(0)
    dim = colors.bars(120, 160) * 0.9 + rng.normal(0, 6, (120, 160, 3))
    coded = cv2.imencode(".jpg", np.clip(dim, 0, 255).astype(np.uint8))[1]
    assert colors.judge(cv2.imdecode(coded, cv2.IMREAD_COLOR)) == ""


@pytest.mark.parametrize(
    ("bgr", "name"),
    [
        ((0, 0, 200), "red"),
        ((40, 30, 180), "red"),
        ((200, 0, 0), "blue"),
        ((0, 180, 0), "green"),
        ((0, 200, 200), "yellow"),
        ((10, 10, 10), "black"),
        ((120, 118, 121), "grey"),
        ((250, 250, 250), "white"),
    ],
)
def test_colours_have_the_names_people_give_them(bgr: tuple[int, int, int], name: str) -> None:
    assert colors.name_of(np.full((4, 4, 3), bgr, np.uint8)) == name


def test_a_camera_s_report_says_size_rate_and_colours() -> None:
    remarks = list(checkup.check("fake:size=64x48,fps=40,native=nv12", 0.6))
    text = "\n".join(remark.text for remark in remarks)
    assert all(remark.good for remark in remarks)
    assert "64x48" in text and "it states 40" in text
    assert "red comes out red" in text and "the middle is" in text
    rate = float(text.split(" frames/s")[0].split()[-1])
    assert 10 < rate < 45, "a busy machine sees fewer"


def test_doctor_runs_it(
    fake_bundle: Path, fake_board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", str(fake_bundle), "--board", str(fake_board), "--camera"]
    assert main([*words, "fake:size=64x48"]) == 0
    assert "red comes out red" in capsys.readouterr().out
    assert main([*words, "rstp://nowhere"]) == 2
    assert "rtsp://..." in capsys.readouterr().out
