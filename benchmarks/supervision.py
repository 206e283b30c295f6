"""What supervision costs a frame: the bare engine beside the supervisor, and beside a deadline.

    python benchmarks/supervision.py [BUNDLE ...]

A deadline needs the runtime in a thread of its own, because a call that hangs can only be left
from outside. Where that hand-off costs more than 3 % it is not the default (edge_seg.supervision).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from tables import show

from edge_seg.board import Runtime, load
from edge_seg.bundle import DEFAULT_BUNDLE, ModelBundle
from edge_seg.choices import Choice
from edge_seg.comparison import side_by_side
from edge_seg.engine import Engine
from edge_seg.errors import EdgeSegError
from edge_seg.opening import open_runtime
from edge_seg.supervision import Policy, Supervisor

WORTH = 1.03  # of the bare call: what a default may cost
POLICIES = {
    "nothing": Policy(stuck=0),
    "stuck outputs": Policy(),
    "and a deadline": Policy(deadline=1.0),
}


def measure(bundle: ModelBundle, runtime: Runtime) -> dict[str, float]:
    """Return milliseconds of a call: "bare", and under each policy."""

    def engine() -> Engine:
        backend, artifact = open_runtime(bundle, runtime)
        return Engine(bundle.input, bundle.output, backend=backend, artifact=artifact)

    random = np.random.default_rng(0)
    shape = (bundle.input.height, bundle.input.width, 3)
    pictures = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(4)]
    with ExitStack() as stack:
        bare = engine()
        stack.callback(bare.close)
        calls: dict[str, Callable[[], object]] = {"bare": _in_turn(bare.run, pictures)}
        for name, policy in POLICIES.items():
            supervisor = Supervisor([Choice(str(runtime), engine)], policy)
            stack.callback(supervisor.close)
            calls[name] = _in_turn(supervisor.run, pictures)
        return side_by_side(calls, rounds=200)


def _in_turn(run: Callable[[np.ndarray], object], pictures: list[np.ndarray]) -> Callable:
    count = [0]

    def call() -> None:
        count[0] += 1
        run(pictures[count[0] % len(pictures)])

    return call


def main() -> int:
    """Print the table; exit 1 where what is on by default costs more than 3 %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", type=Path, default=[DEFAULT_BUNDLE])
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows, good = [], True
    for path in args.bundles:
        bundle = ModelBundle.load(path)
        for runtime in load("generic").runtimes:
            try:
                times = measure(bundle, runtime)
            except EdgeSegError as refusal:
                print(f"{runtime}: {refusal}")
                continue
            ratios = [times[name] / times["bare"] for name in POLICIES]
            good &= ratios[1] <= WORTH
            cells = [f"{ratio:.3f}x" for ratio in ratios]
            rows.append([bundle.name, str(runtime), f"{times['bare']:.3f}", *cells])
    if not rows:
        print("NOTHING MEASURED: no runtime opened")
        return 1
    title = "a call on one picture, ms, and over the bare call; medians of one run"
    show(title, ("network", "runtime", "bare", *POLICIES), rows)
    print("within 3 %" if good else "OVER 3 %: what is on by default costs too much")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
