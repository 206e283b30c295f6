"""Golden traces: what a backend answered on a machine once, written down to be held against later.

    python -m tests.trace BACKEND PRECISION ARTIFACT [NAME=VALUE ...] > tests/traces/NAME.json

ARTIFACT: the tiny network of tests/tiny_networks.py in the backend's format (the same arithmetic in
every format); NAME=VALUE: options of the backend, such as device=NPU. Runs where only the runtime
is installed: on a board. tests/test_traces.py replays every trace on every backend that is here.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_seg import machine
from edge_seg.backends import Backend, open_backend
from edge_seg.files import sha256_of
from edge_seg.spec import TensorSpec

SEEDS = (0, 1)


def pixels(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) of noise: the same for a seed on every machine."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def tensor(picture: NDArray[np.uint8], eats: TensorSpec) -> NDArray[np.generic]:
    """Return a picture as the backend eats it, for mean = std = 0.5: pixel XOR 0x80 in int8."""
    if eats.quantized:
        coded = (picture ^ 0x80).view(np.int8)
    else:
        coded = picture.astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(
        coded[None] if eats.layout == "nhwc" else coded.transpose(2, 0, 1)[None]
    )


def answers(backend: Backend) -> list[list[float]]:
    """Return the logits of every seed's picture, row by row."""
    height, width = backend.input.size
    found = []
    for seed in SEEDS:
        answer = backend.infer(tensor(pixels(seed, height, width), backend.input))
        logits = answer.astype(np.float64)
        if backend.output.quantized:
            logits = backend.output.scale * (logits - backend.output.zero_point)
        found.append([round(float(v), 6) for v in logits.ravel()])
    return found


def record(name: str, precision: str, artifact: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return a trace of one backend on this machine."""
    backend = open_backend(name, artifact, options)
    try:
        return {
            "backend": name,
            "precision": precision,
            "options": options,
            "machine": machine.measured_on(getattr(backend, "library", "")),
            "date": datetime.date.today().isoformat(),
            "artifact_sha256": sha256_of(artifact),
            "output_step": backend.output.scale,
            "logits": answers(backend),
        }
    finally:
        backend.close()


if __name__ == "__main__":
    backend_name, its_precision, file, *words = sys.argv[1:]
    given: dict[str, Any] = dict(word.split("=", 1) for word in words)
    json.dump(record(backend_name, its_precision, Path(file), given), sys.stdout)
    print()
