"""A frame in, a mask out: on the fake board, whose network says "person" where it is bright."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edge_seg
from edge_seg import EdgeSegmenter, ModelBundle
from edge_seg.arrays import Picture
from edge_seg.board import Board, Runtime
from edge_seg.bundle import describe, save_manifest
from edge_seg.cadence import Cadence
from edge_seg.camera import open_source
from edge_seg.errors import (
    BackendFailure,
    BackendUnavailable,
    BundleError,
    FrameError,
    OutputError,
    SettingError,
    UnknownBoard,
)
from edge_seg.segmenter import open_artifact
from edge_seg.smoothing import Steady
from edge_seg.spec import InputSpec
from edge_seg.supervision import Policy
from tests.conftest import make_fake_bundle


def half_bright(height: int = 48, width: int = 64) -> Picture:
    """A frame whose right half is white: the person."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, width // 2 :] = 255
    return frame


@pytest.fixture
def segmenter(fake_bundle: Path, fake_board: Path) -> EdgeSegmenter:
    return EdgeSegmenter.open(fake_bundle, board=str(fake_board))


@pytest.mark.parametrize("size", [(48, 64), (480, 640), (720, 1280), (640, 480), (37, 91), (1, 1)])
def test_the_mask_is_where_the_person_is(segmenter: EdgeSegmenter, size: tuple[int, int]) -> None:
    frame = half_bright(*size)
    mask = segmenter.segment(frame)
    assert mask.shape == size and mask.dtype == np.float32
    assert 0 <= mask.min() and mask.max() <= 1
    if size[1] > 1:
        margin = size[1] // 2 - size[1] // 8
        assert mask[:, :margin].max() < 0.05
        assert mask[:, -margin:].min() > 0.95


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, True, "two", float("nan")])
def test_a_number_of_threads_that_is_none_is_one_sentence(
    threads: Any, fake_bundle: Path, fake_board: Path
) -> None:
    with pytest.raises(SettingError, match="wanted threads as a whole number") as caught:
        EdgeSegmenter.open(fake_bundle, board=str(fake_board), threads=threads)
    assert "\n" not in str(caught.value) and "doctor" not in str(caught.value)


def test_threads_override_the_boards_and_may_be_numpys(fake_bundle: Path, fake_board: Path) -> None:
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), threads=np.int64(2)) as opened:
        assert opened.runtime is not None and opened.runtime.options["threads"] == 2
        assert not opened.degraded


@pytest.mark.parametrize("edges", ["off", "on", 0, 1, None])
def test_edges_that_are_neither_on_nor_off_are_refused(
    edges: Any, segmenter: EdgeSegmenter, fake_bundle: Path, fake_board: Path
) -> None:
    with pytest.raises(SettingError, match="wanted edges as True or False"):
        EdgeSegmenter.open(fake_bundle, board=str(fake_board), edges=edges)
    with pytest.raises(SettingError, match="wanted edges as True or False"):
        segmenter.edges = edges
    assert segmenter.edges is True


def test_float_and_int8_agree(fake_bundle: Path) -> None:
    bundle = ModelBundle.load(fake_bundle)
    frame = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    masks = [open_artifact(bundle, a).segment(frame) for a in bundle.artifacts]
    # Half an output step of 8/127 on the logit, and half an input step.
    assert np.abs(masks[0] - masks[1]).max() <= 0.25 * (0.5 * 8 / 127 + 8 / 255) + 1e-3


def test_bytes_are_the_float_mask_times_255(segmenter: EdgeSegmenter) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    soft, as_bytes = segmenter.segment(frame), segmenter.segment(frame, dtype="uint8")
    assert as_bytes.dtype == np.uint8 and as_bytes.shape == soft.shape
    assert np.abs(as_bytes / 255 - soft).max() <= 1.5 / 255


def test_the_mask_has_the_size_asked_for(segmenter: EdgeSegmenter) -> None:
    frame = half_bright(480, 640)
    small = segmenter.segment(frame, size=(30, 40))
    assert small.shape == (30, 40)
    assert small[:, :17].max() < 0.05 and small[:, 23:].min() > 0.95


@pytest.mark.parametrize(
    "size",
    [(0, 5), (5, -1), (60_000, 60_000), (2, 40_000), "99", (10.9, 20.2), (9,), (1, 2, 3), 7],
)
def test_a_size_that_cannot_be_is_refused(segmenter: EdgeSegmenter, size: Any) -> None:
    with pytest.raises(SettingError, match="size="):
        segmenter.segment(half_bright(), size=size)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_mask_is_written_into_the_buffer(segmenter: EdgeSegmenter, dtype: str) -> None:
    frame, out = half_bright(100, 120), np.full((100, 120), 7, dtype)
    found = segmenter.segment(frame, out=out, dtype=dtype)
    assert found is out
    assert np.array_equal(out, segmenter.segment(frame, dtype=dtype))


def test_a_buffer_of_another_form_is_refused(segmenter: EdgeSegmenter) -> None:
    for out in (np.empty((10, 10), np.float32), np.empty((48, 64), np.uint8)):
        with pytest.raises(FrameError, match="out="):
            segmenter.segment(half_bright(), out=out)


def test_the_frame_is_not_changed_and_masks_are_new(segmenter: EdgeSegmenter) -> None:
    frame = half_bright(64, 96)  # the network's own size: nothing needs resizing
    kept = frame.copy()
    first = segmenter.segment(frame)
    before = first.copy()
    segmenter.segment(255 - frame)
    assert np.array_equal(frame, kept)
    assert np.array_equal(first, before)


@pytest.mark.parametrize("dtype", ["float64", bool, np.int8, "", "pixels", None, 3])
def test_a_dtype_that_masks_do_not_have_is_refused(segmenter: EdgeSegmenter, dtype: Any) -> None:
    with pytest.raises(SettingError, match=r"wanted dtype= as float32 or uint8, found .*mask >="):
        segmenter.segment(half_bright(), dtype=dtype)


def test_numpys_own_dtypes_name_the_same(segmenter: EdgeSegmenter) -> None:
    for dtype in (np.uint8, np.dtype(np.float32)):
        mask = segmenter.segment(half_bright(), dtype=dtype)
        assert mask.dtype == dtype
        assert np.array_equal(mask, segmenter.segment(half_bright(), dtype=mask.dtype.name))


TYPED = """
import numpy as np
from numpy.typing import NDArray
from edge_seg import EdgeSegmenter
from edge_seg.camera import Shot, Source

def use(segmenter: EdgeSegmenter, shot: Shot, source: Source) -> None:
    soft: NDArray[np.float32] = segmenter.segment(shot.frame)
    soft = segmenter.segment_shot(shot, source)
    whole: NDArray[np.uint8] = segmenter.segment(shot.frame, dtype="uint8")
    whole = segmenter.segment_shot(shot, source, dtype="uint8", timed=False)
    whole = segmenter.segment_shot(shot, source, dtype=np.uint8)
    for _, soft in segmenter.stream(source): ...
    for _, whole in segmenter.stream(source, dtype="uint8"): ...
"""


@pytest.mark.slow
def test_a_type_checker_knows_what_each_dtype_gives(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="edge-seg[dev]")
    (tmp_path / "use.py").write_text(TYPED)
    words = [sys.executable, "-m", "mypy", "--follow-imports", "silent", "use.py"]
    folder = str(Path(edge_seg.__file__).parents[1])
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "MYPYPATH": folder}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_frame_that_is_none_is_refused_and_the_next_one_works(segmenter: EdgeSegmenter) -> None:
    with open_source("fake:size=64x48") as source, pytest.raises(FrameError, match="read again"):
        segmenter.segment_shot(None, source)  # type: ignore[arg-type]
    for frame in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), None):
        with pytest.raises(FrameError):
            segmenter.segment(frame)  # type: ignore[arg-type]
    assert segmenter.segment(half_bright()).max() > 0.9


def test_the_colour_order_is_the_one_that_was_said(fake_board: Path, tmp_path: Path) -> None:
    # A network that sees only red: the other channels are divided by a huge std.
    folder = tmp_path / "red"
    folder.mkdir()
    make_fake_bundle(folder, InputSpec(64, 96, std=(0.1, 1e6, 1e6)), precisions=("fp32", "int8"))
    red = {"rgb": (255, 0, 0), "bgr": (0, 0, 255)}
    for said in ("rgb", "bgr"):
        with EdgeSegmenter.open(folder, board=str(fake_board), format=said) as segmenter:
            for really in ("rgb", "bgr"):
                mask = segmenter.segment(np.full((48, 64, 3), red[really], np.uint8))
                assert (mask > 0.5).all() == (said == really)


def test_an_artifact_is_judged_in_the_colour_order_that_was_said(tmp_path: Path) -> None:
    bundle = make_fake_bundle(tmp_path, InputSpec(64, 96, std=(0.1, 1e6, 1e6)))  # sees red alone
    red = np.full((48, 64, 3), (255, 0, 0), np.uint8)
    for format, person in (("rgb", True), ("bgr", False)):
        with open_artifact(bundle, bundle.artifacts[0], format=format) as segmenter:
            assert (segmenter.segment(red) > 0.5).all() == person


def test_a_shot_is_read_in_its_source_s_format_and_not_in_the_segmenter_s(
    segmenter: EdgeSegmenter,
) -> None:
    with open_source("fake:size=64x48", format="nv12") as source:
        shot = source.read(5.0)
        assert shot is not None and shot.frame.shape == (72, 64)
        mask = segmenter.segment_shot(shot, source, timed=False)
    assert mask.shape == (48, 64)
    assert np.array_equal(mask, segmenter.segment(shot.frame, format="nv12"))


def test_a_format_that_is_none_is_refused_before_anything_opens(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="bgr"):
        EdgeSegmenter.open(tmp_path / "no such bundle", format="grey")


@pytest.mark.parametrize("time", ["now", datetime(2024, 1, 1), True, [1.0], np.timedelta64(1, "s")])
def test_a_time_that_is_no_number_is_refused_and_the_next_frame_works(
    segmenter: EdgeSegmenter, time: Any
) -> None:
    with pytest.raises(FrameError, match="a number of seconds, found"):
        segmenter.segment(half_bright(), time)
    assert segmenter.segment(half_bright(), 1.0).max() > 0.9


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, np.array])
def test_a_number_of_numpy_s_is_a_time(segmenter: EdgeSegmenter, kind: Any) -> None:
    segmenter.cadence = Cadence(2)
    for i in range(3):
        assert segmenter.segment(half_bright(), kind(i)).max() > 0.9


def test_a_policy_that_is_none_is_refused_before_anything_opens(tmp_path: Path) -> None:
    for wrong in (0.2, {"deadline": 0.2}, Policy):
        with pytest.raises(SettingError, match=r"policy= as a Policy.*Policy\(deadline=0.2\)"):
            EdgeSegmenter.open(tmp_path / "no such bundle", policy=wrong)  # type: ignore[arg-type]


def test_a_bundle_or_board_that_is_none_is_refused(fake_bundle: Path, fake_board: Path) -> None:
    with pytest.raises(BundleError, match="found 5"):
        EdgeSegmenter.open(5)  # type: ignore[arg-type]
    for wrong in (5, None):
        with pytest.raises(UnknownBoard, match=f"found {wrong}"):
            EdgeSegmenter.open(fake_bundle, board=wrong)  # type: ignore[arg-type]
    assert EdgeSegmenter.open(fake_bundle, board=fake_board).board is not None


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_a_bundle_s_name_that_the_disk_refuses_is_one_sentence(name: str) -> None:
    with pytest.raises(BundleError, match="wanted a bundle, found: .*; check the path"):
        EdgeSegmenter.open(name)


def test_a_cache_that_is_no_path_is_no_refusal_of_every_runtime(fake_bundle: Path) -> None:
    with pytest.raises(OutputError, match="^wanted cache= as a folder's path or None, found 3"):
        EdgeSegmenter.open(fake_bundle, cache=3)  # type: ignore[arg-type]


def test_a_smoother_that_is_none_is_refused_where_it_is_set(segmenter: EdgeSegmenter) -> None:
    for wrong in (2, "one-euro", Steady):
        with pytest.raises(SettingError, match="smoother="):
            segmenter.smoother = wrong  # type: ignore[assignment]
    segmenter.smoother = "default"
    assert isinstance(segmenter.smoother, Steady)


# --- which runtime -------------------------------------------------------------------------------


def test_the_first_choice_is_taken_without_a_word(
    segmenter: EdgeSegmenter, caplog: pytest.LogCaptureFixture
) -> None:
    assert not segmenter.degraded and segmenter.reason == ""
    assert segmenter.runtime is not None and segmenter.runtime.precision == "int8"
    assert segmenter.artifact is not None and segmenter.artifact.name == "fake-int8"
    assert not caplog.records


def damage_int8(folder: Path) -> None:
    path = folder / "fake-int8.json"
    path.write_text(path.read_text() + " ")


def test_a_fallback_is_said_aloud(
    fake_bundle: Path, fake_board: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage_int8(fake_bundle)
    with caplog.at_level(logging.WARNING, "edge_seg"):
        segmenter = EdgeSegmenter.open(fake_bundle, board=str(fake_board))
    assert segmenter.degraded
    assert segmenter.runtime is not None and segmenter.runtime.precision == "fp32"
    assert "fake int8" in segmenter.reason and "fake-int8.json" in segmenter.reason
    assert segmenter.reason in caplog.text
    assert segmenter.segment(half_bright())[:, 40:].min() > 0.95


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_to_do_without_an_optional_runtime_is_not_to_fall_back(
    backend: str, fake_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The bundle holds no artifact for it."""
    wanted, then = Runtime(backend, "int8"), Runtime("fake", "int8")
    for optional in (True, False):
        board = Board("x", "X", (), {}, (replace(wanted, optional=optional), then))
        with EdgeSegmenter.open(fake_bundle, board=board) as segmenter:
            assert segmenter.runtime == then
            assert segmenter.degraded is not optional
            assert bool(segmenter.reason) is not optional
        assert bool(caplog.records) is not optional


def test_an_optional_runtime_that_is_there_and_fails_is_said_aloud(
    fake_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage_int8(fake_bundle)
    runtimes = (Runtime("fake", "int8", optional=True), Runtime("fake", "fp32"))
    with EdgeSegmenter.open(fake_bundle, board=Board("x", "X", (), {}, runtimes)) as segmenter:
        assert segmenter.degraded and "fake-int8.json" in segmenter.reason
    assert segmenter.reason in caplog.text


def test_every_refusal_is_listed_when_nothing_works(fake_bundle: Path) -> None:
    damage_int8(fake_bundle)
    runtimes = (
        Runtime("fake", "int8"),
        Runtime("fake", "fp16"),
        Runtime("abacus", "fp32"),
        Runtime("fake", "fp32", {"warp": 9}),
        Runtime("tflite", "int8"),
    )
    board = Board("bench", "A board", (), {}, runtimes)
    with pytest.raises(BackendUnavailable) as caught:
        EdgeSegmenter.open(fake_bundle, board=board)
    message = str(caught.value)
    assert message.count("\n  - ") == len(runtimes)
    for part in ("'bench'", "fake-int8.json", "fake-fp16", "abacus", "warp", "tflite-int8"):
        assert part in message
    assert "edge-seg doctor --board bench" in message


def test_an_artifact_of_another_form_than_the_bundle_says_is_a_refusal(
    fake_bundle: Path, fake_board: Path
) -> None:
    path = fake_bundle / "fake-int8.json"
    path.write_text('{"height": 32, "width": 32, "dtype": "int8"}')
    bundle = ModelBundle.load(fake_bundle)
    fixed = describe(path, format="fake", precision="int8")
    object.__setattr__(bundle, "artifacts", (bundle.artifacts[0], fixed))
    save_manifest(bundle)
    segmenter = EdgeSegmenter.open(fake_bundle, board=str(fake_board))
    assert segmenter.degraded and "64x96x3" in segmenter.reason
    assert segmenter.segment(half_bright()).shape == (48, 64)


def test_an_unknown_board_and_a_missing_bundle(fake_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownBoard, match="raspberry-pi-5"):
        EdgeSegmenter.open(fake_bundle, board="no-such-board")
    with pytest.raises(BundleError):
        EdgeSegmenter.open(tmp_path / "nowhere")


def test_a_board_file_of_the_user_s_is_named_after_its_folder(
    fake_bundle: Path, fake_board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fake_board.parent)
    segmenter = EdgeSegmenter.open(fake_bundle, board="board.toml")
    assert segmenter.board is not None and segmenter.board.name == "fake-board"


def test_an_artifact_without_a_backend_is_refused(fake_bundle: Path) -> None:
    path = fake_bundle / "net.rknn"  # as a later version's bundle could hold it
    path.write_text("RKNN")
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BackendUnavailable, match="wanted a backend for rknn.*upgrade edge-seg"):
        open_artifact(bundle, describe(path, format="rknn", precision="int8"))


def test_an_artifact_no_library_here_reads_is_refused_with_all_of_them(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "tensorrt"):  # both read "onnx"
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"edge_seg.backends.{name}", raising=False)
    path = fake_bundle / "net.onnx"
    path.write_bytes(b"not read")
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BackendUnavailable) as refused:
        open_artifact(bundle, describe(path, format="onnx", precision="int8"))
    said = str(refused.value)
    assert "edge-seg[onnxruntime]" in said and "nvidia-jetpack" in said


# --- closing, and two at once --------------------------------------------------------------------


def test_closing_twice_is_fine_and_segmenting_after_it_is_not(segmenter: EdgeSegmenter) -> None:
    segmenter.close()
    segmenter.close()
    with pytest.raises(BackendFailure, match="closed"):
        segmenter.segment(half_bright())


def test_a_closed_segmenter_carries_no_mask(segmenter: EdgeSegmenter) -> None:
    segmenter.cadence = Cadence(5)
    segmenter.segment(half_bright(), 0.0)
    segmenter.segment(half_bright(), 0.1)
    segmenter.close()
    with pytest.raises(BackendFailure, match="closed"):
        segmenter.segment(half_bright(), 0.2)


def test_leaving_the_context_closes(fake_bundle: Path, fake_board: Path) -> None:
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        assert segmenter.segment(half_bright()).shape == (48, 64)
    with pytest.raises(BackendFailure):
        segmenter.segment(half_bright())


def tried(segmenter: EdgeSegmenter) -> list[str]:
    """What a frame from another thread is answered: "" or the error's text."""
    said: list[str] = []

    def work() -> None:
        try:
            segmenter.segment(half_bright(), 1.0)
        except FrameError as error:
            said.append(str(error))
        else:
            said.append("")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    return said


def test_what_remembers_one_camera_s_masks_serves_one_segmenter(
    segmenter: EdgeSegmenter, fake_bundle: Path, fake_board: Path
) -> None:
    """With one cadence for two cameras, a mask of the one was carried onto the other's frames."""
    smoother, cadence = Steady(), Cadence(2)
    segmenter.smoother, segmenter.cadence = smoother, cadence
    segmenter.smoother = smoother  # its own
    with pytest.raises(SettingError, match="make one for each"):
        EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=smoother)
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as other:
        with pytest.raises(SettingError, match="make one for each"):
            other.smoother = smoother
        with pytest.raises(SettingError, match="make one for each"):
            other.cadence = cadence
        segmenter.cadence = None  # given away
        other.cadence = cadence
        segmenter.close()
        other.smoother = smoother


@pytest.mark.parametrize("act", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_segmenter_is_neither_pickled_nor_copied(
    segmenter: EdgeSegmenter, act: Callable[[EdgeSegmenter], object]
) -> None:
    """A copy would share the device and the masks of one camera: closing one would end both."""
    with pytest.raises(TypeError, match="open one in each process"):
        act(segmenter)
    assert segmenter.segment(half_bright()).shape == (48, 64)


@pytest.mark.parametrize("wrong", [None, half_bright(), "frame.png"])
def test_what_is_no_shot_of_a_source_is_refused(segmenter: EdgeSegmenter, wrong: Any) -> None:
    with open_source("fake:size=64x48") as source:
        with pytest.raises(FrameError, match="wanted a shot"):
            segmenter.segment_shot(wrong, source)
        shot = source.read(5.0)
        assert shot is not None
        with pytest.raises(FrameError, match="wanted the Source"):
            segmenter.segment_shot(shot, wrong)


def test_a_second_thread_is_refused_and_waits_for_nobody(segmenter: EdgeSegmenter) -> None:
    said: list[str] = []
    mask = segmenter.segment(half_bright(), 1.0, clock=lambda _: said.extend(tried(segmenter)))
    assert len(said) >= 5 and all("one segmenter serves one thread at a time" in s for s in said)
    assert mask[:, 40:].min() > 0.95, "the first one is not disturbed"
    assert tried(segmenter) == [""], "another thread may follow"


def test_a_frame_that_failed_shuts_no_thread_out(segmenter: EdgeSegmenter) -> None:
    def broken(stage: str) -> None:
        raise RuntimeError(stage)

    with pytest.raises(FrameError):
        segmenter.segment(half_bright()[..., 0])
    assert tried(segmenter) == [""]
    with pytest.raises(RuntimeError):
        segmenter.segment(half_bright(), clock=broken)
    assert tried(segmenter) == [""]


@pytest.mark.parametrize("count", [2, 8])
def test_some_in_as_many_threads_do_not_disturb_each_other(
    fake_bundle: Path, fake_board: Path, count: int
) -> None:
    frames = [half_bright(120, 160), *(255 - half_bright(90, 70 + i) for i in range(count - 1))]
    segmenters = [EdgeSegmenter.open(fake_bundle, board=str(fake_board)) for _ in frames]
    wanted = [s.segment(f) for s, f in zip(segmenters, frames, strict=True)]
    wrong: list[int] = []
    start = threading.Barrier(count)

    def work(i: int) -> None:
        start.wait()
        for _ in range(200 // count):
            if not np.array_equal(segmenters[i].segment(frames[i]), wanted[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_clock_hears_every_stage_in_order(segmenter: EdgeSegmenter) -> None:
    stages: list[str] = []
    segmenter.segment(half_bright(), clock=stages.append)
    assert stages == ["prepare", "encode", "infer", "decode", "edges", "restore"]
    stages.clear()
    segmenter.edges = False
    segmenter.segment(half_bright(), clock=stages.append)
    assert stages == ["prepare", "encode", "infer", "decode", "restore"]


class Recorder:
    """A smoother that keeps what it is given and halves the mask."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[int, ...], tuple[int, ...], float | None]] = []

    def update(self, mask: np.ndarray, picture: np.ndarray, timestamp: float | None) -> np.ndarray:
        self.calls.append((mask.shape, picture.shape, timestamp))
        return (mask / 2).astype(np.float32)

    def reset(self) -> None:
        self.calls.clear()


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_smoother_works_at_the_network_s_size_before_enlarging(
    fake_bundle: Path, fake_board: Path, dtype: str
) -> None:
    recorder = Recorder()
    segmenter = EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=recorder)
    mask = segmenter.segment(half_bright(480, 640), 1.25, dtype=dtype)
    assert recorder.calls == [((16, 24), (64, 96, 3), 1.25)]
    assert mask.dtype == dtype and mask.shape == (480, 640)
    assert mask.max() / (255 if dtype == "uint8" else 1) == pytest.approx(0.5, abs=0.01)


class Beyond:
    """A smoother that goes too far, as filters that extrapolate do."""

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer

    def update(self, mask: Any, picture: Any, timestamp: float | None) -> Any:
        return self.answer(mask)

    def reset(self) -> None:
        pass


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_smoother_that_overshoots_stays_a_mask(segmenter: EdgeSegmenter, dtype: str) -> None:
    """1.02 in bytes would be 260, which is 4: a person would become background."""
    segmenter.smoother = Beyond(lambda mask: 1.3 * mask - np.float32(0.15))
    mask = segmenter.segment(half_bright(), 0.0, dtype=dtype)
    most = 255 if dtype == "uint8" else 1.0
    assert mask.min() == 0 and mask.max() == most
    assert float((mask > 0.5 * most).mean()) == pytest.approx(0.5, abs=0.05)


def _one_nan(mask: Any) -> Any:
    mask[0, 0] = np.nan
    return mask


@pytest.mark.parametrize(
    "answer", [lambda m: m[:3, :3], lambda m: m.astype(np.float64), lambda m: None, _one_nan]
)
def test_a_smoother_that_returns_no_mask_is_refused(
    segmenter: EdgeSegmenter, answer: Callable[[Any], Any]
) -> None:
    segmenter.smoother = Beyond(answer)
    with pytest.raises(FrameError, match="smoother's mask"):
        segmenter.segment(half_bright(), 0.0)


def test_a_wrong_buffer_is_refused_before_anything_has_run(segmenter: EdgeSegmenter) -> None:
    segmenter.cadence = cadence = Cadence(2)
    with pytest.raises(FrameError, match="out="):
        segmenter.segment(half_bright(), 0.0, out=np.empty((3, 3), np.float32))
    assert cadence.seen == 0 and segmenter.latency.count == 0


def test_a_smoother_is_asked_for_frames_with_a_time_alone(
    fake_bundle: Path, fake_board: Path
) -> None:
    recorder = Recorder()
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=recorder) as segmenter:
        segmenter.segment(half_bright(), 1.0)
        alone = segmenter.segment(half_bright())
        assert recorder.calls == []  # told to forget
        segmenter.segment(half_bright(), 1.1)
        segmenter.segment(half_bright(90, 120), 1.2)  # another camera
        assert [call[2] for call in recorder.calls] == [1.2]
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=None) as plain:
        assert np.array_equal(alone, plain.segment(half_bright()))


def test_streams_are_smoothed_by_default_and_unrelated_pictures_are_not(
    fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    dark = np.full((120, 160, 3), 20, np.uint8)
    for folder in ("clip/frames", "pictures"):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(4):
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), dark)
    asked: list[float | None] = []
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        assert isinstance(segmenter.smoother, Steady)
        update = segmenter.smoother.update
        segmenter.smoother.update = lambda m, p, t: (asked.append(t), update(m, p, t))[1]  # type: ignore
        list(segmenter.stream(tmp_path / "pictures"))
        assert asked == []
        list(segmenter.stream(tmp_path / "clip"))
        assert asked == pytest.approx([0, 1 / 30, 2 / 30, 0.1])
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=None) as segmenter:
        assert segmenter.smoother is None
    with pytest.raises(SettingError, match="smoother="):
        EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother="one-euro")


def test_the_runtime_told_is_the_one_that_runs(fake_bundle: Path, fake_board: Path) -> None:
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board), threads=3) as segmenter:
        assert str(segmenter.runtime) == "fake int8, threads 3"
        assert segmenter.board is not None
        assert str(segmenter.board.runtimes[0]) == "fake int8, threads 1"  # the board's stays
