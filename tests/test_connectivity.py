"""SCL: the worked examples, the gradient, ignored pixels, the cap."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from edge_seg import metrics  # noqa: E402
from edge_seg.training.connectivity import connectivity_loss  # noqa: E402

Box = tuple[int, int, int, int]  # row, column, height, width


def boxes(*rectangles: Box, size: int = 8) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    for row, column, height, width in rectangles:
        mask[row : row + height, column : column + width] = 1
    return mask


def loss(prediction: np.ndarray, truth: np.ndarray, **options: int | None) -> float:
    value = connectivity_loss(
        torch.from_numpy(prediction.astype(np.float64))[None],
        torch.from_numpy(truth)[None],
        **options,
    )
    return float(value[0])


G1 = boxes((2, 2, 4, 4))
G2 = boxes((3, 0, 2, 2), (3, 6, 2, 2))
SPECKS = boxes(*((0, 2 * i, 1, 1) for i in range(12)), (10, 8, 16, 16), size=32)

# Hand-made cases of the definition: predicted, true, SC.
MATCHING = {
    "T1": (G1, G1, 1.0),
    "T2": (boxes((2, 2, 4, 4), (0, 7, 1, 1)), G1, 0.5),
    "T3": (boxes((2, 2, 4, 1), (2, 4, 4, 2)), G1, 0.375),
    "T4": (boxes((3, 0, 2, 8)), G2, 0.25),
    "T5": (boxes((3, 0, 2, 2)), G2, 0.5),
    "T9": (boxes((2, 2, 2, 2), (4, 4, 2, 2)), G1, 0.5),
}
# By our rule: 1 + the paper's special value, (|P| + |G|) / |I|.
APART = {
    "T6": (boxes((0, 6, 2, 2)), boxes((2, 1, 4, 4)), 1.3125),
    "T7": (boxes(), G1, 1.25),
    "T8": (boxes((0, 0, 2, 2)), boxes(), 1.0625),
}


@pytest.mark.parametrize("name", MATCHING)
def test_the_worked_examples_of_the_paper(name: str) -> None:
    prediction, truth, score = MATCHING[name]
    assert loss(prediction, truth) == pytest.approx(1 - score, abs=1e-12)


@pytest.mark.parametrize("name", APART)
def test_where_nothing_matches_the_documented_rule_holds(name: str) -> None:
    prediction, truth, value = APART[name]
    assert loss(prediction, truth) == pytest.approx(value, abs=1e-12)


def test_two_empty_masks_cost_nothing_and_pull_nowhere() -> None:
    probability = torch.full((1, 8, 8), 0.2, requires_grad=True)
    value = connectivity_loss(probability, torch.zeros(1, 8, 8, dtype=torch.uint8))
    value.sum().backward()
    assert value.item() == 0.0
    assert not probability.grad.any()


def test_the_cap_keeps_the_largest_and_dropped_ones_still_count() -> None:
    body = boxes((10, 8, 16, 16), size=32)
    for cap in (None, 10, 1):
        assert loss(SPECKS, body, cap=cap) == pytest.approx(1 - 1 / 13, abs=1e-12)
    # With room for none, even the body is unmatched.
    assert loss(SPECKS, body, cap=0) > 1.0


def test_a_person_whose_component_was_dropped_counts_as_missed() -> None:
    truth = boxes((0, 0, 4, 4), (6, 0, 1, 1))
    assert loss(truth, truth, cap=1) == pytest.approx(1 - 1 / 3, abs=1e-12)


def test_the_cap_is_per_picture() -> None:
    body = boxes((10, 8, 16, 16), size=32)
    batch = torch.from_numpy(np.stack([SPECKS, body, SPECKS])).double()
    truth = torch.from_numpy(np.stack([body] * 3))
    values = connectivity_loss(batch, truth, cap=1).tolist()
    assert values == pytest.approx([12 / 13, 0.0, 12 / 13], abs=1e-12)


def test_hard_masks_agree_with_the_metric_on_random_pictures() -> None:
    generator = np.random.default_rng(3)
    checked = 0
    for _ in range(60):
        truth, prediction = (
            (generator.random((24, 24)) < density).astype(np.uint8)
            for density in generator.uniform(0.02, 0.5, 2)
        )
        if (truth & prediction).any():
            expected = 1 - metrics.connectivity(prediction == 1, truth == 1)
            assert loss(prediction, truth, cap=None) == pytest.approx(expected, abs=1e-9)
            checked += 1
    assert checked > 40


def test_ignored_pixels_are_out_of_both_masks() -> None:
    # A bridge over an ignored column is no bridge, and a speck on ignored pixels is no speck.
    truth = boxes((3, 0, 2, 3), (3, 5, 2, 3), (0, 0, 1, 8))
    prediction = boxes((3, 0, 2, 8), (0, 0, 1, 8))
    truth[:, 3:5] = 255
    prediction_cut = prediction.copy()
    prediction_cut[:, 3:5] = 0
    truth_cut = truth.copy()
    truth_cut[truth == 255] = 0
    assert loss(prediction, truth) == pytest.approx(loss(prediction_cut, truth_cut), abs=1e-12)
    assert loss(prediction, truth) < loss(prediction, np.where(truth == 255, 0, truth))


def test_an_ignored_pixel_has_no_gradient() -> None:
    truth = G1.copy()
    truth[0] = 255
    probability = torch.rand(1, 8, 8, dtype=torch.float64, requires_grad=True)
    connectivity_loss(probability, torch.from_numpy(truth)[None]).sum().backward()
    assert not probability.grad[0, 0].any()
    assert probability.grad[0, 1:].any()


@pytest.mark.parametrize("name", ["T1", "T2", "T3", "T4", "T5", "T9", "T6", "T7", "T8"])
def test_the_gradient_equals_finite_differences(name: str) -> None:
    prediction, truth, _ = (MATCHING | APART)[name]
    generator = np.random.default_rng(7)
    soft = np.where(
        prediction == 1,
        generator.uniform(0.6, 0.95, prediction.shape),
        generator.uniform(0.05, 0.4, prediction.shape),
    )
    probability = torch.from_numpy(soft)[None].requires_grad_(True)
    label = torch.from_numpy(truth)[None]
    connectivity_loss(probability, label).sum().backward()
    slope = probability.grad[0].numpy()
    assert np.abs(slope).max() > 1e-4
    step = 1e-6
    measured = np.empty_like(slope)
    for index in np.ndindex(soft.shape):
        ends = []
        for sign in (1, -1):
            moved = soft.copy()
            moved[index] += sign * step
            ends.append(float(connectivity_loss(torch.from_numpy(moved)[None], label)[0]))
        measured[index] = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(slope, measured, atol=1e-8)


@pytest.mark.parametrize("name", ["T2", "T5", "T6", "T7", "T8"])
def test_a_step_against_the_gradient_goes_the_right_way(name: str) -> None:
    """Specks and false persons go down, missed persons come up; nothing is pulled the other way."""
    prediction, truth, _ = (MATCHING | APART)[name]
    soft = np.where(prediction == 1, 0.7, 0.3)
    probability = torch.from_numpy(soft)[None].requires_grad_(True)
    connectivity_loss(probability, torch.from_numpy(truth)[None]).sum().backward()
    slope = probability.grad[0].numpy()
    false = (prediction == 1) & (truth == 0)
    assert (slope[false] > 0).all(), "predicted where no person is: must fall"
    assert (slope[truth == 1] <= 0).all(), "person: must never fall"
    if name in ("T5", "T6", "T7"):
        missed = (truth == 1) & (prediction == 0)
        assert (slope[missed] < 0).all(), "a missed person must rise"


def test_training_on_the_loss_alone_removes_a_speck_and_finds_a_person() -> None:
    prediction, truth = boxes((2, 2, 4, 4), (0, 7, 1, 1)), boxes((2, 2, 4, 4), (7, 0, 1, 2))
    logits = torch.from_numpy(np.where(prediction == 1, 1.0, -1.0))[None].requires_grad_(True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        connectivity_loss(torch.sigmoid(logits), torch.from_numpy(truth)[None]).sum().backward()
        optimizer.step()
    np.testing.assert_array_equal(logits.detach()[0].numpy() > 0, truth == 1)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted probability and label of one size"):
        connectivity_loss(torch.zeros(1, 8, 8), torch.zeros(1, 4, 4))
