"""What `convert` takes for a network: an ONNX file, a training run, a PaddlePaddle model, a bundle.

All of them come out as an ONNX file with its contract; what had to be written for that goes into
a folder that lives as long as the conversion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_seg.errors import ConversionError, DatasetError

if TYPE_CHECKING:
    from edge_seg.backends import Progress
    from edge_seg.converters.targets import Network
    from edge_seg.spec import InputSpec, OutputSpec


@dataclass(frozen=True)
class NamedNetwork:
    """A network ready to convert. name: the bundle's. origin: what the ONNX was made from, where
    that was not an ONNX file.
    """

    network: Network
    name: str
    origin: str = ""


def read(model: Path | None, spec: Path | None, folder: Path, progress: Progress) -> NamedNetwork:
    """Return the network that `model` names (None: the one that ships), with its contract.

    model: a path, or where there is none of that name, the name of a network that ships.
    spec: the contract in TOML, of a network that does not bring its own. folder: for what has to
    be written. Raises ConversionError, DatasetError (a run without a network), BundleError.
    """
    from edge_seg.bundle import MANIFEST, locate
    from edge_seg.converters import paddle
    from edge_seg.training.recipe import is_run

    if model is None or (locate(model) / MANIFEST).is_file():
        _refuse_spec(model, spec, "the bundle")
        return _bundle(model)
    if is_run(model):
        _refuse_spec(model, spec, "the training run")
        return _run(model, folder, progress)
    if paddle.is_paddle(model):
        return _paddle(model, spec, folder, progress)
    if model.is_dir():
        raise ConversionError(
            f"{model}: wanted an .onnx file, a training run, a PaddlePaddle inference model or a "
            "bundle, found a folder that holds none of them; name the file"
        )
    return NamedNetwork(_with_contract(model, spec), model.stem)


def _refuse_spec(model: Path | None, spec: Path | None, what: str) -> None:
    if spec is not None:
        raise ConversionError(
            f"wanted --spec beside a network that brings no contract, found {what} "
            f"{model or 'that ships'}, which has its own; leave --spec out"
        )


def _with_contract(model: Path, spec: Path | None) -> Network:
    """Return an ONNX file with the contract of the spec, or of the family that it is of."""
    from edge_seg.converters.family import reduced
    from edge_seg.converters.targets import Network

    # What cannot be converted is refused now, not after the pictures are read.
    input, output, _ = reduced(model, spec, to_quantize=True)
    return Network(model, input, output)


def _bundle(model: Path | None) -> NamedNetwork:
    from edge_seg.bundle import ModelBundle
    from edge_seg.converters.targets import Network

    bundle = ModelBundle.load(model)
    kept = [a for a in bundle.artifacts if a.name == "onnx-fp32"]
    if not kept:
        raise ConversionError(
            f"{bundle.path}: wanted a bundle that keeps its float ONNX (onnx-fp32), found "
            f"{', '.join(a.name for a in bundle.artifacts)}; name the .onnx file it was made from, "
            "or convert that with --keep-onnx first"
        )
    return NamedNetwork(Network(bundle.file(kept[0]), bundle.input, bundle.output), bundle.name)


def weights_of(named: Path, *, otherwise: str) -> Path:
    """Return a path itself; for the name of a network that ships, its averaged weights.

    otherwise: what to do where it ships without them, with {side} for its input side; the
    DatasetError says so.
    """
    from edge_seg.bundle import ModelBundle, locate
    from edge_seg.training.state import WARM

    folder = locate(named)
    if folder == named:
        return named
    if (folder / WARM).is_file():
        return folder / WARM
    remedy = otherwise.format(side=ModelBundle.load(folder).input.height)
    raise DatasetError(
        f"{named}: wanted a network that ships with its weights, found none in {folder}; they are "
        f"portrait's at another size: {remedy}"
    )


def _run(model: Path, folder: Path, progress: Progress) -> NamedNetwork:
    """Export a run's best network. Needs the extra [train]."""
    from edge_seg.converters.targets import Network

    progress("exporting the training run's best network", 0, 0)
    export_run = _load_export()
    path = folder / f"{model.stem}.onnx"
    return NamedNetwork(
        Network(path, *export_run(model, path)), model.stem, f"training run {model.name}"
    )


def _load_export() -> Callable[[Path, Path], tuple[InputSpec, OutputSpec]]:
    try:
        from edge_seg.training.export import export_run
    except ImportError as error:
        raise ConversionError(
            f"wanted what a training run is read with, found: {error}; install it with: "
            'pip install "edge-seg[train]", or run edge-seg export where that is installed'
        ) from error
    return export_run


def _paddle(model: Path, spec: Path | None, folder: Path, progress: Progress) -> NamedNetwork:
    """Make a PaddlePaddle inference model into ONNX. Needs the extra [paddle]."""
    from edge_seg.converters import paddle
    from edge_seg.spec import load_spec

    size = None
    if spec is not None:
        eats = load_spec(spec)[0]
        size = (eats.height, eats.width)
    name = model.name if model.is_dir() else model.stem
    path = paddle.to_onnx(model, folder / f"{name}.onnx", size=size, progress=progress)
    return NamedNetwork(_with_contract(path, spec), name, f"PaddlePaddle model {model.name}")
