"""edge-seg beside MediaPipe's own Python API: a frame to its mask, and a cold start.

    python benchmarks/mediapipe_api.py [--json FILE]

Frame to mask: 640x480 BGR in, a soft float mask of that size out, the network that ships (int8,
smoother and contours off) and MediaPipe 0.10.21's selfie segmentation (general, its own model
file), each in a process of its own, all held to the same one processor core, in turn, medians. The
same in OpenVINO, where it is installed: what the board `pc-avx2` runs. The frames show
scikit-image's astronaut (NASA, public domain). Cold start: a new Python until the first mask, and
the most memory it held; in turn, medians.

MediaPipe gets an environment of its own under EDGE_SEG_CACHE, made on first use (about 1 GB).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from somebody import somebody

from edge_seg import machine
from edge_seg.converters.environment import Tool, python
from edge_seg.files import check_place, write_whole

# All that `pip install mediapipe==0.10.21` brings on Python 3.11, written down.
MEDIAPIPE = Tool(
    "mediapipe",
    (
        *("mediapipe==0.10.21", "numpy==1.26.4", "opencv-contrib-python==4.11.0.86"),
        *("absl-py==2.5.1", "attrs==26.1.0", "cffi==2.1.1", "contourpy==1.3.3", "cycler==0.12.1"),
        *("flatbuffers==25.12.19", "fonttools==4.68.0", "jax==0.7.1", "jaxlib==0.7.1"),
        *("kiwisolver==1.5.1", "matplotlib==3.11.2", "ml_dtypes==0.5.4", "opt_einsum==3.4.0"),
        *("packaging==26.4", "pillow==13.0.0", "protobuf==4.25.9", "pycparser==3.12"),
        *("pyparsing==3.3.3", "python-dateutil==4.0.0", "scipy==1.17.1", "sentencepiece==0.2.3"),
        *("sounddevice==0.5.6", "tzdata==2026.6"),
    ),
    "from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation",
)
SIDE = Path(__file__).parent / "one_side.py"
OURS, CONTOURS, THEIRS = "edge-seg", "edge-seg-contours", "mediapipe"
LITE, LITE_CONTOURS = "edge-seg-lite", "edge-seg-lite-contours"
IN_OPENVINO = tuple(f"{side}-openvino" for side in (OURS, CONTOURS, LITE, LITE_CONTOURS))
WORDS = {
    CONTOURS: "with the mask brought to the contours, as by default",
    LITE: "portrait-lite, without",
    LITE_CONTOURS: "portrait-lite, with",
    IN_OPENVINO[0]: "in OpenVINO, without",
    IN_OPENVINO[1]: "in OpenVINO, with",
    IN_OPENVINO[2]: "portrait-lite in OpenVINO, without",
    IN_OPENVINO[3]: "portrait-lite in OpenVINO, with",
}
FRAME_BUDGET, COLD_BUDGET, MEMORY_BUDGET = 0.4, 0.5, 90.0  # of theirs, of theirs, MB
WARM_UP, ROUNDS, BLOCK, COLD = 30, 40, 10, 9


def interpreters() -> dict[str, Path]:
    """Return each side's Python, making MediaPipe's environment where it is missing."""

    def told(what: str, done: int, total: int) -> None:
        print(f"{what} {done}/{total or '?'}", end="\r", file=sys.stderr)

    ours = Path(sys.executable)
    also = IN_OPENVINO if find_spec("openvino") else ()
    mine = dict.fromkeys((OURS, CONTOURS, LITE, LITE_CONTOURS, *also), ours)
    return {**mine, THEIRS: python(told, MEDIAPIPE)}


def write_frames(path: Path) -> None:
    """Write four frames of 640x480 BGR, of somebody who moves by a few pixels."""
    np.save(path, np.stack(somebody((480, 640), 4)))


def let_go_of_files(pythons: dict[str, Path]) -> None:
    """Have the system read libraries from the disk again, as after a start.

    Of files that were written a moment ago it maps larger pieces than a program touches, which
    count as the program's memory: 113 MB in place of 75 were seen after an installation.
    """
    os.sync()
    for prefix in {str(path.parent.parent) for path in pythons.values()}:
        for library in Path(prefix).rglob("*.so*"):
            with library.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def serving(interpreter: Path, side: str, frames: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a side that waits for numbers of calls."""
    process = subprocess.Popen(
        [interpreter, SIDE, side, frames, "calls"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        if process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{side} did not start: python {SIDE} {side} {frames} cold")
        yield process
    finally:
        process.stdin.close()
        process.wait(30)


def calls(process: subprocess.Popen[str], count: int) -> list[float]:
    """Return the milliseconds of so many calls."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{count}\n")
    process.stdin.flush()
    return list(json.loads(process.stdout.readline()))


def frame_to_mask(pythons: dict[str, Path], frames: Path) -> dict[str, float]:
    """Return each side's median milliseconds, blocks of calls in turn."""
    times: dict[str, list[float]] = {side: [] for side in pythons}
    with ExitStack() as stack:
        sides = {s: stack.enter_context(serving(path, s, frames)) for s, path in pythons.items()}
        for process in sides.values():
            calls(process, WARM_UP)
        for _ in range(ROUNDS):
            for side, process in sides.items():
                times[side] += calls(process, BLOCK + 2)[2:]  # the caches are the other's
    return {side: float(np.median(found)) for side, found in times.items()}


def cold_start(pythons: dict[str, Path], frames: Path) -> dict[str, tuple[float, float]]:
    """Return (seconds, MB at most) of each side, medians; the first of each is not counted."""
    sides = (side for side in (OURS, CONTOURS, IN_OPENVINO[0], THEIRS) if side in pythons)
    let_go_of_files(pythons)
    seen: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
    for _ in range(COLD + 1):
        for side in seen:
            command = [str(pythons[side]), str(SIDE), side, str(frames), "cold"]
            start = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            if done.returncode:
                raise SystemExit(f"{side} failed: {' '.join(map(str, command))}")
            seen[side].append((seconds, int(done.stdout.split()[-1]) / 1e6))
    medians = {side: np.median(np.array(rows[1:]), axis=0) for side, rows in seen.items()}
    return {side: (float(m[0]), float(m[1])) for side, m in medians.items()}


def main() -> int:
    """Measure, print, exit 1 over budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.json:
        check_place(args.json)
    pythons = interpreters()
    every_core = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder, "frames.npy")
        write_frames(frames)
        both = frame_to_mask(pythons, frames)
        os.sched_setaffinity(0, {min(every_core)})
        frame = frame_to_mask(pythons, frames)
        os.sched_setaffinity(0, every_core)
        cold = cold_start(pythons, frames)
    ratio, unheld = frame[OURS] / frame[THEIRS], both[OURS] / both[THEIRS]
    start, memory = cold[OURS][0] / cold[THEIRS][0], cold[OURS][1]
    print(f"on {machine.measured_on()}")
    print(
        f"640x480 to its mask, one core: {frame[OURS]:.2f} against {frame[THEIRS]:.2f} ms,", end=" "
    )
    print(f"{ratio:.2f}x (budget {FRAME_BUDGET}x)")
    for side in (side for side in WORDS if side in frame):
        print(f"  {WORDS[side]}: {frame[side]:.2f} ms, {frame[side] / frame[THEIRS]:.2f}x")
    print(f"the same, {len(every_core)} cores free to use (ours stays on one thread):", end=" ")
    print(f"{both[OURS]:.2f} against {both[THEIRS]:.2f} ms, {unheld:.2f}x")
    print(f"cold start: {cold[OURS][0]:.2f} against {cold[THEIRS][0]:.2f} s,", end=" ")
    print(f"{start:.2f}x (budget {COLD_BUDGET}x)")
    print(
        f"most memory: {memory:.0f} against {cold[THEIRS][1]:.0f} MB (budget {MEMORY_BUDGET:.0f})"
    )
    for side in (side for side in WORDS if side in cold):
        print(f"  {WORDS[side]}: {cold[side][0]:.2f} s, {cold[side][1]:.0f} MB")
    if args.json:
        found = {
            "measured_on": machine.measured_on(),
            "frame_ms": frame,
            "frame_ms_every_core": both,
            "cold_seconds_and_mb": cold,
        }
        write_whole(args.json, json.dumps(found, indent=1) + "\n")
    good = ratio <= FRAME_BUDGET and start <= COLD_BUDGET and memory <= MEMORY_BUDGET
    print("within budget" if good else "OVER BUDGET")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
