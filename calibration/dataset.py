"""Data sets on disk: pictures, labels, and the lists and folders that pair them.

A list has one line per picture, `picture<space>label` (PP-HumanSeg14K's form); the label may be
absent where none is needed. Labels are 8-bit PNGs: palette or grey holding 0, 1 and 255 = ignore,
or grey (a palette of greys in their order, too) holding 0 and 255 = person. What is read is

    picture  uint8 (H, W, 3) BGR           label  uint8 (H, W): 0 background, 1 person, 255 ignore

Whatever is wrong raises `DatasetError`, naming the file and, in a list, the line.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_seg import formats, pictures
from edge_seg.arrays import Label, Labelled, Picture
from edge_seg.errors import CameraError, DatasetError
from edge_seg.pictures import PICTURE_SUFFIXES

SceneRule = Callable[[Path], str]

IGNORE = 255
# PP-HumanSeg14K's frames: a video's name, four digits, a suffix of three letters (other
# loaders of that data set take the last eight characters for the frame number and the extension).
_VIDEO_FRAME = re.compile(r"(.+)[0-9]{4}\.[A-Za-z]{3}")
# What Pillow raises on missing, cut, forged or other files (SyntaxError: a broken PNG chunk).
_BROKEN_PNG = (OSError, SyntaxError, ValueError, OverflowError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Pair:
    """One picture, its label if it has one, and the scene (video, room) it belongs to."""

    image: Path
    label: Path | None
    scene: str


# -- scenes -------------------------------------------------------------------------------------


def own_scene(image: Path) -> str:
    """The rule for unrelated pictures: every one is a scene of its own."""
    return image.as_posix()


def clip_scene(image: Path) -> str:
    """The rule for what lies on a disk anyhow: a frame of a clip folder (frames/ with masks/
    beside it) belongs to that clip, every other picture is a scene of its own.
    """
    folder = image.parent
    if folder.name == "frames" and (folder.parent / "masks").is_dir():
        return folder.parent.resolve().as_posix()
    return own_scene(image)


def pp_humanseg14k_scene(image: Path) -> str:
    """The video of a PP-HumanSeg14K frame: its name without frame number and extension.

    The folder takes no part: train/ and val/ may hold frames of one video, which is a leak.
    Only for data the user declares to be PP-HumanSeg14K: elsewhere `ccp_0001` and `ccp_0002` are
    two people. Raises DatasetError for a name that data set does not have.
    """
    match = _VIDEO_FRAME.fullmatch(image.name)
    if match is None:
        raise DatasetError(
            f"{image}: wanted a PP-HumanSeg14K frame name (video, four digits, .jpg), found "
            f"{image.name!r}; leave that rule out, or give a pattern of your own"
        )
    return match.group(1)


def scene_rule(pattern: str) -> SceneRule:
    """A user's rule: a regular expression searched in the file name; group 1 is the scene."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(
            f"wanted a regular expression for scenes, found {pattern!r} ({error}); correct it"
        ) from None
    if compiled.groups < 1:
        raise DatasetError(
            f"wanted a scene pattern with a group, such as '(.*)_[0-9]+', found {pattern!r}; put "
            "brackets round the part that names the scene"
        )

    def rule(image: Path) -> str:
        match = compiled.search(image.name)
        if match is None or match.group(1) is None:
            raise DatasetError(
                f"{image}: wanted a name that fits the scene pattern {pattern!r}, found "
                f"{image.name!r}; widen the pattern"
            )
        return match.group(1)

    return rule


def named_rule(name: str | None) -> SceneRule:
    """Return the rule a user names: None (every picture its own scene), "pp-humanseg14k", or a
    regular expression (`scene_rule`). Raises DatasetError.
    """
    if name is None:
        return own_scene
    return pp_humanseg14k_scene if name == "pp-humanseg14k" else scene_rule(name)


def where_it_fits(rule: SceneRule) -> SceneRule:
    """Return a rule for pictures among which some may have other names: those are their own scenes.

    For comparing with a set that is named by `rule`: what does not fit cannot be a scene of it.
    """

    def lenient(image: Path) -> str:
        try:
            return rule(image)
        except DatasetError:
            return own_scene(image)

    return lenient


def split_scenes(
    pairs: list[Pair], *, share: float, seed: int = 0
) -> tuple[list[Pair], list[Pair]]:
    """Split into (rest, held back) so that no scene is in both; about `share` of the scenes.

    At least one scene is held back, and at least one stays. The same pictures and seed give the
    same split on every machine, wherever they lie and however the way to them is written. Raises
    DatasetError when there are fewer than two scenes.
    """
    names = _names_in_place(pairs)
    if len(names) < 2:
        raise DatasetError(
            f"wanted at least two scenes to split, found {len(names)}; add pictures of another "
            "scene, or give a list for each part"
        )
    order = sorted(names, key=lambda scene: zlib.crc32(f"{seed} {names[scene]}".encode()))
    held = set(order[: min(len(names) - 1, max(1, round(share * len(names))))])
    rest = [pair for pair in pairs if pair.scene not in held]
    return rest, [pair for pair in pairs if pair.scene in held]


def _names_in_place(pairs: list[Pair]) -> dict[str, str]:
    """Every scene, sorted; of one that is a picture's path, that path from where all of them lie.

    A fine-tuning that is trained on must not be judged on pictures it was trained on before only
    because the folder has moved, or was called ../data instead of data.
    """
    places = [os.path.abspath(pair.image) for pair in pairs]
    root = os.path.commonpath([os.path.dirname(place) for place in places]) if places else ""
    names = {
        pair.scene: os.path.relpath(place, root)
        if pair.scene == own_scene(pair.image)
        else pair.scene
        for pair, place in zip(pairs, places, strict=True)
    }
    return dict(sorted(names.items()))


# -- lists and folders --------------------------------------------------------------------------


def read_list(path: Path, *, scene: SceneRule = own_scene) -> list[Pair]:
    """Return the pairs of a list file, in its order.

    Paths are relative to the list's folder, or absolute. Raises DatasetError naming the file and
    the line: a file that is not there, a line of another form, an empty list, a device or a pipe.
    """
    return [Pair(image, label, scene(image)) for image, label in pictures.read_list(path)]


def read_folder(images: Path, masks: Path, *, scene: SceneRule = own_scene) -> list[Pair]:
    """Pair the pictures of a folder with the PNGs of the same stem in another, in name order.

    Raises DatasetError: no folder, no pictures, a picture without a mask, two of one stem.
    """
    for folder, content in ((images, "pictures"), (masks, "masks")):
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: wanted a folder of {content}, found none; check the path"
            )
    beside = sorted(masks.iterdir())
    by_stem = {path.stem: path for path in beside if path.suffix.lower() == ".png"}
    pairs: list[Pair] = []
    seen: set[str] = set()
    for image in _pictures(images):
        label = by_stem.get(image.stem)
        if label is None:
            raise DatasetError(
                f"{image}: wanted its mask {masks / (image.stem + '.png')}, found "
                f"{_nearest(image.stem, beside)}; add the mask or remove the picture"
            )
        if image.stem in seen:
            raise DatasetError(f"{image}: wanted one picture per name, found two; rename one")
        seen.add(image.stem)
        pairs.append(Pair(image, label, scene(image)))
    return pairs


def _nearest(stem: str, files: list[Path]) -> str:
    """The name of what may have been meant for a picture's mask; "none"."""
    alike = re.compile(re.escape(stem) + r"([^0-9a-z].*)?", re.IGNORECASE)
    return next((f"{path.name!r}" for path in files if alike.fullmatch(path.stem)), "none")


def is_clip(source: Path) -> bool:
    """True for a folder that holds frames/: its pictures follow each other in time."""
    return (source / "frames").is_dir()


def clip_pairs(folder: Path) -> list[Pair]:
    """Return the frames and masks of a clip (a folder holding frames/ and masks/): one scene."""
    name = folder.resolve().as_posix()
    return read_folder(folder / "frames", folder / "masks", scene=lambda image: name)


def pairs_of(source: Path, *, scene: SceneRule = own_scene) -> list[Pair]:
    """Return the labelled pairs of a list file, a clip (frames/, masks/) or images/ and masks/.

    scene: the rule for a list and for images/; a clip is one scene whatever it says.
    """
    if not source.is_dir():
        return read_list(source, scene=scene)
    if is_clip(source):
        return clip_pairs(source)
    if (source / "images").is_dir():
        return read_folder(source / "images", source / "masks", scene=scene)
    raise DatasetError(
        f"{source}: wanted a list file, or a folder holding frames/ (or images/) and masks/, found "
        "neither; name one of those"
    )


def labelled_pairs(source: Path) -> Iterator[Labelled]:
    """Yield (picture, label) of every pair of `pairs_of(source)`, read one at a time.

    Raises DatasetError for a pair without a label before anything is read.
    """
    pairs = pairs_of(source)
    bare = next((pair for pair in pairs if pair.label is None), None)
    if bare is not None:
        raise DatasetError(
            f"{source}: wanted a label for every picture, found none for {bare.image.name}; add it "
            "to that line"
        )
    return (load_pair(pair) for pair in pairs)


def _pictures(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if pictures.is_named_picture(path))
    if not found:
        raise DatasetError(
            f"{folder}: wanted pictures ({', '.join(PICTURE_SUFFIXES)}), found none; check the path"
        )
    return found


# -- pictures and labels ------------------------------------------------------------------------


def load_image(path: Path) -> Picture:
    """Return a picture as uint8 (H, W, 3) BGR, upright. Raises DatasetError naming the file."""
    try:
        return pictures.read_picture(path)
    except CameraError as error:
        raise DatasetError(str(error)) from None


def load_label(path: Path) -> Label:
    """Return a label as uint8 (H, W) of 0, 1 and 255 = ignore.

    255 in the file is ignored in a palette PNG and in a grey one in which 1 occurs; a grey one of
    0 and 255 alone is white on black, and 255 the person.
    Raises DatasetError: not a PNG, colour instead of classes, 16 bit, a value with no meaning, a
    palette of white for 0 and black for 1, a mask in the alpha channel.
    """
    plane, indexed = _read_plane(path)
    present = np.flatnonzero(np.bincount(plane.ravel(), minlength=256)).tolist()
    strange = [value for value in present if value not in (0, 1, IGNORE)]
    if strange:
        raise DatasetError(
            f"{path}: wanted label values 0, 1 and 255, found {strange[:5]}; write 0 for "
            "background, 1 for person, 255 for pixels to ignore"
        )
    if not indexed and 1 not in present:
        return np.asarray(plane != 0, dtype=np.uint8)
    return plane


@contextlib.contextmanager
def _opened_png(path: Path) -> Iterator[Image.Image]:
    """Open a PNG whose size is no danger; whatever Pillow then finds wrong names the file."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > formats.MAX_PIXELS:
                raise DatasetError(
                    f"{path}: wanted a PNG of at most {formats.MAX_PIXELS} pixels, found "
                    f"{image.width}x{image.height}; reduce it"
                )
            yield image
    except DatasetError:
        raise
    except _BROKEN_PNG as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"{path}: wanted a whole PNG, found: {reason}; check the path, or write it again"
        ) from None


def _read_plane(path: Path) -> tuple[Label, bool]:
    """The pixels of a label PNG, and whether they are palette indices."""
    with _opened_png(path) as image:
        mode = image.mode
        plane = np.array(image.convert("L") if mode == "1" else image, dtype=np.uint8)
        colours = np.reshape(image.getpalette() or [], (-1, 3)) if mode == "P" else None
    if mode in ("RGB", "RGBA") and np.ptp(plane[:, :, :3], axis=2).max() == 0:
        if mode == "RGBA" and plane[:, :, 0][plane[:, :, 3] == 0].any():
            raise DatasetError(
                f"{path}: wanted a label in its colours, found white that is transparent; save the "
                "alpha channel as a grey PNG if it holds the mask, or remove it"
            )
        return np.ascontiguousarray(plane[:, :, 0]), False
    if mode not in ("P", "L", "1"):
        raise DatasetError(
            f"{path}: wanted a label of one channel of class numbers, found mode {mode}; save it "
            "as a palette or grey PNG of 8 bits"
        )
    return plane, colours is not None and not _has_grey_palette(path, colours)


def _has_grey_palette(path: Path, colours: NDArray[np.signedinteger]) -> bool:
    """Whether a label's palette (n, 3) is but the greys 0..255 in their order.

    Raises DatasetError where it has white for 0 and black for 1: one of the two is not meant.
    """
    if len(colours) > 1 and colours[0].min() > 200 and colours[1].max() < 55:
        raise DatasetError(
            f"{path}: wanted a palette with another colour than black for 1, the person, found "
            "white for 0 and black for 1; save it as a grey PNG, black with a white person"
        )
    return len(colours) == 256 and bool((colours == np.arange(256)[:, None]).all())


def load_pair(pair: Pair) -> Labelled:
    """Return (picture, label) of one size. A pair without a label gets one that is all ignored.

    Raises DatasetError, also when the label is of another size than its picture.
    """
    picture = load_image(pair.image)
    if pair.label is None:
        return picture, np.full(picture.shape[:2], IGNORE, dtype=np.uint8)
    label = load_label(pair.label)
    if label.shape != picture.shape[:2]:
        lying = label.shape == picture.shape[1::-1]
        remedy = "turn it as the picture's EXIF turns the picture" if lying else ""
        raise DatasetError(
            f"{pair.label}: wanted a label of its picture's size {picture.shape[1]}x"
            f"{picture.shape[0]}, found {label.shape[1]}x{label.shape[0]}; "
            f"{remedy or 'make it from that picture'}"
        )
    return picture, label


def load_cutout(path: Path) -> tuple[Picture, Label]:
    """Return a person cut out of a photograph: (picture BGR, alpha uint8 (H, W) 0..255).

    Raises DatasetError for anything but a PNG of 8 bits with an alpha channel.
    """
    with _opened_png(path) as image:
        mode = image.mode
        plane = np.array(image, dtype=np.uint8) if mode == "RGBA" else None
    if plane is None:
        raise DatasetError(
            f"{path}: wanted a person with alpha (an RGBA PNG), found mode {mode}; cut the person "
            "out, or take the file away"
        )
    return np.ascontiguousarray(plane[:, :, 2::-1]), np.ascontiguousarray(plane[:, :, 3])
