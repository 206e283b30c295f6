"""The frames a quantiser sees: picked from a source, prepared as the runtime prepares them.

    source   a list, a folder of pictures, a clip folder or a video file
    picture  uint8 (h, w, 3), the network's size and colour: `pixels.prepare` of a frame

Unreadable pictures are skipped, named and counted; too many of them, or too few frames, refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge_seg import pixels
from edge_seg.arrays import Picture
from edge_seg.calibration import leaks
from edge_seg.calibration.dataset import Pair, SceneRule, clip_scene
from edge_seg.calibration.sampling import Candidate, Survey, choose, spread, survey
from edge_seg.calibration.sources import Frames, open_frames
from edge_seg.errors import DatasetError
from edge_seg.spec import InputSpec

COUNT = 100  # frames; docs/calibration.md
LEAST = 8  # fewer say nothing about the ranges of a network
MOST = 1000  # prepared pictures are held in memory: 1000 of 398x224 take 1.1 GB as floats
HELD_BACK = 50  # frames on which agreement is judged where there are no labels
LEAST_HELD_BACK = 2
HELD_SHARE = 5  # one scene in five is held back
SKIP_SHARE = 0.1  # more unreadable pictures than this is not an accident


@dataclass(frozen=True)
class CalibrationSet:
    """What the quantiser sees, and what may be judged on without labels.

    pictures: uint8 (h, w, 3) each. skipped: one sentence per unreadable picture. held_back:
    frames, uint8 (H, W, 3) BGR, that the quantiser does not see. picked: what is known of each
    picture's frame. considered: the frames that could have been picked. source, seed: as asked.
    notes: what the user should know, in sentences.
    """

    pictures: list[Picture]
    skipped: list[str] = field(default_factory=list)
    held_back: list[Picture] = field(default_factory=list)
    picked: list[Candidate] = field(default_factory=list)
    considered: list[Candidate] = field(default_factory=list)
    source: Path | None = None
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        """Hash of the pictures, in order, after preparation: what the quantiser really saw."""
        digest = hashlib.sha256()
        for picture in self.pictures:
            digest.update(picture.tobytes())
        return digest.hexdigest()


def gather(
    source: Path,
    spec: InputSpec,
    *,
    count: int = COUNT,
    seed: int = 0,
    hold_back: int = 0,
    judged: Sequence[Pair] = (),
    scene: SceneRule = clip_scene,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CalibrationSet:
    """Pick frames of a source (sampling.py) and prepare them; they come in the source's order.

    count: frames for the quantiser, 8..1000, fewer where the source has fewer. hold_back: frames
    kept from it to judge on, of scenes of their own. judged: what quality is measured on, with its
    scenes; a frame of one of them in the source is a leak. scene: the rule for pictures.
    progress: called with (done, of how many; 0 = unknown).
    Raises DatasetError (leak, too few frames, too many unreadable), CameraError.
    """
    if not LEAST <= count <= MOST:
        raise DatasetError(f"wanted {LEAST}..{MOST} calibration frames, found {count}; correct it")
    frames = open_frames(source, scene=scene)
    leaks.refuse_shared_scenes(frames, judged)
    least = LEAST + (LEAST_HELD_BACK if hold_back else 0)
    if not frames.is_video:
        _refuse_too_few(source, len(frames.pairs), least)
    seen = survey(frames, progress=progress)
    _refuse_unreadable(source, seen, least)
    leaks.refuse_shared_content(source, seen.candidates, judged)
    left, held, notes = hold_scenes_back(seen.candidates, hold_back, seed)
    picked = sorted(choose(left, count, seed), key=lambda candidate: candidate.index)
    made = CalibrationSet(
        [], list(seen.unreadable), considered=left, source=source, seed=seed, notes=notes
    )
    _read(frames, made, spec, picked=picked, held=held)
    _refuse_too_few(source, len(made.pictures), LEAST)
    return made


def hold_scenes_back(
    candidates: list[Candidate], count: int, seed: int
) -> tuple[list[Candidate], list[Candidate], list[str]]:
    """Split off frames to judge on: (what may be picked, held back, notes).

    One scene in five is held back whole, and of those about `count` frames kept, one of every
    scene before a second. Where scenes do not go that far (one video) it is the source's last
    fifth, and a note says so.
    """
    if not count:
        return candidates, [], []
    scenes: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        scenes.setdefault(candidate.scene, []).append(candidate)
    random, left, held = np.random.default_rng(seed), len(candidates), list[str]()
    names = sorted(scenes)
    for number in random.permutation(len(scenes)):
        name = names[number]
        if len(held) < max(1, len(scenes) // HELD_SHARE) and left - len(scenes[name]) >= LEAST:
            held.append(name)
            left -= len(scenes[name])
    kept = [c for name in held for c in scenes[name]]
    if len(kept) < LEAST_HELD_BACK:
        tail = max(LEAST_HELD_BACK, len(candidates) // HELD_SHARE)
        note = (
            "agreement is judged on the last fifth of the very scene that was calibrated on: it "
            "flatters; add other scenes, or pass --labels"
        )
        return candidates[:-tail], spread(candidates[-tail:], min(count, tail)), [note]
    # A copy of a held-back picture under another name is as little a stranger as the picture.
    copies = {candidate.sha256 for candidate in kept} - {""}
    away = set(held)
    rest = [c for c in candidates if c.scene not in away and c.sha256 not in copies]
    return rest, _by_turns([scenes[name] for name in held], count, random), []


def _by_turns(
    scenes: list[list[Candidate]], count: int, random: np.random.Generator
) -> list[Candidate]:
    """Draw `count` frames at random, one of every scene before a second."""
    shuffled = [[scene[i] for i in random.permutation(len(scene))] for scene in scenes]
    longest = max(len(scene) for scene in shuffled)
    return [s[turn] for turn in range(longest) for s in shuffled if turn < len(s)][:count]


def _read(
    frames: Frames,
    made: CalibrationSet,
    spec: InputSpec,
    *,
    picked: list[Candidate],
    held: list[Candidate],
) -> None:
    """Read what was chosen and fill the set; what fails only now is skipped too."""
    by_index = {candidate.index: candidate for candidate in picked}
    wanted = sorted({*by_index, *(candidate.index for candidate in held)})
    for index, frame in frames.read(wanted):
        if isinstance(frame, DatasetError):
            made.skipped.append(str(frame))
        elif index in by_index:
            made.pictures.append(pixels.prepare(frame, spec)[0])
            made.picked.append(_hashed(by_index[index], frame))
        else:
            made.held_back.append(frame)


def _hashed(candidate: Candidate, frame: Picture) -> Candidate:
    """Give a frame of a video the hash of its pixels: it has no file of its own."""
    if candidate.sha256:
        return candidate
    return replace(candidate, sha256=hashlib.sha256(frame.tobytes()).hexdigest())


def _refuse_too_few(source: Path, found: int, least: int) -> None:
    if found < least:
        raise DatasetError(
            f"{source}: wanted at least {least} calibration frames, found {found}; "
            "name a larger folder (its own pictures count, not those of folders in it), list or "
            "clip"
        )


def _refuse_unreadable(source: Path, seen: Survey, least: int) -> None:
    bad, looked_at = seen.unreadable, len(seen.candidates) + len(seen.unreadable)
    if len(bad) > max(1, SKIP_SHARE * looked_at):
        raise DatasetError(
            f"{source}: wanted {looked_at} readable calibration pictures, found {len(bad)} that "
            f"are not, first: {bad[0]}; repair or remove them"
        )
    _refuse_too_few(source, len(seen.candidates), least)
