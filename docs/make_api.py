"""Write docs/api.md: the public names in the order of use, from their signatures and docstrings.

    python docs/make_api.py                     (or `make api`, after a docstring has changed)

The list below is what there is to choose; every word about a name comes from its docstring.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_seg import errors

PAGE = Path(__file__).parent / "api.md"
WIDTH = 138  # columns
# A sentence that begins with an argument's or attribute's name, or several: "size, lores: pixels".
ARGUMENTS = re.compile(r"(?:^|(?<=[.;)\]] ))([a-z_]\w*(?:\[i\])?(?:, [a-z_]\w*)*): ")

HEAD = """# The names, in the order of use

<!-- Written by docs/make_api.py (`make api`) from the docstrings: correct those, not this page. -->

What a program imports; a test holds this page to the code. Beside it: [cameras](cameras.md),
[smoothing](smoothing.md), [cadence](cadence.md), [operations](operations.md).

`EdgeSegmenter` comes from `edge_seg` itself, and so does every name here that stands alone, and
every error; `cadence.Cadence` is `Cadence` in `edge_seg.cadence`. Sizes are (height, width) in
pixels, times are seconds. `Picture` is uint8 (H, W, 3), or (3H/2, W) in a camera's own format;
`Mask` is (H, W), float32 0..1 or uint8 0..255 (`compositing` takes bool as well); `Share` is a
`Mask` without bool, `Soft` a float32 one; `Label` is uint8 (H, W): 0 background, 1 person, 255
ignored."""

# What there is to choose. Explanations are left out, but of the names with a plus; classes with a
# minus are shown without their arguments: no program passes any.
SECTIONS = {
    "Masks": """-EdgeSegmenter+ EdgeSegmenter.open EdgeSegmenter.segment EdgeSegmenter.stream+
        EdgeSegmenter.segment_shot EdgeSegmenter.close EdgeSegmenter.on EdgeSegmenter.runtime
        EdgeSegmenter.artifact EdgeSegmenter.degraded EdgeSegmenter.reason
        EdgeSegmenter.counters EdgeSegmenter.smoother EdgeSegmenter.edges EdgeSegmenter.cadence
        engine.Engine backends.open_backend segmenter.open_artifact""",
    "What fails, and how long masks take": """Policy counters.Counters counters.Latency
        exporter.Exporter exporter.Exporter.watch exporter.Exporter.address""",
    "Calmer masks, fewer runs of the network": """smoothing.Steady smoothing.Smoother+
        smoothing.Smoother.update smoothing.Smoother.reset baselines.baseline cadence.Cadence
        cadence.Budget""",
    "Pictures made with a mask": """compositing.firm compositing.blur compositing.blend
        compositing.plain compositing.cover compositing.blurred compositing.cut_out
        compositing.overlay contours.refine""",
    "Where frames come from": """camera.open_source -camera.Source camera.Source.read
        camera.Source.close camera.Shot camera.LivePolicy camera.LiveCounters""",
    "Where results go": """recording.VideoFile+ recording.VideoFile.write recording.PictureFile
        recording.PictureFile.write recording.PictureFolder recording.PictureFolder.write
        recording.MaskFolder""",
    "Bundles and boards": """ModelBundle ModelBundle.load ModelBundle.find ModelBundle.file
        ModelBundle.verify Artifact InputSpec OutputSpec TensorSpec spec.load_spec Board
        board.Runtime board.resolve board.boards""",
    "How good": """evaluation.evaluate evaluation.evaluate_clip -metrics.Quality
        metrics.Quality.add metrics.Quality.to_dict stability.Stability stability.Stability.add
        stability.Stability.figures""",
}


def default(value: Any) -> str:
    """Return a default as the code has it."""
    if isinstance(value, str):
        return f'"{value}"'
    return "..." if repr(value) == "<factory>" else repr(value)


def parameters(function: Any) -> str:
    """Return what stands between a signature's brackets, without self."""
    listed: list[str] = []
    star = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            star = True
            listed.append("*")
        text = f"{parameter.name}: {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += f" = {default(parameter.default)}"
        listed.append(text)
    return ", ".join(listed)


def found(name: str) -> Any:
    """Return what a name stands for; one that begins with a small letter begins with a module."""
    module, _, rest = name.partition(".") if name[0].islower() else ("", "", name)
    thing: Any = import_module(f"edge_seg.{module}".rstrip("."))
    for part in rest.split("."):
        thing = getattr(thing, part)
    return thing


def signature(thing: Any, *, made: bool) -> str:
    """Return what follows a name: its arguments, what it returns; of a property its type."""
    if isinstance(thing, property):
        return f"`: {inspect.signature(thing.fget).return_annotation}`"
    if inspect.isclass(thing):
        untold = made or getattr(thing, "_is_protocol", False)
        return "" if untold else f"`({parameters(thing)})`"
    return f"`({parameters(thing)}) -> {inspect.signature(thing).return_annotation}`"


def prose(thing: Any, *, whole: bool) -> str:
    """Return a docstring in one line: what it is, its arguments, what it raises; whole: all."""
    paragraphs = inspect.cleandoc(thing.__doc__).split("\n\n")
    told = [" ".join(p.split()) for p in paragraphs if not p.startswith((">>>", " "))]
    kept = [p for p in told if whole or p is told[0] or ARGUMENTS.match(p) or "Raises" in p]
    return " ".join(ARGUMENTS.sub(r"`\1`: ", paragraph) for paragraph in kept)


def entry(listed: str) -> str:
    """Return the item of a name in the list."""
    name = listed.strip("-+")
    thing = found(name)
    form = signature(thing, made=listed.startswith("-"))
    text = f"- **`{name}`**{form}: {prose(thing, whole=listed.endswith('+'))}"
    return textwrap.fill(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def section(title: str, names: str) -> str:
    """Return a section: its heading and its items."""
    return f"## {title}\n\n" + "\n".join(entry(name) for name in names.split())


def tree_of_errors() -> str:
    """Return the section on errors: the tree in their module's docstring."""
    told = inspect.cleandoc(errors.__doc__ or "").split("\n\n")
    tree = next(paragraph for paragraph in told if "├──" in paragraph)
    return (
        "## Errors\n\n"
        f"{told[-1]}\n\n```text\n{textwrap.dedent(tree)}\n```\n\n"
        "Each is also the built-in error in its brackets."
    )


def page() -> str:
    """Return the whole page."""
    return (
        "\n\n".join([HEAD, *(section(*row) for row in SECTIONS.items()), tree_of_errors()]) + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(page().splitlines())} lines")
