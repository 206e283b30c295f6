"""The gate: an artifact is measured against float on frames calibration never saw, and refused
where it lost too much or collapsed.

With labels the figures are quality (mIoU ...). Without, they are *agreement*: the float network's
own mask is taken for the truth, which says nothing about whether that network is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg.evaluation import Labelled, evaluate
from edge_seg.metrics import THRESHOLD
from edge_seg.segmenter import EdgeSegmenter

LABELS, AGREEMENT = "labels", "agreement"
LEAST_AGREEMENT = 0.95  # person IoU with the float network's own mask
COLLAPSED_IOU = 0.10  # a network this far from the truth sees nothing


@dataclass(frozen=True)
class Exam:
    """What artifacts are measured on. name: of the list; kind: "labels" or "agreement"."""

    pairs: list[Labelled] = field(repr=False)
    kind: str
    name: str
    sha256: str = ""

    def take(self, segmenter: EdgeSegmenter) -> dict[str, Any]:
        """Return the figures of an open segmenter, with what they were measured on."""
        figures: dict[str, Any] = dict(evaluate(segmenter, self.pairs).to_dict())
        return {"kind": self.kind, "on": self.name, "on_sha256": self.sha256, **figures}


def exam_from_float(segmenter: EdgeSegmenter, frames: list[NDArray[np.uint8]], name: str) -> Exam:
    """Return an exam whose truth is the float network's own masks, at the frames' size."""
    return Exam(list(_own_masks(segmenter, frames)), AGREEMENT, name)


def _own_masks(segmenter: EdgeSegmenter, frames: list[NDArray[np.uint8]]) -> Iterator[Labelled]:
    for frame in frames:
        yield frame, (segmenter.segment(frame) >= THRESHOLD).astype(np.uint8)


def collapse(figures: dict[str, Any]) -> str:
    """Return a sentence where a network sees one class everywhere, "" where it does not."""
    if figures["true_share"] == 0 or figures["person_iou"] >= COLLAPSED_IOU:
        return ""
    seen, true = figures["predicted_share"], figures["true_share"]
    what = "background" if seen < true / 2 else "person" if seen > (1 + true) / 2 else "noise"
    return (
        f"collapsed: it sees {what} everywhere (person in {seen:.1%} of pixels, truth {true:.1%}; "
        f"person IoU {figures['person_iou']:.3f})"
    )


def verdict(float_figures: dict[str, Any], figures: dict[str, Any], max_drop: float) -> list[str]:
    """Return why an artifact is refused, one sentence each; [] where it passes.

    max_drop: points (percent) of mIoU and of person IoU it may lose against float.
    """
    collapsed = collapse(figures)
    if collapsed:
        return [collapsed]
    if figures["kind"] == AGREEMENT:
        agreement = figures["person_iou"]
        if agreement < LEAST_AGREEMENT:
            return [f"agrees with float on {agreement:.1%} of the person, wanted 95 % or more"]
        return []
    reasons = []
    for key, title in (("miou", "mIoU"), ("person_iou", "person IoU")):
        drop = 100 * (float_figures[key] - figures[key])
        if drop > max_drop:
            reasons.append(
                f"lost {drop:.2f} points of {title} ({100 * float_figures[key]:.2f} -> "
                f"{100 * figures[key]:.2f}), wanted at most {max_drop:g}"
            )
    return reasons
