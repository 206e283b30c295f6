"""A backend without a vendor: arithmetic on the picture, for tests and for dry runs of firmware.

Its artifact is a JSON file {"height": h, "width": w, "dtype": "float32"|"int8"}; its network says
"person" where a picture is brighter than the middle: logit = 8 * mean of the tensor over each cell
of 4x4 pixels (those at the right and bottom edge may be smaller). It has physics, not
expectations: change the pixels and the mask changes.

Its hardware can be made to break, from a board file or from outside while a program runs:

    options = { fault = "lost", after = 100 }    after 100 calls it is "lost", "hangs" or "sticks"
    options = { device = "/tmp/npu" }            a file that stands for the device: without it the
                                                 device is unplugged; what it says is its fault
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_seg.backends import Tensor, check_tensor
from edge_seg.errors import BackendFailure, BackendUnavailable
from edge_seg.spec import MAX_SIDE, TensorSpec

GAIN = 8.0
CELL = 4
FAULTS = ("", "lost", "hangs", "sticks")
STEP = 1 / 127.5  # int8 input: real = STEP * (code + 1), the uint8 pixel XOR 0x80
OUT_STEP = GAIN / 127.0


class FakeBackend:
    """threads is accepted, as every backend does, and has no effect."""

    library = "fake 1"

    def __init__(
        self, path: Path, *, threads: int = 1, fault: str = "", after: int = 0, device: str = ""
    ) -> None:
        if fault not in FAULTS:
            raise BackendUnavailable(f"fake: wanted a fault in {FAULTS}, found {fault!r:.40}")
        self._fault, self._after, self._calls = fault, after, 0
        self._device = Path(device) if device else None
        if self._state() == "lost":
            raise BackendUnavailable(f"fake: wanted the device {device}, found it unplugged")
        height, width, dtype = _read(Path(path))
        quantized = dtype == "int8"
        self.input = TensorSpec(
            (1, height, width, 3), dtype, "nhwc", STEP * quantized, -1 * quantized
        )
        self.output = TensorSpec(
            (1, -(-height // CELL), -(-width // CELL), 1), dtype, "nhwc", OUT_STEP * quantized, 0
        )
        self._open = True
        self._lock = threading.Lock()
        self._last: Tensor | None = None

    @staticmethod
    def find_library() -> str:
        """Return "fake 1"."""
        return FakeBackend.library

    def infer(self, tensor: Tensor) -> Tensor:
        """Run the arithmetic once."""
        check_tensor(tensor, self.input)
        with self._lock:
            if not self._open:
                raise BackendFailure("fake: wanted an open backend, found it closed; open again")
        self._calls += 1
        while self._state() == "hangs":
            time.sleep(0.005)
        if self._state() == "lost":
            raise BackendFailure("fake: device lost")
        if self._state() == "sticks" and self._last is not None:
            return self._last.copy()
        self._last = self._answer(tensor)
        return self._last.copy()

    def _answer(self, tensor: Tensor) -> Tensor:
        real = tensor.astype(np.float32)
        if self.input.quantized:
            real = self.input.scale * (real - self.input.zero_point)
        logit = GAIN * _cell_means(real)
        if not self.output.quantized:
            return logit
        return np.clip(np.floor(logit / OUT_STEP + 0.5), -128, 127).astype(np.int8)

    def _state(self) -> str:
        """One of FAULTS, now."""
        if self._device is not None:
            try:
                return self._device.read_text(encoding="utf-8").strip()
            except OSError:
                return "lost"
        return self._fault if self._calls > self._after else ""

    def close(self) -> None:
        """Mark as closed."""
        self._open = False


def _cell_means(real: NDArray[np.float32]) -> NDArray[np.float32]:
    tops, lefts = np.arange(0, real.shape[1], CELL), np.arange(0, real.shape[2], CELL)
    sums = np.add.reduceat(np.add.reduceat(real.sum(axis=3), tops, axis=1), lefts, axis=2)
    heights = np.minimum(CELL, real.shape[1] - tops)
    widths = np.minimum(CELL, real.shape[2] - lefts)
    means = sums / (3 * heights[:, None] * widths)
    return means[..., None].astype(np.float32)


def _read(path: Path) -> tuple[int, int, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        height, width, dtype = int(data["height"]), int(data["width"]), str(data["dtype"])
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        raise BackendUnavailable(
            f"{path}: wanted a fake network in JSON, found: {error}"
        ) from error
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE) or dtype not in ("float32", "int8"):
        raise BackendUnavailable(f"{path}: wanted a size of 1..{MAX_SIDE} and float32 or int8")
    return height, width, dtype
