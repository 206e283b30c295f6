"""What each target makes of a network: a float artifact and an int8 one, of one library each.

    tflite     model-fp32.tflite, model-int8.tflite     Raspberry Pi: LiteRT, full-integer
    openvino   model-fp16.xml, model-int8.xml (+ .bin)  Intel NPU, GPU, CPU
    onnx       model-fp32.onnx, model-int8.onnx         Jetson: TensorRT, and ONNX Runtime

A target that cannot be made is an `Attempt` with its error; the others go on.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edge_seg._version import __version__
from edge_seg.backends import Progress, open_backend, readers
from edge_seg.bundle import Artifact, describe
from edge_seg.calibration import manifest
from edge_seg.calibration.frames import CalibrationSet
from edge_seg.converters import environment, guards, head, onnx, rewrites
from edge_seg.converters.reference import Reference, largest_difference
from edge_seg.errors import (
    BackendFailure,
    BackendUnavailable,
    ConversionError,
    EdgeSegError,
)
from edge_seg.pixels import Codec
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec

OUTPUT = OutputSpec("logit", 0)  # every artifact returns one person logit
# Of probability, a float artifact in 32 bits against the ONNX it was made from. What 16 bits cost
# (0.06 on a contour of V2-Lite) is the gate's to say.
TOLERANCE = 1e-3
# Of a trained network; the official ones and SINet stay below 50. Where pixels are scaled otherwise
# than in training they reach thousands and more, and libraries round such numbers differently.
LOGITS = 1e3
BEYOND = (
    "its logits reach {:.0e}, as they do where pixels are scaled otherwise than in training: check "
    "the spec's mean and std"
)
UNEXPLAINED = "check the spec's channel and activation, then report the network"
TOOLS = {
    "tflite": ("onnx", "onnxruntime", "ai-edge-quantizer", "ai-edge-litert", "numpy"),
    "openvino": ("onnx", "openvino", "nncf", "numpy"),
    "onnx": ("onnx", "onnxruntime", "numpy"),
}


@dataclass(frozen=True)
class Network:
    """The network to convert, where it lies and what it eats and returns."""

    model: Path
    input: InputSpec
    output: OutputSpec


@dataclass
class Attempt:
    """A target tried: its artifacts, float first, and the error that ended it, if one did."""

    target: str
    artifacts: list[Artifact] = field(default_factory=list)
    error: EdgeSegError | None = None


class Workpiece:
    """One network on its way through every target; artifacts are left in `folder`."""

    def __init__(
        self, network: Network, calibration: CalibrationSet, folder: Path, progress: Progress
    ) -> None:
        self.network, self.calibration = network, calibration
        self.folder, self.progress = folder, progress
        progress("reading the network", 0, 0)
        loaded = onnx.load(network.model, network.input)
        with onnx.naming(network.model):
            onnx.refuse_quantized(loaded)
            self.dead_layers = guards.dead_layers(loaded)
            self.reduced = head.single_logit(loaded, network.output)

    @cached_property
    def rewritten(self) -> tuple[ModelProto, list[str]]:
        """The network in operators every quantizer takes, and what was done, in words."""
        with onnx.naming(self.network.model):
            return rewrites.simplify(self.reduced)

    def tensors(self, layout: str) -> Iterator[NDArray[np.generic]]:
        """Yield the calibration pictures as `float_tensors` does."""
        return float_tensors(self.calibration, self.network.input, layout)

    def made(self, target: str, *, rewritten: bool = True) -> dict[str, Any]:
        """Return how an artifact of this target is made: versions and rewritings."""
        tools = {tool: metadata.version(tool) for tool in TOOLS[target]}
        if target == "tflite":
            tools = {"onnx2tf": environment.ONNX2TF.version, **tools}
        return {
            "edge_seg": __version__,
            "python": platform.python_version(),
            "tools": tools,
            "rewrites": self.rewritten[1] if rewritten else ["reduced to one person logit"],
            "dead_layers": self.dead_layers,
        }

    def calibrated(self) -> dict[str, Any]:
        """Return what an int8 artifact was calibrated on."""
        seen = self.calibration
        return {
            "frames": len(seen.pictures),
            "sha256": seen.sha256,
            "skipped": len(seen.skipped),
            "picked": manifest.summary(manifest.describe(seen)),
        }

    def checked_difference(self, format: str, path: Path) -> float:
        """Return the largest difference of probability from the network as it came.

        Of a float32 artifact; ConversionError where that is large, or where what the spec calls
        logits are probabilities.
        """
        network = self.network
        reference = Reference(network.model, network.input, network.output)
        backend = open_backend(readers(format)[0], path, {"threads": 2})
        codec = Codec(network.input, OUTPUT, eats=backend.input, returns=backend.output)
        pictures, worst, largest = self.calibration.pictures, 0.0, 0.0
        for done, picture in enumerate(pictures, start=1):
            logit = backend.infer(codec.encode(picture))
            mask = np.asarray(codec.decode(logit), np.float32)
            worst = max(worst, largest_difference(reference, mask, picture))
            largest = max(largest, float(np.abs(logit).max()))
            self.progress(f"checking float {format} against the ONNX", done, len(pictures))
        backend.close()
        reference.close()
        if reference.mislabelled and pictures:
            raise ConversionError(
                f"{network.model}: wanted logits, as the spec says, found that it returns "
                "probabilities on every calibration frame; set activation = 'probability' in the "
                "spec, and export it with its Softmax or Sigmoid as the last operator"
            )
        if worst > TOLERANCE:
            raise ConversionError(
                f"{network.model}: wanted a float {format} artifact within {TOLERANCE:g} of "
                f"the ONNX, found a difference of {worst:.2e} on the calibration frames; "
                + (BEYOND.format(largest) if largest > LOGITS else UNEXPLAINED)
            )
        return worst

    def float_artifact(self, format: str, path: Path, made: dict[str, Any]) -> Artifact:
        """Describe a float32 artifact after checking it against the network as it came."""
        facts = {**made, "max_difference_from_onnx": self.checked_difference(format, path)}
        return describe(path, format=format, precision="fp32", made=facts)

    def int8_artifact(
        self, format: str, path: Path, *, floats: list[str], mended: Sequence[str] = ()
    ) -> Artifact:
        """Describe an int8 artifact. floats: what stayed in float; mended: what had to be."""
        facts = {
            **self.made(format),
            "calibration": self.calibrated(),
            "mended": list(mended),
            "float_operators": floats,
        }
        return describe(path, format=format, precision="int8", beside=parts_of(path), made=facts)


def parts_of(path: Path) -> list[Path]:
    """Return the files that belong to an artifact: the weights beside OpenVINO's .xml."""
    return [path.with_suffix(".bin")] if path.suffix == ".xml" else []


def float_tflite(work: Workpiece) -> Artifact:
    """model-fp32.tflite."""
    from edge_seg.converters import tflite

    path = work.folder / "model-fp32.tflite"
    tflite.to_float(work.rewritten[0], path, progress=work.progress)
    return work.float_artifact("tflite", path, work.made("tflite"))


def int8_tflite(work: Workpiece) -> Artifact:
    """model-int8.tflite, from model-fp32.tflite."""
    from edge_seg.converters import tflite

    source, path = work.folder / "model-fp32.tflite", work.folder / "model-int8.tflite"
    mended = tflite.to_int8(
        source,
        path,
        tensors=work.tensors("nhwc"),
        input=work.network.input,
        progress=work.progress,
    )
    return work.int8_artifact("tflite", path, floats=guards.float_operators(path), mended=mended)


def float_openvino(work: Workpiece) -> Artifact:
    """model-fp16.xml and .bin: weights in 16 bits, computed as the device likes.

    Checked against the ONNX before its weights are rounded.
    """
    from edge_seg.converters import openvino

    path = work.folder / "model-fp16.xml"
    work.progress("converting to OpenVINO", 0, 0)
    openvino.to_float(work.rewritten[0], path, bits=32)
    made = work.made("openvino")
    made["max_difference_from_onnx"] = work.checked_difference("openvino", path)
    openvino.to_float(work.rewritten[0], path)
    return describe(path, format="openvino", precision="fp16", beside=parts_of(path), made=made)


def int8_openvino(work: Workpiece) -> Artifact:
    """model-int8.xml and .bin."""
    from edge_seg.converters import openvino

    path = work.folder / "model-int8.xml"
    openvino.to_int8(
        work.rewritten[0],
        path,
        tensors=work.tensors("nchw"),
        input=work.network.input,
        progress=work.progress,
    )
    floats = openvino.float_operators(path)
    return work.int8_artifact("openvino", path, floats=floats)


def float_onnx(work: Workpiece) -> Artifact:
    """model-fp32.onnx: the network itself, reduced to one logit and otherwise as it came."""
    path = work.folder / "model-fp32.onnx"
    path.write_bytes(work.reduced.SerializeToString())
    return work.float_artifact("onnx", path, work.made("onnx", rewritten=False))


def int8_onnx(work: Workpiece) -> Artifact:
    """model-int8.onnx: QDQ, as TensorRT takes it."""
    from edge_seg.converters import qdq

    path = work.folder / "model-int8.onnx"
    qdq.to_int8(
        work.rewritten[0],
        path,
        tensors=work.tensors("nchw"),
        input=work.network.input,
        progress=work.progress,
    )
    return work.int8_artifact("onnx", path, floats=qdq.float_operators(path))


def float_tensors(
    calibration: CalibrationSet, spec: InputSpec, layout: str
) -> Iterator[NDArray[np.generic]]:
    """Yield the calibration pictures as the runtime's own codec encodes them for float.

    layout: "nhwc" or "nchw".
    """
    size = (spec.height, spec.width)
    shape = (1, *size, 3) if layout == "nhwc" else (1, 3, *size)
    eats = TensorSpec(shape, "float32", layout)
    codec = Codec(spec, OUTPUT, eats=eats, returns=TensorSpec((1, 1, 1, 1), "float32", layout))
    for picture in calibration.pictures:
        yield codec.encode(picture)


Make = Callable[[Workpiece], Artifact]
TARGETS: dict[str, tuple[Make, Make]] = {
    "tflite": (float_tflite, int8_tflite),
    "openvino": (float_openvino, int8_openvino),
    "onnx": (float_onnx, int8_onnx),
}


def attempt(target: str, work: Workpiece) -> Attempt:
    """Make a target's float and int8 artifacts, as far as it goes.

    What ends it is kept, not raised; a full disk (OutputError) and Ctrl-C end everything.
    """
    done = Attempt(target)
    try:
        for make in TARGETS[target]:
            done.artifacts.append(make(work))
    except (ConversionError, BackendUnavailable) as error:
        done.error = error
    except BackendFailure as error:
        done.error = ConversionError(
            f"{target}: wanted an artifact that runs, found: {error}; convert for the other "
            "targets, or export the network without the operator named"
        )
    except ImportError as error:
        done.error = BackendUnavailable(
            f"{target}: wanted its converter, found: {error}; "
            'install it with: pip install "edge-seg[convert]"'
        )
    return done
