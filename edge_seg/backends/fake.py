"""A backend without a vendor: arithmetic on the picture, for tests and for dry runs of firmware.

Its artifact is a JSON file {"height": h, "width": w, "dtype": "float32"|"int8"}; its network says
"person" where a pixel is brighter than the middle: logit = 8 * mean over channels of the tensor,
at a quarter of the picture's size. It has physics, not expectations: change the pixels and the
mask changes.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np

from edge_seg.backends import Tensor, check_tensor
from edge_seg.errors import BackendFailure, BackendUnavailable
from edge_seg.spec import MAX_SIDE, TensorSpec

GAIN = 8.0
STEP = 1 / 127.5  # int8 input: real = STEP * (code + 1), the uint8 pixel XOR 0x80
OUT_STEP = GAIN / 127.0


class FakeBackend:
    """threads is accepted, as every backend does, and has no effect."""

    library = "fake 1"

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        height, width, dtype = _read(Path(path))
        quantized = dtype == "int8"
        self.input = TensorSpec(
            (1, height, width, 3), dtype, "nhwc", STEP * quantized, -1 * quantized
        )
        self.output = TensorSpec(
            (1, -(-height // 4), -(-width // 4), 1), dtype, "nhwc", OUT_STEP * quantized, 0
        )
        self._open = True
        self._lock = threading.Lock()

    def infer(self, tensor: Tensor) -> Tensor:
        """Run the arithmetic once."""
        check_tensor(tensor, self.input)
        with self._lock:
            if not self._open:
                raise BackendFailure("fake: wanted an open backend, found it closed; open again")
        real = tensor.astype(np.float32)
        if self.input.quantized:
            real = self.input.scale * (real - self.input.zero_point)
        logit = GAIN * real[:, ::4, ::4].mean(axis=3, keepdims=True, dtype=np.float32)
        if not self.output.quantized:
            return logit  # type: ignore[no-any-return]
        return np.clip(np.floor(logit / OUT_STEP + 0.5), -128, 127).astype(np.int8)

    def close(self) -> None:
        """Mark as closed."""
        self._open = False


def _read(path: Path) -> tuple[int, int, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        height, width, dtype = int(data["height"]), int(data["width"]), str(data["dtype"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendUnavailable(f"{path}: wanted a fake network in JSON, found: {error}") from error
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE) or dtype not in ("float32", "int8"):
        raise BackendUnavailable(f"{path}: wanted a size of 1..{MAX_SIDE} and float32 or int8")
    return height, width, dtype
