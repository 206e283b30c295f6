"""Which precision to run on this machine: bare calls timed side by side, then advice.

    runtimes of one bundle  ->  Timing per runtime that opens here, a refusal per one that does not
                            ->  one sentence per setting: int8, keep float, or either

A bare call is the library's alone, without the resizes of `segment`. Interleaving lets a slow
moment of the machine hit every side, so the ratios hold where the milliseconds do not. How far the
ratios of single rounds lie apart is the noise: what is within it is no difference in time.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg import machine
from edge_seg.backends import Backend, readers
from edge_seg.board import Runtime
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.errors import BackendUnavailable, BundleError
from edge_seg.opening import open_runtime
from edge_seg.spec import TensorSpec

WARM_UP = 10
BLOCK = 5  # calls of one side in a row: the first refills the caches and is not counted
ROUNDS = 40
SECONDS = 12.0  # for all runtimes together; slow ones get fewer rounds, never under LEAST
LEAST = 3
WORTH = 0.95  # of float's time: int8 that gains less than this is not worth its error
SEEN = 0.00005  # the smallest loss a sentence can show: half of 0.01 points
HERE = "of this machine, not of another board"


@dataclass(frozen=True)
class Timing:
    """One runtime measured. milliseconds: median of a bare call. machine, library: where and with
    which version of what.

    rounds: the median of each round, which other runtimes have a share in, too.
    """

    runtime: Runtime
    artifact: Artifact
    milliseconds: float
    machine: str
    library: str
    rounds: tuple[float, ...] = ()

    @property
    def setting(self) -> str:
        """The runtime without its precision: what int8 and float are compared on."""
        extra = "".join(f", {k} {v}" for k, v in self.runtime.options.items())
        return f"{self.runtime.backend}{extra}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; the key carries the unit."""
        return {
            "artifact": self.artifact.name,
            "runtime": str(self.runtime),
            "bare_call_ms": self.milliseconds,
            "measured_on": f"{self.machine}, {self.library}",
        }


@dataclass(frozen=True)
class Comparison:
    """Runtimes side by side. refusals: one sentence per runtime that could not be measured."""

    timings: tuple[Timing, ...]
    refusals: tuple[str, ...]

    @property
    def advice(self) -> list[str]:
        """One sentence per setting that has both int8 and float here."""
        settings = dict.fromkeys(timing.setting for timing in self.timings)
        sentences = (
            _sentence(setting, [t for t in self.timings if t.setting == setting])
            for setting in settings
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
        calls = {name: bare_call(backend) for name, (_, backend, _) in opened.items()}
        timings = tuple(
            Timing(
                runtime,
                artifact,
                milliseconds=_median(rounds),
                machine=here,
                library=backend.library,
                rounds=tuple(_median([block]) for block in rounds),
            )
            for (runtime, backend, artifact), rounds in zip(
                opened.values(), _rounds(calls, seconds=SECONDS).values(), strict=True
            )
        )
    return Comparison(timings, tuple(refusals))


def runtimes_of(bundle: ModelBundle) -> list[Runtime]:
    """Return a runtime per artifact: the first backend that reads its format, on one thread."""
    return [
        Runtime(readers(artifact.format)[0], artifact.precision, {"threads": 1})
        for artifact in bundle.artifacts
        if readers(artifact.format)
    ]


def side_by_side(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS
) -> dict[str, float]:
    """Return the median milliseconds of each call, of interleaved blocks of 5 after a warm-up.

    rounds: blocks per side.
    """
    measured = _rounds(calls, rounds=rounds)
    return {name: _median(blocks) for name, blocks in measured.items()}


def _rounds(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS, seconds: float = math.inf
) -> dict[str, list[list[float]]]:
    """The seconds of each call, by round; fewer rounds where all would take longer than that."""
    began = time.perf_counter()
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    one_round = (time.perf_counter() - began) * (BLOCK + 1) / WARM_UP
    rounds = int(min(rounds, max(LEAST, seconds / max(one_round, 1e-6))))
    times: dict[str, list[list[float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            times[name].append([_seconds(call) for _ in range(BLOCK)])
    return times


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median(blocks: list[list[float]]) -> float:
    """In milliseconds."""
    return 1e3 * float(np.median(blocks))


def noise(spec: TensorSpec) -> NDArray[np.generic]:
    """Return a tensor to time calls with: a constant one could meet rare numbers, or fast paths."""
    random = np.random.default_rng(0)
    if spec.dtype != "float32":
        low, high = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
        return random.integers(low, high, spec.shape, endpoint=True).astype(spec.dtype)
    return random.uniform(-1, 1, spec.shape).astype(np.float32)


def bare_call(backend: Backend) -> Callable[[], object]:
    """Return a call of the backend alone, on a tensor of noise that is there."""
    tensor = noise(backend.input)
    return lambda: backend.infer(tensor)


def _sentence(setting: str, timings: list[Timing]) -> str:
    """Compare int8 with the fastest float artifact of one setting; "" where one is missing."""
    int8 = [t for t in timings if t.artifact.precision.startswith("int8")]
    floats = [t for t in timings if not t.artifact.precision.startswith("int8")]
    if not int8 or not floats:
        return ""
    quick = min(int8, key=lambda t: t.milliseconds)
    exact = min(floats, key=lambda t: t.milliseconds)
    ratio, (low, high) = quick.milliseconds / exact.milliseconds, _spread(quick, exact)
    change, lost = _change(exact.artifact.quality, quick.artifact.quality)
    free = change is not None and change > -SEEN
    alike = low < 1 < high
    told = f"{quick.artifact.name} takes"
    if alike:
        told = f"no difference in time here beyond the noise, {told}"
    if ratio <= WORTH and not alike:
        advice, told = f"run {quick.artifact.name}", f"against {exact.artifact.name}"
    elif free and (alike or ratio * WORTH < 1):
        advice = f"run either {quick.artifact.name} or {exact.artifact.name}"
    else:
        advice = f"keep float ({exact.artifact.name})"
    between = f"; half of the rounds {low:.2f}x to {high:.2f}x" if low < high else ""
    return (
        f"{setting}: {advice}: {told} {ratio:.2f}x its time ({quick.milliseconds:.2f} against "
        f"{exact.milliseconds:.2f} ms{between}){lost}; {HERE}"
    )


def _spread(quick: Timing, exact: Timing) -> tuple[float, float]:
    """The quartiles of the ratio in single rounds; of one ratio alone, that."""
    ratios = [a / b for a, b in zip(quick.rounds, exact.rounds, strict=False)]
    low, high = np.quantile(ratios or [quick.milliseconds / exact.milliseconds], (0.25, 0.75))
    return float(low), float(high)


def _change(before: dict[str, Any], after: dict[str, Any]) -> tuple[float | None, str]:
    """What int8 gains, and that in words; None where they were measured on other pictures."""
    for key, title in (("miou", "mIoU"), ("agreement", "agreement")):
        a, b = before.get(key), after.get(key)
        if isinstance(a, float) and isinstance(b, float) and before.get("on") == after.get("on"):
            change = b - a
            if abs(change) < SEEN:
                return change, f", the same {title}"
            more = "more" if change > 0 else "less"
            return change, f", {100 * abs(change):.2f} points of {title} {more}"
    return None, ""
