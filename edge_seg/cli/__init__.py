"""`edge-seg VERB`: one file per verb, errors turned into sentences and exit codes here.

Each verb's module has `add_parser(subparsers)`, which sets `run=` to a function
`run(args) -> int`. A module imports what it needs inside `run`, so that `edge-seg --help` is quick
and the runtime's verbs work without the workshop's packages.

Exit codes: 0 done · 1 started and could not finish · 2 the input is wrong · 3 a quality gate
refused · 4 nothing on this machine can run it · 130 Ctrl-C · 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import FrameType

from edge_seg._version import __version__
from edge_seg.cli import streams
from edge_seg.errors import (
    BackendFailure,
    BackendUnavailable,
    BundleError,
    CameraError,
    CameraLost,
    ConversionError,
    DatasetError,
    EdgeSegError,
    FrameError,
    OutputError,
    QualityRefused,
    SettingError,
    UnknownBoard,
)

DONE, UNFINISHED, WRONG_INPUT, REFUSED, CANNOT_RUN = 0, 1, 2, 3, 4
INTERRUPTED, TERMINATED = 130, 143
OPENCV_NO_MEMORY = -4  # cv2.Error.StsNoMem, the code of a cv2.error

# In the order of --help. cli/<verb>.py, literally.
VERBS = (
    "convert",
    "run",
    "bench",
    "eval",
    "teach",
    "train",
    "export",
    "boards",
    "doctor",
    "prepare",
    "inspect",
    "verify",
)

# The workshop's verbs, and what judges by labels: the extra with what they import.
EXTRAS = {
    "convert": "convert",
    "bench": "convert",
    "eval": "convert",
    "teach": "train",
    "train": "train",
    "export": "train",
}

# First match wins: a class stands before the one it derives from.
EXIT_CODES: tuple[tuple[type[EdgeSegError], int], ...] = (
    (QualityRefused, REFUSED),
    (CameraLost, UNFINISHED),
    (BackendUnavailable, CANNOT_RUN),
    (BackendFailure, UNFINISHED),
    (OutputError, UNFINISHED),
    (BundleError, WRONG_INPUT),
    (FrameError, WRONG_INPUT),
    (SettingError, WRONG_INPUT),
    (DatasetError, WRONG_INPUT),
    (UnknownBoard, WRONG_INPUT),
    (CameraError, WRONG_INPUT),
    (ConversionError, WRONG_INPUT),
)


class _Verb(argparse.ArgumentParser):
    """A verb's parser: what it does not know it refuses itself, beside its own usage."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, and leave nothing over."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(
                f"wanted the arguments above, found others: {' '.join(unknown)}; "
                f"{self.prog} --help explains them"
            )
        return known, unknown


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every verb."""
    parser = argparse.ArgumentParser(
        prog="edge-seg",
        description="Person segmentation on small computers: convert, measure, run.",
        epilog="Exit codes: 0 done, 1 could not finish, 2 wrong input, 3 quality refused, "
        "4 nothing here can run it, 130 interrupted, 143 terminated.",
    )
    parser.add_argument("--version", action="version", version=f"edge-seg {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and debug log lines")
    subparsers = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=_Verb
    )
    for verb in VERBS:
        import_module(f"edge_seg.cli.{verb}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code. Never a traceback for a mistake of the user's."""
    streams.settle()
    try:
        args = build_parser().parse_args(argv)
    except KeyboardInterrupt as interrupt:  # a slow disk: the verbs' files take a second to load
        return _say("interrupted; nothing was begun", interrupted(interrupt))
    _settle_opencv(quiet=not args.debug)
    logging.basicConfig(
        level=logging.WARNING, format="edge-seg: %(message)s", handlers=[streams.ToStderr()]
    )
    # Ours only: the libraries' debug lines would bury them.
    logging.getLogger("edge_seg").setLevel(logging.DEBUG if args.debug else logging.WARNING)
    try:
        _check_directory()
        with _sigterm_unwinds():
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except EdgeSegError as error:
        if args.debug:
            raise
        return _say(str(error), exit_code(error))
    except KeyboardInterrupt as interrupt:
        said = str(interrupt) or "interrupted; nothing half-written is left"
        return _say(said, interrupted(interrupt))
    except ImportError as error:
        if args.debug:
            raise
        return _say(
            f"wanted a package that is not installed: {error}; {_remedy(args.verb)}", CANNOT_RUN
        )
    except OSError as error:
        if args.debug:
            raise
        return _say(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), UNFINISHED)
    except Exception as error:  # a defect of ours: a sentence all the same
        if args.debug:
            raise
        if isinstance(error, MemoryError) or getattr(error, "code", None) == OPENCV_NO_MEMORY:
            return _say("wanted memory, found too little here; give it less at once", UNFINISHED)
        return _say(
            f"wanted to {args.verb}, found a defect of edge-seg: {type(error).__name__}: "
            f"{error!s:.300}; please report it with what `edge-seg --debug ...` shows",
            UNFINISHED,
        )


def _check_directory() -> None:
    """Raise SettingError in a directory that was removed: no relative name leads anywhere there,
    and libraries end the process in words of their own (oneMKL, which torch loads).
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise SettingError(
            "wanted a folder to work in, found that the current directory no longer exists; cd to "
            "another, or to the same path again where it was made anew"
        ) from None


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a service manager sends it, or SIGHUP, as a terminal that is closed: everything
    ends as after Ctrl-C.
    """


def interrupted(error: KeyboardInterrupt) -> int:
    """Return the exit code of Ctrl-C, 130, or of SIGTERM and SIGHUP, 143."""
    return TERMINATED if isinstance(error, Terminated) else INTERRUPTED


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM and SIGHUP close cameras and finish files, which by themselves they do not.

    A signal that is ignored stays so: nohup ignores SIGHUP.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    old = [signal.signal(number, stop) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, old, strict=True):
            signal.signal(number, handler)


def _settle_opencv(*, quiet: bool) -> None:
    """Set what OpenCV reads from the environment when it is first imported."""
    # The size a picture's header may announce; 64 megapixels, as formats.MAX_PIXELS.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))
    if quiet:
        # Its lines about codecs and devices are for developers; our errors say what they mean.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def exit_code(error: EdgeSegError) -> int:
    """Return the exit code of an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), UNFINISHED)


def _remedy(verb: str) -> str:
    """What installs a package that a verb misses."""
    extra = EXTRAS.get(verb)
    if extra is None:
        # Not by its name: an index may have another project under it.
        return (
            "it comes with edge-seg itself: install that anew, from its checkout or wheel: "
            f"{pip()} install --force-reinstall ."
        )
    return f'edge-seg {verb} needs: {pip()} install "edge-seg[{extra}]"'


def pip() -> str:
    """Return how the pip of this environment is called: by its path where a shell finds another."""
    own = os.path.join(sys.prefix, "bin", "pip")
    found = shutil.which("pip")
    return own if os.path.exists(own) and (found is None or found != own) else "pip"


def _say(message: str, code: int) -> int:
    print(f"edge-seg: {message}", file=sys.stderr)
    return code
