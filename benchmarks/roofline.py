"""Where an int8 network's time goes, operator by operator, and how far that is from the machine.

    python benchmarks/roofline.py [BUNDLE] [--json FILE]

LiteRT's Python API has no profiler, so the network is cut after every operator and the cuts timed
in turn, one thread: an operator's time is what its cut takes longer than the one before. The roofs
are measured in the same run: the fastest int8 convolution the same library does here (a 1x1
convolution, made up), and copying memory that fits the second-level cache, and that does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tables import show

from edge_seg import machine
from edge_seg.bundle import DEFAULT_BUNDLE, ModelBundle
from edge_seg.comparison import side_by_side
from edge_seg.converters.flatbuffer import code_of, operator_names, packed, unpacked
from edge_seg.files import check_place, write_whole

ROUNDS, COPIES = 20, 60
CACHED, LARGE = 256 << 10, 256 << 20  # bytes copied: within a second-level cache, and beyond any


@dataclass
class Step:
    """One operator, or several of a kind. macs: multiply-adds. bytes: weights, inputs, outputs."""

    kind: str
    macs: int
    bytes: int
    ms: float = 0.0
    count: int = 1


def steps_of(model: Any) -> list[Step]:
    """Return the operators of a network's only graph, in order."""
    graph, kinds = model.subgraphs[0], operator_names()
    steps = []
    for operator in graph.operators:
        kind = kinds[code_of(model, operator)]
        shapes = [tuple(graph.tensors[i].shape) for i in operator.inputs if i >= 0]
        out = tuple(graph.tensors[operator.outputs[0]].shape)
        macs = 0
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weights = shapes[1]
            macs = int(np.prod(out)) * int(np.prod(weights[1:] if kind == "CONV_2D" else weights))
            macs //= 1 if kind == "CONV_2D" else weights[3]
            kind += " 1x1" if weights[1:3] == (1, 1) else f" {weights[1]}x{weights[2]}"
        moved = sum(int(np.prod(s)) for s in (*shapes[:2], out))
        steps.append(Step(kind.lower().replace("_", " "), macs, moved))
    return steps


def with_padding(steps: list[Step]) -> list[Step]:
    """Join a PAD with the convolution after it: the library does the two at once."""
    joined: list[Step] = []
    for step in steps:
        if joined and joined[-1].kind == "pad":
            pad = joined.pop()
            step = Step(f"pad, {step.kind}", step.macs, step.bytes, pad.ms + step.ms)
        joined.append(step)
    return joined


def cut(content: bytes, count: int) -> bytes:
    """Return the network's first `count` operators; what others would read becomes an output."""
    model = unpacked(content)
    graph = model.subgraphs[0]
    graph.operators = graph.operators[:count]
    made = [i for operator in graph.operators for i in operator.outputs]
    read = {i for operator in graph.operators for i in operator.inputs}
    graph.outputs = [i for i in made if i not in read]
    model.signatureDefs, model.metadata = None, None
    return packed(model, content)


def interpreter(content: bytes) -> Any:
    """Open a network on one thread, with noise for an input."""
    opened = Interpreter(model_content=content, num_threads=1)
    opened.allocate_tensors()
    wants = opened.get_input_details()[0]
    noise = np.random.default_rng(0).integers(-128, 128, wants["shape"], dtype=np.int8)
    opened.set_tensor(wants["index"], noise)
    return opened


def times(opened: list[Any]) -> list[float]:
    """Return the median milliseconds of each, called in turn."""
    calls = {str(i): one.invoke for i, one in enumerate(opened)}
    return list(side_by_side(calls, rounds=ROUNDS).values())


def one_convolution(side: int, channels: int) -> bytes:
    """Return an int8 network of one 1x1 convolution, as many channels out as in."""
    random = np.random.default_rng(0)
    model, graph, operator = schema.ModelT(), schema.SubGraphT(), schema.OperatorT()
    weights = random.integers(-127, 128, (channels, 1, 1, channels), dtype=np.int8)
    contents = [None, weights, np.zeros(channels, np.int32)]
    model.buffers = [_buffer(c) for c in contents]
    graph.tensors = [
        _tensor("in", (1, side, side, channels), 0),
        _tensor("weights", weights.shape, 1),
        _tensor("bias", (channels,), 2),
        _tensor("out", (1, side, side, channels), 0, scale=1.0),
    ]
    graph.tensors[2].type = schema.TensorType.INT32
    graph.tensors[2].quantization.scale = [0.01 * 0.01]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = schema.Conv2DOptionsT()
    operator.builtinOptions.strideH = operator.builtinOptions.strideW = 1
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    return packed(model)


def _buffer(values: np.ndarray | None) -> Any:
    buffer = schema.BufferT()
    if values is not None:
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return buffer


def _tensor(name: str, shape: tuple[int, ...], buffer: int, *, scale: float = 0.01) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, list(shape), buffer
    tensor.type, tensor.hasRank = schema.TensorType.INT8, True
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


def roofs() -> dict[str, float]:
    """Return the machine's: GMAC/s in int8, GB/s read and written, cached and not."""
    sizes = [(56, 128), (28, 256), (28, 512), (14, 1024)]
    found = times([interpreter(one_convolution(*size)) for size in sizes])
    macs = [side * side * channels * channels for side, channels in sizes]
    rates = {"gmacs": max(m / t / 1e6 for m, t in zip(macs, found, strict=True))}
    for name, size in (("cached_gb", CACHED), ("memory_gb", LARGE)):
        source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
        seen = []
        for _ in range(COPIES if size == CACHED else 5):
            start = time.perf_counter()
            np.copyto(target, source)
            seen.append(time.perf_counter() - start)
        rates[name] = 2 * size / float(np.median(seen)) / 1e9
    return rates


def grouped(steps: list[Step]) -> list[Step]:
    """Sum the operators of a kind, the longest first."""
    kinds: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        kinds[step.kind].append(step)
    sums = [
        Step(
            kind,
            macs=sum(step.macs for step in alike),
            bytes=sum(step.bytes for step in alike),
            ms=sum(step.ms for step in alike),
            count=len(alike),
        )
        for kind, alike in kinds.items()
    ]
    return sorted(sums, key=lambda step: -step.ms)


def table_row(step: Step, roof: dict[str, float], whole: float) -> list[str]:
    """Return the cells of operators: their time, work, and share of what the machine can do."""
    rate = step.macs / step.ms / 1e6 if step.ms > 0 else 0.0
    reach = min(roof["gmacs"], step.macs / step.bytes * roof["cached_gb"])
    figures = (step.ms, 100 * step.ms / whole, step.macs / 1e6, step.bytes / 1e6, rate)
    share = f"{100 * rate / reach:.0f} %" if step.macs else "-"
    form = ("{:.3f}", "{:.0f} %", "{:.1f}", "{:.2f}", "{:.0f}")
    cells = [f.format(v) for f, v in zip(form, figures, strict=True)]
    return [step.kind, str(step.count), *cells, share]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=DEFAULT_BUNDLE)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.json:
        check_place(args.json)
    bundle = ModelBundle.load(args.bundle)
    content = bundle.file(bundle.find("tflite", "int8")).read_bytes()
    steps = steps_of(unpacked(content))
    ends = times([interpreter(cut(content, i + 1)) for i in range(len(steps))])
    for step, before, end in zip(steps, [0.0, *ends], ends, strict=False):
        step.ms = end - before
    steps = with_padding(steps)
    roof, whole = roofs(), ends[-1]
    total = Step("all", sum(s.macs for s in steps), sum(s.bytes for s in steps), whole, len(steps))
    rows = [table_row(step, roof, whole) for step in (*grouped(steps), total)]
    columns = ("operators", "n", "ms", "share", "MMAC", "MB", "GMAC/s", "of the roof")
    title = f"{bundle.name} int8, one thread: {whole:.2f} ms, {len(steps)} operators"
    show(title, columns, rows)
    print(f"on {machine.measured_on()}")
    print(
        f"roofs: {roof['gmacs']:.0f} GMAC/s int8, {roof['cached_gb']:.0f} GB/s in the second-level "
        f"cache, {roof['memory_gb']:.0f} GB/s beyond; they meet at "
        f"{roof['gmacs'] / roof['cached_gb']:.1f} MAC a byte"
    )
    if args.json:
        found = {"measured_on": machine.measured_on(), "roofs": roof, "ms": whole}
        found["operators"] = [asdict(step) for step in steps]
        write_whole(args.json, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
