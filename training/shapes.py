"""The networks that a recipe's `shape` names: ours, and the published PP-HumanSegV1-Lite."""

from __future__ import annotations

from edge_seg.errors import DatasetError
from edge_seg.training import pphumanseg
from edge_seg.training.network import SHAPES, PortraitNet
from edge_seg.training.pphumanseg import PPHumanSegV1Lite

Network = PortraitNet | PPHumanSegV1Lite
NAMES = (*SHAPES, pphumanseg.NAME)


def network_of(shape: str) -> Network:
    """Build the network of that name, with random weights. Raises DatasetError for another name."""
    if shape not in NAMES:
        raise DatasetError(
            f"wanted a network shape, one of {', '.join(NAMES)}, found {shape!r}; choose one of "
            "those"
        )
    return PPHumanSegV1Lite() if shape == pphumanseg.NAME else PortraitNet(shape)
