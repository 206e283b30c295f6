"""The pictures of a run, gathered from a data folder and rendered into a store.

    DIR/train.txt (or images/ + masks/)   labelled people; PP-HumanSeg14K's own layout is this
    DIR/val.txt                           judged on, never trained on; else a tenth of the scenes
    DIR/backgrounds/                      rooms without people (a site's own empty frames)
    DIR/backgrounds/hard_negatives.txt    rooms to judge false alarms on: never trained on
    DIR/cutouts/                          people with alpha; every tenth, in name order, stays out
    DIR/unlabeled/                        people without labels: used where a teacher's masks are

A picture that is judged on is left out of `backgrounds/` and `unlabeled/`, by whatever name it lies
there, and so is what `unlabeled/` holds of a scene that is judged on.

A teacher is a folder of 8-bit probability PNGs named after the pictures, as `edge-seg run --masks`
writes them. It labels `unlabeled/`, softens the labels, and takes out of the loss those persons
that a label forgot.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture
from edge_seg.calibration.dataset import (
    PICTURE_SUFFIXES,
    Pair,
    SceneRule,
    load_cutout,
    load_image,
    load_pair,
    own_scene,
    read_folder,
    read_list,
    split_scenes,
    where_it_fits,
)
from edge_seg.errors import DatasetError
from edge_seg.files import is_utf8, sha256_of
from edge_seg.pictures import at_most, is_named_picture, read_lines
from edge_seg.training.store import Entry, PictureStore, Planes, render_store

HELD_OUT_CUTOUT = 10  # every tenth
VAL_SHARE = 0.1
TEACHER_SHARE = 0.25  # of the target, where there is a label too
FORGOTTEN = 150  # of 255: what a teacher is this sure of and a label does not have is ignored ...
CLEARANCE = 10  # ... unless it lies within so many pixels of a labelled person


@dataclass(frozen=True)
class Collection:
    """The files of a run, by use. `hard_rooms` and `val` are judged on, never trained on."""

    train: list[Pair]
    val: list[Pair]
    rooms: list[Path] = field(default_factory=list)
    hard_rooms: list[Path] = field(default_factory=list)
    cutouts: list[Path] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)
    teacher: Path | None = None

    def fingerprint(self, side: int) -> str:
        """Changes whenever a store rendered from these files would."""
        labels = [pair.label for pair in self.train if pair.label is not None]
        files = [pair.image for pair in self.train] + labels
        files += self.rooms + self.cutouts + self.unlabelled
        if self.teacher is not None:
            files += sorted(self.teacher.glob("*.png"))
        rows = [(str(path), *_stamp(path)) for path in files]
        return f"{zlib.crc32(json.dumps([side, rows]).encode()):08x}"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DatasetError(
            f"{path}: wanted a file of the data set, found: {error.strerror}; check the path"
        ) from None
    return stat.st_size, stat.st_mtime_ns


def find(folder: Path, *, teacher: Path | None = None, scene: SceneRule = own_scene) -> Collection:
    """Look through a data folder. Raises DatasetError when it holds nothing to train on."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: wanted a data folder, found none; check --data")
    if (folder / "train.txt").is_file():
        train = read_list(folder / "train.txt", scene=scene)
    elif (folder / "images").is_dir() and (folder / "masks").is_dir():
        train = read_folder(folder / "images", folder / "masks", scene=scene)
    else:
        raise DatasetError(
            f"{folder}: wanted train.txt, or images/ and masks/, found neither whole; write a list "
            "of `picture label` lines, or put the pictures and masks into those folders"
        )
    _check_encoding(train)
    if (folder / "val.txt").is_file():
        val = read_list(folder / "val.txt", scene=scene)
        _check_encoding(val)
    else:
        train, val = split_scenes(train, share=VAL_SHARE)
    _check_apart(folder, train, val)
    rooms, hard = _rooms(folder / "backgrounds")
    copies = _copies(rooms, [*(pair.image for pair in val), *hard])
    bare = next((pair for pair in [*train, *val] if pair.label is None), None)
    if bare is not None:
        raise DatasetError(
            f"{folder}: wanted a label for every picture of train.txt and val.txt, found none for "
            f"{bare.image.name}; add it to that line, or take the line out"
        )
    unlabelled = _unlabelled(folder, val, scene) if teacher else []
    if teacher is not None:
        _check_teacher(teacher, [*(pair.image for pair in train), *unlabelled])
    return Collection(
        train=train,
        val=val,
        rooms=[path for path in rooms if path not in copies],
        hard_rooms=hard,
        cutouts=cutouts_of(folder)[0],
        unlabelled=unlabelled,
        teacher=teacher,
    )


def cutouts_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """The people of cutouts/ that training uses, and those it leaves out."""
    found = _files(folder / "cutouts", (".png",))
    used = [path for i, path in enumerate(found, 1) if i % HELD_OUT_CUTOUT]
    return used, found[HELD_OUT_CUTOUT - 1 :: HELD_OUT_CUTOUT]


def _check_apart(folder: Path, train: list[Pair], val: list[Pair]) -> None:
    """Raise DatasetError where a picture, a scene or a copy of a picture is in both."""
    shared = {pair.image.resolve() for pair in train} & {pair.image.resolve() for pair in val}
    if shared:
        raise DatasetError(
            f"{folder}: wanted val.txt apart from train.txt, found {len(shared)} pictures in both, "
            f"first: {min(shared)}; take them out of one"
        )
    scenes = {pair.scene for pair in train} & {pair.scene for pair in val}
    if scenes:
        raise DatasetError(
            f"{folder}: wanted val.txt apart from train.txt, found {len(scenes)} scenes in both, "
            f"first: {min(scenes)}; keep each in one of them, or leave --scenes out"
        )
    copies = _copies([pair.image for pair in train], [pair.image for pair in val])
    if copies:
        trained, judged = next(iter(copies.items()))
        raise DatasetError(
            f"{folder}: wanted other pictures to judge on than to train on, found {len(copies)} "
            f"copies, first: {judged} = {trained}; remove one of each two"
        )


def _copies(pictures: list[Path], judged: list[Path]) -> dict[Path, Path]:
    """The pictures that are byte for byte one judged on, and which; reads those of equal size."""
    sizes = [{path: _stamp(path)[0] for path in paths} for paths in (pictures, judged)]
    both = set(sizes[0].values()) & set(sizes[1].values())
    known = {sha256_of(path): path for path, size in sizes[1].items() if size in both}
    digests = {path: sha256_of(path) for path, size in sizes[0].items() if size in both}
    return {path: known[digest] for path, digest in digests.items() if digest in known}


def _unlabelled(folder: Path, val: list[Pair], scene: SceneRule) -> list[Path]:
    """The pictures of `unlabeled/` that are none judged on, and of no scene that is."""
    found = _files(folder / "unlabeled", PICTURE_SUFFIXES)
    copies, scenes = _copies(found, [pair.image for pair in val]), {pair.scene for pair in val}
    rule = where_it_fits(scene)
    return [path for path in found if path not in copies and rule(path) not in scenes]


def _check_encoding(pairs: list[Pair]) -> None:
    """A run lists its pictures in UTF-8, which not every name on a disk is."""
    for path in [path for pair in pairs for path in (pair.image, pair.label) if path]:
        if not is_utf8(path.absolute()):
            raise DatasetError(
                f"{path}: wanted a name in UTF-8, found other bytes; rename the file or its folder"
            )


def to_teach(folder: Path, *, scene: SceneRule = own_scene) -> list[Path]:
    """The pictures a teacher's masks are of use for: those trained on, and `unlabeled/`.

    scene: the rule that training will be given: by another one it splits otherwise, and some of
    its pictures have no mask. Raises DatasetError as `find` does, and where two share a name.
    """
    files = find(folder, scene=scene)
    pictures = [pair.image for pair in files.train] + _unlabelled(folder, files.val, scene)
    _check_names(pictures)
    return pictures


def _check_teacher(teacher: Path, files: list[Path]) -> None:
    """Raise DatasetError where the folder holds no mask of any of these pictures."""
    masks = _taught_names(teacher)
    if not masks:
        raise DatasetError(
            f"{teacher}: wanted a folder of a teacher's masks (PNG), found none; check --teacher"
        )
    _check_names(files)
    if not any(path.stem in masks for path in files):
        raise DatasetError(
            f"{teacher}: wanted a teacher's masks named after the pictures ({files[0].stem}.png), "
            f"found {len(masks)} of other names, such as {min(masks)}.png; check --teacher"
        )


def _check_names(files: list[Path]) -> None:
    """A teacher's masks are found by name: one picture would silently get another's."""
    seen: dict[str, Path] = {}
    for path in files:
        other = seen.setdefault(path.stem, path)
        if other != path:
            raise DatasetError(
                f"{path}: wanted one picture per name, for its teacher's mask, found {other} too; "
                "rename one"
            )


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_named_picture(path, suffixes))


def _rooms(folder: Path) -> tuple[list[Path], list[Path]]:
    rooms, listing = _files(folder, PICTURE_SUFFIXES), folder / "hard_negatives.txt"
    if not listing.is_file():
        return rooms, []
    # Compared where links lead to: what is named, by whatever way, is not trained on.
    places = {path: path.resolve() for path in rooms}
    known, hard = set(places.values()), dict[Path, Path]()
    for number, line in enumerate(read_lines(listing), 1):
        if line.strip():
            path = folder / line.strip()
            place = _place(path)
            if place not in known:
                raise DatasetError(
                    f"{listing} line {number}: wanted a picture under {folder}, found no "
                    f"{line.strip()!r:.200} among them; correct the line"
                )
            hard[place] = path
    return [path for path in rooms if places[path] not in hard], list(hard.values())


def _place(path: Path) -> Path:
    """Where a path leads to; itself where that cannot be said."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a null byte
        return path


# -- rendering ----------------------------------------------------------------------------------


def open_store(
    files: Collection,
    folder: Path,
    *,
    side: int,
    progress: Callable[[int], None] = lambda done: None,
) -> PictureStore:
    """Open the store in `folder`, rendering it first unless it was made from the same files.

    side: the longest side of a rendered picture, in pixels. progress: called with entries done.
    """
    if not files.train:
        raise DatasetError(
            "wanted labelled pictures to train on, found none; every line of train.txt needs a "
            "label"
        )
    fingerprint = files.fingerprint(side)
    try:
        if PictureStore(folder).fingerprint == fingerprint:
            return PictureStore(folder)
    except DatasetError:
        pass  # none yet, or half of one
    render_store(_counted(_entries(files, side), progress), folder, fingerprint=fingerprint)
    return PictureStore(folder)


def _counted(entries: Iterator[Entry], progress: Callable[[int], None]) -> Iterator[Entry]:
    for done, entry in enumerate(entries, 1):
        yield entry
        progress(done)


def _entries(files: Collection, side: int) -> Iterator[Entry]:
    people = 0
    for pair in files.train:
        picture, label = load_pair(pair)
        people += bool((label == 1).any())
        yield Entry(
            pair.image.name, "labelled", *_labelled(picture, label, side, _soft(files, pair.image))
        )
    if not people and not files.cutouts and not files.unlabelled:
        raise DatasetError(
            f"{files.train[0].label}: wanted people in the labels trained on, found none in any of "
            f"the {len(files.train)}; write 1, or white on black, where a person is"
        )
    for path in files.unlabelled:
        soft = _soft(files, path)
        if soft is not None:
            picture = at_most(load_image(path), side)
            target = cv2.resize(soft, picture.shape[1::-1], interpolation=cv2.INTER_AREA)
            yield Entry(path.name, "unlabelled", picture, _planes(target))
    for path in files.cutouts:
        person, alpha = load_cutout(path)
        yield Entry(path.name, "cutout", at_most(person, side), _planes(at_most(alpha, side)))
    for path in files.rooms:
        picture = at_most(load_image(path), side)
        yield Entry(path.name, "room", picture, _planes(np.zeros(picture.shape[:2], np.uint8)))


def _soft(files: Collection, picture: Path) -> NDArray[np.uint8] | None:
    """The teacher's mask of a picture, uint8 0..255; None where there is none."""
    if files.teacher is None:
        return None
    path = files.teacher / f"{picture.stem}.png"
    return load_image(path)[:, :, 0] if path.is_file() else None


def taught(files: Collection, pictures: list[Path]) -> int:
    """How many of these pictures the teacher has a mask of."""
    if files.teacher is None:
        return 0
    masks = _taught_names(files.teacher)
    return sum(path.stem in masks for path in pictures)


def _taught_names(teacher: Path) -> set[str]:
    """The names, without ending, of the pictures that a teacher's folder has masks of."""
    return {path.stem for path in teacher.glob("*.png")}


def _planes(target: NDArray[np.uint8]) -> Planes:
    return np.dstack([target, np.full_like(target, 255)])


def _labelled(
    picture: Picture, label: NDArray[np.uint8], side: int, soft: NDArray[np.uint8] | None
) -> tuple[Picture, Planes]:
    """A labelled picture and its planes: coverage of the cell, and what counts."""
    picture = at_most(picture, side)
    size = picture.shape[1::-1]
    person = cv2.resize((label == 1).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    counted = cv2.resize((label != 255).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    weight = np.where(counted > 0.99, 255, 0).astype(np.uint8)
    target = 255 * person
    if soft is not None:
        soft = cv2.resize(soft, size, interpolation=cv2.INTER_AREA)
        reach = 2 * CLEARANCE + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        near = cv2.dilate((person > 0.5).astype(np.uint8), disc)
        weight[(soft > FORGOTTEN) & (person < 0.25) & (near == 0)] = 0
        target = (1 - TEACHER_SHARE) * target + TEACHER_SHARE * soft.astype(np.float32)
    return picture, np.dstack([np.rint(target).astype(np.uint8), weight])
