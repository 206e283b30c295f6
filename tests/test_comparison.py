"""Is int8 worth it here: measured side by side, said in a sentence; "keep float" is an answer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_seg import comparison
from edge_seg.backends.fake import FakeBackend
from edge_seg.board import Runtime
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.comparison import Comparison, Timing, compare, noise, runtimes_of, side_by_side
from edge_seg.spec import TensorSpec

ON = {"on": "val.txt", "kind": "labels"}


def timing(precision: str, milliseconds: float, backend: str = "tflite", **quality: Any) -> Timing:
    """A measurement, as if made."""
    artifact = Artifact(backend, precision, "net", "0" * 64, 1, quality={**ON, **quality})
    return Timing(Runtime(backend, precision, {"threads": 1}), artifact, milliseconds, "a PC", "1")


def advice(*timings: Timing) -> list[str]:
    return Comparison(timings, ()).advice


@pytest.mark.parametrize(
    ("int8", "told"),
    [(5.0, "run tflite-int8"), (9.4, "run tflite-int8"), (9.6, "keep float"), (30.0, "keep float")],
)
def test_what_is_hardly_quicker_is_not_worth_its_error(int8: float, told: str) -> None:
    (said,) = advice(timing("fp32", 10.0, miou=0.94), timing("int8", int8, miou=0.937))
    assert said.startswith("tflite, threads 1: ") and told in said
    assert f"{int8 / 10:.2f}x its time ({int8:.2f} against 10.00 ms)" in said
    assert "0.30 points of mIoU less" in said


def noisy(precision: str, rounds: list[float], miou: float) -> Timing:
    return replace(timing(precision, sorted(rounds)[2], miou=miou), rounds=tuple(rounds))


@pytest.mark.parametrize(
    ("rounds", "miou", "told"),
    [
        ([8.0, 9.0, 9.7, 11.0, 12.0], 0.9402, "run either tflite-int8 or tflite-fp32: no differ"),
        ([8.0, 9.0, 9.7, 11.0, 12.0], 0.9380, "keep float (tflite-fp32): no difference in time"),
        ([8.0, 9.0, 9.0, 11.0, 12.0], 0.9380, "keep float (tflite-fp32): no difference in time"),
        ([9.55, 9.6, 9.7, 9.8, 9.9], 0.9402, "run either tflite-int8 or tflite-fp32: tflite-int8"),
        ([10.1, 10.2, 10.2, 10.3, 10.3], 0.94, "run either tflite-int8 or tflite-fp32: tflite-"),
        ([9.55, 9.6, 9.7, 9.8, 9.9], 0.9380, "keep float (tflite-fp32): tflite-int8 takes 0.97x"),
        ([8.0, 8.1, 8.2, 8.3, 8.4], 0.9380, "run tflite-int8: against tflite-fp32 0.82x"),
        ([11.0, 11.1, 11.2, 11.3, 11.4], 0.9402, "keep float (tflite-fp32): tflite-int8 takes"),
    ],
)
def test_float_is_advised_only_where_int8_is_slower_or_loses_something(
    rounds: list[float], miou: float, told: str
) -> None:
    (said,) = advice(noisy("fp32", [10.0] * 5, 0.94), noisy("int8", rounds, miou))
    assert said.startswith(f"tflite, threads 1: {told}")
    assert f"half of the rounds {rounds[1] / 10:.2f}x to {rounds[3] / 10:.2f}x" in said


def test_the_noise_is_of_rounds_that_both_sides_had() -> None:
    """A machine that slows down and recovers hits both: that is no noise of the ratio."""
    wave = [10.0, 14.0, 20.0, 14.0, 10.0]
    (said,) = advice(noisy("fp32", wave, 0.94), noisy("int8", [w / 2 for w in wave], 0.937))
    assert said.startswith("tflite, threads 1: run tflite-int8") and "0.50x its time" in said


def test_advice_is_of_this_machine_and_says_so() -> None:
    """Also `bench --board X` on another machine, whose runtimes these are and whose times not."""
    (said,) = advice(timing("fp32", 10.0), timing("int8", 5.0))
    assert said.endswith("of this machine, not of another board")


def test_int8_is_held_against_the_quickest_float() -> None:
    floats = [timing("fp32", 10.0, "openvino"), timing("fp16", 4.0, "openvino")]
    (said,) = advice(*floats, timing("int8", 5.0, "openvino"))
    assert "keep float (openvino-fp16)" in said and "1.25x" in said


def test_libraries_are_advised_on_apart_and_a_lone_precision_not_at_all() -> None:
    said = advice(timing("fp32", 10), timing("int8", 5), timing("int8", 1, "openvino"))
    assert len(said) == 1 and said[0].startswith("tflite")


def test_quality_of_other_pictures_is_not_compared() -> None:
    (said,) = advice(timing("fp32", 10, miou=0.9), timing("int8", 5, miou=0.8, on="other.txt"))
    assert "points" not in said


def test_medians_are_of_the_calls_themselves() -> None:
    found = side_by_side(
        {"slow": lambda: time.sleep(0.004), "quick": lambda: time.sleep(0.001)}, rounds=3
    )
    assert 4.0 <= found["slow"] and 1.0 <= found["quick"] < found["slow"]


def test_a_slow_moment_hits_every_side_and_is_no_median() -> None:
    order: list[str] = []

    def call(name: str) -> None:
        order.append(name)
        time.sleep(0.3 if len(order) == 30 else 0.001)

    found = side_by_side({"a": lambda: call("a"), "b": lambda: call("b")}, rounds=2)
    warm_up = len(order) - 4 * 6
    assert warm_up > 0 and "".join(order[warm_up:]) == "aaaaaabbbbbb" * 2, "5, and one not counted"
    assert max(found.values()) < 20


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_calls_are_timed_on_numbers_of_the_whole_range(dtype: str) -> None:
    tensor = noise(TensorSpec((1, 64, 64, 3), dtype, "nhwc", scale=0.1))
    low, high = (-1, 1) if dtype == "float32" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    assert tensor.dtype == dtype and tensor.shape == (1, 64, 64, 3)
    assert float(tensor.min()) == pytest.approx(low, abs=0.01)
    assert float(tensor.max()) == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"miou": 0.94}, {"miou": 0.941}, "0.10 points of mIoU more"),
        ({"miou": 0.94}, {"miou": 0.93999}, "the same mIoU"),
        ({"agreement": 0.99}, {"agreement": 0.98}, "1.00 points of agreement less"),
    ],
)
def test_what_int8_gains_or_loses_is_said(
    before: dict[str, float], after: dict[str, float], told: str
) -> None:
    (said,) = advice(timing("fp32", 10.0, **before), timing("int8", 5.0, **after))
    assert f", {told};" in said


def test_int8_is_the_quickest_there_is() -> None:
    some = [timing("int8", 6.0), timing("int8-other", 5.0), timing("fp32", 10.0)]
    (said,) = advice(*some)
    assert "run tflite-int8-other" in said and "0.50x" in said


def test_a_bundle_is_measured_and_what_cannot_open_is_named(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[FakeBackend] = []
    monkeypatch.setattr(FakeBackend, "close", lambda backend: closed.append(backend))
    bundle = ModelBundle.load(fake_bundle)
    absent = Runtime("fake", "fp16", {"threads": 1})
    wrong = Runtime("fake", "int8", {"threads": 0})
    found = compare(bundle, [*runtimes_of(bundle), *runtimes_of(bundle), absent, wrong])
    assert len(closed) == 2, "what was opened, each once"
    assert [t.artifact.name for t in found.timings] == ["fake-fp32", "fake-int8"]
    assert all(t.milliseconds > 0 and len(t.rounds) >= 3 for t in found.timings)
    assert len(found.refusals) == 2 and "fp16" in found.refusals[0]
    assert "wanted threads as a number" in found.refusals[1]
    written = found.to_dict()
    assert written["not_measured"] == list(found.refusals)
    assert {"artifact", "bare_call_ms", "measured_on", "runtime"} <= written["timings"][0].keys()
    assert "threads 1" in written["timings"][0]["runtime"]


def test_slow_networks_get_fewer_rounds_and_never_none(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "SECONDS", 1e-9)
    bundle = ModelBundle.load(fake_bundle)
    assert [len(t.rounds) for t in compare(bundle, runtimes_of(bundle)).timings] == [3, 3]


def test_an_artifact_is_timed_in_the_first_library_that_reads_it(fake_bundle: Path) -> None:
    """TensorRT reads ONNX as well, and is on hardly any machine that converts."""
    bundle = ModelBundle.load(fake_bundle)
    artifact = replace(bundle.artifacts[0], format="onnx")
    (runtime,) = runtimes_of(replace(bundle, artifacts=(artifact,)))
    assert str(runtime) == str(Runtime("onnxruntime", artifact.precision, {"threads": 1}))
