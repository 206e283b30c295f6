"""What a mask costs against the frame's size, the network's width, and threads: JSON and a picture.

    python benchmarks/curves.py --out docs/speed [--work DIR]        (speed.json, speed.png)

Frames: `segment` from a BGR frame to a soft mask of its size, the network that ships, per stage,
smoother and contours off.
Width: bare calls of untrained networks of the shipped one's shape, every width times 0.5 to 2,
converted as `edge-seg convert` does: weights do not change what a call costs. Threads: bare calls.
Medians; all widths in turn, and all numbers of threads, so that what else the machine does hits
all of them; sizes of frames one after the other.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from roofline import steps_of

from edge_seg import machine
from edge_seg.backends import open_backend
from edge_seg.bench import StageClock, percentiles
from edge_seg.bundle import DEFAULT_BUNDLE, ModelBundle
from edge_seg.comparison import bare_call, side_by_side
from edge_seg.converters.flatbuffer import unpacked
from edge_seg.files import write_whole
from edge_seg.segmenter import EdgeSegmenter

SIZES = {
    "320x240": (240, 320),
    "640x480": (480, 640),
    "1280x720": (720, 1280),
    "1920x1080": (1080, 1920),
    "3840x2160": (2160, 3840),
}
WIDTHS = (0.5, 0.75, 1.0, 1.5, 2.0)
SIDE = 224
CALLS, WARM_UP = 120, 15


def by_frame_size() -> dict[str, dict[str, float]]:
    """Return stage -> milliseconds per frame size, "total" among them; frames of noise in turn."""
    random = np.random.default_rng(0)
    found = {}
    with EdgeSegmenter.open(board="generic", threads=1, edges=False) as segmenter:
        for name, size in SIZES.items():
            frames = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(2)]
            clock = StageClock()
            for i in range(WARM_UP + CALLS):
                if i == WARM_UP:
                    clock = StageClock()
                clock.start()
                segmenter.segment(frames[i % 2], clock=clock)
                clock.stop()
            stages = {stage: percentiles(t)["p50"] for stage, t in clock.times.items()}
            found[name] = {**stages, "total": percentiles(clock.totals)["p50"]}
    return found


def by_threads() -> dict[str, dict[str, float]]:
    """Return "int8" and "fp32" -> milliseconds of a bare call per number of threads."""
    bundle = ModelBundle.load()
    counts = [n for n in (1, 2, 4, 8) if n <= (os.cpu_count() or 1)]
    calls, opened = {}, []
    for precision in ("int8", "fp32"):
        path = bundle.file(bundle.find("tflite", precision))
        for count in counts:
            opened.append(open_backend("tflite", path, {"threads": count}))
            calls[f"{precision} {count}"] = bare_call(opened[-1])
    times = side_by_side(calls)
    return {p: {str(n): times[f"{p} {n}"] for n in counts} for p in ("int8", "fp32")}


def by_width(folder: Path) -> dict[str, dict[str, float]]:
    """Return width -> multiply-adds in millions, and milliseconds in int8 and fp32."""
    made = {}
    for width in WIDTHS:
        print(f"converting a network of {width:g} times the width", file=sys.stderr)
        made[f"{width:g}"] = network(width, folder)
    opened = {
        f"{name} {p}": open_backend("tflite", path, {"threads": 1})
        for name, paths in made.items()
        for p, path in paths.items()
    }
    times = side_by_side({name: bare_call(backend) for name, backend in opened.items()})
    return {
        name: {
            "mmacs": macs(paths["int8"]) / 1e6,
            "int8": times[f"{name} int8"],
            "fp32": times[f"{name} fp32"],
        }
        for name, paths in made.items()
    }


def network(width: float, folder: Path) -> dict[str, Path]:
    """Convert an untrained network; every width a multiple of 4. Returns precision -> file."""
    import torch

    from edge_seg.calibration.frames import CalibrationSet
    from edge_seg.converters import head, onnx, rewrites, tflite
    from edge_seg.converters.targets import float_tensors
    from edge_seg.training.export import to_onnx
    from edge_seg.training.network import SHAPES, PortraitNet, input_spec, output_spec

    def wide(value: int) -> int:
        return max(4, 4 * round(width * value / 4))

    def each(values: Sequence[int]) -> tuple[int, int, int, int]:
        first, second, third, fourth = (wide(value) for value in values)
        return first, second, third, fourth

    shipped = SHAPES["fine"]
    shape = dataclasses.replace(
        shipped,
        stem=wide(shipped.stem),
        widths=each(shipped.widths),
        decoder=each(shipped.decoder),
    )
    torch.manual_seed(0)
    spec, source = input_spec(SIDE), folder / f"{width:g}.onnx"
    paths = {p: folder / f"{width:g}-{p}.tflite" for p in ("fp32", "int8")}
    if paths["int8"].is_file():  # --work holds those of an earlier run
        return paths
    to_onnx(PortraitNet(shape), source, side=SIDE)
    reduced = head.single_logit(onnx.load(source, spec), output_spec())
    tflite.to_float(rewrites.simplify(reduced)[0], paths["fp32"])
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    tensors = float_tensors(CalibrationSet(list(pictures)), spec, "nhwc")
    tflite.to_int8(paths["fp32"], paths["int8"], tensors=tensors, input=spec)
    return paths


def macs(path: Path) -> int:
    """Return a TFLite's multiply-adds."""
    return sum(step.macs for step in steps_of(unpacked(path.read_bytes())))


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the three curves."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (frames, widths, threads) = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    names, below = list(SIZES), np.zeros(len(SIZES))
    for stage in ("infer", "encode", "decode", "prepare", "restore"):
        heights = np.array([found["frame_size"][name][stage] for name in names])
        frames.bar(names, heights, bottom=below, label=stage)
        below += heights
    frames.set(title="frame to mask, by frame size", ylabel="ms, one thread")
    frames.tick_params(axis="x", rotation=30)
    frames.legend(reverse=True)
    for precision, mark in (("fp32", "s--"), ("int8", "o-")):
        rows = found["width"].values()
        at = [row["mmacs"] for row in rows]
        widths.plot(at, [row[precision] for row in rows], mark, label=precision)
        counts = found["threads"][precision]
        threads.plot(list(counts), list(counts.values()), mark, label=precision)
    for width, row in found["width"].items():
        widths.annotate(
            f"x{width}", (row["mmacs"], row["fp32"]), (8, -6), textcoords="offset points"
        )
    widths.set(title="bare call, by width", xlabel="million multiply-adds", ylabel="ms, one thread")
    threads.set(title="bare call, by threads", xlabel="threads", ylabel="ms")
    for axes in (frames, widths, threads):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    widths.legend()
    threads.legend()
    figure.suptitle(f"{DEFAULT_BUNDLE.name}, LiteRT, {found['measured_on']}", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Measure, write speed.json and speed.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--work", type=Path, help="a folder to keep the converted networks in")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"measured_on": machine.measured_on()}
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as name:
        found["width"] = by_width(args.work or Path(name))
    found["frame_size"], found["threads"] = by_frame_size(), by_threads()
    write_whole(args.out / "speed.json", json.dumps(found, indent=1) + "\n")
    draw(found, args.out / "speed.png")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
