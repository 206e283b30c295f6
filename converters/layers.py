"""What happens inside an artifact, whichever library reads it: its input's range, and the first
layer behind which nothing depends on the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg.converters.flatbuffer import BIAS_AT, TfliteFile, name_of

Tensor = NDArray[np.generic]
FORMATS = ("tflite", "onnx", "openvino")


def input_range(format: str, path: Path) -> tuple[float, float] | None:
    """Return the (lowest, highest) real value an int8 input can hold; None where it is float."""
    if format == "openvino":
        from edge_seg.converters import openvino

        return openvino.input_range(path)
    if format == "onnx":
        from edge_seg.converters import qdq

        return qdq.input_range(path)
    if format == "tflite":
        return _tflite_input(path)
    return None


def _tflite_input(path: Path) -> tuple[float, float] | None:
    from edge_seg.backends.tflite import TFLiteBackend

    backend = TFLiteBackend(path)
    spec = backend.input
    backend.close()
    if not spec.quantized:
        return None
    ends = np.iinfo(spec.dtype)
    return (ends.min - spec.zero_point) * spec.scale, (ends.max - spec.zero_point) * spec.scale


def blind_from(format: str, path: Path, tensors: Sequence[Tensor]) -> str:
    """Return the layer from which on nothing differs from one picture to another, "" if none.

    tensors: what the artifact eats, of pictures that differ. Layers are the weighted ones, in
    order; a branch that is constant on purpose (a gate that training switched off) is not meant,
    as long as the network's answer still depends on the picture.
    """
    if format not in FORMATS or len(tensors) < 2:
        return ""
    spreads = {"tflite": _tflite, "onnx": _onnx, "openvino": _openvino}[format](path, tensors)
    if not spreads or spreads[-1][1] > 0:
        return ""
    name = spreads[-1][0]
    for layer, spread in reversed(spreads):
        if spread > 0:
            break
        name = layer
    return name


def _spread(values: Iterable[NDArray[Any]]) -> float:
    """Return the largest range, over the pictures, of any one element; 0 for rounding errors."""
    stack = np.stack([np.asarray(v, dtype=np.float64) for v in values])
    spread = float(np.ptp(stack, axis=0).max(initial=0.0))
    return spread if spread > 1e-6 * max(1.0, float(np.abs(stack).max(initial=0.0))) else 0.0


Spreads = list[tuple[str, float]]


def _tflite(path: Path, tensors: Sequence[Tensor]) -> Spreads:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        # The library's optimised kernels run many operators as one and keep no tensor between.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    places = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
    kinds = {
        name_of(op.outputs[0]): op.name for op in TfliteFile(path).operators() if op.name in BIAS_AT
    }
    last = interpreter.get_output_details()[0]
    wanted = {**{name: places[name] for name in kinds if name in places}, "": last["index"]}
    seen: dict[str, list[NDArray[Any]]] = {name: [] for name in wanted}
    for tensor in tensors:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
        interpreter.invoke()
        for name, index in wanted.items():
            seen[name].append(interpreter.get_tensor(index))
    return [(_called(kinds.get(n, ""), n), _spread(values)) for n, values in seen.items()]


def _onnx(path: Path, tensors: Sequence[Tensor]) -> Spreads:
    import onnx

    from edge_seg.converters.graph import WEIGHTED, Graph
    from edge_seg.converters.ort import inner_tensors

    model = onnx.load(path)
    graph = Graph(model)
    kinds = {n.output[0]: n.op_type for n in graph.nodes if n.op_type in WEIGHTED}
    last = graph.outputs[0].name
    names = [*(n for n in kinds if n != last), last]
    seen: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for values in inner_tensors(model, names, [np.asarray(t, np.float32) for t in tensors]):
        for name in names:
            seen[name].append(values[name])
    return [(_called(kinds.get(n, ""), n), _spread(seen[n])) for n in names]


def _openvino(path: Path, tensors: Sequence[Tensor]) -> Spreads:
    from edge_seg.converters import openvino

    found = openvino.layer_outputs(path, tensors)
    return [(name, _spread(values)) for name, values in found]


def _called(kind: str, name: str) -> str:
    return f"{kind} {name!r}" if kind else "the output"
