"""A page that shows where masks are wrong: one HTML file with its pictures inside, for a browser.

    worst        which pictures have the largest share of wrong pixels, under any artifact
    painted      one picture painted by what its mask got right and wrong
    write_page   figures, how many pictures are how wrong, and the worst, artifacts side by side

Nothing on the page is loaded from anywhere, and names are escaped: a list's names are not HTML.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg._version import __version__
from edge_seg.arrays import Picture
from edge_seg.files import write_whole
from edge_seg.metrics import IGNORE, binary
from edge_seg.pictures import at_most

MISSED, TAKEN = (40, 40, 230), (235, 120, 20)  # BGR: red, blue
PAINT = 0.75  # how much of a wrong pixel's colour is paint; the rest lets the picture through
SIDE = 360  # px, the longer side of a picture on the page
ROW = 4  # pictures side by side, at most
QUALITY = 85  # of its JPEG
CLASSES = (0.01, 0.02, 0.05, 0.10)  # shares of wrong pixels between which pictures are counted


@dataclass(frozen=True)
class Column:
    """One artifact's results. figures: title -> text. wrong: as `metrics.Quality.wrong`."""

    name: str
    figures: Mapping[str, str]
    wrong: Sequence[float | None]


@dataclass(frozen=True)
class Table:
    """A table of texts below the figures, under a heading of its own."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Shown:
    """One picture of the page and what was made of it; as JPEG, so that a set may be large."""

    name: str
    figures: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, caption: str, picture: Picture) -> None:
        """Put a picture, uint8 (H, W, 3) BGR, behind those there are, at most `SIDE` px large."""
        setting = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        _, code = cv2.imencode(".jpg", at_most(picture, SIDE), setting)
        self.figures.append((caption, code.tobytes()))


def worst(columns: Sequence[Column], count: int) -> list[int]:
    """Return the numbers of the `count` pictures with the most wrong pixels, the worst first.

    A picture counts as wrong as under the artifact that it is most wrong under; one that ignores
    every pixel is left out.
    """
    rows = zip(*(column.wrong for column in columns), strict=True)
    shares = [max((w for w in row if w is not None), default=None) for row in rows]
    known = [(share, -number) for number, share in enumerate(shares) if share is not None]
    return [-number for _, number in sorted(known, reverse=True)[:count]]


def painted(frame: Picture, mask: NDArray[np.floating], label: NDArray[np.uint8]) -> Picture:
    """Return the picture painted by what its mask got right: uint8 BGR, of the label's size.

    frame: uint8 (H, W, 3) BGR; mask: float (h, w) 0..1; label: uint8 (H, W), 0, 1, 255 = ignored.
    The person rightly seen keeps its colours and the rest is grey; red is a person who was missed,
    blue what was taken for one. Raises FrameError as `metrics.binary` does.
    """
    seen, person, counted = binary(mask, label.shape[:2]), label == 1, label != IGNORE
    if frame.shape[:2] != label.shape[:2]:
        frame = cv2.resize(frame, label.shape[1::-1], interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    out = np.where((seen & person)[:, :, None], frame, grey // 2 + 96)
    for colour, where in ((MISSED, ~seen & person), (TAKEN, seen & ~person & counted)):
        under = frame[where].astype(np.float32)
        out[where] = np.rint(under + PAINT * (np.array(colour, np.float32) - under))
    return out.astype(np.uint8)


def write_page(
    path: Path,
    *,
    title: str,
    about: str,
    columns: Sequence[Column],
    shown: Sequence[Shown],
    tables: Sequence[Table] = (),
) -> None:
    """Write the page, whole or not at all.

    title, about: one line each. shown: the pictures that `worst` named, in its order. Raises
    OutputError where the file cannot be written.
    """
    names = [column.name for column in columns]
    page = Template(PAGE).substitute(
        title=_text(title),
        about=_text(about),
        version=escape(__version__),
        figures=_table(
            ["", *names],
            [[key, *(column.figures[key] for column in columns)] for key in columns[0].figures],
        ),
        tables="".join(
            f"<h2>{_text(table.title)}</h2>{_table(table.head, table.rows)}" for table in tables
        ),
        classes=_table(["wrong pixels", *names], _classes(columns)),
        held=_text(_held(columns, len(shown))),
        row=_row(1 + len(columns)),
        pictures="\n".join(_section(n, picture) for n, picture in enumerate(shown, 1)),
    )
    write_whole(path, page)


def _classes(columns: Sequence[Column]) -> list[list[str]]:
    """How many pictures have less than 1 % of wrong pixels, 1 to 2 % and so on."""
    edges = [0.0, *CLASSES, np.inf]
    rows = []
    for low, high in zip(edges, edges[1:], strict=False):
        span = f"{100 * low:g} to {100 * high:g} %" if high <= 1 else f"{100 * low:g} % or more"
        counts = [sum(w is not None and low <= w < high for w in c.wrong) for c in columns]
        rows.append([span, *(f"{count}" for count in counts)])
    return rows


def _held(columns: Sequence[Column], count: int) -> str:
    """What share of all that is wrong the worst pictures hold, by the artifact."""
    parts = []
    for column in columns:
        shares = sorted((w for w in column.wrong if w is not None), reverse=True)
        whole = sum(shares)
        held = 100 * sum(shares[:count]) / whole if whole else 0.0
        parts.append(f"{held:.0f} % under {column.name}")
    return (
        f"Of all that is wrong, every picture counted alike, the {count} worst hold "
        f"{', '.join(parts)}."
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + "".join([line("th", head), *(line("td", row) for row in rows)]) + "</table>"


def _text(words: str) -> str:
    """Return words as HTML shows them; bytes of a name that are no UTF-8 become question marks."""
    return escape(words.encode("utf-8", "replace").decode("utf-8"))


def _row(count: int) -> int:
    """How many of `count` pictures a row has: at most `ROW`, the rows as equal as can be."""
    return math.ceil(count / math.ceil(count / ROW))


def _section(number: int, picture: Shown) -> str:
    figures = "".join(_figure(caption, jpeg) for caption, jpeg in picture.figures)
    return f"<section><h3>{number}. {_text(picture.name)}</h3>{figures}</section>"


def _figure(caption: str, jpeg: bytes) -> str:
    words, code = _text(caption), base64.b64encode(jpeg).decode()
    return (
        f'<figure><img alt="{words}" src="data:image/jpeg;base64,{code}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid #8886 }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
main { display: flex; flex-wrap: wrap; gap: 0 1rem }
section { border-top: 1px solid #8886; margin-top: 1rem }
h3 { font-size: 1rem; overflow-wrap: anywhere }
figure {
  display: inline-block; margin: 0 .75rem .5rem 0; vertical-align: top;
  max-width: max(100% / $row - .75rem, 12rem);
}
img { display: block; max-width: 100% }
figcaption, .about { opacity: .7 }
.missed, .taken { padding: 0 .4em; color: #fff }
.missed { background: #e62828 } .taken { background: #1478eb }
</style>
<h1>$title</h1>
<p class="about">$about · edge-seg $version</p>
$figures
$tables
<h2>How many pictures are how wrong</h2>
$classes
<p>$held</p>
<h2>The worst</h2>
<p><span class="missed">a person who was missed</span>
<span class="taken">taken for a person</span>
in colour: the person, rightly seen; grey: the rest, and what the label ignores.</p>
<main>
$pictures
</main>
</html>
"""
