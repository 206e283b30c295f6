"""SCL, the loss that counts pieces: 1 - SC of PP-HumanSeg (WACV-W 2022), differentiable.

Components (8-connected) and their matching come from the hard mask, probability >= 0.5, without a
gradient; areas come from the probabilities s. On a mask of only 0 and 1 the value is exactly
1 - SC. Where SC's own areas would give no gradient, terms that vanish on such a mask do:

    matched pair (g, p)        IoU = I / (|p| + |g| - I), I = sum of s over g and p, |p| = sum of s
    true component unmatched   c = mean of s over g (0 on a hard mask): pulls s up
    predicted one unmatched    counts mean of s over p (1 on a hard mask): pulls s down
    nothing matches at all     1 + (sum of 1 - s over G, of s over P outside G) / counted pixels
    both masks empty           0

The fourth line is the paper's special value, (|P| + |G|) / |I|, on hard masks, but pulls the
missed person up instead of down, and stands above every loss with a match. Ignored pixels are
taken out of both masks before labelling.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_seg.metrics import IGNORE

CAP = 10  # the official code's limit on predicted components (PaddleSeg)

Indices = NDArray[np.signedinteger]


@dataclass(frozen=True)
class _Pieces:
    """The components of a batch of masks, numbered from 1 through all its pictures."""

    labels: NDArray[np.int32]  # (N * H * W,): 0 outside
    owner: Indices  # (count + 1,): the picture of each component; owner[0] means nothing
    area: Indices  # (count + 1,): pixels

    @property
    def count(self) -> int:
        return len(self.owner) - 1


def connectivity_loss(probability: Tensor, label: Tensor, *, cap: int | None = CAP) -> Tensor:
    """Return the loss of every picture, [N]; in [0, 1] where anything matches.

    probability: float [N, H, W] or [N, 1, H, W], 0..1. label: integers of the same size, 0, 1,
    255 = ignore. cap: at most so many predicted components of a picture are matched, the largest
    first (ties: the one OpenCV labels first); those dropped count as unmatched, so that many specks
    never look better than few. None: no limit. Raises ValueError when the shapes differ.
    """
    if probability.ndim == 4 and probability.shape[1] == 1:
        probability = probability.squeeze(1)
    label = label.squeeze(1) if label.ndim == 4 and label.shape[1] == 1 else label
    if probability.ndim != 3 or probability.shape != label.shape:
        raise ValueError(
            f"wanted probability and label of one size [N, H, W], found "
            f"{tuple(probability.shape)} and {tuple(label.shape)}; resize one of them"
        )
    truth_np = label.detach().cpu().numpy()
    hard = probability.detach().cpu().numpy() >= 0.5
    predicted = _pieces(hard & (truth_np != IGNORE))
    true = _pieces(truth_np == 1)
    valid = np.count_nonzero(truth_np != IGNORE, axis=(1, 2))
    return _loss(probability.reshape(-1), predicted, true, cap=cap, valid=valid)


def _pieces(masks: NDArray[np.bool_]) -> _Pieces:
    labels = np.zeros(masks.shape, np.int32)
    owners, total = [np.zeros(1, np.int64)], 0
    for index, mask in enumerate(masks):
        found, plane = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        np.add(plane, total, out=labels[index], where=mask)
        owners.append(np.full(found - 1, index, np.int64))
        total += found - 1
    flat = labels.reshape(-1)
    return _Pieces(flat, np.concatenate(owners), np.bincount(flat, minlength=total + 1))


def _kept(pieces: _Pieces, cap: int | None) -> NDArray[np.bool_]:
    """Which components (0 included, as False) are among the `cap` largest of their picture."""
    kept = np.ones(pieces.count + 1, bool)
    kept[0] = False
    if cap is None or pieces.count <= cap:
        return kept
    order = np.lexsort((-pieces.area[1:], pieces.owner[1:])) + 1  # stable: ties keep their order
    starts = np.searchsorted(pieces.owner[order], pieces.owner[order], side="left")
    kept[order[np.arange(pieces.count) - starts >= cap]] = False
    return kept


def _loss(
    s: Tensor, predicted: _Pieces, true: _Pieces, *, cap: int | None, valid: Indices
) -> Tensor:
    pictures = len(valid)
    p, g = predicted.labels, true.labels
    pair_of, both, pair_g, pair_p = _pairs(predicted, true, _kept(predicted, cap))
    inside = np.flatnonzero(p)
    soft_p = _sums(_at(s, inside), p[inside], predicted.count + 1)
    # Outside P: a dropped component must not make its person look found.
    missed = np.flatnonzero((g > 0) & (p == 0))
    soft_g = _sums(_at(s, missed), g[missed], true.count + 1)
    inter = _sums(_at(s, both), pair_of, len(pair_g))
    area_g = _const(true.area, s)
    iou = inter / (_at(soft_p, pair_p) + _at(area_g, pair_g) - inter)

    matches = np.bincount(pair_g, minlength=true.count + 1)
    own = _sums(iou, pair_g, true.count + 1) / _const(np.maximum(matches, 1), s)
    near = soft_g / area_g.clamp(min=1)
    score = torch.where(_const(matches, s) > 0, own, near)[1:]
    lone = np.bincount(pair_p, minlength=predicted.count + 1)[1:] == 0
    share = soft_p / _const(predicted.area, s).clamp(min=1)
    weight = _at(share, np.flatnonzero(lone) + 1)

    groups = _const(np.bincount(true.owner[1:], minlength=pictures), s)
    isolated = _sums(weight, predicted.owner[1:][lone], pictures)
    connected = _sums(score, true.owner[1:], pictures) / (groups + isolated).clamp(min=1e-9)

    matched = np.bincount(true.owner[pair_g], minlength=pictures) > 0
    present = np.bincount(true.owner[1:], minlength=pictures) > 0
    present |= np.bincount(predicted.owner[1:], minlength=pictures) > 0
    loss = torch.where(_flags(matched, s), 1 - connected, torch.zeros_like(connected))
    if (present & ~matched).any():
        apart = 1 + _disagreement(s, p, g, pictures=pictures) / _const(np.maximum(valid, 1), s)
        loss = torch.where(_flags(present & ~matched, s), apart, loss)
    return loss


def _pairs(
    predicted: _Pieces, true: _Pieces, kept: NDArray[np.bool_]
) -> tuple[Indices, Indices, Indices, Indices]:
    """The matched pairs: (pair of each shared pixel, shared pixels, true of pair, predicted)."""
    p, g = predicted.labels, true.labels
    both = np.flatnonzero((g > 0) & (p > 0))
    both = both[kept[p[both]]]
    width = predicted.count + 1
    keys = g[both].astype(np.int64) * width + p[both]
    if (true.count + 1) * width > 1 << 22:  # a table of all pairs would be too large
        pairs, pair_of = np.unique(keys, return_inverse=True)
        return pair_of.reshape(-1), both, pairs // width, pairs % width
    present = np.bincount(keys, minlength=1) > 0
    pairs = np.flatnonzero(present)
    return (np.cumsum(present) - 1)[keys], both, pairs // width, pairs % width


def _disagreement(s: Tensor, p: Indices, g: Indices, *, pictures: int) -> Tensor:
    """Per picture: sum of 1 - s over G, plus sum of s over P outside G."""
    missed = torch.where(_flags(g > 0, s), 1 - s, torch.zeros_like(s))
    false = torch.where(_flags((p > 0) & (g == 0), s), s, torch.zeros_like(s))
    return (missed + false).reshape(pictures, -1).sum(dim=1)


def _at(values: Tensor, index: Indices) -> Tensor:
    return values.index_select(0, _on(index, values))


def _sums(values: Tensor, index: Indices, size: int) -> Tensor:
    """Sum values by index."""
    return values.new_zeros(size).index_add(0, _on(index, values), values)


def _on(index: Indices, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(index)).to(like.device)


def _flags(mask: NDArray[np.bool_], like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(mask)).to(like.device)


def _const(values: Indices, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, like.dtype)
