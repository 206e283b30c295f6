"""`make bench`: every benchmark, on the network that ships and on the official ones where they lie.

The official networks are converted once into out/bundles/ (EDGE_SEG_DATA, default ../shared); their
tables and quality are printed by `edge-seg convert` as it goes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_seg.bundle import DEFAULT_BUNDLE, MANIFEST

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("EDGE_SEG_DATA", ROOT.parent / "shared"))
BUNDLES = ROOT / "out" / "bundles"
PEER = SHARED / "models" / "mediapipe_selfie_256x256_f16.tflite"


failed: list[str] = []


def run(*words: str | Path) -> int:
    """Run Python with these words, shown; return its exit code."""
    command = f"python {' '.join(str(w) for w in words)}"
    print(f"\n$ {command}", flush=True)
    code = subprocess.run([sys.executable, *map(str, words)], check=False).returncode
    if code:
        failed.append(f"{command}  (exit {code})")
    return code


def official() -> list[Path]:
    """Convert the official networks that are here; return their bundles."""
    made = []
    data = SHARED / "data"
    for model in sorted((SHARED / "models").glob("pphumanseg_*.onnx")):
        target = BUNDLES / model.stem.split("_portrait")[0]
        source = ("--calibration", data / "train.txt", "--labels", data / "val.txt")
        if (target / MANIFEST).is_file() or not run(
            "-m", "edge_seg", "convert", model, "--int8", *source, "-o", target
        ):
            made.append(target)
    return made


def main() -> int:
    """Run all; exit 1 where one of them failed."""
    bundles = [DEFAULT_BUNDLE] if (DEFAULT_BUNDLE / MANIFEST).is_file() else []
    bundles += official()
    if not bundles:
        print(f"nothing to measure: no default network, and no official ones under {SHARED}")
        return 0
    peer = ("--mediapipe", PEER) if PEER.is_file() else ()
    run("benchmarks/budgets.py", *bundles, *peer)
    labels = SHARED / "data" / "val.txt"
    data = ("--data", SHARED / "data") if labels.is_file() else ()
    if labels.is_file():
        for bundle in bundles:
            run("benchmarks/resizing.py", bundle, "--labels", labels)
    if bundles[0] == DEFAULT_BUNDLE:
        run("benchmarks/edges.py", DEFAULT_BUNDLE, *data, "--quick")
    for bundle in bundles:
        run("-m", "edge_seg", "bench", bundle)
    reference = BUNDLES / "pphumanseg_v2_lite"
    beside = ("--reference", reference) if (reference / MANIFEST).is_file() else ()
    run("benchmarks/smoothing.py", "--half", *data, *beside, "-o", ROOT / "out" / "smoothing")
    for words in failed:
        print(f"failed, or over its budget: {words}")
    return int(bool(failed))


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
