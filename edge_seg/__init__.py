"""edge-seg: person segmentation on small computers.

>>> from edge_seg import EdgeSegmenter                              # doctest: +SKIP
>>> with EdgeSegmenter.open("my-bundle", board="auto") as segmenter:   # doctest: +SKIP
...     mask = segmenter.segment(frame)

Importing this package loads nothing but Python's own; NumPy, OpenCV and the board's library are
loaded by what is first asked of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime (1.29 and later on Linux) reports its use over the network unless it finds this when
# it is imported; `disable_telemetry_events()` comes too late. A camera must call nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from edge_seg._version import __version__
from edge_seg.errors import (
    BackendFailure,
    BackendUnavailable,
    BundleError,
    CameraError,
    CameraLost,
    ConversionError,
    DatasetError,
    EdgeSegError,
    FrameError,
    MaskLate,
    OutputError,
    QualityRefused,
    SettingError,
    UnknownBoard,
)

if TYPE_CHECKING:
    from edge_seg.board import Board
    from edge_seg.bundle import Artifact, ModelBundle
    from edge_seg.segmenter import EdgeSegmenter
    from edge_seg.spec import InputSpec, OutputSpec, TensorSpec
    from edge_seg.supervision import Policy

__all__ = [
    "Artifact",
    "BackendFailure",
    "BackendUnavailable",
    "Board",
    "BundleError",
    "CameraError",
    "CameraLost",
    "ConversionError",
    "DatasetError",
    "EdgeSegError",
    "EdgeSegmenter",
    "FrameError",
    "InputSpec",
    "MaskLate",
    "ModelBundle",
    "OutputError",
    "OutputSpec",
    "Policy",
    "QualityRefused",
    "SettingError",
    "TensorSpec",
    "UnknownBoard",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # These need NumPy, most of them OpenCV too; they are loaded when first asked for.
    if name in ("Artifact", "ModelBundle"):
        from edge_seg import bundle

        return getattr(bundle, name)
    if name in ("InputSpec", "OutputSpec", "TensorSpec"):
        from edge_seg import spec

        return getattr(spec, name)
    if name == "EdgeSegmenter":
        from edge_seg.segmenter import EdgeSegmenter

        return EdgeSegmenter
    if name == "Board":
        from edge_seg.board import Board

        return Board
    if name == "Policy":
        from edge_seg.supervision import Policy

        return Policy
    raise AttributeError(f"module 'edge_seg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__  # also what is loaded when first asked for
