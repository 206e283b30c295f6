"""A camera without a camera: `fake:` and its physics, for tests and for trying things out.

    fake:                                   640x480 at 30 frames/s, somebody moving
    fake:size=320x240,fps=15,drift=200      another size and rate, a clock 200 ppm fast
    fake:stall=5+2,unplug=12+4              no frames from 5 to 7 s, no camera from 12 to 16 s
    fake:clog=5+2                           frames held back from 5 to 7 s, then all at once
    fake:hang=5+2,resize=9:320x240          a call that does not come back; another size at 9 s
    fake:silent                             opens, and never gives a frame

It does what cameras do and knows nothing of what is expected of a reader: frames are taken on its
beat whether or not anybody reads, its queue holds four, rows are padded, its clock has an origin of
its own. Every frame carries its number, counted from 0 s, in its first four bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.camera import colors
from edge_seg.camera.buffers import Layout, buffer_of, frame_of, gives
from edge_seg.camera.stream import Request, Stream, Taken
from edge_seg.camera.timing import Clock, RealClock
from edge_seg.errors import CameraError, CameraLost

QUEUE = 4  # frames a driver holds for a slow reader
LOOP = 24  # different pictures, shown in turn
LEAST, MOST = 16, 4096  # px of a side, which is even
PAD = 32  # bytes behind every row
INTERVALS = ("stall", "unplug", "clog", "hang")
EXAMPLE = "fake:size=640x480,fps=30,stall=5+2"


@dataclass(frozen=True)
class Event:
    """Something that happens to the camera: `kind` from `at` for `seconds`, both from its start."""

    kind: str
    at: float
    seconds: float = math.inf

    def holds(self, time: float) -> bool:
        """True while it lasts."""
        return self.at <= time < self.at + self.seconds


@dataclass(frozen=True)
class Hardware:
    """What the camera is. size: (height, width). drift: its clock, in parts per million.

    native: the format of its buffers. resizes: (at, size) in order. silent: never gives a frame.
    """

    size: tuple[int, int] = (480, 640)
    fps: float = 30.0
    drift: float = 0.0
    native: str = "bgr"
    silent: bool = False
    events: tuple[Event, ...] = ()
    resizes: tuple[tuple[float, tuple[int, int]], ...] = ()


def driver(text: str, request: Request) -> Callable[[], Stream]:
    """Return what opens the camera that `fake:...` describes. Raises CameraError."""
    hardware = parse(text)
    if request.size is not None and "size=" not in text:
        height, width = (min(max(side - side % 2, LEAST), MOST) for side in request.size)
        hardware = replace(hardware, size=(height, width))
    if request.format in yuv.PLANAR:
        hardware = replace(hardware, native=request.format)
    return FakeCamera(hardware, request).connect


def parse(text: str) -> Hardware:
    """Read `fake:key=value,...`. Raises CameraError naming what is wrong with it."""
    values: dict[str, Any] = {}
    events: list[Event] = []
    resizes: list[tuple[float, tuple[int, int]]] = []
    for part in filter(None, text.partition(":")[2].split(",")):
        key, _, value = part.partition("=")
        if key in INTERVALS and (found := re.fullmatch(r"([\d.]+)\+([\d.]+)", value)):
            events.append(Event(key, float(found[1]), float(found[2])))
        elif key == "resize" and (found := re.fullmatch(r"([\d.]+):(\d+)x(\d+)", value)):
            resizes.append((float(found[1]), (int(found[3]), int(found[2]))))
        elif key == "size" and (found := re.fullmatch(r"(\d+)x(\d+)", value)):
            values["size"] = (int(found[2]), int(found[1]))
        elif key in ("fps", "drift") and re.fullmatch(r"-?\d+(\.\d+)?", value):
            values[key] = float(value)
        elif key == "native" and (value in yuv.PLANAR or value in ("bgr", "rgb", "bgrx", "rgbx")):
            values["native"] = value
        elif part == "silent":
            values["silent"] = True
        else:
            raise CameraError(
                f"{text}: wanted options such as {EXAMPLE}, found {part!r}; correct it"
            )
    hardware = Hardware(events=tuple(events), resizes=tuple(resizes), **values)
    sizes = [hardware.size, *(size for _, size in resizes)]
    if not all(LEAST <= s <= MOST and s % 2 == 0 for size in sizes for s in size) or not (
        0.1 <= hardware.fps <= 1000
    ):
        raise CameraError(
            f"{text}: wanted even sides of {LEAST} to {MOST} px and 0.1 to 1000 fps; correct it"
        )
    return hardware


@dataclass
class FakeCamera:
    """The thing on the desk: it goes on by itself, connected or not. Its time begins when made.

    opened, closed: how many streams. clock: the time it lives in.
    """

    hardware: Hardware
    request: Request = field(default_factory=Request)
    clock: Clock = field(default_factory=RealClock)
    opened: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        """Switch it on."""
        self._began = self.clock.now()
        self._asleep = self.clock.condition()
        self._drawn: dict[tuple[tuple[int, int], int], tuple[Picture, Layout]] = {}

    @property
    def time(self) -> float:
        """Seconds since it was switched on."""
        return self.clock.now() - self._began

    def during(self, kind: str, time: float) -> Event | None:
        """Return the event of that kind that holds at `time`."""
        return next((e for e in self.hardware.events if e.kind == kind and e.holds(time)), None)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        until = self.clock.now() + max(seconds, 1e-6)  # so that time passes whatever rounding does
        with self._asleep:
            while (left := until - self.clock.now()) > 0:
                self._asleep.wait(left)

    def connect(self) -> Stream:
        """Open it. Raises CameraError while it is unplugged, or cannot give what was asked for."""
        if self.during("unplug", self.time):
            raise CameraError("fake: wanted the camera, found it unplugged; plug it in")
        if not gives(self.hardware.native, self.request.format):
            raise CameraError(
                f"fake: wanted frames as {self.request.format!r}, found a camera that gives "
                f"{self.hardware.native!r}; ask for that"
            )
        self.opened += 1
        return _FakeStream(self)

    def size_at(self, time: float) -> tuple[int, int]:
        """Return (height, width) of what it takes at `time`."""
        return [self.hardware.size, *(s for at, s in self.hardware.resizes if at <= time)][-1]

    def buffer(self, number: int) -> tuple[Picture, Layout]:
        """Return the bytes of frame `number` as they lie in memory, and how to read them."""
        key = (self.size_at(number / self.hardware.fps), number % LOOP)
        if key not in self._drawn:
            picture = scene(*key[0], key[1] / LOOP)
            self._drawn[key] = buffer_of(picture, self.hardware.native, pad=PAD)
        buffer, layout = self._drawn[key]
        buffer[:4] = np.frombuffer(np.uint32(number).tobytes(), np.uint8)
        return buffer, layout


class _FakeStream:
    """A connection to the camera: its queue, and a clock that starts at a number of its own."""

    def __init__(self, camera: FakeCamera) -> None:
        height, width = camera.size_at(camera.time)
        self.describe = f"fake camera ({width}x{height})"
        self.fps: float | None = camera.hardware.fps
        self.blocks = 0.0
        self._camera = camera
        self._plugged = camera.time
        self._next = math.ceil(camera.time * camera.hardware.fps)
        self._queue: list[int] = []

    def read(self, seconds: float) -> Taken | None:
        """Return the oldest frame of the queue; None where none came in time."""
        camera = self._camera
        until = camera.time + seconds
        while True:
            now = camera.time
            if hang := camera.during("hang", now):
                camera.sleep(hang.at + hang.seconds - now)
                continue
            self._check_plug(now)
            ready = self._ready_at(now)
            if camera.hardware.silent:
                ready = math.inf
            if self._queue and ready <= now:
                return self._take()
            if ready > until:
                camera.sleep(until - now)
                self._check_plug(camera.time)
                return None
            camera.sleep(ready - now)

    def _check_plug(self, now: float) -> None:
        pulled = any(
            e.kind == "unplug" and self._plugged <= e.at <= now
            for e in self._camera.hardware.events
        )
        if pulled:
            raise CameraLost("fake: wanted the next frame, found the camera unplugged")

    def _ready_at(self, now: float) -> float:
        """Return when the next frame can be read. A full queue loses the newest, as V4L2's does."""
        fps = self._camera.hardware.fps
        latest = math.floor(now * fps + 1e-6)
        while self._next <= latest:
            stall = self._camera.during("stall", self._next / fps)
            if len(self._queue) == QUEUE:
                self._next = latest + 1
            elif stall:
                self._next = math.ceil((stall.at + stall.seconds) * fps - 1e-6)
            else:
                self._queue.append(self._next)
                self._next += 1
        if not self._queue:
            return self._next / fps
        clog = self._camera.during("clog", now)
        return clog.at + clog.seconds if clog else now

    def _take(self) -> Taken:
        number = self._queue.pop(0)
        buffer, layout = self._camera.buffer(number)
        frame = frame_of(buffer, layout, self._camera.request.format)
        taken = number / self._camera.hardware.fps - self._plugged
        return Taken(frame, 1000.0 + taken * (1 + 1e-6 * self._camera.hardware.drift))

    def pattern(self) -> Picture:
        """Return the colour pattern as this camera would give it."""
        bars = colors.bars(*self._camera.size_at(self._camera.time))
        buffer, layout = buffer_of(bars, self._camera.hardware.native, pad=PAD)
        return frame_of(buffer, layout, self._camera.request.format)

    def close(self) -> None:
        """Let the camera go."""
        self._camera.closed += 1


def scene(height: int, width: int, phase: float) -> Picture:
    """Return a picture, BGR: a bright head and shoulders that sway before a dark, coloured wall.

    phase: 0..1, where in its movement.
    """
    wall = np.array([[[40, 40, 35], [70, 40, 35]], [[40, 60, 35], [70, 60, 35]]], np.uint8)
    picture = cv2.resize(wall, (width, height), interpolation=cv2.INTER_LINEAR)
    x = round(width * (0.5 + 0.2 * math.sin(2 * math.pi * phase)))
    head, body = (0.14 * width, 0.17 * height), (0.25 * width, 0.5 * height)
    for y, axes in ((0.38 * height, head), (1.05 * height, body)):
        axes = (round(axes[0]), round(axes[1]))
        cv2.ellipse(picture, (x, round(y)), axes, 0, 0, 360, (200, 205, 215), -1)
    return picture


def number_in(frame: Picture) -> int:
    """Return the number a frame carries in its first four bytes, as the camera gave it."""
    return int.from_bytes(np.ascontiguousarray(frame).reshape(-1)[:4].tobytes(), "little")
