"""TFLite artifacts: float through onnx2tf, int8 through ai-edge-quantizer.

    to_float   ModelProto, input (1, 3, H, W)  ->  float32 (1, H, W, 3) -> (1, h, w, 1)
    to_int8    that file + calibration tensors ->  int8 in, int8 out, per-channel weights

Both write beside their target and rename. Every failure is a ConversionError with its reason.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from edge_seg.converters import environment, guards
from edge_seg.converters.environment import Progress
from edge_seg.converters.rewrites import first_line
from edge_seg.errors import ConversionError

ONNX2TF_SECONDS = 600
LEAST_TENSORS = 1


def quiet(message: str, done: int, total: int) -> None:
    """Stand in for a progress display."""


def to_float(model: ModelProto, out: Path, *, progress: Progress = quiet) -> None:
    """Write a float32 TFLite of a network reduced to one output channel.

    model: NCHW input of 3 channels, output (1, 1, h, w). Sets up onnx2tf on first use.
    """
    interpreter = environment.python(progress)
    progress("converting to float TFLite", 0, 0)
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as name:
        folder = Path(name)
        onnx.save(model, folder / "model.onnx")
        command = [str(interpreter), "-c", "from onnx2tf import main; main()"]
        settings = ["-i", "model.onnx", "-o", "made", "-tb", "flatbuffer_direct", "-n"]
        ended = environment.run(
            [*command, *settings], folder=folder, seconds=ONNX2TF_SECONDS, what="run onnx2tf"
        )
        made = folder / "made" / "model_float32.tflite"
        if ended.returncode or not made.is_file():
            raise ConversionError(
                "wanted onnx2tf to convert the network, found that it failed:\n"
                f"{environment.last_lines(ended.stdout)}\n"
                "export the model with simpler operators, or report the network"
            )
        _check_float(made, model)
        _place(made, out)


def _place(made: Path, out: Path) -> None:
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(made, beside)
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)


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
    except (RuntimeError, ValueError) as error:
        raise ConversionError(
            f"wanted a TFLite file that LiteRT can run, found: {first_line(error)}; "
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
    source: Path, out: Path, *, tensors: Iterable[NDArray[Any]], progress: Progress = quiet
) -> None:
    """Write a full-integer TFLite of a float one.

    tensors: float32 (1, H, W, 3), as the runtime's own codec makes them; ranges come from them.
    Raises ConversionError: nothing to calibrate with, or the quantizer's refusal, in words.
    """
    samples = list(tensors)
    _check_samples(samples)
    try:
        content = _quantized(source, samples, progress)
    except ConversionError:
        raise
    except Exception as error:  # the quantizer raises whatever its parts raise
        raise ConversionError(
            f"wanted ai-edge-quantizer to quantize the network, found: {first_line(error)}; "
            "some operator has no integer form, export the model without it"
        ) from error
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(content)
        guards.check_integer_ends(beside)
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)


def _check_samples(samples: list[NDArray[Any]]) -> None:
    if len(samples) < LEAST_TENSORS:
        raise ConversionError(
            "wanted calibration tensors, found none; name pictures with --calibration"
        )
    for number, sample in enumerate(samples):
        if sample.dtype != np.float32 or sample.ndim != 4 or not np.isfinite(sample).all():
            raise ConversionError(
                f"calibration tensor {number}: wanted finite float32 (1, H, W, 3), found "
                f"{sample.dtype} {sample.shape}; check mean and std in the spec"
            )


def _quantized(source: Path, samples: list[NDArray[Any]], progress: Progress) -> bytes:
    from ai_edge_quantizer import quantizer, recipe

    with _silence():
        worker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        key, name = _signature(source)
        data = {key: _counted(samples, name, progress)}
        ranges = worker.calibrate(data, num_threads=min(4, os.cpu_count() or 1))
        progress("quantizing", 0, 0)
        result = worker.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    if result.quantized_model is None:
        raise ConversionError("wanted an int8 network, found that the quantizer returned none")
    return bytes(result.quantized_model)


class _counted:
    """The calibration tensors as the quantizer wants them; it walks over them more than once."""

    def __init__(self, samples: list[NDArray[Any]], name: str, progress: Progress) -> None:
        self._samples, self._name, self._progress = samples, name, progress

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        for done, sample in enumerate(self._samples, start=1):
            self._progress("calibrating", done, len(self._samples))
            yield {self._name: sample}


def _signature(source: Path) -> tuple[str, str]:
    """Return the key of the file's one signature and the name of its input."""
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(model_path=str(source)).get_signature_list()
    if len(signatures) != 1:
        raise ConversionError(f"wanted one signature in the float TFLite, found {len(signatures)}")
    key, ends = next(iter(signatures.items()))
    return key, ends["inputs"][0]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the quantizer's bars and warnings off the screen; its exceptions pass."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            yield
