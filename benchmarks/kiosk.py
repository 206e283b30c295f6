"""What a kiosk costs while it runs: memory and CPU of examples/kiosk.py's loop, paced by a camera.

    python benchmarks/kiosk.py [BUNDLE] [--seconds 20] [--json FILE]

A simulated camera gives 15 frames/s at 640x480 and 1280x720; each is segmented and put before a
picture. CPU is the share of one core, of the whole process and all its threads (getrusage), beside
the same loop without the network, so that camera and display are not counted as ours. A figure of
this machine: no board runs at its speed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FPS = 15
SIZES = ((480, 640), (720, 1280))
MODES = ("whole loop", "camera and display only")


def main() -> None:
    """Measure every size and mode in a process of its own; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        height, width, mode = args.one
        print(json.dumps(_measure(args.bundle, (int(height), int(width)), mode, args.seconds)))
        return
    from edge_seg import machine
    from edge_seg.files import check_place, write_whole

    if args.json:
        check_place(args.json)
    report: dict[str, Any] = {"measured_on": machine.measured_on(), "fps_asked": FPS, "rows": []}
    print(f"Measured on {report['measured_on']}: not a figure of any board.")
    for size in SIZES:
        for mode in MODES:
            row = _in_a_process(args, size, mode)
            report["rows"].append(row)
            peak, grown = (row[key] / 2**20 for key in ("peak_memory_bytes", "grown_bytes"))
            print(
                f"{size[1]}x{size[0]} {mode}: {row['fps']:.1f} frames/s, {row['dropped']} dropped, "
                f"{100 * row['cpu']:.0f} % of one core, peak {peak:.0f} MiB, grown {grown:+.1f} "
                f"MiB, frame to picture p50 {row['ms']['p50']:.1f} p99 {row['ms']['p99']:.1f} ms"
            )
    if args.json:
        write_whole(args.json, json.dumps(report, indent=1) + "\n")


def _in_a_process(args: argparse.Namespace, size: tuple[int, int], mode: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *filter(None, [args.bundle])]
    command += ["--seconds", str(args.seconds), "--one", *map(str, size), mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def _measure(
    bundle: str | None, size: tuple[int, int], mode: str, seconds: float
) -> dict[str, Any]:
    import cv2

    from edge_seg import EdgeSegmenter, machine
    from edge_seg.bench import percentiles
    from edge_seg.camera import LiveSource, open_source
    from edge_seg.compositing import blend, plain

    cv2.setNumThreads(1)
    background, full = plain(size, (200, 120, 30)), np.full(size, 255, np.uint8)
    times: list[float] = []
    with EdgeSegmenter.open(bundle) as segmenter:
        text = f"fake:size={size[1]}x{size[0]},fps={FPS}"
        with open_source(text) as source:
            assert isinstance(source, LiveSource)
            warm = time.monotonic() + 3.0  # the fake camera draws its pictures once
            began = used = held = dropped = 0.0
            for shot in source:
                start = time.perf_counter()
                mask = (
                    segmenter.segment_shot(shot, source, dtype="uint8")
                    if mode == MODES[0]
                    else full
                )
                blend(shot.frame, background, mask)
                times.append(time.perf_counter() - start)
                if not began and time.monotonic() > warm:
                    began, used, held = time.monotonic(), _cpu(), _resident()
                    dropped = source.counters.dropped
                    times.clear()
                if began and time.monotonic() - began > seconds:
                    break
            wall = time.monotonic() - began
            return {
                "size": list(size),
                "mode": mode,
                "fps": len(times) / wall,
                "dropped": int(source.counters.dropped - dropped),
                "cpu": (_cpu() - used) / wall,
                "peak_memory_bytes": machine.peak_memory(),
                "grown_bytes": int(_resident() - held),
                "ms": percentiles(times),
                "runtime": str(segmenter.runtime),
            }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return float(pages * resource.getpagesize())


if __name__ == "__main__":
    main()
