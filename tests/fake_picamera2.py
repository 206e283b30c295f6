"""The class Picamera2 as its manual describes it, over a camera with physics.

Formats are adjusted without a word, rows are padded to 64 bytes, a request that is not given back
is gone for good, and a job that nobody waits for keeps the next frame.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_seg.camera import fake
from edge_seg.camera.buffers import buffer_of
from edge_seg.camera.picamera2 import FROM_LIBCAMERA

BUFFERS = 4


class Job:
    """A frame somebody asked for."""


class Request:
    """A frame lent out until `release`."""

    def __init__(self, camera: FakePicamera2, number: int) -> None:
        self._camera, self._number, self.released = camera, number, False

    def make_buffer(self, name: str) -> np.ndarray:
        assert not self.released
        return self._camera.memory(name, self._number)

    def get_metadata(self) -> dict[str, Any]:
        hardware = self._camera.world.hardware
        return {"SensorTimestamp": 5_000_000_000 + round(self._number / hardware.fps * 1e9)}

    def release(self) -> None:
        assert not self.released
        self.released = True
        self._camera.lent -= 1


class FakePicamera2:
    """adjust: what the camera does to a stream's configuration before it takes it."""

    def __init__(
        self,
        world: fake.FakeCamera,
        number: int = 0,
        adjust: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        if number > 0:
            raise RuntimeError(f"No camera number {number} found")
        if world.during("unplug", world.time):
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.world, self._adjust = world, adjust or (lambda name, stream: None)
        self.started = self.closed = False
        self.lent = 0
        self.jobs: list[Job] = []
        self._next = 0
        self._configuration: dict[str, Any] = {}
        self.asked: dict[str, Any] = {}
        world.opened += 1

    def create_video_configuration(
        self,
        main: dict[str, Any],
        lores: dict[str, Any] | None = None,
        colour_space: Any = None,
        controls: dict[str, Any] | None = None,
        buffer_count: int = 6,
    ) -> dict[str, Any]:
        for stream in filter(None, (main, lores)):
            assert set(stream) == {"size", "format"}
            assert all(side % 2 == 0 for side in stream["size"])
        streams = {"main": dict(main), "lores": lores and dict(lores)}
        return streams | {"controls": controls or {}, "colour_space": colour_space}

    def configure(self, configuration: dict[str, Any]) -> None:
        assert not self.started
        self.asked = configuration
        given = {"main": dict(configuration["main"]), "lores": None}
        if configuration["lores"]:
            given["lores"] = dict(configuration["lores"])
        for name in ("main", "lores"):
            stream = given[name]
            if stream:
                self._adjust(name, stream)
                native, (width, height) = FROM_LIBCAMERA[stream["format"]], stream["size"]
                tight = buffer_of(np.zeros((height, width, 3), np.uint8), native)[1].stride
                stream["stride"] = -(-tight // 64) * 64
        asked = configuration["colour_space"]
        given["colour_space"] = given["main"].pop("colour_space", asked)
        self._configuration = given

    def camera_configuration(self) -> dict[str, Any]:
        return self._configuration

    def start(self) -> None:
        assert self._configuration
        self.started = True
        self._next = int(self.world.time * self.world.hardware.fps) + 1

    def capture_request(self, wait: bool = True) -> Job:
        assert self.started and not wait
        job = Job()
        self.jobs.append(job)
        return job

    def wait(self, job: Job, timeout: float | None = None) -> Request:
        assert self.jobs and self.jobs[0] is job, "another job gets the frame first"
        assert self.lent < BUFFERS, "every buffer is lent out: the camera stands still"
        fps = self.world.hardware.fps
        until = self.world.time + (1e9 if timeout is None else timeout)
        self._next = max(self._next, int(self.world.time * fps))
        while True:
            taken = self._next / fps
            lost = self.world.during("stall", taken) or self.world.during("unplug", taken)
            if lost is None:
                break
            self._next = int((lost.at + lost.seconds) * fps) + 1
        if taken > until:
            self.world.sleep(until - self.world.time)
            raise TimeoutError
        self.world.sleep(taken - self.world.time)
        self.jobs.pop(0)
        self._next += 1
        self.lent += 1
        return Request(self, self._next - 1)

    def memory(self, name: str, number: int) -> np.ndarray:
        stream = self._configuration[name]
        width, height = stream["size"]
        native = FROM_LIBCAMERA[stream["format"]]
        picture = fake.scene(height, width, number % fake.LOOP / fake.LOOP)
        tight = buffer_of(picture, native)[1].stride
        buffer, _ = buffer_of(picture, native, pad=stream["stride"] - tight)
        if name == "main":
            buffer[:4] = np.frombuffer(np.uint32(number).tobytes(), np.uint8)
        return np.concatenate(
            [buffer, np.zeros(4096 - buffer.size % 4096, np.uint8)]
        )  # whole pages

    def cancel_all_and_flush(self) -> None:
        self.jobs.clear()

    def close(self) -> None:
        assert not self.closed
        self.closed, self.started = True, False
        self.world.closed += 1
