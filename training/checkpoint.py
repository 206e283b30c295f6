"""A run's state on disk: one safetensors file, replaced whole, with JSON in its header.

`save_tensors` and `load_tensors` hold what they are given: for a run to go on bit-equal, weights,
averaged weights, optimizer moments, step and recipe. `save_warm` holds the averaged weights alone,
in half precision, with the same facts: small enough to be kept with a project. `load_network` makes
a network of either.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edge_seg.errors import DatasetError
from edge_seg.files import PART, whole_file, writing
from edge_seg.spec import MAX_SIDE
from edge_seg.training import pphumanseg
from edge_seg.training.shapes import Network, network_of

Tensors = dict[str, Tensor]


def save_tensors(path: Path, tensors: Tensors, facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts so that `path` holds all of it or what it held before.

    Raises OutputError with the system's reason (a full disk, no such folder).
    """
    packed = {name: tensor.detach().contiguous().cpu().clone() for name, tensor in tensors.items()}
    remedy = "free space or choose another place (what was there before is untouched)"
    with writing(path, "to write a checkpoint", remedy), whole_file(path) as beside:
        beside.write_bytes(save(packed, metadata={"facts": json.dumps(facts)}))


def sweep(folder: Path) -> None:
    """Remove what a kill left of half-written files in a run's folder."""
    for path in folder.glob(f".*{PART}"):
        with contextlib.suppress(OSError):
            path.unlink()


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Read what `save_tensors` wrote. Raises DatasetError for anything else."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: wanted a checkpoint of edge-seg train, found {type(error).__name__} "
            f"({error}); name a checkpoint.safetensors or state.safetensors of a run"
        ) from None


def fill(module: torch.nn.Module, tensors: Tensors, where: str) -> None:
    """Load tensors into a module. Raises DatasetError when they belong to another network."""
    own = module.state_dict()
    wrong = [
        f"{name} is {'missing' if name not in tensors else tuple(tensors[name].shape)}, "
        f"wanted {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name not in tensors or tensors[name].shape != tensor.shape
    ]
    extra = sorted(set(tensors) - set(own))
    if wrong or extra:
        first = wrong[0] if wrong else f"{extra[0]} is unknown"
        raise DatasetError(
            f"{where}: wanted weights of this network, found those of another one "
            f"({len(wrong) + len(extra)} tensors differ; {first}); name a checkpoint of the same "
            "shape"
        )
    module.load_state_dict({name: tensors[name].to(own[name].dtype) for name in own})


def part(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors under a prefix, without it."""
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def save_warm(path: Path, averaged: torch.nn.Module, facts: dict[str, Any]) -> None:
    """Write the small state: averaged weights in half precision, and the facts, also as JSON."""
    tensors = {name: _halved(tensor) for name, tensor in averaged.state_dict().items()}
    save_tensors(path, tensors, facts)


def _halved(tensor: Tensor) -> Tensor:
    """In half precision, unless a value (a large variance) would become infinite."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if bool(torch.isfinite(half).all()) else tensor


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """Build the network of a checkpoint of any kind, with its averaged weights, and its facts.

    The official PP-HumanSegV1-Lite as ONNX is one, too: its batch norms are "folded".
    """
    if path.suffix.lower() == ".onnx":
        recipe = {"shape": pphumanseg.NAME, "sizes": [[0, pphumanseg.SIDE]]}
        return pphumanseg.official(path), {"recipe": recipe, "folded": True}
    tensors, facts = load_tensors(path)
    try:
        shape, side = str(facts["recipe"]["shape"]), facts["recipe"]["sizes"][-1][1]
        if type(side) is not int or side % 32 or not 32 <= side <= MAX_SIDE:
            raise ValueError
    except (KeyError, TypeError, IndexError, ValueError):
        raise DatasetError(
            f"{path}: wanted a checkpoint that states its network's shape and side, found none; "
            "name one that edge-seg train wrote"
        ) from None
    network = network_of(shape).eval()
    fill(network, part(tensors, "averaged.") or tensors, str(path))
    return network, facts


def mean_of(paths: Sequence[Path]) -> tuple[Network, dict[str, Any]]:
    """Build the network whose weights are the mean of several checkpoints', with the first's facts.

    A model soup (Wortsman et al., ICML 2022): of runs that began from the same weights.
    Raises DatasetError for checkpoints of two shapes.
    """
    loaded = [load_network(path) for path in paths]
    network, facts = loaded[0]
    shape = facts["recipe"]["shape"]
    for path, (_, its) in zip(paths, loaded, strict=True):
        if its["recipe"]["shape"] != shape:
            raise DatasetError(
                f"{path}: wanted a network of shape {shape}, as {paths[0]} is, found "
                f"{its['recipe']['shape']}; weights of one shape have a mean"
            )
    every = [other.state_dict() for other, _ in loaded]
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.stack([weights[name] for weights in every]).double().mean(0))
    return network, facts
