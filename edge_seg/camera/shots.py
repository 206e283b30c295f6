"""What every source hands out: frames with their time and name, one after the other.

Shot.frame       in the source's format: uint8 (H, W, 3) "bgr"/"rgb", (3H/2, W) "nv12"/"yuv420"
Shot.timestamp   seconds, float, strictly increasing, any origin
Shot.name        the picture's stem, or %06d counted from 0 for video and cameras
Shot.lores       the same moment once more, small, in lores_format; None where there is one size
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from edge_seg.arrays import Picture
from edge_seg.camera.orientation import check_turn, orient

if TYPE_CHECKING:
    from edge_seg.camera.policy import LiveCounters

MAX_FPS = 240.0  # above that a header or a driver counts ticks, not frames


def known_fps(stated: float) -> float | None:
    """Return a rate that a video's header or a driver states; None where it is none."""
    return float(stated) if 0 < stated <= MAX_FPS else None


def shown(text: str) -> str:
    """Return a source's name as logs and errors may hold it: no URI in it with a password."""
    text = re.sub(r"(\w://)[^\s/]*@", r"\1...@", text)
    return re.sub(r"((?:user-pw|password|passwd)=)(\"[^\"]*\"|\S+)", r"\1...", text)


@dataclass(frozen=True)
class Shot:
    """One frame with its time (seconds) and its name; lores: its small twin, for the network."""

    frame: Picture
    timestamp: float
    name: str
    lores: Picture | None = None


class Source:
    """Frames in order; made by `open_source`, closed by `close` or `with`.

    live: a camera (frames come whether or not they are read). moving: consecutive frames belong
    together (video, clip, camera), so a smoother may be used. fps: nominal rate, None where
    unknown. count: number of frames, None where unknown (a video's header may be wrong by one).
    files: the pictures read, where they are files. labels: the files a list names beside them.
    unread: those of `files` that could not be read, and were left out so far. damaged: how many
    frames of a video were left out so far, because they cannot be decoded.
    describe: for people. format, lores_format: of the frames. ended: True once no frame will come
    any more. counters: of a camera what was dropped, missed and mended; None for what lies on disk.
    """

    counters: LiveCounters | None = None

    def __init__(
        self,
        shots: Iterator[Shot],
        *,
        describe: str,
        live: bool = False,
        moving: bool = True,
        fps: float | None = None,
        files: tuple[Path, ...] | None = None,
        count: int | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.describe = describe
        self.live = live
        self.moving = moving
        self.fps = fps
        self.files = files
        self.labels: tuple[Path, ...] = ()
        self.unread: Sequence[Path] = ()
        self.damaged = 0
        self.count = len(files) if files is not None else count
        self.format = "bgr"
        self.lores_format = "yuv420"
        self.ended = False
        self._rotate, self._mirror = 0, False
        self._shots = shots
        self._close = close

    @property
    def left_out(self) -> int:
        """How many frames or pictures could not be read so far."""
        return self.damaged + len(self.unread)

    def turn(self, rotate: int, mirror: bool) -> None:
        """Turn every frame from now on, as `orient` does. Raises SettingError."""
        check_turn(rotate, mirror)
        self._rotate, self._mirror = rotate, mirror

    def read(self, seconds: float | None = None) -> Shot | None:
        """Return the next frame; None where none came within `seconds`, or none will (`ended`).

        A file has its next frame at once. Raises CameraError, CameraLost.
        """
        shot = None if self.ended else next(self._shots, None)
        self.ended = shot is None
        return None if shot is None else self._upright(shot)

    def _upright(self, shot: Shot) -> Shot:
        if not self._rotate and not self._mirror:
            return shot
        turn, mirror = self._rotate, self._mirror
        lores = shot.lores
        if lores is not None:
            lores = orient(lores, rotate=turn, mirror=mirror, format=self.lores_format)
        frame = orient(shot.frame, rotate=turn, mirror=mirror, format=self.format)
        return replace(shot, frame=frame, lores=lores)

    def __iter__(self) -> Iterator[Shot]:
        return self

    def __next__(self) -> Shot:
        shot = self.read()
        if shot is None:
            raise StopIteration
        return shot

    def close(self) -> None:
        """Free the camera or file; may be called twice."""
        close, self._close = self._close, None
        self._shots, self.ended = iter(()), True
        if close is not None:
            close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
