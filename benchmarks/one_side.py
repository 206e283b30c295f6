"""One side of benchmarks/mediapipe_api.py, in a process and an environment of its own.

    python one_side.py SIDE FRAMES.npy calls    times on request: "20" in, 20 milliseconds out
    python one_side.py SIDE FRAMES.npy cold     import, open, one mask: the most bytes it held

FRAMES.npy: uint8 BGR [N, H, W, 3], of somebody: where no mask has a person, contours are not
looked for, and cost nothing.

SIDE: edge-seg, edge-seg-contours (with the mask brought to the contours, its default), the same of
portrait-lite (edge-seg-lite, edge-seg-lite-contours), each with -openvino at its end in OpenVINO
instead of LiteRT, mediapipe.

Imports nothing of edge-seg for the other side, and nothing but NumPy for itself.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Segment = Callable[[Any], Any]  # of NumPy arrays, which are imported in `main`


def edge_seg(network: str | None, board: str, *, edges: bool) -> Segment:
    """From a BGR frame to a soft mask of its size, by ours; no timestamp, so no smoothing."""
    from edge_seg import EdgeSegmenter

    segmenter = EdgeSegmenter.open(network, board=board, threads=1, edges=edges)
    wanted = {"generic": "tflite", "pc-avx2": "openvino"}[board]
    assert segmenter.runtime is not None and segmenter.runtime.backend == wanted
    return segmenter.segment


def mediapipe() -> Segment:
    """The same by MediaPipe's API: selfie segmentation, general model, which wants RGB."""
    import cv2
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    solution = SelfieSegmentation(model_selection=0)

    def segment(frame: Any) -> Any:
        return solution.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).segmentation_mask

    return segment


def most_memory() -> int:
    """Bytes of this program at most. What wait4 and getrusage tell includes who started it."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main() -> None:
    """Serve."""
    side, path, what = sys.argv[1:]
    if side == "mediapipe":
        segment = mediapipe()
    else:
        network = "portrait-lite" if "lite" in side else None
        board = "pc-avx2" if side.endswith("openvino") else "generic"
        segment = edge_seg(network, board, edges="contours" in side)
    import numpy as np

    frames = np.load(path, allow_pickle=False)
    mask = segment(frames[0])
    assert mask.shape == frames.shape[1:3] and mask.dtype == np.float32, (mask.shape, mask.dtype)
    assert 0.2 < mask.mean() < 0.8, f"nobody was found: a mean of {mask.mean():.3f}"
    if what == "cold":
        print(most_memory())
        return
    import cv2

    cv2.setNumThreads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for i in range(int(line)):
            start = time.perf_counter()
            segment(frames[i % len(frames)])
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
