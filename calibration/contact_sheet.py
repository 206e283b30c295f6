"""A contact sheet: every calibration picture as the network saw it, on one page to look at.

Wrong colours, bars where none should be, a hundred times the same room: seen in a second. It shows
people as plainly as the frames do, so it is made only when asked for and is no part of a bundle.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.calibration.frames import CalibrationSet
from edge_seg.calibration.sampling import Candidate
from edge_seg.errors import OutputError
from edge_seg.files import whole_file, writing
from edge_seg.spec import InputSpec

SUFFIXES = (".png", ".jpg", ".jpeg")
TILE = 144  # px, the longer side of a picture
CAPTION = 16  # px below it
GAP = 6
PAPER, INK = 245, 40  # grey levels
WIDE = 1.5  # the page is about so many times as wide as high

Page = NDArray[np.uint8]


def check_name(path: Path) -> None:
    """Raise OutputError where a contact sheet cannot have that name: before the work, not after."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path}: wanted a contact sheet's name ending in {', '.join(SUFFIXES)}, found "
            f"{path.suffix or 'no suffix'!r}; rename it"
        )
    if path.is_dir():
        raise OutputError(f"{path}: wanted a file name for the contact sheet, found a folder")


def save(path: Path, calibration: CalibrationSet, spec: InputSpec) -> None:
    """Draw and write the sheet, whole or not at all. Raises OutputError."""
    check_name(path)
    coded = cv2.imencode(path.suffix.lower(), draw(calibration, spec))[1].tobytes()
    remedy = "choose another --contact-sheet"
    with writing(path, "to write the contact sheet", remedy), whole_file(path) as beside:
        beside.write_bytes(coded)


def draw(calibration: CalibrationSet, spec: InputSpec) -> Page:
    """Return the page, uint8 (H, W, 3) BGR: pictures in rows, what is known of each below it."""
    pictures = calibration.pictures
    scale = TILE / max(spec.height, spec.width)
    high, wide = round(spec.height * scale), round(spec.width * scale)
    cell = (high + CAPTION + GAP, wide + GAP)
    columns = max(1, min(len(pictures), round(math.sqrt(WIDE * len(pictures) * cell[0] / cell[1]))))
    rows = math.ceil(len(pictures) / columns)
    page = np.full((rows * cell[0] + GAP, columns * cell[1] + GAP, 3), PAPER, np.uint8)
    captions = [_caption(candidate) for candidate in calibration.picked] or [""] * len(pictures)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        top, left = (n * side + GAP for n, side in zip(divmod(number, columns), cell, strict=True))
        shown = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if spec.color == "rgb" else picture
        tile = cv2.resize(shown, (wide, high), interpolation=cv2.INTER_AREA)
        page[top : top + high, left : left + wide] = tile
        where = (left, top + high + CAPTION - 5)
        cv2.putText(
            page, caption, where, cv2.FONT_HERSHEY_SIMPLEX, 0.33, (INK,) * 3, 1, cv2.LINE_AA
        )
    return page


def _caption(candidate: Candidate) -> str:
    """`#index`, `b` brightness and `p` person size in percent."""
    person = "" if candidate.person is None else f" p{100 * candidate.person:.0f}"
    return f"#{candidate.index} b{100 * candidate.brightness:.0f}{person}"
