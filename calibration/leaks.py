"""Frames that quality is judged on must be strangers to calibration: refused where they are not.

A leak is a shared file, a shared scene (another frame of the same video, by the rule declared), or
the same content under another name. A picture that was resized or encoded anew is not recognised,
nor is a frame taken out of a video file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_seg.calibration.dataset import Pair
from edge_seg.calibration.sampling import Candidate
from edge_seg.calibration.sources import Frames
from edge_seg.errors import DatasetError
from edge_seg.files import sha256_of

DO = "calibrate on other pictures, or judge on others"


def refuse_shared_scenes(frames: Frames, judged: Sequence[Pair]) -> None:
    """Raise DatasetError where a source holds a judged file, or a frame of a judged scene."""
    if not judged:
        return
    files = {pair.image.resolve() for pair in judged}
    shared = [pair.image for pair in frames.pairs if pair.image.resolve() in files]
    if shared:
        raise DatasetError(
            _message(frames.source, f"{len(shared)} of the labelled pictures", shared)
        )
    scenes = {pair.scene for pair in judged}
    shared = [pair.image for pair in frames.pairs if pair.scene in scenes]
    if shared:
        count = len({pair.scene for pair in frames.pairs if pair.scene in scenes})
        what = f"{_some(len(shared), 'frame')} of {_some(count, 'scene')} judged on"
        raise DatasetError(_message(frames.source, what, shared))


def refuse_shared_content(
    source: Path, candidates: Iterable[Candidate], judged: Sequence[Pair]
) -> None:
    """Raise DatasetError where a candidate is byte for byte one of the judged pictures."""
    if not judged:
        return
    digests = {sha256_of(pair.image): pair.image for pair in judged}
    shared = [c for c in candidates if c.sha256 in digests]
    if shared:
        twin = digests[shared[0].sha256]
        what = f"{len(shared)} that copy labelled pictures byte for byte"
        raise DatasetError(_message(source, what, [Path(f"{shared[0].name} (= {twin})")]))


def _some(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _message(source: Path, what: str, shared: list[Path]) -> str:
    return (
        f"{source}: wanted calibration frames that quality is not measured on, found {what} among "
        f"them, first: {shared[0]}; {DO}"
    )
