"""What a smoother costs, beside the float inference of a reference network in the same run.

python benchmarks/smoothing_cost.py --reference out/bundles/pphumanseg_v2_lite
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from clips import Camera, Clip, Scene, calm, drawn_person, drawn_room

from edge_seg.baselines import BASELINES, baseline
from edge_seg.bundle import ModelBundle
from edge_seg.comparison import bare_call, side_by_side
from edge_seg.segmenter import open_artifact
from edge_seg.smoothing import Guiding, Smoother, Steady

METHODS: dict[str, Callable[[], Smoother]] = {
    "steady": Steady,
    **{name: partial(baseline, name) for name in BASELINES},
}
FLOAT = "tflite-fp32"
FRAMES = 24
STEADIED = "and the picture"
FULL = (256, 144)  # of a network whose mask is as large as its input (width, height)


def costs(
    methods: Mapping[str, Callable[[], Smoother]],
    bundle: ModelBundle,
    artifact: str,
    reference: Path | None,
) -> dict[str, float]:
    """Return median milliseconds of an update per method, and of the networks' bare inference.

    Masks and pictures have the sizes of the bundle's network; "NAME 256x144" the same for a mask
    as large as the picture; "NAME, and the picture" with the averaged picture, which is made where
    contours are drawn. One OpenCV thread. "float reference" is there with a reference.
    """
    cv2.setNumThreads(1)
    spec = bundle.input
    with open_artifact(bundle, bundle.named(artifact)) as segmenter:
        height, width = segmenter.backend.output.size
        sizes = (spec.width, spec.height), (width, height)
        calls: dict[str, Callable[[], object]] = {"network": bare_call(segmenter.backend)}
        for name, make in methods.items():
            calls[name] = updates(make(), *sizes)
            if isinstance(smoother := make(), Guiding):
                calls[f"{name}, {STEADIED}"] = updates(smoother, *sizes, steadied=True)
            calls[f"{name} 256x144"] = updates(make(), FULL, FULL)
        if reference is None:
            return side_by_side(calls)
        other = ModelBundle.load(reference)
        with open_artifact(other, other.named(FLOAT)) as floating:
            calls["float reference"] = bare_call(floating.backend)
            return side_by_side(calls)


def updates(
    smoother: Smoother,
    picture_size: tuple[int, int],
    mask_size: tuple[int, int],
    *,
    steadied: bool = False,
) -> Callable[[], object]:
    """An update on the next of a talking person's frames, again and again."""
    scene = Scene(drawn_room(), ((drawn_person(), calm()),))
    shots = list(Clip("cost", "head", ((0, scene),), Camera(), FRAMES / 30).render())
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(s.frame, picture_size, interpolation=cv2.INTER_AREA) for s in shots]
    masks = [
        (cv2.resize(s.label.astype(np.float32), mask_size, interpolation=cv2.INTER_AREA) * 0.96)
        + rng.uniform(0, 0.04, mask_size[::-1]).astype(np.float32)
        for s in shots
    ]
    count = [0]

    def call() -> object:
        i = count[0] = count[0] + 1
        j = i % (2 * FRAMES - 2)
        j = j if j < FRAMES else 2 * FRAMES - 2 - j  # to and fro: no cut
        mask = smoother.update(masks[j], pictures[j], i / 30)
        if steadied and isinstance(smoother, Guiding):
            smoother.steadied(pictures[j])
        return mask

    return call


def print_costs(times: Mapping[str, float]) -> None:
    """Print milliseconds, and shares of the reference where there is one."""
    whole = times.get("float reference")
    for name, ms in times.items():
        share = f"   {ms / whole:.3f} of the float reference" if whole else ""
        print(f"{name:27s} {ms:7.3f} ms{share}")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="default: the network that ships")
    parser.add_argument("--artifact", default="tflite-int8")
    parser.add_argument("--reference", type=Path, help="bundle whose float inference costs 1")
    args = parser.parse_args()
    print_costs(costs(METHODS, ModelBundle.load(args.bundle), args.artifact, args.reference))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
