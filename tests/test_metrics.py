"""Every figure against hand-made cases, scipy.ndimage, or a slow reading of its definition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from edge_seg import metrics
from edge_seg.errors import FrameError

Binary = NDArray[np.bool_]
EIGHT = np.ones((3, 3))

pictures = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))
pairs = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape))
)
labelled = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.bool_, shape),
        hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255])),
    )
)


def blocks(*boxes: tuple[int, int, int, int], size: int = 8) -> Binary:
    """A picture of boxes (row, column, height, width)."""
    picture = np.zeros((size, size), bool)
    for row, column, height, width in boxes:
        picture[row : row + height, column : column + width] = True
    return picture


def label_of(truth: Binary) -> NDArray[np.uint8]:
    return truth.astype(np.uint8)


# --- areas ---------------------------------------------------------------------------------------


@given(labelled)
def test_areas_are_the_confusion_matrix_counted_pixel_by_pixel(
    case: tuple[Binary, NDArray[np.uint8]],
) -> None:
    prediction, label = case
    counts = np.zeros((2, 2), int)  # [true, predicted]
    for y in range(label.shape[0]):
        for x in range(label.shape[1]):
            if label[y, x] != 255:
                counts[label[y, x], int(prediction[y, x])] += 1
    areas = metrics.Areas()
    areas.add(prediction, label)
    assert (areas.both, areas.only_predicted) == (counts[1, 1], counts[0, 1])
    assert (areas.only_true, areas.neither) == (counts[1, 0], counts[0, 0])
    assert areas.counted == counts.sum()
    unions = [counts[c].sum() + counts[:, c].sum() - counts[c, c] for c in (0, 1)]
    ious = [counts[c, c] / unions[c] if unions[c] else 1.0 for c in (0, 1)]
    assert areas.person_iou == pytest.approx(ious[1])
    assert areas.miou == pytest.approx(sum(ious) / 2)


def test_miou_sums_areas_over_the_set_and_does_not_average_pictures() -> None:
    areas = metrics.Areas()
    areas.add(blocks((0, 0, 8, 8)), label_of(blocks((0, 0, 8, 8))))  # 64 right
    areas.add(blocks(), label_of(blocks((0, 0, 1, 1))))  # 1 missed, 63 background
    assert areas.person_iou == pytest.approx(64 / 65)
    assert areas.miou == pytest.approx((64 / 65 + 63 / 64) / 2)
    assert areas.true_share == pytest.approx(65 / 128)
    assert areas.predicted_share == pytest.approx(64 / 128)


def test_an_empty_room_seen_empty_is_perfect() -> None:
    areas = metrics.Areas()
    areas.add(blocks(), label_of(blocks()))
    assert areas.person_iou == areas.miou == 1.0


def test_ignored_pixels_do_not_count() -> None:
    label = label_of(blocks((2, 2, 4, 4)))
    label[:, :2] = 255
    wrong_there = blocks((2, 2, 4, 4)) | blocks((0, 0, 8, 2))
    areas = metrics.Areas()
    areas.add(wrong_there, label)
    assert areas.miou == 1.0 and areas.both + areas.neither == 48


@given(pairs)
def test_iou_is_counted_by_sets(case: tuple[Binary, Binary]) -> None:
    a, b = ({tuple(p) for p in np.argwhere(x)} for x in case)
    assert metrics.iou(*case) == pytest.approx(len(a & b) / len(a | b) if a | b else 1.0)


def test_sizes_that_differ_are_refused() -> None:
    measures: list[Callable[[], object]] = [
        lambda: metrics.Areas().add(np.zeros((4, 4), bool), np.zeros((4, 5), np.uint8)),
        lambda: metrics.boundary_f(np.zeros((4, 4), bool), np.zeros((5, 4), np.uint8)),
    ]
    for measure in measures:
        with pytest.raises(FrameError, match="one size"):
            measure()


# --- the threshold -------------------------------------------------------------------------------


def test_a_mask_is_enlarged_and_then_thresholded_at_half() -> None:
    mask = np.array([[0.0, 1.0]], np.float32)
    # Bilinear, half-pixel centres: 0, 1/8, 3/8, 5/8, 7/8, 1 would be at 1x8; here 0 .25 .75 1.
    assert metrics.binary(mask, (1, 4)).tolist() == [[False, False, True, True]]
    timid = mask * np.float32(0.6)  # 0, 0.15, 0.45 and 0.6: not the nearest pixel's
    assert metrics.binary(timid, (1, 4)).tolist() == [[False, False, False, True]]
    assert metrics.binary(np.array([[0.5, np.nextafter(0.5, 0)]]), (1, 2)).tolist() == [
        [True, False]
    ]


def test_half_precision_is_resized_like_any_float() -> None:
    mask = np.array([[0.0, 1.0]])
    assert metrics.binary(mask.astype(np.float16), (1, 4)).tolist() == [[False, False, True, True]]


def test_bytes_are_refused_because_all_would_be_people() -> None:
    with pytest.raises(FrameError, match="0..1"):
        metrics.binary(np.full((4, 4), 3, np.uint8), (4, 4))


def test_so_are_bytes_made_floats_and_logits() -> None:
    timid = np.array([[-0.7, 0.9]]), np.array([[0.1, 1.7]])  # logits of an unsure network
    for wrong in (np.array([[0.0, 255.0]]), np.array([[-8.0, 4.0]], np.float16), *timid):
        with pytest.raises(FrameError, match="by 255, and put logits through a sigmoid"):
            metrics.binary(wrong, (1, 2))
    overshot = np.array([[-0.1, 1.1]])  # a cubic enlargement does
    assert metrics.binary(overshot, (1, 2)).tolist() == [[False, True]]


# --- boundary ------------------------------------------------------------------------------------


def contour_by_scipy(region: Binary) -> Binary:
    return np.asarray(region & ~ndimage.binary_erosion(region, EIGHT, border_value=1))


def boundary_f_by_distance(prediction: Binary, truth: Binary, reach: NDArray[np.bool_]) -> float:
    """Boundary F by looking, for each contour pixel, for one of the other's within reach."""
    predicted, true = contour_by_scipy(prediction), contour_by_scipy(truth)
    if not predicted.any() or not true.any():
        return 1.0 if predicted.any() == true.any() else 0.0
    radius = reach.shape[0] // 2

    def hits(points: Binary, others: Binary) -> float:
        found = 0
        for y, x in np.argwhere(points):
            for v, u in np.argwhere(others):
                dy, dx = v - y, u - x
                if max(abs(dy), abs(dx)) <= radius and reach[dy + radius, dx + radius]:
                    found += 1
                    break
        return found / int(points.sum())

    precision, recall = hits(predicted, true), hits(true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


# An ellipse of radius 3 in a 7x7 box, as OpenCV draws it, written out.
DISK = np.array(
    [
        [0, 0, 0, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 1, 0, 0, 0],
    ],
    bool,
)


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_boundary_f_is_what_looking_for_neighbours_gives(case: tuple[Binary, Binary]) -> None:
    prediction, truth = case
    wanted = boundary_f_by_distance(prediction, truth, DISK)
    assert metrics.boundary_f(prediction, label_of(truth)) == pytest.approx(wanted)


def test_boundary_f_of_known_cases() -> None:
    square = blocks((10, 10, 20, 20), size=60)
    label = label_of(square)
    assert metrics.boundary_f(square, label) == 1.0
    assert metrics.boundary_f(blocks((13, 10, 20, 20), size=60), label) == 1.0  # 3 px: within
    assert metrics.boundary_f(blocks((40, 40, 10, 10), size=60), label) == 0.0
    shifted = metrics.boundary_f(blocks((18, 10, 20, 20), size=60), label)
    assert 0.3 < shifted < 0.9
    assert metrics.boundary_f(blocks(size=60), label_of(blocks(size=60))) == 1.0
    assert metrics.boundary_f(square, label_of(blocks(size=60))) == 0.0
    assert metrics.boundary_f(blocks(size=60), label) == 0.0


def test_the_picture_s_border_is_no_contour() -> None:
    cut_off = blocks((0, 0, 60, 30), size=60)
    assert int(metrics._boundary(cut_off).sum()) == 60


# --- connectivity --------------------------------------------------------------------------------

G1 = blocks((2, 2, 4, 4))
G2 = blocks((3, 0, 2, 2), (3, 6, 2, 2))
EMPTY = blocks()
# Hand-made cases of SC: id -> (prediction, truth, SC). T7, T8 by our rule: exactly one empty = 0.
VECTORS: dict[str, tuple[Binary, Binary, float]] = {
    "T1": (G1, G1, 1.0),
    "T2": (G1 | blocks((0, 7, 1, 1)), G1, 0.5),
    "T3": (blocks((2, 2, 4, 1), (2, 4, 4, 2)), G1, 0.375),
    "T4": (blocks((3, 0, 2, 8)), G2, 0.25),
    "T5": (blocks((3, 0, 2, 2)), G2, 0.5),
    "T6": (blocks((0, 6, 2, 2)), blocks((2, 1, 4, 4)), 0.0),
    "T7": (EMPTY, G1, 0.0),
    "T8": (blocks((0, 0, 2, 2)), EMPTY, 0.0),
    "T9": (blocks((2, 2, 2, 2), (4, 4, 2, 2)), G1, 0.5),
    "both empty": (EMPTY, EMPTY, 1.0),
    "cap": (
        blocks(*[(0, 2 * i, 1, 1) for i in range(12)], (10, 8, 16, 16), size=32),
        blocks((10, 8, 16, 16), size=32),
        1 / 13,
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_papers_vectors(name: str) -> None:
    prediction, truth, wanted = VECTORS[name]
    assert metrics.connectivity(prediction, truth) == pytest.approx(wanted)


def connectivity_by_the_book(prediction: Binary, truth: Binary) -> float:
    """The definition of SC, read aloud: components by scipy, a loop per pair."""
    true, n = ndimage.label(truth, EIGHT)
    predicted, m = ndimage.label(prediction, EIGHT)
    if not n or not m:
        return 1.0 if n == m else 0.0
    total, matched_predictions = 0.0, set()
    for i in range(1, n + 1):
        ious = []
        for j in range(1, m + 1):
            g, p = true == i, predicted == j
            if (g & p).any():
                ious.append((g & p).sum() / (g | p).sum())
                matched_predictions.add(j)
        total += sum(ious) / len(ious) if ious else 0.0
    return total / (n + m - len(matched_predictions))


@settings(max_examples=200, deadline=None)
@given(pairs)
def test_connectivity_is_the_definition_read_aloud(case: tuple[Binary, Binary]) -> None:
    assert metrics.connectivity(*case) == pytest.approx(connectivity_by_the_book(*case))


@given(pictures)
def test_components_are_scipy_s(picture: Binary) -> None:
    count, labels = metrics.components(picture)
    wanted_labels, wanted = ndimage.label(picture, EIGHT)
    assert count == wanted
    assert np.array_equal(labels > 0, wanted_labels > 0)
    assert len(set(zip(labels[picture], wanted_labels[picture], strict=True))) == count


# --- cleaning and specks -------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(pictures, st.sampled_from([0.02, 0.1, 0.3]))
def test_cleaning_drops_small_components_then_small_holes(picture: Binary, share: float) -> None:
    def large_only(region: Binary) -> Binary:
        labels, count = ndimage.label(region, EIGHT)
        kept = np.zeros_like(region)
        for i in range(1, count + 1):
            if (labels == i).sum() >= share * region.size:
                kept |= labels == i
        return kept

    wanted = ~large_only(~large_only(picture))
    assert np.array_equal(metrics.clean(picture, share=share), wanted)


def test_cleaning_keeps_what_is_at_least_5e_4_of_the_picture() -> None:
    size = 200  # 5e-4 of 40,000 px = 20 px
    truth = blocks((50, 50, 80, 80), (0, 0, 4, 5), (0, 100, 1, 19), size=size)
    truth[60:64, 60:65] = False  # a hole of 20 px stays
    truth[80, 60:79] = False  # one of 19 px is filled
    cleaned = metrics.clean(truth)
    assert cleaned[0, 0] and not cleaned[0, 100]
    assert not cleaned[60, 60] and cleaned[80, 60]


def test_specks_are_counted() -> None:
    size = 200
    truth = blocks((50, 50, 80, 80), size=size)
    prediction = blocks(
        *[(50, 50, 80, 80), (0, 0, 3, 7), (0, 50, 4, 5), (190, 190, 9, 9)], size=size
    )
    # 3x7 = 21 px and 9x9 are specks, 4x5 = 20 px is not over 5e-4, the body touches the person.
    assert metrics.specks(prediction, truth) == 2
    assert metrics.specks(truth, truth) == 0
    assert metrics.specks(EMPTY, EMPTY) == 0


# --- a collapse ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "true", "told"),
    [
        (0.6, 0.4, "does not follow the person"),
        (0.4, 0.6, "does not follow the person"),
        (0.96, 0.4, "sees person everywhere"),
        (0.04, 0.4, "sees background everywhere"),
    ],
)
def test_noise_is_called_what_it_looks_like(seen: float, true: float, told: str) -> None:
    noise = np.random.default_rng(0).random((100, 100)) < seen
    truth = np.zeros((100, 100), bool)
    truth[:, : round(100 * true)] = True
    quality = metrics.Quality()
    quality.add(noise.astype(np.float32), label_of(truth))
    assert told in metrics.collapse(quality.to_dict())


def test_five_points_of_miou_over_chance_are_no_collapse() -> None:
    # Half of the picture anywhere, of a truth of half: a quarter of it is right, of three quarters.
    found = {"predicted_share": 0.5, "true_share": 0.5, "person_iou": 0.4}
    assert metrics.collapse({**found, "miou": 1 / 3 + 0.049}).startswith("collapsed")
    assert metrics.collapse({**found, "miou": 1 / 3 + 0.051}) == ""


# --- a set ---------------------------------------------------------------------------------------


def test_quality_gathers_pictures() -> None:
    quality = metrics.Quality()
    truth = blocks((20, 20, 40, 40), size=100)
    quality.add(truth.astype(np.float32), label_of(truth))
    quality.add(blocks((0, 0, 10, 10), size=100).astype(np.float32), label_of(blocks(size=100)))
    figures = quality.to_dict()
    assert quality.n == figures["n"] == 2
    assert figures["person_iou"] == pytest.approx(1600 / 1700)
    assert figures["miou"] == pytest.approx((1600 / 1700 + 18300 / 18400) / 2)
    assert figures["boundary_f"] == pytest.approx(0.5)
    assert figures["sc"] == pytest.approx(0.5)
    assert figures["specks"] == pytest.approx(0.5)
    assert figures["predicted_share"] == pytest.approx(1700 / 20000)
    assert figures["true_share"] == pytest.approx(1600 / 20000)


def test_quality_ignores_what_the_label_ignores() -> None:
    label = label_of(blocks((20, 20, 40, 40), size=100))
    label[30:32, 30:32] = 255  # four pixels inside the person: under 5e-4, so cleaning fills them
    label[:, 80:] = 255
    mask = np.zeros((100, 100), np.float32)
    mask[20:60, 20:60] = 1
    mask[30:32, 30:32] = 0  # wrong only where nobody looks
    mask[:, 90:] = 1
    quality = metrics.Quality()
    quality.add(mask, label)
    figures = quality.to_dict()
    assert figures["miou"] == figures["sc"] == figures["boundary_f"] == 1.0
    assert figures["specks"] == 0


def test_the_share_of_wrong_pixels_is_of_those_that_count_and_none_where_none_do() -> None:
    label = label_of(blocks((0, 0, 100, 25), size=100))
    label[:, 50:] = 255
    quality = metrics.Quality()
    quality.add(np.zeros((100, 100), np.float32), label)
    quality.add(np.zeros((100, 100), np.float32), np.full((100, 100), 255, np.uint8))
    quality.add(np.ones((100, 100), np.float32), label)
    assert quality.wrong == [0.5, None, 0.5]
    assert quality.areas.predicted_share == 0.5 == quality.areas.true_share


def test_specks_and_contours_where_nobody_looks_do_not_count() -> None:
    """A person seen in an ignored part, and a small ignored hole inside of a true one."""
    label = label_of(blocks((20, 20, 40, 40), size=100))
    label[:, 70:] = 255
    label[40:42, 40:42] = 255
    mask = np.zeros((100, 100), np.float32)
    mask[20:60, 20:60] = 1
    mask[40:42, 40:42] = 0
    mask[5:25, 80:95] = 1  # a speck
    quality = metrics.Quality()
    quality.add(mask, label)
    figures = quality.to_dict()
    assert (figures["specks"], figures["sc"], figures["boundary_f"]) == (0, 1, 1)


def test_a_picture_of_ignored_pixels_alone_is_not_counted() -> None:
    truth = blocks((20, 20, 40, 40), size=100)
    quality = metrics.Quality()
    quality.add(np.zeros((100, 100), np.float32), label_of(truth))
    quality.add(truth.astype(np.float32), np.full((100, 100), 255, np.uint8))
    figures = quality.to_dict()
    assert quality.n == len(quality.sc) == 1
    assert figures["boundary_f"] == figures["sc"] == figures["person_iou"] == 0


def test_quality_takes_masks_of_another_size() -> None:
    truth = blocks((16, 16, 32, 32), size=64)
    quality = metrics.Quality()
    small = truth.reshape(16, 4, 16, 4).mean(axis=(1, 3)).astype(np.float32)
    quality.add(small, label_of(truth))
    assert quality.to_dict()["miou"] > 0.97


def test_empty_rooms() -> None:
    mean, alarms = metrics.empty_rooms([0.0, 0.01, 0.011, 0.5])
    assert mean == pytest.approx(0.521 / 4)
    assert alarms == 0.5  # more than 1 %, not exactly 1 %
    with pytest.raises(FrameError, match="none"):
        metrics.empty_rooms([])


def test_a_contour_two_pixels_beside_is_found_within_three_and_not_within_one() -> None:
    label, beside = np.zeros((60, 80), np.uint8), np.zeros((60, 80), bool)
    label[20:40, 20:60], beside[18:42, 18:62] = 1, True
    assert metrics.boundary_f(beside, label) == 1.0
    assert metrics.boundary_f(beside, label, radius=1) == 0.0
