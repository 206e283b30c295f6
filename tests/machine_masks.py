"""Masks of the default network on two machines, or by two libraries, and how they differ.

A script for .ci/aarch64 and tests/test_tflite_runtime.py.

    frames FRAMES.npz                      pictures to look at, written once
    masks FRAMES.npz OUT.npz [FIRST.npz]   here: the small pictures, the network's answers (to the
                                           first machine's small pictures, if given), the masks
    compare FIRST.npz SECOND.npz [CODES SHARE]   exit 1 where they differ by more than they may

The network itself must answer alike: int8 within one code and 99.9 % of decisions the same, or what
is named; float within 1e-4 of a logit. The small pictures must be the same bits, and of whole masks
99.9 % of decisions the same.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg import EdgeSegmenter
from edge_seg.bundle import ModelBundle
from edge_seg.pixels import Codec, prepare
from edge_seg.segmenter import open_artifact

LOGITS = 1e-4  # of the float answer to it
LEVELS = 0  # of a small picture
WHOLE_DECISIONS = "0.999"  # of masks of whole frames: mask >= 0.5


def make_frames(path: Path) -> None:
    """Write pictures: a portrait in the public domain (scikit-image's astronaut), whole, cut,
    dark and in a corner of a room of noise; and pictures without anybody.
    """
    from skimage import data

    portrait = np.ascontiguousarray(data.astronaut()[:, :, ::-1])  # 512x512, BGR
    random = np.random.default_rng(0)
    room = random.integers(90, 140, (480, 640, 3)).astype(np.uint8)
    corner = room.copy()
    corner[200:456, 300:556] = portrait[::2, ::2]
    frames = {
        "portrait": portrait,
        "cut": np.ascontiguousarray(portrait[:300, 60:400]),
        "dark": (portrait // 4).astype(np.uint8),
        "corner": corner,
        "room": room,
        "wide": cv2.resize(portrait[:288], (640, 360)),  # halved on one side only
        "coffee": np.ascontiguousarray(data.coffee()[:, :, ::-1]),
    }
    np.savez(path, **frames)


def make_masks(frames: Path, out: Path, first: Path | None = None) -> None:
    """Answer every frame with every TFLite artifact, and through the board's own choice."""
    bundle = ModelBundle.load()
    listed = _arrays(frames)
    found = {
        f"{name} picture": prepare(frame, bundle.input, format="bgr")[0]
        for name, frame in listed.items()
    }
    asked = found if first is None else _arrays(first)
    for artifact in (a for a in bundle.artifacts if a.format == "tflite"):
        with open_artifact(bundle, artifact) as segmenter:
            backend = segmenter.backend
            codec = Codec(bundle.input, bundle.output, eats=backend.input, returns=backend.output)
            for name, frame in listed.items():
                tensor = codec.encode(asked[f"{name} picture"])
                found[f"{name} {artifact.name} answer"] = backend.infer(tensor)
                found[f"{name} {artifact.name} mask"] = segmenter.segment(frame)
    with EdgeSegmenter.open(board="raspberry-pi-5") as segmenter:
        print(f"{platform.machine()}: {segmenter.runtime}, {len(found)} arrays")
        if segmenter.degraded:
            raise SystemExit(f"not the board's first runtime: {segmenter.reason}")
    np.savez(out, **found)


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    with np.load(path) as listed:
        return {name: listed[name] for name in listed.files}


def compare(
    first: Path, second: Path, codes: str = "1", share: str = "0.999", whole: str = WHOLE_DECISIONS
) -> int:
    """Print the largest differences; 1 where one is too large, or where nothing was compared.

    codes: how far int8 answers may be apart. share, whole: how many decisions of the answers and
    of the whole masks must be the same.
    """
    may = {"picture": LEVELS, "tflite-int8 answer": float(codes), "tflite-fp32 answer": LOGITS}
    a, b = _arrays(first), _arrays(second)
    if set(a) != set(b) or len(a) < 10:
        print(f"wanted the same arrays, found {len(a)} and {len(b)}")
        return 1
    bad = False
    for kind in (*may, "tflite-fp32 mask", "tflite-int8 mask"):
        must = float(whole if kind.endswith("mask") else share)
        pairs = [(a[n], b[n]) for n in a if n.endswith(kind)]
        bad |= _differ(kind, pairs, may=may.get(kind, 1.0), must=must)
    return int(bad)


Pairs = list[tuple[NDArray[np.generic], NDArray[np.generic]]]


def _differ(kind: str, pairs: Pairs, *, may: float, must: float) -> bool:
    """Print how far one kind of array differs; True where too far."""
    gaps = [np.abs(x.astype(np.float64) - y.astype(np.float64)) for x, y in pairs]
    worst, share = max(g.max() for g in gaps), float(np.mean([(g > 0).mean() for g in gaps]))
    middle = 0.5 if kind.endswith("mask") else 0  # a small picture has no decision: all the same
    same = float(np.mean([((x >= middle) == (y >= middle)).mean() for x, y in pairs]))
    fails = not pairs or worst > may or same < must
    told = "" if kind == "picture" else f", {100 * same:.3f} % of decisions the same"
    print(
        f"  {kind}: at most {worst:.3g} apart (in {100 * share:.1f} % of values){told}"
        f"{': TOO FAR' if fails else ''}"
    )
    return fails


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    if verb == "compare":
        sys.exit(compare(Path(paths[0]), Path(paths[1]), *paths[2:]))
    {"frames": make_frames, "masks": make_masks}[verb](*map(Path, paths))
