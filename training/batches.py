"""The batches of a run: sample n of step s is the same however many processes share the step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edge_seg.training.augment import Renderer
from edge_seg.training.processes import Place
from edge_seg.training.recipe import Recipe


class _Samples(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Samples by (number, size)."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        picture, target, weight = self._renderer.sample(*key)
        return torch.from_numpy(picture), torch.from_numpy(target), torch.from_numpy(weight)


def sample_numbers(recipe: Recipe, step: int, place: Place) -> range:
    """The samples of this process in a step."""
    share = recipe.batch // place.world
    first = step * recipe.batch + place.rank * share
    return range(first, first + share)


@dataclass(frozen=True)
class _Order:
    """The batches of a range of steps, as lists of (number, size); made as they are needed."""

    recipe: Recipe
    steps: range
    place: Place

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in self.steps:
            size = self.recipe.size_at(step)
            yield [(number, size) for number in sample_numbers(self.recipe, step, self.place)]


def batches(
    renderer: Renderer, recipe: Recipe, *, start: int, place: Place, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (pictures, targets, weights), uint8, from step `start` to the end."""
    order = _Order(recipe, range(start, recipe.steps), place)
    yield from DataLoader(
        _Samples(renderer),
        batch_sampler=order,
        num_workers=workers,
        worker_init_fn=_leave_signals,
    )


def _leave_signals(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM, sent to a whole group, to the process that trains: it needs its
    workers to the end of the step, and ends them.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
