"""Measuring a network on labelled pictures, through the very line a frame takes at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import DatasetError
from edge_seg.metrics import Quality
from edge_seg.segmenter import EdgeSegmenter

Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def evaluate(
    segmenter: EdgeSegmenter,
    pairs: Iterable[Labelled],
    *,
    progress: Callable[[int], None] | None = None,
) -> Quality:
    """Return the quality of an open segmenter on (frame, label) pairs.

    frame: uint8 (H, W, 3) in the segmenter's format; label: uint8 (H, W), 0, 1, 255 = ignored,
    of any size: the mask is made at the label's. progress: called with the pictures done.
    Raises DatasetError where there is not one pair: figures of nothing would pass every gate.
    """
    quality = Quality()
    for frame, label in pairs:
        quality.add(segmenter.segment(frame, size=(label.shape[0], label.shape[1])), label)
        if progress is not None:
            progress(quality.n)
    if not quality.n:
        raise DatasetError("wanted labelled pictures to measure on, found none; check the list")
    return quality
