"""Is a picked set of calibration frames better than a random one?

    python benchmarks/calibration.py MODEL.onnx --calibration train.txt --labels val.txt
        [--mostly VIDEO --few N] [--counts 8,32,100] [--seeds 5] [--to tflite,openvino]
        [-o RESULTS.json] [--plot FILE.png]

For every target, number of frames and seed the network is quantized twice, on frames that
`sampling.pick` chose and on as many drawn at random, and judged on the labelled pictures. The
results are written after each, and a run that was stopped goes on where it was; then the table is
printed: points lost against the float artifact, mean and range over the seeds.

--mostly makes the source lopsided, as recordings are: every frame of one video, and among them
only N pictures of the list, evenly spaced.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_seg import pixels
from edge_seg.arrays import Labelled
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.calibration.dataset import Pair, labelled_pairs
from edge_seg.calibration.frames import CalibrationSet
from edge_seg.calibration.sampling import Survey, choose, spread, survey
from edge_seg.calibration.sources import Frames, open_frames
from edge_seg.camera import open_source
from edge_seg.converters import family, onnx, targets
from edge_seg.converters.targets import OUTPUT, Network, Workpiece
from edge_seg.files import sha256_of, write_whole
from edge_seg.metrics import Areas, binary
from edge_seg.segmenter import open_artifact

WAYS = ("random", "pick")
FIGURES = {"miou": "mIoU", "person_iou": "person IoU"}
Results = dict[str, Any]


def draw(seen: Survey, way: str, *, count: int, seed: int) -> list[int]:
    """Indices of the frames one way takes, in rising order."""
    if way == "pick":
        return sorted(c.index for c in choose(seen.candidates, count, seed))
    random = np.random.default_rng(seed)
    taken = random.choice(len(seen.candidates), count, replace=False)
    return sorted(seen.candidates[i].index for i in taken)


def prepared(frames: Frames, wanted: list[int], network: Network) -> CalibrationSet:
    """The calibration set of these frames."""
    pictures = []
    for _, frame in frames.read(wanted):
        assert isinstance(frame, np.ndarray), frame
        pictures.append(pixels.prepare(frame, network.input)[0])
    return CalibrationSet(pictures)


def judged(work: Workpiece, artifact: Artifact, pairs: list[Labelled]) -> dict[str, float]:
    """The figures of an artifact in the workpiece's folder, as fractions."""
    bundle = ModelBundle(work.folder, "benchmark", work.network.input, OUTPUT, (artifact,))
    areas = Areas()
    with open_artifact(bundle, artifact, threads=2) as segmenter:
        for frame, label in pairs:
            size = (label.shape[0], label.shape[1])
            areas.add(binary(segmenter.segment(frame, size=size), size), label)
    return {key: getattr(areas, key) for key in FIGURES}


def lopsided(video: Path, pairs: list[Pair], few: int, folder: Path) -> Path:
    """A list of every frame of a video (one scene: a clip's folder) and of a few other pictures."""
    (folder / "camera" / "frames").mkdir(parents=True)
    (folder / "camera" / "masks").mkdir()
    names = []
    with open_source(video) as source:
        for shot in source:
            path = folder / "camera" / "frames" / f"{shot.name}.jpg"
            cv2.imwrite(str(path), shot.frame, [cv2.IMWRITE_JPEG_QUALITY, 95])
            names.append(str(path))
    names += [str(pair.image.resolve()) for pair in spread(pairs, few)]
    (folder / "lopsided.txt").write_text("".join(f"{n}\n" for n in names), encoding="utf-8")
    return folder / "lopsided.txt"


def measure(
    args: argparse.Namespace, network: Network, results: Results, folder: Path
) -> Iterator[str]:
    """Fill in what the results lack, one conversion at a time; yields each one's name."""
    missing = [
        (f"{target} {way} {count} {seed}", target, way, count, seed)
        for seed, count, way, target in product(range(args.seeds), args.counts, WAYS, args.to)
    ]
    missing = [wanted for wanted in missing if wanted[0] not in results["int8"]]
    if not missing:
        return
    frames = open_frames(args.calibration)
    if args.mostly is not None:
        frames = open_frames(lopsided(args.mostly, frames.pairs, args.few, folder / "source"))
    pairs, seen = list(labelled_pairs(args.labels)), survey(frames)
    work = Workpiece(network, CalibrationSet([]), folder, lambda message, done, total: None)
    work.calibration = prepared(frames, draw(seen, "random", count=8, seed=0), network)
    for target in args.to:
        artifact = targets.TARGETS[target][0](work)
        results["float"][target] = judged(work, artifact, pairs)
    for name, target, way, count, seed in missing:
        work.calibration = prepared(frames, draw(seen, way, count=count, seed=seed), network)
        results["int8"][name] = judged(work, targets.TARGETS[target][1](work), pairs)
        yield name


def lost(results: Results, target: str, way: str, count: int, *, key: str) -> list[float]:
    """Points lost against float, one per seed that was measured."""
    whole = results["float"][target][key]
    start = f"{target} {way} {count} "
    return [100 * (whole - f[key]) for n, f in results["int8"].items() if n.startswith(start)]


def table(results: Results, args: argparse.Namespace) -> str:
    """The table, in Markdown: mean (least..greatest) of the points lost."""
    head = [f"{title}, {way}" for title in FIGURES.values() for way in WAYS]
    lines = ["| target | frames | " + " | ".join(head) + " |", "|---|---|" + "---|" * len(head)]
    for target, count in product(args.to, args.counts):
        cells = []
        for key, way in product(FIGURES, WAYS):
            found = lost(results, target, way, count, key=key)
            ends = f" ({min(found):.2f}..{max(found):.2f})" if found else ""
            cells.append(f"{np.mean(found):.2f}{ends}" if found else "-")
        lines.append(f"| {target} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: Results, args: argparse.Namespace) -> None:
    """Every conversion as a point: frames across, points of mIoU lost upwards."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(args.to), figsize=(4.2 * len(args.to), 3.4), squeeze=False, sharey=True
    )
    for axis, target in zip(axes[0], args.to, strict=True):
        for way, shift, mark in (("random", -0.12, "o"), ("pick", 0.12, "s")):
            for place, count in enumerate(args.counts):
                found = lost(results, target, way, count, key="miou")
                label = way if place == 0 else None
                colour = "tab:gray" if way == "random" else "tab:blue"
                points = [place + shift] * len(found)
                axis.scatter(points, found, 26, colour, marker=mark, label=label)
        axis.set_xticks(range(len(args.counts)), [str(count) for count in args.counts])
        axis.set(title=target, xlabel="calibration frames")
        axis.axhline(0, color="black", linewidth=0.8)
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].set_ylabel("points of mIoU lost against float")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(args.plot, dpi=110)


def numbers(text: str) -> list[int]:
    """Read 8,32,100."""
    return [int(number) for number in text.split(",")]


def main() -> None:
    """Measure what is missing, write it down, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--counts", type=numbers, default=[8, 32, 100])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--to", type=lambda text: text.split(","), default=["tflite", "openvino"])
    parser.add_argument("--mostly", type=Path, metavar="VIDEO")
    parser.add_argument("--few", type=int, default=20, metavar="N")
    parser.add_argument("-o", "--output", type=Path, default=Path("calibration-results.json"))
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    network = Network(args.model, *family.known_spec(onnx.load(args.model)))
    given = [args.model, args.calibration, args.labels, *([args.mostly] if args.mostly else [])]
    asked = {path.name: sha256_of(path) for path in given}
    results: Results = {"of": asked, "float": {}, "int8": {}}
    if args.output.is_file():
        results = json.loads(args.output.read_text(encoding="utf-8"))
        assert results["of"] == asked, f"{args.output} is of other files; name another"
    with tempfile.TemporaryDirectory() as name:
        for done in measure(args, network, results, Path(name)):
            write_whole(args.output, json.dumps(results, indent=1) + "\n")
            print(done, results["int8"][done], flush=True)
    print(table(results, args))
    if args.plot is not None:
        plot(results, args)


if __name__ == "__main__":
    main()
