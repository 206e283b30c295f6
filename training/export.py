"""A trained network as ONNX: static batch 1, opset 17, float32, one logit map out.

picture  float32 [1, 3, S, S], RGB, (x / 255 - 0.5) / 0.5, the frame stretched to the square
logits   float32 [1, 1, S/4, S/4] (S/2 with a fine head), person where > 0, resized bilinearly by
         the runtime
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch

from edge_seg.errors import DatasetError
from edge_seg.files import whole_file, write_whole, writing
from edge_seg.spec import InputSpec, OutputSpec
from edge_seg.training.checkpoint import mean_of, save_warm
from edge_seg.training.network import input_spec, output_spec
from edge_seg.training.shapes import Network
from edge_seg.training.state import checkpoint_of

MOST_SIDE = 1024
OPSET = 17  # torch's TorchScript exporter knows it, and so does every converter downstream


def to_onnx(network: Network, path: Path, *, side: int) -> None:
    """Write a network as ONNX, checked, so that `path` holds all of it or what it held before.

    Raises OutputError when the file cannot be written.
    """
    network = network.cpu().eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    said = writing(path, "to write the network there", "free space or choose another -o")
    with said, whole_file(path) as beside, warnings.catch_warnings():
        # The exporter we need (dynamo=False) announces its own retirement.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sizes are to be constants
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, side, side),),
            str(beside),
            input_names=["picture"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=False,
        )
        _name_order(beside)
        onnx.checker.check_model(str(beside), full_check=True)


def _name_order(path: Path) -> None:
    """Let a fine head's DepthToSpace say DCR, which is TFLite's order, where torch says CRD.

    Of one channel they are the same; CRD would become a GATHER of four channels by their own order.
    """
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "DepthToSpace":
            next(a for a in node.attribute if a.name == "mode").s = b"DCR"
    onnx.save(model, str(path))


def export_run(
    source: Path | Sequence[Path], path: Path, *, side: int | None = None
) -> tuple[InputSpec, OutputSpec]:
    """Write a run's best network as ONNX; return its contract.

    source: a run's folder, or a checkpoint file; of several the mean of their weights. side: of the
    input in pixels, a multiple of 32; None: what it was trained for. Raises DatasetError (nothing
    to export, no such side), OutputError.
    """
    network, facts = _read(source)
    if side is None:
        side = int(facts["recipe"]["sizes"][-1][1])
    if side % 32 or not 32 <= side <= MOST_SIDE:
        raise DatasetError(
            f"wanted an input side that is a multiple of 32, 32 to {MOST_SIDE}, found {side}; "
            "choose one"
        )
    to_onnx(network, path, side=side)
    return input_spec(side), output_spec()


def export_weights(source: Path | Sequence[Path], path: Path) -> None:
    """Write the averaged weights of a run, or the mean of several, as `save_warm` does.

    What it says of itself is what the first run says, with the names of all under "mean_of".
    """
    network, facts = _read(source)
    if not isinstance(source, Path):
        facts = facts | {"mean_of": [one.resolve().name for one in source]}
    save_warm(path, network, facts)


def _read(source: Path | Sequence[Path]) -> tuple[Network, dict[str, Any]]:
    return mean_of([checkpoint_of(s) for s in ([source] if isinstance(source, Path) else source)])


def export(source: Path | Sequence[Path], path: Path, *, side: int | None = None) -> Path:
    """Write a run's best network (or a checkpoint file's) as ONNX, its contract beside it as TOML.

    Returns the TOML's path. Raises as `export_run` does, and DatasetError for a path that is not
    *.onnx: nothing else reads it, and as *.toml the contract would take its place.
    """
    if path.suffix.lower() != ".onnx":
        raise DatasetError(
            f"{path}: wanted a file to write that ends in .onnx, found {path.name!r}; write -o "
            f"{path.with_suffix('.onnx')}"
        )
    eats, returns = export_run(source, path, side=side)
    contract = path.with_suffix(".toml")
    tables = {"input": eats.to_dict(), "output": returns.to_dict()}
    lines = [f"# what {path.name} takes and gives: edge-seg convert --spec reads it"]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    write_whole(contract, "\n".join(lines) + "\n")
    return contract
