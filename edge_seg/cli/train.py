"""`edge-seg train --data DIR -o RUN`: train or fine-tune a network; the same command resumes."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import arguments
from edge_seg.cli.settings import checkpoint_of, recipe_of
from edge_seg.cli.stop import Stop
from edge_seg.errors import DatasetError, OutputError

if TYPE_CHECKING:
    from edge_seg.training.collection import Collection
    from edge_seg.training.fit import Run
    from edge_seg.training.state import Row
    from edge_seg.training.store import PictureStore


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "train",
        help="train a network, or fine-tune the one that ships on your own frames",
        description="Train a network on a folder of pictures. Run the same command again to go "
        "on after a stop; Ctrl-C and SIGTERM save the state at the end of the step. For several "
        "processes: torchrun --nproc-per-node N -m edge_seg train ...",
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
        nargs="+",
        metavar="default|RUN|FILE",
        help="begin from the network that ships (default, or its name: portrait), from a run or a "
        "checkpoint of one, or from the official PP-HumanSegV1-Lite (.onnx); of several, from the "
        "mean of their weights",
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
    _add_settings(parser)
    parser.add_argument(
        "--teacher", type=Path, metavar="DIR", help="masks of the pictures by a better network"
    )
    arguments.add_scenes(parser)
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that render samples"
    )
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, metavar="FILE.json", help="settings; flags win")
    parser.add_argument(
        "--shape",
        help="network shape: lite, base, slim, fine or wide (with --from, a larger one grows from "
        "it, a narrower one takes its most used channels), or pphumanseg-v1-lite",
    )
    parser.add_argument("--side", type=int, metavar="PX", help="input side, a multiple of 32")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="length of the run, schedule and all"
    )
    parser.add_argument("--batch", type=int, metavar="N", help="samples per step")
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, metavar="N", help="of samples and weights")


def run(args: argparse.Namespace) -> int:
    """Find the pictures, render them ahead, train, say what came of it."""
    from edge_seg.calibration.dataset import named_rule
    from edge_seg.training.collection import find

    recipe = recipe_of(args)
    files = find(args.data, teacher=args.teacher, scene=named_rule(args.scenes))
    # After what may be wrong with those: torch takes seconds to load.
    from edge_seg.training.fit import Run
    from edge_seg.training.judge import Judge
    from edge_seg.training.processes import join

    place = join()
    training = Run(args.out, recipe, place=place)
    _begin(training, args)
    _check_same_val(training, files)
    judge = Judge(files.val, files.hard_rooms) if place.leads else _judged_elsewhere
    if place.leads:
        _make_folder(args.out)
        print(_gathered(files), flush=True)
        store = _store(files, training)
    place.wait()
    if not place.leads:
        store = _store(files, training)
    if place.leads:
        _write_down(training, files)
    if place.leads and training.step >= recipe.steps:
        print(f"all {recipe.steps} steps were done before; train on: --from {args.out} -o NEW")
    elif place.leads and recipe.bf16 and not training.bf16:
        print("computing in float32: this machine does not compute in bfloat16", flush=True)
    try:
        with Stop(training) as stop:
            _train(training, store, judge, args.workers, stop)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (_where(training),)
        raise
    if place.leads:
        _say(training)
    return 0


def _judged_elsewhere(network: object, side: int) -> Row:
    """What a process judges that does not lead: nothing."""
    return {}


def _gathered(files: Collection) -> str:
    """Say what was found, by use: what a misnamed folder holds is seen to be missing."""
    from edge_seg.training.collection import taught

    labelled = [pair.image for pair in files.train]
    found = f"{len(labelled)} labelled pictures, {len(files.rooms)} empty rooms"
    found += f", {len(files.cutouts)} cutouts"
    if files.teacher is not None:
        masks = [f"{taught(files, some)} of {len(some)}" for some in (labelled, files.unlabelled)]
        found += f", a teacher's masks of {masks[0]} labelled and {masks[1]} unlabelled"
    rooms = f" and {len(files.hard_rooms)} empty rooms" if files.hard_rooms else ""
    return f"training on {found}; judging on {len(files.val)} labelled pictures{rooms}"


def _check_same_val(training: Run, files: Collection) -> None:
    """Raise DatasetError where a run that goes on would be judged on other pictures than before.

    Told apart by the names of their labels: data and run may have moved.
    """
    written = training.folder / "val.txt"
    if not training.history or not written.is_file():
        return
    from edge_seg.pictures import read_lines

    before = {line.rpartition("/")[2] for line in read_lines(written)}
    now = {pair.label.name for pair in files.val if pair.label}
    if before != now:
        raise DatasetError(
            f"{written}: wanted the pictures that run was judged on, found {len(now - before)} "
            f"others and {len(before - now)} missing, first: {min(now ^ before)}; put them back, "
            "or train on from this run in another folder (--from RUN -o NEW)"
        )


def _where(training: Run) -> str:
    """Say where a run that was interrupted goes on."""
    of = f"of {training.recipe.steps}"
    if training.saved == training.step:
        return f"stopped at step {training.step} {of}; the same command goes on"
    if training.saved < 0:
        return "stopped before the first state was saved; the same command begins again"
    return (
        f"stopped in the middle of a step; the same command goes on from step {training.saved} {of}"
    )


def _begin(training: Run, args: argparse.Namespace) -> None:
    """Where the run stopped, or where the user wants it to begin."""
    if training.resume():
        return
    if args.restart is not None:
        training.restart(args.restart)
    elif args.start is not None:
        training.start_from(*(checkpoint_of(name) for name in args.start))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise DatasetError(
            f"{folder}: wanted a folder for the run, found a file; choose another -o"
        ) from None
    except OSError as error:
        raise OutputError(
            f"{folder}: wanted to make a folder for the run, found: {error.strerror or error}; "
            "choose another -o"
        ) from error


def _store(files: Collection, training: Run) -> PictureStore:
    """The pictures rendered ahead: room for crops, not more."""
    from edge_seg.cli.progress import steps_bar
    from edge_seg.training.collection import open_store

    side = training.recipe.final_size * 10 // 7
    total = len(files.train) + len(files.unlabelled) + len(files.cutouts) + len(files.rooms)
    with steps_bar() as bar:
        return open_store(
            files,
            training.folder / "pictures",
            side=side,
            progress=lambda done: bar("rendering pictures", done, total),
        )


def _write_down(training: Run, files: Collection) -> None:
    """Settings, and which pictures were trained and judged on, as lists `convert` reads."""
    from edge_seg.files import write_whole
    from edge_seg.training.recipe import NAME

    recipe = json.dumps(training.recipe.to_dict(), indent=2)
    write_whole(training.folder / NAME, recipe + "\n")
    for name, pairs in (("train.txt", files.train), ("val.txt", files.val)):
        lines = [
            f"{pair.image.absolute()} {pair.label.absolute()}\n" for pair in pairs if pair.label
        ]
        write_whole(training.folder / name, "".join(lines))


def _train(training: Run, store: Any, judge: Any, workers: int, stop: Stop) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from edge_seg.training.augment import Renderer

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
                display.console.print(_line(row, training.recipe.steps), highlight=False)

        renderer = Renderer(store, training.recipe)
        training.fit(renderer, judge, report=report, stop=stop.asked, workers=workers)


def _line(row: Row, steps: int) -> str:
    """A judgement, for those who read the log of a run they did not watch."""
    return (
        f"step {int(row['step'])} of {steps}: loss {row['loss']:.3f}, val mIoU "
        f"{100 * row['miou']:.2f}, boundary F {100 * row.get('boundary_f', 0.0):.2f}, SC "
        f"{100 * row.get('sc', 0.0):.2f}"
    )


def _say(training: Run) -> None:
    from edge_seg.training.state import BEST

    best = training.folder / BEST
    began = training.history[0] if training.history and not training.history[0]["step"] else None
    before = f" (begun with {100 * began['miou']:.2f})" if began else ""
    print(f"best on val: mIoU {100 * training.best:.2f}{before}, {best}")
    print(f"next: edge-seg export {shlex.quote(str(training.folder))} -o MODEL.onnx")
