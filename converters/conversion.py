"""One model, in a straight line: trained network + calibration frames -> artifacts of every target
-> the gate -> a bundle of the targets that passed, or QualityRefused and no bundle.

Every artifact of one conversion answers to the same exam, through the runtime's own line of
calls. The bundle appears under its name whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_seg import comparison
from edge_seg.backends import Progress
from edge_seg.bundle import Artifact, ModelBundle, save_manifest
from edge_seg.calibration import manifest
from edge_seg.calibration.frames import CalibrationSet
from edge_seg.comparison import Comparison
from edge_seg.converters import judging, targets
from edge_seg.converters.gate import Exam
from edge_seg.converters.judging import Row
from edge_seg.converters.targets import OUTPUT, Attempt, Network, Workpiece
from edge_seg.errors import ConversionError, QualityRefused
from edge_seg.files import sha256_of
from edge_seg.staging import staged


@dataclass(frozen=True)
class Job:
    """A conversion asked for. targets: names of targets.TARGETS. max_drop: points (gate.verdict).
    labelled: the exam, or None where agreement with float on held-back frames is all there is.
    keep_onnx: put the float ONNX into the bundle too, for converting again. name: the bundle's,
    where it is not the file's. origin: what the ONNX was made from, in words, if from something.
    """

    network: Network
    calibration: CalibrationSet
    targets: tuple[str, ...] = ("tflite",)
    labelled: Exam | None = None
    max_drop: float | None = None
    keep_onnx: bool = False
    name: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Conversion:
    """What came of it. rows: every artifact made or refused. refused: targets that failed.
    compared: times on this machine, and with them which precision to run here.
    """

    bundle: ModelBundle
    rows: list[Row]
    refused: tuple[str, ...]
    compared: Comparison


def convert(
    job: Job,
    target: Path,
    *,
    progress: Progress = lambda message, done, total: None,
    table: Callable[[list[Row]], None] = lambda rows: None,
) -> Conversion:
    """Convert to every target of the job, judge all, write the bundle of what passed at `target`.

    table: shown the rows before anything is refused, so that the figures are always seen.
    Raises ConversionError (cannot be converted), QualityRefused (nothing passed; figures in the
    message), OutputError (cannot be written). An existing bundle at `target` survives any of them.
    """
    with staged(target) as folder:
        work = Workpiece(job.network, job.calibration, folder, progress)
        attempts = [targets.attempt(name, work) for name in job.targets]
        always = [_float(attempts, work)]
        if job.keep_onnx and "onnx" not in job.targets:
            always.append(targets.float_onnx(work))
        bundle = _bundle(job, folder, _all_artifacts(always, attempts))
        exam = job.labelled or judging.exam_of(job.calibration.held_back)
        judged, rows = judging.judge(bundle, exam, max_drop=job.max_drop, progress=progress)
        rows += [_failed(attempt) for attempt in attempts if attempt.error is not None]
        table(rows)
        _refuse_float(rows[0])
        passed = _passed(attempts, rows)
        if not passed:
            raise _nothing(attempts, rows)
        kept = _kept(always, attempts, passed)
        bundle = replace(bundle, artifacts=tuple(a for a in judged if a.name in kept))
        bundle, compared = _timed(bundle, progress)
        _clear(folder, bundle)
        manifest.save(folder, job.calibration)
        save_manifest(bundle)
    refused = tuple(a.target for a in attempts if a.target not in passed)
    return Conversion(ModelBundle.load(target), rows, refused, compared)


def _float(attempts: list[Attempt], work: Workpiece) -> Artifact:
    """Return the float artifact everything is judged against: TFLite's, else the ONNX itself.

    Made where no target made it. Raises the first target's error where that fails too.
    """
    made = {a.name: a for attempt in attempts for a in attempt.artifacts}
    for name in ("tflite-fp32", "onnx-fp32"):
        if name in made:
            return made[name]
    alone = [a for a in attempts if a.error is not None and not a.artifacts]
    if len(alone) == len(attempts) and len(alone) == 1:
        assert alone[0].error is not None
        raise alone[0].error
    return targets.float_onnx(work)


def _all_artifacts(always: list[Artifact], attempts: list[Attempt]) -> tuple[Artifact, ...]:
    """Return every artifact once, the float one that is the measure first."""
    made = [*always, *(a for attempt in attempts for a in attempt.artifacts)]
    return tuple({artifact.name: artifact for artifact in made}.values())


def _bundle(job: Job, folder: Path, artifacts: tuple[Artifact, ...]) -> ModelBundle:
    """Return the bundle as it lies in the staged folder."""
    network = job.network
    source: dict[str, Any] = {"file": network.model.name, "sha256": sha256_of(network.model)}
    if job.origin:
        source["origin"] = job.origin
    return ModelBundle(
        path=folder,
        name=job.name or network.model.stem,
        input=network.input,
        output=OUTPUT,
        artifacts=artifacts,
        source={**source, "output": network.output.to_dict()},
    )


def _failed(attempt: Attempt) -> Row:
    """Return the row of what could not be made."""
    made = {artifact.precision for artifact in attempt.artifacts}
    missing = "int8" if made else "float"
    return Row(f"{attempt.target}-{missing}", reasons=(str(attempt.error),))


def _refuse_float(row: Row) -> None:
    """Raise QualityRefused where the float network itself is no good: int8 is not to blame."""
    if row.reasons:
        raise QualityRefused(
            f"{row.artifact}: the float network itself {'; '.join(row.reasons)}; "
            "no bundle written: check the spec (colour, mean, std, channel) and the labels"
        )


def _passed(attempts: list[Attempt], rows: list[Row]) -> list[str]:
    """Return the targets all of whose artifacts were made and passed."""
    bad = {row.artifact for row in rows if row.reasons}
    return [
        attempt.target
        for attempt in attempts
        if attempt.error is None and not any(a.name in bad for a in attempt.artifacts)
    ]


def _kept(always: list[Artifact], attempts: list[Attempt], passed: list[str]) -> set[str]:
    """Return the names of the artifacts the bundle keeps.

    The float artifact that was the measure is always among them: it is what a user falls back to.
    """
    kept = {artifact.name for artifact in always}
    for attempt in attempts:
        if attempt.target in passed:
            kept |= {artifact.name for artifact in attempt.artifacts}
    return kept


def _nothing(attempts: list[Attempt], rows: list[Row]) -> ConversionError:
    """Return the error that says why no target is left."""
    errors = [attempt.error for attempt in attempts]
    if len(errors) == 1 and isinstance(errors[0], ConversionError):
        if not isinstance(errors[0], QualityRefused):
            return errors[0]
    lines = "\n".join(
        f"  - {row.artifact}: {'; '.join(row.reasons)}" for row in rows if row.reasons
    )
    return QualityRefused(
        f"refused by the quality gate:\n{lines}\n"
        "the float artifact is sound, so quantisation did this; no bundle was written: calibrate "
        "on other or more pictures"
    )


def _timed(bundle: ModelBundle, progress: Progress) -> tuple[ModelBundle, Comparison]:
    """Time every artifact on this machine, one thread; return them with their times."""
    progress("timing on this machine", 0, 0)
    compared = comparison.compare(bundle, comparison.runtimes_of(bundle))
    facts = {timing.artifact.name: timing.to_dict() for timing in compared.timings}
    artifacts = tuple(replace(a, latency=facts.get(a.name, {})) for a in bundle.artifacts)
    return replace(bundle, artifacts=artifacts), compared


def _clear(folder: Path, bundle: ModelBundle) -> None:
    """Remove what the bundle does not name: artifacts that were refused."""
    named = {part.file for artifact in bundle.artifacts for part in artifact.files}
    for path in folder.iterdir():
        if path.name not in named:
            path.unlink()
