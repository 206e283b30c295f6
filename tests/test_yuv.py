"""NV12 and YUV420 against OpenCV's conversion of the whole frame, and rows that are padded."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg import camera, pixels, yuv
from edge_seg.arrays import Picture
from edge_seg.camera.buffers import Layout, frame_of
from edge_seg.errors import FrameError
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.spec import InputSpec

FORMATS = ("nv12", "yuv420")


def scene(height: int, width: int, seed: int = 3) -> Picture:
    """A picture like a camera's: smooth light, coloured boxes, a little noise; BGR."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    picture = np.stack([90 + 60 * xs / width, 110 + 40 * ys / height, 140 - 50 * xs / width], -1)
    for _ in range(12):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        color = [float(v) for v in rng.integers(40, 215, 3)]
        cv2.rectangle(picture, (x, y), (x + width // 6, y + height // 5), color, -1)
    picture = cv2.GaussianBlur(picture, (5, 5), 0) + rng.normal(0, 2, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def encoded(picture: Picture, format: str) -> Picture:
    """The picture as a camera's planes, by OpenCV; NV12's colour is woven here, by hand."""
    height, width = picture.shape[:2]
    planar = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420)
    if format == "yuv420":
        return planar
    u, v = planar[height:].reshape(2, height // 2 * width // 2)
    woven = np.empty((height // 2, width), np.uint8)
    woven[:, 0::2], woven[:, 1::2] = u.reshape(height // 2, -1), v.reshape(height // 2, -1)
    return np.vstack([planar[:height], woven])


def padded(frame: Picture, format: str, stride: int) -> Picture:
    """The buffer a camera would fill whose rows are `stride` bytes apart, junk between them."""
    rows, width = frame.shape
    height = rows // 3 * 2
    buffer = np.full((rows, stride), 0xAB, np.uint8)
    if format == "nv12":
        buffer[:, :width] = frame
        return buffer.reshape(-1)
    buffer[:height, :width] = frame[:height]
    small = buffer[height:].reshape(height, stride // 2)
    small[:, : width // 2] = frame[height:].reshape(height, width // 2)
    return buffer.reshape(-1)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("color", ["bgr", "rgb"])
@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(720, 1280), (480, 640), (224, 224), (6, 10), (226, 198)])
def test_prepare_is_opencv_s_whole_picture_shrunk(
    format: str, color: str, fit: str, size: tuple[int, int]
) -> None:
    frame = encoded(scene(*size), format)
    whole = cv2.cvtColor(
        frame, cv2.COLOR_YUV2BGR_NV12 if format == "nv12" else cv2.COLOR_YUV2BGR_I420
    )
    spec = InputSpec(224, 224, color=color, fit=fit)
    wanted, where = pixels.prepare(whole, spec)
    found, there = pixels.prepare(frame, spec, format=format)
    assert where == there
    error = np.abs(found.astype(int) - wanted)
    # OpenCV repeats each colour over 2x2 pixels; we interpolate. Not shrunk, that shows at edges.
    mean, high = (0.7, 6) if min(size) > 300 else (1.5, 20) if min(size) > 100 else (4.0, 40)
    assert error.mean() < mean
    assert np.percentile(error, 99) <= high


@pytest.mark.parametrize("format", FORMATS)
def test_a_photograph_differs_by_a_few_levels(format: str) -> None:
    data = pytest.importorskip("skimage.data", reason="the extra [demo] is not installed")
    frame = encoded(cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), format)
    whole = yuv.whole_to_color(frame, format, "bgr")
    spec = InputSpec(224, 224, fit="stretch", color="bgr")
    wanted, found = pixels.prepare(whole, spec)[0], pixels.prepare(frame, spec, format=format)[0]
    error = np.abs(found.astype(int) - wanted)
    assert error.mean() < 1.0 and np.percentile(error, 99.9) <= 12


# Full-range primaries as BT.601's own table gives them in video range (Y, Cb, Cr).
PRIMARIES = {
    "red": ((81, 90, 240), (0, 0, 255)),
    "green": ((145, 54, 34), (0, 255, 0)),
    "blue": ((41, 240, 110), (255, 0, 0)),
    "white": ((235, 128, 128), (255, 255, 255)),
    "black": ((16, 128, 128), (0, 0, 0)),
}


@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("format", FORMATS)
def test_red_comes_out_red(name: str, format: str) -> None:
    (y, u, v), bgr = PRIMARIES[name]
    frame = yuv.join([np.full((4, 8), y, np.uint8), *_chroma(format, u, v)])
    for color, pixel in (("bgr", bgr), ("rgb", bgr[::-1])):
        spec = InputSpec(4, 8, color=color)
        small = pixels.prepare(frame, spec, format=format)[0]
        full = yuv.whole_to_color(frame, format, color)
        for picture in (small, full):
            assert np.abs(picture.astype(int) - pixel).max() <= 2


def _chroma(format: str, u: int, v: int) -> list[Picture]:
    if format == "yuv420":
        return [np.full((2, 4), u, np.uint8), np.full((2, 4), v, np.uint8)]
    return [np.dstack([np.full((2, 4), u, np.uint8), np.full((2, 4), v, np.uint8)])]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("stride", [64, 66, 128])
def test_padding_between_rows_never_shows(format: str, stride: int) -> None:
    frame = encoded(scene(36, 64), format)
    buffer = padded(frame, format, stride)
    spare = np.concatenate([buffer, np.full(100, 7, np.uint8)])  # a page's rest behind the frame
    found = yuv.unpad(spare, format, (36, 64), stride)
    np.testing.assert_array_equal(found, frame)
    assert found.flags.c_contiguous and not np.shares_memory(found, spare)


@pytest.mark.parametrize("stride,length", [(62, 9999), (64, 64 * 54 - 1), (65, 9999)])
def test_a_buffer_that_cannot_hold_the_frame_is_refused(stride: int, length: int) -> None:
    with pytest.raises(FrameError, match="read the stream's format back"):
        yuv.unpad(np.zeros(length, np.uint8), "nv12", (36, 64), stride)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(481, 641), (481, 640), (480, 641), (0, 640), (1, 1)])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("stride", [656, 1280])
def test_planes_of_odd_sides_are_refused(
    format: str, size: tuple[int, int], apart: bool, stride: int
) -> None:
    """However the camera lays them out: colours are made for two by two pixels."""
    places = ((0, stride), (400_000, stride), (800_000, stride))
    offsets = places[: 2 if format == "nv12" else 3] if apart else ()
    layout = Layout(format, size, stride, offsets)
    for wanted in (format, "bgr"):
        with pytest.raises(FrameError, match=rf"even sides, found {size[1]}x{size[0]}; ask"):
            frame_of(np.zeros(2_000_000, np.uint8), layout, wanted)


@pytest.mark.parametrize("format", FORMATS)
def test_a_strided_view_is_read_as_it_looks(format: str) -> None:
    frame = encoded(scene(40, 60), format)
    view = np.zeros((60, 80), np.uint8)[:, :60]
    view[:] = frame
    spec = InputSpec(32, 32)
    np.testing.assert_array_equal(
        pixels.prepare(view, spec, format=format)[0], pixels.prepare(frame, spec, format=format)[0]
    )
    np.testing.assert_array_equal(
        yuv.whole_to_color(view, format, "bgr"), yuv.whole_to_color(frame, format, "bgr")
    )


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_planes_turn_as_pictures_do(rotate: int, mirror: bool, format: str) -> None:
    frame = encoded(scene(40, 60), format)
    wanted = camera.orient(yuv.whole_to_color(frame, format, "bgr"), rotate=rotate, mirror=mirror)
    turned = camera.orient(frame, rotate=rotate, mirror=mirror, format=format)
    np.testing.assert_array_equal(yuv.whole_to_color(turned, format, "bgr"), wanted)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((36, 64, 3), np.uint8),
        np.zeros((36, 63), np.uint8),
        np.zeros((37, 64), np.uint8),
        np.zeros((36, 64), np.float32),
        np.zeros((0, 64), np.uint8),
        np.zeros((36, 0), np.uint8),
        "frame",
    ],
    ids=["bgr", "odd width", "no thirds", "float", "empty", "narrow", "text"],
)
def test_what_is_no_such_frame_is_refused(frame: object) -> None:
    with pytest.raises(FrameError, match="nv12"):
        pixels.prepare(frame, InputSpec(32, 32), format="nv12")  # type: ignore[arg-type]


def test_planes_of_a_gigantic_frame_are_refused_before_work() -> None:
    huge = np.broadcast_to(np.zeros((1, 1), np.uint8), (3 * 20000, 4000))
    with pytest.raises(FrameError, match="at most"):
        pixels.prepare(huge, InputSpec(32, 32), format="nv12")


def test_planes_without_their_format_are_told_so() -> None:
    with pytest.raises(FrameError, match="format="):
        pixels.prepare(np.zeros((54, 64), np.uint8), InputSpec(32, 32))


@pytest.mark.parametrize("format", FORMATS)
def test_a_small_stream_gives_the_mask_of_the_large_one(
    fake_bundle: str, fake_board: str, format: str
) -> None:
    # The fake network says "person" where it is bright.
    main = np.full((180, 320, 3), 20, np.uint8)
    main[40:160, 60:200] = 230
    lores = encoded(cv2.resize(main, (96, 54), interpolation=cv2.INTER_AREA), format)
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        wanted = segmenter.segment(main)
        found = segmenter.segment(lores, size=main.shape[:2], format=format)
        own = segmenter.segment(lores, format=format)
    assert found.shape == (180, 320) and own.shape == (54, 96)
    both = (found >= 0.5) & (wanted >= 0.5)
    assert both.sum() / ((found >= 0.5) | (wanted >= 0.5)).sum() > 0.95


def test_a_segmenter_of_planes_takes_them_without_being_told(
    fake_bundle: str, fake_board: str
) -> None:
    frame = encoded(scene(54, 96), "nv12")
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), format="nv12") as segmenter:
        assert segmenter.segment(frame).shape == (54, 96)
        with pytest.raises(FrameError, match="nv12"):
            segmenter.segment(np.zeros((54, 96, 3), np.uint8))


# How much of luma is red and how much blue: BT.601-7, BT.709-6 and BT.2020-2, each in its table of
# signal formats; SMPTE 240M; title 47 of the CFR, 73.682 (a)(20), as H.273 has it in its table 4.
LUMA = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
    "fcc": (0.30, 0.11),
}


def _planes_of(color: NDArray[np.float64], matrix: str, full: bool, format: str) -> Picture:
    """A frame of one colour, RGB 0..1, by the standard's own formula."""
    red, blue = LUMA[matrix]
    luma = color @ (red, 1 - red - blue, blue)
    u, v = (color[2] - luma) / (2 * (1 - blue)), (color[0] - luma) / (2 * (1 - red))
    black, white, most = (0, 255, 255) if full else (16, 219, 224)
    y, u, v = np.rint([black + white * luma, 128 + most * u, 128 + most * v]).clip(0, 255)
    small = np.ones((4, 6))
    parts = [u * small, v * small] if format == "yuv420" else [np.dstack([u * small, v * small])]
    return yuv.join([part.astype(np.uint8) for part in (np.full((8, 12), y), *parts)])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", LUMA)
def test_planes_of_another_standard_become_bt_601_in_video_range(
    matrix: str, full: bool, format: str
) -> None:
    for color in np.random.default_rng(0).random((40, 3)):
        frame = _planes_of(color, matrix, full, format)
        kept = frame.copy()
        layout = Layout(format, (8, 12), 12, matrix=matrix, full=full)
        found = frame_of(frame.reshape(-1), layout, format)
        wanted = _planes_of(color, "bt601", False, format)
        assert np.abs(found.astype(int) - wanted).max() <= 2
        seen = frame_of(frame.reshape(-1), layout, "rgb")[0, 0]
        assert np.abs(seen - 255 * color).max() <= 5
        np.testing.assert_array_equal(frame, kept)
