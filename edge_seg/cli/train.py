"""`edge-seg train --data DIR -o RUN`: train or fine-tune a network; the same command resumes."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from edge_seg.cli import Terminated, arguments
from edge_seg.errors import DatasetError, EdgeSegError, OutputError

if TYPE_CHECKING:
    from edge_seg.training.collection import Collection
    from edge_seg.training.fit import Row, Run
    from edge_seg.training.recipe import Recipe
    from edge_seg.training.store import PictureStore

# Fine-tuning: fewer, smaller steps, from weights that are good already.
FINE_TUNE = {
    "steps": 1500,
    "lr": 4e-4,
    "warmup": 100,
    "decay_from": 0,
    "judge_every": 250,
    "cards": 0.02,
}
SETTINGS = ("shape", "steps", "batch", "lr", "seed")
AGAIN = 1.0  # seconds after which a second Ctrl-C is meant as one; some senders send two


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
        help="begin from the network that ships (default, or its name: portrait), or from a run "
        "or a checkpoint of one; of several, from the mean of their weights",
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
        help="network shape: lite, base, slim, fine or wide; with --from, a larger one grows from "
        "it, a narrower one takes its most used channels",
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
    from edge_seg.training.fit import Run
    from edge_seg.training.judge import Judge
    from edge_seg.training.processes import join

    recipe = _recipe(args)
    files = find(args.data, teacher=args.teacher, scene=named_rule(args.scenes))
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
        with _Stop(training) as stop:
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


class _Stop:
    """Ctrl-C and SIGTERM while training: heard at once, obeyed at the end of a step.

    A second Ctrl-C acts at once where there is one process: torchrun passes the first one on, too.
    """

    def __init__(self, training: Run) -> None:
        self._training = training
        self._came: tuple[int, float] | None = None  # the first signal, and when
        self._old: dict[int, Any] = {}

    def asked(self) -> bool:
        """Tell whether a signal came."""
        return self._came is not None

    def __enter__(self) -> _Stop:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._old[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        # Also where another process was told to stop, and this one with it.
        stopped = kind is None and self._training.step < self._training.recipe.steps
        # A signal to all processes may have ended a worker before that could leave it to us.
        foreign = isinstance(error, RuntimeError) and not isinstance(error, EdgeSegError)
        if stopped or (foreign and self._came is not None):
            interrupt = self._came is not None and self._came[0] == signal.SIGINT
            raise KeyboardInterrupt if interrupt else Terminated

    def _hear(self, number: int, frame: FrameType | None) -> None:
        place = self._training.place
        if self._came is None:
            self._came = number, time.monotonic()
            once_more = "; Ctrl-C again: at once" if place.world == 1 else ""
            said = f"edge-seg: stopping at the end of this step{once_more}\n"
            if place.leads:
                with contextlib.suppress(OSError):
                    os.write(2, said.encode())  # print may be what was interrupted
        elif number == signal.SIGINT and place.world == 1:
            if time.monotonic() - self._came[1] > AGAIN:
                raise KeyboardInterrupt


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
        training.start_from(*(_checkpoint(name) for name in args.start))


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

    recipe = json.dumps(training.recipe.to_dict(), indent=2)
    write_whole(training.folder / "recipe.json", recipe + "\n")
    for name, pairs in (("train.txt", files.train), ("val.txt", files.val)):
        lines = [
            f"{pair.image.absolute()} {pair.label.absolute()}\n" for pair in pairs if pair.label
        ]
        write_whole(training.folder / name, "".join(lines))


def _recipe(args: argparse.Namespace) -> Recipe:
    """The settings: of the run that is resumed, or the file's and the flags'."""
    from edge_seg.training.recipe import Recipe

    asked: dict[str, Any] = _json(args.recipe) if args.recipe is not None else {}
    asked |= {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.side is not None:
        asked["sizes"] = [[0, args.side]]
    if args.workers < 0:
        raise DatasetError(f"wanted --workers of 0 or more, found {args.workers}; correct it")
    written = args.out / "recipe.json"
    if written.is_file():
        begun = Recipe.from_dict(_json(written))
        before = begun.to_dict()
        after = Recipe.from_dict(before | asked).to_dict()
        changed = [name for name, value in after.items() if value != before[name]]
        if changed:
            raise DatasetError(
                f"{written}: wanted the settings that run was begun with, found others for "
                f"{', '.join(changed)}; leave the settings out to go on, or choose another -o"
            )
        return begun
    if args.restart is not None:
        return Recipe.from_dict(_facts(args.restart)["recipe"] | asked)
    base = Recipe()
    if args.start is not None:
        old = _facts(_checkpoint(args.start[0]))["recipe"]
        side = old["sizes"][-1][1]
        base = Recipe.from_dict({**FINE_TUNE, "shape": old["shape"], "sizes": [[0, side]]})
    steps = asked.get("steps")
    if type(steps) is int and steps > 0:
        base = base.scaled(steps)
    return Recipe.from_dict(base.to_dict() | asked)


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DatasetError(
            f"{path}: wanted a file of settings, found: {error.strerror or error}; check the path"
        ) from None
    except ValueError as error:
        raise DatasetError(
            f"{path}: wanted settings as JSON, found: {error}; correct the file"
        ) from None
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: wanted settings as a JSON object; correct the file")
    return data


def _checkpoint(name: str) -> Path:
    """The file a training begins from."""
    from edge_seg.bundle import DEFAULT_BUNDLE
    from edge_seg.cli.sources import weights_of
    from edge_seg.training.fit import BEST, WARM

    if name == "default":
        return DEFAULT_BUNDLE / WARM
    path = weights_of(Path(name), otherwise="begin with --from portrait, and --side {side}")
    return path / BEST if path.is_dir() else path


def _facts(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; DatasetError where it is none, or of another network."""
    from edge_seg.training.checkpoint import load_network

    return load_network(checkpoint)[1]


def _train(training: Run, store: Any, judge: Any, workers: int, stop: _Stop) -> None:
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
                display.console.print(_line(row, training.recipe.steps), highlight=False)

        renderer = Renderer(store, seed=training.recipe.seed, mixture=mixture_of(training.recipe))
        training.fit(renderer, judge, report=report, stop=stop.asked, workers=workers)


def _line(row: Row, steps: int) -> str:
    """A judgement, for those who read the log of a run they did not watch."""
    return (
        f"step {int(row['step'])} of {steps}: loss {row['loss']:.3f}, val mIoU "
        f"{100 * row['miou']:.2f}, boundary F {100 * row.get('boundary_f', 0.0):.2f}, SC "
        f"{100 * row.get('sc', 0.0):.2f}"
    )


def _say(training: Run) -> None:
    from edge_seg.training.fit import BEST

    best = training.folder / BEST
    began = training.history[0] if training.history and not training.history[0]["step"] else None
    before = f" (begun with {100 * began['miou']:.2f})" if began else ""
    print(f"best on val: mIoU {100 * training.best:.2f}{before}, {best}")
    print(f"next: edge-seg export {shlex.quote(str(training.folder))} -o MODEL.onnx")
