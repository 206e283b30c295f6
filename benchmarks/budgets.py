"""What the SDK adds to the bare library call (budgets: docs/speed.md), and int8 over float.

    python benchmarks/budgets.py BUNDLE [BUNDLE ...] [--mediapipe FILE.tflite]

Per bundle and artifact, whatever its library (TFLite, ONNX Runtime, OpenVINO): segment() at the
network's size over the bare library call (budget 1.10x), from 1280x720 over bare call + the two
OpenCV resizes that cannot be avoided (1.20x), int8 over float.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tables import show

from edge_seg import pixels
from edge_seg.backends import open_backend
from edge_seg.bundle import ModelBundle
from edge_seg.comparison import noise, side_by_side
from edge_seg.errors import BackendUnavailable
from edge_seg.segmenter import EdgeSegmenter, open_artifact

FULL = (720, 1280)
SMALL_BUDGET, FULL_BUDGET = 1.10, 1.20
BOTH = ("tflite-fp32", "tflite-int8")


def library_call(backend: Any) -> Callable[[], object]:
    """The library's own call with its tensor already in place: the floor."""
    # The floor lies below our API: what the three libraries' own examples would write.
    tensor = noise(backend.input)
    if (interpreter := getattr(backend, "_interpreter", None)) is not None:
        index_in = interpreter.get_input_details()[0]["index"]
        index_out = interpreter.get_output_details()[0]["index"]

        def tflite() -> None:
            interpreter.set_tensor(index_in, tensor)
            interpreter.invoke()
            interpreter.get_tensor(index_out)

        return tflite
    if (session := getattr(backend, "_session", None)) is not None:
        name = session.get_inputs()[0].name
        return lambda: session.run(None, {name: tensor})
    request = backend._request
    request.get_input_tensor().data[...] = tensor

    def openvino() -> None:
        request.infer()
        np.array(request.get_output_tensor().data)

    return openvino


def artifact_times(segmenter: EdgeSegmenter) -> dict[str, float]:
    """Time segment() and the floors under it, in milliseconds: the medians of calls in turn."""
    random, spec = np.random.default_rng(0), segmenter.spec
    # Frames that differ, as a camera's do: what repeats is examined (edge_seg.watch).
    small = itertools.cycle(
        random.integers(0, 256, (4, spec.height, spec.width, 3), dtype=np.uint8)
    )
    large = random.integers(0, 256, (*FULL, 3), dtype=np.uint8)
    larges = itertools.cycle((large, large[::-1].copy()))
    placement = pixels.place(*FULL, spec)
    bare = library_call(segmenter.backend)
    mask = np.zeros(segmenter.backend.output.size, np.float32)

    def bare_with_resizes() -> None:
        pixels.shrink(large, (placement.height, placement.width))
        bare()
        cv2.resize(mask, FULL[::-1], interpolation=cv2.INTER_LINEAR)

    return side_by_side(
        {
            "bare": bare,
            "small": lambda: segmenter.segment(next(small)),
            "bare+resizes": bare_with_resizes,
            "large": lambda: segmenter.segment(next(larges)),
        }
    )


def bundle_rows(path: Path) -> tuple[list[list[str]], bool]:
    """Measure one bundle; return table rows and whether its int8 artifact is within budget."""
    bundle = ModelBundle.load(path)
    rows, good, measured = [], True, set()
    for artifact in bundle.artifacts:
        try:
            segmenter = open_artifact(bundle, artifact)
        except BackendUnavailable as refusal:
            print(f"not measured: {refusal}")
            continue
        with segmenter:
            times = artifact_times(segmenter)
        measured.add(artifact.name)
        small_ratio = times["small"] / times["bare"]
        large_ratio = times["large"] / times["bare+resizes"]
        if artifact.precision == "int8":
            good &= small_ratio <= SMALL_BUDGET and large_ratio <= FULL_BUDGET
        rows.append(
            [
                bundle.name,
                artifact.name,
                f"{times['bare']:.2f}",
                f"{small_ratio:.2f}x",
                f"{times['large']:.2f}",
                f"{large_ratio:.2f}x",
            ]
        )
    if measured.issuperset(BOTH):
        ratio = int8_over_float(bundle)
        rows.append([bundle.name, "int8 / fp32", f"{ratio:.2f}x", "", "", ""])
        good &= ratio <= 1.0
    return rows, good


def int8_over_float(bundle: ModelBundle) -> float:
    """The bare call of a bundle's int8 TFLite over its float one, side by side."""
    with ExitStack() as stack:
        opened = {n: stack.enter_context(open_artifact(bundle, bundle.named(n))) for n in BOTH}
        times = side_by_side({n: library_call(s.backend) for n, s in opened.items()})
    return times[BOTH[1]] / times[BOTH[0]]


def peer_row(path: Path) -> list[str]:
    """The bare call of another network's TFLite file, as ours is made, for comparison."""
    backend = open_backend("tflite", path)
    times = side_by_side({"bare": library_call(backend)})
    backend.close()
    return [path.stem, "tflite", f"{times['bare']:.2f}", "", "", ""]


def main() -> int:
    """Print the table; exit 1 where an int8 artifact is over budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--mediapipe", type=Path)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows, good = [], True
    for path in args.bundles:
        found, within = bundle_rows(path)
        rows += found
        good &= within
    if args.mediapipe:
        rows.append(peer_row(args.mediapipe))
    columns = ("network", "artifact", "bare call", "at its size", "from 720p", "over floor")
    show("1 thread, medians, ms; ratios side by side in one run", columns, rows)
    if not any("int8" in row[1] for row in rows):
        print("NOTHING JUDGED: no int8 artifact was measured")
        return 1
    print(
        "within budget" if good else "OVER BUDGET (1.10x at its size, 1.20x from 720p, int8 1.0x)"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
