"""A larger network that begins where a smaller one stands: the same function, more room to learn.

What the two share is copied. New channels get random weights of their own and are read by nobody
yet: every weight from a new channel to an old one is zero (Net2Net's idea, Chen et al. 2016,
arXiv 1511.05641, without its copies, which noise would have to tell apart). A fine head begins as
the bilinear enlargement of the old head's logits, which is what the runtime would have made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_seg.errors import DatasetError
from edge_seg.training.network import FINE, PortraitNet, named

Tensors = dict[str, Tensor]


def grown(small: PortraitNet, large: PortraitNet, *, where: str = "network") -> Tensors:
    """The state of `large` that computes what `small` does (exactly, but for the outermost cells).

    Raises DatasetError, naming `where`, when `small` does not fit into `large`.
    """
    old, new = small.state_dict(), large.state_dict()
    if large.shape.fine and not small.shape.fine:
        old["head.0.weight"], old["head.0.bias"] = _enlarging(
            old.pop("head.weight"), old.pop("head.bias")
        )
    lost = sorted(set(old) - set(new))
    unlike = (
        lost or [n for n, t in old.items() if not _fits(t, new[n])] or sorted(set(new) - set(old))
    )
    if unlike:
        raise DatasetError(
            f"{where}: wanted a network that fits into {named(large.shape)}, found "
            f"{named(small.shape)} ({unlike[0]} does not); choose a shape as deep, with a head as "
            "fine or finer, and as wide or wider"
        )
    return {name: _embedded(tensor.to(new[name]), new[name]) for name, tensor in old.items()}


def _fits(small: Tensor, large: Tensor) -> bool:
    pairs = zip(small.shape, large.shape, strict=False)
    same_kernel = small.shape[2:] == large.shape[2:]
    return small.ndim == large.ndim and same_kernel and all(a <= b for a, b in pairs)


def _embedded(small: Tensor, large: Tensor) -> Tensor:
    """`small` in the first corner of `large`; old outputs do not see new inputs."""
    out = large.clone()
    if small.ndim == 0:
        out.copy_(small)
        return out
    rows = len(small)
    if small.ndim > 1:
        out[:rows] = 0
        out[:rows, : small.shape[1]] = small
    else:
        out[:rows] = small
    return out


def _enlarging(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A 1x1 head [1, C, 1, 1] as a 3x3 one [4, C, 3, 3] whose 2x2 outputs interpolate bilinearly.

    At twice the resolution a sample lies a quarter of a cell from the cell's centre: 3/4 of its
    value is the cell's, 1/4 the neighbour's on that side.
    """
    near = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.75, 0.25]])  # of the first and second sample
    kernels = torch.einsum("ay,bx->abyx", near, near).reshape(FINE * FINE, 1, 3, 3)
    return weight * kernels.to(weight), bias.repeat(FINE * FINE)
