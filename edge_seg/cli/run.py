"""`edge-seg run [BUNDLE] --source S -o OUT`: frames in, a video, pictures or masks out."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import DONE, UNFINISHED, account, arguments, interrupted
from edge_seg.cli.outputs import Written, check_names, masks_folder, open_outputs, output, real
from edge_seg.cli.progress import frames_bar
from edge_seg.errors import BackendFailure, CameraError, MaskLate, OutputError

if TYPE_CHECKING:
    from edge_seg.camera import Source
    from edge_seg.recording import VideoFile
    from edge_seg.segmenter import EdgeSegmenter

Composite = Callable[[Any, Any], Any]  # (frame, mask) -> frame


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="segment a camera, video, picture, folder or list; write a video, pictures or masks",
        description="Segment every frame of a source. -o OUT.webm writes a video as long as the "
        "source, -o DIR/ one picture per frame, -o OUT.png the picture of one; "
        "--masks writes one 8-bit PNG per frame. Ctrl-C finishes the file.",
    )
    arguments.add_bundle(parser)
    parser.add_argument(
        "--source",
        required=True,
        metavar="S",
        help="camera index (0), /dev/videoN, picamera2, csi://0, rtsp://..., http://..., "
        "gst:ELEMENTS, fake:, a video, a picture, a folder of pictures, a clip folder with "
        "frames/, or a list file",
    )
    arguments.add_board(parser)
    arguments.add_threads(parser)
    arguments.add_cache(parser)
    arguments.add_policy(parser)
    parser.add_argument(
        "--background",
        default="blur",
        metavar="blur|none|#RRGGBB|FILE",
        help="what stands behind the person in what -o writes: the blurred background (default), "
        "the background as it is, a colour, or a picture",
    )
    _add_frames(parser)
    arguments.add_edges(parser)
    arguments.add_cadence(parser)
    arguments.add_smoothing(
        parser,
        "800 for videos and cameras, off for unrelated pictures, whose times come from --fps",
    )
    _add_outputs(parser)
    parser.add_argument(
        "--metrics",
        type=arguments.endpoint,
        metavar="[HOST:]PORT",
        help="show counters and latencies to Prometheus at this port, to this machine alone unless "
        "a HOST to listen at is given",
    )
    parser.set_defaults(run=run, parser=parser)


def _add_frames(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rotate",
        type=int,
        default=0,
        choices=(0, 90, 180, 270),
        help="turn every frame clockwise by so many degrees first",
    )
    parser.add_argument("--mirror", action="store_true", help="then swap left and right")
    parser.add_argument(
        "--fps",
        type=arguments.frame_rate,
        metavar="N",
        help="frames per second of the video written (default: the source's, of a camera what its "
        "frames come at here; 1 for a folder or list, 30 for a clip folder); of a camera, no more "
        "are asked for and taken",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=output,
        metavar="OUT.webm|OUT.png|DIR/",
        help="the video to write; of a source of one picture, the picture (.png, .jpg); or a "
        "folder (it is there, or ends with a slash) for one PNG per frame",
    )
    parser.add_argument(
        "--masks", type=masks_folder, metavar="DIR", help="a folder for one PNG per frame"
    )


def _check(args: argparse.Namespace) -> None:
    if args.output is None and args.masks is None:
        args.parser.error("wanted -o OUT or --masks DIR, found neither: nothing to write")
    _check_background(args)
    if args.output is not None and real(args.output.path) == real(args.source):
        args.parser.error(
            f"wanted another place than the source, found {args.output.path} for both; choose "
            "another -o"
        )


def _check_background(args: argparse.Namespace) -> None:
    text = args.background
    if text in ("blur", "none") or re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return
    if text.startswith("#"):
        args.parser.error(
            f"wanted --background #RRGGBB, found {text!r}; give six digits of 0-9 and a-f"
        )
    try:
        os.stat(text)
        found = "a folder" if os.path.isdir(text) else ""
    except OSError as error:
        found = str(error.strerror)
    if found:
        args.parser.error(
            f"wanted --background blur, none, #RRGGBB or a picture, found {text!r}: {found}; give "
            "a colour as #RRGGBB, a picture by its path"
        )


def run(args: argparse.Namespace) -> int:
    """Segment every frame, write what was asked for, say how it went."""
    _check(args)
    composite = _composite(args.background)
    cadence = arguments.cadence(args)
    out = Written()
    source: Source | None = None
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            source = stack.enter_context(_source(args))
            check_names(args, source)
            segmenter = stack.enter_context(_segmenter(args))
            segmenter.cadence = cadence
            if args.metrics:
                _show_counters(stack, args.metrics, segmenter)
            open_outputs(out, args, source, stack)
            began = time.monotonic()
            _frames(args, source, segmenter, composite, out)
            seconds = time.monotonic() - began
    except (KeyboardInterrupt, CameraError, BackendFailure, OutputError) as error:
        if source is None and isinstance(error, CameraError):
            raise
        if isinstance(error, OutputError) and not account.left(out):
            raise
        kept = account.kept(out) + account.missed(source)
        if not isinstance(error, KeyboardInterrupt):
            print(f"edge-seg: {kept}", file=sys.stderr)
            raise
        print(f"edge-seg: interrupted; {kept}", file=sys.stderr)
        account.warn_of_pace(args, source, out, time.monotonic() - began)
        return interrupted(error)
    if out.late and out.late == out.frames:
        account.warn_of_nothing(args, out)
        return UNFINISHED
    account.say_written(out, seconds)
    account.say_times(out, segmenter)
    account.warn_of_pace(args, source, out, seconds)
    account.warn_of_unread(source)
    return UNFINISHED if source.left_out else DONE


def _source(args: argparse.Namespace) -> Source:
    from edge_seg.camera import open_source

    return open_source(
        args.source, fps=args.fps, rotate=args.rotate, mirror=args.mirror, lores=_lores(args)
    )


def _segmenter(args: argparse.Namespace) -> EdgeSegmenter:
    from edge_seg.segmenter import EdgeSegmenter

    return EdgeSegmenter.open(
        args.bundle,
        board=args.board,
        threads=args.threads,
        smoother=arguments.smoother(args.smoothing),
        edges=args.edges == "on",
        policy=arguments.policy(args),
        cache=args.cache,
    )


def _lores(args: argparse.Namespace) -> tuple[int, int] | None:
    """Return the network's size where a camera can make a second stream of it."""
    if not args.source.startswith("picamera2"):
        return None
    from edge_seg.bundle import ModelBundle

    return ModelBundle.load(args.bundle).input.squeezed


def _show_counters(stack: ExitStack, endpoint: tuple[str | None, int], segmenter: Any) -> None:
    from edge_seg.exporter import LOCALHOST, Exporter

    host, port = endpoint
    exporter = stack.enter_context(Exporter(port, host=host or LOCALHOST))
    exporter.watch(segmenter)
    print(f"edge-seg: counters at {exporter.address}", file=sys.stderr)


def _frames(
    args: argparse.Namespace, source: Source, segmenter: Any, composite: Composite, out: Written
) -> None:
    """Segment and write every frame.

    A mask that came too late (--deadline) is left out, as is a frame that cannot be read; a file's
    video repeats the frame before, or the first that has a mask, so that it keeps its length.
    """
    video, left_out = _Paced(out.video), 0
    timed = source.moving or bool(args.smoothing)  # unrelated pictures stand alone
    with frames_bar(Path(source.describe).name, source.count) as advance:
        for shot in source:
            missing = source.left_out - left_out
            left_out += missing
            video.miss(missing * source.moving)
            name = shot.name if source.files is not None else f"{out.frames:06d}"
            out.began = out.began if out.frames else shot.timestamp
            out.until = shot.timestamp
            out.frames += 1
            for _ in range(missing + 1):
                advance()
            try:
                mask = segmenter.segment_shot(shot, source, dtype="uint8", timed=timed)
            except MaskLate:
                out.late += 1
                video.miss(not source.live)
                continue
            if out.masks is not None:
                out.masks.write(mask, name)
            if out.video is not None:
                video.show(composite(shot.frame, mask))
            if out.pictures is not None:
                out.pictures.write(composite(shot.frame, mask), name)
    video.miss((source.left_out - left_out) * source.moving)


class _Paced:
    """A video, or none, that keeps its length: a frame that is missing repeats the one before, or
    the first there is.
    """

    def __init__(self, video: VideoFile | None) -> None:
        self._video = video
        self._last: Any = None
        self._owed = 0

    def miss(self, frames: int) -> None:
        """So many frames have nothing to show."""
        self._owed += frames
        self._pay()

    def show(self, frame: Any) -> None:
        """Write a frame, and those that waited for one."""
        self._last = frame
        self._owed += 1
        self._pay()

    def _pay(self) -> None:
        while self._video is not None and self._last is not None and self._owed:
            self._video.write(self._last)
            self._owed -= 1


def _composite(background: str) -> Composite:
    from edge_seg import compositing
    from edge_seg.pictures import read_picture

    if background == "none":
        return lambda frame, mask: frame
    if background == "blur":
        return lambda frame, mask: compositing.blur(frame, compositing.firm(mask, own=True))
    cache: dict[tuple[int, int], Any] = {}  # one background per frame size: usually one
    if background.startswith("#"):
        red, green, blue = bytes.fromhex(background[1:])
        make = lambda size: compositing.plain(size, (blue, green, red))  # noqa: E731
    else:
        picture = read_picture(Path(background))
        make = lambda size: compositing.cover(picture, size)  # noqa: E731

    def replace(frame: Any, mask: Any) -> Any:
        size = frame.shape[:2]
        if size not in cache:
            cache.clear()
            cache[size] = make(size)
        return compositing.blend(frame, cache[size], compositing.firm(mask, own=True))

    return replace
