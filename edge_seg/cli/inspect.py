"""`edge-seg inspect BUNDLE`: what a bundle holds, as its manifest says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_seg.cli import arguments
from edge_seg.cli.figures import ALONE, FIGURES

if TYPE_CHECKING:
    from edge_seg.bundle import Artifact, ModelBundle

MAX_TEXT = 300
MAX_DEPTH = 32  # of objects and lists in each other: what lies deeper is shown as "..."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "inspect",
        help="show what a bundle holds",
        description="Show a bundle's manifest: what the network eats and returns, its artifacts, "
        "how they were made and how good they were.",
    )
    arguments.add_bundle(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the manifest as tables."""
    from edge_seg.bundle import ModelBundle

    bundle = ModelBundle.load(args.bundle)
    print(f"{_clean(bundle.name)}  ({bundle.path})")
    eats, returns = bundle.input, bundle.output
    print(
        f"  input   {eats.width}x{eats.height} {eats.color}, {eats.fit}, "
        f"mean {list(eats.mean)}, std {list(eats.std)}"
    )
    print(f"  output  {returns.activation}, person in channel {returns.channel}")
    for line in _lines("source", bundle.source):
        print(f"  {line}")
    _print_artifacts(bundle)
    _print_made(bundle.artifacts)
    return 0


def _print_artifacts(bundle: ModelBundle) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"quality when converted: {ALONE}, percent")
    table.add_column("artifact")
    for title in ("kB", *FIGURES.values()):
        table.add_column(title, justify="right")
    for artifact in bundle.artifacts:
        figures = [_percent(artifact.quality.get(key)) for key in FIGURES]
        row = [artifact.name, f"{artifact.total_size / 1000:.0f}", *figures]
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _print_made(artifacts: Sequence[Artifact]) -> None:
    """Print what is true of all artifacts once, then what is true of each."""
    made = {artifact.name: _made(artifact) for artifact in artifacts}
    first, *others = made.values()
    shared = [line for line in first if others and all(line in lines for lines in others)]
    if shared:
        print("every artifact", *shared, sep="\n  ")
    for name, lines in made.items():
        print(name, *(line for line in lines if line not in shared), sep="\n  ")


def _made(artifact: Artifact) -> list[str]:
    lines = []
    for part in artifact.files:
        lines += [f"file: {_clean(part.file)}", f"sha256: {part.sha256}"]
    rest = {key: value for key, value in artifact.quality.items() if key not in FIGURES}
    made = dict(artifact.made)
    if isinstance(tools := made.get("tools"), dict):
        made["tools"] = ", ".join(f"{tool} {version}" for tool, version in tools.items())
    rest_of_it = (("made", made), ("quality", rest), ("latency", artifact.latency))
    return lines + [line for title, facts in rest_of_it for line in _lines(title, facts)]


def _lines(title: str, value: Any) -> list[str]:
    """Flatten a manifest's object into `path: value` lines."""
    return _flat(title, _cut(value, MAX_DEPTH))


def _cut(value: Any, left: int) -> Any:
    """Return it without what lies deeper: Python's own stack ends at some hundred."""
    if not isinstance(value, (dict, list)):
        return value
    if not left:
        return "..."
    if isinstance(value, dict):
        return {key: _cut(inner, left - 1) for key, inner in value.items()}
    return [_cut(inner, left - 1) for inner in value]


def _flat(title: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [line for key, inner in value.items() for line in _flat(f"{title}.{key}", inner)]
    if isinstance(value, list):
        value = ", ".join(str(v) for v in value) or "none"
    if isinstance(value, float):
        value = f"{value:.4g}"
    return [f"{_clean(title)}: {_clean(str(value))}"]


def _percent(value: Any) -> str:
    return f"{100 * value:.2f}" if isinstance(value, (int, float)) else "-"


def _clean(text: str) -> str:
    """A manifest comes from outside: no control characters reach the terminal, no endless line."""
    shown = "".join(c if c.isprintable() else "?" for c in text[: MAX_TEXT + 1])
    return shown if len(shown) <= MAX_TEXT else shown[:MAX_TEXT] + "..."
