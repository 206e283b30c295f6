"""The gate: an artifact is measured against float on frames calibration never saw, and refused
where it lost too much or collapsed.

With labels the figures are quality (mIoU ...). Without, they are *agreement*: the float network's
own mask is taken for the truth, which says nothing about whether that network is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Labelled
from edge_seg.calibration.dataset import labelled_pairs
from edge_seg.errors import DatasetError
from edge_seg.evaluation import evaluate
from edge_seg.files import sha256_of
from edge_seg.metrics import THRESHOLD, collapse
from edge_seg.segmenter import EdgeSegmenter

LABELS, AGREEMENT = "labels", "agreement"
# Points that may be lost where the user names no number. Agreement counts every pixel in which
# int8 and float differ, right or wrong, so it is allowed more.
MAX_DROP = {LABELS: 0.5, AGREEMENT: 5.0}
JUDGED = {
    LABELS: {"miou": "mIoU", "person_iou": "person IoU"},
    AGREEMENT: {"person_iou": "agreement on the person"},
}
# How a manifest calls figures of agreement: an IoU with float's mask must not pass for quality.
AGREEMENT_NAMES = {
    "miou": "agreement",
    "person_iou": "agreement_person_iou",
    "boundary_f": "agreement_boundary_f",
    "sc": "agreement_sc",
}


@dataclass(frozen=True)
class Exam:
    """What artifacts are measured on.

    pairs: called for every artifact; (frame, label) one at a time, a set may be larger than
    memory. kind: "labels" or "agreement". name: of the list. sha256: of the list file, if one.
    """

    pairs: Callable[[], Iterable[Labelled]] = field(repr=False)
    kind: str
    name: str
    sha256: str = ""

    def take(
        self, segmenter: EdgeSegmenter, *, progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Return the figures of an open segmenter, with what they were measured on."""
        figures = evaluate(segmenter, self.pairs(), progress=progress).to_dict()
        return {"kind": self.kind, "on": self.name, "on_sha256": self.sha256, **figures}


def exam_from_labels(labels: Path, *, progress: Callable[[int], None] | None = None) -> Exam:
    """Return the exam of a labelled list or clip folder; every picture is read once, here.

    So a wrong one is named before minutes are spent. Raises DatasetError, also where no label
    holds a person: a network that sees nothing would be right.
    """
    persons = 0
    for done, (_, label) in enumerate(labelled_pairs(labels), start=1):
        persons += bool((label == 1).any())
        if progress is not None:
            progress(done)
    if not persons:
        raise DatasetError(
            f"{labels}: wanted labels with a person in them, found none; "
            "a network that sees nothing would pass: add pictures of people"
        )
    digest = sha256_of(labels) if labels.is_file() else ""
    return Exam(lambda: labelled_pairs(labels), LABELS, labels.name, digest)


def exam_from_float(segmenter: EdgeSegmenter, frames: list[NDArray[np.uint8]], name: str) -> Exam:
    """Return an exam whose truth is the float network's own masks, at the frames' size.

    Raises DatasetError where it sees no person in any of them, or nothing else in all of them:
    then agreement means nothing.
    """
    masks = [(segmenter.segment(frame) >= THRESHOLD).astype(np.uint8) for frame in frames]
    if not any(mask.any() for mask in masks):
        raise DatasetError(
            f"{name}: wanted frames in which the float network sees a person, found none in "
            f"{len(frames)}; calibrate on pictures of people, correct the spec, or pass --labels"
        )
    if all(mask.all() for mask in masks):
        raise DatasetError(
            f"{name}: wanted frames in which the float network sees a background, found person "
            f"in every pixel of {len(frames)}; correct the spec (mean, std, activation: its output "
            "may be no logit), or pass --labels"
        )
    return Exam(lambda: zip(frames, masks, strict=True), AGREEMENT, name)


def recorded(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures as a manifest holds them: those of agreement under names of their own."""
    names = AGREEMENT_NAMES if figures["kind"] == AGREEMENT else {}
    return {names.get(key, key): value for key, value in figures.items()}


def verdict(
    float_figures: dict[str, Any], figures: dict[str, Any], max_drop: float | None = None
) -> list[str]:
    """Return why an artifact is refused, one sentence each; [] where it passes.

    max_drop: points (percent) it may lose against float: of mIoU and of person IoU with labels,
    of agreement without; None means MAX_DROP's.
    """
    collapsed = collapse(figures)
    if collapsed:
        return [collapsed]
    allowed = MAX_DROP[figures["kind"]] if max_drop is None else max_drop
    reasons = []
    for key, title in JUDGED[figures["kind"]].items():
        drop = 100 * (float_figures[key] - figures[key])
        if drop > allowed:
            reasons.append(
                f"lost {drop:.2f} points of {title} ({100 * float_figures[key]:.2f} -> "
                f"{100 * figures[key]:.2f}), wanted at most {allowed:g}"
            )
    return reasons
