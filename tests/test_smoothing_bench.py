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
    made = bench.Filmed(clip.name, clip.kind, [], [], [], [])
    for shot in clip.render():
        mask = cv2.resize(shot.label.astype(np.float32), (56, 56), interpolation=cv2.INTER_AREA)
        made.masks.append(np.clip(mask + rng.normal(0, 0.06, mask.shape), 0, 1).astype(np.float32))
        made.pictures.append(cv2.resize(shot.frame, (224, 224), interpolation=cv2.INTER_AREA))
        made.labels.append(shot.label)
        made.times.append(shot.time)
    return made


@pytest.mark.parametrize("fps", [30, 5])
@pytest.mark.parametrize("edges", [False, True])
def test_steady_is_better_and_the_bounds_are_bounds(
    filmed: bench.Filmed, fps: int, edges: bool
) -> None:
    filmed = dataclasses.replace(filmed, edges=edges)
    raw = bench.judged(filmed, fps, None)
    found = bench.row(filmed, fps, "steady", bench.judged(filmed, fps, Steady), raw)
    if edges:
        assert found["flicker"] < 0.6 and found["ghosting"] < 0.8 and found["miou"] > -0.1
    else:
        assert found["better"], found["paid"]
    for name in bench.BOUNDS:
        known = bench.row(filmed, fps, name, bench.bound(filmed, fps, name), raw)
        assert known["flicker"] < found["flicker"] < 1 and known["mae"] < 0
    assert bench.row(filmed, fps, "raw", raw, raw)["dtssd"] == 1


def test_what_a_method_costs_in_accuracy_stands_beside_its_stillness(filmed: bench.Filmed) -> None:
    raw = bench.judged(filmed, 10, None)
    rows = [
        bench.row(filmed, 10, name, bench.judged(filmed, 10, make), raw)
        for name, make in bench.METHODS.items()
    ]
    summaries = {
        name: bench.summary(group) for name, group in bench.grouped(rows, "method").items()
    }
    assert set(summaries) == set(bench.METHODS)
    assert summaries["average"]["lag"] > 80 > summaries["steady"]["lag"] + 40
    assert summaries["steady"]["better"] == 1 and summaries["average"]["better"] == 0


def test_the_pictures_are_made(filmed: bench.Filmed, tmp_path: Path) -> None:
    small = bench.halved(filmed)
    raw = bench.judged(small, 10, None)
    curves = {
        f"steady 10 {ms} ms": bench.summary(
            [
                bench.row(
                    small, 10, "steady", bench.judged(small, 10, lambda m=ms: Steady(m / 1e3)), raw
                )
            ]
        )
        for ms in (50, 800)
    }
    smoothing_pictures.draw_curves(curves, tmp_path / "curves.png")
    assert cv2.imread(str(tmp_path / "curves.png")).shape[1] > 800
    assert frames_in(smoothing_pictures.write_clip(filmed, tmp_path)) == 15


@pytest.mark.slow
def test_costs_are_told_for_both_sizes_of_mask(capsys: pytest.CaptureFixture[str]) -> None:
    methods: dict[str, type[Smoother]] = {"steady": Steady}
    bundle = ModelBundle.load()
    times = smoothing_cost.costs(methods, bundle, "tflite-int8", DEFAULT_BUNDLE)
    assert set(times) == {"network", "steady", "steady 256x144", "float reference"}
    assert all(0 < ms < 1000 for ms in times.values())
    smoothing_cost.print_costs(times)
    assert "of the float reference" in capsys.readouterr().out
