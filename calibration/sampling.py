"""Which frames a quantizer is shown: few, and unlike each other.

`pick` takes one frame of every scene before a second of any, and each time the frame farthest from
all those taken: greedy k-centre (T. Gonzalez, "Clustering to minimize the maximum intercluster
distance", Theoretical Computer Science 38, 1985), no more than twice the best possible radius.

Far means unlike in three things of equal weight, each scaled to a variance of one over the source:

    brightness   mean luma (BT.601), 0..1
    person       share of the label's pixels, 0..1; frames without a label count as average
    look         8x8 cells of CIE Lab less the mean lightness: colours, and where they are

The same frames and seed give the same choice; the seed names the first frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.calibration.sources import Frames, View, open_frames
from edge_seg.errors import DatasetError

T = TypeVar("T")

CELLS = 8  # a side of the look
# Deviations under which a source counts as uniform in a thing: scaled up, they would be noise.
FLAT = {"brightness": 0.02, "person": 0.02, "look": 2.0 * math.sqrt(3 * CELLS * CELLS)}
MOST_CONSIDERED = 20_000  # frames looked at; of a longer source evenly spaced ones


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen. index: in its source. name: for people and manifests.

    sha256: of the picture file, "" for a frame of a video. brightness: mean luma 0..1. person:
    share of the picture 0..1, None where unknown. look: uint8 (8, 8, 3), Lab.
    """

    index: int
    name: str
    scene: str
    sha256: str
    brightness: float
    person: float | None
    look: NDArray[np.uint8] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Survey:
    """A source looked through. unreadable: one sentence per frame that cannot be used."""

    candidates: list[Candidate]
    unreadable: list[str]


def pick(frames: Frames | Path, count: int, seed: int = 0) -> list[Candidate]:
    """Choose `count` frames of a source, or all where there are no more, in the order of choice.

    frames: a list file, folder, clip folder or video, or what `open_frames` made of one. Each frame
    is looked at once, reduced, and forgotten: 10,000 of 1280x720 take under 500 MB.
    Raises DatasetError, CameraError.

    >>> chosen = pick(Path("recordings"), 100, seed=0)                    # doctest: +SKIP
    """
    opened = frames if isinstance(frames, Frames) else open_frames(Path(frames))
    return choose(survey(opened).candidates, count, seed)


# -- looking ------------------------------------------------------------------------------------


def survey(
    frames: Frames, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Survey:
    """Look at every frame once (of more than 20,000, at evenly spaced ones).

    progress: called with (frames looked at, of how many; 0 = unknown).
    """
    wanted = spread(range(len(frames.pairs)), MOST_CONSIDERED)
    found: list[Candidate] = []
    unreadable: list[str] = []
    step = 1
    for done, (index, view) in enumerate(frames.views(wanted), start=1):
        progress(done, len(wanted))
        if isinstance(view, DatasetError):
            unreadable.append(str(view))
        elif index % step == 0 or not frames.is_video:
            found.append(_candidate(frames, index, view))
        if frames.is_video and len(found) > MOST_CONSIDERED:
            # A video's length is known at its end: keep every second frame and go on like that.
            step *= 2
            found = [candidate for candidate in found if candidate.index % step == 0]
    return Survey(found, unreadable)


def spread(items: Sequence[T], count: int) -> list[T]:
    """Return `count` items, evenly spaced over the sequence; all where there are no more."""
    if count >= len(items):
        return list(items)
    return [items[int((i + 0.5) * len(items) / count)] for i in range(count)]


def _candidate(frames: Frames, index: int, view: View) -> Candidate:
    cells = cv2.resize(view.picture, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return Candidate(
        index=index,
        name=frames.name(index),
        scene=frames.scene(index),
        sha256=view.sha256,
        brightness=float(cv2.cvtColor(view.picture, cv2.COLOR_BGR2GRAY).mean() / 255),
        person=view.person,
        look=np.asarray(cv2.cvtColor(cells, cv2.COLOR_BGR2LAB), dtype=np.uint8),
    )


# -- choosing -----------------------------------------------------------------------------------


def choose(candidates: Sequence[Candidate], count: int, seed: int = 0) -> list[Candidate]:
    """Choose `count` of the candidates, all where there are no more, in the order of choice."""
    count = min(count, len(candidates))
    if count < 1:
        return []
    points = _points(candidates)
    names = {scene: number for number, scene in enumerate(sorted({c.scene for c in candidates}))}
    scenes = np.array([names[candidate.scene] for candidate in candidates])
    used = np.zeros(len(names), dtype=np.int64)  # frames taken of each scene
    free = np.ones(len(candidates), dtype=bool)
    nearest = np.full(len(candidates), np.inf)  # squared distance to the nearest frame taken
    taken = [int(np.random.default_rng(seed).integers(len(candidates)))]
    while True:
        last = taken[-1]
        free[last] = False
        used[scenes[last]] += 1
        if len(taken) == count:
            return [candidates[index] for index in taken]
        away = points - points[last]
        np.minimum(nearest, np.einsum("ij,ij->i", away, away), out=nearest)
        least = used[scenes[free]].min()
        open_now = free & (used[scenes] == least)
        taken.append(int(np.argmax(np.where(open_now, nearest, -np.inf))))


def _points(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Return (n, 2 + 192) coordinates: three groups, each of variance one in all."""
    brightness = np.array([[c.brightness] for c in candidates])
    known = [c.person for c in candidates if c.person is not None]
    average = float(np.mean(known)) if known else 0.0
    person = np.array([[average if c.person is None else c.person] for c in candidates])
    look = np.stack([c.look for c in candidates]).astype(np.float64)
    look[..., 0] -= look[..., 0].mean(axis=(1, 2), keepdims=True)
    look = look.reshape(len(candidates), -1)
    groups = {"brightness": brightness, "person": person, "look": look}
    return np.hstack([_scaled(group, FLAT[name]) for name, group in groups.items()])


def _scaled(group: NDArray[np.float64], flat: float) -> NDArray[np.float64]:
    """Centre a group of coordinates and scale it to a variance of one, summed over them."""
    centred = group - group.mean(axis=0)
    deviation = math.sqrt((centred**2).sum(axis=1).mean())
    return centred / max(deviation, flat)
