"""The network as it came: the truth that every rewriting is checked against."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_seg.backends.onnxruntime import OnnxRuntimeBackend
from edge_seg.converters.head import is_channels_last, last_activation
from edge_seg.converters.onnx import original
from edge_seg.errors import ConversionError
from edge_seg.pixels import Codec, sigmoid
from edge_seg.spec import InputSpec, OutputSpec

SUM = 1e-3  # how far from 1 the probabilities of a pixel may add up


class Reference:
    """The original ONNX in ONNX Runtime; `probability(picture)` is the person's, as it says it.

    mislabelled: true while all that it returned as logits could only be probabilities.
    Raises ConversionError (not a network we read), BackendUnavailable (ONNX Runtime's refusal).
    """

    def __init__(self, path: Path, input: InputSpec, output: OutputSpec) -> None:
        with tempfile.TemporaryDirectory(prefix="edge-seg-") as folder:
            # ONNX Runtime gets the file with its batch settled: a symbolic one has no shape.
            file = Path(folder) / path.name
            model = original(path)
            onnx.save(model, file)
            self._backend = OnnxRuntimeBackend(file, threads=2)
        self._size = (input.height, input.width)
        self._channel, self._logit = output.channel, output.activation == "logit"
        self.mislabelled = self._logit
        self._independent = last_activation(model) == "Sigmoid"
        self._codec = Codec(
            input, OutputSpec("logit", 0), eats=self._backend.input, returns=self._backend.output
        )

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (h, w) for a prepared picture."""
        answer = self._backend.infer(self._codec.encode(picture))[0].astype(np.float32)
        if is_channels_last(answer.shape, self._size):
            answer = answer.transpose(2, 0, 1)
        person = answer[self._channel]
        others = np.delete(answer, self._channel, axis=0)
        if self._logit:
            self.mislabelled = self.mislabelled and _are_probabilities(answer)
            lead = person - others.max(axis=0) if len(others) else person
            return np.asarray(sigmoid(lead), dtype=np.float32)
        if self._independent or len(others) < 2:
            return person
        # Of more than two classes: sure as far as the strongest other one lets it be (head.py).
        return np.asarray(person / (person + others.max(axis=0)), dtype=np.float32)

    def close(self) -> None:
        """Free the session."""
        self._backend.close()


def _are_probabilities(answer: NDArray[np.float32]) -> bool:
    """Tell whether (classes, h, w) lie in 0..1 and, of several classes, add up to 1."""
    if not (answer.min() >= 0 and answer.max() <= 1):  # NaN is neither
        return False
    return len(answer) == 1 or bool(np.abs(answer.sum(axis=0) - 1).max() <= SUM)


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
