"""The network as it came: the truth that every rewriting is checked against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_seg.backends.onnxruntime import OnnxRuntimeBackend
from edge_seg.errors import ConversionError
from edge_seg.pixels import Codec, sigmoid
from edge_seg.spec import InputSpec, OutputSpec


class Reference:
    """The original ONNX in ONNX Runtime; `probability(picture)` is the person's, as it says it."""

    def __init__(self, path: Path, input: InputSpec, output: OutputSpec) -> None:
        self._backend = OnnxRuntimeBackend(path, threads=2)
        self._channel, self._logit = output.channel, output.activation == "logit"
        channels = self._backend.output.channels
        if output.channel >= channels:
            raise ConversionError(
                f"{path}: wanted the person in channel {output.channel}, found {channels} channels "
                "(counted from 0); correct [output] channel in the spec"
            )
        self._codec = Codec(
            input, OutputSpec("logit", 0), eats=self._backend.input, returns=self._backend.output
        )

    def probability(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (h, w) for a prepared picture."""
        answer = self._backend.infer(self._codec.encode(picture))[0].astype(np.float32)
        person = answer[self._channel]
        if not self._logit:
            return person
        # A softmax over two classes is a sigmoid of the difference of their logits.
        return sigmoid(person - answer[1 - self._channel] if len(answer) == 2 else person)

    def close(self) -> None:
        """Free the session."""
        self._backend.close()


def largest_difference(
    reference: Reference,
    other: NDArray[np.float32],
    picture: NDArray[np.uint8],
) -> float:
    """Return max |probability - other| for one picture; shapes must be the same."""
    truth = reference.probability(picture)
    if truth.shape != other.shape:
        raise ConversionError(
            f"wanted a float network that returns {truth.shape}, found {other.shape}; "
            "this is a defect of the conversion, please report the network"
        )
    return float(np.abs(truth - other).max())
