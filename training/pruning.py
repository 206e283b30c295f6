"""A narrower network that begins with a wider one's most used channels.

A channel's use is how strongly it is written times how strongly it is read: the norms of the
weights that make it and of those that take it in, batch norms folded in (the magnitude criterion
of Li et al., "Pruning filters for efficient ConvNets", ICLR 2017, arXiv 1608.08710, on both sides
of a channel). Channels that are added to one another, along a stage's residuals and where the
decoder meets the encoder, are kept or dropped together. What is left does not compute what the
wider network did; training brings most of it back in fewer steps than random weights need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_seg.errors import DatasetError
from edge_seg.training.network import PortraitNet, named

Tensors = dict[str, Tensor]
PICTURE = LOGITS = ""  # what a convolution reads or writes that is never pruned


@dataclass(frozen=True)
class _Convolution:
    """One convolution by the name of its weights; norm: its batch norm's, if it has one."""

    weight: str
    norm: str
    reads: str  # the group of channels it takes in
    writes: str  # and the one it makes


def pruned(wide: PortraitNet, narrow: PortraitNet, *, where: str = "network") -> Tensors:
    """The state of `narrow` made of `wide`'s most used channels.

    Raises DatasetError, naming `where`, where `narrow` is not `wide` with fewer channels.
    """
    found, wanted = wide.state_dict(), narrow.state_dict()
    more = [n for n in wanted if n not in found or not _fits(wanted[n], found[n])]
    if more or len(found) != len(wanted):
        raise DatasetError(
            f"{where}: wanted a network of which {named(narrow.shape)} is a part, found "
            f"{named(wide.shape)}; choose a shape as deep, with the same head (fine or not), and "
            "as narrow or narrower"
        )
    convolutions = list(_convolutions(wide))
    kept = _most_used(convolutions, found, wanted)
    state = {name: tensor.clone() for name, tensor in found.items()}
    for conv in convolutions:
        rows, columns = kept.get(conv.writes), kept.get(conv.reads)
        for name in [n for n in state if n.startswith(conv.norm)] if conv.norm else ():
            if state[name].ndim and rows is not None:
                state[name] = state[name][rows]
        weight = state[conv.weight]
        weight = weight if rows is None else weight[rows]
        state[conv.weight] = weight if columns is None else weight[:, columns]
    return state


def _fits(narrow: Tensor, wide: Tensor) -> bool:
    return narrow.shape[2:] == wide.shape[2:] and all(
        a <= b for a, b in zip(narrow.shape, wide.shape, strict=True)
    )


def _most_used(
    convolutions: list[_Convolution], found: Tensors, wanted: Tensors
) -> dict[str, Tensor]:
    """The channels to keep, in their order, by group."""
    kept: dict[str, Tensor] = {}
    for group in {conv.writes for conv in convolutions} - {LOGITS}:
        made = [conv for conv in convolutions if conv.writes == group]
        read = [conv for conv in convolutions if conv.reads == group]
        written = sum(_folded(conv, found).square().sum((1, 2, 3)) for conv in made)
        taken = sum(_folded(conv, found).square().sum((0, 2, 3)) for conv in read)
        use = torch.as_tensor(written) * torch.as_tensor(taken)
        kept[group] = use.topk(len(wanted[made[0].weight])).indices.sort().values
    return kept


def _folded(conv: _Convolution, state: Tensors) -> Tensor:
    """Its weights [out, in, height, width] with its batch norm's factor."""
    weight = state[conv.weight]
    if not conv.norm:
        return weight
    deviation = (state[conv.norm + "running_var"] + nn.BatchNorm2d(1).eps).sqrt()
    return weight * (state[conv.norm + "weight"] / deviation)[:, None, None, None]


def _convolutions(network: PortraitNet) -> Iterator[_Convolution]:
    """Every convolution of the network, with the channels it joins."""
    yield _of("stem.0", PICTURE, "stem")
    yield _of("stem.1", "stem", "stage 0")
    for level, depth in enumerate(network.shape.depths):
        at = f"stage {level}"
        first = 0 if level == 0 else 1
        if level:
            yield _of(f"stages.{level}.0", f"stage {level - 1}", at)
        for block in range(first, first + depth):
            yield from _residual(f"stages.{level}.{block}", at)
        yield _of(f"lateral.{level}", at, f"decoder {level}")
    for level in range(len(network.merge)):
        yield _of(f"narrow.{level}", f"decoder {level + 1}", f"decoder {level}")
        yield from _residual(f"merge.{level}", f"decoder {level}")
    head = "head.0.weight" if network.shape.fine else "head.weight"
    yield _Convolution(head, "", "decoder 0", LOGITS)


def _residual(name: str, channels: str) -> Iterator[_Convolution]:
    inner = f"inside {name}"
    yield _of(f"{name}.mix", channels, inner)
    yield _of(f"{name}.project", inner, channels)


def _of(name: str, reads: str, writes: str) -> _Convolution:
    """A convolution with its batch norm, as `conv_bn` makes them."""
    return _Convolution(f"{name}.0.weight", f"{name}.1.", reads, writes)
