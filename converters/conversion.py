"""One model, in a straight line: trained network + calibration frames -> artifacts -> the gate
-> a bundle, or QualityRefused and no bundle.

Every artifact of one conversion answers to the same exam, through the runtime's own line of
calls. The bundle appears under its name whole or not at all.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edge_seg._version import __version__
from edge_seg.backends import open_backend
from edge_seg.bundle import (
    Artifact,
    ModelBundle,
    describe,
    save_manifest,
    sha256_of,
    staged,
)
from edge_seg.calibration.frames import CalibrationSet
from edge_seg.converters import environment, gate, guards, head, onnx, rewrites, tflite
from edge_seg.converters.environment import Progress
from edge_seg.converters.gate import Exam
from edge_seg.converters.reference import Reference, largest_difference
from edge_seg.errors import ConversionError, QualityRefused
from edge_seg.pixels import Codec
from edge_seg.segmenter import open_artifact
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec

INT8 = "tflite-int8"
FLOAT_TOLERANCE = 1e-3  # of probability: float TFLite against the ONNX it was made from
OUTPUT = OutputSpec("logit", 0)  # every artifact returns one person logit
TOOLS = ("onnx", "onnxruntime", "ai-edge-quantizer", "ai-edge-litert", "numpy")


@dataclass(frozen=True)
class Job:
    """A conversion asked for. max_drop: points (gate.verdict). labelled: the exam, or
    None where agreement with float on held-back frames is all there is. keep_onnx: put the float
    ONNX into the bundle too, for ONNX Runtime and for converting again. name: the bundle's, where
    it is not the file's.
    """

    model: Path
    input: InputSpec
    output: OutputSpec
    calibration: CalibrationSet
    labelled: Exam | None = None
    max_drop: float | None = None
    keep_onnx: bool = False
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One line of the table: an artifact, its figures, and why it was refused (or nothing).

    size: bytes, and figures: both empty where it was refused before it could be measured.
    """

    artifact: str
    size: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


def convert(
    job: Job,
    target: Path,
    *,
    progress: Progress = tflite.quiet,
    table: Callable[[list[Row]], None] = lambda rows: None,
) -> ModelBundle:
    """Convert to float and int8 TFLite, judge both, and write the bundle at `target`.

    table: shown the rows before anything is refused, so that the figures are always seen.
    Raises ConversionError (cannot be converted), QualityRefused (figures in the message),
    OutputError (cannot be written). An existing bundle at `target` survives any of them.
    """
    with staged(target) as folder:
        work = _Work(job, folder, progress)
        reduced, graph, made = work.graphs()
        fp32 = work.float_tflite(graph, made)
        artifacts, refused = [fp32], []
        try:
            artifacts.append(work.int8_tflite(fp32, made))
        except QualityRefused as error:  # by a guard: float is measured all the same
            refused.append(Row(INT8, reasons=(str(error),)))
        if job.keep_onnx:
            artifacts.append(work.float_onnx(reduced, made))
        bundle = work.bundle(tuple(artifacts))
        rows, judged = _judge(bundle, job, progress)
        rows += refused
        table(rows)
        _refuse(rows)
        save_manifest(replace(bundle, artifacts=tuple(judged)))
    return ModelBundle.load(target)


class _Work:
    """The steps of one conversion; each leaves a file in the staged folder."""

    def __init__(self, job: Job, folder: Path, progress: Progress) -> None:
        self.job, self.folder, self.progress = job, folder, progress

    def graphs(self) -> tuple[ModelProto, ModelProto, dict[str, Any]]:
        """Read, reduce and rewrite the network.

        Returns it reduced to one logit, that rewritten for int8, and what was done, in words.
        """
        self.progress("reading the network", 0, 0)
        loaded = onnx.load(self.job.model, self.job.input)
        with onnx.naming(self.job.model):
            dead = guards.dead_layers(loaded)
            reduced = head.single_logit(loaded, self.job.output)
            rewritten, steps = rewrites.simplify(reduced)
        made = {
            "edge_seg": __version__,
            "python": platform.python_version(),
            "tools": {
                "onnx2tf": environment.ONNX2TF,
                **{tool: metadata.version(tool) for tool in TOOLS},
            },
            "rewrites": steps,
            "dead_layers": dead,
        }
        return reduced, rewritten, made

    def float_onnx(self, reduced: ModelProto, made: dict[str, Any]) -> Artifact:
        """Keep the network itself, reduced to one logit and otherwise as it came."""
        path = self.folder / "model-fp32.onnx"
        path.write_bytes(reduced.SerializeToString())
        facts = {**made, "rewrites": ["reduced to one person logit"]}
        return describe(path, format="onnx", precision="fp32", made=facts)

    def float_tflite(self, graph: ModelProto, made: dict[str, Any]) -> Artifact:
        """Make the float artifact and check it against the network as it came."""
        path = self.folder / "model-fp32.tflite"
        tflite.to_float(graph, path, progress=self.progress)
        worst = self._worst_difference(path)
        if worst > FLOAT_TOLERANCE:
            raise ConversionError(
                f"{self.job.model}: wanted a float TFLite within {FLOAT_TOLERANCE:g} of the ONNX, "
                f"found a difference of {worst:.2e} on the calibration frames; "
                "check the spec's channel and activation, then report the network"
            )
        facts = {**made, "max_difference_from_onnx": worst}
        return describe(path, format="tflite", precision="fp32", made=facts)

    def _worst_difference(self, path: Path) -> float:
        reference = Reference(self.job.model, self.job.input, self.job.output)
        backend = open_backend("tflite", path, {"threads": 2})
        codec = Codec(self.job.input, OUTPUT, eats=backend.input, returns=backend.output)
        pictures, worst = self.job.calibration.pictures, 0.0
        for done, picture in enumerate(pictures, start=1):
            mask = np.asarray(codec.decode(backend.infer(codec.encode(picture))), np.float32)
            worst = max(worst, largest_difference(reference, mask, picture))
            self.progress("checking float against the ONNX", done, len(pictures))
        backend.close()
        reference.close()
        return worst

    def int8_tflite(self, fp32: Artifact, made: dict[str, Any]) -> Artifact:
        """Quantise the float artifact with the calibration frames."""
        path = self.folder / "model-int8.tflite"
        source = self.folder / fp32.file
        mended = tflite.to_int8(
            source,
            path,
            tensors=self._tensors(),
            input=self.job.input,
            progress=self.progress,
        )
        facts = {
            **made,
            "calibration": {
                "frames": len(self.job.calibration.pictures),
                "sha256": self.job.calibration.sha256,
                "skipped": len(self.job.calibration.skipped),
            },
            "mended": mended,
            "float_operators": guards.float_operators(path),
        }
        return describe(path, format="tflite", precision="int8", made=facts)

    def _tensors(self) -> Iterator[NDArray[np.generic]]:
        """The calibration pictures as the runtime's own codec encodes them for a float input."""
        spec = self.job.input
        eats = TensorSpec((1, spec.height, spec.width, 3), "float32", "nhwc")
        codec = Codec(spec, OUTPUT, eats=eats, returns=TensorSpec((1, 1, 1, 1), "float32", "nhwc"))
        for picture in self.job.calibration.pictures:
            yield codec.encode(picture)

    def bundle(self, artifacts: tuple[Artifact, ...]) -> ModelBundle:
        """Return the bundle as it lies in the staged folder."""
        source = {"file": self.job.model.name, "sha256": sha256_of(self.job.model)}
        return ModelBundle(
            path=self.folder,
            name=self.job.name or self.job.model.stem,
            input=self.job.input,
            output=OUTPUT,
            artifacts=artifacts,
            source={**source, "output": self.job.output.to_dict()},
        )


def _judge(bundle: ModelBundle, job: Job, progress: Progress) -> tuple[list[Row], list[Artifact]]:
    """Measure every artifact, float first; return the rows and the artifacts with their figures."""
    rows: list[Row] = []
    judged: list[Artifact] = []
    exam = job.labelled
    for artifact in bundle.artifacts:
        what = f"measuring {artifact.name}"
        progress(what, 0, 0)
        with open_artifact(bundle, artifact, threads=2) as segmenter:
            exam = exam or gate.exam_from_float(
                segmenter, job.calibration.held_back, "held-back frames"
            )
            figures = exam.take(segmenter, progress=lambda n, what=what: progress(what, n, 0))  # type: ignore[misc]
        float_figures = rows[0].figures if rows else figures
        reasons = tuple(gate.verdict(float_figures, figures, job.max_drop))
        rows.append(Row(artifact.name, artifact.size, figures, reasons))
        judged.append(replace(artifact, quality=gate.recorded(figures)))
    return rows, judged


def _refuse(rows: list[Row]) -> None:
    """Raise QualityRefused where any artifact was refused: then nothing is kept."""
    refused = [row for row in rows if row.reasons]
    if not refused:
        return
    if refused[0] is rows[0]:
        raise QualityRefused(
            f"{rows[0].artifact}: the float network itself {'; '.join(rows[0].reasons)}; "
            "no bundle written: check the spec (colour, mean, std, channel) and the labels"
        )
    lines = "\n".join(f"  - {row.artifact}: {'; '.join(row.reasons)}" for row in refused)
    raise QualityRefused(
        f"refused by the quality gate:\n{lines}\n"
        "the float artifact is sound, so quantisation did this; no bundle was written: calibrate "
        "on other or more pictures"
    )
