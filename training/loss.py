"""The loss of a batch: cross-entropy against coverage, overlap, SCL and Lovasz where asked for.

Everything is computed on the grid of the logits. The target there is the share of a cell that is
person, so that the probabilities, resized bilinearly as the runtime does, cross 0.5 at the
contour.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edge_seg.metrics import IGNORE
from edge_seg.training.connectivity import connectivity_loss
from edge_seg.training.recipe import Recipe

EDGE_REACH = 2  # cells around a contour that count as edge


def to_grid(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Average uint8 planes [N, S, S] over the cells of a grid; float32 [N, 1, h, w], 0..1."""
    real = planes.unsqueeze(1).to(torch.float32) / 255
    return functional.adaptive_avg_pool2d(real, shape)


def sample_losses(logits: Tensor, target: Tensor, weight: Tensor, *, recipe: Recipe) -> Tensor:
    """Cross-entropy, plus overlap, plus SCL and Lovasz where the recipe asks for them, per sample.

    logits, target (0..1), weight (0..1): float [N, 1, h, w]. Returns [N], finite for samples of
    only background and for samples without any counted pixel (0 there).
    """
    edge = _edges(target)
    weight = torch.where(weight > 0.99, weight, torch.zeros_like(weight))
    counted = weight * (1 + recipe.edge * edge)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    total = counted.sum(dim=(1, 2, 3))
    loss = (entropy * counted).sum(dim=(1, 2, 3)) / total.clamp(min=1.0)
    probability = torch.sigmoid(logits)
    loss = loss + recipe.overlap * _overlap(probability, target, weight)
    if recipe.scl:
        label = torch.where(weight > 0, (target >= 0.5).to(torch.uint8), IGNORE)
        loss = loss + recipe.scl * connectivity_loss(probability, label)
    if recipe.lovasz:
        loss = loss + recipe.lovasz * lovasz_hinge(logits, target >= 0.5, weight > 0)
    return loss


def lovasz_hinge(logits: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """The Lovasz hinge of the person's IoU, per sample (Berman et al., CVPR 2018).

    logits: float [N, 1, h, w]; truth, counted: bool of the same size. Returns [N]: hinge errors
    1 - logit * (+1 person, -1 not), in falling order, times the growth of the Jaccard loss as
    each pixel in turn is taken for wrong. Without a person the worst counted pixel alone has any.
    """
    flat = [plane.flatten(1) for plane in (logits, truth, counted)]
    values, positive, valid = flat[0], flat[1].to(logits.dtype), flat[2]
    errors = torch.where(valid, 1 - values * (2 * positive - 1), torch.full_like(values, -1e9))
    positive = positive * valid
    errors, order = errors.sort(dim=1, descending=True)
    sorted_positive = positive.gather(1, order)
    persons = sorted_positive.sum(dim=1, keepdim=True)
    both = persons - sorted_positive.cumsum(dim=1)
    either = persons + (1 - sorted_positive).cumsum(dim=1)
    jaccard = 1 - both / either
    growth = torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)
    return (functional.relu(errors) * growth.detach()).sum(dim=1)


def _edges(target: Tensor) -> Tensor:
    high, low = _highest(target), -_highest(-target)
    return (high - low > 0.5).to(target.dtype)


def _highest(plane: Tensor) -> Tensor:
    """The highest value within EDGE_REACH; rows, then columns: half of a square's time."""
    kernel = 2 * EDGE_REACH + 1
    rows = functional.max_pool2d(plane, (1, kernel), 1, (0, EDGE_REACH))
    return functional.max_pool2d(rows, (kernel, 1), 1, (EDGE_REACH, 0))


def _overlap(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - soft IoU per sample, with 1 % of the picture added to both areas.

    The addition keeps an empty room's term, and so its gradient, small and finite.
    """
    smooth = 0.01 * target[0].numel()
    both = (probability * target * weight).sum(dim=(1, 2, 3))
    either = ((probability + target - probability * target) * weight).sum(dim=(1, 2, 3))
    return 1 - (both + smooth) / (either + smooth)
