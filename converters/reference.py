"""The network as it came: the truth that every rewriting is checked against."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_seg.backends.onnxruntime import OnnxRuntimeBackend
from edge_seg.converters.onnx import original
from edge_seg.errors import ConversionError
from edge_seg.pixels import Codec, sigmoid
from edge_seg.spec import InputSpec, OutputSpec


class Reference:
    """The original ONNX in ONNX Runtime; `probability(picture)` is the person's, as it says it.

    Raises ConversionError (not a network we read), BackendUnavailable (ONNX Runtime's refusal).
    """

    def __init__(self, path: Path, input: InputSpec, output: OutputSpec) -> None:
        with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
            # ONNX Runtime gets the file with its batch settled: a symbolic one has no shape.
            file = Path(folder) / path.name
            onnx.save(original(path), file)
            self._backend = OnnxRuntimeBackend(file, threads=2)
        self._channel, self._logit = output.channel, output.activation == "logit"
        self._codec = Codec(
            input, OutputSpec("logit", 0), eats=self._backend.input, returns=self._backend.output
        )

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (h, w) for a prepared picture."""
        answer = self._backend.infer(self._codec.encode(picture))[0].astype(np.float32)
        if answer.shape[0] > answer.shape[2]:  # channels last: the short axis, as head.py has it
            answer = answer.transpose(2, 0, 1)
        person = answer[self._channel]
        if not self._logit:
            return person
        # A softmax over two classes is a sigmoid of the difference of their logits.
        logit = person - answer[1 - self._channel] if len(answer) == 2 else person
        return np.asarray(sigmoid(logit), dtype=np.float32)

    def close(self) -> None:
        """Free the session."""
        self._backend.close()


def largest_difference(
    reference: Reference, other: NDArray[np.float32], picture: NDArray[np.uint8]
) -> float:
    """Return max |probability - other| for one picture; infinite where either is no number.

    Raises ConversionError where the shapes differ.
    """
    truth = reference.probability(picture)
    if truth.shape != other.shape:
        raise ConversionError(
            f"wanted a float network that returns {truth.shape}, found {other.shape}; "
            "this is a defect of the conversion, please report the network"
        )
    worst = float(np.abs(truth - other).max())
    return worst if np.isfinite(worst) else float("inf")
