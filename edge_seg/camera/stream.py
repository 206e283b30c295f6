"""What a driver is: what is asked of a camera, the opened camera, and a frame from it.

connect() -> Stream     opens the camera; raises CameraError with a sentence
Stream.read(seconds)    the next frame, None where none came in time; raises CameraLost
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_seg.arrays import Picture


@dataclass(frozen=True)
class Taken:
    """One frame from a camera. at: seconds on the camera's clock, None where it says nothing."""

    frame: Picture
    at: float | None = None
    lores: Picture | None = None
    lores_format: str = "yuv420"


@dataclass(frozen=True)
class Request:
    """What is asked of a camera, which may give something else. size, lores: (height, width).

    format: of the frames handed out, which it may not change.
    """

    format: str = "bgr"
    size: tuple[int, int] | None = None
    fps: float | None = None
    lores: tuple[int, int] | None = None


class Stream(Protocol):
    """An opened camera. Only the thread that opened it reads and closes it."""

    @property
    def describe(self) -> str:
        """For people: which camera, which size."""
        ...

    @property
    def fps(self) -> float | None:
        """Nominal rate, None where unknown."""
        ...

    @property
    def blocks(self) -> float:
        """Seconds a read may take at worst, whatever it was given: what the driver does."""
        ...

    def read(self, seconds: float) -> Taken | None:
        """Return the next frame, None where none came within `seconds`. Raises CameraLost."""
        ...

    def pattern(self) -> Picture | None:
        """Return `colors.bars` as they come through this camera's own path; None: no way to."""
        ...

    def close(self) -> None:
        """Free the camera."""
        ...
