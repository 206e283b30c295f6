"""Measuring a network is running it: the same figures as by hand, and never figures of nothing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg.arrays import Labelled
from edge_seg.bundle import ModelBundle
from edge_seg.errors import DatasetError
from edge_seg.evaluation import evaluate
from edge_seg.metrics import Quality
from edge_seg.segmenter import EdgeSegmenter, open_artifact
from edge_seg.spec import InputSpec, OutputSpec
from tests.conftest import make_fake_bundle

SIZES = ((64, 96), (240, 320), (320, 240), (90, 91))


def pair(height: int, width: int, seed: int) -> Labelled:
    """A bright box (the person) on dark noise, and its label at another size than the frame's."""
    random = np.random.default_rng(seed)
    frame = random.integers(0, 40, (2 * height, 2 * width, 3), dtype=np.uint8)
    label = np.zeros((height, width), np.uint8)
    top, left = height // 4, width // 3
    label[top:, left : left + width // 2] = 1
    frame[np.repeat(np.repeat(label, 2, 0), 2, 1) == 1] = 240
    return np.ascontiguousarray(frame[: 2 * height - 1, : 2 * width - 3]), label


@pytest.fixture
def segmenter(fake_bundle: Path) -> EdgeSegmenter:
    bundle = ModelBundle.load(fake_bundle)
    return open_artifact(bundle, bundle.named("fake-int8"))


def test_a_network_that_is_right_scores_near_one(segmenter: EdgeSegmenter) -> None:
    figures = evaluate(segmenter, [pair(*s, i) for i, s in enumerate(SIZES)]).to_dict()
    assert figures["n"] == len(SIZES)
    assert figures["miou"] > 0.9 and figures["sc"] > 0.9 and figures["boundary_f"] > 0.8
    assert figures["specks"] == 0


def test_it_is_segment_at_the_label_s_size_and_quality(segmenter: EdgeSegmenter) -> None:
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (9, 13, 3), dtype=np.uint8) for _ in SIZES]  # all contours
    pairs = [
        (cv2.resize(c, (3 * w + 1, 2 * h - 1)), pair(h, w, 0)[1])
        for c, (h, w) in zip(coarse, SIZES, strict=True)
    ]
    by_hand = Quality()
    for frame, label in pairs:
        by_hand.add(segmenter.segment(frame, size=label.shape), label)
    assert evaluate(segmenter, pairs).to_dict() == by_hand.to_dict()


def test_a_network_that_is_wrong_scores_low(tmp_path: Path) -> None:
    bundle = make_fake_bundle(tmp_path, InputSpec(64, 96, mean=(2.0, 2.0, 2.0)))  # all dark
    dark = open_artifact(bundle, bundle.named("fake-fp32"))
    figures = evaluate(dark, [pair(*s, i) for i, s in enumerate(SIZES)]).to_dict()
    assert figures["person_iou"] == 0.0 and figures["predicted_share"] == 0.0
    assert bundle.output == OutputSpec("logit", 0)


def test_progress_counts_pictures(segmenter: EdgeSegmenter) -> None:
    seen: list[int] = []
    evaluate(segmenter, [pair(*s, i) for i, s in enumerate(SIZES)], progress=seen.append)
    assert seen == [1, 2, 3, 4]


def test_no_pictures_give_no_figures(segmenter: EdgeSegmenter) -> None:
    with pytest.raises(DatasetError, match="found none"):
        evaluate(segmenter, iter(()))


def test_labels_that_ignore_every_pixel_give_no_figures(segmenter: EdgeSegmenter) -> None:
    frame, label = pair(*SIZES[0], 0)
    with pytest.raises(DatasetError, match="found 1 in which every pixel is ignored"):
        evaluate(segmenter, [(frame, np.full_like(label, 255))])
