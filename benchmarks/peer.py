"""MediaPipe's selfie segmenter (general) under the SDK's own pixel path."""

from __future__ import annotations

from pathlib import Path

from edge_seg.backends import open_backend
from edge_seg.engine import Engine
from edge_seg.segmenter import EdgeSegmenter
from edge_seg.spec import InputSpec, OutputSpec

PEER = "MediaPipe selfie, general"
INPUT = InputSpec(256, 256, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit="stretch")
OUTPUT = OutputSpec(activation="probability", channel=0)


def open_peer(path: Path) -> EdgeSegmenter:
    """Open its .tflite file."""
    backend = open_backend("tflite", path, {"threads": 1})
    return EdgeSegmenter.on(Engine(INPUT, OUTPUT, backend=backend))
