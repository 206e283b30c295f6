"""Writing what was made: a WebM video that browsers play, pictures, and one PNG per mask.

    with VideoFile(path, fps=30) as video:      the file appears under its name when the block ends
        video.write(frame)                      uint8 (H, W, 3) BGR; the first sets the size
    PictureFolder(folder).write(frame, name)    folder/name.png, whole
    PictureFile(path).write(frame)              one PNG or JPEG, whole
    MaskFolder(folder).write(mask, name)        folder/name.png, grey, whole

OpenCV's writer reports nothing, not even a full disk. So the free space is watched while writing,
and what lies on the disk is counted before it gets its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from edge_seg.arrays import Picture
from edge_seg.errors import BackendFailure, CameraError, FrameError, OutputError
from edge_seg.files import is_utf8, writing
from edge_seg.formats import check_picture
from edge_seg.ranges import within
from edge_seg.webm import stretch

SUFFIX = ".webm"
PICTURE_ENDS = (".png", ".jpg", ".jpeg")  # of one picture that is written
# VP8: every browser plays it, and the pip wheels of OpenCV can encode it. VP9 is seven times
# slower there, H.264 has no encoder in them.
FOURCC = "VP80"
MIN_FPS, MAX_FPS = 0.1, 240.0  # slower ones OpenCV's writer leaves empty without a word
MIN_SIDE, MAX_SIDE = 16, 16382  # px: one macroblock; VP8's 14-bit size (RFC 6386, 9.1), even
SPARE_BYTES = 4 << 20  # left free on the disk: the encoder's next second, and the file's index
LOOK_EVERY = 30  # frames between two looks at the free space
LEAST_STEPS = 3  # between frames; fewer tell no rate
PAUSE = 3.0  # seconds; longer is no step from a frame to the next
NEAR = 0.02  # of the stated rate: a pace this near to it is that rate
SHOWN = 40  # characters of a video's name in that of its unfinished file
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_process_wide = threading.RLock()  # around what belongs to the process: stderr, the umask


class VideoFile:
    """A WebM video being written beside its name.

    Leaving the `with` block finishes it and gives it its name: also on Ctrl-C, SIGTERM and SIGHUP
    (where they raise KeyboardInterrupt, as the command line's do), where a camera or the last
    runtime is lost, where a frame cannot be read, and where a disk is full: what they cut short
    may not be had again. Any other error removes it, and what lay under the name before stays. So
    does a video that is neither finished nor discarded, once it is dropped or the program ends.

    frames: number written so far, then number in the finished file; 0 where there is none.
    fps: frames per second; with a clock, once it is finished, the rate that it plays at.
    """

    def __init__(self, path: Path, *, fps: float, clock: Callable[[], float] | None = None) -> None:
        """Open the place. fps: frames per second, 0.1 to 240. Raises OutputError.

        clock: seconds, any origin, for frames that are written as they come: a camera may state 30
        and be segmented at 10. The finished video plays at the mean rate they were written at,
        pauses of more than 3 s (a camera that was lost) left out.
        """
        if not within(fps, MIN_FPS, MAX_FPS):
            raise OutputError(
                f"{path}: wanted a video of {MIN_FPS:g} to {MAX_FPS:g} frames per second, found "
                f"{fps!r:.40}; choose another rate (--fps)"
            )
        self.path = Path(path)
        self.fps = float(fps)
        self.frames = 0
        self.size: tuple[int, int] | None = None  # (width, height)
        self._clock, self._last = clock, 0.0
        self._steps, self._span = 0, 0.0  # between frames: how many, and how long together
        self._writer: cv2.VideoWriter | None = None
        self._over = False
        self._target, self._part = self._reserve()
        self._remove = weakref.finalize(self, _remove, self._part, os.getpid())

    def _reserve(self) -> tuple[Path, Path]:
        """Return where the file will lie, and what is written until then, beside it."""
        if self.path.suffix.lower() != SUFFIX:
            raise OutputError(
                f"{self.path}: wanted a name ending in {SUFFIX} (the video is WebM), "
                f"found {self.path.suffix or 'no suffix'!r}; rename it"
            )
        target = _target(self.path, "video")
        if not is_utf8(target):  # OpenCV would take the process down
            raise OutputError(
                f"{self.path}: wanted a video's name in UTF-8, found another encoding; choose "
                "another -o"
            )
        with writing(self.path, "to write a video there", "choose another -o"):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(
                prefix=f".{target.stem[:SHOWN]}.", suffix=f".part{SUFFIX}", dir=target.parent
            )
            os.close(handle)
        return target, Path(part)

    def write(self, frame: Picture) -> None:
        """Append a frame, uint8 (H, W, 3) BGR; of another size than the first it gets bars.

        Raises OutputError where the disk is nearly full, no encoder is here or the video is
        finished, FrameError for what is no frame.
        """
        if self._over:
            raise OutputError(
                f"{self.path}: wanted a video that is still being written, found it finished; "
                "open another VideoFile"
            )
        check_picture(frame)
        if self._writer is None or self.size is None:
            # VP8 stores colour for every second pixel: an odd side is filled up to an even one.
            self.size = (frame.shape[1] + frame.shape[1] % 2, frame.shape[0] + frame.shape[0] % 2)
            self._writer = self._open(self.size)
        if self.frames % LOOK_EVERY == 0:
            self._check_space()
        self._writer.write(letterbox(frame, self.size))
        self.frames += 1
        if self._clock is not None:
            before, self._last = self._last, self._clock()
            if self.frames > 1 and 0 <= self._last - before <= PAUSE:
                self._steps, self._span = self._steps + 1, self._span + self._last - before

    def _open(self, size: tuple[int, int]) -> cv2.VideoWriter:
        if not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
            raise OutputError(
                f"{self.path}: wanted frames of {MIN_SIDE} to {MAX_SIDE} px a side for a video, "
                f"found {size[0]}x{size[1]}; write masks only (--masks)"
            )
        fourcc = cv2.VideoWriter.fourcc(*FOURCC)
        with _quiet():
            writer = cv2.VideoWriter(str(self._part), cv2.CAP_FFMPEG, fourcc, self.fps, size)
        if not writer.isOpened():
            raise OutputError(
                f"{self.path}: wanted to encode {size[0]}x{size[1]} at {self.fps:g} fps as VP8, "
                "found that this OpenCV cannot; pip install opencv-python-headless, "
                "or write masks only (--masks)"
            )
        return writer

    def _check_space(self) -> None:
        free = shutil.disk_usage(self._part.parent).free
        if free < SPARE_BYTES:
            raise OutputError(
                f"{self.path}: wanted room for the video, found the disk full after "
                f"{self.frames} frames; free space or choose another -o"
            )

    def finish(self, *, interrupted: bool = False) -> None:
        """Close the file, count its frames, and give it its name; may be called twice.

        Ctrl-C, SIGTERM and SIGHUP wait until it is done. interrupted: any number of whole frames is
        right (they fall between a write and its count). Raises OutputError, leaving nothing, where
        frames are missing on the disk.
        """
        with _signals_later():
            if not self._over:
                self._finish(interrupted)

    def _finish(self, interrupted: bool) -> None:
        written, self.frames = self.frames, 0
        try:
            with writing(self.path, "to finish the video", "free space or choose another -o"):
                if self._writer is not None:
                    self._writer.release()
                    self._writer = None
                found = frames_in(self._part)
                if found != written and not interrupted:
                    raise OutputError(
                        f"{self.path}: wanted {written} frames on the disk, found {found} "
                        "(a full disk, a quota or a size limit); free space or choose another -o"
                    )
                if found:
                    self._keep_pace()
                    os.chmod(self._part, 0o666 & ~_umask())  # mkstemp makes files private
                    os.replace(self._part, self._target)
                    self.frames = found
        finally:
            self.discard()

    @property
    def pace(self) -> float | None:
        """Frames per second that were written by the clock; None without one, or of too few."""
        if self._steps < LEAST_STEPS or not self._span:
            return None
        return self._steps / self._span

    def _keep_pace(self) -> None:
        """Have a video of frames that were written as they came play at their rate."""
        if self.pace is None or abs(self.pace - self.fps) <= NEAR * self.fps:
            return
        pace = min(max(self.pace, MIN_FPS), MAX_FPS)
        if stretch(self._part, self.fps / pace):
            self.fps = round(pace, 2)

    def discard(self) -> None:
        """Remove what is not finished; may be called twice."""
        self._over = True
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._remove()

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
        elif isinstance(error, (KeyboardInterrupt, CameraError, BackendFailure, OutputError)):
            self.finish(interrupted=True)
        else:
            self.discard()


def frames_in(path: Path) -> int:
    """Return the number of frames a video file really holds; 0 where it cannot be read.

    Counted, not believed from its header, and without decoding them (FFmpeg's raw packets).
    """
    if not path.is_file() or path.stat().st_size == 0:
        return 0
    with _quiet():
        # Absolute: FFmpeg takes what is before a colon for a protocol.
        capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
        count = 0
        while capture.isOpened() and capture.grab():
            count += 1
        capture.release()
    return count


def letterbox(frame: Picture, size: tuple[int, int]) -> Picture:
    """Fit a frame into (width, height) with its proportions, black bars round it.

    A frame that lacks one row or column gets it by repeating its last, unscaled.
    """
    width, height = size
    if frame.shape[:2] == (height, width):
        return frame
    lacks_h, lacks_w = height - frame.shape[0], width - frame.shape[1]
    if 0 <= lacks_h <= 1 and 0 <= lacks_w <= 1:
        return cv2.copyMakeBorder(frame, 0, lacks_h, 0, lacks_w, cv2.BORDER_REPLICATE)
    scale = min(width / frame.shape[1], height / frame.shape[0])
    wide = min(width, max(1, round(frame.shape[1] * scale)))
    high = min(height, max(1, round(frame.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    inner = cv2.resize(frame, (wide, high), interpolation=method)
    canvas[top : top + high, left : left + wide] = inner
    return canvas


class PictureFolder:
    """A folder of pictures: one PNG per frame, named after the frame. written: how many so far."""

    what, option = "picture", "-o"

    def __init__(self, folder: Path) -> None:
        """Make the folder. Raises OutputError."""
        self.folder = Path(folder)
        self.written = 0
        with writing(self.folder, f"a folder for {self.what}s", f"choose another {self.option}"):
            self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, picture: Picture, name: str) -> Path:
        """Write a picture, uint8 (H, W) or (H, W, 3) BGR, as `name`.png; all of it or nothing.

        Not forced onto the disk, which would cost more than a frame has: a power cut may take the
        last ones. Raises OutputError with the system's reason (a full disk) or for a name with a
        folder in it, FrameError for a float or bool one, which a PNG would hold as black.
        """
        if not str(name) or "/" in str(name):
            raise OutputError(
                f"{self.folder}: wanted a {self.what}'s name without a folder in it, found "
                f"{name!r:.60}; make a {type(self).__name__} for each folder"
            )
        path = self.folder / f"{name}.png"
        _write_picture(path, picture, what=self.what, option=self.option)
        self.written += 1
        return path


class MaskFolder(PictureFolder):
    """A folder of masks: one 8-bit grey PNG per frame, 0 to 255, named after the frame."""

    what, option = "mask", "--masks"


class PictureFile:
    """One picture under a name that ends in .png or .jpg. written: 1 once it is there."""

    def __init__(self, path: Path) -> None:
        """Make its folder. Raises OutputError."""
        self.path = Path(path)
        self.written = 0
        if self.path.suffix.lower() not in PICTURE_ENDS:
            raise OutputError(
                f"{self.path}: wanted a name ending in {', '.join(PICTURE_ENDS)}, found "
                f"{self.path.suffix or 'no suffix'!r}; rename it"
            )
        self._target = _target(self.path, "picture")
        with writing(self.path, "to write a picture there", "choose another -o"):
            self._target.parent.mkdir(parents=True, exist_ok=True)

    def write(self, picture: Picture, name: str = "") -> Path:
        """Write a picture, uint8 (H, W, 3) BGR; all of it or nothing. name: not used.

        Raises OutputError with the system's reason (a full disk), FrameError for what is none.
        """
        _write_picture(self._target, picture, what="picture", option="-o")
        self.written = 1
        return self.path


def _target(path: Path, what: str) -> Path:
    """Return where a file of that name is to lie: a link is followed, not replaced.

    Raises OutputError for what is there and no file, and for a name that cannot be one.
    """
    target = Path(os.path.realpath(path))
    # Too long, links in a circle, a file where a folder should be.
    with writing(path, f"to write a {what} there", "choose another -o"):
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            return target
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path}: wanted a file name, found a folder; add a name")
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"{path}: wanted a file for a {what}, found a pipe or a device; choose another -o"
        )
    return target


def _check_pixels(pixels: object, what: str) -> None:
    """Raise FrameError for what OpenCV would change in silence: not uint8 (H, W[, 3 or 4])."""
    wanted = f"wanted a {what} of uint8 (height, width) or (height, width, 3)"
    if not isinstance(pixels, np.ndarray):
        raise FrameError(f"{wanted}, found {type(pixels).__name__}; pass a numpy array")
    form = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not form or not pixels.size:
        raise FrameError(
            f"{wanted}, found {pixels.dtype} {pixels.shape}; pass pixels 0..255, masks by "
            "segment(frame, dtype='uint8')"
        )


def _write_picture(path: Path, picture: Picture, *, what: str, option: str) -> None:
    _check_pixels(picture, what)
    # Not the picture's own name: that may be as long as a name can be.
    part = path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")
    done, data = cv2.imencode(path.suffix.lower(), picture)
    if not done:
        height, width = picture.shape[:2]
        raise OutputError(
            f"{path}: wanted to write a {what} of {width}x{height}, found that this OpenCV cannot "
            f"as {path.suffix}; write a PNG"
        )
    try:
        with writing(path, f"to write a {what}", f"free space or choose another {option}"):
            part.write_bytes(data.tobytes())
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _remove(part: Path, owner: int) -> None:
    """Remove an unfinished video; in a forked process, which has a copy of it, do nothing."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            part.unlink()


def _umask() -> int:
    with _process_wide:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Hold Ctrl-C, SIGTERM and SIGHUP back for the block; let the first of them act after it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python interrupts its main thread only
        return
    came: list[int] = []
    numbers = [number for number in _STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    old = [signal.signal(number, lambda number, frame: came.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, old, strict=True):
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep FFmpeg off stderr: OpenCV prints a line about VP8's tag past every log level.

    Its lines are for OpenCV's developers; where opening fails we say what that means. One thread
    at a time: stderr is the process's, and two that exchange it would lose it for good.
    """
    with _process_wide:
        yield from _without_stderr()


def _without_stderr() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # a service without a stderr
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
