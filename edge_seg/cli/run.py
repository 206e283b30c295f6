"""`edge-seg run [BUNDLE] --source S -o OUT.webm`: frames in, a video or masks out."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_seg.cli import arguments, interrupted
from edge_seg.cli.progress import frames_bar
from edge_seg.errors import BackendFailure, CameraLost, MaskLate

if TYPE_CHECKING:
    from edge_seg.camera import Source
    from edge_seg.recording import VideoFile
    from edge_seg.segmenter import EdgeSegmenter

Composite = Callable[[Any, Any], Any]  # (frame, mask) -> frame
UNKNOWN_FPS = 30.0  # of a camera that states no rate


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="segment a camera, video, folder or list; write a video, or masks, or both",
        description="Segment every frame of a source. -o writes a WebM with as many frames as were "
        "read; --masks writes one 8-bit PNG per frame. Ctrl-C finishes the file.",
    )
    arguments.add_bundle(parser)
    parser.add_argument(
        "--source",
        required=True,
        metavar="S",
        help="camera index (0), /dev/videoN, picamera2, csi://0, rtsp://..., http://..., "
        "gst:ELEMENTS, fake:, a video, a folder of pictures, a clip folder with frames/, or a "
        "list file",
    )
    arguments.add_board(parser)
    arguments.add_threads(parser)
    arguments.add_cache(parser)
    arguments.add_policy(parser)
    parser.add_argument(
        "--background",
        default="blur",
        metavar="blur|none|#RRGGBB|FILE",
        help="what stands behind the person in the video: the blurred background (default), the "
        "background as it is, a colour, or a picture",
    )
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
        help="frames per second of the video written (default: the source's; 1 for a folder or "
        "list, 30 for a clip folder); of a camera, no more are asked for and taken",
    )
    arguments.add_edges(parser)
    arguments.add_cadence(parser)
    arguments.add_smoothing(
        parser,
        "800 for videos and cameras, off for unrelated pictures, whose times come from --fps",
    )
    parser.add_argument("-o", "--output", type=_webm, metavar="OUT.webm", help="the video to write")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="a folder for one PNG per frame")
    parser.add_argument(
        "--metrics",
        type=arguments.endpoint,
        metavar="[HOST:]PORT",
        help="show counters and latencies to Prometheus at this port, to this machine alone unless "
        "a HOST to listen at is given",
    )
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Segment every frame, write what was asked for, say how it went."""
    _check(args)
    from edge_seg.recording import MaskFolder, VideoFile

    composite = _composite(args.background)
    cadence = arguments.cadence(args)
    video: VideoFile | None = None
    source: Source | None = None
    began = time.monotonic()
    try:
        with ExitStack() as stack:
            source = stack.enter_context(_source(args))
            _check_masks(args, source)
            segmenter = stack.enter_context(_segmenter(args))
            segmenter.cadence = cadence
            if args.metrics:
                _show_counters(stack, args.metrics, segmenter)
            masks = MaskFolder(args.masks) if args.masks else None
            if args.output:
                rate = args.fps or source.fps or UNKNOWN_FPS
                video = stack.enter_context(VideoFile(args.output, fps=rate))
            began = time.monotonic()
            done = _frames(args, source, segmenter, composite, video, masks)
            seconds = time.monotonic() - began
    except (KeyboardInterrupt, CameraLost, BackendFailure) as error:
        kept = _kept(args, video) + _missed(source)
        if not isinstance(error, KeyboardInterrupt):
            print(f"edge-seg: {kept}", file=sys.stderr)
            raise
        print(f"edge-seg: interrupted; {kept}", file=sys.stderr)
        _warn_of_pace(source, video, time.monotonic() - began)
        return interrupted(error)
    _report(args, video, done - segmenter.counters.lost, seconds)
    _account(args, source, segmenter)
    _warn_of_pace(source, video, seconds)
    return 0


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
    args: argparse.Namespace,
    source: Source,
    segmenter: Any,
    composite: Composite,
    video: VideoFile | None,
    masks: Any,
) -> int:
    """Segment and write every frame; returns how many there were.

    A mask that came too late (--deadline) is left out; a file's video repeats the frame before, or
    the first that has a mask, so that it keeps its length.
    """
    done, owed, last = 0, 0, None
    timed = source.moving or args.smoothing is not None  # unrelated pictures stand alone
    with frames_bar(Path(source.describe).name, source.count) as advance:
        for done, shot in enumerate(source, 1):
            advance()
            try:
                mask = segmenter.segment_shot(shot, source, dtype="uint8", timed=timed)
            except MaskLate:  # counted by the segmenter; said at the end
                owed += not source.live
                if video is not None and last is not None:
                    owed = _repeat(video, last, owed)
                continue
            if masks is not None:
                masks.write(mask, shot.name if source.files is not None else f"{done - 1:06d}")
            if video is not None:
                last = composite(shot.frame, mask)
                owed = _repeat(video, last, owed + 1)
    return done


def _repeat(video: VideoFile, frame: Any, times: int) -> int:
    """Write a frame so many times; returns how many are owed then: none."""
    for _ in range(times):
        video.write(frame)
    return 0


def _composite(background: str) -> Composite:
    from edge_seg import compositing
    from edge_seg.pictures import read_picture

    if background == "none":
        return lambda frame, mask: frame
    if background == "blur":
        return lambda frame, mask: compositing.blur(frame, compositing.firm(mask))
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
        return compositing.blend(frame, cache[size], compositing.firm(mask))

    return replace


# --- what is refused before anything is loaded --------------------------------------------------


def _webm(text: str) -> Path:
    if not text.lower().endswith(".webm"):
        raise argparse.ArgumentTypeError(
            f"wanted a name ending in .webm (the video is WebM), found {text!r}"
        )
    return Path(text)


def _check(args: argparse.Namespace) -> None:
    if args.output is None and args.masks is None:
        args.parser.error("wanted -o OUT.webm or --masks DIR, found neither: nothing to write")
    if args.background.startswith("#") and not re.fullmatch(r"#[0-9a-fA-F]{6}", args.background):
        args.parser.error(f"wanted --background #RRGGBB, found {args.background!r}")
    if args.output is not None and args.output.resolve() == Path(args.source).resolve():
        args.parser.error(f"wanted another file than the source, found {args.output} for both")


def _check_masks(args: argparse.Namespace, source: Source) -> None:
    """Refuse masks that would replace each other, a picture that is read, or a clip's labels."""
    if args.masks is None:
        return
    labels = (Path(args.source) / "masks").resolve()
    if args.masks.resolve() == labels and labels.is_dir():
        args.parser.error(f"wanted another folder than the clip's labels, found {args.masks}")
    seen: set[str] = set()
    kept = {path.resolve() for path in (*(source.files or ()), *source.labels)}
    for path in source.files or ():
        if path.stem in seen:
            args.parser.error(
                f"wanted pictures of different names for --masks, found {path.stem!r} twice in "
                f"{source.describe}; rename one, or run them apart"
            )
        seen.add(path.stem)
        if (args.masks / f"{path.stem}.png").resolve() in kept:
            args.parser.error(
                f"wanted another folder than the pictures' or labels' own, found that the mask of "
                f"{path.name} would replace one in {args.masks}; choose another --masks"
            )


# --- what is said at the end --------------------------------------------------------------------


def _kept(args: argparse.Namespace, video: VideoFile | None) -> str:
    if video is not None and video.frames:
        return f"{video.path} holds the {video.frames} frames made so far"
    if args.masks is not None:
        return f"the masks made so far are in {args.masks}"
    return "nothing was written"


def _missed(source: Source | None) -> str:
    """Say what a camera's reader counted: frames that came and were not used, and new starts."""
    counters = getattr(source, "counters", None)
    if counters is None:
        return ""
    said = ""
    if counters.dropped or counters.stale:
        said += f"; {counters.dropped} frames gave way to newer ones, {counters.stale} came too old"
    if counters.reconnects:
        said += f"; opened again {counters.reconnects} time{'s' * (counters.reconnects > 1)}"
    return said


def _report(args: argparse.Namespace, video: VideoFile | None, done: int, seconds: float) -> None:
    if video is not None and video.size is not None:
        width, height = video.size
        print(f"{video.path}: {video.frames} frames, {width}x{height}, {video.fps:g} fps")
    if args.masks is not None:
        print(f"{args.masks}: {done} masks")
    print(f"{done / max(seconds, 1e-9):.1f} frames/s with reading and writing")


def _account(args: argparse.Namespace, source: Source, segmenter: EdgeSegmenter) -> None:
    """Say what the masks took, on what, and what was left out."""
    latency, lost = segmenter.latency, segmenter.counters.lost
    if latency.count:
        milliseconds = 1e3 * latency.total / latency.count
        print(f"{milliseconds:.1f} ms from a frame to its mask (mean), on {segmenter.runtime}")
    if lost:
        print(
            f"edge-seg: {lost} masks were left out, which came later than --deadline",
            file=sys.stderr,
        )
    from edge_seg.cadence import Budget

    cadence = segmenter.cadence
    if cadence is not None and cadence.seen:
        said = f"the network on {cadence.seen} of {cadence.seen + cadence.left_out} frames"
        if isinstance(cadence, Budget):
            kept = "kept" if cadence.kept else "NOT kept"
            said += f"; budget of {1e3 * cadence.seconds:g} ms {kept}: {1e3 * cadence.mean:.1f} ms"
        print(said)
    elif cadence is not None:
        print(
            "edge-seg: --every and --budget change nothing for unrelated pictures: the network ran "
            "on all of them",
            file=sys.stderr,
        )


def _warn_of_pace(source: Source | None, video: VideoFile | None, seconds: float) -> None:
    """A video has one rate for all frames; say so where it is not the one they came at."""
    if source is None or video is None or not video.frames or not source.moving:
        return
    pace, least = (video.frames / seconds, 0.1) if source.live else (source.fps or video.fps, 0.01)
    if abs(pace - video.fps) <= least * video.fps:
        return
    mend = f"; record with --fps {pace:.1f}" if source.live else "; leave --fps out"
    print(
        f"edge-seg: the {'camera' if source.live else 'source'} gave {pace:.1f} frames/s and the "
        f"video says {video.fps:g}: it plays at {video.fps / pace:.1f} times the speed{mend}",
        file=sys.stderr,
    )
