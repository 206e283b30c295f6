"""What `run` writes, by what -o and --masks name, and what it refuses to write over."""

from __future__ import annotations

import argparse
import os
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edge_seg.camera import Source
    from edge_seg.recording import MaskFolder, PictureFile, PictureFolder, VideoFile

UNKNOWN_FPS = 30.0  # of a camera that states no rate
VIDEO, PICTURE, FOLDER = "a video", "one picture", "a folder"


class Output(NamedTuple):
    """What -o names. kind: VIDEO, PICTURE or FOLDER (of one picture per frame)."""

    path: Path
    kind: str


@dataclass
class Written:
    """What a run writes. frames: read so far; late: of these, without a mask in time.

    began, until: the times of the first and the last frame read, seconds.
    """

    video: VideoFile | None = None
    pictures: PictureFolder | PictureFile | None = None
    masks: MaskFolder | None = None
    frames: int = 0
    late: int = 0
    began: float = 0.0
    until: float = 0.0


def output(text: str) -> Output:
    """Return what -o names. Raises argparse.ArgumentTypeError for a name of none of the kinds."""
    if not text:
        raise argparse.ArgumentTypeError("wanted a name, found none; is a variable not set?")
    path = Path(text)
    if text.endswith("/") or os.path.isdir(path):
        return Output(path, FOLDER)
    ending = path.suffix.lower()
    if ending == ".webm":
        return Output(path, VIDEO)
    if ending in (".png", ".jpg", ".jpeg"):  # recording.PICTURE_ENDS, without loading OpenCV yet
        return Output(path, PICTURE)
    raise argparse.ArgumentTypeError(
        "wanted a name ending in .webm (a video), in .png or .jpg (one picture), or in a slash (a "
        f"folder for one picture per frame), found {text!r}"
    )


def masks_folder(text: str) -> Path:
    """Return the folder that --masks names. Raises argparse.ArgumentTypeError for no name."""
    if not text:
        raise argparse.ArgumentTypeError("wanted a folder, found no name; is a variable not set?")
    return Path(text)


def real(path: str | Path) -> Path:
    """Return a path without its links; unlike Path.resolve also where they go in a circle."""
    return Path(os.path.realpath(path))


def check_names(args: argparse.Namespace, source: Source) -> None:
    """Refuse what would replace other output, a picture that is read, or a clip's labels."""
    read = {real(path) for path in (*(source.files or ()), *source.labels)}
    read.add(real(args.background))
    if args.masks is not None:
        _check_folder(args, source, args.masks, "--masks", read)
    if args.output is None or args.output.kind == VIDEO:
        return
    path, kind = args.output
    if kind == FOLDER:
        _check_folder(args, source, path, "-o", read)
        if args.masks is not None and real(args.masks) == real(path):
            args.parser.error(f"wanted two folders for pictures and masks, found {path} for both")
        return
    if source.files is None or len(source.files) != 1:
        args.parser.error(
            f"wanted a source of one picture for -o {path}, found {source.describe}; name a folder "
            f"for one picture per frame: -o {path.with_suffix('')}/"
        )
    if real(path) in read:
        args.parser.error(f"wanted another file than those that are read, found {path}")


def _check_folder(
    args: argparse.Namespace, source: Source, folder: Path, option: str, read: set[Path]
) -> None:
    """Refuse a folder in which one PNG per frame would replace another or what is read."""
    labels = real(Path(args.source) / "masks")
    if real(folder) == labels and os.path.isdir(labels):
        args.parser.error(f"wanted another folder than the clip's labels, found {folder}")
    seen: set[str] = set()
    for path in source.files or ():
        if path.stem in seen:
            args.parser.error(
                f"wanted pictures of different names for {option}, found {path.stem!r} twice in "
                f"{source.describe}; rename one, or run them apart"
            )
        seen.add(path.stem)
    if source.files is None:  # numbered; of these only a background can be in the way
        seen = {path.stem for path in read if re.fullmatch("[0-9]{6,}", path.stem)}
    for name in sorted(seen):
        if real(folder / f"{name}.png") in read:
            args.parser.error(
                f"wanted another folder than the pictures' or labels' own, found that what is made "
                f"of {name} would replace one in {folder}; choose another {option}"
            )


def open_outputs(out: Written, args: argparse.Namespace, source: Source, stack: ExitStack) -> None:
    """Open what is written; `stack` closes it."""
    from edge_seg.recording import MaskFolder, PictureFile, PictureFolder, VideoFile

    if args.masks is not None:
        out.masks = MaskFolder(args.masks)
    if args.output is None:
        return
    path, kind = args.output
    if kind == VIDEO:
        fps = args.fps or source.fps or UNKNOWN_FPS
        clock = time.monotonic if source.live and args.fps is None else None
        out.video = stack.enter_context(VideoFile(path, fps=fps, clock=clock))
    else:
        out.pictures = PictureFile(path) if kind == PICTURE else PictureFolder(path)
