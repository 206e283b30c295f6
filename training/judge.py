"""Judging a network in training, through the pixels of the runtime and the package's metrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_seg import pixels
from edge_seg.arrays import Picture
from edge_seg.calibration.dataset import Pair, load_image, load_pair
from edge_seg.errors import DatasetError
from edge_seg.metrics import Quality, binary, empty_rooms
from edge_seg.training.network import input_spec, to_input


class Judge:
    """Judges a network on labelled pictures, and on empty rooms where there are any.

    Called with (network, side) it returns fractions: miou, person_iou, boundary_f, sc, specks,
    and, with rooms, room_share and room_alarms.
    """

    def __init__(self, pairs: list[Pair], rooms: list[Path]) -> None:
        if not pairs:
            raise DatasetError(
                "wanted labelled pictures to judge on, found none; every line of val.txt needs a "
                "label"
            )
        self._pairs, self._rooms = pairs, rooms
        # What is broken is said before training, not at the first judgement.
        people = sum(bool((load_pair(pair)[1] == 1).any()) for pair in pairs)
        if not people:  # to see nobody anywhere would be the best of networks
            raise DatasetError(
                f"wanted people in the labels judged on, found none in the {len(pairs)}, first: "
                f"{pairs[0].label}; name pictures with people in val.txt"
            )
        for path in rooms:
            load_image(path)

    def __call__(self, network: nn.Module, side: int) -> dict[str, float]:
        quality = Quality()
        for frame, label in map(load_pair, self._pairs):  # a large set does not fit into memory
            quality.add(self._mask(network, frame, side, label.shape), label)
        wanted = ("miou", "person_iou", "boundary_f", "sc", "specks")
        figures = {name: float(quality.to_dict()[name]) for name in wanted}
        if self._rooms:
            rooms = map(load_image, self._rooms)
            masks = (self._mask(network, room, side, room.shape[:2]) for room in rooms)
            shares = [float(binary(mask, mask.shape).mean()) for mask in masks]
            figures["room_share"], figures["room_alarms"] = empty_rooms(shares)
        return figures

    def _mask(
        self, network: nn.Module, frame: Picture, side: int, size: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """The soft mask at `size`, exactly as the runtime makes it."""
        spec = input_spec(side)
        picture, placement = pixels.prepare(frame, spec)
        device = next(network.parameters()).device
        x = to_input(torch.from_numpy(picture)[None], device)
        with torch.no_grad():
            logits = network(x)[0, 0].float().cpu().numpy()
        mask = pixels.sigmoid(logits).astype(np.float32)
        restored = pixels.restore(mask, placement, spec, size=(size[0], size[1]))
        return restored.astype(np.float32, copy=False)
