"""NV12 to the network's picture: shrunk before or after it becomes colours.

    python benchmarks/camera_formats.py

One thread, medians, both sides in turn in one run, on this machine; a generated 1280x720 frame.
"""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg import bench, pixels, yuv
from edge_seg.comparison import side_by_side
from edge_seg.spec import InputSpec

Frame = NDArray[np.uint8]
SPEC = InputSpec(224, 224, fit="stretch")


def main() -> None:
    """Print milliseconds, their ratio, and how far the pictures differ."""
    cv2.setNumThreads(1)
    planar = cv2.cvtColor(bench.generated()[0], cv2.COLOR_BGR2YUV_I420)
    for format, frame in (("yuv420", planar), ("nv12", _woven(planar))):
        ways = (_planes_first, _whole_first)
        times = side_by_side({way.__name__: partial(way, frame, format) for way in ways})
        ours, theirs = times.values()
        error = np.abs(_planes_first(frame, format).astype(int) - _whole_first(frame, format))
        print(
            f"{format} 1280x720 -> 224x224: {ours:.2f} ms, whole picture first {theirs:.2f} ms, "
            f"{ours / theirs:.2f}x; levels apart: mean {error.mean():.2f}, max {error.max()}"
        )


def _planes_first(frame: Frame, format: str) -> Frame:
    return pixels.prepare(frame, SPEC, format=format)[0]


def _whole_first(frame: Frame, format: str) -> Frame:
    return pixels.prepare(yuv.whole_to_color(frame, format, "bgr"), SPEC)[0]


def _woven(planar: Frame) -> Frame:
    luma, u, v = yuv.planes(planar, "yuv420")
    return yuv.join([luma, np.dstack([u, v])])


if __name__ == "__main__":
    main()
