"""Measuring a network on labelled pictures and clips, through the line a frame takes at run time.

evaluate        unrelated pictures: `metrics.Quality`
evaluate_clip   a clip with truth: `stability.Stability`, several ways of making its masks at once
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Labelled, LabelledFrame, Picture
from edge_seg.errors import DatasetError
from edge_seg.metrics import Quality
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.stability import Stability
from edge_seg.stability.figures import Figures
from edge_seg.stability.motion import LEAST_SIDE, motion_between


def evaluate(
    segmenter: EdgeSegmenter,
    pairs: Iterable[Labelled],
    *,
    progress: Callable[[int], None] | None = None,
) -> Quality:
    """Return the quality of an open segmenter on (frame, label) pairs.

    frame: uint8 (H, W, 3) in the segmenter's format; label: uint8 (H, W), 0, 1, 255 = ignored,
    of any size: the mask is made at the label's. progress: called with the pictures done.
    Raises DatasetError where there is no pair, or where every pixel of every label is ignored.
    """
    quality, done = Quality(), 0
    for frame, label in pairs:
        quality.add(segmenter.segment(frame, size=(label.shape[0], label.shape[1])), label)
        done += 1
        if progress is not None:
            progress(done)
    if not done:
        raise DatasetError("wanted labelled pictures to measure on, found none; check the list")
    if not quality.n:
        raise DatasetError(
            f"wanted labels of 0 and 1 to measure by, found {done} in which every pixel is ignored "
            "(255); check the labels"
        )
    return quality


def evaluate_clip(
    segmenters: Mapping[str, EdgeSegmenter],
    shots: Iterable[LabelledFrame],
    *,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Figures]:
    """Return the figures of each segmenter's masks on one clip, by its name.

    segmenters: in the order to show. The first makes the raw masks, against which the others' lag
    is measured: give it no smoother. They share nothing. shots: (frame, label, time) in time
    order, frame uint8 (H, W, 3), label uint8 (H, W), time in seconds; frames with a side under
    32 px have no flow, and so no `warped`. progress: called with the frames done.

    Raises DatasetError for fewer than two frames, FrameError for labels of two sizes or times that
    do not grow, or labels that ignore every pixel of the clip.
    """
    judges = {name: Stability() for name in segmenters}
    before: Picture | None = None
    done = 0
    for done, (frame, label, time) in enumerate(shots, 1):
        size = (label.shape[0], label.shape[1])
        motion = None
        if before is not None and min(frame.shape[:2]) >= LEAST_SIDE:
            motion = motion_between(before, frame)
        raw: NDArray[np.floating] | None = None
        for name, segmenter in segmenters.items():
            mask = segmenter.segment(frame, time, size=size)
            raw = mask if raw is None else raw
            judges[name].add(mask, label, time, raw=raw, motion=motion)
        before = frame
        if progress is not None:
            progress(done)
    if done < 2:
        raise DatasetError(f"wanted a clip of two frames or more, found {done}; check the folder")
    return {name: judge.figures() for name, judge in judges.items()}
