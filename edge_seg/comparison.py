"""Which precision to run on this machine: bare calls timed side by side, then advice.

    runtimes of one bundle  ->  Timing per runtime that opens here, a refusal per one that does not
                            ->  one sentence per library: int8, or keep float

A bare call is the library's alone, without the resizes of `segment`. Interleaving lets a slow
moment of the machine hit every side, so the ratios hold where the milliseconds do not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_seg import machine
from edge_seg.backends import Backend, readers
from edge_seg.board import Runtime
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.errors import BackendUnavailable, BundleError
from edge_seg.segmenter import open_runtime

WARM_UP = 10
BLOCK = 5  # calls of one side in a row: the first refills the caches and is not counted
ROUNDS = 40
SECONDS = 12.0  # for all sides together; a slow network gets fewer rounds, never under LEAST
LEAST = 3
WORTH = 0.95  # of float's time: int8 that gains less than this is not worth its error


@dataclass(frozen=True)
class Timing:
    """One runtime measured. milliseconds: median of a bare call. machine, version: where."""

    runtime: Runtime
    artifact: Artifact
    milliseconds: float
    machine: str
    version: str

    @property
    def library(self) -> str:
        """The runtime without its precision: what int8 and float are compared on."""
        extra = "".join(f", {k} {v}" for k, v in self.runtime.options.items())
        return f"{self.runtime.backend}{extra}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; the key carries the unit."""
        return {
            "artifact": self.artifact.name,
            "runtime": str(self.runtime),
            "bare_call_ms": self.milliseconds,
            "measured_on": f"{self.machine}, {self.version}",
        }


@dataclass(frozen=True)
class Comparison:
    """Runtimes side by side. refusals: one sentence per runtime that could not be measured."""

    timings: tuple[Timing, ...]
    refusals: tuple[str, ...]

    @property
    def advice(self) -> list[str]:
        """One sentence per library that has both int8 and float here."""
        libraries = dict.fromkeys(timing.library for timing in self.timings)
        sentences = (
            _sentence(library, [t for t in self.timings if t.library == library])
            for library in libraries
        )
        return [sentence for sentence in sentences if sentence]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "timings": [timing.to_dict() for timing in self.timings],
            "not_measured": list(self.refusals),
            "advice": self.advice,
        }


def compare(bundle: ModelBundle, runtimes: Iterable[Runtime]) -> Comparison:
    """Open every runtime that works here and time them side by side.

    Raises BackendFailure where one that opened cannot run.
    """
    refusals: list[str] = []
    opened: dict[str, tuple[Runtime, Backend, Artifact]] = {}
    here = machine.measured_on()
    with contextlib.ExitStack() as stack:
        for runtime in runtimes:
            if str(runtime) in opened:
                continue
            try:
                backend, artifact = open_runtime(bundle, runtime)
            except (BackendUnavailable, BundleError) as refusal:
                refusals.append(f"{runtime}: {refusal}")
                continue
            stack.callback(backend.close)
            opened[str(runtime)] = (runtime, backend, artifact)
        times = side_by_side({name: _call(backend) for name, (_, backend, _) in opened.items()})
        timings = tuple(
            Timing(runtime, artifact, times[name], here, getattr(backend, "library", ""))
            for name, (runtime, backend, artifact) in opened.items()
        )
    return Comparison(timings, tuple(refusals))


def runtimes_of(bundle: ModelBundle, *, threads: int = 1) -> list[Runtime]:
    """Return a runtime per artifact: the first backend that reads its format, so many threads."""
    return [
        Runtime(readers(artifact.format)[0], artifact.precision, {"threads": threads})
        for artifact in bundle.artifacts
        if readers(artifact.format)
    ]


def side_by_side(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, float]:
    """Return the median milliseconds of each call, of interleaved blocks after a warm-up.

    rounds: blocks per side, fewer where they would take longer than `seconds`.
    """
    began = time.perf_counter()
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    one_round = (time.perf_counter() - began) * (BLOCK + 1) / WARM_UP
    rounds = min(rounds, max(LEAST, int(seconds / max(one_round, 1e-6))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(BLOCK):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * float(np.median(t)) for name, t in times.items()}


def _call(backend: Backend) -> Callable[[], object]:
    """A bare call on noise: a constant picture could run through rare numbers, or fast paths."""
    random = np.random.default_rng(0)
    spec = backend.input
    if spec.quantized:
        low, high = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
        tensor = random.integers(low, high, spec.shape, endpoint=True).astype(spec.dtype)
    else:
        tensor = random.uniform(-1, 1, spec.shape).astype(np.float32)
    return lambda: backend.infer(tensor)


def _sentence(library: str, timings: list[Timing]) -> str:
    """Compare int8 with the fastest float artifact of one library; "" where one is missing."""
    int8 = [t for t in timings if t.artifact.precision.startswith("int8")]
    floats = [t for t in timings if not t.artifact.precision.startswith("int8")]
    if not int8 or not floats:
        return ""
    quick = min(int8, key=lambda t: t.milliseconds)
    exact = min(floats, key=lambda t: t.milliseconds)
    ratio = quick.milliseconds / exact.milliseconds
    times = f"{ratio:.2f}x its time ({quick.milliseconds:.2f} against {exact.milliseconds:.2f} ms)"
    lost = _lost(exact.artifact.quality, quick.artifact.quality)
    if ratio <= WORTH:
        return f"{library}: run {quick.artifact.name}, against {exact.artifact.name} {times}{lost}"
    return (
        f"{library}: keep float ({exact.artifact.name}): {quick.artifact.name} takes {times}{lost}"
    )


def _lost(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Say what int8 loses, where both were measured on the same pictures."""
    for key, title in (("miou", "mIoU"), ("agreement", "agreement")):
        a, b = before.get(key), after.get(key)
        if isinstance(a, float) and isinstance(b, float) and before.get("on") == after.get("on"):
            change = 100 * (b - a)
            return f", {abs(change):.2f} points of {title} {'less' if change <= 0 else 'more'}"
    return ""
