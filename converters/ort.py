"""ONNX Runtime as a tool: what it folds of a network, and what flows inside one.

    fold_constants   ModelProto -> ModelProto: standard operators in, standard operators out
    inner_tensors    ModelProto + pictures -> the values of named tensors, picture by picture

Failures are a ConversionError with ONNX Runtime's own first line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edge_seg.converters.graph import Array, Graph
from edge_seg.converters.words import first_lines
from edge_seg.errors import ConversionError


def fold_constants(model: ModelProto) -> ModelProto:
    """Compute what depends on no input, fold batch norms, drop Identity and Dropout.

    The work is ONNX Runtime's "basic" level: standard operators in, standard operators out.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
        target = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(target)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            folded = onnx.load(target)
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise ConversionError(
                f"wanted a network that ONNX Runtime can load, found: {first_lines(error)}; "
                "export the model again with standard operators"
            ) from error
    return Graph(folded).to_model()


def inner_tensors(
    model: ModelProto, names: Iterable[str], samples: Iterable[NDArray[Any]]
) -> Iterator[dict[str, Array]]:
    """Run the network and yield, per sample, the named tensors."""
    import onnxruntime

    picture = Graph(model).inputs[0].name
    names = list(names)
    inner = [name for name in names if name != picture]
    opened = ModelProto()
    opened.CopyFrom(model)
    del opened.graph.output[:]
    for name in inner:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        opened.graph.output.append(value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for sample in samples:
            values = session.run(inner, {picture: sample}) if inner else []
            found = {picture: sample, **dict(zip(inner, values, strict=True))}
            yield {name: found[name] for name in names}
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise ConversionError(
            f"wanted ONNX Runtime to run the network, found: {first_lines(error)}; "
            "export the model again with standard operators"
        ) from error
