"""Pictures and labels rendered ahead: decoded once, memory-mapped, read without a copy.

A store is a folder with `pictures.bin` (BGR bytes), `planes.bin` (two bytes per pixel: target
0..255 = probability of person, weight 0..255 = how much the loss counts the pixel) and
`index.json`. Each entry belongs to a group:

    labelled    a photograph with people and a label
    unlabelled  a photograph whose target is a teacher's mask
    cutout      a person with alpha, to be laid over a room
    room        a place without people: target 0, weight 255
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture
from edge_seg.errors import DatasetError
from edge_seg.files import whole_file, write_whole, writing

BLOBS = ("pictures.bin", "planes.bin")
GROUPS = ("labelled", "unlabelled", "cutout", "room")
Planes = NDArray[np.uint8]  # (H, W, 2): target, weight


@dataclass(frozen=True)
class Entry:
    """One picture on its way into a store."""

    name: str
    group: str
    picture: Picture
    planes: Planes


class PictureStore:
    """A store opened for reading. `store[i]` is (picture, planes), views of the mapped files."""

    def __init__(self, folder: Path) -> None:
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            rows = index["entries"]
        except (OSError, ValueError, KeyError) as error:
            raise DatasetError(
                f"{folder}: wanted a picture store, found {error}; render it again"
            ) from None
        self.fingerprint: str = index.get("fingerprint", "")
        self.names: list[str] = [row["name"] for row in rows]
        self._sizes: list[tuple[int, int]] = [(row["height"], row["width"]) for row in rows]
        areas = np.array([h * w for h, w in self._sizes], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(areas)])
        self._pictures = _mapped(folder / BLOBS[0], 3 * int(areas.sum()))
        self._planes = _mapped(folder / BLOBS[1], 2 * int(areas.sum()))
        self.groups: dict[str, NDArray[np.int64]] = {
            group: np.array([i for i, r in enumerate(rows) if r["group"] == group], dtype=np.int64)
            for group in GROUPS
        }

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, index: int) -> tuple[Picture, Planes]:
        height, width = self._sizes[index]
        first, last = int(self._starts[index]), int(self._starts[index + 1])
        picture = self._pictures[3 * first : 3 * last].reshape(height, width, 3)
        planes = self._planes[2 * first : 2 * last].reshape(height, width, 2)
        return picture, planes


def _mapped(path: Path, size: int) -> NDArray[np.uint8]:
    found = path.stat().st_size if path.is_file() else -1
    if found != size:
        raise DatasetError(
            f"{path}: wanted {size} bytes, found {found}; the store is incomplete: render it again"
        )
    return np.memmap(path, dtype=np.uint8, mode="r") if size else np.zeros(0, np.uint8)


def render_store(entries: Iterable[Entry], folder: Path, *, fingerprint: str = "") -> int:
    """Write `entries` to a new store; the index comes last, so half a store cannot be opened.

    fingerprint: of what the entries were made from; kept with the store. Returns the number of
    entries. Raises DatasetError when there are none, OutputError when there is no room for them.
    """
    with writing(folder, "to render pictures there", "free space or choose another place"):
        rows = _write(entries, folder)
        if rows:
            write_whole(
                folder / "index.json", json.dumps({"fingerprint": fingerprint, "entries": rows})
            )
    if not rows:
        raise DatasetError(f"{folder}: wanted pictures to render, found none; check the lists")
    return len(rows)


def _write(entries: Iterable[Entry], folder: Path) -> list[dict[str, object]]:
    """Write the pixels; returns the rows of the index.

    Into files of new names: another run may have mapped the old ones, and goes on reading them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    rows: list[dict[str, object]] = []
    with ExitStack() as stack:
        beside = [stack.enter_context(whole_file(folder / name)) for name in BLOBS]
        pictures, ps = [stack.enter_context(path.open("wb")) for path in beside]
        for entry in entries:
            height, width = entry.picture.shape[:2]
            pictures.write(np.ascontiguousarray(entry.picture).tobytes())
            ps.write(np.ascontiguousarray(entry.planes).tobytes())
            rows.append(
                {"name": entry.name, "group": entry.group, "height": height, "width": width}
            )
    return rows
