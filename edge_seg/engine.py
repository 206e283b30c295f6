"""An engine: one opened runtime of a bundle, its backend between the two tables that fit it.

    picture  uint8 (h, w, 3)   -> run ->   answer, what the backend returns   -> decode ->   mask

Runtimes of one bundle may eat and return other tensors (int8 beside fp32), so whoever changes the
runtime changes the whole engine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_seg import pixels
from edge_seg.arrays import Picture
from edge_seg.backends import Backend, Tensor
from edge_seg.board import Runtime
from edge_seg.bundle import Artifact
from edge_seg.errors import BackendFailure, BundleError, EdgeSegError
from edge_seg.pixels import Mask
from edge_seg.spec import InputSpec, OutputSpec

Tick = Callable[[str], None]  # told the name of a stage as it ends


class Engine:
    """One opened runtime. input, output: the bundle's specs. Owns the backend, and closes it.

    Raises BundleError where the backend does not fit the bundle; the backend is closed then, too.
    """

    def __init__(
        self,
        input: InputSpec,
        output: OutputSpec,
        *,
        backend: Backend,
        runtime: Runtime | None = None,
        artifact: Artifact | None = None,
    ) -> None:
        self.spec, self.backend = input, backend
        self.runtime, self.artifact = runtime, artifact
        self.shape = (input.height, input.width, 3)
        try:
            self._codec = pixels.Codec(input, output, eats=backend.input, returns=backend.output)
        except BundleError:  # an artifact that is not of the bundle's form
            backend.close()
            raise

    def run(self, picture: Picture, tick: Tick | None = None) -> Tensor:
        """Return the network's answer to a small picture, uint8 of `shape`.

        tick: called with "encode" and "infer" as they end. Raises FrameError, and BackendFailure
        where the backend fails or answers NaN, which would come out as "no person".
        """
        tensor = self._codec.encode(picture)
        if tick is not None:
            tick("encode")
        try:
            answer = self.backend.infer(tensor)
        except EdgeSegError:
            raise
        except Exception as error:  # a vendor's library raises what it likes when a device goes
            raise BackendFailure(f"{type(error).__name__}: {error}") from error
        if answer.dtype.kind == "f" and np.isnan(answer.min()):  # which finds a NaN anywhere
            raise BackendFailure(
                f"wanted numbers, found NaN in {np.count_nonzero(np.isnan(answer))} of "
                f"{answer.size} values; try another runtime or precision"
            )
        if tick is not None:
            tick("infer")
        return answer

    def decode(self, answer: Tensor, dtype: str = "float32") -> Mask:
        """Return the mask at the network's output size, float32 0..1 or uint8 0..255."""
        return self._codec.decode(answer, dtype)

    def close(self) -> None:
        """Free the backend; may be called twice."""
        self.backend.close()
