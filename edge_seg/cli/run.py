"""`edge-seg run [BUNDLE] --source S -o OUT`: frames in, a video, pictures or masks out."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_seg.cli import DONE, UNFINISHED, arguments, interrupted
from edge_seg.cli.progress import frames_bar
from edge_seg.errors import BackendFailure, CameraError, MaskLate, OutputError

if TYPE_CHECKING:
    from edge_seg.camera import Source
    from edge_seg.recording import MaskFolder, PictureFile, PictureFolder, VideoFile
    from edge_seg.segmenter import EdgeSegmenter

Composite = Callable[[Any, Any], Any]  # (frame, mask) -> frame
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


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "run",
        help="segment a camera, video, picture, folder or list; write a video, pictures or masks",
        description="Segment every frame of a source. -o OUT.webm writes a video with as many "
        "frames as were read, -o DIR/ one picture per frame, -o OUT.png the picture of one; "
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
        help="frames per second of the video written (default: the source's; 1 for a folder or "
        "list, 30 for a clip folder); of a camera, no more are asked for and taken",
    )


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=_output,
        metavar="OUT.webm|OUT.png|DIR/",
        help="the video to write; of a source of one picture, the picture (.png, .jpg); or a "
        "folder (it is there, or ends with a slash) for one PNG per frame",
    )
    parser.add_argument("--masks", type=Path, metavar="DIR", help="a folder for one PNG per frame")


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
            _check_names(args, source)
            segmenter = stack.enter_context(_segmenter(args))
            segmenter.cadence = cadence
            if args.metrics:
                _show_counters(stack, args.metrics, segmenter)
            _open(out, args, source.fps, stack)
            began = time.monotonic()
            _frames(args, source, segmenter, composite, out)
            seconds = time.monotonic() - began
    except (KeyboardInterrupt, CameraError, BackendFailure, OutputError) as error:
        if source is None and isinstance(error, CameraError):
            raise
        if isinstance(error, OutputError) and not _left(out):
            raise
        kept = _kept(out) + _missed(source)
        if not isinstance(error, KeyboardInterrupt):
            print(f"edge-seg: {kept}", file=sys.stderr)
            raise
        print(f"edge-seg: interrupted; {kept}", file=sys.stderr)
        _warn_of_pace(args, source, out, time.monotonic() - began)
        return interrupted(error)
    if out.late and out.late == out.frames:
        _warn_of_nothing(args, out)
        return UNFINISHED
    _report(out, seconds)
    _account(out, segmenter)
    _warn_of_pace(args, source, out, seconds)
    return DONE


def _open(out: Written, args: argparse.Namespace, fps: float | None, stack: ExitStack) -> None:
    """Open what is written. fps: the source's."""
    from edge_seg.recording import MaskFolder, PictureFile, PictureFolder, VideoFile

    if args.masks is not None:
        out.masks = MaskFolder(args.masks)
    if args.output is None:
        return
    path, kind = args.output
    if kind == VIDEO:
        out.video = stack.enter_context(VideoFile(path, fps=args.fps or fps or UNKNOWN_FPS))
    else:
        out.pictures = PictureFile(path) if kind == PICTURE else PictureFolder(path)


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

    A mask that came too late (--deadline) is left out; a file's video repeats the frame before, or
    the first that has a mask, so that it keeps its length.
    """
    owed, last = 0, None
    timed = source.moving or bool(args.smoothing)  # unrelated pictures stand alone
    with frames_bar(Path(source.describe).name, source.count) as advance:
        for shot in source:
            name = shot.name if source.files is not None else f"{out.frames:06d}"
            out.began = out.began if out.frames else shot.timestamp
            out.until = shot.timestamp
            out.frames += 1
            advance()
            try:
                mask = segmenter.segment_shot(shot, source, dtype="uint8", timed=timed)
            except MaskLate:
                out.late += 1
                owed += not source.live
                if out.video is not None and last is not None:
                    owed = _repeat(out.video, last, owed)
                continue
            if out.masks is not None:
                out.masks.write(mask, name)
            if out.video is not None:
                last = composite(shot.frame, mask)
                owed = _repeat(out.video, last, owed + 1)
            if out.pictures is not None:
                out.pictures.write(composite(shot.frame, mask), name)


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


def _output(text: str) -> Output:
    path = Path(text)
    if text.endswith("/") or path.is_dir():
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


def _check(args: argparse.Namespace) -> None:
    if args.output is None and args.masks is None:
        args.parser.error("wanted -o OUT or --masks DIR, found neither: nothing to write")
    if args.background.startswith("#") and not re.fullmatch(r"#[0-9a-fA-F]{6}", args.background):
        args.parser.error(f"wanted --background #RRGGBB, found {args.background!r}")
    if args.output is not None and args.output.path.resolve() == Path(args.source).resolve():
        args.parser.error(
            f"wanted another place than the source, found {args.output.path} for both; choose "
            "another -o"
        )


def _check_names(args: argparse.Namespace, source: Source) -> None:
    """Refuse what would replace other output, a picture that is read, or a clip's labels."""
    read = {path.resolve() for path in (*(source.files or ()), *source.labels)}
    read.add(Path(args.background).resolve())
    if args.masks is not None:
        _check_folder(args, source, args.masks, "--masks", read)
    if args.output is None or args.output.kind == VIDEO:
        return
    path, kind = args.output
    if kind == FOLDER:
        _check_folder(args, source, path, "-o", read)
        if args.masks is not None and args.masks.resolve() == path.resolve():
            args.parser.error(f"wanted two folders for pictures and masks, found {path} for both")
        return
    if source.files is None or len(source.files) != 1:
        args.parser.error(
            f"wanted a source of one picture for -o {path}, found {source.describe}; name a folder "
            f"for one picture per frame: -o {path.with_suffix('')}/"
        )
    if path.resolve() in read:
        args.parser.error(f"wanted another file than those that are read, found {path}")


def _check_folder(
    args: argparse.Namespace, source: Source, folder: Path, option: str, read: set[Path]
) -> None:
    """Refuse a folder in which one PNG per frame would replace another or what is read."""
    labels = (Path(args.source) / "masks").resolve()
    if folder.resolve() == labels and labels.is_dir():
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
        if (folder / f"{name}.png").resolve() in read:
            args.parser.error(
                f"wanted another folder than the pictures' or labels' own, found that what is made "
                f"of {name} would replace one in {folder}; choose another {option}"
            )


# --- what is said at the end --------------------------------------------------------------------


def _left(out: Written) -> list[str]:
    """Return what a run that ends early leaves, in words."""
    said = []
    if out.video is not None and out.video.frames:
        said.append(f"{out.video.path} holds the {out.video.frames} frames made so far")
    if out.pictures is not None and out.pictures.written:
        said.append(_pictures(out.pictures, " made so far"))
    if out.masks is not None and out.masks.written:
        said.append(f"{out.masks.folder} holds the {out.masks.written} masks made so far")
    return said


def _kept(out: Written) -> str:
    late = f"; {out.late} masks came later than --deadline" if out.late else ""
    return (", ".join(_left(out)) or _nothing(out)) + late


def _nothing(out: Written) -> str:
    place = getattr(out.video or out.pictures, "path", None)
    older = f" (the older {place} is as it was)" if place is not None and place.exists() else ""
    return f"nothing was written{older}"


def _pictures(written: PictureFolder | PictureFile, so_far: str = "") -> str:
    from edge_seg.recording import PictureFolder

    if isinstance(written, PictureFolder):
        return f"{written.folder} holds the {written.written} pictures{so_far}"
    return f"{written.path} is made"


def _missed(source: Source | None) -> str:
    """Say what a camera's reader counted: frames that came and were not used, and new starts."""
    if source is None or source.counters is None:
        return ""
    counters = source.counters
    said = ""
    if counters.dropped or counters.stale:
        said += f"; {counters.dropped} frames gave way to newer ones, {counters.stale} came too old"
    if counters.reconnects:
        said += f"; opened again {counters.reconnects} time{'s' * (counters.reconnects > 1)}"
    return said


def _report(out: Written, seconds: float) -> None:
    if out.video is not None and out.video.size is not None:
        (width, height), video = out.video.size, out.video
        print(f"{video.path}: {video.frames} frames, {width}x{height}, {video.fps:g} fps")
    if out.pictures is not None:
        print(_pictures(out.pictures))
    if out.masks is not None:
        print(f"{out.masks.folder}: {out.masks.written} masks")
    done = out.frames - out.late
    print(f"{done / max(seconds, 1e-9):.1f} frames/s with reading and writing")


def _warn_of_nothing(args: argparse.Namespace, out: Written) -> None:
    """Say why a run that came to its end has written nothing."""
    print(
        f"edge-seg: {_nothing(out)}: every mask came after --deadline {1e3 * args.deadline:g} ms, "
        f"of {out.frames} frames; give it more time",
        file=sys.stderr,
    )


def _account(out: Written, segmenter: EdgeSegmenter) -> None:
    """Say what the masks took, on what, and what was left out."""
    latency = segmenter.latency
    if latency.count:
        milliseconds = 1e3 * latency.total / latency.count
        of = f"mean of {latency.count}{', late ones included' if out.late else ''}"
        print(f"{milliseconds:.1f} ms from a frame to its mask ({of}), on {segmenter.runtime}")
    if out.late:
        said = f"{out.late} masks were left out, which came later than --deadline"
        if 2 * out.late > out.frames:
            said += (
                f": more than half of the {out.frames}; what was written shows few of the frames: "
                "give --deadline more time"
            )
        print(f"edge-seg: {said}", file=sys.stderr)
    from edge_seg.cadence import Budget

    cadence = segmenter.cadence
    if cadence is not None and cadence.seen:
        said = f"the network on {cadence.seen} of {cadence.seen + cadence.left_out} frames"
        if isinstance(cadence, Budget):
            kept = "kept" if cadence.kept else "NOT kept"
            said += (
                f"; budget of {1e3 * cadence.seconds:g} ms {kept}: {1e3 * cadence.mean:.1f} ms, "
                f"the mean of the last {cadence.mean_of} frames measured"
            )
        print(said)
    elif cadence is not None:
        print(
            "edge-seg: --every and --budget change nothing for unrelated pictures: the network ran "
            "on all of them",
            file=sys.stderr,
        )


def _warn_of_pace(
    args: argparse.Namespace, source: Source | None, out: Written, seconds: float
) -> None:
    """A video has one rate for all frames; say so where it is not the one they came at."""
    from edge_seg.recording import MAX_FPS, MIN_FPS

    video = out.video
    if source is None or video is None or not video.frames or not source.moving:
        return
    pace = video.frames / seconds if source.live else _pace(out, source.fps or video.fps)
    if abs(pace - video.fps) <= (0.1 if source.live else 0.02) * video.fps:
        return
    mend = f"; record with --fps {min(max(pace, MIN_FPS), MAX_FPS):.1f}"
    if args.fps is not None and not source.live:
        mend = "; leave --fps out"
    print(
        f"edge-seg: the {'camera' if source.live else 'source'} gave {pace:.1f} frames/s and the "
        f"video says {video.fps:g}: it plays at {video.fps / pace:.1f} times the speed{mend}",
        file=sys.stderr,
    )


def _pace(out: Written, stated: float) -> float:
    """Return the frames per second of a file, by its frames' times where they differ from `stated`.

    A container rounds its times to a millisecond, which in a short video is more than a rate's
    hundredths.
    """
    span, expected = out.until - out.began, (out.frames - 1) / stated
    if span <= 0 or abs(span - expected) <= 0.002:
        return stated
    return (out.frames - 1) / span
