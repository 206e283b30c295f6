"""What a part of the training is worth: runs with and without it from one warm start, paired.

    python benchmarks/worth.py scl --data DIR --teacher MASKS -o out/scl [--jobs 2]
    python benchmarks/worth.py scl ... --sweep 0.02,0.05,0.1,0.2     lambda first, on a seed apart
    python benchmarks/worth.py scl-v1-lite --begin OFFICIAL.onnx --data ... --teacher ... -o out/v1
    python benchmarks/worth.py recipe --data DIR --teacher MASKS -o out/recipe [--jobs 2]
    python benchmarks/worth.py stage --data DIR --teacher MASKS -o out/stage [--jobs 2]

    scl          cross-entropy alone (ce), with the Lovasz hinge, with SCL; begins with `base`,
                 trained on with cross-entropy alone
    scl-v1-lite  the same with the paper's network; begins with its official weights, trained on so
    recipe       the recipe as it is (whole), and without one part at a time; begins with a network
                 that learned from labels alone, so that each part can still show what it brings
    stage        the last stage of the network that ships, and without one part at a time; begins
                 with `tuned`, as that stage did

Every run of a seed sees the same samples in the same order, as far as the part allows, and begins
from the same weights. Differences are taken per seed against the first arm. Two intervals of 95 %
are printed, because they answer two questions:

    over seeds      t with (seeds - 1) degrees of freedom: would another run say the same?
    over pictures   bootstrap of val.txt's pictures, seeds averaged: would another val.txt?

`seen` is half the first interval's width: a smaller effect could not have been seen. A run that
was judged is not run again, one that was stopped goes on: the same command resumes. `--data` needs
val.txt; hard_negatives.txt beside the backgrounds adds the empty rooms.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIDE, BATCH = 160, 32
FIRST_SEED, SWEEP_SEED = 101, 100


@dataclass(frozen=True)
class Experiment:
    """begin: what the warm start begins with, None: --begin, or random weights. warm, common:
    settings of the warm start (None: there is none) and of every run after it, steps of `BATCH`
    included. arms: what each changes; the first is what the others are held against. untaught: arms
    without the teachers' masks. counted: arms whose loss counts the people whom a teacher sees and
    the label forgot.
    """

    begin: Path | None
    warm: dict[str, Any] | None
    common: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    untaught: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()


WARM = "warm"  # the folder of the warm start, and its name as an arm
LABELS = {"unlabelled": 0.0, "composites": 0.0, "rooms": 0.0, "edge": 0.0, "overlap": 0.0}
PORTRAIT = {"unlabelled": 0.2, "composites": 0.22, "rooms": 0.2, "cards": 0.04, "edge": 3.0}
PORTRAIT |= {"overlap": 0.5, "scl": 0.1, "lovasz": 0.3}  # training/portrait.json
SCL: dict[str, dict[str, Any]] = {"ce": {}, "lovasz": {"lovasz": 0.5}, "scl": {"scl": 0.1}}
STAGE: dict[str, Any] = {"composites": 0.25, "small": 0.15, "decoys": 0.5, "keep": 0.3}
STAGE = PORTRAIT | STAGE | {"shape": "fine", "batch": 64}  # training/decoys.json
V1_LITE = {"shape": "pphumanseg-v1-lite", "lr": 5e-4, "overlap": 0.0}
KEPT = Path(__file__).parent.parent / "training"  # weights in the repository
EXPERIMENTS = {
    "scl": Experiment(
        begin=KEPT / "base.safetensors",
        warm={"steps": 400, "lr": 5e-4, "overlap": 0.0},
        common={"steps": 800, "lr": 5e-4, "overlap": 0.0},  # CE alone is CE alone
        arms=SCL,
    ),
    "scl-v1-lite": Experiment(
        begin=None,
        warm={"steps": 400, **V1_LITE},
        common={"steps": 300, **V1_LITE},  # its depthwise layers train slowly on a CPU
        arms={name: SCL[name] for name in ("ce", "scl")},
    ),
    "recipe": Experiment(
        begin=None,
        warm={"steps": 1600, "lr": 2e-3, "sizes": [[0, 96], [1200, SIDE]], **LABELS},
        common={"steps": 400, "lr": 1e-3, **PORTRAIT},
        arms={
            "whole": {},
            "no-teacher": {"unlabelled": 0.0},  # pictures without labels need one
            "no-unlabelled": {"unlabelled": 0.0},
            "no-composites": {"composites": 0.0},
            "no-edge": {"edge": 0.0},
        },
        untaught=(WARM, "no-teacher"),
    ),
    "stage": Experiment(
        begin=KEPT / "tuned.safetensors",
        warm=None,
        common={"steps": 300, "lr": 7e-4, **STAGE},
        arms={
            "whole": {},
            "no-teacher": {"unlabelled": 0.0},
            "no-unlabelled": {"unlabelled": 0.0},
            "no-composites": {"composites": 0.0},
            "no-decoys": {"decoys": 0.0},
            "few-rooms": {"rooms": 0.05},
            "no-edge": {"edge": 0.0},
            "no-overlap": {"overlap": 0.0},
            "no-scl": {"scl": 0.0},
            "no-lovasz": {"lovasz": 0.0},
            "no-ema": {"ema": 0.0},
            "no-keep": {"keep": 0.0},
            "counted": {},
        },
        untaught=("no-teacher",),
        counted=("counted",),
    ),
}
FIGURES = {"miou": "mIoU", "person_iou": "person IoU", "boundary_f": "boundary F", "sc": "SC"}
FIGURES |= {"specks": "specks", "room_share": "rooms", "room_alarms": "room alarms"}
# Student's t at 97.5 %, by degrees of freedom
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
DRAWS = 2000


def settings(args: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """The recipe of a run: nothing but what the arm names differs within an experiment."""
    experiment = EXPERIMENTS[args.experiment]
    if arm == WARM:
        assert experiment.warm is not None, f"{args.experiment} has no warm start"
        changes = experiment.warm
    else:
        changes = experiment.common | experiment.arms[arm]
    steps = (args.warm_steps if arm == WARM else args.steps) or changes["steps"]
    sizes = changes.get("sizes", [[0, SIDE]])
    return {
        "shape": "base",
        "batch": BATCH,
        "warmup": min(50, steps // 4),
        "decay_from": steps // 4,
        "ema": 0.99,
        "seed": seed,
        "save_every": 100,
        "judge_every": steps + 1,  # judged once, by `judged`
        **changes,
        "sizes": [pair for pair in sizes if pair[0] < steps],
        "steps": steps,
        **({"scl": args.weight} if args.weight is not None else {}),
    }


def name_of(arm: str, seed: int, weight: float | None = None) -> str:
    """The folder of a run."""
    if arm == WARM:
        return WARM
    return f"{arm}{'' if weight is None else f'-{weight:g}'}-{seed}"


# -- one run, in a process of its own --------------------------------------------------------------


def one(args: argparse.Namespace) -> None:
    """Train and judge one run; write result.json into its folder."""
    import torch

    from edge_seg.files import write_whole
    from edge_seg.training import collection
    from edge_seg.training.augment import Renderer
    from edge_seg.training.fit import Run
    from edge_seg.training.processes import Place
    from edge_seg.training.recipe import Recipe
    from edge_seg.training.state import WARM as WEIGHTS

    torch.set_num_threads(1)
    arm, seed = args.one[0], int(args.one[1])
    experiment = EXPERIMENTS[args.experiment]
    folder = args.out / name_of(arm, seed, args.weight)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe.from_dict(settings(args, arm, seed))
    run = Run(folder, recipe, place=Place(0, 1, torch.device("cpu")))
    first = arm == WARM or experiment.warm is None
    begin = (args.begin or experiment.begin) if first else args.out / WARM / WEIGHTS
    if not run.resume() and begin is not None:
        run.start_from(begin)
        run.tuning = False  # the start is judged by its own run
    pictures = args.out / "pictures"
    if untaught := arm in experiment.untaught:
        pictures = args.out / "pictures-labels"
    if arm in experiment.counted:
        pictures, collection.FORGOTTEN = args.out / "pictures-counted", 255
    files = collection.find(args.data, teacher=None if untaught else args.teacher)
    store = collection.open_store(files, pictures, side=SIDE * 10 // 7)
    renderer = Renderer(store, recipe)
    if run.step < recipe.steps:
        run.fit(renderer, lambda network, side: {"miou": 0.0})  # judged below
    result = judged(run.averaged, files)
    write_whole(folder / "result.json", json.dumps(result))


def judged(network: Any, files: Any) -> dict[str, Any]:
    """Per picture of val: areas, boundary F, SC, specks; and the shares of the empty rooms."""
    from edge_seg.calibration.dataset import load_image, load_pair
    from edge_seg.metrics import Quality, binary
    from edge_seg.training.judge import Judge

    judge = Judge(files.val, files.hard_rooms)
    pictures = []
    for frame, label in map(load_pair, files.val):
        quality = Quality()
        quality.add(judge._mask(network, frame, SIDE, label.shape), label)  # noqa: SLF001
        row = asdict(quality.areas) | {
            "boundary_f": quality.boundary[0],
            "sc": quality.sc[0],
            "specks": quality.speck_counts[0],
        }
        pictures.append(row)
    rooms = []
    for path in files.hard_rooms:
        room = load_image(path)
        mask = judge._mask(network, room, SIDE, room.shape[:2])  # noqa: SLF001
        rooms.append(float(binary(mask, mask.shape).mean()))
    return {"pictures": pictures, "rooms": rooms}


# -- what came of it -------------------------------------------------------------------------------


COLUMNS = ("both", "only_predicted", "only_true", "neither", "boundary_f", "sc", "specks")


@dataclass(frozen=True)
class Judged:
    """A run's result. pictures: float64 (n, len(COLUMNS)). rooms: share of person in each, 0..1."""

    pictures: np.ndarray
    rooms: list[float]

    @classmethod
    def of(cls, result: dict[str, Any]) -> Judged:
        """Read what `judged` returned."""
        rows = [[row[name] for name in COLUMNS] for row in result["pictures"]]
        return cls(np.array(rows, np.float64), result["rooms"])


def figures(run: Judged, picked: np.ndarray | None = None) -> dict[str, float]:
    """Figures over the pictures (or those picked, with repetition), in percent; specks are a count.

    Empty rooms are never resampled.
    """
    from edge_seg.metrics import Areas, empty_rooms

    table = run.pictures if picked is None else run.pictures[picked]
    areas = Areas(*(int(n) for n in table[:, :4].sum(axis=0)))
    found = {"miou": 100 * areas.miou, "person_iou": 100 * areas.person_iou}
    found |= {"boundary_f": 100 * table[:, 4].mean(), "sc": 100 * table[:, 5].mean()}
    found |= {"specks": table[:, 6].mean()}
    if run.rooms and picked is None:
        share, alarms = empty_rooms(run.rooms)
        found |= {"room_share": 100 * share, "room_alarms": 100 * alarms}
    return {name: float(value) for name, value in found.items()}


def over_seeds(differences: list[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval (infinite for one seed)."""
    n = len(differences)
    if n < 2:
        return float(np.mean(differences)), float("inf")
    half = T_975[n - 1] * float(np.std(differences, ddof=1)) / n**0.5
    return float(np.mean(differences)), half


def over_pictures(pairs: list[tuple[Judged, Judged]]) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each figure's mean difference, by resampling pictures."""
    random = np.random.default_rng(0)
    count = len(pairs[0][0].pictures)
    draws: dict[str, list[float]] = {}
    for _ in range(DRAWS):
        picked = random.integers(0, count, count)
        both = [(figures(a, picked), figures(b, picked)) for a, b in pairs]
        for name in both[0][0]:
            draws.setdefault(name, []).append(float(np.mean([a[name] - b[name] for a, b in both])))
    ends = {name: np.percentile(values, [2.5, 97.5]) for name, values in draws.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def report(args: argparse.Namespace, arms: list[str], seeds: list[int]) -> None:
    """Print every run, then the paired differences; write summary.json."""
    from edge_seg.files import write_whole

    first, *others = arms
    runs = {
        (arm, seed): Judged.of(
            json.loads((args.out / name_of(arm, seed) / "result.json").read_text())
        )
        for arm in (first, *others)
        for seed in seeds
    }
    rows = {f"{arm} {seed}": figures(run) for (arm, seed), run in runs.items()}
    present = [name for name in FIGURES if name in rows[f"{first} {seeds[0]}"]]
    print("run".ljust(18), *(FIGURES[n].rjust(11) for n in present))
    for name, row in rows.items():
        print(name.ljust(18), *(f"{row[n]:11.2f}" for n in present))
    summary: dict[str, Any] = {"settings": settings(args, first, seeds[0]), "runs": rows}
    for arm in others:
        print(f"\n{arm} - {first}, {len(seeds)} seed(s): mean, seeds' interval, pictures', seen")
        resampled = over_pictures([(runs[arm, seed], runs[first, seed]) for seed in seeds])
        for name in present:
            mean, half = over_seeds(
                [rows[f"{arm} {seed}"][name] - rows[f"{first} {seed}"][name] for seed in seeds]
            )
            low, high = resampled.get(name, (mean, mean))
            between = f"[{low:+.2f}, {high:+.2f}]" if name in resampled else ""
            interval = f"[{mean - half:+.2f}, {mean + half:+.2f}]"
            print(f"{FIGURES[name]:12}{mean:+7.2f}  {interval:18}{between:18}{half:.2f}")
            seen = half if np.isfinite(half) else None  # JSON has no infinity
            summary[f"{arm} - {first}: {name}"] = {
                "mean": mean,
                "half": seen,
                "pictures": [low, high],
            }
    write_whole(args.out / "summary.json", json.dumps(summary, indent=1) + "\n")


# -- the experiment --------------------------------------------------------------------------------


def launch(args: argparse.Namespace, arm: str, seed: int, weight: float | None = None) -> None:
    """Run one, unless its result is there; a failure ends the experiment."""
    name = name_of(arm, seed, weight)
    if (args.out / name / "result.json").is_file():
        return
    words = [sys.executable, __file__, args.experiment, "--data", args.data, "-o", args.out]
    words += ["--teacher", args.teacher] if args.teacher else []
    words += ["--begin", args.begin] if args.begin else []
    words += ["--steps", args.steps] if args.steps else []
    words += ["--warm-steps", args.warm_steps] if args.warm_steps else []
    words += ["--weight", weight] if weight is not None else []
    subprocess.run([str(word) for word in (*words, "--one", arm, seed)], check=True)
    print(f"done: {name}", flush=True)


def together(args: argparse.Namespace, calls: list[tuple[Any, ...]]) -> None:
    """Launch runs, --jobs at a time."""
    with ThreadPoolExecutor(args.jobs) as pool:
        for future in [pool.submit(launch, args, *call) for call in calls]:
            future.result()


def sweep(args: argparse.Namespace) -> None:
    """Try lambdas of SCL, on a seed of their own."""
    weights = [0.0, *(float(text) for text in args.sweep.split(","))]
    together(args, [("scl", SWEEP_SEED, weight) for weight in weights])
    for weight in weights:
        folder = args.out / name_of("scl", SWEEP_SEED, weight)
        found = figures(Judged.of(json.loads((folder / "result.json").read_text())))
        print(f"lambda {weight:g}:", *(f"{FIGURES[n]} {v:.2f}" for n, v in found.items()))


def main() -> None:
    """The warm start, then the sweep or every arm with every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, len(T_975) + 2))
    parser.add_argument("--begin", type=Path, help="what the warm start begins with")
    parser.add_argument("--steps", type=int, help="of a run, instead of the experiment's own")
    parser.add_argument("--warm-steps", type=int)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    parser.add_argument("--arms", nargs="+", help="these alone, beside the first")
    parser.add_argument("--sweep", help="scl: lambdas to try, on a seed of their own")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--weight", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.experiment == "scl-v1-lite" and not args.begin:
        parser.error("scl-v1-lite: wanted --begin with the official network, .onnx")
    if args.sweep and args.experiment != "scl":
        parser.error("--sweep: wanted the experiment scl, whose lambdas they are")
    if args.one:
        one(args)
        return
    if EXPERIMENTS[args.experiment].warm is not None:
        launch(args, WARM, SWEEP_SEED - 1)
    if args.sweep:
        sweep(args)
        return
    seeds = list(range(FIRST_SEED, FIRST_SEED + args.seeds))
    first, *others = EXPERIMENTS[args.experiment].arms
    if unknown := set(args.arms or ()) - set(others):
        parser.error(f"--arms: wanted some of {', '.join(others)}, found {', '.join(unknown)}")
    arms = [first, *(args.arms or others)]
    together(args, [(arm, seed) for seed in seeds for arm in arms])
    report(args, arms, seeds)


if __name__ == "__main__":
    main()
