"""The benchmark of the smoothers: its rows, its bounds and its pictures, on a drawn clip."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
pytest.importorskip("matplotlib", reason="the curves are drawn with matplotlib (make install)")
import smoothing as bench  # noqa: E402
import smoothing_cost  # noqa: E402
import smoothing_pictures  # noqa: E402
from clips import clips  # noqa: E402

from edge_seg.bundle import DEFAULT_BUNDLE, ModelBundle  # noqa: E402
from edge_seg.recording import frames_in  # noqa: E402
from edge_seg.smoothing import Smoother, Steady  # noqa: E402


@pytest.fixture(scope="module")
def filmed() -> bench.Filmed:
    """A second of a drawn speaker, with masks of a network that is blurred and noisy."""
    clip = dataclasses.replace(clips(None, "tuning")[0], seconds=1.0)
    rng = np.random.default_rng(0)
    made = bench.Filmed(clip.name, clip.kind, [], [], [], [], [])
    for shot in clip.render():
        mask = cv2.resize(shot.label.astype(np.float32), (56, 56), interpolation=cv2.INTER_AREA)
        made.masks.append(np.clip(mask + rng.normal(0, 0.06, mask.shape), 0, 1).astype(np.float32))
        made.pictures.append(cv2.resize(shot.frame, (224, 224), interpolation=cv2.INTER_AREA))
        made.frames.append(shot.frame)
        made.labels.append(shot.label)
        made.times.append(shot.time)
    return made


@pytest.mark.parametrize("fps", [30, 5])
@pytest.mark.parametrize("edges", [False, True])
def test_steady_is_better_and_the_bounds_are_bounds(
    filmed: bench.Filmed, fps: int, edges: bool
) -> None:
    filmed = dataclasses.replace(filmed, edges=edges)
    motions = filmed.motions(fps)
    raw = bench.judged(filmed, fps, None, motions)
    found = bench.row(filmed, fps, "steady", bench.judged(filmed, fps, Steady, motions), raw)
    if edges:
        assert found["flicker"] < 0.6 and found["ghosting"] < 0.8 and found["miou"] > -0.1
    else:
        assert found["better"], found["paid"]
    for name in bench.BOUNDS:
        known = bench.row(filmed, fps, name, bench.bound(filmed, fps, name, motions), raw)
        assert known["flicker"] < found["flicker"] < 1 and known["mae"] < 0
        assert known["figures"]["warped"] > 0
    assert bench.row(filmed, fps, "raw", raw, raw)["dtssd"] == 1


def test_what_a_method_costs_in_accuracy_stands_beside_its_stillness(filmed: bench.Filmed) -> None:
    motions = filmed.motions(10)
    raw = bench.judged(filmed, 10, None, motions)
    rows = [
        bench.row(filmed, 10, name, bench.judged(filmed, 10, make, motions), raw)
        for name, make in bench.METHODS.items()
    ]
    summaries = {
        name: bench.summary(group) for name, group in bench.grouped(rows, "method").items()
    }
    assert set(summaries) == set(bench.METHODS)
    assert summaries["average"]["lag"] > 80 > summaries["steady"]["lag"] + 40
    assert summaries["steady"]["better"] == 1 and summaries["average"]["better"] == 0


def test_a_blink_stands_in_the_table_of_the_masks_own_figures(
    filmed: bench.Filmed, capsys: pytest.CaptureFixture[str]
) -> None:
    small = bench.halved(filmed)
    masks = [*small.masks[:15], 0 * small.masks[15], *small.masks[16:]]  # one frame of thirty
    blinking = dataclasses.replace(small, masks=masks, edges=False)
    motions = small.motions(30)
    assert motions[0] is None and len(motions) == 30
    raw = bench.judged(blinking, 30, None, motions)
    calm = bench.judged(dataclasses.replace(small, edges=False), 30, None, motions)
    rows = [bench.row(blinking, 30, "", figures, raw) for figures in (raw, calm)]
    own = bench.summary(rows)["own"]
    # Two flips of what the label covers, in 29/30 s, beside those of the noise.
    cover = np.mean(small.labels)
    assert raw.flips == pytest.approx(calm.flips + 2 * cover / (29 / 30), rel=0.05)
    assert own["flips"] == pytest.approx((raw.flips + calm.flips) / 2)
    assert (own["dropouts"], calm.dropouts, rows[1]["dropouts"]) == (1, 0, -1)
    # Two of 29 changes are wrong by 1 wherever somebody is, the rest by noise of 0.06.
    least = 100 * 2 / 29 * np.sqrt(cover)
    assert raw.warped == pytest.approx(calm.warped + least, rel=0.2) and calm.warped < 8
    assert own["warped"] == pytest.approx((raw.warped + calm.warped) / 2)
    ratio = calm.warped / raw.warped
    assert [found["warped"] for found in rows] == pytest.approx([1, ratio])
    names = ("raw", *bench.METHODS, *bench.BOUNDS)
    shown = {f"{name} 30": bench.summary([rows[name != "raw"]]) for name in names}
    bench.print_tables(shown, [30])
    second = capsys.readouterr().out.split("the masks' own figures")[1]
    lines = [[cell.strip() for cell in x.strip("│ ").split("│")] for x in second.splitlines()]
    cells = {line[0]: line[4:] for line in lines}
    assert cells["raw"] == [f"{raw.warped:.2f}", "1.00", f"{raw.flips:.4f}", "1"]
    assert cells["steady"] == [f"{calm.warped:.2f}", f"{ratio:.2f}", f"{calm.flips:.4f}", "0"]


def test_masks_that_go_with_a_panning_picture_are_consistent_by_its_motion() -> None:
    """2 px a frame at 30 frames/s, so 6 at 10: what of the clip's frames is seen, moves."""
    rng = np.random.default_rng(4)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (126, 300, 3)), (0, 0), 2)
    wide = cv2.normalize(grain, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    person = np.zeros((126, 300), np.uint8)
    person[30:, 120:170] = 1
    views = [np.s_[:, 60 - 2 * i : 284 - 2 * i] for i in range(30)]
    frames, labels = ([np.ascontiguousarray(x[v]) for v in views] for x in (wide, person))
    masks = [label.astype(np.float32) for label in labels]
    times = [i / 30 for i in range(30)]
    follows = bench.Filmed("pan", "mover", masks, frames, frames, labels, times, edges=False)
    held = dataclasses.replace(follows, masks=[masks[0]] * 30)
    for fps, step in ((30, 2), (10, 6)):
        motions = follows.motions(fps)
        steps = [np.median(np.arange(224) - motion.x) for motion in motions if motion]
        assert np.allclose(steps, step, atol=0.1) and len(steps) == fps - 1
        assert bench.judged(follows, fps, None, motions).warped < 3
        # As many columns at each of two edges, 96 of 126 rows, 224 columns.
        wrong = 100 * np.sqrt(2 * step / 224 * 96 / 126)
        assert bench.judged(held, fps, None, motions).warped == pytest.approx(wrong, rel=0.2)


def test_the_pictures_are_made(filmed: bench.Filmed, tmp_path: Path) -> None:
    small = bench.halved(filmed)
    motions = small.motions(10)
    raw = bench.judged(small, 10, None, motions)

    def point(ms: int) -> dict[str, object]:
        found = bench.judged(small, 10, lambda: Steady(ms / 1e3), motions)
        return bench.summary([bench.row(small, 10, "steady", found, raw)])

    curves = {f"steady 10 {ms} ms": point(ms) for ms in (50, 800)}
    smoothing_pictures.draw_curves(curves, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).shape[1] > 800
    assert frames_in(smoothing_pictures.write_clip(filmed, tmp_path)) == 15


@pytest.mark.slow
def test_costs_are_told_for_both_sizes_of_mask(capsys: pytest.CaptureFixture[str]) -> None:
    methods: dict[str, type[Smoother]] = {"steady": Steady}
    bundle = ModelBundle.load()
    times = smoothing_cost.costs(methods, bundle, "tflite-int8", DEFAULT_BUNDLE)
    told = {"network", "steady", "steady, and the picture", "steady 256x144", "float reference"}
    assert set(times) == told
    assert all(0 < ms < 1000 for ms in times.values())
    smoothing_cost.print_costs(times)
    assert "of the float reference" in capsys.readouterr().out
