"""Clips with truth through `eval` and `bench`: figures, what is undefined, and wrong clips."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")

from edge_seg.arrays import Picture, Soft  # noqa: E402
from edge_seg.calibration.clips import clip_shots  # noqa: E402
from edge_seg.cli import main  # noqa: E402
from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.evaluation import evaluate_clip  # noqa: E402
from edge_seg.segmenter import EdgeSegmenter  # noqa: E402

SIZE = (64, 96)  # of the fake network: its mask has cells of 4x4 pixels


def shot(left: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright person of 24 columns on a dark floor, and the label."""
    label = np.zeros(SIZE, np.uint8)
    label[16:, left : left + 24] = 1
    grain = np.random.default_rng(5).integers(0, 30, (*SIZE, 1), dtype=np.uint8)
    return np.where(label[..., None] == 1, 215 + grain, 10 + grain).repeat(3, axis=2), label


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twenty frames: the person rests for ten, then walks 4 px a frame to the right."""
    folder = tmp_path / "walk"
    for part in ("frames", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(20):
        frame, label = shot(16 + 4 * max(0, i - 10))
        cv2.imwrite(str(folder / f"frames/{i:03d}.png"), frame.astype(np.uint8))
        cv2.imwrite(str(folder / f"masks/{i:03d}.png"), 255 * label)
    return folder


@pytest.fixture
def said(
    fake_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run `eval` on a clip; return what it said on the channel of that exit code."""

    def call(labels: Path, *words: str, code: int = 0) -> str:
        bundle = [str(fake_bundle), "--artifact", "fake-int8", "--labels", str(labels)]
        assert main(["eval", *bundle, *words]) == code
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return out.out if code == 0 else out.err

    return call


def test_eval_shows_a_clip_with_and_without_smoothing(
    clip: Path, said: Callable[..., str], tmp_path: Path
) -> None:
    text = said(clip, "--fps", "10", "--json", str(tmp_path / "rows.json"))
    for words in ("static flicker, %", "dtSSD, %", "ghosting, %", "lag added to raw", "smoothed"):
        assert words in text
    assert text.count("raw masks have none of their own") == 1
    assert "20 frames at 10 frames/s" in text and "raw masks: neither empty, nor frozen" in text
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    raw, smoothed = row["clip"]["raw"], row["clip"]["smoothed"]
    assert row["n"] == 20 and row["miou"] == pytest.approx(raw["miou"], abs=1e-9)
    assert raw["frame_ms"] == pytest.approx(100) and row["clip"]["fps"] == 10
    # The cells of the mask are the steps of the walk: a person seen as it is, in every frame.
    assert raw["miou"] > 0.97 and raw["lag"] == 0 and raw["dropouts"] == 0
    assert smoothed["miou"] > 0.95 and smoothed["ghosting"] is not None
    assert row["clip"]["smoothing"]["summary"] in text
    assert f"{100 * raw['miou']:.2f}" in text and f"{raw['flicker']:.3f}" in text


def test_the_smoothed_masks_of_a_noisy_camera_are_stiller(
    clip: Path, said: Callable[..., str], tmp_path: Path
) -> None:
    rng = np.random.default_rng(6)
    _, label = shot(16)
    dim = np.where(label[..., None] == 1, 160, 95)  # a network that is not quite sure
    for i in range(20):
        noisy = np.clip(dim + rng.normal(0, 20, (*SIZE, 3)), 0, 255)
        cv2.imwrite(str(clip / f"frames/{i:03d}.png"), noisy.astype(np.uint8))
        cv2.imwrite(str(clip / f"masks/{i:03d}.png"), 255 * label)
    said(clip, "--fps", "10", "--json", str(tmp_path / "rows.json"))
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    raw, smoothed = row["clip"]["raw"], row["clip"]["smoothed"]
    assert raw["miou"] > 0.95 and smoothed["miou"] > 0.95
    assert raw["flicker"] > 1 and smoothed["flicker"] < 0.6 * raw["flicker"]
    ratio = smoothed["flicker"] / raw["flicker"]
    assert row["clip"]["smoothing"]["flicker_ratio"] == pytest.approx(ratio)


def test_what_a_clip_cannot_tell_is_said(clip: Path, said: Callable[..., str]) -> None:
    for i in range(12, 20):  # the person walks for one frame only and nobody rests for 500 ms
        for part in ("frames", "masks"):
            (clip / part / f"{i:03d}.png").unlink()
    text = said(clip, "--fps", "240")
    assert "undefined on this clip: steadily right" in text
    assert "(the clip, or every rest in it, is under 500 ms)" in text


def test_a_delay_that_is_undefined_is_not_explained(clip: Path, said: Callable[..., str]) -> None:
    for i in range(20):  # nobody moves
        frame, label = shot(16)
        cv2.imwrite(str(clip / f"frames/{i:03d}.png"), frame.astype(np.uint8))
        cv2.imwrite(str(clip / f"masks/{i:03d}.png"), 255 * label)
    text = said(clip)
    assert "undefined on this clip: delay behind the truth" in text
    assert "none of their own" not in text


def test_bench_shows_the_same_figures(
    clip: Path,
    fake_bundle: Path,
    fake_board: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["bench", str(fake_bundle), "--board", str(fake_board), "--calls", "2"]
    words += ["--labels", str(clip), "--fps", "5", "--json", str(tmp_path / "b.json")]
    assert main(words) == 0
    quality = json.loads((tmp_path / "b.json").read_text())["quality"]
    assert quality["n"] == 20 and quality["clip"]["fps"] == 5
    assert quality["clip"]["raw"]["miou"] == pytest.approx(quality["miou"], abs=1e-9)
    assert "static flicker, %" in capsys.readouterr().out


@pytest.mark.parametrize(("gain", "word"), [(0, "no better than chance"), (1, "frozen (in 100%")])
def test_an_empty_and_a_frozen_mask_are_said_to_be_so(
    clip: Path, said: Callable[..., str], gain: int, word: str
) -> None:
    """Frames in which the network sees nothing, or the first picture again and again."""
    first, _ = shot(16)
    for path in (clip / "frames").iterdir():
        cv2.imwrite(str(path), (gain * first).astype(np.uint8))
    text = said(clip, "--fps", "30")
    assert "raw masks: NOT to be judged by stillness" in text and word in text
    assert "smoothing against raw" not in text


def test_wrong_clips_are_named(clip: Path, said: Callable[..., str], tmp_path: Path) -> None:
    masks = clip / "masks"
    cv2.imwrite(str(masks / "007.png"), np.zeros((32, 48), np.uint8))
    wrong = said(clip, code=2)
    assert "masks/007.png" in wrong and "96x64" in wrong and "48x32" in wrong
    (masks / "007.png").unlink()
    assert "007.png" in said(clip, code=2)
    for path in sorted((clip / "frames").iterdir())[1:]:
        path.unlink()
    assert "two frames or more" in said(clip, code=2)
    (tmp_path / "set.txt").write_text(f"{clip}/frames/000.png {clip}/masks/000.png\n")
    assert "leave --fps out" in said(tmp_path / "set.txt", "--fps", "30", code=2)


def test_frames_of_two_sizes_are_named(clip: Path) -> None:
    cv2.imwrite(str(clip / "frames/004.png"), np.zeros((32, 48, 3), np.uint8))
    cv2.imwrite(str(clip / "masks/004.png"), np.zeros((32, 48), np.uint8))
    with pytest.raises(DatasetError, match=r"004\.png.*96x64 and then 48x32"):
        list(clip_shots(clip, 30))


def test_one_frame_is_no_clip_and_two_are(fake_bundle: Path, fake_board: Path) -> None:
    frame, label = shot(16)
    shots = [(frame.astype(np.uint8), label, time) for time in (0.0, 0.1)]
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        with pytest.raises(DatasetError, match="two frames"):
            evaluate_clip({"raw": segmenter}, shots[:1])
        assert evaluate_clip({"raw": segmenter}, shots)["raw"].n == 2


class Held:
    """A smoother that shows the first mask for ever."""

    def __init__(self) -> None:
        self.reset()

    def update(self, mask: Soft, picture: Picture, timestamp: float | None) -> Soft:
        self._first = mask.copy() if self._first is None else self._first
        return self._first.copy()

    def reset(self) -> None:
        self._first: Soft | None = None


def test_under_a_panning_camera_masks_that_go_along_are_consistent_and_held_ones_are_not(
    fake_bundle: Path, fake_board: Path
) -> None:
    """The room and the person in it go 4 px a frame to the right, a cell of the mask."""
    rng = np.random.default_rng(7)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (64, 160)).astype(np.float32), (0, 0), 2)
    wall = 60 + 40 * grain / np.abs(grain).max()
    wall[16:, 64:96] += 130
    place = np.zeros((64, 160), np.uint8)
    place[16:, 64:96] = 1
    shots = []
    for i in range(8):
        seen = np.s_[:, 48 - 4 * i : 144 - 4 * i]
        frame = wall[seen].astype(np.uint8)[..., None].repeat(3, axis=2)
        shots.append((frame, np.ascontiguousarray(place[seen]), i / 10))
    with (
        EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=None) as raw,
        EdgeSegmenter.open(fake_bundle, board=str(fake_board), smoother=Held()) as held,
    ):
        found = evaluate_clip({"raw": raw, "held": held}, shots)
    assert found["raw"].miou > 0.95
    assert found["raw"].warped is not None and found["held"].warped is not None
    # Held: four columns at each of two edges, 48 of 64 rows, 96 columns: sqrt(8/96 * 0.75) = 25 %,
    # and half of that with the contours of the newer picture drawn into it.
    assert found["raw"].warped < 1 and 10 < found["held"].warped < 25


class Late:
    """A smoother that shows the mask of the frame before."""

    def __init__(self) -> None:
        self.reset()

    def update(self, mask: Soft, picture: Picture, timestamp: float | None) -> Soft:
        before, self._last = self._last, mask.copy()
        return mask if before is None else before

    def reset(self) -> None:
        self._last: Soft | None = None


def test_the_lag_is_behind_the_first_segmenter_s_masks(
    clip: Path, fake_bundle: Path, fake_board: Path
) -> None:
    board = str(fake_board)
    with (
        EdgeSegmenter.open(fake_bundle, board=board, smoother=None, edges=False) as raw,
        EdgeSegmenter.open(fake_bundle, board=board, smoother=Late(), edges=False) as late,
        EdgeSegmenter.open(fake_bundle, board=board, smoother=None, edges=False) as same,
    ):
        found = evaluate_clip({"raw": raw, "late": late, "same": same}, clip_shots(clip, 10))
    assert found["late"].lag == pytest.approx(100, abs=10) and found["same"].lag == 0


def test_a_clip_too_low_for_optical_flow_has_all_figures_but_that_one(
    fake_bundle: Path, fake_board: Path
) -> None:
    frame, label = (part[:24].astype(np.uint8) for part in shot(16))  # OpenCV crashes on these
    with EdgeSegmenter.open(fake_bundle, board=str(fake_board)) as segmenter:
        shots = [(frame, label, i / 10) for i in range(4)]
        found = evaluate_clip({"raw": segmenter}, shots)["raw"]
    assert found.warped is None and found.flicker == 0
