"""Every artifact of a bundle through one exam, float first: a row of figures, or why it is refused.

What collapsed, or nearly did, is looked into (causes.py), so that a row says what to correct.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from edge_seg.backends import Progress
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.converters import causes, gate
from edge_seg.converters.causes import Suspect
from edge_seg.converters.gate import Exam
from edge_seg.errors import BackendFailure, BackendUnavailable, EdgeSegError
from edge_seg.metrics import collapse
from edge_seg.segmenter import EdgeSegmenter, open_artifact

BROKEN = 0.05  # of mIoU: what is lost beyond is no rounding error, and is looked into
NO_CAUSE = (
    "none of the causes that are looked for was found (normalisation, colour order, saturated "
    "input, dead layer)"
)


@dataclass(frozen=True)
class Row:
    """One line of the table: an artifact, its figures, and why it was refused (or nothing).

    size: bytes, and figures: both empty where it was refused before it could be measured.
    """

    artifact: str
    size: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


MakeExam = Callable[[EdgeSegmenter], Exam]


def judge(
    bundle: ModelBundle,
    exam: Exam | MakeExam,
    *,
    max_drop: float | None = None,
    progress: Progress = lambda message, done, total: None,
) -> tuple[list[Artifact], list[Row]]:
    """Measure every artifact of a bundle against its first one, which is float.

    exam: or what makes one of the open float artifact (agreement). max_drop: points, see
    gate.verdict. Returns the artifacts with their figures, and a row for each.
    Raises BackendUnavailable, BackendFailure where the float artifact itself cannot be run.
    """
    rows: list[Row] = []
    judged: list[Artifact] = []
    for artifact in bundle.artifacts:
        what = f"measuring {artifact.name}"
        progress(what, 0, 0)
        try:
            with open_artifact(bundle, artifact, threads=2) as segmenter:
                if not isinstance(exam, Exam):
                    exam = exam(segmenter)
                figures = exam.take(segmenter, progress=lambda n, what=what: progress(what, n, 0))  # type: ignore[misc]
        except (BackendUnavailable, BackendFailure) as error:
            if not rows:  # float, the measure of all others
                raise
            rows.append(Row(artifact.name, artifact.total_size, reasons=(str(error),)))
            judged.append(artifact)
            continue
        reasons = gate.verdict(rows[0].figures if rows else figures, figures, max_drop)
        if reasons and _is_broken(rows[0].figures if rows else figures, figures):
            progress(f"looking for what is wrong with {artifact.name}", 0, 0)
            suspect = Suspect(bundle, artifact, bundle.artifacts[0] if rows else None, exam)
            reasons += _causes(suspect, collapsed=bool(collapse(figures)))
        elif not rows and _may_be_fed_wrongly(figures):
            progress(f"trying other scales and colours on {artifact.name}", 0, 0)
            reasons = _wrong_spec(Suspect(bundle, artifact, None, exam))
        rows.append(Row(artifact.name, artifact.total_size, figures, tuple(reasons)))
        judged.append(replace(artifact, quality=gate.recorded(figures)))
    return judged, rows


def _is_broken(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell a mistake from the usual price of int8."""
    return bool(collapse(after)) or before["miou"] - after["miou"] > BROKEN


def _may_be_fed_wrongly(figures: dict[str, Any]) -> bool:
    """Tell whether a float network could gain much; without labels its own masks are the truth."""
    return figures["kind"] == gate.LABELS and figures["miou"] < 1 - causes.MUCH


def _wrong_spec(suspect: Suspect) -> list[str]:
    """Return that a float network works far better when fed otherwise: no collapse, yet wrong."""
    try:
        found = causes.other_contract(suspect)
    except EdgeSegError:  # the artifact itself was measured, and is sound
        return []
    return [f"is not fed as it was trained: {found}"] if found else []


def _causes(suspect: Suspect, *, collapsed: bool) -> list[str]:
    """Return what is found, in words; looking must not hide the refusal itself."""
    try:
        found = causes.causes(suspect)
        return [f"likely cause: {sentence}" for sentence in found] or [NO_CAUSE] * collapsed
    except EdgeSegError as error:
        return [f"its cause could not be looked for: {error}"]


def exam_of(frames: list[NDArray[Any]]) -> MakeExam:
    """Return what makes an exam of the float network's own masks of held-back frames."""
    return lambda segmenter: gate.exam_from_float(segmenter, frames, "held-back frames")
