"""TFLite artifacts: float through onnx2tf, int8 through ai-edge-quantizer.

    to_float   ModelProto, input (1, 3, H, W)  ->  float32 (1, H, W, 3) -> (1, h, w, 1)
    to_int8    that file + calibration tensors ->  int8 in, int8 out, per-channel weights

Both write beside their target and rename. Failures are a ConversionError with its reason, or an
OutputError where the disk is full.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from edge_seg.backends import Progress
from edge_seg.converters import environment, guards, moves, norms
from edge_seg.converters.flatbuffer import TfliteFile, name_of
from edge_seg.converters.graph import Graph, reduce_min
from edge_seg.converters.scales import widen_scales
from edge_seg.converters.words import first_lines, last_lines, silence
from edge_seg.errors import ConversionError
from edge_seg.files import whole_file
from edge_seg.spec import InputSpec

ONNX2TF_SECONDS = 600
RULE = "materialize_"  # how ai-edge-quantizer's rules are named, one per operator


def quiet(message: str, done: int, total: int) -> None:
    """Stand in for a progress display."""


def to_float(model: ModelProto, out: Path, *, progress: Progress = quiet) -> None:
    """Write a float32 TFLite of a network reduced to one output channel.

    model: NCHW input of 3 channels, output (1, 1, h, w). Sets up onnx2tf on first use.
    """
    interpreter = environment.python(progress, environment.ONNX2TF)
    progress("converting to float TFLite", 0, 0)
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as name:
        path = Path(name) / "model.onnx"
        onnx.save(_channels_last(model), path)
        made = onnx2tf(path, interpreter)
        content = moves.with_missing_turned(made.read_bytes())
        made.write_bytes(moves.with_channels_last(content))
        _check_float(made, model)
        with whole_file(out) as beside:
            shutil.copyfile(made, beside)


def onnx2tf(model: Path, interpreter: Path) -> Path:
    """Return the float32 TFLite that onnx2tf makes of an ONNX file, in `made/` beside it.

    interpreter: of `environment.ONNX2TF`. Raises ConversionError with onnx2tf's last words.
    """
    command = [str(interpreter), "-c", "from onnx2tf import main; main()"]
    settings = ["-i", model.name, "-o", "made", "-tb", "flatbuffer_direct", "-n"]
    ended = environment.run(
        [*command, *settings], folder=model.parent, seconds=ONNX2TF_SECONDS, what="run onnx2tf"
    )
    made = model.parent / "made" / f"{model.stem}_float32.tflite"
    if ended.returncode or not made.is_file():
        raise ConversionError(
            "wanted onnx2tf to convert the network, found that it failed:\n"
            f"{last_lines(ended.stdout)}\n"
            "export the model with simpler operators, or report the network"
        )
    return made


def _channels_last(model: ModelProto) -> ModelProto:
    """Return the network with its output as (1, h, w, 1).

    onnx2tf keeps the layout of an output's name: behind a last convolution it would put it back
    to channels-first. (An input it turns to channels-last in any case.)
    """
    graph = Graph(model)
    name = graph.outputs[0].name
    height, width = graph.shapes[name][2:]
    last = graph.producer(name)
    if last is not None and last.op_type == "ReduceMin":
        _reduce_last_axis(graph, last)
    else:
        inner = graph.fresh(name)
        graph.rename(name, inner)
        graph.nodes.append(helper.make_node("Transpose", [inner], [name], perm=[0, 2, 3, 1]))
    shape = [1, height, width, 1]
    graph.outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    return graph.to_model()


def _reduce_last_axis(graph: Graph, node: NodeProto) -> None:
    """Turn before the least over the classes (head.py), not behind it, where onnx2tf turns the
    whole map to channels-first and back.
    """
    graph.remove(node)
    turned = graph.add("Transpose", [node.input[0]], "turned", perm=[0, 2, 3, 1])
    graph.nodes.append(reduce_min(graph, turned, node.output[0], axis=3))


def _check_float(path: Path, model: ModelProto) -> None:
    """Refuse a file that LiteRT cannot run, or whose ends are not what was asked for."""
    from ai_edge_litert.interpreter import Interpreter

    dims = model.graph.input[0].type.tensor_type.shape.dim
    eats = (1, dims[2].dim_value, dims[3].dim_value, 3)
    dims = model.graph.output[0].type.tensor_type.shape.dim
    returns = (1, dims[2].dim_value, dims[3].dim_value, 1)
    try:
        interpreter = Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
        interpreter.invoke()  # of zeros: some of what cannot run is found only now
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"wanted a TFLite file that LiteRT can run, found: {first_lines(error)}; "
            "an operator of the network has no TFLite counterpart, export the model without it"
        ) from error
    found = tuple(
        tuple(int(n) for n in end[0]["shape"])
        for end in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    if found != (eats, returns):
        raise ConversionError(
            f"wanted a TFLite file from {eats} to {returns}, found {found[0]} to {found[1]}; "
            "this is a defect of the conversion, please report the network"
        )


def to_int8(
    source: Path,
    out: Path,
    *,
    tensors: Iterable[NDArray[Any]],
    input: InputSpec | None = None,
    progress: Progress = quiet,
) -> list[str]:
    """Write a full-integer TFLite of a float one.

    tensors: float32 (1, H, W, 3), as the runtime's own codec makes them; ranges come from them.
    input: the spec they were made with; the input's range is then the whole range of a pixel,
        so that all 256 levels have a code of their own, whatever the pictures held.
    Returns what had to be mended, in words (scales.py).
    Raises ConversionError: nothing to calibrate with, or the quantizer's refusal, in words;
    QualityRefused where a bias overflowed (guards.py).
    """
    samples = list(tensors)
    guards.check_samples(samples, _signature(source)[2])
    try:
        content = bytearray(_quantized(source, samples, input, progress))
        mended = widen_scales(content, source)
        content = bytearray(moves.in_integers(bytes(content)))
    except ConversionError:
        raise
    except Exception as error:  # the quantizer raises whatever its parts raise
        raise ConversionError(
            f"wanted ai-edge-quantizer to quantize the network, found: {first_lines(error)}; "
            f"{_stopped_at(error)} has no integer form, export the model without it"
        ) from error
    with whole_file(out) as beside:
        beside.write_bytes(content)
        guards.check_int8(beside, source)
    return mended


def _stopped_at(error: Exception) -> str:
    """Return the operator the quantizer stopped at: its functions are named materialize_<OP>."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    kinds = [name.removeprefix(RULE).upper() for name in names if name.startswith(RULE)]
    return f"{kinds[0]}, as it stands in this network," if kinds else "some operator"


def _quantized(
    source: Path, samples: list[NDArray[Any]], input: InputSpec | None, progress: Progress
) -> bytes:
    from ai_edge_quantizer import quantizer

    key, name, _ = _signature(source)
    with silence():
        asked = _recipe(source)
        worker = quantizer.Quantizer(str(source), asked)
        ranges = _mean_ranges(source, key, name, samples, progress, recipe=asked)
        if input is not None:
            shape = np.shape(ranges[name]["min"])
            for end, value in zip(("min", "max"), pixel_range(input), strict=True):
                ranges[name][end] = np.full(shape, value, dtype=np.float32)
        progress("quantizing", 0, 0)
        result = worker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    if result.quantized_model is None:
        raise ConversionError("wanted an int8 network, found that the quantizer returned none")
    return bytes(result.quantized_model)


def _recipe(source: Path) -> list[dict[str, Any]]:
    """Return what the quantizer shall do: everything in int8, but for normalisations (norms.py) and
    products with a constant matrix in front.
    """
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe.static_wi8_ai8())
    kept = norms.normalised(source) + _constant_first(source)
    if kept:
        manager.add_quantization_config(
            regex=f"^({'|'.join(map(re.escape, kept))});",  # an operator is called as its output
            operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=algorithm_manager.AlgorithmName.NO_QUANTIZE,
        )
    return list(manager.get_quantization_recipe())


def _constant_first(source: Path) -> list[str]:
    """Return the results of matrix products whose first factor is constant, as of a bicubic resize.

    In int8 LiteRT answers 0 to them.
    """
    file = TfliteFile(source)
    products = [op for op in file.operators() if op.name == "BATCH_MATMUL"]
    return [name_of(op.outputs[0]) for op in products if file.values(op.inputs[0]).size]


def _mean_ranges(
    source: Path,
    key: str,
    name: str,
    samples: list[NDArray[Any]],
    progress: Progress,
    *,
    recipe: list[dict[str, Any]],
) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return per tensor the mean over the pictures of its least and greatest value.

    The quantizer's own moving average weighs the last twenty pictures most, so it depends on
    their order; the extremes over all pictures follow one odd picture (docs/decisions.md).
    """
    from ai_edge_quantizer import calibrator, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(recipe)
    worker = calibrator.Calibrator(
        str(source), num_threads=min(4, os.cpu_count() or 1), qsv_update_func=_sum
    )
    for done, sample in enumerate(samples, start=1):
        worker.calibrate({key: [{name: sample}]}, manager)
        progress("calibrating", done, len(samples))
    return {
        tensor: {end: (value / len(samples)).astype(np.float32) for end, value in ends.items()}
        for tensor, ends in worker.get_model_qsvs().items()
    }


def _sum(
    old: dict[str, NDArray[Any]], new: dict[str, NDArray[Any]]
) -> dict[str, NDArray[np.float64]]:
    return {end: np.asarray(value, dtype=np.float64) + new[end] for end, value in old.items()}


def pixel_range(input: InputSpec) -> tuple[float, float]:
    """Return the range that gives the lowest pixel value code -128 and the highest 127.

    The quantizer makes scale = (max - min) / 255 and zero point = -128 - min / scale of it. With
    mean = std = 0.5 every level lies halfway between two codes, which the runtime rounds up
    (pixels.input_table); the range is shifted so that up ends at 127: scale 1/127.5, zero -1.
    """
    ends = [*input.real(0), *input.real(1)]
    scale = (max(ends) - min(ends)) / 255
    # Whole-number arithmetic on a value that may be a tie: a hair of tolerance, as the runtime's.
    zero_point = float(np.ceil(-128.5 - min(ends) / scale - 1e-4))
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def _signature(source: Path) -> tuple[str, str, tuple[int, ...]]:
    """Return the key of the file's one signature, and its input's name and shape."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(source))
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ConversionError(f"wanted one signature in the float TFLite, found {len(signatures)}")
    key, ends = next(iter(signatures.items()))
    shape = tuple(int(n) for n in interpreter.get_input_details()[0]["shape"])
    return key, ends["inputs"][0], shape
