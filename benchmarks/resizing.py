"""Does it matter how large frames are made small, and what is made large again?

    python benchmarks/resizing.py BUNDLE --labels LIST [--artifact tflite-int8]

aliasing   the labelled pictures small, against the same enlarged to 1280 px with detail added that
           the network's picture is too small to hold (seeded noise, high-passed at half a network
           pixel), through the runtime's shrink, area averaging and plain bilinear
masks      probabilities enlarged to the label's size (what the runtime does) against logits
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg import pixels
from edge_seg.arrays import Labelled
from edge_seg.bundle import ModelBundle
from edge_seg.calibration.dataset import labelled_pairs
from edge_seg.evaluation import evaluate
from edge_seg.metrics import Quality
from edge_seg.segmenter import EdgeSegmenter, open_artifact

Frame = NDArray[np.uint8]
LONG_SIDE, DETAIL = 1280, 24.0  # px; standard deviation of the added detail, in pixel values


def enlarged(pairs: list[Labelled], long_side: int) -> Iterator[Labelled]:
    """Yield each picture at 720p's size with detail that `long_side` pixels cannot hold."""
    random = np.random.default_rng(0)
    sigma = LONG_SIDE / long_side / 2
    for frame, label in pairs:
        scale = LONG_SIDE / max(frame.shape[:2])
        large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        noise = random.normal(0.0, DETAIL, large.shape[:2]).astype(np.float32)
        detail = noise - cv2.GaussianBlur(noise, (0, 0), sigma)
        yield np.clip(large + detail[..., None], 0, 255).astype(np.uint8), label


def with_logits(segmenter: EdgeSegmenter, bundle: ModelBundle, pairs: list[Labelled]) -> Quality:
    """Measure with the logits enlarged instead of the probabilities."""
    quality, backend = Quality(), segmenter.backend
    codec = pixels.Codec(bundle.input, bundle.output, eats=backend.input, returns=backend.output)
    for frame, label in pairs:
        picture, placement = pixels.prepare(frame, bundle.input)
        probability = codec.decode(backend.infer(codec.encode(picture)))
        clipped = np.clip(probability.astype(np.float64), 1e-7, 1 - 1e-7)
        logit = np.log(clipped / (1 - clipped)).astype(np.float32)
        full = pixels.restore(logit, placement, bundle.input, size=label.shape[:2])
        quality.add(pixels.sigmoid(full.astype(np.float32)), label)
    return quality


def resizer(method: int) -> Callable[[Frame, tuple[int, int]], Frame]:
    """One of OpenCV's own resizes, in the place of the runtime's shrink."""

    def resized(frame: Frame, size: tuple[int, int]) -> Frame:
        return np.asarray(cv2.resize(frame, size[::-1], interpolation=method), np.uint8)

    return resized


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--artifact", default="tflite-int8")
    args = parser.parse_args()
    bundle = ModelBundle.load(args.bundle)
    pairs = list(labelled_pairs(args.labels))
    with open_artifact(bundle, bundle.named(args.artifact), threads=2) as segmenter:
        cases = {
            "small pictures, probabilities enlarged": evaluate(segmenter, pairs),
            "small pictures, logits enlarged": with_logits(segmenter, bundle, pairs),
        }
        ours, side = pixels.shrink, max(bundle.input.height, bundle.input.width)
        ways = {
            "our shrink": ours,
            "area averaging": resizer(cv2.INTER_AREA),
            "plain bilinear": resizer(cv2.INTER_LINEAR),
        }
        for name, way in ways.items():
            pixels.shrink = way  # type: ignore[assignment]  # where `prepare` looks it up
            cases[f"1280 px with detail, {name}"] = evaluate(segmenter, enlarged(pairs, side))
        pixels.shrink = ours
    for name, quality in cases.items():
        figures = quality.to_dict()
        print(
            f"{bundle.name} {args.artifact}  {name:40s} mIoU {100 * figures['miou']:.2f}  "
            f"boundary F {100 * figures['boundary_f']:.2f}  SC {100 * figures['sc']:.2f}"
        )


if __name__ == "__main__":
    main()
