"""What was calibrated on, written down: `calibration.json` beside a bundle's manifest.

Which frames (names inside the source, hashes, what they look like), from how many, by which seed:
enough to repeat the choice, to see at a glance whether it is lopsided, and to tell later whether a
picture was seen. Never the way to a file on the machine it was made on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_seg.calibration.dataset import Pair
from edge_seg.calibration.frames import CalibrationSet
from edge_seg.calibration.sampling import Candidate
from edge_seg.calibration.sources import inner_name
from edge_seg.errors import DatasetError
from edge_seg.files import sha256_of, write_whole

FILE = "calibration.json"
FORMAT_VERSION = 1
MAX_BYTES = 4 << 20  # 1000 frames take 300 kB
QUANTILES = {"least": 0.0, "tenth": 0.1, "median": 0.5, "nine_tenths": 0.9, "greatest": 1.0}


def describe(calibration: CalibrationSet) -> dict[str, Any]:
    """Return plain JSON types. brightness: mean luma 0..1; person: share of the picture 0..1."""
    picked, considered = calibration.picked, calibration.considered
    return {
        "format_version": FORMAT_VERSION,
        "source": _source(calibration.source),
        "seed": calibration.seed,
        "pictures_sha256": calibration.sha256,
        "held_back": len(calibration.held_back),
        "unreadable": len(calibration.skipped),
        "notes": calibration.notes,
        "picked": statistics(picked),
        "considered": statistics(considered),
        "frames": [_frame(candidate, calibration.source) for candidate in picked],
    }


def statistics(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Return counts of frames and scenes, and quantiles of brightness and person size."""
    persons = [c.person for c in candidates if c.person is not None]
    return {
        "frames": len(candidates),
        "scenes": len({c.scene for c in candidates}),
        "brightness": _quantiles(c.brightness for c in candidates),
        "person": _quantiles(persons),
        "person_known": len(persons),
    }


def summary(told: dict[str, Any]) -> str:
    """Return one line for people of what `describe` returned: how many, and how they spread."""
    found, of = told["picked"], told["considered"]
    words = [
        f"{found['frames']} of {of['frames']} frames, {found['scenes']} of {of['scenes']} scenes"
    ]
    for key in ("brightness", "person"):
        if found[key] and of[key]:
            ends = [q[end] for q in (found[key], of[key]) for end in ("least", "greatest")]
            words.append("{} {:.0%}..{:.0%} (of {:.0%}..{:.0%})".format(key, *ends))
    return "; ".join(words)


def save(folder: Path, calibration: CalibrationSet) -> None:
    """Write `calibration.json` into a bundle's folder, whole or not at all. Raises OutputError."""
    write_whole(folder / FILE, json.dumps(describe(calibration), indent=1) + "\n")


def hashes(folder: Path) -> frozenset[str]:
    """Return the sha256 of every picture a bundle was calibrated on; none where it does not say.

    The file comes from outside: its size is checked first. Raises DatasetError where it is broken.
    """
    path = folder / FILE
    if not path.is_file():
        return frozenset()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES >> 20} MiB")
        frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
        return frozenset(str(frame["sha256"]) for frame in frames)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DatasetError(
            f"{path}: wanted a calibration manifest, found: {error!s:.100}; convert again"
        ) from error


def seen_among(folder: Path, pairs: Sequence[Pair]) -> list[Path]:
    """Return the pictures that a bundle was calibrated on: figures measured on them flatter.

    Raises DatasetError where the bundle's calibration manifest is broken.
    """
    known = hashes(folder)
    return [pair.image for pair in pairs if sha256_of(pair.image) in known] if known else []


def _source(source: Path | None) -> dict[str, str]:
    """The source's own name, and its hash where it is one file."""
    if source is None:
        return {}
    whole = source.resolve()
    return {"name": whole.name, **({"sha256": sha256_of(whole)} if whole.is_file() else {})}


def _frame(candidate: Candidate, source: Path | None) -> dict[str, Any]:
    person, scene = candidate.person, _scene_name(candidate, source)
    return {
        "name": candidate.name,
        "sha256": candidate.sha256,
        **({} if scene == candidate.name else {"scene": scene}),
        "brightness": round(candidate.brightness, 4),
        **({} if person is None else {"person": round(person, 4)}),
    }


def _scene_name(candidate: Candidate, source: Path | None) -> str:
    """A scene that is a path becomes a name inside the source, as the frames'."""
    path = Path(candidate.scene)
    if source is None or not path.is_absolute() and not path.exists():
        return candidate.scene
    if path.resolve() == source.resolve():
        return source.resolve().name
    return inner_name(path, source)


def _quantiles(values: Iterable[float]) -> dict[str, float]:
    known = np.array(list(values))
    if not len(known):
        return {}
    return {name: round(float(np.quantile(known, q)), 4) for name, q in QUANTILES.items()}
