"""The loss of a batch: right answers are cheap, ignored pixels free, empty rooms finite."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from edge_seg.training.loss import lovasz_hinge, sample_losses, to_grid  # noqa: E402
from edge_seg.training.recipe import Recipe  # noqa: E402


def grid(value: float, size: int = 16) -> torch.Tensor:
    return torch.full((1, 1, size, size), value)


def person() -> torch.Tensor:
    target = grid(0.0)
    target[:, :, 4:12, 4:12] = 1.0
    return target


def test_cells_hold_the_share_that_is_person() -> None:
    plane = torch.zeros(1, 8, 8, dtype=torch.uint8)
    plane[0, :, :3] = 255
    assert to_grid(plane, (2, 2))[0, 0].tolist() == [[0.75, 0.0], [0.75, 0.0]]


@pytest.mark.parametrize("scl", [0.0, 0.5])
def test_the_right_answer_is_the_cheapest(scl: float) -> None:
    recipe, target = Recipe(scl=scl), person()
    right = 8 * (2 * target - 1)
    losses = [
        float(sample_losses(logits, target, grid(1.0), recipe=recipe))
        for logits in (right, grid(0.0), grid(-8.0), grid(8.0), -right)
    ]
    assert losses[0] < 0.02
    assert losses[0] < min(losses[1:]) and losses[-1] == max(losses)


def test_mistakes_on_the_contour_weigh_more() -> None:
    target = person()
    far, near = 8 * (2 * target - 1), 8 * (2 * target - 1)
    far[0, 0, 0, 0], near[0, 0, 3, 8] = 8.0, 8.0
    plain = Recipe(edge=0.0, overlap=0.0)
    edged = Recipe(edge=2.0, overlap=0.0)

    def loss(logits: torch.Tensor, recipe: Recipe) -> float:
        return float(sample_losses(logits, target, grid(1.0), recipe=recipe))

    assert loss(far, plain) == pytest.approx(loss(near, plain), rel=1e-5)
    assert loss(near, edged) > 1.5 * loss(far, edged)


@pytest.mark.parametrize("scl", [0.0, 0.5])
def test_ignored_cells_have_no_gradient(scl: float) -> None:
    weight = grid(1.0)
    weight[:, :, :3] = 0.0
    logits = grid(0.3).requires_grad_(True)
    sample_losses(logits, person(), weight, recipe=Recipe(scl=scl)).sum().backward()
    assert not logits.grad[:, :, :3].any() and logits.grad[:, :, 3:].any()


@pytest.mark.parametrize("scl", [0.0, 0.5])
def test_empty_rooms_pull_down_and_pictures_without_labels_do_nothing(scl: float) -> None:
    recipe = Recipe(scl=scl)
    logits = grid(0.3).requires_grad_(True)
    room = sample_losses(logits, grid(0.0), grid(1.0), recipe=recipe)
    room.sum().backward()
    assert torch.isfinite(room).all() and (logits.grad > 0).all()
    logits = grid(0.3).requires_grad_(True)
    nothing = sample_losses(logits, grid(0.0), grid(0.0), recipe=recipe)
    nothing.sum().backward()
    assert nothing.item() == 0.0 and not logits.grad.any()


def jaccard_loss(wrong: list[int], persons: set[int]) -> float:
    """1 - IoU when just these pixels are misclassified."""
    said = persons ^ set(wrong)
    return 1 - len(said & persons) / len(said | persons) if said | persons else 0.0


def test_the_lovasz_hinge_is_its_definition() -> None:
    """Against a direct computation with Python sets, pixel by pixel."""
    torch.manual_seed(3)
    logits = torch.randn(4, 1, 3, 4) * 2
    truth = torch.rand(4, 1, 3, 4) > 0.5
    truth[2] = False
    counted = torch.rand(4, 1, 3, 4) > 0.2
    counted[3] = False
    found = lovasz_hinge(logits, truth, counted)
    for index in range(4):
        values = logits[index].flatten().tolist()
        valid = [i for i in range(12) if counted[index].flatten()[i]]
        persons = {i for i in valid if truth[index].flatten()[i]}
        errors = {i: 1 - values[i] * (1 if i in persons else -1) for i in valid}
        order = sorted(valid, key=lambda i: -errors[i])
        wanted = 0.0
        for rank, pixel in enumerate(order):
            more = jaccard_loss(order[: rank + 1], persons)
            wanted += max(errors[pixel], 0.0) * (more - jaccard_loss(order[:rank], persons))
        assert float(found[index]) == pytest.approx(wanted, abs=1e-5)


def test_the_lovasz_hinge_is_in_the_loss_when_asked_for() -> None:
    torch.manual_seed(4)
    logits, target = torch.randn(2, 1, 4, 4), (torch.rand(2, 1, 4, 4) > 0.5).float()
    weight = torch.ones_like(target)
    plain = sample_losses(logits, target, weight, recipe=Recipe())
    more = sample_losses(logits, target, weight, recipe=Recipe(lovasz=0.5))
    wanted = plain + 0.5 * lovasz_hinge(logits, target >= 0.5, weight > 0)
    torch.testing.assert_close(more, wanted)
