"""What a training run is between two steps: weights, moments, step, history; saved and taken up.

A run is a folder: `state.safetensors` (to go on), `checkpoint.safetensors` (averaged weights of
the best judgement), `warm.safetensors` (small state for a warm restart). fit.py adds the loop.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_seg.errors import DatasetError
from edge_seg.training import checkpoint
from edge_seg.training.growth import grown
from edge_seg.training.network import PortraitNet
from edge_seg.training.processes import Place, join
from edge_seg.training.pruning import pruned
from edge_seg.training.recipe import Recipe
from edge_seg.training.shapes import network_of

Row = dict[str, float]
STATE = "state.safetensors"
BEST = "checkpoint.safetensors"
WARM = "warm.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter


def checkpoint_of(source: Path) -> Path:
    """Return the best checkpoint of a run's folder; a checkpoint file is itself.

    Raises DatasetError where the run has not been judged yet.
    """
    if not source.is_dir():
        return source
    best = source / BEST
    if not best.is_file():
        raise DatasetError(
            f"{source}: wanted a run that has been judged, found no {BEST}; let "
            "edge-seg train reach its first judgement, or name a checkpoint file"
        )
    return best


@contextlib.contextmanager
def _stated(path: Path, what: str) -> Iterator[None]:
    """Name the file where its facts do not hold what is looked for in them."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise DatasetError(
            f"{path}: wanted {what} of a run, found none; name a state that edge-seg train wrote"
        ) from None


def _finite(value: object) -> float:
    """A number of a state's facts. Raises ValueError."""
    if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError
    return float(value)  # type: ignore[arg-type]


class RunState:
    """The state of one run in its folder.

    Raises DatasetError for a batch that the processes cannot share, or that is too small.
    """

    def __init__(self, folder: Path, recipe: Recipe, *, place: Place | None = None) -> None:
        self.folder = folder
        self.recipe = recipe
        self.place = place or join()
        if recipe.batch % self.place.world:
            raise DatasetError(
                f"wanted a batch that {self.place.world} processes can share, found "
                f"{recipe.batch}; choose a multiple"
            )
        smallest = min(side for _, side in recipe.sizes)
        if recipe.batch // self.place.world * (smallest // 32) ** 2 < 2:
            raise DatasetError(
                f"wanted more than one sample per process at {smallest} pixels (batch norm needs "
                f"them), found a batch of {recipe.batch}; choose a larger one"
            )
        torch.manual_seed(recipe.seed)
        network = network_of(recipe.shape).to(self.place.device)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=recipe.lr,
        )
        self.step = 0
        self.saved = -1  # the step whose state is in the folder
        self._saved_at = time.monotonic()
        self.best = -1.0
        self.loss = 0.0  # smoothed over steps
        self.tuning = False  # whether it begins with weights that are good already
        self._start: checkpoint.Tensors = {}  # those weights, where the recipe keeps a share
        self._folded = False  # whether their batch norms must be given back first
        self.history: list[Row] = []

    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of itself."""
        return {
            "network": type(self.network).__name__,
            "recipe": self.recipe.to_dict(),
            "step": self.step,
            "best": self.best,
            "loss": self.loss,
            "history": self.history,
        }

    def save(self) -> None:
        """Write the state; the one before stays whole until the new one is."""
        if self.place.leads:
            self._write_state()
        self.saved, self._saved_at = self.step, time.monotonic()

    def _write_state(self) -> None:
        tensors = {f"network.{n}": t for n, t in self.network.state_dict().items()}
        tensors |= {f"averaged.{n}": t for n, t in self.averaged.state_dict().items()}
        tensors |= {f"start.{n}": t for n, t in self._start.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": t for name, t in state.items()}
        checkpoint.save_tensors(self.folder / STATE, tensors, self.facts())
        checkpoint.save_warm(self.folder / WARM, self.averaged, self.facts())

    def resume(self) -> bool:
        """Go on from the folder's state, if there is one. Raises DatasetError: a damaged one."""
        path = self.folder / STATE
        if not path.is_file():
            return False
        tensors, facts = checkpoint.load_tensors(path)
        checkpoint.fill(self.network, checkpoint.part(tensors, "network."), str(path))
        checkpoint.fill(self.averaged, checkpoint.part(tensors, "averaged."), str(path))
        self._start = checkpoint.part(tensors, "start.")
        if self._start:
            checkpoint.fill(copy.deepcopy(self.averaged), self._start, str(path))
        moments = self._moments(path, checkpoint.part(tensors, "optimizer."))
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._take_up(path, facts)
        with _stated(path, "the best judgement and the loss"):
            self.best, self.loss = _finite(facts["best"]), _finite(facts.get("loss", 0.0))
        self.saved = self.step
        return True

    def _moments(self, path: Path, found: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
        """The optimizer's moments by parameter, of all of them or, before the first step, none."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        wanted = {
            f"{index}.{name}": tuple(parameter.shape) if name != "step" else ()
            for index, parameter in enumerate(parameters)
            for name in MOMENTS
        }
        shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
        wrong = sorted(n for n in wanted | shapes if wanted.get(n) != shapes.get(n))
        if found and wrong:
            raise DatasetError(
                f"{path}: wanted the optimizer's moments of this network, found optimizer."
                f"{wrong[0]} {shapes.get(wrong[0], 'missing')} ({len(wrong)} tensors differ); "
                f"go on from {WARM} (--restart), or begin again"
            )
        numbers = range(len(parameters)) if found else range(0)
        return {n: {name: found[f"{n}.{name}"] for name in MOMENTS} for n in numbers}

    def start_from(self, *paths: Path) -> None:
        """Warm start: take the weights of a checkpoint (the mean of several), grown where the
        recipe's shape is larger, pruned where it is narrower.

        Raises DatasetError where the checkpoint's network does not fit into this one.
        """
        path = paths[0]
        begun, facts = checkpoint.mean_of(paths)
        if facts["recipe"]["shape"] == self.recipe.shape:
            tensors = begun.state_dict()
        elif isinstance(begun, PortraitNet) and isinstance(self.network, PortraitNet):
            inherited = pruned if self.network.shape.widths < begun.shape.widths else grown
            tensors = inherited(begun, self.network, where=str(path))
        else:
            raise DatasetError(
                f"{path}: wanted weights of {self.recipe.shape}, found those of "
                f"{facts['recipe']['shape']}, a network of another kind; choose its --shape, or "
                "begin without --from"
            )
        self._folded = facts.get("folded", False)
        self._take(tensors, str(path))
        self.tuning = True

    def _take(self, tensors: checkpoint.Tensors, where: str) -> None:
        """Begin with these weights. Raises DatasetError, naming `where`, for another network's."""
        checkpoint.fill(self.network, tensors, where)
        checkpoint.fill(self.averaged, tensors, where)
        if self.recipe.keep:
            self._start = {n: t.clone() for n, t in self.averaged.state_dict().items()}

    def restart(self, path: Path) -> None:
        """Warm restart: go on at the step of a small state, with fresh optimizer moments.

        Not bit-equal to the run it came from; sample numbers and schedule go on where it stopped.
        """
        _, facts = checkpoint.load_tensors(path)
        self.start_from(path)
        self._start = {}  # not what the run began from
        self._take_up(path, facts)
        if self.step >= self.recipe.steps:
            raise DatasetError(
                f"{path}: wanted a state with steps left to do, found it at {self.step} of "
                f"{self.recipe.steps}; lengthen the run (--steps), or fine-tune (--from)"
            )

    def _take_up(self, path: Path, facts: dict[str, Any]) -> None:
        with _stated(path, "the step and the history"):
            step, history = facts["step"], facts["history"]
            if type(step) is not int or step < 0 or type(history) is not list:
                raise ValueError
            for row in history:
                _finite(row["step"])
                if not all(type(figure) in (int, float) for figure in row.values()):
                    raise ValueError
            self.step, self.history = step, history
