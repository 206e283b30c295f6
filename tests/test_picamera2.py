"""The Raspberry Pi's camera: against its documented behaviour, and the library itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_seg import yuv
from edge_seg.camera import LivePolicy, LiveSource, colors, fake, open_source, picamera2
from edge_seg.camera.fake import Event, FakeCamera, Hardware
from edge_seg.camera.picamera2 import Picamera2Stream
from edge_seg.camera.shots import Shot, Source
from edge_seg.camera.stream import Request
from edge_seg.errors import CameraError
from edge_seg.segmenter import EdgeSegmenter
from tests.fake_picamera2 import FakePicamera2
from tests.simulated_time import SimulatedClock

Adjust = Callable[[str, dict[str, Any]], None]


def opened(
    request: Request, adjust: Adjust | None = None, *events: Event
) -> tuple[Picamera2Stream, FakePicamera2]:
    world = FakeCamera(Hardware(events=events), clock=SimulatedClock())
    made: list[FakePicamera2] = []

    def library(number: int) -> FakePicamera2:
        made.append(FakePicamera2(world, number, adjust))
        return made[-1]

    return Picamera2Stream(library, 0, request=request), made[0]


def similar(frame: np.ndarray, picture: np.ndarray) -> bool:
    return bool(np.abs(frame[4:].astype(int) - picture[4:]).mean() < 4)


@pytest.mark.parametrize("format", ["bgr", "rgb", "nv12", "yuv420"])
def test_both_streams_arrive_without_padding_and_with_the_sensor_s_time(format: str) -> None:
    stream, library = opened(Request(format=format, size=(481, 641), lores=(191, 224), fps=25.0))
    # In memory the first letter comes last ("RGB888 ... stored as [B, G, R]", picamera2's manual).
    names = {"bgr": "RGB888", "rgb": "BGR888", "nv12": "NV12", "yuv420": "YUV420"}
    assert library.asked["main"]["format"] == names[format]
    assert library.asked["controls"] == {"FrameDurationLimits": (40000, 40000)}
    assert library.camera_configuration()["main"]["stride"] % 64 == 0
    times = []
    for _ in range(6):
        taken = stream.read(1.0)
        assert taken is not None and taken.lores is not None
        times.append(taken.at)
    number = fake.number_in(taken.frame)
    picture = fake.scene(482, 642, number % fake.LOOP / fake.LOOP)
    frame = taken.frame
    if format in yuv.PLANAR:
        assert frame.shape == (723, 642)
        frame = yuv.whole_to_color(frame, format, "bgr")
    assert similar(frame[..., ::-1] if format == "rgb" else frame, picture)
    assert taken.lores.shape == (288, 224) and taken.lores_format == "yuv420"
    small = yuv.whole_to_color(taken.lores, "yuv420", "bgr")
    assert similar(small, fake.scene(192, 224, number % fake.LOOP / fake.LOOP))
    np.testing.assert_allclose(np.diff(times), 1 / 30, atol=1e-6)
    assert library.lent == 0, "every request was given back"
    stream.close()
    assert library.closed


def _to_alpha(name: str, stream: dict[str, Any]) -> None:
    stream["format"] = "XBGR8888" if name == "main" else "NV12"
    stream["size"] = (640, 480) if name == "main" else (256, 192)


def test_what_the_camera_adjusted_is_read_back() -> None:
    stream, library = opened(Request(size=(600, 800), lores=(224, 224)), _to_alpha)
    taken = stream.read(1.0)
    assert taken is not None and taken.lores is not None
    assert taken.frame.shape == (480, 640, 3)
    picture = fake.scene(480, 640, fake.number_in(library.memory("main", 1)) % 24 / 24)
    assert similar(taken.frame, picture), "XBGR8888 is red first in memory"
    assert taken.lores.shape == (288, 256) and taken.lores_format == "nv12"
    assert "640x480 rgbx, lores 256x192" in stream.describe


def _stating(encoding: str, levels: str) -> Adjust:
    """A camera whose main stream has another of libcamera's colour spaces."""

    def state(name: str, stream: dict[str, Any]) -> None:
        if name == "main":
            stream["colour_space"] = SimpleNamespace(
                ycbcrEncoding=SimpleNamespace(name=encoding), range=SimpleNamespace(name=levels)
            )

    return state


def test_the_colour_space_of_colours_says_nothing_of_planes() -> None:
    """Colours have levels of 0..255 whatever the second stream's planes have."""
    request = Request(size=(480, 640), lores=(224, 224))
    ours, theirs = (
        opened(request, adjust)[0].read(1.0) for adjust in (None, _stating("Null", "Full"))
    )
    assert ours is not None and theirs is not None and ours.lores is not None
    np.testing.assert_array_equal(theirs.lores, ours.lores)
    np.testing.assert_array_equal(theirs.frame, ours.frame)


@pytest.mark.parametrize("format", ["nv12", "yuv420"])
@pytest.mark.parametrize(
    ("encoding", "levels", "matrix", "full"),
    [
        ("Rec601", "Full", "bt601", True),  # ColorSpace.Sycc, of JPEG
        ("Rec709", "Limited", "bt709", False),
        ("Rec2020", "Limited", "bt2020", False),
    ],
)
def test_planes_in_a_colour_space_that_was_not_asked_for_are_brought_to_ours(
    format: str, encoding: str, levels: str, matrix: str, full: bool
) -> None:
    request = Request(format=format, size=(480, 640), lores=(224, 224))
    ours, theirs = (
        opened(request, adjust)[0].read(1.0) for adjust in (None, _stating(encoding, levels))
    )
    assert ours is not None and theirs is not None
    for plain, read, native in (
        (ours.frame, theirs.frame, format),
        (ours.lores, theirs.lores, "yuv420"),
    ):
        assert plain is not None and read is not None
        wanted = yuv.to_bt601(plain, native, matrix=matrix, full=full)
        np.testing.assert_array_equal(read, wanted)
        assert (read != plain).any()


def _refuses(name: str, stream: dict[str, Any]) -> None:
    if name == "lores":
        raise RuntimeError("lores stream must be YUV")


def test_a_camera_without_a_second_stream_gives_one() -> None:
    stream, _ = opened(Request(lores=(224, 224)), _refuses)
    taken = stream.read(1.0)
    assert taken is not None and taken.lores is None and taken.frame.shape == (720, 1280, 3)


def test_a_second_stream_as_large_as_the_first_is_left_alone() -> None:
    def same(name: str, stream: dict[str, Any]) -> None:
        stream["size"] = (640, 480)

    stream, _ = opened(Request(lores=(224, 224)), same)
    taken = stream.read(1.0)
    assert taken is not None and taken.lores is None
    larger, library = opened(Request(size=(120, 160), lores=(224, 224)))
    taken = larger.read(1.0)
    assert taken is not None and taken.lores is None
    assert library.asked["lores"] is None, "there is nothing to save"


def test_a_second_stream_that_is_no_planes_is_left_alone() -> None:
    def colours(name: str, stream: dict[str, Any]) -> None:
        stream["format"] = "XRGB8888"

    stream, _ = opened(Request(lores=(224, 224)), colours)
    taken = stream.read(1.0)
    assert taken is not None and taken.lores is None and taken.frame.shape == (720, 1280, 3)


def test_a_format_nobody_can_read_is_named() -> None:
    def motion(name: str, stream: dict[str, Any]) -> None:
        stream["format"] = "XBGR8888"

    world = FakeCamera(Hardware(), clock=SimulatedClock())
    with pytest.raises(CameraError, match="XBGR8888"):
        Picamera2Stream(
            lambda n: FakePicamera2(world, n, motion), 0, request=Request(format="nv12")
        )
    assert world.closed == world.opened == 1, "or no other program could use it"


@pytest.mark.parametrize("format", ["bgr", "rgb", "nv12", "yuv420"])
def test_red_comes_out_red(format: str) -> None:
    stream, _ = opened(Request(format=format, size=(482, 642)))
    pattern = stream.pattern()
    assert pattern is not None and colors.judge(pattern, format) == ""
    other = {"bgr": "rgb", "rgb": "bgr"}.get(format)
    if other:
        assert "swapped" in colors.judge(pattern, other)


def test_a_stalled_camera_is_opened_again_and_nothing_is_left_lent() -> None:
    clock = SimulatedClock()
    hardware = Hardware(events=(Event("stall", 5.0, 4.5), Event("unplug", 20.0, 6.0)))
    world = FakeCamera(hardware, clock=clock)
    made: list[FakePicamera2] = []

    def connect() -> Picamera2Stream:
        def library(number: int) -> FakePicamera2:
            made.append(FakePicamera2(world, number))
            return made[-1]

        return Picamera2Stream(library, 0, request=Request(size=(48, 64), lores=(32, 32)))

    ages = []
    policy = LivePolicy(stall=2.0, deadline=0.5)
    with LiveSource(connect, name="picamera2", policy=policy, clock=clock) as source:
        while world.time < 40:
            shot = source.read(0.5)
            if shot is not None:
                ages.append(world.time - fake.number_in(shot.frame) / 30)
                assert shot.lores is not None
    assert source.counters.reconnects >= 2 and max(ages) <= 0.51
    assert len(ages) > 24 * 30
    assert all(c.closed and c.lent == 0 and not c.jobs for c in made)


def test_stream_gives_the_mask_of_main_from_lores(fake_bundle: Path, fake_board: Path) -> None:
    world = FakeCamera(Hardware())

    def connect() -> Picamera2Stream:
        request = Request(size=(240, 360), lores=(64, 96))
        return Picamera2Stream(lambda n: FakePicamera2(world, n), 0, request=request)

    with (
        EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter,
        LiveSource(connect, name="picamera2") as source,
    ):
        source.turn(90, False)
        frame, mask = next(segmenter.stream(source))
        number = fake.number_in(np.rot90(frame))
    assert frame.shape == (360, 240, 3) and mask.shape == (360, 240)
    # The fake network says "person" where it is bright: the figure in the fake camera's scene.
    truth = np.rot90(fake.scene(240, 360, number % fake.LOOP / fake.LOOP)[..., 1] > 120, -1)
    found = mask >= 0.5
    assert (found & truth).sum() / (found | truth).sum() > 0.9


class Seen:
    """A smoother that keeps the pictures the network saw."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []

    def update(self, mask: np.ndarray, picture: np.ndarray, timestamp: float | None) -> np.ndarray:
        self.pictures.append(picture)
        return mask

    def reset(self) -> None:
        pass


@pytest.mark.parametrize(("wide", "bars"), [(320, True), (360, False)])
def test_a_network_that_keeps_proportions_never_sees_a_squeezed_twin(
    fake_bundle: Path, fake_board: Path, wide: int, bars: bool
) -> None:
    seen = Seen()
    main, lores = fake.scene(240, wide, 0.3), fake.scene(64, 96, 0.3)
    shot = Shot(main, 0.0, "000000", cv2.cvtColor(lores, cv2.COLOR_BGR2YUV_I420))
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=seen) as segmenter:
        mask = segmenter.segment_shot(shot, Source(iter(()), describe=""))
        assert mask.shape == (240, wide)
        pad = segmenter.spec.pad
    # 320x240 in 96x64 leaves bars at the sides; the twin, squeezed, has none.
    assert bool((seen.pictures[0][:, :5] == pad).all()) is bars


def test_a_camera_that_is_not_there_says_where_to_look() -> None:
    world = FakeCamera(Hardware())
    with pytest.raises(CameraError, match="No camera number 3"):
        Picamera2Stream(lambda n: FakePicamera2(world, n), 3, request=Request())
    with pytest.raises(CameraError, match="picamera2:N"):
        open_source("picamera2:back")


@pytest.mark.parametrize(
    ("text", "number"), [("picamera2", 0), ("picamera2:1", 1), ("picamera2://2", 2)]
)
def test_the_camera_named_is_the_one_opened_and_asked_for_bt_601(
    text: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[int] = []
    made: list[FakePicamera2] = []
    smpte170m = object()

    def library(number: int) -> FakePicamera2:
        numbers.append(number)
        made.append(FakePicamera2(FakeCamera(Hardware(), clock=SimulatedClock())))
        return made[0]

    monkeypatch.setattr(picamera2, "_library", lambda: (library, smpte170m))
    picamera2.driver(text, Request(format="nv12"))().close()
    assert numbers == [number] and made[0].asked["colour_space"] is smpte170m


def test_without_the_library_the_command_to_install_it_is_named() -> None:
    try:
        import picamera2 as library  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("picamera2 is installed here")
    with pytest.raises(CameraError, match="python3-picamera2.*system-site-packages"):
        open_source("picamera2")
    assert picamera2.driver("picamera2:1", Request()) is not None


def test_a_library_built_for_another_numpy_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "numpy.dtype size changed, may indicate binary incompatibility"
    (tmp_path / "libcamera.py").write_text(f"raise ValueError({said!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "libcamera", raising=False)
    with pytest.raises(CameraError, match=f"one that does not load: {said}.*numpy as apt has it"):
        open_source("picamera2")


# --- picamera2 itself, on libcamera's virtual camera ---------------------------------------------

BARS = ["white", "yellow", "turquoise", "green", "violet", "red", "blue", "black"]


@pytest.fixture(scope="module")
def virtual() -> Callable[[str], dict[str, Any]]:
    """Run a check in a process of its own, inside a root with libcamera."""
    from tests.picamera2_root import on_virtual_camera, picamera2_root

    root = picamera2_root()
    return lambda what: on_virtual_camera(root, what)


@pytest.mark.slow
def test_the_library_gives_both_streams(virtual: Callable[[str], dict[str, Any]]) -> None:
    seen = virtual("lores")
    # RGB888 and YUV420 were asked for: this camera adjusts both to NV12.
    assert seen["describe"] == "picamera2 (1280x720 nv12, lores 640x480)"
    assert seen["shape"] == [720, 1280, 3] and seen["lores"] == [[720, 640], "nv12"]
    assert seen["bars"] == BARS and seen["pattern"] == ""
    assert seen["closing"] < 2.5


@pytest.mark.slow
def test_the_library_s_red_is_red_in_every_format(
    virtual: Callable[[str], dict[str, Any]],
) -> None:
    for format, seen in virtual("formats").items():
        assert seen["bars"] == BARS and seen["pattern"] == "", format


@pytest.mark.slow
def test_sizes_the_library_adjusts_are_read_back(virtual: Callable[[str], dict[str, Any]]) -> None:
    seen = virtual("adjusted")
    assert seen["shape"] == [720, 1280, 3], "1000x700 was asked for"
    assert seen["lores"] is None, "a lores that was made as large as main saves nothing"


@pytest.mark.slow
def test_the_library_s_frames_become_masks(virtual: Callable[[str], dict[str, Any]]) -> None:
    seen = virtual("stream")
    assert seen["mask"] == [720, 1280] and seen["frames"] == 40
    assert seen["least_step"] > 0 and seen["reconnects"] == 0
