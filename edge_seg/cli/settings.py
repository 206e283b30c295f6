"""What `train` is asked for: the settings of its flags, of a file, of the run it goes on with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.errors import DatasetError

if TYPE_CHECKING:
    from edge_seg.training.recipe import Recipe

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


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The settings: of the run that is resumed, or the file's and the flags'."""
    from edge_seg.training.recipe import NAME, Recipe

    if args.workers < 0:
        raise DatasetError(f"wanted --workers of 0 or more, found {args.workers}; correct it")
    file: dict[str, Any] = _json(args.recipe) if args.recipe is not None else {}
    flags = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    if args.side is not None:
        flags["sizes"] = [[0, args.side]]
    written = args.out / NAME
    if written.is_file():
        begun = Recipe.from_dict(_json(written))
        before, after = begun.to_dict(), _asked(begun, file, flags).to_dict()
        changed = [name for name, value in after.items() if value != before[name]]
        if changed:
            raise DatasetError(
                f"{written}: wanted the settings that run was begun with, found others for "
                f"{', '.join(changed)}; leave the settings out to go on, or choose another -o"
            )
        return begun
    if args.restart is not None:
        return Recipe.from_dict(_facts(args.restart)["recipe"] | file | flags)
    base = Recipe()
    if args.start is not None:
        old = _facts(checkpoint_of(args.start[0]))["recipe"]
        side = old["sizes"][-1][1]
        base = Recipe.from_dict({**FINE_TUNE, "shape": old["shape"], "sizes": [[0, side]]})
    return _asked(base, file, flags)


def _asked(base: Recipe, file: dict[str, Any], flags: dict[str, Any]) -> Recipe:
    """What file and flags make of these settings; a length of a run takes its schedule along."""
    from edge_seg.training.recipe import Recipe

    if "steps" in flags:
        file = {"steps": flags["steps"]} | file  # a file without a length is written for that one
    for settings in (file, flags):
        steps = settings.get("steps")
        if type(steps) is int and steps > 0:
            base = base.scaled(steps)
        base = Recipe.from_dict(base.to_dict() | settings)
    return base


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


def checkpoint_of(name: str) -> Path:
    """The file a training begins from."""
    from edge_seg.bundle import DEFAULT_BUNDLE
    from edge_seg.cli.networks import weights_of
    from edge_seg.training import state

    if name == "default":
        return DEFAULT_BUNDLE / state.WARM
    otherwise = "begin with --from portrait, and --side {side}"
    return state.checkpoint_of(weights_of(Path(name), otherwise=otherwise))


def _facts(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint says of itself; DatasetError where it is none, or of another network."""
    from edge_seg.training.checkpoint import load_network

    return load_network(checkpoint)[1]
