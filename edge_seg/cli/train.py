"""`edge-seg train --data DIR -o RUN`: train or fine-tune a network; the same command resumes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.errors import DatasetError

if TYPE_CHECKING:
    from edge_seg.training.fit import Row, Run
    from edge_seg.training.recipe import Recipe

# Fine-tuning: fewer, smaller steps, from weights that are good already.
FINE_TUNE = {"steps": 1500, "lr": 4e-4, "warmup": 100, "decay_from": 0, "judge_every": 250}
SETTINGS = ("shape", "steps", "batch", "lr", "seed")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "train",
        help="train a network, or fine-tune the one that ships on your own frames",
        description="Train a network on a folder of pictures. Run the same command again to go "
        "on after a stop. For several processes: torchrun --nproc-per-node N -m edge_seg train ...",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="train.txt and val.txt (or images/ and masks/), and if there are any: backgrounds/ "
        "(rooms without people), cutouts/, unlabeled/",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="default|FILE",
        help="begin from the network that ships, or from a checkpoint of a run",
    )
    parser.add_argument(
        "--restart",
        type=Path,
        metavar="FILE",
        help="go on with a run of which only warm.safetensors is left: its recipe and its step",
    )
    parser.add_argument(
        "-o", dest="out", type=Path, required=True, metavar="RUN", help="run folder"
    )
    parser.add_argument("--recipe", type=Path, metavar="FILE.json", help="settings; flags win")
    parser.add_argument("--shape", help="network shape: lite, base or wide")
    parser.add_argument("--side", type=int, metavar="PX", help="input side, a multiple of 32")
    parser.add_argument("--steps", type=int, metavar="N", help="length of the run")
    parser.add_argument("--batch", type=int, metavar="N", help="samples per step")
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, metavar="N", help="of samples and weights")
    parser.add_argument(
        "--teacher", type=Path, metavar="DIR", help="masks of the pictures by a better network"
    )
    parser.add_argument(
        "--scenes",
        metavar="pp-humanseg14k|REGEX",
        help="what makes pictures one scene, where there is no val.txt; group 1 is its name",
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that render samples"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find the pictures, render them ahead, train, say what came of it."""
    from edge_seg.training.collection import find, open_store
    from edge_seg.training.fit import Run, join
    from edge_seg.training.judge import Judge

    recipe = _recipe(args)
    files = find(args.data, teacher=args.teacher, scene=_scene(args.scenes))
    args.out.mkdir(parents=True, exist_ok=True)
    place = join()
    training = Run(args.out, recipe, place=place)
    _begin(training, args)
    judge = Judge(files.val if place.leads else files.val[:1], files.hard_rooms)
    if place.leads:
        store = open_store(files, args.out / "pictures", side=_longest(recipe))
    place.wait()
    if not place.leads:
        store = open_store(files, args.out / "pictures", side=_longest(recipe))
    _train(training, store, judge, args.workers)
    if place.leads:
        _say(training)
    return 0


def _begin(training: Run, args: argparse.Namespace) -> None:
    """Where the run stopped, or where the user wants it to begin."""
    if training.resume():
        return
    if args.restart is not None:
        training.restart(args.restart)
    elif args.start is not None:
        training.start_from(_checkpoint(args.start))


def _longest(recipe: Recipe) -> int:
    """The longest side of a picture rendered ahead: room for crops, not more."""
    return recipe.final_size * 10 // 7


def _recipe(args: argparse.Namespace) -> Recipe:
    """The settings: of the run that is resumed, or the file's and the flags'."""
    from edge_seg.training.recipe import Recipe

    given: dict[str, Any] = dict(FINE_TUNE) if args.start is not None else {}
    if args.start is not None:
        old = _facts(_checkpoint(args.start))["recipe"]
        given |= {"shape": old["shape"], "sizes": [[0, old["sizes"][-1][1]]]}
    if args.restart is not None:
        given |= _facts(args.restart)["recipe"]
    if args.recipe is not None:
        given |= _json(args.recipe)
    given |= {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.side is not None:
        given["sizes"] = [[0, args.side]]
    recipe = Recipe.from_dict(given)
    written = args.out / "recipe.json"
    if written.is_file():
        begun = Recipe.from_dict(_json(written))
        if given and recipe != begun:
            before = begun.to_dict()
            changed = [name for name, value in recipe.to_dict().items() if value != before[name]]
            raise DatasetError(
                f"{written}: wanted the settings that run was begun with, found others for "
                f"{', '.join(changed)}; leave the settings out to go on, or choose another -o"
            )
        return begun
    from edge_seg.bundle import write_whole

    args.out.mkdir(parents=True, exist_ok=True)
    write_whole(written, json.dumps(recipe.to_dict(), indent=2) + "\n")
    return recipe


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path}: wanted settings as JSON, found: {error}; correct the file"
        ) from None
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: wanted settings as a JSON object; correct the file")
    return data


def _checkpoint(name: str) -> Path:
    """The file a training begins from."""
    if name != "default":
        return Path(name)
    from edge_seg.bundle import ModelBundle

    return ModelBundle.load(None).path / "warm.safetensors"


def _facts(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; DatasetError where it is none, or of another network."""
    from edge_seg.training.checkpoint import load_network

    return load_network(checkpoint)[1]


def _scene(rule: str | None) -> Any:
    from edge_seg.calibration.dataset import own_scene, pp_humanseg14k_scene, scene_rule

    if rule is None:
        return own_scene
    return pp_humanseg14k_scene if rule == "pp-humanseg14k" else scene_rule(rule)


def _train(training: Run, store: Any, judge: Any, workers: int) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from edge_seg.training.augment import Renderer, mixture_of

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    text = TextColumn("loss {task.fields[loss]:.3f}  val mIoU {task.fields[miou]}")
    with Progress(
        *columns, text, console=Console(stderr=True), disable=not training.place.leads
    ) as display:
        task = display.add_task(
            "train", total=training.recipe.steps, completed=training.step, loss=0.0, miou="-"
        )

        def report(row: Row) -> None:
            display.update(task, completed=int(row["step"]), loss=row["loss"])
            if "miou" in row:
                display.update(task, miou=f"{100 * row['miou']:.2f}")

        renderer = Renderer(store, seed=training.recipe.seed, mixture=mixture_of(training.recipe))
        training.fit(renderer, judge, report=report, workers=workers)


def _say(training: Run) -> None:
    from edge_seg.training.fit import BEST

    best = training.folder / BEST
    print(f"best on val: mIoU {100 * training.best:.2f}, {best}")
    print(f"next: edge-seg export {training.folder} -o MODEL.onnx")
