"""The loss of a batch: right answers are cheap, ignored pixels free, empty rooms finite."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from edge_seg.training.loss import sample_losses, to_grid  # noqa: E402
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
